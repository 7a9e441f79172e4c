#!/usr/bin/env python3
"""What acceptance and drain are held to, as ratios within one run on one machine: prints a table. Exit status 3 when a bar is missed; any
other but 0 when not all could be judged, and then a sentence says why.

  bars.py [--only WORD] [--rounds 5] [--seconds 1.5] [--weight 20] [--bin target/release] [--directory /var/tmp] [--json FILE]

Each figure is a median of ratios of turns side by side. The load is smtp-source, but where the blaster is named. Authentication of mail is off. Where cores matter each
number of shards is tried, and the default. A bar beside a busy neighbour says little: `others` are the cores that others took meanwhile."""

import argparse
import json
import mmap
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import types

sys.dont_write_bytecode = True
import servers  # noqa: E402
import drain  # noqa: E402
from accept import load, load_group, measure_turn, remove_if_small  # noqa: E402
from group import free_port, wait_for  # noqa: E402
from primary import primary  # noqa: E402

KIB = 1024
BLOCK_OCTETS = 4096
SYNCS = 400
BLASTED = 20000
OPEN_SESSIONS, OPEN_DURATION = 100, "10s"
# What is dropped has no latency: were it a larger share, it would be the 99.9th percentile.
DROPPED_SHARE_MAX = 0.001
DRAINED = 20000
# A drain that is over before the load beside it says nothing, so more is queued, twice as much each time.
BESIDE, DRAINED_MAX = 6000, 4 * DRAINED
DRAIN_ROUNDS = 2
MISSED_STATUS = 3


class Bars:
    """The figures of a run."""

    def __init__(self, options):
        self.options, self.rows, self.others = options, [], []

    def judge(self, name, value, least=None, most=None):
        held = (least is None or value >= least) and (most is None or value <= most)
        bound = f"at least {least:g}" if least is not None else f"at most {most:g}"
        others = round(statistics.median(self.others), 2) if self.others else None
        self.rows.append({"bar": name, "value": round(value, 3), "bound": bound, "held": held, "others": others})
        print(f"| {name} | {value:.3f} | {bound} | {'held' if held else '**MISSED**'} | {'-' if others is None else others} |", flush=True)
        self.others = []

    def turns(self, contestants, size, sessions, reconnect=False):
        """The turns of each contestant, a peer and its number of shards, round by round, each round in the other order."""
        result = {contestant: [] for contestant in contestants}
        self.options.reconnect = reconnect
        for number in range(self.options.rounds):
            for contestant in contestants if number % 2 == 0 else contestants[::-1]:
                name, self.options.cores = contestant
                place = pathlib.Path(tempfile.mkdtemp(dir=self.options.place, prefix=name))
                place.chmod(0o755)
                turn = measure_turn(servers.KINDS[name](place, self.options), self.options, size, sessions)
                print(json.dumps({"contestant": contestant, "size": size, "sessions": sessions} | turn), file=sys.stderr, flush=True)
                result[contestant].append(turn)
                self.others.append(turn["others"])
                remove_if_small(place)
        return result


NULL = ("null", None)
DEFAULT = ("stratamx", None)
BY_CORES = [("stratamx", cores) for cores in range(1, min(os.cpu_count(), 4) + 1)]


