#!/usr/bin/env python3
"""How fast mail is taken, here and at others, in turns in one run: the same load, the same machine, each primary down, so that all queue.

  accept.py [--peers stratamx,null] [--size 10240] [--sessions 20] [--reconnect] [--rounds 3] [--seconds 1.5] [--messages 20000]
            [--cores 1] [--weight 10] [--bin target/release] [--directory /var/tmp] [--json FILE]

The load is smtp-source of Debian's package postfix, one thread, sessions kept open; with --reconnect a connection a message. Sizes, sessions and cores
may be lists, as 1024,10240: every cell is measured. Each turn of a peer starts with a new, empty queue and a small load that is not counted; so much mail
follows as takes --seconds, of at most --messages. Rounds alternate the order. The first of --peers is compared with each of the others: the median of
the ratios within a round. Told: messages a second, CPU milliseconds a message of the server with all its processes, resident MiB behind the load (a page that is shared
counts once), and what else took CPU at that time (cores, `others`), since it is noise. With
--weight the load and the server each have so many times the share of CPU that others here have (cgroup v1). A queue that does not hold what was acknowledged is an error.

Needs root. Prints a table; --json writes every turn."""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
import servers  # noqa: E402
from group import Group, machine_cpu_s, wait_for  # noqa: E402

WARM_UP_A_SESSION = 3
WARM_UP_MIN = 30
MESSAGES_MIN = 100
LOAD_TIMEOUT_S = 300
# A queue of this many files is left until the end of all: an ext4 without a journal goes round inodes that were freed a minute ago, one by one.
FEW_FILES = 1000


def main():
    options = arguments()
    cells = [
        (size, sessions, cores) for cores in options.cores_list for size in options.sizes for sessions in options.sessions_list
    ]
    results = []
    with tempfile.TemporaryDirectory(dir=options.directory, prefix="accept-") as directory, load_group(options):
        os.chmod(directory, 0o755)
        for size, sessions, cores in cells:
            options.cores = cores
            turns = measure_cell(pathlib.Path(directory), options, size, sessions)
            results.append({"size": size, "sessions": sessions, "cores": cores, "reconnect": options.reconnect, "turns": turns})
            report(results[-1], options)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default="stratamx,null", help=f"of {','.join(servers.KINDS)}")
    parser.add_argument("--size", default="10240", dest="sizes")
    parser.add_argument("--sessions", default="20", dest="sessions_list")
    parser.add_argument("--cores", default="", dest="cores_list", help="shards of stratamx; its default when not said")
    parser.add_argument("--reconnect", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--messages", type=int, default=20000)
    parser.add_argument("--weight", type=int)
    parser.add_argument("--bin", type=pathlib.Path, default=pathlib.Path("target/release"))
    parser.add_argument("--directory", default="/var/tmp", help="where queues go; not a memory file system")
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    options.peers = options.peers.split(",")
    options.sizes = [int(word) for word in options.sizes.split(",")]
    options.sessions_list = [int(word) for word in options.sessions_list.split(",")]
    options.cores_list = [int(word) for word in options.cores_list.split(",")] if options.cores_list else [None]
    if unknown := set(options.peers) - set(servers.KINDS):
        parser.error(f"no such peer: {', '.join(unknown)}")
    return options


@contextlib.contextmanager
def load_group(options):
    """Where a weight is asked for, this program and the load that it starts have theirs."""
    if not options.weight:
        yield
        return
    group = Group("load", options.weight)
    group.enter()
    try:
        yield
    finally:
        group.leave()
        group.close()


def measure_cell(directory, options, size, sessions):
    turns = []
    for number in range(options.rounds):
        order = options.peers if number % 2 == 0 else options.peers[::-1]
        for name in order:
            place = pathlib.Path(tempfile.mkdtemp(dir=directory, prefix=name))
            place.chmod(0o755)
            turn = measure_turn(servers.KINDS[name](place, options), options, size, sessions)
            turns.append({"round": number, "peer": name} | turn)
            print(json.dumps(turns[-1]), file=sys.stderr, flush=True)
            remove_if_small(place)
    return turns


def measure_turn(server, options, size, sessions):
    """One peer with an empty queue: the small load, the load, and what it took."""
    with server:
        warm = max(WARM_UP_MIN, WARM_UP_A_SESSION * sessions)
        warm_s = load(server.address(), warm, size, sessions, options.reconnect)
        # What starts with a first mail is over when a second load tells the rate.
        again = min(options.messages, max(int(warm / warm_s * options.seconds / 4), warm))
        again_s = load(server.address(), again, size, sessions, options.reconnect)
        messages = min(options.messages, max(int(again / again_s * options.seconds), warm, MESSAGES_MIN))
        warm += again
        cpu_s, written = server.group.cpu_s(), server.group.written_octets()
        machine_s, stolen_s = machine_cpu_s()
        before = os.times()
        elapsed_s = load(server.address(), messages, size, sessions, options.reconnect)
        after = os.times()
        cpu_s, written = server.group.cpu_s() - cpu_s, server.group.written_octets() - written
        machine_s, stolen_s = (now - then for now, then in zip(machine_cpu_s(), (machine_s, stolen_s)))
        load_s = after.children_user + after.children_system - before.children_user - before.children_system
        check_queue(server, warm + messages)
        return {
            "messages": messages,
            "per_s": round(messages / elapsed_s, 1),
            "cpu_ms": round(cpu_s * 1e3 / messages, 4),
            "resident_mib": round(server.group.resident_mib(), 1),
            "written_octets_a_message": round(written / messages),
            "server_cores": round(cpu_s / elapsed_s, 2),
            "load_cores": round(load_s / elapsed_s, 2),
            "others": round(max(0, machine_s - cpu_s - load_s) / elapsed_s, 2),
            "stolen": round(stolen_s / elapsed_s, 2),
        }


def load(address, messages, size, sessions, reconnect):
    """Seconds until all is acknowledged."""
    command = ["smtp-source", "-s", str(sessions), "-m", str(messages), "-l", str(size), "-M", "client.test"]
    command += [] if reconnect else ["-d"]
    command += ["-f", "sender@example.org", "-t", f"user@{servers.DOMAIN}", address]
    begin = time.monotonic()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LOAD_TIMEOUT_S)
    elapsed_s = time.monotonic() - begin
    if done.returncode:
        sys.exit(f"smtp-source: {done.stderr}")
    return elapsed_s


