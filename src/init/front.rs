//! Who stands in front of the machine: what the menu shows him, and what it does to the machine.
//!
//! A changed configuration is a revision like any other, checked by the server before it is in force, and comes into force by a restart: a
//! network that does not work is mended where it was made, at the console. A new token is in force at once.

use super::console;
use super::disk::DATA;
use super::intake::{self, Configured};
use super::menu::{Action, AtRest, Facts, Menu, Output};
use super::network;
use super::reset;
use super::revision::{MACHINE_FILE, SERVER_FILE};
use super::settings::Network;
use super::tool::{self, write_for};
use super::{Machine, SERVER, SERVER_USER, STATE, TOKEN_TOLD};
use crate::update::at_rest::{Secret, State};
use crate::update::machine::Disk;
use core::fmt::Write as _;
use core::net::SocketAddr;
use ring::rand::{SecureRandom as _, SystemRandom};
use rustix::process::Signal;
use rustix::system::RebootCommand;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A menu for each console that somebody typed at.
#[derive(Debug, Default)]
pub(super) struct Front {
    menus: BTreeMap<String, Menu>,
}

/// What became of an action.
enum Done {
    End(RebootCommand),
    Told(String),
}

/// Random octets of a token, and what it begins with: as the server makes them.
const TOKEN_OCTETS: usize = 32;
const TOKEN_PREFIX: &str = "smx_";

impl Front {
    /// What was typed, on a machine that serves nothing: how it is to end, if so.
    pub(super) fn typed_refused(&mut self, console: &str, octets: &[u8], why: &str) -> Option<RebootCommand> {
        let server = format!("REFUSED: {why}");
        let facts = Facts { server, is_refused: true, ..Facts::default() };
        for output in self.feed(console, octets, &facts) {
            match output {
                Output::Do(Action::Restart) => return Some(RebootCommand::Restart),
                Output::Do(Action::PowerOff) => return Some(RebootCommand::PowerOff),
                Output::Do(_) | Output::Echo(_) => {}
                Output::Text(text) => console::write(console, &text),
            }
        }
        None
    }

    fn feed(&mut self, console: &str, octets: &[u8], facts: &Facts) -> Vec<Output> {
        self.menus.entry(console.to_owned()).or_default().feed(octets, Instant::now(), facts)
    }
}

impl Machine {
    /// What was typed at a console: how the machine is to end, if so.
    pub(super) fn typed(&mut self, console: &str, octets: &[u8]) -> Option<RebootCommand> {
        if !self.settings.console.menu {
            return None;
        }
        let facts = self.facts();
        for output in self.front.feed(console, octets, &facts) {
            match output {
                Output::Echo(is_shown) => console::echo(console, is_shown),
                Output::Text(text) => console::write(console, &text),
                Output::Do(action) => match self.act(action) {
                    Ok(Done::End(ending)) => return Some(ending),
                    Ok(Done::Told(text)) => console::write(console, &format!("{text}\n")),
                    Err(error) => console::write(console, &format!("Nothing was changed: {error}\n")),
                },
            }
        }
        None
    }

    /// Where the machine can be reached, for who stands in front of it.
    pub(super) fn introduce(&self) {
        let addresses = network::addresses();
        if addresses.is_empty() {
            console::say("no address yet");
        }
        for address in addresses {
            console::say(&format!("address {address}"));
        }
    }

    /// How the machine is reached, and what has to be configured still. A token that the server made is told once, to who stands here only.
    pub(super) fn invite(&self) {
        if self.config.admin.listen.is_none() {
            return;
        }
        if self.configured == Configured::Nothing {
            console::say(
                "nothing is configured: put stratamx.toml on the partition STRATAMX and restart, or use the admin API",
            );
            if self.settings.console.menu {
                console::say("Enter on this console opens a menu: host name, network, token");
            }
        }
        self.tell_admin();
        if self.config.admin.token_file.is_some() || Path::new(TOKEN_TOLD).exists() {
            return;
        }
        match fs::read_to_string(self.token_file()) {
            Ok(token) => {
                console::show(&format!("the first administrator's token, told this once: {}", token.trim()));
                let _ = tool::write_durably(Path::new(STATE), "token-told", b"", 0o600);
            }
            Err(error) => console::say(&format!("the first administrator's token: {error}")),
        }
    }

