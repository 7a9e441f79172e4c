#!/usr/bin/env python3
"""How fast a backlog leaves, here and at Postfix, in turns in one run: the same mail, the same primary, the same machine.

The primary is stratamx-sink; it is not there while the mail is taken. Then it comes, both are told to flush, and what it records tells
the time from the first MAIL to the last reply, what was inverted, and what came twice. Rounds alternate who is first.

  drain.py [--messages 20000] [--size 10240] [--rounds 3] [--bin target/release] [--recipients many|one] [--round-trip-ms 0]

With --round-trip-ms the primary is behind a line with that delay, there and back, and each peer has one connection (Postfix keeps
and reuses its by its connection cache): then round trips a message are what counts.
Needs root, or sudo, for Postfix, and Debian's package postfix. Prints a table and, as its last line, JSON."""

import argparse
import json
import os
import pathlib
import pwd
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

STRATAMX = """hostname = "mx2.bench.test"
data_dir = "{directory}/data"
[smtp]
listen = ["127.0.0.1:{port}"]
max_connections_per_ip = 1000
rate = {{ connections_per_minute_per_ip = 0, messages_per_minute_per_ip = 0 }}
[storage]
min_free_space = "64MiB"
[admin]
listen = "127.0.0.1:{admin}"
[delivery]
retry_interval = "1h"
authenticate = false
{limit}
[[domain]]
name = "example.test"
primary = ["127.0.0.1:{primary}"]
when_up = "relay"
"""
POSTFIX = """compatibility_level = 3.6
queue_directory = {directory}/spool
data_directory = {directory}/data
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mx2.bench.test
mydestination =
mynetworks =
alias_maps =
alias_database =
local_recipient_maps =
relay_domains = example.test
relay_recipient_maps =
smtpd_relay_restrictions = reject_unauth_destination
smtpd_client_event_limit_exceptions = 127.0.0.0/8
transport_maps = inline:{{example.test=relay:[127.0.0.1]:{primary}}}
maillog_file = {directory}/maillog
maillog_file_prefixes = {directory}
{limit}
"""
ONE_CONNECTION = "relay_destination_concurrency_limit = 1\nrelay_destination_concurrency_positive_feedback = 0"


def main():
    options = arguments()
    # What ends this, ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("drain.py: ended"))
    rounds = []
    with tempfile.TemporaryDirectory(dir=options.directory, prefix="drain-") as directory:
        os.chmod(directory, 0o755)
        for number in range(options.rounds):
            peers = [Stratamx, Postfix] if number % 2 == 0 else [Postfix, Stratamx]
            row = {}
            for peer in peers:
                place = pathlib.Path(directory) / f"{number}-{peer.__name__}"
                place.mkdir()
                row[peer.__name__] = play(peer(place, options), place, options)
                shutil.rmtree(place)
                print(number, peer.__name__, json.dumps(row[peer.__name__]), file=sys.stderr, flush=True)
            rounds.append(row)
    report(rounds, options)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=20000)
    parser.add_argument("--size", type=int, default=10240)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bin", type=pathlib.Path, default=pathlib.Path("target/release"))
    parser.add_argument("--directory", default="/var/tmp", help="where spools and data go; not a memory file system")
    parser.add_argument("--recipients", choices=["many", "one"], default="many")
    parser.add_argument("--round-trip-ms", type=float, default=0)
    parser.add_argument("--without", default="", help="a keyword of EHLO that the primary does not offer, as CHUNKING")
    return parser.parse_args()


