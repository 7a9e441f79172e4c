#!/usr/bin/env python3
"""Real mail software as senders: smtplib (several threads), swaks and Postfix's smtp-source.

    senders.py smtplib|swaks|smtp-source|odd --to 127.0.0.1:2525 --messages 100 --sessions 4 --ledger FILE

Each message is tried until it is acknowledged or the patience is over, as a sender's queue would. Each 250 to
the end of data becomes a line of the ledger, in the shape that stratamx-blaster writes and checks: times are
taken before the first MAIL can have left and after the 250 was seen, so they never claim an order that was not.

How a 250 is known: smtplib returns the reply. swaks and smtp-source carry one message a process and print the
dialogue; the message counts if the reply to the final dot in it is a 250, whatever the exit status says, since
the server may have died behind its 250. Every message begins with its own X-Blaster-Id field: smtp-source sends
a prepared file (-F), so its messages can be told apart too. `odd` is smtplib with mail that is rare in other runs (OddMessage).

Standard output: one JSON object with the counts. Exit status 0 if every message was acknowledged, else 1.
"""

import argparse
import json
import os
import random
import re
import smtplib
import subprocess
import sys
import tempfile
import threading
import time
import zlib

RETRY_PAUSE_S = 0.1
REPLY_TIMEOUT_S = 60
MESSAGES_PER_SESSION = 7
# Without the two signs that swaks would replace in what it sends.
LETTERS = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789 .,;:!?()[]{}<>@#$&*+-=/'\""


def main():
    options = arguments()
    ledger = Ledger(options.ledger)
    numbers = iter(range(options.messages))
    lock = threading.Lock()
    counts = {"acknowledged": 0, "given_up": 0}

    def session(number):
        sender = SENDERS[options.kind](options)
        while True:
            with lock:
                message_number = next(numbers, None)
            if message_number is None:
                break
            message = MESSAGES.get(options.kind, Message)(options, message_number)
            done = deliver(sender, message, ledger, number, options.patience)
            with lock:
                counts["acknowledged" if done else "given_up"] += 1
        sender.close()

    threads = [threading.Thread(target=session, args=(number,)) for number in range(1, options.sessions + 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(counts))
    return 0 if counts["acknowledged"] == options.messages else 1


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=sorted(SENDERS))
    parser.add_argument("--to", default="127.0.0.1:2525", metavar="HOST:PORT")
    parser.add_argument("--messages", type=int, default=100)
    parser.add_argument("--sessions", type=int, default=4)
    parser.add_argument("--ledger", required=True, metavar="FILE")
    parser.add_argument("--octets-min", type=int, default=1024)
    parser.add_argument("--octets-max", type=int, default=65536)
    parser.add_argument("--recipient-domain", default="example.test")
    parser.add_argument("--mailboxes", type=int, default=20, help="recipients are user0 and so on")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--run", help="name in the ids; the kind, if not given")
    parser.add_argument("--patience", type=float, default=60, metavar="SECONDS")
    options = parser.parse_args()
    options.host, port = options.to.rsplit(":", 1)
    options.port = int(port)
    options.run = options.run or options.kind
    return options


def deliver(sender, message, ledger, session, patience):
    """Tries until there is a 250; whether there was one."""
    deadline = time.monotonic() + patience
    first_mail = None
    why = ""
    while True:
        started = unix_us()
        first_mail = first_mail or started
        try:
            queue_id = sender.send(message)
        except Setback as setback:
            queue_id, why = None, str(setback)
        if queue_id is not None:
            ledger.write(message, session, first_mail, queue_id)
            return True
        if time.monotonic() >= deadline:
            print(f"{message.id}: given up: {why}", file=sys.stderr)
            return False
        time.sleep(RETRY_PAUSE_S)


class Setback(Exception):
    """No 250 this time."""


class Message:
    """Everything follows from the seed, the run and the number."""

    def __init__(self, options, number):
        draw = random.Random(f"{options.seed} {options.run} {number}")
        self.id = f"{options.run}-{number}"
        self.reverse_path = f"{self.id}@sender.test"
        self.recipients = [f"user{draw.randrange(options.mailboxes)}@{options.recipient_domain}"]
        lines = [
            f"X-Blaster-Id: {self.id}",
            "Date: Thu, 01 Jan 2026 00:00:00 +0000",
            f"From: <{self.reverse_path}>",
            f"To: <{self.recipients[0]}>",
            f"Subject: {options.kind} {number}",
            f"Message-ID: <{self.id}@sender.test>",
            "",
        ]
        size = draw.randint(options.octets_min, options.octets_max)
        octets = sum(len(line) + 2 for line in lines)
        while octets < size:
            line = "".join(draw.choices(LETTERS, k=draw.choice((0, 1, 20, 40, 60, 76, 76, 900))))
            lines.append(draw.choice(("", "", "", "", ".", "..")) + line)
            octets += len(lines[-1]) + 2
        # No line of spaces or dots alone at the end: what a tool does to the last line is not what is tested.
        lines.append("-- end")
        if options.kind == "smtp-source":
            # It ends a prepared file with an empty line of its own.
            lines.append("")
        self.lines = lines
        self.content = "".join(line + "\r\n" for line in lines).encode()


