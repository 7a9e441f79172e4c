"""The servers that are measured, each a backup MX for example.test with its queue in a folder of its own, and how each is started, asked and
stopped. Each is as its package has it: what is set is what a backup MX has to be told, where it keeps its things, and that limits on
how often one client may come are off, since all load comes from one address. Nothing is told about durability: syncs.py counts what each does before its 250.

Exim and OpenSMTPD run in a root of their own, a copy by hard links of what .ci/peers unpacked."""

import json
import os
import pathlib
import pwd
import shutil
import signal
import subprocess

from group import Group, free_port, greets, is_open, wait_for

HERE = pathlib.Path(__file__).absolute().parent
PEERS = HERE.parent.parent / "target/peers"
START_TIMEOUT_S = 60
DOMAIN = "example.test"
NAME = "mx2.bench.test"

STRATAMX = """hostname = "{name}"
data_dir = "{directory}/data"
{cores}
[smtp]
listen = ["127.0.0.1:{port}"]
max_connections_per_ip = 5000
rate = {{ connections_per_minute_per_ip = 0, messages_per_minute_per_ip = 0 }}
[storage]
min_free_space = "64MiB"
[admin]
listen = "127.0.0.1:{admin}"
[dns]
nameservers = ["127.0.0.1:9"]
[delivery]
retry_interval = "1h"
authenticate = {authenticate}
{limit}
[[domain]]
name = "example.test"
primary = ["127.0.0.1:{primary}"]
when_up = "relay"
"""

POSTFIX = """compatibility_level = 3.6
queue_directory = {directory}/spool
data_directory = {directory}/data
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = {name}
mydestination =
mynetworks =
alias_maps =
alias_database =
local_recipient_maps =
relay_domains = example.test
relay_recipient_maps =
smtpd_relay_restrictions = reject_unauth_destination
smtpd_client_event_limit_exceptions = 127.0.0.0/8
transport_maps = inline:{{example.test=relay:[127.0.0.1]:{primary}}}
maillog_file = {directory}/maillog
maillog_file_prefixes = {directory}
{limit}
"""
ONE_CONNECTION = "relay_destination_concurrency_limit = 1\nrelay_destination_concurrency_positive_feedback = 0"

EXIM = """exim_path = /usr/sbin/exim4
exim_user = Debian-exim
exim_group = Debian-exim
primary_hostname = {name}
spool_directory = /var/spool/exim4
log_file_path = /var/log/exim4/%slog
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
keep_environment =
host_lookup =
rfc1413_query_timeout = 0s
tls_advertise_hosts =
smtp_accept_max = 0
smtp_accept_max_per_connection = 0
smtp_connect_backlog = 1024
{extra}
acl_smtp_rcpt = rcpt
begin acl
rcpt:
  accept domains = example.test
  deny
begin routers
relay:
  driver = manualroute
  domains = example.test
  transport = remote
  route_list = * 127.0.0.1::{primary} byname
  self = send
begin transports
remote:
  driver = smtp
  allow_localhost
begin retry
* * F,2h,15m; G,16h,1h,1.5; F,4d,6h
"""

OPENSMTPD = """listen on 127.0.0.1 port {port} hostname {name}
smtp limit max-mails 10000000
action "relay" relay host "smtp://127.0.0.1:{primary}"
match from any for domain "example.test" action "relay"
"""

HARAKA_PLUGIN = """// Store and forward for the one domain.
exports.hook_rcpt = (next, connection, params) => {{
    if (params[0].host.toLowerCase() !== 'example.test') return next(DENY, 'no relay')
    connection.relaying = true
    next(OK)
}}
exports.hook_get_mx = (next, hmail, domain) => next(OK, {{ priority: 0, exchange: '127.0.0.1', port: {primary} }})
"""


class Server:
    """A server with an empty queue in a new folder; `options` are the arguments of the program that measures."""

    KEEPS_MAIL = True

    def __init__(self, directory, options):
        self.directory, self.options = pathlib.Path(directory), options
        self.port, self.primary = free_port(), free_port()
        self.group = Group(type(self).__name__.lower(), getattr(options, "weight", None))

    def __enter__(self):
        try:
            self.start()
            wait_for(lambda: greets(self.port), f"a greeting of {type(self).__name__}; see {self.directory}", START_TIMEOUT_S)
        except BaseException:
            self.group.close()
            raise
        return self

    def __exit__(self, *_):
        try:
            self.stop()
        finally:
            self.group.close()

    def address(self):
        return f"127.0.0.1:{self.port}"

    def values(self, **more):
        return {"name": NAME, "directory": self.directory, "port": self.port, "primary": self.primary} | more

    def stop(self):
        """Before what is left is killed."""

    def spool(self):
        """The folder that grows with the queue."""
        return self.directory / "spool"

    def queued(self):
        """Messages in the queue; of the null servers nothing is known."""
        return None


