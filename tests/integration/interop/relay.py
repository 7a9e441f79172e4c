#!/usr/bin/env python3
"""A real Postfix, Exim or OpenSMTPD that takes mail on one loopback port and hands it on to another.

    relay.py postfix|exim|opensmtpd --directory DIR --listen 127.0.0.1:2526 --next 127.0.0.1:2525 [--tls]

A private instance: configuration, queue and log are in DIR, and nothing of the machine's own mail software is touched. Each is as
strict as it can be told to be. Postfix is the installed one; Exim and OpenSMTPD, which look for users and spools at fixed places, run in DIR/root, a copy by
hard links of what .ci/peers unpacked (--root). With --tls mail goes on by STARTTLS or not at all, else without. The
address is printed when it greets: by the name of this process, so that nobody else on the port is taken for it. On SIGTERM or the end of
standard input it is stopped, with all its children. What it left in DIR is removed where it did not start, and where standard input ends without a
line `keep`.

Needs root, as these servers do; as another user it calls sudo -n.
"""

import argparse
import os
import pathlib
import select
import signal
import socket
import subprocess
import sys
import time

ROOT = [] if os.geteuid() == 0 else ["sudo", "-n"]
START_TIMEOUT_S = 30
NAME = f"relay-{os.getpid()}.test"

POSTFIX_MAIN = """\
compatibility_level = 3.6
queue_directory = {directory}/spool
data_directory = {directory}/data
maillog_file = {directory}/maillog
maillog_file_prefixes = {directory}
mail_owner = postfix
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = {name}
mydestination =
alias_maps =
alias_database =
mynetworks = 127.0.0.0/8
smtpd_client_event_limit_exceptions = 127.0.0.0/8
smtpd_delay_open_until_valid_rcpt = no
smtpd_error_sleep_time = 0
smtpd_timeout = 300
smtpd_banner = {name} ESMTP
smtpd_recipient_limit = 2000
smtpd_tls_security_level = none
smtpd_forbid_bare_newline = reject
smtpd_forbid_bare_newline_exclusions =
smtpd_forbid_unauth_pipelining = yes
local_header_rewrite_clients =
smtp_tls_security_level = {tls}
default_destination_recipient_limit = 2000
default_transport = smtp
relayhost = [{next_host}]:{next_port}
smtp_dns_support_level = disabled
smtp_host_lookup = native
disable_dns_lookups = yes
message_size_limit = 104857600
in_flow_delay = 0
"""

# service, type, private, unprivileged, chroot, wakeup, maxproc, command
POSTFIX_MASTER = """\
{listen} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n - 0 flush
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
smtp unix - - n - - smtp
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""

EXIM = """\
exim_path = /usr/sbin/exim4
exim_user = Debian-exim
exim_group = Debian-exim
primary_hostname = {name}
smtp_banner = {name} ESMTP
daemon_startup_retries = 0
spool_directory = /var/spool/exim4
log_file_path = /var/log/exim4/%slog
local_interfaces = {listen_host}
daemon_smtp_ports = {listen_port}
keep_environment =
host_lookup =
rfc1413_query_timeout = 0s
tls_advertise_hosts =
chunking_advertise_hosts = *
smtputf8_advertise_hosts = *
message_size_limit = 100M
recipients_max = 2000
smtp_accept_max = 200
smtp_receive_timeout = 300s
check_spool_space = 0
check_log_space = 0
acl_smtp_rcpt = accept
begin routers
next:
  driver = manualroute
  route_list = * {next_host}
  self = send
  transport = next
begin transports
next:
  driver = smtp
  port = {next_port}
  allow_localhost
  max_rcpt = 2000
  hosts_require_tls = {tls_hosts}
  hosts_avoid_tls = {plain_hosts}
  tls_verify_hosts =
  tls_try_verify_hosts =
