#!/usr/bin/env python3
"""A real Postfix as a primary, used like stratamx-sink: it records what arrived, in order.

    postfix_primary.py --directory DIR --listen 127.0.0.1:2526 --record FILE

Runs a private instance: its configuration, queue, log and mail are all in DIR, and nothing of the machine's own
Postfix is touched. It takes any recipient of the domain into one Maildir. The address is printed when it
listens. On SIGTERM, SIGINT, or (with --watch-stdin) the end of standard input it waits until the queue is empty,
stops Postfix, and writes the record in the shape that stratamx-blaster checks, and Postfix's own log beside it.

The order of arrival is the order in which smtpd logged the transactions; it logs each at its MAIL, because
smtpd_delay_open_until_valid_rcpt is off. Postfix delivers one file a recipient, with LF line ends: files with
one queue id are one transaction, and line ends are CRLF again before the checksum is taken.

Needs root (Postfix does); as another user it calls sudo -n.
"""

import argparse
import json
import os
import pathlib
import pwd
import re
import select
import signal
import socket
import subprocess
import sys
import time
import zlib

MAIN_CF = """\
compatibility_level = 3.6
queue_directory = {directory}/spool
data_directory = {directory}/data
maillog_file = {directory}/maillog
maillog_file_prefixes = {directory}
mail_owner = postfix
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = primary.test
mydestination =
alias_maps =
alias_database =
mynetworks =
smtpd_relay_restrictions = reject_unauth_destination
smtpd_client_event_limit_exceptions = 127.0.0.0/8
smtpd_delay_open_until_valid_rcpt = no
virtual_mailbox_domains = {domain}
virtual_mailbox_base = {directory}/mail
virtual_mailbox_maps = static:inbox/
virtual_mailbox_limit = 0
virtual_minimum_uid = 1
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
message_size_limit = 209715200
mailbox_size_limit = 0
in_flow_delay = 0
service_throttle_time = 1s
smtpd_discard_ehlo_keywords = {without}
smtpd_client_restrictions = {refused}
{authorized}
{tls}
{policy}
"""

# Whoever is new is told to come again, once he has shown that he waits for replies (its "deep protocol tests").
POSTSCREEN_CF = """\
postscreen_access_list =
postscreen_greet_wait = 1s
postscreen_greet_action = enforce
postscreen_pipelining_enable = yes
postscreen_pipelining_action = enforce
postscreen_non_smtp_command_enable = yes
postscreen_non_smtp_command_action = drop
postscreen_bare_newline_enable = yes
postscreen_bare_newline_action = enforce
"""

# service, type, private, unprivileged, chroot, wakeup, maxproc, command
MASTER_CF = """\
{services}
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n - 0 flush
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
"""

# The policy service of --postgrey, asked behind the relay restrictions, and what it is to say.
GREYLISTING_CF = """\
smtpd_recipient_restrictions = check_policy_service unix:{directory}/postgrey/socket
"""

DIRECT = "{listen} inet n - n - - smtpd"
BEHIND_POSTSCREEN = """\
{listen} inet n - n - 1 postscreen
smtpd pass - - n - - smtpd
dnsblog unix - - n - 0 dnsblog
tlsproxy unix - - n - 0 tlsproxy"""

ROOT = [] if os.geteuid() == 0 else ["sudo", "-n"]
START_TIMEOUT_S = 30
TRACE_FIELDS = ("return-path", "x-greylist", "x-original-to", "delivered-to", "received", "authentication-results")


