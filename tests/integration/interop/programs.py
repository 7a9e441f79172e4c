#!/usr/bin/env python3
"""One message by a library of Python: programs.py smtplib|aiosmtplib HOST PORT plain|tls SENDER RECIPIENTS MESSAGE OPTION...

RECIPIENTS is a file of lines, MESSAGE a file of the octets that are to arrive, OPTION what MAIL says behind its path.
"""

import asyncio
import pathlib
import smtplib
import ssl
import sys


def by_smtplib(host, port, tls, sender, recipients, message, options):
    with smtplib.SMTP(host, port, timeout=60) as connection:
        connection.ehlo("program.test")
        if tls:
            connection.starttls(context=ssl._create_unverified_context())
            connection.ehlo("program.test")
        refused = connection.sendmail(sender, recipients, message, options)
        assert not refused, refused


def by_aiosmtplib(host, port, tls, sender, recipients, message, options):
    import aiosmtplib

    refused, _ = asyncio.run(aiosmtplib.send(
        message, sender=sender, recipients=recipients, hostname=host, port=port, start_tls=tls,
        validate_certs=False, mail_options=options, timeout=60,
    ))
    assert not refused, refused


def main():
    kind, host, port, tls, sender, recipients, message, *options = sys.argv[1:]
    send = {"smtplib": by_smtplib, "aiosmtplib": by_aiosmtplib}[kind]
    recipients = pathlib.Path(recipients).read_text(encoding="utf-8").split()
    send(host, int(port), tls == "tls", sender, recipients, pathlib.Path(message).read_bytes(), options)


if __name__ == "__main__":
    main()
