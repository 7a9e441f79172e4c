"""The primary that comes back: stratamx-sink, which records what it takes, behind a line with a delay if there is to be one."""

import contextlib
import socket
import subprocess
import sys
import threading
import time

from group import free_port, is_open, wait_for


START_TIMEOUT_S, END_TIMEOUT_S = 30, 30


@contextlib.contextmanager
def primary(options, record, port):
    """On the port that the peers deliver to, from when it answers there; behind the block it is gone, however that is left, and its record is whole."""
    inside = free_port() if options.round_trip_ms else port
    without = ["--without", options.without] if options.without else []
    command = [options.bin / "stratamx-sink", "--listen", f"127.0.0.1:{inside}", "--record", record, *without]
    with contextlib.ExitStack() as started:
        sink = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        started.callback(end, sink)
        wait_for(lambda: is_open(inside), "the primary", START_TIMEOUT_S)
        if options.round_trip_ms:
            line = Line(port, inside, options.round_trip_ms / 2e3)
            started.callback(line.close)
        yield


def end(sink):
    """Told to end it completes its record, so it is killed only when it does not."""
    sink.terminate()
    try:
        sink.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        sink.kill()
        sink.wait()
        sys.exit("the primary did not end when it was told to")


class Line:
    """Carries octets between two ports, each way later by a delay."""

    def __init__(self, outside, inside, delay_s):
        self.delay_s, self.inside = delay_s, inside
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
        # Else a thread that waits in accept() keeps it open.
        self.door.shutdown(socket.SHUT_RDWR)
        self.door.close()