class Stratamx(Server):
    AUTHENTICATES = False

    def start(self):
        connections = getattr(self.options, "connections", None)
        limit = f"max_connections = {connections}" if connections else ""
        cores = f"cores = {self.options.cores}" if getattr(self.options, "cores", None) else ""
        self.config = self.directory / "stratamx.toml"
        authenticate = str(self.AUTHENTICATES).lower()
        text = STRATAMX.format(**self.values(admin=free_port(), limit=limit, cores=cores, authenticate=authenticate))
        self.config.write_text(text + getattr(self.options, "more", ""))
        self.program = self.options.bin / "stratamx"
        environment = os.environ | {"RUST_LOG": "info"}
        self.process = self.group.start(
            [self.program, "serve", "--config", self.config], self.directory / "log", env=environment
        )

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)

    def command(self, *arguments):
        command = [self.program, *arguments, "--config", self.config]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def spool(self):
        return self.directory / "data"

    def queued(self):
        return sum(domain["backlog"] for domain in json.loads(self.command("status", "--json"))["domains"])

    def flush(self, domain=DOMAIN):
        self.command("queue", "flush", domain)

    @classmethod
    def version(cls, options):
        return subprocess.run([options.bin / "stratamx", "--version"], capture_output=True, text=True).stdout.strip()


class StratamxAuthenticating(Stratamx):
    """With its default: SPF, DKIM and DMARC are asked of a name server that refuses."""

    AUTHENTICATES = True


class Null(Server):
    """null.c, one thread: the bound of what the load can push into anything."""

    KEEPS_MAIL = False
    THREADS = 1

    def start(self):
        program = build_null(self.directory.parent)
        self.group.start([program, str(self.port), str(self.THREADS)], self.directory / "log")

    @classmethod
    def version(cls, options):
        return f"null.c, {cls.THREADS} thread(s)"


class NullThreads(Null):
    """The same with a thread for each core."""

    THREADS = os.cpu_count()


class SmtpSink(Server):
    """Postfix's own sink; it reads character by character."""

    KEEPS_MAIL = False

    def start(self):
        self.group.start(["smtp-sink", "-u", "nobody", "-m", "1024", self.address(), "1024"], self.directory / "log")

    @classmethod
    def version(cls, options):
        return f"smtp-sink of Postfix {postfix_version()}"


class Postfix(Server):
    def start(self):
        self.conf = self.directory / "conf"
        for name in ("conf", "spool", "data"):
            (self.directory / name).mkdir()
        shutil.copy("/etc/postfix/master.cf.proto", self.conf / "master.cf")
        shutil.copy("/etc/postfix/dynamicmaps.cf", self.conf / "dynamicmaps.cf")
        os.chown(self.directory / "data", pwd.getpwnam("postfix").pw_uid, -1)
        self.directory.chmod(0o755)
        limit = ONE_CONNECTION if getattr(self.options, "is_line", False) else ""
        (self.conf / "main.cf").write_text(POSTFIX.format(**self.values(limit=limit)))
        self.tool("postconf", "-F", "*/*/chroot = n")
        self.tool("postconf", "-MX", "smtp/inet")
        with (self.conf / "master.cf").open("a") as master:
            master.write(f"127.0.0.1:{self.port} inet n - n - - smtpd\n")
        self.tool("postfix", "start")

    def tool(self, name, *arguments):
        return self.group.run([name, "-c", self.conf, *arguments])

    def stop(self):
        self.tool("postfix", "stop")

    def queued(self):
        queues = [self.spool() / name for name in ("incoming", "active", "deferred", "hold")]
        return sum(len(files) for queue in queues for _, _, files in os.walk(queue))

    def flush(self):
        self.tool("postqueue", "-f")

    @classmethod
    def version(cls, options):
        return f"Postfix {postfix_version()}"


class Chrooted(Server):
    """In a root of its own, of what .ci/peers unpacked."""

    def start(self):
        self.root = self.directory / "root"
        if not (PEERS / "root").exists():
            raise SystemExit(f"{PEERS}: first .ci/peers target/peers")
        subprocess.run(["cp", "-al", PEERS / "root", self.root], check=True)
        for name, minor in (("null", 3), ("urandom", 9)):
            subprocess.run(["mknod", "-m", "666", self.root / "dev" / name, "c", "1", str(minor)], check=True)
        self.configure()
        self.group.start(["chroot", self.root, *self.COMMAND], self.directory / "log")

    def write(self, name, text):
        """A new file: what is there is shared with other roots."""
        (self.root / name).unlink(missing_ok=True)
        (self.root / name).write_text(text)

    def make(self, name, owner, mode):
        (self.root / name).mkdir(parents=True, exist_ok=True)
        os.chown(self.root / name, owner, owner)
        (self.root / name).chmod(mode)

    def inside(self, *command):
        return self.group.run(["chroot", self.root, *command])

    @classmethod
    def version(cls, options):
        versions = (PEERS / "root/.versions").read_text().splitlines()
        return next((line for line in versions if line.startswith(cls.PACKAGE)), cls.PACKAGE)


