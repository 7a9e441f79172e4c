"""What is measured of a server: everything that it starts is in one control group, so that CPU time is exact also of processes that
are gone, and ends with it. Needs root and a cgroup2 that can be written; which controllers are on does not matter."""

import contextlib
import os
import pathlib
import socket
import subprocess
import sys
import time

END_TIMEOUT_S = 20
# Where the older hierarchy has its shares of CPU, and what everybody has there.
OLD_CPU = pathlib.Path("/sys/fs/cgroup/cpu")
PLAIN_SHARES = 1024


class Group:
    """A control group and the processes in it. `close` ends them all, and nobody else."""

    def __init__(self, name, weight=None):
        name = f"stratamx-{os.getpid()}-{name}-{time.monotonic_ns()}"
        self.path = mount() / name
        try:
            self.path.mkdir()
        except OSError as error:
            sys.exit(f"no control group can be made: {error}; run as root, where cgroup2 can be written")
        self.shared = OLD_CPU / name if weight else None
        if self.shared:
            if not OLD_CPU.exists():
                sys.exit(f"--weight wants {OLD_CPU}")
            self.shared.mkdir()
            (self.shared / "cpu.shares").write_text(str(weight * PLAIN_SHARES))

    def start(self, command, output, **options):
        """In the background, its output in a file."""
        with open(output, "ab") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=self.enter, start_new_session=True, **options
            )

    def run(self, command, **options):
        """To its end, as a command that leaves a server behind."""
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=self.enter, **options
        )
        if done.returncode:
            sys.exit(f"{' '.join(map(str, command))}: {done.stdout.decode(errors='replace')}")
        return done.stdout.decode(errors="replace")

    def enter(self):
        for path in (self.path, self.shared):
            if path:
                (path / "cgroup.procs").write_text(str(os.getpid()))

    def leave(self):
        """This process is back where all begin."""
        for path in (self.path, self.shared):
            if path:
                (path.parent / "cgroup.procs").write_text(str(os.getpid()))

    def pids(self):
        return [int(word) for word in (self.path / "cgroup.procs").read_text().split()]

    def cpu_s(self):
        return int(fields(self.path / "cpu.stat")["usage_usec"]) / 1e6

    def resident_mib(self):
        """What its processes have together; a page that they share counts once."""
        total_kib = 0
        for pid in self.pids():
            with contextlib.suppress(OSError, KeyError):
                total_kib += int(fields(f"/proc/{pid}/smaps_rollup")["Pss:"])
        return total_kib / 1024

    def written_octets(self):
        """What its processes, and those that they waited for, gave to the disk (proc(5), write_bytes)."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError, KeyError):
                total += int(fields(f"/proc/{pid}/io")["write_bytes:"])
        return total

    def close(self):
        (self.path / "cgroup.kill").write_text("1")
        for path in (self.path, self.shared):
            if path:
                wait_for(lambda: is_removed(path), "the end of a server", END_TIMEOUT_S)


def is_removed(path):
    """A group can be removed when the last of it is gone, which the kernel says a little before it is so."""
    try:
        path.rmdir()
        return True
    except OSError:
        return False


def mount():
    """Where cgroup2 is; beside an older hierarchy that is a folder of it."""
    for line in pathlib.Path("/proc/mounts").read_text().splitlines():
        if line.split()[2] == "cgroup2":
            return pathlib.Path(line.split()[1])
    sys.exit("there is no cgroup2 here")


def fields(path):
    lines = (line.split() for line in pathlib.Path(path).read_text().splitlines())
    return {words[0]: words[1] for words in lines if len(words) > 1}


def machine_cpu_s():
    """CPU seconds of everybody here so far, and those that the host took from us."""
    ticks = [int(word) for word in pathlib.Path("/proc/stat").read_text().split("\n")[0].split()[1:]]
    second = os.sysconf("SC_CLK_TCK")
    return sum(ticks[index] for index in (0, 1, 2, 5, 6)) / second, ticks[7] / second


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def is_open(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def greets(port):
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.settimeout(5)
            is_there = connection.recv(512).startswith(b"220")
            connection.sendall(b"QUIT\r\n")
            return is_there
    except OSError:
        return False


def wait_for(holds, what, timeout_s):
    end = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > end:
            sys.exit(f"never {what}")
        time.sleep(0.02)
