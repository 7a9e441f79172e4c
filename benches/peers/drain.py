#!/usr/bin/env python3
"""How fast a backlog leaves, here and at others, in turns in one run: the same mail, the same primary, the same machine.

  drain.py [--peers stratamx,postfix] [--messages 20000] [--size 10240] [--sessions 20] [--rounds 3] [--bin target/release]
           [--recipients many|one] [--round-trip-ms 0] [--without KEYWORD] [--connections 5] [--directory /var/tmp] [--json FILE]

The load is stratamx-blaster, to 100 recipients or to one. The primary is stratamx-sink; it is not there while the mail is taken. Then it comes,
all are told to flush, and what it records tells the time from the first MAIL to the last reply. Rounds alternate who is first. Before the drain the
queue on the disk is weighed. What a peer has not handed over when nothing came for --give-up seconds, told to flush again and again, is `lost`; the
blaster judges that, what came twice or altered, and the order: `inverted` are the messages that were offered before one that had been acknowledged
for the same recipient before they came.

With --round-trip-ms the primary is behind a line with that delay, there and back, and each peer has one connection (Postfix keeps
and reuses its by its connection cache; of the others it cannot be told): then round trips a message are what counts.
Needs root. Prints a table; --json writes every turn."""

import argparse
import json
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
import servers  # noqa: E402
from group import wait_for  # noqa: E402
from primary import primary  # noqa: E402

FLUSH_AGAIN_S = 5
DRAIN_TIMEOUT_S = 900
TAKE_TIMEOUT_S, TAKEN_PER_S_MIN = 30, 20
ATTEMPTS_MAX = 4


def main():
    options = arguments()
    # What ends this, ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("drain.py: ended"))
    rounds = []
    with tempfile.TemporaryDirectory(dir=options.directory, prefix="drain-") as directory:
        pathlib.Path(directory).chmod(0o755)
        for number in range(options.rounds):
            row = {}
            for name in options.peers if number % 2 == 0 else options.peers[::-1]:
                row[name] = played(name, pathlib.Path(directory), options)
                print(number, name, json.dumps(row[name]), file=sys.stderr, flush=True)
            rounds.append(row)
    report(rounds, options)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default="stratamx,postfix", help=f"of {','.join(servers.KINDS)}")
    parser.add_argument("--messages", type=int, default=20000)
    parser.add_argument("--size", type=int, default=10240)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bin", type=pathlib.Path, default=pathlib.Path("target/release"))
    parser.add_argument("--directory", default="/var/tmp", help="where spools and data go; not a memory file system")
    parser.add_argument("--connections", type=int, help="that stratamx may have; its default when not said")
    parser.add_argument("--recipients", choices=["many", "one"], default="many")
    parser.add_argument("--round-trip-ms", type=float, default=0)
    parser.add_argument("--without", default="", help="a keyword of EHLO that the primary does not offer, as CHUNKING")
    parser.add_argument("--give-up", type=float, default=60, dest="give_up_s")
    parser.add_argument("--weight", type=int)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    options.peers = options.peers.split(",")
    options.cores = None
    options.is_line = options.round_trip_ms > 0
    if options.is_line:
        options.connections = 1
    return options


def played(name, directory, options):
    """Once more where a server stopped answering: OpenSMTPD 6.8 now and then leaves some of its first sessions without a reply for ever."""
    for _ in range(ATTEMPTS_MAX):
        place = pathlib.Path(tempfile.mkdtemp(dir=directory, prefix=name))
        place.chmod(0o755)
        try:
            return play(servers.KINDS[name](place, options), options)
        except subprocess.TimeoutExpired:
            print(f"drain.py: {name} stopped answering", file=sys.stderr, flush=True)
        finally:
            shutil.rmtree(place)
    sys.exit(f"drain.py: {name} does not take {options.messages} messages")


def play(server, options):
    """Takes all, then hands all over; what the primary saw of it."""
    with server:
        empty = weight(server.spool())
        ledger = server.directory / "ledger.jsonl"
        taken_per_s = take(server, ledger, options)
        wait_for(lambda: server.queued() == options.messages, f"{options.messages} messages in the queue", 60)
        queued = weight(server.spool())
        record = server.directory / "record.jsonl"
        with primary(options, record, server.primary):
            cpu_s = server.group.cpu_s()
            drained(server, record, options)
            cpu_s = server.group.cpu_s() - cpu_s
            time.sleep(1)
        return judged(record, ledger, options) | {
            "drain_cpu_ms": round(cpu_s * 1e3 / options.messages, 3),
            "taken_per_s": round(taken_per_s),
            "disk_mib_per_10000": round((queued[0] - empty[0]) / options.messages * 1e4 / 2**20, 1),
            "files_per_10000": round((queued[1] - empty[1]) / options.messages * 1e4, 1),
        }