class Exim(Chrooted):
    """Its default: each message is tried at once, by a process of its own."""

    COMMAND = ["/usr/sbin/exim4", "-bdf", "-q30m"]
    PACKAGE = "exim4"
    EXTRA = ""

    def configure(self):
        self.write("etc/exim4/exim4.conf", EXIM.format(**self.values(extra=self.EXTRA)))
        # Set-uid, and root's whoever unpacked it. A copy: the file is shared with other roots.
        program = self.root / "usr/sbin/exim4"
        program.unlink()
        shutil.copy(PEERS / "root/usr/sbin/exim4", program)
        program.chmod(0o4755)
        for name in ("var/spool/exim4", "var/log/exim4"):
            self.make(name, 911, 0o750)

    def spool(self):
        return self.root / "var/spool/exim4"

    def queued(self):
        return sum(name.endswith("-H") for _, _, files in os.walk(self.spool() / "input") for name in files)

    def flush(self):
        self.group.start(["chroot", self.root, "/usr/sbin/exim4", "-qff"], self.directory / "log")


class EximQueueOnly(Exim):
    """Takes and only queues, which is its fastest."""

    EXTRA = "queue_only"


class OpenSmtpd(Chrooted):
    COMMAND = ["/usr/sbin/smtpd", "-d", "-f", "/etc/relay.conf"]
    PACKAGE = "opensmtpd"

    def configure(self):
        self.write("etc/relay.conf", OPENSMTPD.format(**self.values()))
        # It looks up the name of each client, and stalls for seconds where no name server answers.
        self.write("etc/resolv.conf", "lookup file\nnameserver 127.0.0.1\n")
        self.make("var/spool/smtpd", 0, 0o711)
        self.make("var/lib/opensmtpd/empty", 0, 0o711)
        # A copy, as above: set-gid, and of the group by which it may ask the server.
        program = self.root / "usr/sbin/smtpctl"
        program.unlink()
        shutil.copy(PEERS / "root/usr/sbin/smtpctl", program)
        os.chown(program, 0, 913)
        program.chmod(0o2755)

    def spool(self):
        return self.root / "var/spool/smtpd"

    def queued(self):
        return sum(name != "message" for _, _, files in os.walk(self.spool() / "queue") for name in files)

    def flush(self):
        self.inside("/usr/sbin/smtpctl", "schedule", "all")


class Haraka(Server):
    """Its default: one process."""

    def start(self):
        program = PEERS / "npm/node_modules/Haraka"
        place = self.place = self.directory / "haraka"
        shutil.copytree(program / "config", place / "config")
        (place / "plugins").mkdir()
        (place / "queue").mkdir()
        (place / "plugins/backup_mx.js").write_text(HARAKA_PLUGIN.format(**self.values()))
        for name, text in {
            "me": NAME,
            "plugins": "backup_mx",
            "smtp.ini": f"listen=127.0.0.1:{self.port}\nnodes=0\ndaemonize=false\n",
            "log.ini": "[main]\nlevel=notice\n",
        }.items():
            (place / "config" / name).write_text(text)
        self.process = self.group.start(["node", program / "bin/haraka", "-c", place], self.directory / "log")

    def spool(self):
        return self.place / "queue"

    def queued(self):
        return sum(not name.startswith((".", "__")) for _, _, files in os.walk(self.spool()) for name in files)

    def flush(self):
        self.process.send_signal(signal.SIGHUP)

    @classmethod
    def version(cls, options):
        versions = (PEERS / "root/.versions").read_text().splitlines()
        return next((line for line in versions if line.startswith("haraka")), "haraka")


KINDS = {
    "stratamx": Stratamx,
    "stratamx-auth": StratamxAuthenticating,
    "null": Null,
    "null-threads": NullThreads,
    "smtp-sink": SmtpSink,
    "postfix": Postfix,
    "exim": Exim,
    "exim-queue-only": EximQueueOnly,
    "opensmtpd": OpenSmtpd,
    "haraka": Haraka,
}


def build_null(directory):
    """null.c, compiled once a run."""
    program = directory / "null"
    if not program.exists():
        subprocess.run(["gcc", "-O2", "-Wall", "-pthread", "-o", program, HERE / "null.c"], check=True)
    return program


def postfix_version():
    return subprocess.run(["postconf", "-h", "-d", "mail_version"], capture_output=True, text=True).stdout.strip()