    /// Where the API is, if it is not where the configuration says.
    pub(super) fn tell_admin(&self) {
        let Some(listen) = self.config.admin.listen.filter(|listen| listen.ip().is_unspecified()) else {
            return;
        };
        for address in network::addresses() {
            console::say(&format!("admin API: {}", self.admin_url(SocketAddr::new(address, listen.port()))));
        }
    }

    /// How a locked machine is opened.
    pub(super) fn tell_unlocking(&self) {
        if self.settings.console.menu {
            console::say(
                "Enter on this console opens a menu that asks for the passphrase or the recovery key",
            );
        }
        if self.config.admin.listen.is_some() {
            let command = match self.at_rest.status().state {
                State::Unset => "stratamx at-rest passphrase",
                _ => "stratamx unlock",
            };
            console::say(&format!("or, from any machine, with an administrator's token: {command}"));
        }
    }

    fn facts(&self) -> Facts {
        let addresses = network::addresses();
        let admin = self.config.admin.listen.map(|listen| {
            let reached = addresses.iter().filter(|_| listen.ip().is_unspecified()).copied();
            let reached: Vec<_> =
                if listen.ip().is_unspecified() { reached.collect() } else { vec![listen.ip()] };
            reached.into_iter().map(|ip| self.admin_url(SocketAddr::new(ip, listen.port()))).collect()
        });
        let locked = self.at_rest.locked();
        let server = self.programs.iter().find(|program| program.name == SERVER);
        let server = match server.map(|server| server.is_running()) {
            _ if locked.is_some() => "is LOCKED",
            Some(true) if self.is_hearing => "takes mail",
            Some(true) => "is starting",
            _ => "is not running; it is started again",
        };
        Facts {
            host_name: self.config.hostname.clone(),
            addresses: if addresses.is_empty() {
                vec!["none yet".to_owned()]
            } else {
                addresses.iter().map(ToString::to_string).collect()
            },
            admin: admin.unwrap_or_default(),
            server: locked.map_or_else(|| server.to_owned(), |why| format!("{server}: {why}")),
            mail: used(Path::new(DATA)).unwrap_or_else(|error| error),
            at_rest: match self.at_rest.status().state {
                State::Locked => AtRest::Locked,
                State::Open => AtRest::Open,
                State::Unset => AtRest::Unset,
                State::Own | State::Plain => AtRest::Nothing,
            },
            disk: told(&self.health.disk()),
            update: self.updates.last_good(),
            probation: self.revisions.waiting().unwrap_or_default(),
            is_refused: false,
            fixed: self.fixed.clone(),
        }
    }

    fn act(&mut self, action: Action) -> Result<Done, String> {
        match action {
            Action::HostName(_) | Action::Network(_) if self.on_trial.is_some() => {
                Err("a new version is on trial: what it would write the one before might not read".to_owned())
            }
            Action::HostName(_) | Action::Network(_) if let Some(why) = self.restores.busy() => Err(why),
            Action::HostName(name) => {
                let text = fs::read_to_string(self.directory.join(SERVER_FILE));
                let text = text.map_err(|error| format!("{SERVER_FILE}: {error}"))?;
                let text = intake::with_host_name(&text, &name)?;
                self.revisions.change_at_console(SERVER_FILE, text)?;
                console::say(&format!("the host name was made {name} at the console"));
                Ok(Done::End(RebootCommand::Restart))
            }
            Action::Network(network) => {
                let mut settings = self.settings.clone();
                settings.network = Network { interface: settings.network.interface, ..network };
                let text = toml::to_string(&settings).map_err(|error| error.to_string())?;
                self.revisions.change_at_console(MACHINE_FILE, text)?;
                console::say("the network was changed at the console");
                Ok(Done::End(RebootCommand::Restart))
            }
            Action::NewToken => self.renew_token().map(Done::Told),
            Action::Passphrase(passphrase) => {
                let recovery = self.at_rest.set_passphrase(&passphrase)?;
                Ok(Done::Told(recovery.map_or_else(|| "The passphrase is set.".to_owned(), recovery_told)))
            }
            Action::RecoveryKey => self.at_rest.renew_recovery_key().map(recovery_told).map(Done::Told),
            Action::Unlock(secret) => {
                self.at_rest.unlock(&secret, Instant::now())?;
                Ok(Done::Told("The keys are open; the server takes mail soon.".to_owned()))
            }
            Action::PowerOff => Ok(Done::End(RebootCommand::PowerOff)),
            Action::Reset(_) if self.on_trial.is_some() => {
                Err("a new version is on trial: once it has proven itself, or the one before is back"
                    .to_owned())
            }
            Action::Reset(what) => {
                reset::order(Path::new(DATA), what)?;
                console::say("a factory reset was ordered at the console");
                Ok(Done::End(RebootCommand::Restart))
            }
            Action::Restart => Ok(Done::End(RebootCommand::Restart)),
        }
    }

