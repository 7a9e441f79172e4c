"""A plain SMTP client in threads, with STARTTLS where it is asked for: slow, so what is measured with it is what the server spends, not how fast it is."""

import socket
import ssl
import threading

TIMEOUT_S = 60


def send(port, messages, octets, sessions, starttls):
    """So many messages in all, over sessions that are kept open; every reply is checked."""
    failures = []
    shares = [messages // sessions + (number < messages % sessions) for number in range(sessions)]
    threads = [threading.Thread(target=run, args=(port, share, octets, starttls, failures)) for share in shares]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def run(port, messages, octets, starttls, failures):
    try:
        with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            session(connection, messages, octets, starttls)
    except Exception as failure:  # noqa: BLE001 - the caller raises it again
        failures.append(failure)


def session(connection, messages, octets, starttls):
    reader = connection.makefile("rb")

    def say(what, expected):
        if what:
            connection.sendall(what)
        while (line := reader.readline())[3:4] == b"-":
            pass
        if not line.startswith(expected):
            raise RuntimeError(f"{line!r}, not {expected!r}")

    say(b"", b"220")
    say(b"EHLO client.test\r\n", b"250")
    if starttls:
        say(b"STARTTLS\r\n", b"220")
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = context.wrap_socket(connection)
        reader = connection.makefile("rb")
        say(b"EHLO client.test\r\n", b"250")
    data = (b"x" * 74 + b"\r\n") * (octets // 76) + b".\r\n"
    for _ in range(messages):
        say(b"MAIL FROM:<sender@example.org>\r\n", b"250")
        say(b"RCPT TO:<user@example.test>\r\n", b"250")
        say(b"DATA\r\n", b"354")
        say(data, b"250")
    say(b"QUIT\r\n", b"221")
