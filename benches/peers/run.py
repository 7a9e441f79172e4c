#!/usr/bin/env python3
"""Everything that benches/peers measures, into one report: `make peers`. REPORT.md and a JSON file a part are in target/peers-report.

  run.py [--quick] [--weight 10] [--rounds 3] [--bin target/release] [--directory /var/tmp] [--report target/peers-report]

What each does for durability (syncs.py), acceptance (accept.py), the drain (drain.py), the bars
(bars.py). --quick is one round of the least, some 5 minutes; without it an hour."""

import argparse
import datetime
import os
import pathlib
import platform
import subprocess
import sys

sys.dont_write_bytecode = True
import bars  # noqa: E402
import servers  # noqa: E402

ALL = "stratamx,stratamx-auth,null,null-threads,smtp-sink,postfix,exim,exim-queue-only,opensmtpd,haraka"
KEEPING = "stratamx,postfix,exim,exim-queue-only,opensmtpd,haraka"


def main():
    options = arguments()
    options.report.mkdir(parents=True, exist_ok=True)
    for old in options.report.glob("*.json"):
        old.unlink()
    path = options.report / "REPORT.md"
    with path.open("w") as report:
        say(report, f"# {datetime.datetime.now(datetime.UTC):%d %B %Y %H:%M} UTC\n")
        say(report, f"{os.cpu_count()} cores, Linux {platform.release()}, queues in {options.directory}; in turns in one run.\n")
        for name in ALL.split(","):
            say(report, f"- {name}: {servers.KINDS[name].version(options)}")
        for test in ("test_null.py", "test_bars.py"):
            say(report, "\n" + subprocess.run([servers.HERE / test], check=True, stdout=subprocess.PIPE, text=True).stdout)
        for title, program, arguments_of_it in parts(options):
            say(report, f"\n## {title}\n\n`{program} {' '.join(arguments_of_it)}`\n")
            run(report, program, arguments_of_it, options)
    print(f"\n{path}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--weight", type=int)
    parser.add_argument("--bin", type=pathlib.Path, default=pathlib.Path("target/release"))
    parser.add_argument("--directory", default="/var/tmp", help="where queues go; not a memory file system")
    parser.add_argument("--report", type=pathlib.Path, default=pathlib.Path("target/peers-report"))
    return parser.parse_args()


def parts(options):
    """What is run: a title, the program, its arguments."""
    rounds = ["--rounds", "1" if options.quick else str(options.rounds)]
    bounds = ["--peers", "stratamx,stratamx-auth,null,null-threads"]
    yield "What each does for durability", "syncs.py", ["--messages", "50" if options.quick else "200"]
    yield "Acceptance: everybody", "accept.py", ["--peers", ALL, *rounds]
    if not options.quick:
        yield "Acceptance: everybody, other sizes and sessions", "accept.py", ["--peers", ALL, "--sessions", "1,200", *rounds]
        yield "Acceptance: everybody, other sizes", "accept.py", ["--peers", ALL, "--size", "1024,102400", *rounds]
        yield "Acceptance: everybody, a connection a message", "accept.py", ["--peers", ALL, "--reconnect", *rounds]
        for cores in range(1, min(os.cpu_count(), 4) + 1):
            cells = ["--size", "1024,10240,102400", "--sessions", "1,20,200", "--cores", str(cores)]
            yield f"Acceptance: {cores} core(s)", "accept.py", [*bounds, *cells, *rounds]
    yield "Drain: everybody", "drain.py", ["--peers", KEEPING, "--messages", "500" if options.quick else "2000", "--rounds", "1"]
    if not options.quick:
        yield "Drain: 20,000", "drain.py", ["--peers", "stratamx,postfix", "--rounds", "2"]
        yield "Bars", "bars.py", rounds


def run(report, program, arguments_of_it, options):
    number = len(list(options.report.glob("*.json")))
    shared = ["--bin", options.bin, "--directory", options.directory, "--json", options.report / f"{number:02}-{program[:-3]}.json"]
    if options.weight and program != "syncs.py":
        shared += ["--weight", str(options.weight)]
    command = [sys.executable, servers.HERE / program, *arguments_of_it, *shared]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        for line in running.stdout:
            say(report, line.rstrip("\n"))
    # A bar that is missed is a figure: the report tells it, and what comes after it is measured.
    if program == "bars.py" and running.returncode == bars.MISSED_STATUS:
        say(report, "\nA bar is missed.")
    elif running.returncode:
        say(report, f"\n{program} failed: {running.returncode}")
        sys.exit(f"{program} failed")


def say(report, line):
    print(line, flush=True)
    print(line, file=report, flush=True)


if __name__ == "__main__":
    main()
