#!/usr/bin/env python3
"""A real Exim, OpenSMTPD, aiosmtpd, Haraka or, by LMTP, Dovecot as a primary, used like postfix_primary.py: it records what arrived, in order.

    real_primary.py exim|opensmtpd|aiosmtpd|haraka|dovecot --directory DIR --root DIR --listen 127.0.0.1:2526 --record FILE [--tls]

All in DIR, which is new, and nothing of the machine's own mail software is touched: Exim, OpenSMTPD and Dovecot run as relay.py has
them, in a root of their own; aiosmtpd runs in this process, out of what .ci/peers unpacked (--root), and Haraka, with a plugin that
writes down what it takes, out of what it installed beside that. Limits are those that
each has when nothing is said, but for two settings of Haraka that alter mail. It takes any recipient of the domain. With --tls it offers STARTTLS with a certificate that
it signed itself. The address is printed when it greets. On SIGTERM, SIGINT, or (with --watch-stdin) the end of standard
input it waits until everything is delivered, stops the server, and writes the record in the shape that stratamx-blaster
checks, with `tls` and `chunked` in each line, and the server's own log beside it.

The order of arrival is: of Exim the time at which its ACL saw MAIL, of aiosmtpd and Haraka the order of their MAIL hooks. OpenSMTPD
does not log MAIL; of it the order in which it logged the messages as taken, which is the same for whoever is offered
nothing on two connections at a time. Exim delivers a transaction into one file of batch SMTP, OpenSMTPD into a Maildir, a
file a recipient; both with LF line ends, which are CRLF again before the checksum is taken. aiosmtpd and Haraka give the octets as
they came. Dovecot saves into a Maildir for each recipient; its order is that in which it saved, which is the order of MAIL on one
connection. Its mailbox `full` is over quota.

Exim, OpenSMTPD and Dovecot need root; as another user it calls sudo -n.
"""

import argparse
import json
import pathlib
import os
import re
import shutil
import ssl
import subprocess
import sys
import time
import zlib

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).absolute().parent.parent / "interop"))
import postfix_primary  # noqa: E402
import relay  # noqa: E402

EXIM = """\
exim_path = /usr/sbin/exim4
exim_user = Debian-exim
exim_group = Debian-exim
primary_hostname = {name}
smtp_banner = {name} ESMTP
daemon_startup_retries = 0
spool_directory = /var/spool/exim4
log_file_path = /var/log/exim4/%slog
log_selector = +pipelining +smtp_connection +smtp_protocol_error +smtp_syntax_error
local_interfaces = {listen_host}
daemon_smtp_ports = {listen_port}
keep_environment =
host_lookup =
rfc1413_query_timeout = 0s
tls_advertise_hosts = {tls_hosts}
tls_certificate = /etc/exim4/cert.pem
tls_privatekey = /etc/exim4/key.pem
check_spool_space = 0
check_log_space = 0
queue_only
acl_smtp_mail = mail
acl_smtp_rcpt = rcpt
acl_smtp_data = data
begin acl
mail:
  accept set acl_m_mail = $tod_epoch_l
rcpt:
  accept domains = {domain}
  deny message = relay not permitted
data:
  accept logwrite = $message_exim_id: MAIL at $acl_m_mail
begin routers
kept:
  driver = accept
  transport = kept
begin transports
kept:
  driver = appendfile
  directory = /var/mail/kept
  directory_file = $message_exim_id
  use_bsmtp
  batch_max = 2000
  user = Debian-exim
"""

OPENSMTPD = """\
pki primary cert "/etc/cert.pem"
pki primary key "/etc/key.pem"
table known {{ "@{domain}" = nobody }}
listen on {listen_host} port {listen_port} hostname {name} {tls}
action "kept" maildir "/var/mail/kept" user nobody virtual <known>
match from any for domain "{domain}" action "kept"
"""

# Not `lmtp_rcpt_check_quota`: as it is by default, who is full is known at the end of data.
DOVECOT = """\
protocols = lmtp
base_dir = /run/dovecot
log_path = /dev/stderr
hostname = {name}
ssl = no
first_valid_uid = 1
mail_location = maildir:~
mail_plugins = quota
mail_log_prefix = "%s(%u): "
default_vsz_limit = 0
passdb {{
  driver = static
  args = nopassword=y
}}
userdb {{
  driver = passwd-file
  args = /etc/dovecot/users
}}
userdb {{
  driver = static
  args = uid=916 gid=916 home=/var/mail/kept/%u allow_all_users=yes
}}
plugin {{
  quota = maildir:of the mailbox
  quota_grace = 0
}}
service lmtp {{
  inet_listener lmtp {{
    address = {listen_host}
    port = {listen_port}
  }}
}}
"""