class OddMessage(Message):
    """By turns: from the null reverse-path; to forty; 5 MB; full of dots, at its end too; octets of no character set; with lines of 998 octets."""

    SHAPES = 6

    def __init__(self, options, number):
        super().__init__(options, number)
        shape, body = number % self.SHAPES, []
        if shape == 0:
            self.reverse_path = ""
        elif shape == 1:
            self.recipients = [f"user{index}@{options.recipient_domain}" for index in range(40)]
        elif shape == 2:
            body = [f"{line:07} . the same words on every line but for the number".encode() for line in range(90_000)]
        elif shape == 3:
            body = [b".", b"..", b".x", b"", b"QUIT", b"..." * 300, b"", b"."]
        elif shape == 4:
            body = [bytes(range(0x80, 0x100)), bytes(range(1, 10)) + bytes(range(14, 0x20)), b"\t \x7f "]
        else:
            body = [b"x" * 998, b"." * 998, b"\xfc" * 998]
        self.content += b"".join(line + b"\r\n" for line in body)


class Ledger:
    """A line for each acknowledged message, on disk before the next message leaves."""

    def __init__(self, path):
        self.file = open(path, "ab", buffering=0)
        self.lock = threading.Lock()

    def write(self, message, session, mail_unix_us, queue_id):
        line = {
            "id": message.id,
            "queue_id": queue_id,
            "session": session,
            "mail_unix_us": mail_unix_us,
            "reply_unix_us": unix_us(),
            "reverse_path": message.reverse_path,
            "recipients": message.recipients,
            "octets": len(message.content),
            "crc32": zlib.crc32(message.content),
        }
        with self.lock:
            self.file.write(json.dumps(line).encode() + b"\n")


class Smtplib:
    """One connection after the other, a few messages each."""

    def __init__(self, options):
        self.options = options
        self.connection = None
        self.sent = 0

    def send(self, message):
        try:
            return self.transaction(message)
        except (OSError, smtplib.SMTPException) as error:
            self.connection = None
            raise Setback(repr(error)) from error

    def transaction(self, message):
        if self.connection is None:
            options = self.options
            self.connection = smtplib.SMTP(options.host, options.port, "sender.test", timeout=REPLY_TIMEOUT_S)
            self.connection.ehlo_or_helo_if_needed()
        parameters = [f"SIZE={len(message.content)}"] if self.connection.has_extn("size") else []
        if not message.content.isascii() and self.connection.has_extn("8bitmime"):
            parameters.append("BODY=8BITMIME")
        self.expect(self.connection.mail(message.reverse_path, parameters))
        for recipient in message.recipients:
            self.expect(self.connection.rcpt(recipient))
        reply = self.expect(self.connection.data(message.content))
        self.sent += 1
        if self.sent % MESSAGES_PER_SESSION == 0:
            self.close()
        return queue_id(reply)

    def expect(self, answer):
        code, text = answer
        if code // 100 != 2:
            self.close()
            raise Setback(f"{code} {text.decode(errors='replace')}")
        return text.decode(errors="replace")

    def close(self):
        if self.connection is not None:
            try:
                self.connection.quit()
            except (OSError, smtplib.SMTPException):
                pass
        self.connection = None


class Dialogue:
    """A program that carries one message and prints the dialogue."""

    def __init__(self, options):
        self.options = options
        self.directory = tempfile.TemporaryDirectory(prefix="senders-")

    def send(self, message):
        path = os.path.join(self.directory.name, message.id)
        with open(path, "w", encoding="ascii", newline="\n") as file:
            file.write("\n".join(message.lines))
        command = self.command(message, path)
        timeout = REPLY_TIMEOUT_S + 10
        try:
            ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout)
        except subprocess.TimeoutExpired as error:
            raise Setback("no answer in time") from error
        finally:
            os.unlink(path)
        dialogue = (ended.stdout + ended.stderr).decode(errors="replace")
        final = self.FINAL_REPLY.search(dialogue)
        if final is None:
            raise Setback(dialogue.strip().rsplit("\n", 1)[-1])
        return queue_id(final[1])

    def close(self):
        self.directory.cleanup()


class Swaks(Dialogue):
    FINAL_REPLY = re.compile(r"^ -> \d+ lines sent\n<-  250 (.*)$", re.MULTILINE)

    def command(self, message, path):
        options = self.options
        return [
            "swaks", "--server", options.host, "--port", str(options.port), "--helo", "sender.test",
            "--from", message.reverse_path, "--to", message.recipients[0], "--data", "@" + path,
            "--timeout", str(REPLY_TIMEOUT_S), "--suppress-data",
        ]


class SmtpSource(Dialogue):
    FINAL_REPLY = re.compile(r"^\S+: \.\n\S+: <<< 250 (.*)$", re.MULTILINE)

    def command(self, message, path):
        options = self.options
        return [
            "/usr/sbin/smtp-source", "-v", "-M", "sender.test", "-f", message.reverse_path,
            "-t", message.recipients[0], "-F", path, f"inet:{options.host}:{options.port}",
        ]


SENDERS = {"smtplib": Smtplib, "odd": Smtplib, "swaks": Swaks, "smtp-source": SmtpSource}
MESSAGES = {"odd": OddMessage}


def queue_id(reply):
    found = re.search(r"queued as (\S+)", reply)
    return found[1] if found else ""


def unix_us():
    return time.time_ns() // 1000


if __name__ == "__main__":
    sys.exit(main())
