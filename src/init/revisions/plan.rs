//! How a change of the configuration comes into force, and whether it may cut off who makes it. Pure.

use super::super::revision::{Files, MACHINE_FILE, SERVER_FILE};
use super::super::settings::Settings;
use crate::config::{AdminTls, Config};
use crate::update::configuration::Effect;
use std::path::Path;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) effect: Effect,
    /// It has to be confirmed, where nobody says that it has not.
    pub(super) is_risky: bool,
}

/// From one set of files to another, which was checked. One that cannot be read any more is as different as can be.
pub(super) fn plan(before: &Files, after: &Files) -> Plan {
    if before == after {
        return Plan { effect: Effect::Nothing, is_risky: false };
    }
    let machine = machine(before) != machine(after);
    let (Some(old), Some(new)) = (server(before), server(after)) else {
        return Plan { effect: Effect::RestartMachine, is_risky: true };
    };
    let is_start = old.keys_that_need_a_start(&new).next().is_some();
    let effect = match (machine, is_start) {
        (true, _) => Effect::RestartMachine,
        (false, true) => Effect::RestartServer,
        (false, false) => Effect::Reload,
    };
    let is_other = |name: &Path| {
        let name = name.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        before.get(name) != after.get(name)
    };
    let is_admin = old.admin != new.admin || files_of_admin(&new).any(is_other);
    Plan { effect, is_risky: effect > Effect::Reload || is_admin }
}

fn machine(files: &Files) -> Option<Settings> {
    match files.get(MACHINE_FILE) {
        Some(text) => Settings::parse(&String::from_utf8_lossy(text)).ok(),
        None => Some(Settings::default()),
    }
}

fn server(files: &Files) -> Option<Config> {
    Config::parse(core::str::from_utf8(files.get(SERVER_FILE)?).ok()?, SERVER_FILE).ok()
}

/// By which the operator is let in.
fn files_of_admin(config: &Config) -> impl Iterator<Item = &Path> {
    let tls = match &config.admin.tls {
        AdminTls::Files(files) => vec![files.cert.as_path(), files.key.as_path()],
        AdminTls::None | AdminTls::Own => Vec::new(),
    };
    tls.into_iter().chain(config.admin.token_file.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "hostname = \"mx2.test\"\npostmaster = \"p@a.test\"\n[smtp]\nlisten = [\"0.0.0.0:25\"]\n[admin]\n\
        listen = \"0.0.0.0:8025\"\ntoken_file = \"token\"\n[[domain]]\nname = \"a.test\"\nprimary = [\"192.0.2.1\"]\n";

    fn files(server: &str, machine: &str) -> Files {
        let pairs = [(SERVER_FILE, server), (MACHINE_FILE, machine), ("token", "t"), ("list", "a@a.test")];
        pairs.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())).into()
    }

    #[test]
    fn the_least_that_puts_it_in_force() {
        let before = files(SERVER, "[clock]\nservers = []\n");
        let of = |after: &Files| {
            let Plan { effect, is_risky } = plan(&before, after);
            (effect, is_risky)
        };
        assert_eq!(of(&before), (Effect::Nothing, false));
        for (from, to, effect, is_risky) in [
            ("mx2.test", "mx3.test", Effect::Reload, false),
            ("192.0.2.1", "192.0.2.2", Effect::Reload, false),
            ("hostname", "# a comment\nhostname", Effect::Reload, false),
            ("0.0.0.0:25", "0.0.0.0:26", Effect::RestartServer, true),
            ("hostname", "cores = 1\nhostname", Effect::RestartServer, true),
            ("8025", "8026", Effect::RestartServer, true),
            ("0.0.0.0:8025", "", Effect::RestartServer, true),
            ("\"token\"", "\"other\"", Effect::Reload, true),
            ("[admin]", "[admin]\nalert_after = \"5m\"", Effect::Reload, true),
        ] {
            let after = files(&SERVER.replace(from, to), "[clock]\nservers = []\n");
            assert_eq!(of(&after), (effect, is_risky), "{from} -> {to}");
        }
        for (machine, effect) in [
            ("# none\n[clock]\nservers = []\n", Effect::Reload),
            ("[clock]\nservers = []\n[network]\nvlan = 5\n", Effect::RestartMachine),
            ("[clock]\nservers = [\"a.test\"]\n", Effect::RestartMachine),
        ] {
            let after = files(SERVER, machine);
            assert_eq!(of(&after), (effect, effect == Effect::RestartMachine), "{machine}");
        }
        let mut after = before.clone();
        after.insert("list".to_owned(), b"b@a.test".to_vec());
        assert_eq!(of(&after), (Effect::Reload, false));
        after.insert("token".to_owned(), b"u".to_vec());
        assert_eq!(of(&after), (Effect::Reload, true), "who has the old one is let in no more");
        after.remove(MACHINE_FILE);
        assert_eq!(of(&after), (Effect::RestartMachine, true));
    }
}