def check_queue(server, acknowledged):
    if server.queued() is not None:
        name = type(server).__name__
        wait_for(lambda: server.queued() == acknowledged, f"{acknowledged} messages in the queue of {name}", 30)


def remove_if_small(place):
    if sum(len(files) for _, _, files in os.walk(place)) < FEW_FILES:
        shutil.rmtree(place)


def report(cell, options):
    cores = f", {cell['cores']} core(s)" if cell["cores"] else ""
    how = "a connection a message" if cell["reconnect"] else "kept open"
    print(f"\n{cell['size']} octets, {cell['sessions']} session(s) {how}{cores}, {options.rounds} round(s)")
    print("| peer | messages/s (lowest to highest) | ratio | CPU ms | times | MiB | written | cores: server, load, others |")
    print("|---|---|---|---|---|---|---|---|")
    by_peer = {name: [turn for turn in cell["turns"] if turn["peer"] == name] for name in options.peers}
    first = by_peer[options.peers[0]]
    for name, turns in by_peer.items():
        middle = {key: statistics.median(turn[key] for turn in turns) for key in turns[0] if key not in ("peer", "round")}
        rates = sorted(turn["per_s"] for turn in turns)
        ratio = statistics.median(mine["per_s"] / other["per_s"] for mine, other in zip(in_rounds(first), in_rounds(turns)))
        times = statistics.median(mine["cpu_ms"] / other["cpu_ms"] for mine, other in zip(in_rounds(first), in_rounds(turns)) if other["cpu_ms"])
        print(
            f"| {name} | {middle['per_s']:,.0f} ({rates[0]:,.0f} to {rates[-1]:,.0f}) | {ratio:.2f} | {middle['cpu_ms']:.3f} | {times:.2f} "
            f"| {middle['resident_mib']:.0f} | {middle['written_octets_a_message']:,.0f} "
            f"| {middle['server_cores']:.2f}, {middle['load_cores']:.2f}, {middle['others']:.2f} |",
            flush=True,
        )


def in_rounds(turns):
    return sorted(turns, key=lambda turn: turn["round"])


if __name__ == "__main__":
    main()
