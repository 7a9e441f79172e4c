#!/usr/bin/env python3
"""null.c speaks SMTP to the dot: whatever the mail is and however it is cut into pieces, the replies are the same and each message has one."""

import pathlib
import socket
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
import servers  # noqa: E402

ENVELOPE = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.test>\r\nDATA\r\n"
# None of these holds the end of data, though most hold parts of it.
BODIES = [b"", b"..\r\n", b"a.b\r\n", b"..\r\nx\r\n", b"\r\n", b".x\r\n\r\n", b"a\n.\n\r\n", b"a\r.\r\r\n", b"\r\n.\r.\r\n", b"x" * 600_000 + b"\r\n"]
# EHLO has four lines; each message three replies to its envelope and one to its end.
LINES = 1 + 4 + 2 * (3 + 1) + 1
CUT_OCTETS_MAX = 400


def main():
    with tempfile.TemporaryDirectory() as directory:
        program = servers.build_null(pathlib.Path(directory))
        with subprocess.Popen([program, "0", "2"], stdout=subprocess.PIPE, text=True) as null:
            try:
                port = int(null.stdout.readline().rsplit(":", 1)[1])
                for body in BODIES:
                    check(port, body)
            finally:
                null.kill()
    print(f"null.c: {len(BODIES)} bodies, whole, cut in two anywhere, and octet by octet")


def check(port, body):
    said = b"EHLO client.test\r\n" + (ENVELOPE + body + b".\r\n") * 2 + b"QUIT\r\n"
    whole = replies(port, [said])
    assert whole.count(b"\r\n") == LINES and whole.count(b"354 ") == 2 and b"\r\n221 " in whole, (body, whole)
    if len(said) > CUT_OCTETS_MAX:
        return
    for cut in range(1, len(said)):
        assert replies(port, [said[:cut], said[cut:]]) == whole, (body, cut)
    assert replies(port, [bytes([octet]) for octet in said]) == whole, body


def replies(port, pieces):
    """Each piece is on its way before the next one is sent; the server closes behind QUIT."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            connection.sendall(piece)
        said = b""
        while octets := connection.recv(1 << 16):
            said += octets
        return said


if __name__ == "__main__":
    main()