def main():
    options = arguments()
    # What ends this, ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bars.py: ended"))
    bars = Bars(options)
    print("| bar | value | bound | | others |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=options.directory, prefix="bars-") as directory, load_group(options):
        os.chmod(directory, 0o755)
        options.place = directory
        for part in options.parts:
            part(bars)
    if options.json:
        options.json.write_text(json.dumps(bars.rows, indent=1) + "\n")
    if not all(row["held"] for row in bars.rows):
        sys.exit(MISSED_STATUS)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help=", ".join(part.__name__ for part in PARTS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--messages", type=int, default=30000)
    parser.add_argument("--weight", type=int)
    parser.add_argument("--bin", type=pathlib.Path, default=pathlib.Path("target/release"))
    parser.add_argument("--directory", default="/var/tmp", help="where queues go; not a memory file system")
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    options.parts = [part for part in PARTS if options.only in part.__name__]
    if not options.parts:
        parser.error(f"no part has {options.only} in its name; there are {', '.join(part.__name__ for part in PARTS)}")
    if options.rounds < 1:
        parser.error("there is nothing to judge without a round")
    return options


def kept_open(bars):
    """Of the null server, at the best number of shards; and what the default loses against that."""
    for size, sessions, least in [
        (KIB, 20, 0.8), (KIB, 200, 0.8), (10 * KIB, 20, 0.8), (10 * KIB, 200, 0.8), (100 * KIB, 20, 0.5), (100 * KIB, 200, 0.5),
    ]:
        turns = bars.turns([*BY_CORES, DEFAULT, NULL], size, sessions)
        cell = f"{size // KIB} KiB, {sessions} sessions"
        best = max(BY_CORES, key=lambda contestant: middle(turns[contestant], "per_s"))
        bars.judge(f"{cell}: of the null server ({best[1]} core(s))", ratio(turns[best], turns[NULL], "per_s"), least=least)
        bars.judge(f"{cell}: the default, of the best", ratio(turns[DEFAULT], turns[best], "per_s"), least=0.85)
        if (size, sessions) == (10 * KIB, 20):
            bars.judge(f"{cell}: CPU a message, over the null server's", ratio(turns[best], turns[NULL], "cpu_ms"), most=2)


def reconnecting(bars):
    turns = bars.turns([*BY_CORES, NULL], 10 * KIB, 20, reconnect=True)
    best = max(BY_CORES, key=lambda contestant: middle(turns[contestant], "per_s"))
    bars.judge("a connection a message, of the null server", ratio(turns[best], turns[NULL], "per_s"), least=0.6)


def beside_peers(bars):
    turns = bars.turns([DEFAULT, ("postfix", None), ("exim-queue-only", None)], 10 * KIB, 20)
    bars.judge("times Postfix", ratio(turns[DEFAULT], turns["postfix", None], "per_s"), least=25)
    bars.judge("times Exim that only queues", ratio(turns[DEFAULT], turns["exim-queue-only", None], "per_s"), least=10)


def latency(bars):
    """One session: the time of a message over that of the null server and a write with its sync, side by side."""
    ratios = []
    for _ in range(bars.options.rounds):
        sync_s = write_and_sync_s(bars.options.place, 10 * KIB)
        rounds, bars.options.rounds = bars.options.rounds, 1
        turns = bars.turns([("stratamx", 1), NULL], 10 * KIB, 1)
        bars.options.rounds = rounds
        ratios.append(1 / turns["stratamx", 1][0]["per_s"] / (sync_s + 1 / turns[NULL][0]["per_s"]))
    bars.judge("one session: latency over null server and one sync", statistics.median(ratios), most=1.3)


def write_and_sync_s(directory, octets):
    """The middle time of writing a message, in whole blocks, and fdatasync, one behind the other into a file with O_DIRECT that is preallocated as
    a segment is."""
    blocks = -(-octets // BLOCK_OCTETS) * BLOCK_OCTETS
    memory = mmap.mmap(-1, blocks)
    path = pathlib.Path(directory) / "raw"
    file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_DIRECT, 0o600)
    try:
        os.posix_fallocate(file, 0, SYNCS * blocks)
        times = []
        for number in range(SYNCS):
            begin = time.perf_counter()
            os.pwrite(file, memory, number * blocks)
            os.fdatasync(file)
            times.append(time.perf_counter() - begin)
    finally:
        os.close(file)
        path.unlink()
    return statistics.median(times)


def pipelined(bars):
    """The blaster, which pipelines, over smtp-source, which does not."""
    ratios = []
    for _ in range(bars.options.rounds):
        rounds, bars.options.rounds = bars.options.rounds, 1
        source = bars.turns([DEFAULT], 10 * KIB, 20)[DEFAULT][0]["per_s"]
        bars.options.rounds = rounds
        blasted = blasted_at(bars, "stratamx", "--messages", BLASTED, "--sessions", 20)
        ratios.append(blasted["messages_per_second"] / source)
    bars.judge("the blaster with pipelining, of smtp-source", statistics.median(ratios), least=1.5)


def open_loop(bars):
    """Messages on a schedule, at 70 % of the peak with as many sessions: the 99.9th percentile from the time at which each was meant to leave, over
    that of the null server at the same rate and one sync. What either dropped, because it fell behind, is held to a share of its own."""
    ratios, dropped = [], []
    for _ in range(bars.options.rounds):
        peak = blasted_at(bars, "stratamx", "--messages", BLASTED, "--sessions", OPEN_SESSIONS)["messages_per_second"]
        rate = ["--rate", f"{peak * 0.7:.0f}/s", "--spread", "poisson", "--duration", OPEN_DURATION, "--sessions", OPEN_SESSIONS]
        reports = [blasted_at(bars, name, *rate) for name in ("stratamx", "null")]
        dropped += [report["dropped"] / report["offered"] for report in reports]
        mine, null = (report["latency_us"]["p99.9"] for report in reports)
        ratios.append(mine / (null + write_and_sync_s(bars.options.place, 10 * KIB) * 1e6))
        told = {"open_loop": rate[1], "p99.9_us": mine, "null": null, "ratio": ratios[-1], "dropped": dropped[-2:]}
        print(json.dumps(told), file=sys.stderr)
    bars.judge("open loop at 70 %: p99.9 over null server and one sync", statistics.median(ratios), most=2)
    bars.judge("open loop at 70 %: dropped of what was offered, at worst", max(dropped), most=DROPPED_SHARE_MAX)


def blasted_at(bars, name, *arguments_of_it):
    """What the blaster reports of a load of 10 KiB into an empty server of that name, and the CPU of the server for a message."""
    place = pathlib.Path(tempfile.mkdtemp(dir=bars.options.place))
    bars.options.cores = None
    with servers.KINDS[name](place, bars.options) as server:
        command = [bars.options.bin / "stratamx-blaster", "--to", server.address(), *arguments_of_it, "--json"]
        # Its start is not the load's: with STARTTLS that makes a certificate.
        cpu_s = server.group.cpu_s()
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        cpu_s = server.group.cpu_s() - cpu_s
    remove_if_small(place)
    report = sound_report(done)
    return report | {"server_cpu_ms": cpu_s * 1e3 / report["acknowledged"]}


def sound_report(done):
    """Each message was acknowledged, but what an open loop dropped before it was sent: of that the caller judges. The blaster calls it a failure too."""
    if not done.stdout:
        sys.exit(f"stratamx-blaster: {done.stderr}")
    report = json.loads(done.stdout)
    failed = {key: report[key] for key in ("rejected", "given_up", "unfinished") if report[key]}
    is_all = report["acknowledged"] > 0 and report["acknowledged"] + report["dropped"] == report["offered"]
    if failed or not is_all or done.returncode and not report["dropped"]:
        sys.exit(f"stratamx-blaster: not all was acknowledged: {failed}\n{done.stdout}{done.stderr}")
    return report


def beside_drain(bars):
    """Acceptance for one domain while the backlog of another is handed over, of acceptance alone right before. Primary and load are on this machine too."""
    ratios, backlog = [], DRAINED
    while len(ratios) < bars.options.rounds:
        turn = beside_one_drain(bars, backlog)
        print(json.dumps({"backlog": backlog} | turn), file=sys.stderr, flush=True)
        if turn["begun"] < turn["handed_over"] < backlog:
            ratios.append(turn["beside"] / turn["alone"])
        elif turn["handed_over"] < backlog:
            sys.exit("bars.py: nothing was handed over beside the load")
        elif 2 * backlog <= DRAINED_MAX:
            backlog *= 2
        else:
            sys.exit(f"bars.py: a drain of {backlog} messages was over before the load beside it")
    bars.judge("acceptance beside a drain, of alone", statistics.median(ratios), least=0.8)


def beside_one_drain(bars, backlog):
    """Messages a second alone and beside, and what the primary had when the load beside it began and when it ended."""
    place = pathlib.Path(tempfile.mkdtemp(dir=bars.options.place))
    port = free_port()
    more = f'[[domain]]\nname = "other.test"\nprimary = ["127.0.0.1:{port}"]\nwhen_up = "relay"\n'
    options = types.SimpleNamespace(**vars(bars.options) | {"cores": None, "more": more, "round_trip_ms": 0, "without": ""})
    with servers.Stratamx(place, options) as server:
        fill = [options.bin / "stratamx-blaster", "--to", server.address(), "--messages", str(backlog), "--recipient-domain", "other.test", "--json"]
        sound_report(subprocess.run(fill, capture_output=True, text=True))
        load(server.address(), 1000, 10 * KIB, 20, False)
        alone = BESIDE / load(server.address(), BESIDE, 10 * KIB, 20, False)
        record = place / "record"
        with primary(options, record, port):
            server.flush("other.test")
            wait_for(lambda: drain.lines(record) > 0, "the drain", 30)
            begun = drain.lines(record)
            beside = BESIDE / load(server.address(), BESIDE, 10 * KIB, 20, False)
            handed_over = drain.lines(record)
    remove_if_small(place)
    return {"alone": alone, "beside": beside, "begun": begun, "handed_over": handed_over}


def written(bars):
    """What goes to the disk, of what came; and of one slow sender, whose commits have a message each."""
    turns = bars.turns([DEFAULT], 10 * KIB, 20)[DEFAULT]
    bars.judge("octets written, of the payload", middle(turns, "written_octets_a_message") / (10 * KIB), most=1.1)
    turns = bars.turns([("stratamx", 1)], KIB, 1)["stratamx", 1]
    bars.judge("one sender, 1 KiB: blocks a message", middle(turns, "written_octets_a_message") / BLOCK_OCTETS, most=1.05)


def encrypted(bars):
    """STARTTLS, sessions kept: CPU a message over that of the same load in clear."""
    ratios = []
    for _ in range(bars.options.rounds):
        spent = [
            blasted_at(bars, "stratamx", "--messages", BLASTED, "--sessions", 20, "--starttls", how)["server_cpu_ms"] for how in ("require", "off")
        ]
        ratios.append(spent[0] / spent[1])
        print(json.dumps({"cpu_ms": spent}), file=sys.stderr)
    bars.judge("STARTTLS: CPU a message over that in clear", statistics.median(ratios), most=1.5)


def drained(bars):
    """In order, over one connection and over five, over what Postfix drains without order."""
    common = {"messages": DRAINED, "size": 10 * KIB, "sessions": 20, "recipients": "many", "round_trip_ms": 0, "without": "", "give_up_s": 60}
    for connections, least in ((1, 3), (5, 5)):
        ratios = []
        for _ in range(DRAIN_ROUNDS):
            rates = {}
            for kind in (servers.Stratamx, servers.Postfix):
                place = pathlib.Path(tempfile.mkdtemp(dir=bars.options.place))
                place.chmod(0o755)
                options = types.SimpleNamespace(**vars(bars.options) | common, connections=connections)
                turn = drain.play(kind(place, options), options)
                print(json.dumps({"contestant": kind.__name__, "connections": connections} | turn), file=sys.stderr, flush=True)
                wrong = {key: turn[key] for key in ("lost", "altered", "inverted") if turn[key]}
                if kind is servers.Stratamx and wrong:
                    sys.exit(f"bars.py: the drain was not sound: {wrong}")
                rates[kind] = turn["per_s"]
                remove_if_small(place)
            ratios.append(rates[servers.Stratamx] / rates[servers.Postfix])
        bars.judge(f"drain over {connections} connection(s), times Postfix", statistics.median(ratios), least=least)


def middle(turns, key):
    return statistics.median(turn[key] for turn in turns)


def ratio(mine, others, key):
    return statistics.median(my[key] / other[key] for my, other in zip(mine, others))


PARTS = (kept_open, reconnecting, beside_peers, latency, pipelined, open_loop, written, encrypted, beside_drain, drained)

if __name__ == "__main__":
    main()