begin retry
* * F,5m,1s
"""

OPENSMTPD = """\
listen on {listen_host} port {listen_port} hostname {name}
smtp max-message-size 100M
smtp limit max-rcpt 2000
smtp limit max-mails 1000
action "next" relay host "{scheme}://{next_host}:{next_port}" {verify} helo relay.test
match from any for any action "next"
"""


def main():
    options = arguments()
    directory = pathlib.Path(options.directory).absolute()
    directory.mkdir(parents=True, exist_ok=True)
    wake = take_signals()
    kind = KINDS[options.kind]
    running, said, is_left = None, b"", False
    try:
        running = kind(directory, options)
        wait_for_greeting(options.listen, running)
        print(options.listen, flush=True)
        is_over, is_left = False, True
        while not is_over and wake not in select.select([wake, sys.stdin], [], [])[0]:
            octets = os.read(sys.stdin.fileno(), 4096)
            said, is_over = said + octets, not octets
        is_left = not is_over or b"keep" in said
    finally:
        if running:
            running.stop()
        if not is_left:
            # Much of it is root's: who built cannot remove it.
            run("rm", "-rf", *(directory / name for name in kind.LEFT))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("--directory", required=True, metavar="DIR")
    parser.add_argument("--listen", required=True, metavar="ADDRESS:PORT")
    parser.add_argument("--next", required=True, metavar="ADDRESS:PORT")
    parser.add_argument("--root", metavar="DIR", help="what .ci/peers unpacked")
    parser.add_argument("--tls", action="store_true")
    return parser.parse_args()


def take_signals():
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return wake_read


def values(directory, options):
    listen_host, listen_port = options.listen.rsplit(":", 1)
    next_host, next_port = options.next.rsplit(":", 1) if options.next else ("", "")
    return {
        "directory": directory, "name": NAME, "listen": options.listen, "listen_host": listen_host, "listen_port": listen_port,
        "next_host": next_host, "next_port": next_port,
    }


class Postfix:
    LEFT = ("conf", "spool", "data", "maillog")

    def __init__(self, directory, options):
        self.directory = directory
        known = values(directory, options) | {"tls": "encrypt" if options.tls else "none"}
        for name in ("conf", "spool", "data"):
            (directory / name).mkdir(exist_ok=True)
        (directory / "conf/main.cf").write_text(POSTFIX_MAIN.format(**known))
        (directory / "conf/master.cf").write_text(POSTFIX_MASTER.format(**known))
        directory.chmod(0o755)
        run("chown", "-R", "root:root", directory / "conf")
        run("chown", "root", directory / "spool")
        run("chown", "postfix", directory / "data")
        try:
            run("/usr/sbin/postfix", "-c", directory / "conf", "start")
        except SystemExit as failure:
            sys.exit(f"{failure}\n{self.log()}")

    def stop(self):
        run("/usr/sbin/postfix", "-c", self.directory / "conf", "stop")

    def is_alive(self):
        return subprocess.run(
            ROOT + ["/usr/sbin/postfix", "-c", str(self.directory / "conf"), "status"], capture_output=True
        ).returncode == 0

    def log(self):
        return read(self.directory / "maillog")


class Chrooted:
    """A server in a root of its own, in the foreground, and a group of processes."""

    LEFT = ("root", "output")

    def __init__(self, directory, options):
        self.root = directory / "root"
        self.unpacked = pathlib.Path(options.root).absolute()
        run("cp", "-al", self.unpacked, self.root)
        for name, minor in (("null", 3), ("urandom", 9)):
            made = subprocess.run(ROOT + ["mknod", "-m", "666", str(self.root / "dev" / name), "c", "1", str(minor)])
            if made.returncode != 0:
                sys.exit("relay.py: no device can be made here")
        self.configure(values(directory, options), options.tls)
        self.output = open(directory / "output", "wb")
        command = ROOT + ["chroot", str(self.root)] + self.COMMAND
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self.output, stderr=self.output, start_new_session=True
        )

    def write(self, name, text, owner=None):
        """A new file: what is there is shared with other roots."""
        path = self.root / name
        subprocess.run(ROOT + ["tee", str(path)], input=text.encode(), stdout=subprocess.DEVNULL, check=True)
        if owner:
            run("chown", owner, path)

    def make(self, name, owner, mode):
        run("mkdir", "-p", self.root / name)
        run("chown", owner, self.root / name)
        run("chmod", mode, self.root / name)

    def stop(self):
        """Exim's deliveries leave the group: everything whose root is this one is ended."""
        subprocess.run(ROOT + ["kill", "-TERM", "--", f"-{self.process.pid}"], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while self.members() and time.monotonic() < deadline:
            time.sleep(0.05)
        for pid in self.members():
            subprocess.run(ROOT + ["kill", "-KILL", pid], stderr=subprocess.DEVNULL)
        self.process.wait()

    def is_alive(self):
        return self.process.poll() is None

    def members(self):
        script = 'for p in /proc/[0-9]*; do [ "$(readlink $p/root)" = "$0" ] && echo ${p#/proc/}; done; true'
        found = subprocess.run(ROOT + ["sh", "-c", script, str(self.root)], capture_output=True, text=True)
        return found.stdout.split()

    def log(self):
        return read(self.root.parent / "output") + "".join(map(read, self.LOGS(self.root)))


class Exim(Chrooted):
    COMMAND = ["/usr/sbin/exim4", "-bdf", "-q2s"]

    def configure(self, known, tls):
        self.write("etc/exim4/exim4.conf", self.configuration(known, tls))
        # Set-uid, and root's whoever unpacked it, else what it starts may not write its spool. A copy: the file is shared with other roots.
        program = self.root / "usr/sbin/exim4"
        run("rm", program)
        run("cp", self.unpacked / "usr/sbin/exim4", program)
        run("chown", "0:0", program)
        run("chmod", "4755", program)
        self.make("var/spool/exim4", "911:911", "750")
        self.make("var/log/exim4", "911:911", "750")

    def configuration(self, known, tls):
        return EXIM.format(**known, tls_hosts="*" if tls else "", plain_hosts="" if tls else "*")

    @staticmethod
    def LOGS(root):
        return [root / "var/log/exim4/mainlog", root / "var/log/exim4/paniclog"]


class OpenSmtpd(Chrooted):
    COMMAND = ["/usr/sbin/smtpd", "-d", "-f", "/etc/relay.conf"]

    def configure(self, known, tls):
        self.write("etc/relay.conf", self.configuration(known, tls))
        self.make("var/spool/smtpd", "0:0", "711")
        self.make("var/lib/opensmtpd/empty", "0:0", "711")

    def configuration(self, known, tls):
        return OPENSMTPD.format(
            **known, scheme="smtp+tls" if tls else "smtp+notls", verify="tls no-verify" if tls else ""
        )

    @staticmethod
    def LOGS(root):
        return []


def run(*command):
    command = ROOT + [str(word) for word in command]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if ended.returncode != 0:
        sys.exit(f"relay.py: {' '.join(command)}: {ended.stdout.decode(errors='replace')}")


def read(path):
    """Of a file that perhaps only root can read."""
    found = subprocess.run(ROOT + ["cat", str(path)], capture_output=True)
    return found.stdout.decode(errors="replace")


def wait_for_greeting(listen, running):
    """Also tells when somebody else has the port: then the server ended, or the greeting is not its own."""
    host, port = listen.rsplit(":", 1)
    deadline = time.monotonic() + START_TIMEOUT_S
    greeting = b""
    while not greeting.startswith(f"220 {NAME}".encode()):
        if not running.is_alive():
            sys.exit(f"relay.py: it ended\n{running.log()}")
        if time.monotonic() > deadline:
            sys.exit(f"relay.py: no greeting of its own: {greeting}\n{running.log()}")
        try:
            with socket.create_connection((host, int(port)), timeout=5) as connection:
                greeting = connection.makefile("rb").readline()
        except OSError as error:
            greeting = str(error).encode()
        time.sleep(0.05)


KINDS = {"exim": Exim, "opensmtpd": OpenSmtpd, "postfix": Postfix}


if __name__ == "__main__":
    main()