    /// Where the first administrator's token is.
    pub(super) fn token_file(&self) -> PathBuf {
        // The server works in the directory of its configuration.
        self.directory.join(self.config.admin.token_file(&self.data_dir))
    }

    pub(super) fn admin_url(&self, address: SocketAddr) -> String {
        let scheme = match self.config.admin.tls {
            crate::config::AdminTls::None => "http",
            _ => "https",
        };
        format!("{scheme}://{address}")
    }

    /// The old one ends, also where it is a file of the configuration.
    fn renew_token(&mut self) -> Result<String, String> {
        if self.config.admin.listen.is_none() {
            return Err("the configuration has no admin API ([admin] listen)".to_owned());
        }
        let path = self.token_file();
        let named = |error: &dyn core::fmt::Display| format!("{}: {error}", path.display());
        let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| named(&"no file"))?;
        if self.fixed.iter().any(|fixed| fixed == name) {
            return Err(format!("the hypervisor gives {name} at each start: change it there"));
        }
        let directory = path.parent().ok_or_else(|| named(&"no file"))?;
        self.volume.prove(directory)?;
        let token = token()?;
        let text = format!("{token}\n");
        write_for(directory, name, text.as_bytes(), 0o600, Some(SERVER_USER))
            .map_err(|error| named(&error))?;
        if self.is_hearing {
            self.programs.iter().filter(|program| program.name == SERVER).for_each(|server| {
                server.signal(Signal::HUP);
            });
        } else if self.at_rest.locked().is_some() {
            // It serves its API alone, and reads the token when it starts.
            self.start_server_again();
        }
        let told = Path::new(TOKEN_TOLD).file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let _ = tool::write_durably(Path::new(STATE), told, b"", 0o600);
        console::say("a new administrator's token was made at the console");
        Ok(format!("The new administrator's token, shown this once: {token}"))
    }
}

fn recovery_told(key: Secret) -> String {
    format!("The recovery key, shown this once: {}", key.0)
}

fn token() -> Result<String, String> {
    let mut random = [0; TOKEN_OCTETS];
    SystemRandom::new().fill(&mut random).map_err(|_| "no random octets can be had".to_owned())?;
    let mut token = TOKEN_PREFIX.to_owned();
    for octet in random {
        let _ = write!(token, "{octet:02x}");
    }
    Ok(token)
}

/// A disk in a line.
fn told(disk: &Disk) -> String {
    let model = disk.model.iter().map(|model| format!(" ({model})")).collect::<String>();
    let why = disk.findings.first().map(|finding| format!(": {finding}")).unwrap_or_default();
    format!("{}{model} is {}{why}", disk.device, disk.state.word())
}

/// How full a file system is.
fn used(place: &Path) -> Result<String, String> {
    let status = rustix::fs::statvfs(place).map_err(|error| format!("{}: {error}", place.display()))?;
    let octets = |blocks: u64| blocks.saturating_mul(status.f_frsize);
    Ok(format!("{} free of {}", gib(octets(status.f_bavail)), gib(octets(status.f_blocks))))
}

fn gib(octets: u64) -> String {
    let tenths = octets / ((1 << 30) / 10);
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_that_the_server_takes() {
        let (one, other) = (token().unwrap(), token().unwrap());
        assert!(one != other && one.starts_with("smx_") && one.len() == 68, "{one}");
        assert!(one.len() >= crate::limits::ADMIN_TOKEN_CHARACTERS_MIN);
        assert!(one[4..].chars().all(|c| c.is_ascii_hexdigit()));
    }

    #[test]
    fn sizes_are_for_people() {
        assert_eq!(gib(0), "0.0 GiB");
        assert_eq!(gib((3 << 30) + (1 << 29)), "3.5 GiB");
    }
}
