"""A real rspamd as a milter of a real Postfix: it tells whom it takes for the client of each message.

It runs in a root of its own, out of what .ci/peers unpacked, as `nobody`, with one module, `external_relay`, and a rule that logs. It
asks no name server and no Redis.
"""

import pathlib
import socket
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).absolute().parent.parent / "interop"))
import relay  # noqa: E402

CONFIGURATION = """\
lua = "/etc/rspamd/seen.lua";
actions {{
  reject = 1000;
}}
options {{
  pidfile = "/run/rspamd/pid";
  control_socket = "/run/rspamd/control mode=0600";
  cache_file = "/run/rspamd/symbols";
  history_file = "/run/rspamd/history";
  hs_cache_dir = "/run/rspamd";
  tempdir = "/tmp";
  url_tld = "/etc/rspamd/ends";
  filters = "";
  local_addrs = ["127.0.0.0/8"];
  dns {{
    nameserver = ["127.0.0.1:9"];
    timeout = 0.2s;
    retransmits = 1;
  }}
}}
logging {{
  type = "console";
  level = "info";
}}
worker "rspamd_proxy" {{
  bind_socket = "127.0.0.1:{port}";
  milter = yes;
  timeout = 20s;
  count = 1;
  upstream "self" {{
    default = yes;
    self_scan = yes;
  }}
}}
modules {{
  path = "/usr/share/rspamd/plugins/external_relay.lua";
}}
external_relay {{
  enabled = {relays};
  rules {{
    SECONDARY {{
      strategy = "count";
      # One field of ours: rspamd puts one of its own in front for the connection, and counts that twice.
      count = 3;
    }}
  }}
}}
"""

# Before `external_relay`, which has the highest priority of the prefilters, and behind it.
SEEN = """\
local logger = require "rspamd_logger"
local function tell(when)
  return function(task)
    local from = ((task:get_from('smtp') or {})[1] or {}).addr
    local fields = 0
    for _, field in ipairs(task:get_received_headers() or {}) do
      if not (field.flags or {}).artificial then
        fields = fields + 1
      end
    end
    logger.infox(task, 'seen %s: <%s> from %s, who says %s; %s fields of trace', when, from, task:get_from_ip(), task:get_helo(), fields)
  end
end
rspamd_config:register_symbol({ name = 'FIRST', type = 'connfilter', priority = 10, callback = tell('first') })
rspamd_config:register_symbol({ name = 'LAST', type = 'postfilter', callback = tell('last') })
"""


class Rspamd(relay.Chrooted):
    COMMAND = ["/usr/bin/rspamd", "-f", "-i", "-u", "nobody", "-g", "nogroup", "-c", "/etc/rspamd/peer.conf"]
    START_TIMEOUT_S = 30

    def __init__(self, directory, options):
        directory.mkdir(exist_ok=True)
        self.port, self.takes_received = options.rspamd, options.external_relay
        super().__init__(directory, options)
        deadline = time.monotonic() + self.START_TIMEOUT_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
                return
            except OSError as error:
                if not self.is_alive() or time.monotonic() > deadline:
                    sys.exit(f"rspamd.py: it does not start: {error}\n{self.log()}")
            time.sleep(0.05)

    def configure(self, known, tls):
        relays = "true" if self.takes_received else "false"
        self.write("etc/rspamd/peer.conf", CONFIGURATION.format(port=self.port, relays=relays))
        self.write("etc/rspamd/seen.lua", SEEN)
        # Of the ends of names only those that are used: its own list takes a while.
        self.write("etc/rspamd/ends", "test\nexample\norg\n")
        self.make("run/rspamd", "65534:65534", "755")
        self.make("tmp", "0:0", "1777")

    @staticmethod
    def LOGS(root):
        return []