POLL_S = 0.02


def main():
    options = arguments()
    directory = pathlib.Path(options.directory).absolute()
    directory.mkdir(parents=True, exist_ok=True)
    ended = postfix_primary.watch_for_the_end(options.watch_stdin)
    if options.tls:
        make_certificate(directory)
    running = KINDS[options.kind](directory, options)
    try:
        relay.wait_for_greeting(options.listen, running)
        print(options.listen, flush=True)
        ended()
        is_drained = running.drain(time.monotonic() + options.drain_timeout)
    finally:
        running.stop()
    pathlib.Path(options.record + ".log").write_text(running.log(), encoding="utf-8")
    arrivals = sorted(running.arrivals(), key=lambda arrival: arrival["mail_sequence"])
    with open(options.record, "w", encoding="utf-8") as record:
        for sequence, arrival in enumerate(arrivals, 1):
            record.write(json.dumps({"sequence": sequence, **arrival}) + "\n")
    if not is_drained:
        sys.exit(f"real_primary.py: not everything was delivered\n{running.log()}")
    # Much of it is root's: who built cannot remove it.
    relay.run("rm", "-rf", *(directory / name for name in running.LEFT))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("--directory", required=True, metavar="DIR")
    parser.add_argument("--root", required=True, metavar="DIR", help="what .ci/peers unpacked")
    parser.add_argument("--listen", default="127.0.0.1:2526", metavar="ADDRESS:PORT")
    parser.add_argument("--record", required=True, metavar="FILE")
    parser.add_argument("--domain", default="example.test")
    parser.add_argument("--tls", action="store_true", help="offer STARTTLS")
    parser.add_argument("--drain-timeout", type=float, default=60, metavar="SECONDS")
    parser.add_argument("--watch-stdin", action="store_true", help="stop when standard input ends")
    parser.set_defaults(next=None)
    return parser.parse_args()


def make_certificate(directory):
    relay.run(
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30",
        "-subj", "/CN=primary.test", "-keyout", directory / "key.pem", "-out", directory / "cert.pem",
    )
    relay.run("chmod", "a+r", directory / "key.pem")


def install_certificate(server, directory, owner):
    for name in ("cert.pem", "key.pem"):
        server.write(f"{directory}/{name}", relay.read(server.root.parent / name), owner)
        relay.run("chmod", "600", server.root / directory / name)


class Exim(relay.Exim):
    COMMAND = ["/usr/sbin/exim4", "-bdf"]

    def __init__(self, directory, options):
        self.domain = options.domain
        super().__init__(directory, options)

    def configuration(self, known, tls):
        return EXIM.format(**known, domain=self.domain, tls_hosts="*" if tls else "")

    def configure(self, known, tls):
        super().configure(known, tls)
        self.make("var/mail/kept", "911:911", "755")
        if tls:
            install_certificate(self, "etc/exim4", "911:911")

    def drain(self, deadline):
        """It only queues while it serves: how many it delivers at a time is not what is tried."""
        while time.monotonic() < deadline:
            run = relay.ROOT + ["chroot", str(self.root), "/usr/sbin/exim4", "-qff"]
            subprocess.run(run, stdin=subprocess.DEVNULL, capture_output=True)
            if not postfix_primary.files_below(self.root / "var/spool/exim4/input"):
                return True
            time.sleep(POLL_S)
        return False

    def arrivals(self):
        log = self.log()
        began = {found[1]: int(found[2]) for found in re.finditer(r"(\S+): MAIL at (\d+)", log)}
        taken = {found[1]: found[2] for found in re.finditer(r" (\S+) <= (.*)", log)}
        for path in postfix_primary.files_below(self.root / "var/mail/kept"):
            name = pathlib.Path(path).name
            envelope, content = postfix_primary.content(path).split(b"\nDATA\n", 1)
            reverse_path, *recipients = re.findall(r"<(.*?)>", envelope.decode())
            content = re.sub(rb"(?m)^\.", b"", content.removesuffix(b".\n"))
            arrival = arrived(content.replace(b"\n", b"\r\n"), reverse_path, recipients)
            yield arrival | {
                "mail_sequence": began[name], "mail_unix_us": began[name], "reply": f"250 OK id={name}",
                "tls": " X=TLS" in taken[name], "chunked": " K " in taken[name],
            }