def play(peer, place, options):
    """Takes all, then hands all over; what the primary saw of it."""
    peer.start()
    try:
        begin = time.monotonic()
        many = ["-N"] if options.recipients == "many" else []
        source = ["smtp-source", "-d", "-s", "20", "-m", str(options.messages), "-l", str(options.size), *many]
        subprocess.run([*source, "-f", "sender@example.org", "-t", "user@example.test", peer.address()], check=True)
        taken_s = time.monotonic() - begin
        wait_for(lambda: peer.queued() == options.messages, f"{options.messages} messages in the queue", 60)
        record = place / "record.jsonl"
        sink, line = start_primary(options, record, peer.primary)
        try:
            drained(peer, record, options.messages)
            time.sleep(1)
        finally:
            sink.send_signal(signal.SIGTERM)
            sink.wait(30)
            line.close()
        return judged([json.loads(text) for text in record.read_text().splitlines()], options) | {
            "taken_per_s": round(options.messages / taken_s)
        }
    finally:
        peer.stop()


def drained(peer, record, messages, timeout_s=900, patience_s=5):
    """Until all is at the primary. What a peer put off while it was told to flush waits for minutes, so it is told again
    whenever nothing has come for a while; that while counts."""
    end = time.monotonic() + timeout_s
    peer.flush()
    while (now := lines(record)) < messages:
        if time.monotonic() > end:
            sys.exit(f"drain.py: {now} of {messages} messages came to the primary")
        pause = time.monotonic() + patience_s
        while lines(record) == now and time.monotonic() < pause:
            time.sleep(0.05)
        if lines(record) == now:
            peer.flush()


def judged(arrivals, options):
    accepted = [arrival for arrival in arrivals if arrival["accepted"]]
    elapsed = (max(a["end_unix_us"] for a in accepted) - min(a["mail_unix_us"] for a in accepted)) / 1e6
    rate = len(accepted) / elapsed
    trips = elapsed / (options.round_trip_ms / 1e3) / len(accepted) if options.round_trip_ms else None
    return {
        "messages": len(accepted),
        "elapsed_s": round(elapsed, 3),
        "per_s": round(rate, 1),
        "round_trips_a_message": trips and round(trips, 3),
        "connections": len({arrival["session"] for arrival in accepted}),
        "by_bdat": sum(arrival["chunked"] for arrival in accepted),
    }


def report(rounds, options):
    rates = {name: statistics.median(row[name]["per_s"] for row in rounds) for name in ("Stratamx", "Postfix")}
    ratios = sorted(row["Stratamx"]["per_s"] / row["Postfix"]["per_s"] for row in rounds)
    print(f"{options.messages} messages of {options.size} octets, {options.recipients} recipient(s), round trip {options.round_trip_ms} ms")
    for name, rate in rates.items():
        trips = [row[name]["round_trips_a_message"] for row in rounds]
        trips = f", {statistics.median(trips):.3f} round trips a message" if all(trips) else ""
        connections = statistics.median(row[name]["connections"] for row in rounds)
        print(f"{name:10} {rate:9.1f} messages/s (median of {len(rounds)}{trips}), {connections:g} connections")
    print(f"ratio      {statistics.median(ratios):9.2f} (median; {ratios[0]:.2f} to {ratios[-1]:.2f})")
    print(json.dumps({"rounds": rounds, "ratio": statistics.median(ratios)}))


class Peer:
    def __init__(self, directory, options):
        self.directory, self.options = directory, options
        self.port, self.primary = free_port(), free_port()

    def address(self):
        return f"127.0.0.1:{self.port}"


class Stratamx(Peer):
    def start(self):
        self.admin = free_port()
        limit = "max_connections = 1" if self.options.round_trip_ms else ""
        config = self.directory / "stratamx.toml"
        values = {"directory": self.directory, "port": self.port, "admin": self.admin, "primary": self.primary, "limit": limit}
        config.write_text(STRATAMX.format(**values))
        log = (self.directory / "log").open("wb")
        self.program = self.options.bin / "stratamx"
        self.process = subprocess.Popen([self.program, "serve", "--config", config], stderr=log, env=os.environ | {"RUST_LOG": "info"})
        self.config = config
        wait_for(lambda: is_open(self.port), "the server", 30)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)

    def command(self, *arguments):
        done = subprocess.run([self.program, *arguments, "--config", self.config], capture_output=True, text=True, check=True)
        return done.stdout

    def queued(self):
        return json.loads(self.command("status", "--json"))["domains"][0]["backlog"]

    def flush(self):
        self.command("queue", "flush", "example.test")


