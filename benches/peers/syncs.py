#!/usr/bin/env python3
"""What each server does to make mail durable before its 250: its calls for that, a message, over a small load that strace counts, and beside them the
flushes that the disk got in another such load without strace.

  syncs.py [--peers stratamx,postfix,exim,...] [--messages 200] [--size 10240] [--sessions 1,20] [--bin target/release] [--json FILE]

Counted until a while behind the last 250, since some write later. Calls through io_uring, as ours, strace does not see: there the flushes of the
disk tell. Those are of the whole machine, less those of as long a time in which nothing is sent. Needs root. Prints a table."""

import argparse
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
import servers  # noqa: E402
from accept import load  # noqa: E402
from group import wait_for  # noqa: E402

CALLS = ("fsync", "fdatasync", "sync_file_range", "sync", "syncfs", "msync")
LINGER_S = 2
ATTEMPTS_MAX = 10
# The field of /sys/block/DEVICE/stat (Documentation/block/stat.rst in the kernel's sources).
FLUSHES = 15


def main():
    options = arguments()
    rows = []
    print("| peer | sessions | calls a message, by strace | flushes of the disk a message |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=options.directory, prefix="syncs-") as directory:
        pathlib.Path(directory).chmod(0o755)
        for name in options.peers:
            for sessions in options.sessions_list:
                row = {"peer": name, "sessions": sessions}
                for part in (counted_calls, counted_flushes):
                    place = pathlib.Path(directory) / f"{name}-{sessions}-{part.__name__}"
                    place.mkdir()
                    with servers.KINDS[name](place, options) as server:
                        # What begins with a first message is over.
                        load(server.address(), 2 * sessions, options.size, sessions, False)
                        row |= part(server, options, sessions)
                rows.append(row)
                report(row)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=",".join(kind for kind in servers.KINDS if servers.KINDS[kind].KEEPS_MAIL))
    parser.add_argument("--messages", type=int, default=200)
    parser.add_argument("--size", type=int, default=10240)
    parser.add_argument("--sessions", default="1,20", dest="sessions_list")
    parser.add_argument("--bin", type=pathlib.Path, default=pathlib.Path("target/release"))
    parser.add_argument("--directory", default="/var/tmp", help="where queues go; not a memory file system")
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    options.peers = options.peers.split(",")
    options.sessions_list = [int(word) for word in options.sessions_list.split(",")]
    return options


def counted_calls(server, options, sessions):
    """By strace, of all processes that the server has and makes."""
    counts = server.directory / "calls"
    tracer = trace(server.group, counts)
    load(server.address(), options.messages, options.size, sessions, False)
    time.sleep(LINGER_S)
    tracer.send_signal(signal.SIGINT)
    tracer.wait(30)
    found = re.findall(r"^\s*(\d+)\s+(\w+)$", counts.read_text(), re.MULTILINE)
    return {"calls": {name: int(count) / options.messages for count, name in found if name in CALLS}}


def trace(group, counts):
    """strace on all of a group. One that was made while it was attached is not traced: then again."""
    for _ in range(ATTEMPTS_MAX):
        pids = group.pids()
        command = ["strace", "-f", "-qq", "-c", "-U", "calls,name", "-e", f"trace={','.join(CALLS)}", "-o", counts]
        command += [word for pid in pids for word in ("-p", str(pid))]
        tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: all(map(is_traced, pids)), "processes are traced", 10)
        if all(map(is_traced, group.pids())):
            return tracer
        tracer.send_signal(signal.SIGINT)
        tracer.wait(30)
    sys.exit("syncs.py: not all processes can be traced")


def is_traced(pid):
    try:
        return "TracerPid:\t0" not in pathlib.Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def counted_flushes(server, options, sessions):
    begin, at_begin = time.monotonic(), flushes(server.directory)
    load(server.address(), options.messages, options.size, sessions, False)
    time.sleep(LINGER_S)
    elapsed_s, at_end = time.monotonic() - begin, flushes(server.directory)
    time.sleep(elapsed_s)
    quiet = flushes(server.directory) - at_end
    return {"flushes": (at_end - at_begin - quiet) / options.messages}


def flushes(path):
    """Of the device below, so far."""
    number = os.stat(path).st_dev
    return int(pathlib.Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/stat").read_text().split()[FLUSHES])


def report(row):
    calls = ", ".join(f"{name} {count:.2f}" for name, count in row["calls"].items() if count >= 0.005) or "none"
    print(f"| {row['peer']} | {row['sessions']} | {calls} | {row['flushes']:.2f} |", flush=True)


if __name__ == "__main__":
    main()