def take(server, ledger, options):
    """Messages a second."""
    command = [options.bin / "stratamx-blaster", "--to", server.address(), "--json", "--ledger", ledger]
    command += ["--messages", options.messages, "--size", options.size, "--sessions", options.sessions]
    command += ["--mailboxes", 100 if options.recipients == "many" else 1, "--recipient-domain", servers.DOMAIN]
    timeout_s = TAKE_TIMEOUT_S + options.messages / TAKEN_PER_S_MIN
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=timeout_s)
    if done.returncode:
        sys.exit(f"stratamx-blaster: {done.stdout}{done.stderr}")
    return json.loads(done.stdout)["messages_per_second"]


def weight(folder):
    """Octets on the disk and files, folders among them."""
    numbers = [
        int(subprocess.run(["du", "-s", *how, folder], capture_output=True, text=True).stdout.split()[0])
        for how in (["--block-size=1"], ["--inodes"])
    ]
    return tuple(numbers)


def drained(server, record, options):
    """Until all is at the primary. What a peer put off while it was told to flush waits for minutes, so it is told again
    whenever nothing has come for a while; that while counts."""
    end = time.monotonic() + DRAIN_TIMEOUT_S
    progress = time.monotonic()
    server.flush()
    while (now := lines(record)) < options.messages:
        pause = time.monotonic() + FLUSH_AGAIN_S
        while lines(record) == now and time.monotonic() < pause:
            time.sleep(0.05)
        if lines(record) > now:
            progress = time.monotonic()
        elif time.monotonic() > min(end, progress + options.give_up_s):
            return
        else:
            server.flush()


def judged(record, ledger, options):
    if not lines(record):
        return {"lost": options.messages, "per_s": 0.0}
    accepted = [a for a in map(json.loads, record.read_text().splitlines()) if a["accepted"]]
    elapsed = (max(a["end_unix_us"] for a in accepted) - min(a["mail_unix_us"] for a in accepted)) / 1e6
    trips = elapsed / (options.round_trip_ms / 1e3) / len(accepted) if options.round_trip_ms else None
    check = [options.bin / "stratamx-blaster", "--verify", record, "--ledger", ledger, "--json"]
    findings = json.loads(subprocess.run(check, capture_output=True, text=True).stdout)
    return {
        "messages": len(accepted),
        "elapsed_s": round(elapsed, 3),
        "per_s": round(len(accepted) / elapsed, 1),
        "round_trips_a_message": trips and round(trips, 3),
        "connections": len({arrival["session"] for arrival in accepted}),
        "by_bdat": sum(arrival["chunked"] for arrival in accepted),
        "duplicates": findings["duplicates"],
    } | {key: len(findings[key]) for key in ("lost", "altered", "inverted")}


def report(rounds, options):
    first = options.peers[0]
    print(
        f"{options.messages} messages of {options.size} octets, {options.recipients} recipient(s), "
        f"round trip {options.round_trip_ms:g} ms, {options.rounds} round(s)"
    )
    print("| peer | drained/s | ratio | connections | lost, twice, altered, inverted | CPU ms | MiB, files per 10,000 queued | round trips |")
    print("|---|---|---|---|---|---|---|---|")
    result = {}
    for name in options.peers:
        turns = [row[name] for row in rounds]

        def middle(key):
            known = [turn[key] for turn in turns if turn.get(key) is not None]
            return statistics.median(known) if known else None

        ratios = sorted(row[first]["per_s"] / row[name]["per_s"] for row in rounds if row[name]["per_s"])
        result[name] = statistics.median(ratios) if ratios else None
        ratio = f"{result[name]:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})" if ratios else "-"
        wrong = ", ".join(told(middle(key)) for key in ("lost", "duplicates", "altered", "inverted"))
        disk = f"{told(middle('disk_mib_per_10000'))}, {told(middle('files_per_10000'))}"
        cells = [name, told(middle("per_s")), ratio, told(middle("connections")), wrong]
        print("| " + " | ".join([*cells, told(middle("drain_cpu_ms")), disk, told(middle("round_trips_a_message"))]) + " |")
    if options.json:
        options.json.write_text(json.dumps({"rounds": rounds, "ratio_to_first": result}, indent=1) + "\n")


def told(number):
    return "-" if number is None else f"{number:,.4g}" if number < 1000 else f"{number:,.0f}"


def lines(path):
    try:
        return path.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


if __name__ == "__main__":
    main()