class Postfix(Peer):
    def start(self):
        self.conf = self.directory / "conf"
        for name in ("conf", "spool", "data"):
            (self.directory / name).mkdir()
        shutil.copy("/etc/postfix/master.cf.proto", self.conf / "master.cf")
        shutil.copy("/etc/postfix/dynamicmaps.cf", self.conf / "dynamicmaps.cf")
        os.chown(self.directory / "data", pwd.getpwnam("postfix").pw_uid, -1)
        os.chmod(self.directory, 0o755)
        limit = ONE_CONNECTION if self.options.round_trip_ms else ""
        (self.conf / "main.cf").write_text(POSTFIX.format(directory=self.directory, primary=self.primary, limit=limit))
        self.tool("postconf", "-F", "*/*/chroot = n")
        self.tool("postconf", "-MX", "smtp/inet")
        with (self.conf / "master.cf").open("a") as master:
            master.write(f"127.0.0.1:{self.port} inet n - n - - smtpd\n")
        self.tool("postfix", "start")
        wait_for(lambda: is_open(self.port), "Postfix", 30)

    def tool(self, name, *arguments):
        done = subprocess.run([name, "-c", self.conf, *arguments], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{name}: {done.stderr}")

    def stop(self):
        self.tool("postfix", "stop")

    def queued(self):
        queues = [self.directory / "spool" / name for name in ("incoming", "active", "deferred", "hold")]
        return sum(len(files) for queue in queues for _, _, files in os.walk(queue))

    def flush(self):
        self.tool("postqueue", "-f")


def start_primary(options, record, port):
    """The sink, behind a line with a delay if there is to be one."""
    inside = free_port() if options.round_trip_ms else port
    without = ["--without", options.without] if options.without else []
    command = [options.bin / "stratamx-sink", "--listen", f"127.0.0.1:{inside}", "--record", record, *without]
    sink = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    wait_for(lambda: is_open(inside), "the primary", 30)
    return sink, Line(port, inside, options.round_trip_ms / 2e3) if options.round_trip_ms else Line(None, None, 0)


class Line:
    """Carries octets between two ports, each way later by a delay."""

    def __init__(self, outside, inside, delay_s):
        self.delay_s, self.inside, self.door = delay_s, inside, None
        if outside is not None:
            self.door = socket.create_server(("127.0.0.1", outside))
            threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                one, _ = self.door.accept()
            except OSError:
                return
            try:
                other = socket.create_connection(("127.0.0.1", self.inside))
            except OSError:
                one.close()
                continue
            for source, target in ((one, other), (other, one)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                pieces, news = [], threading.Condition()
                threading.Thread(target=self.hear, args=(source, pieces, news), daemon=True).start()
                threading.Thread(target=self.say, args=(target, pieces, news), daemon=True).start()

    def hear(self, source, pieces, news):
        while True:
            try:
                octets = source.recv(1 << 16)
            except OSError:
                octets = b""
            with news:
                pieces.append((time.monotonic() + self.delay_s, octets))
                news.notify()
            if not octets:
                return

    def say(self, target, pieces, news):
        while True:
            with news:
                news.wait_for(lambda: pieces)
                due, octets = pieces.pop(0)
            time.sleep(max(0, due - time.monotonic()))
            try:
                if not octets:
                    return target.shutdown(socket.SHUT_WR)
                target.sendall(octets)
            except OSError:
                return

    def close(self):
        if self.door:
            # Else a thread that waits in accept() keeps it open.
            self.door.shutdown(socket.SHUT_RDWR)
            self.door.close()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def is_open(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def lines(path):
    try:
        return path.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def wait_for(holds, what, timeout_s):
    end = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > end:
            sys.exit(f"drain.py: never {what}")
        time.sleep(0.05)


if __name__ == "__main__":
    main()
