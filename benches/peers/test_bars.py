#!/usr/bin/env python3
"""What is no figure is not judged: a load that was not acknowledged, a drain that was over, a part that is not there, bars that did not come to their end.
And a primary that never answers leaves nothing behind."""

import contextlib
import io
import json
import pathlib
import sys
import tempfile
import types

sys.dont_write_bytecode = True
import bars  # noqa: E402
import primary  # noqa: E402
import run  # noqa: E402

SOUND = {"offered": 9, "acknowledged": 9, "rejected": 0, "given_up": 0, "unfinished": 0, "dropped": 0}


def main():
    checks = [reports, drains, parts, statuses, leftovers]
    for check in checks:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            check()
    print(f"bars.py: {', '.join(check.__name__ for check in checks)} that are no figure")


def reports():
    def told(status, **other):
        report = SOUND | other
        return bars.sound_report(types.SimpleNamespace(returncode=status, stdout=json.dumps(report), stderr="")) == report

    assert told(0)
    assert told(1, acknowledged=8, dropped=1), "the caller judges what was dropped"
    for wrong in ({"acknowledged": 8}, {"acknowledged": 0, "dropped": 9}, *({key: 1} for key in ("rejected", "given_up", "unfinished"))):
        assert refuses(told, 1, **wrong) and refuses(told, 0, **wrong), wrong
    assert refuses(told, 1), "it failed, whatever it counted"
    assert refuses(bars.sound_report, types.SimpleNamespace(returncode=1, stdout="", stderr="no connection"))


def drains():
    """`of` is what is handed over meanwhile: it must be some, and not all."""

    def judged(of):
        played = []

        def turn(_, backlog):
            played.append(backlog)
            return {"alone": 10, "beside": 9, "begun": 1, "handed_over": min(of, backlog)}

        table = bars.Bars(types.SimpleNamespace(rounds=2))
        with replaced(bars, beside_one_drain=turn):
            bars.beside_drain(table)
        return played, [row["value"] for row in table.rows]

    one = bars.DRAINED
    assert judged(one - 1) == ([one, one], [0.9])
    assert judged(one) == ([one, 2 * one, 2 * one], [0.9])
    assert refuses(judged, bars.DRAINED_MAX) and refuses(judged, 1)


def parts():
    with replaced(sys, argv=["bars.py", "--only", "drain"]):
        assert bars.arguments().parts == [bars.beside_drain, bars.drained]
    with replaced(sys, argv=["bars.py", "--only", "typo"]):
        assert refuses(bars.arguments)


def statuses():
    """Only of bars.py, and only one status, is it said that a bar is missed."""
    for program, status, is_refused in [
        ("bars.py", 0, False), ("bars.py", bars.MISSED_STATUS, False), ("bars.py", 1, True), ("bars.py", 2, True), ("drain.py", bars.MISSED_STATUS, True),
    ]:
        with tempfile.TemporaryDirectory() as directory:
            place = pathlib.Path(directory)
            (place / program).write_text(f"import sys; sys.exit({status})")
            options = types.SimpleNamespace(report=place, bin=place, directory=place, weight=None)
            report = io.StringIO()
            with replaced(run.servers, HERE=place):
                assert refuses(run.run, report, program, [], options) == is_refused, (program, status)
            assert ("missed" in report.getvalue()) == (status == bars.MISSED_STATUS and not is_refused), (program, status)


def leftovers():
    with tempfile.TemporaryDirectory() as directory:
        sink = pathlib.Path(directory) / "stratamx-sink"
        sink.write_text("#!/bin/sh\nexec sleep 600\n")
        sink.chmod(0o755)
        started = []

        def popen(*arguments, **options):
            started.append(kept(*arguments, **options))
            return started[-1]

        kept = primary.subprocess.Popen
        options = types.SimpleNamespace(bin=sink.parent, round_trip_ms=0, without="")
        with replaced(primary, START_TIMEOUT_S=0), replaced(primary.subprocess, Popen=popen):
            assert refuses(lambda: primary.primary(options, sink.parent / "record", primary.free_port()).__enter__())
        assert len(started) == 1 and started[0].returncode is not None


def refuses(call, *arguments, **options):
    try:
        call(*arguments, **options)
    except SystemExit as end:
        return end.code != 0
    return False


@contextlib.contextmanager
def replaced(owner, **others):
    kept = {name: getattr(owner, name) for name in others}
    for name, other in others.items():
        setattr(owner, name, other)
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(owner, name, value)


if __name__ == "__main__":
    main()