class OpenSmtpd(relay.OpenSmtpd):
    COMMAND = ["/usr/sbin/smtpd", "-d", "-f", "/etc/relay.conf"]

    def __init__(self, directory, options):
        self.domain = options.domain
        super().__init__(directory, options)

    def configuration(self, known, tls):
        text = OPENSMTPD.format(**known, domain=self.domain)
        return text if tls else text.split("\n", 2)[2]

    def configure(self, known, tls):
        super().configure(known | {"tls": "tls pki primary" if tls else ""}, tls)
        self.make("var/mail/kept", "65534:65534", "755")
        if tls:
            install_certificate(self, "etc", "0:0")

    def drain(self, deadline):
        while time.monotonic() < deadline:
            if not postfix_primary.files_below(self.root / "var/spool/smtpd/queue"):
                return True
            time.sleep(POLL_S)
        return False

    def arrivals(self):
        order = {name: number for number, name in enumerate(re.findall(r"smtp message msgid=(\w+)", self.log()), 1)}
        arrivals = {}
        for path in postfix_primary.files_below(self.root / "var/mail/kept"):
            content = postfix_primary.content(path).replace(b"\n", b"\r\n")
            fields = postfix_primary.split_trace(content)[1]
            how, name = re.search(r"with (E?SMTPS?)\b.*?\bid (\w+)", fields["received"].decode(), re.DOTALL).groups()
            # There is no Return-Path where it is null.
            reverse_path = fields.get("return-path", b"").decode().strip(" <>")
            arrival = arrivals.setdefault(name, arrived(content, reverse_path, []) | {
                "mail_sequence": order[name], "reply": f"250 2.0.0 {name} Message accepted for delivery",
                "tls": how.endswith("S"), "chunked": False,
            })
            if arrival["crc32"] != arrived(content, "", [])["crc32"]:
                arrival["crc32"] = 0  # two recipients of one transaction have different messages
            arrival["recipients"].append(fields["delivered-to"].decode().strip())
        return arrivals.values()


class Dovecot(relay.Chrooted):
    COMMAND = ["/usr/sbin/dovecot", "-F", "-c", "/etc/dovecot/primary.conf"]

    def __init__(self, directory, options):
        self.domain = options.domain
        super().__init__(directory, options)

    def configure(self, known, tls):
        if tls:
            sys.exit("real_primary.py: Dovecot is tried without TLS")
        self.make("etc/dovecot", "0:0", "755")
        self.write("etc/dovecot/primary.conf", DOVECOT.format(**known))
        full = f"full@{self.domain}"
        self.write("etc/dovecot/users", f"{full}::916:916::/var/mail/kept/{full}::userdb_quota_rule=*:bytes=1\n")
        self.make("var/mail/kept", "916:916", "755")

    def drain(self, deadline):
        """It saves before it answers."""
        return True

    @staticmethod
    def LOGS(root):
        return []

    def arrivals(self):
        arrivals = {}
        for path in postfix_primary.files_below(self.root / "var/mail/kept"):
            found = re.search(r"/([^/]+)/new/(\d+)\.M(\d+)P", str(path))
            if not found:
                continue
            saved_us = int(found[2]) * 1_000_000 + int(found[3])
            content = postfix_primary.content(path).replace(b"\n", b"\r\n")
            fields = postfix_primary.split_trace(content)[1]
            name = re.search(r"with LMTP\s+id ([^\s:]+(?::T\d+)?)", fields["received"].decode())[1]
            reverse_path = fields.get("return-path", b"").decode().strip(" <>")
            new = arrived(content, reverse_path, [])
            arrival = arrivals.setdefault((name, new["crc32"]), new | {
                "mail_sequence": saved_us, "mail_unix_us": saved_us, "reply": "250 2.0.0 Saved",
                "tls": False, "chunked": False,
            })
            arrival["mail_sequence"] = min(arrival["mail_sequence"], saved_us)
            arrival["recipients"].append(found[1])
        return arrivals.values()