def main():
    options = arguments()
    directory = pathlib.Path(options.directory).absolute()
    ended = watch_for_the_end(options.watch_stdin)
    configure(directory, options)
    helpers = [Postgrey(directory, options)] if options.postgrey else []
    helpers += [rspamd(directory, options)] if options.rspamd else []
    postfix(directory, "start")
    try:
        wait_for_listener(options.listen, directory)
        print(options.listen, flush=True)
        ended()
        drained = wait_for_empty_queue(directory, options.drain_timeout)
    finally:
        postfix(directory, "stop")
        wait_for_master(directory)
        for helper in helpers:
            helper.stop()
    write_record(directory, options.record)
    said = "".join(helper.log() for helper in helpers)
    pathlib.Path(options.record + ".log").write_text(log(directory) + said, encoding="utf-8")
    if not drained:
        sys.exit("postfix_primary.py: the queue did not run empty")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", required=True, metavar="DIR")
    parser.add_argument("--listen", default="127.0.0.1:2526", metavar="ADDRESS:PORT")
    parser.add_argument("--record", required=True, metavar="FILE")
    parser.add_argument("--domain", default="example.test")
    parser.add_argument("--without", default="", metavar="KEYWORD", help="do not offer this keyword of EHLO")
    parser.add_argument("--authorize", default="", metavar="COMMAND", help="take xclient or xforward from 127.0.0.1")
    parser.add_argument("--refuse-client", default="", metavar="ADDRESS", help="refuse this client at RCPT")
    parser.add_argument("--certificate", default="", metavar="FILE", help="offer STARTTLS: a key and its certificate, in PEM")
    parser.add_argument("--postscreen", action="store_true", help="who is new is told to come again")
    parser.add_argument("--postgrey", default="", metavar="TEXT", help="greylist everybody for two seconds, in these words")
    parser.add_argument("--root", metavar="DIR", help="what .ci/peers unpacked; with --postgrey and --rspamd")
    parser.add_argument("--rspamd", type=int, metavar="PORT", help="a milter on this port of loopback")
    parser.add_argument("--external-relay", action="store_true", help="the milter goes by the first Received field")
    parser.set_defaults(next=None, tls=False)
    parser.add_argument("--drain-timeout", type=float, default=60, metavar="SECONDS")
    parser.add_argument("--watch-stdin", action="store_true", help="stop when standard input ends")
    return parser.parse_args()


def watch_for_the_end(watch_stdin):
    """Takes the signals from now on; the function that it returns waits for the end."""
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)

    def wait():
        sources = [wake_read] + ([sys.stdin] if watch_stdin else [])
        while True:
            ready = select.select(sources, [], [])[0]
            if wake_read in ready or not os.read(sys.stdin.fileno(), 4096):
                return

    return wait


def configure(directory, options):
    """Writes the configuration. Postfix wants its directories to be root's or its own."""
    owner = pwd.getpwnam("nobody")
    values = {
        "directory": directory, "domain": options.domain, "listen": options.listen, "uid": owner.pw_uid,
        "gid": owner.pw_gid, "without": options.without, "authorized": "", "refused": "", "tls": "", "policy": "",
    }
    if options.refuse_client:
        values["refused"] = f"check_client_access inline:{{{{{options.refuse_client} = REJECT not you}}}}"
    if options.authorize:
        values["authorized"] = f"smtpd_authorized_{options.authorize}_hosts = 127.0.0.1"
    if options.postgrey:
        values["policy"] = GREYLISTING_CF.format(directory=directory)
    if options.rspamd:
        values["policy"] += f"smtpd_milters = inet:127.0.0.1:{options.rspamd}\nmilter_default_action = tempfail\n"
    if options.certificate:
        values["tls"] = f"smtpd_tls_chain_files = {options.certificate}\nsmtpd_tls_security_level = may"
    for name in ("conf", "spool", "data", "mail"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    values["services"] = (BEHIND_POSTSCREEN if options.postscreen else DIRECT).format(**values)
    main_cf = MAIN_CF.format(**values) + (POSTSCREEN_CF if options.postscreen else "")
    (directory / "conf/main.cf").write_text(main_cf)
    (directory / "conf/master.cf").write_text(MASTER_CF.format(**values))
    directory.chmod(0o755)
    run("chown", "-R", "root:root", directory / "conf")
    run("chown", "root", directory / "spool")
    run("chown", "postfix", directory / "data")
    run("chown", f"{owner.pw_uid}:{owner.pw_gid}", directory / "mail")


class Postgrey:
    """In the foreground; it gives its rights away to `nobody`, and is the machine's perl with what was unpacked."""

    DELAY_S = 2

    def __init__(self, directory, options):
        self.directory = directory / "postgrey"
        unpacked = pathlib.Path(options.root)
        self.directory.mkdir(exist_ok=True)
        # Modules in C lie below a directory for each version and machine.
        libraries = [unpacked / "usr/share/perl5", *unpacked.glob("usr/lib/*/perl5/*")]
        command = ROOT + ["perl", "-T", *(f"-I{path}" for path in libraries), str(unpacked / "usr/sbin/postgrey")]
        command += [f"--unix={self.directory}/socket", "--socketmode=0666", f"--dbdir={self.directory}"]
        command += ["--user=nobody", "--group=nogroup", f"--delay={self.DELAY_S}", f"--greylist-text={options.postgrey}"]
        command += ["--whitelist-clients=/dev/null", "--whitelist-recipients=/dev/null", "--auto-whitelist-clients=0"]
        run("chown", "nobody", self.directory)
        self.output = open(directory / "postgrey.log", "wb")
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self.output, stderr=self.output, start_new_session=True
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not (self.directory / "socket").exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"postfix_primary.py: postgrey does not start\n{self.log()}")
            time.sleep(0.05)

    def stop(self):
        subprocess.run(ROOT + ["kill", "-TERM", "--", f"-{self.process.pid}"], stderr=subprocess.DEVNULL)
        self.process.wait()

    def log(self):
        return content(self.output.name).decode(errors="replace")