class Aiosmtpd:
    """In a thread of its own; nothing is on its way when the end comes, since it records before it answers."""

    LEFT = ("key.pem",)

    def __init__(self, directory, options):
        sys.path.insert(0, str(pathlib.Path(options.root) / "usr/lib/python3/dist-packages"))
        from aiosmtpd.controller import Controller

        self.domain = options.domain
        self.taken, self.lines, self.mails = [], [], 0
        context = None
        if options.tls:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
        host, port = options.listen.rsplit(":", 1)
        name = relay.NAME
        self.controller = Controller(
            self, hostname=host, port=int(port), server_hostname=name, ident=name, tls_context=context
        )
        self.controller.start()

    async def handle_MAIL(self, server, session, envelope, address, options):
        self.mails += 1
        envelope.number = self.mails
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 Ok"

    async def handle_RCPT(self, server, session, envelope, address, options):
        if not address.endswith("@" + self.domain):
            return "550 5.7.1 relay not permitted"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, server, session, envelope):
        reply = f"250 2.0.0 Ok: queued as {envelope.number}"
        arrival = arrived(bytes(envelope.content), envelope.mail_from.strip("<>"), list(envelope.rcpt_tos))
        is_tls = session.ssl is not None
        self.taken.append(arrival | {
            "mail_sequence": envelope.number, "reply": reply, "tls": is_tls, "chunked": False,
        })
        self.lines.append(f"{arrival['id']}: {arrival['octets']} octets, tls={is_tls}\n")
        return reply

    async def handle_exception(self, error):
        self.lines.append(f"exception: {error!r}\n")
        return "451 4.3.0 exception"

    def is_alive(self):
        return True

    def drain(self, deadline):
        return True

    def stop(self):
        self.controller.stop()

    def log(self):
        return "".join(self.lines)

    def arrivals(self):
        return self.taken


class Haraka:
    """One process in the foreground."""

    LEFT = ("key.pem", "haraka/config/tls_key.pem")

    def __init__(self, directory, options):
        self.place = directory / "haraka"
        self.taken = self.place / "taken"
        program = pathlib.Path(options.root).absolute().parent / "npm/node_modules/Haraka"
        # It looks for what it is told nothing about there, too.
        shutil.copytree(program / "config", self.place / "config")
        (self.place / "plugins").mkdir()
        self.taken.mkdir()
        shutil.copy(pathlib.Path(__file__).with_name("haraka_record.js"), self.place / "plugins/record.js")
        host, port = options.listen.rsplit(":", 1)
        # Lines that RFC 5321 4.5.3.1.6 has room for, with a dot that is not counted: it would break those of more than 990 octets in two. Nor shall it rename a field.
        altered = (program / "config/connection.ini").read_text()
        altered = re.sub(r"(?m)^;?data_line_length=.*$", "data_line_length=1002", altered)
        altered = re.sub(r"(?m)^;?clean_auth_results=.*$", "", altered).replace("[headers]", "[headers]\nclean_auth_results=false")
        for name, text in {
            "me": relay.NAME,
            "plugins": "tls\nrecord" if options.tls else "record",
            "smtp.ini": f"listen={host}:{port}\nnodes=0\ndaemonize=false\n",
            "log.ini": "[main]\nlevel=info\n",
            "connection.ini": altered,
        }.items():
            (self.place / "config" / name).write_text(text)
        if options.tls:
            shutil.copy(directory / "key.pem", self.place / "config/tls_key.pem")
            shutil.copy(directory / "cert.pem", self.place / "config/tls_cert.pem")
        self.output = open(directory / "output", "wb")
        self.process = subprocess.Popen(
            ["node", str(program / "bin/haraka"), "-c", str(self.place)],
            env=os.environ | {"STRATAMX_RECORD": str(self.taken), "STRATAMX_DOMAIN": options.domain},
            stdin=subprocess.DEVNULL, stdout=self.output, stderr=self.output,
        )

    def is_alive(self):
        return self.process.poll() is None

    def drain(self, deadline):
        """It records before it answers."""
        return True

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def log(self):
        return relay.read(self.output.name)

    def arrivals(self):
        if not (self.taken / "arrivals").exists():
            return
        for line in (self.taken / "arrivals").read_text().splitlines():
            known = json.loads(line)
            message = (self.taken / str(known["number"])).read_bytes()
            yield arrived(message, known["reverse_path"], known["recipients"]) | {
                "mail_sequence": known["number"], "reply": f"250 taken as {known['number']}",
                "tls": known["tls"], "chunked": False,
            }


def arrived(message, reverse_path, recipients):
    """What is the same for all: a line of the record, from the whole message with CRLF line ends."""
    above, fields, rest = postfix_primary.split_trace(message)
    found = re.match(rb"X-Blaster-Id: *([^\r]*)\r\n", rest, re.IGNORECASE)
    return {
        "mail_unix_us": 0,
        "reverse_path": reverse_path,
        "recipients": recipients,
        "octets": len(rest),
        "id": found and found[1].decode(),
        "received": fields.get("received", b"").decode(errors="replace"),
        "above": above,
        "crc32": zlib.crc32(rest),
        "accepted": True,
    }


KINDS = {"aiosmtpd": Aiosmtpd, "dovecot": Dovecot, "exim": Exim, "haraka": Haraka, "opensmtpd": OpenSmtpd}


if __name__ == "__main__":
    main()