def rspamd(directory, options):
    import rspamd as milter

    return milter.Rspamd(directory / "rspamd", options)


def postfix(directory, verb):
    run("/usr/sbin/postfix", "-c", directory / "conf", verb)


def run(*command):
    command = ROOT + [str(word) for word in command]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if ended.returncode != 0:
        sys.exit(f"postfix_primary.py: {' '.join(command)}: {ended.stdout.decode(errors='replace')}")


def wait_for_listener(listen, directory):
    host, port = listen.rsplit(":", 1)
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            with socket.create_connection((host, int(port)), timeout=5) as connection:
                if connection.recv(3) == b"220":
                    return
        except OSError as error:
            if time.monotonic() > deadline:
                sys.exit(f"postfix_primary.py: no greeting: {error}\n{log(directory)}")
            time.sleep(0.05)


def wait_for_empty_queue(directory, timeout):
    deadline = time.monotonic() + timeout
    queues = [directory / "spool" / name for name in ("maildrop", "incoming", "active", "deferred")]
    while time.monotonic() < deadline:
        if not any(files_below(queue) for queue in queues):
            return True
        time.sleep(0.05)
    return False


def wait_for_master(directory):
    """`postfix stop` does not wait for everything to be gone."""
    pid = directory / "spool/pid/master.pid"
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if not pid.exists() or not pathlib.Path("/proc", pid.read_text().strip()).exists():
            return
        time.sleep(0.05)


def files_below(directory):
    command = ROOT + ["find", str(directory), "-type", "f"]
    return subprocess.run(command, capture_output=True, text=True).stdout.splitlines()


def content(path):
    """Of a file that only root can read."""
    if not ROOT:
        return pathlib.Path(path).read_bytes()
    return subprocess.run(ROOT + ["cat", str(path)], capture_output=True, check=True).stdout


def log(directory):
    return content(directory / "maillog").decode(errors="replace")


def write_record(directory, path):
    """One line for each transaction, in the order of MAIL."""
    order = {}
    for number, found in enumerate(re.finditer(r"smtpd\[\d+\]: (\w+): client=", log(directory)), 1):
        order[found[1]] = number
    arrivals = {}
    for name in files_below(directory / "mail/inbox/new"):
        add(arrivals, content(name).replace(b"\n", b"\r\n"), order)
    with open(path, "w", encoding="utf-8") as record:
        for sequence, arrival in enumerate(sorted(arrivals.values(), key=lambda a: a["mail_sequence"]), 1):
            record.write(json.dumps({"sequence": sequence, **arrival}) + "\n")


def add(arrivals, message, order):
    """Adds one delivered file to the transaction that it belongs to."""
    above, fields, rest = split_trace(message)
    queue_id = re.search(rb"with E?SMTPS? id (\w+)", fields["received"])[1].decode()
    found = re.match(rb"X-Blaster-Id: *([^\r]*)\r\n", rest, re.IGNORECASE)
    arrival = arrivals.setdefault(queue_id, {
        "mail_sequence": order[queue_id],
        "mail_unix_us": 0,
        "reverse_path": fields["return-path"].decode().strip().strip("<>"),
        "recipients": [],
        "octets": len(rest),
        "id": found and found[1].decode(),
        "received": fields["received"].decode(errors="replace"),
        # postgrey's is no alteration of the message.
        "above": [name for name in above if name.lower() != "x-greylist"],
        "crc32": zlib.crc32(rest),
        "accepted": True,
        "reply": f"250 2.0.0 Ok: queued as {queue_id}",
    })
    if arrival["crc32"] != zlib.crc32(rest):
        arrival["crc32"] = 0  # two recipients of one transaction have different messages
    arrival["recipients"].append(fields["x-original-to"].decode().strip())


def split_trace(message):
    """The names of the trace fields on top, the first of each with its value, and what is below them."""
    above, fields, at = [], {}, 0
    pattern = re.compile(rb"([!-9;-~]+):((?:[^\r\n]|\r\n[ \t])*)\r\n")
    while (field := pattern.match(message, at)) and field[1].decode().lower() in TRACE_FIELDS:
        above.append(field[1].decode())
        fields.setdefault(above[-1].lower(), field[2])
        at = field.end()
    return above, fields, message[at:]


if __name__ == "__main__":
    main()
