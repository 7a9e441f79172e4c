//! What somebody at a console can do: look at the machine, give it a name and a network, make a new administrator's token, open the keys of mail at rest and change
//! what opens them, reset it, end it.
//!
//! A machine without I/O: octets, `now` and what is known of the machine in; text and actions out. Whoever feeds it writes the texts to the console
//! that the octets came from and does the actions. While a secret is typed, terminals hide it; a log of the line has it.
//!
//! # Promises
//! - Each change is asked for once more: `yes`, and a word of its own for what cannot be undone. Anything else changes nothing.
//! - What is wrong is said in words, and the question stands again.
//! - Log lines may be written across it at any time: Enter alone draws it again, in whatever question it is.
//! - A line that was cut off by a bound ([`MENU_LINE_OCTETS_MAX`]) is not understood as its beginning. After [`MENU_ERRORS_MAX`] lines in a row that were
//!   not understood it is deaf for [`MENU_PAUSE`]: a peer that echoes what it is sent would talk to it for ever.
//!
//! It knows nobody: whoever has the cable has the machine, as with its power switch. `[console] menu = false` leaves it out.

use super::settings::{Network, is_address};
use crate::limits::{MACHINE_ADDRESSES_MAX, MENU_ERRORS_MAX, MENU_LINE_OCTETS_MAX, MENU_PAUSE};
use core::fmt::Write as _;
use core::mem;
use core::net::IpAddr;
use std::time::Instant;

/// What the machine is to do; it has been confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    HostName(String),
    /// Its interface is whichever is in force.
    Network(Network),
    NewToken,
    /// Of mail at rest, set or changed.
    Passphrase(String),
    PowerOff,
    RecoveryKey,
    Reset(Reset),
    Restart,
    /// By a passphrase or a recovery key.
    Unlock(String),
}

/// What a factory reset leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reset {
    KeepMail,
    WipeMail,
}

/// What comes out, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Output {
    Do(Action),
    /// Whether what is typed is shown, from here on.
    Echo(bool),
    /// Lines end with LF.
    Text(String),
}

/// What is known of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) host_name: String,
    /// A sentence on how it is reached: addresses, URLs.
    pub(super) addresses: Vec<String>,
    pub(super) admin: Vec<String>,
    pub(super) server: String,
    pub(super) mail: String,
    /// The health of its disk.
    pub(super) disk: String,
    pub(super) at_rest: AtRest,
    /// The last update that stayed.
    pub(super) update: String,
    /// The revision in force, while it is on probation.
    pub(super) probation: String,
    /// Nothing is served: only how the machine ends can be chosen.
    pub(super) is_refused: bool,
    /// Configuration files that the hypervisor gives again at each start: a change here would not last.
    pub(super) fixed: Vec<String>,
}

/// The keys of mail at rest, as far as somebody can do something about them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum AtRest {
    Locked,
    #[default]
    Nothing,
    Open,
    Unset,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Menu {
    screen: Screen,
    line: Vec<u8>,
    /// The line is longer than a line may be.
    is_overlong: bool,
    /// Lines in a row that were not understood.
    wrong: u32,
    deaf_until: Option<Instant>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Screen {
    /// Enter opens it.
    #[default]
    Closed,
    Main,
    HostName,
    /// DHCP or static.
    NetworkKind,
    Vlan(Network, Kind),
    Addresses(Network),
    Gateways(Network),
    NameServers(Network),
    Passphrase,
    PassphraseAgain(String),
    ResetKind,
    Unlock,
    /// The word that confirms it.
    Confirm(Action, &'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Dhcp,
    Static,
}

/// What an answer leads to; or why it is none.
type Answer = Result<Next, String>;

enum Next {
    Ask(Screen),
    Do(Action),
}

impl Menu {
    /// Octets of the console. Lines end with CR or LF, or both.
    pub(super) fn feed(&mut self, octets: &[u8], now: Instant, facts: &Facts) -> Vec<Output> {
        let mut out = Vec::new();
        for octet in octets {
            if self.deaf_until.is_some_and(|until| now < until) {
                break;
            }
            match octet {
                b'\r' | b'\n' => {
                    let line = mem::take(&mut self.line);
                    let is_overlong = mem::take(&mut self.is_overlong);
                    let text = core::str::from_utf8(&line).unwrap_or("\u{fffd}").trim();
                    let answer = if is_overlong {
                        Err("That line is too long.".to_owned())
                    } else if text.chars().any(|c| !c.is_ascii_graphic() && c != ' ') {
                        Err("Only letters, digits and signs are understood.".to_owned())
                    } else {
                        self.answer(text, facts)
                    };
                    if !text.is_empty() && answer.is_ok() {
                        self.wrong = 0;
                    }
                    let (was_secret, mut told) = (self.screen.is_secret(), Vec::new());
                    self.go_on(answer, now, facts, &mut told);
                    if was_secret && !self.screen.is_secret() {
                        out.push(Output::Echo(true));
                    }
                    out.extend(told);
                    if !was_secret && self.screen.is_secret() {
                        out.push(Output::Echo(false));
                    }
                }
                _ if self.line.len() >= MENU_LINE_OCTETS_MAX => self.is_overlong = true,
                octet => self.line.push(*octet),
            }
        }
        out
    }

    fn go_on(&mut self, answer: Answer, now: Instant, facts: &Facts, out: &mut Vec<Output>) {
        match answer {
            Ok(Next::Ask(screen)) => {
                self.screen = screen;
                out.push(Output::Text(self.drawn(facts)));
            }
            Ok(Next::Do(action)) => {
                *self = Self::default();
                out.push(Output::Do(action));
            }
            Err(error) => {
                self.wrong += 1;
                if self.wrong >= MENU_ERRORS_MAX {
                    *self = Self { deaf_until: Some(now + MENU_PAUSE), ..Self::default() };
                    let seconds = MENU_PAUSE.as_secs();
                    out.push(Output::Text(format!("{error}\nNothing is read for {seconds} s.\n")));
                } else {
                    out.push(Output::Text(format!("{error}\n{}", self.question())));
                }
            }
        }
    }

    /// What a line means in the question that stands.
    fn answer(&mut self, text: &str, facts: &Facts) -> Answer {
        if self.screen == Screen::Closed && !text.is_empty() {
            return Err("Enter alone opens the menu.".to_owned());
        }
        if text.is_empty() && self.screen != Screen::Closed {
            return Ok(Next::Ask(mem::take(&mut self.screen)));
        }
        if text == "back" || self.screen == Screen::Closed {
            return Ok(Next::Ask(Screen::Main));
        }
        Ok(match &self.screen {
            Screen::Closed | Screen::Main => return choice(text, facts),
            Screen::HostName if is_host_name(text) => confirm(Action::HostName(text.to_ascii_lowercase())),
            Screen::HostName => {
                return Err(format!("{text} is not a host name, as in mx2.example.com."));
            }
            Screen::NetworkKind => match text {
                "1" => Next::Ask(Screen::Vlan(Network::default(), Kind::Dhcp)),
                "2" => Next::Ask(Screen::Vlan(Network::default(), Kind::Static)),
                _ => return Err("That is neither 1 nor 2.".to_owned()),
            },
            Screen::Vlan(network, kind) => {
                let vlan = read_vlan(text)?;
                let network = Network { vlan, ..network.clone() };
                match kind {
                    Kind::Dhcp => confirm(Action::Network(network)),
                    Kind::Static => Next::Ask(Screen::Addresses(network)),
                }
            }
            Screen::Addresses(network) => {
                let address = read_addresses(text)?;
                Next::Ask(Screen::Gateways(Network { address, ..network.clone() }))
            }
            Screen::Gateways(network) => {
                Next::Ask(Screen::NameServers(Network { gateway: read_list(text)?, ..network.clone() }))
            }
            Screen::NameServers(network) => {
                confirm(Action::Network(Network { nameservers: read_list(text)?, ..network.clone() }))
            }
            Screen::Passphrase => Next::Ask(Screen::PassphraseAgain(text.to_owned())),
            Screen::PassphraseAgain(first) if text == first => Next::Do(Action::Passphrase(text.to_owned())),
            Screen::PassphraseAgain(_) => return Err("That is another one. Nothing was changed.".to_owned()),
            Screen::Unlock => Next::Do(Action::Unlock(text.to_owned())),
            Screen::ResetKind => match text {
                "1" => confirm(Action::Reset(Reset::KeepMail)),
                "2" => confirm(Action::Reset(Reset::WipeMail)),
                _ => return Err("That is neither 1 nor 2.".to_owned()),
            },
            Screen::Confirm(action, word) if text == *word => Next::Do(action.clone()),
            Screen::Confirm(..) => return Err("Nothing was changed.".to_owned()),
        })
    }

    /// The machine, if nothing else is asked, and the question.
    fn drawn(&self, facts: &Facts) -> String {
        if self.screen != Screen::Main {
            return self.question();
        }
        let mut text = format!("\nStrataMX {}  {}\n", env!("CARGO_PKG_VERSION"), facts.host_name);
        for (name, values) in [
            ("address", facts.addresses.as_slice()),
            ("admin API", &facts.admin),
            ("server", core::slice::from_ref(&facts.server)),
            ("mail", core::slice::from_ref(&facts.mail)),
            ("disk", core::slice::from_ref(&facts.disk)),
            ("update", core::slice::from_ref(&facts.update)),
            ("probation", core::slice::from_ref(&facts.probation)),
        ] {
            for value in values.iter().filter(|value| !value.is_empty()) {
                let _ = writeln!(text, "  {name:<10}{value}");
            }
        }
        if !facts.is_refused {
            text.push_str("  1 host name   2 network   3 new administrator's token   4 factory reset\n");
        }
        text.push_str("  5 restart     6 power off");
        text.push_str(match facts.at_rest {
            AtRest::Locked => "   7 unlock, by passphrase or recovery key\n",
            AtRest::Nothing => "\n",
            AtRest::Open => "   7 passphrase of mail at rest   8 new recovery key\n",
            AtRest::Unset => "   7 first passphrase of mail at rest\n",
        });
        text + &self.question()
    }

    fn question(&self) -> String {
        match &self.screen {
            Screen::Closed => String::new(),
            Screen::Main => "Number: ".to_owned(),
            Screen::HostName => "Host name, as senders see it (or back): ".to_owned(),
            Screen::NetworkKind => "1 DHCP   2 static addresses (or back): ".to_owned(),
            Screen::Vlan(..) => "VLAN, 1 to 4094 (or none, or back): ".to_owned(),
            Screen::Addresses(_) => {
                "Addresses with prefix lengths, as in 192.0.2.5/24 2001:db8::5/64 (or back): ".to_owned()
            }
            Screen::Gateways(_) => "Gateways (or none, or back): ".to_owned(),
            Screen::NameServers(_) => "Name servers (or none, or back): ".to_owned(),
            Screen::Passphrase => "New passphrase (or back): ".to_owned(),
            Screen::PassphraseAgain(_) => "Once more (or back): ".to_owned(),
            Screen::Unlock => "Passphrase or recovery key (or back): ".to_owned(),
            Screen::ResetKind => "A factory reset forgets configuration, domains of the API, and tokens.\n\
                 1 and keeps the mail   2 and wipes the mail (or back): "
                .to_owned(),
            Screen::Confirm(action, word) => format!("{}\nType {word} to do it (or back): ", told(action)),
        }
    }
}

impl Screen {
    /// What is typed is nobody else's business.
    const fn is_secret(&self) -> bool {
        matches!(self, Self::Passphrase | Self::PassphraseAgain(_) | Self::Unlock)
    }
}

/// What stands in the menu.
fn choice(text: &str, facts: &Facts) -> Answer {
    let fixed = |file: &str| facts.fixed.iter().any(|fixed| fixed == file);
    let theirs = |file: &str| Err(format!("The hypervisor gives {file} at each start: change it there."));
    Ok(match text {
        "5" => confirm(Action::Restart),
        "6" => confirm(Action::PowerOff),
        "1" | "2" | "3" | "4" | "7" | "8" if facts.is_refused => {
            return Err("That can only be done while the data partition is there.".to_owned());
        }
        "1" if fixed("stratamx.toml") => return theirs("stratamx.toml"),
        "1" => Next::Ask(Screen::HostName),
        "2" if fixed("appliance.toml") => return theirs("appliance.toml"),
        "2" => Next::Ask(Screen::NetworkKind),
        "3" => confirm(Action::NewToken),
        "4" => Next::Ask(Screen::ResetKind),
        "7" if facts.at_rest == AtRest::Locked => Next::Ask(Screen::Unlock),
        "7" if facts.at_rest != AtRest::Nothing => Next::Ask(Screen::Passphrase),
        "8" if facts.at_rest == AtRest::Open => confirm(Action::RecoveryKey),
        _ => return Err("That is not one of the numbers.".to_owned()),
    })
}

fn confirm(action: Action) -> Next {
    let word = match action {
        Action::Reset(Reset::KeepMail) => "reset",
        Action::Reset(Reset::WipeMail) => "wipe",
        _ => "yes",
    };
    Next::Ask(Screen::Confirm(action, word))
}

/// What is about to be done.
fn told(action: &Action) -> String {
    match action {
        Action::HostName(name) => format!("The host name becomes {name}, and the machine restarts."),
        Action::Network(network) => format!("The network becomes {}; the machine restarts.", shown(network)),
        Action::NewToken => {
            "The first administrator's token ends, and a new one is shown here, once.".to_owned()
        }
        Action::Passphrase(_) => "The passphrase of mail at rest is set.".to_owned(),
        Action::PowerOff => "The machine takes leave of its clients and switches off.".to_owned(),
        Action::RecoveryKey => {
            "The recovery key opens nothing any more, and a new one is shown here, once.".to_owned()
        }
        Action::Reset(Reset::KeepMail) => {
            "All configuration goes; mail stays, and is held until its domain is configured again.".to_owned()
        }
        Action::Reset(Reset::WipeMail) => "All configuration AND ALL MAIL go, for good.".to_owned(),
        Action::Restart => "The machine takes leave of its clients and restarts.".to_owned(),
        Action::Unlock(_) => "The keys of mail at rest are opened.".to_owned(),
    }
}

fn shown(network: &Network) -> String {
    let list = |name: &str, values: &[IpAddr]| {
        let values: Vec<String> = values.iter().map(ToString::to_string).collect();
        if values.is_empty() { String::new() } else { format!(", {name} {}", values.join(" ")) }
    };
    let mut text = if network.address.is_empty() { "DHCP".to_owned() } else { network.address.join(" ") };
    text += &list("by", &network.gateway);
    text += &list("names asked of", &network.nameservers);
    text + &network.vlan.map_or(String::new(), |vlan| format!(", VLAN {vlan}"))
}

fn read_vlan(text: &str) -> Result<Option<u16>, String> {
    if text == "none" {
        return Ok(None);
    }
    let vlan = text.parse().ok().filter(|vlan| (1..=4094).contains(vlan));
    vlan.map(Some).ok_or_else(|| format!("{text} is not between 1 and 4094."))
}

fn read_addresses(text: &str) -> Result<Vec<String>, String> {
    let addresses: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    if addresses.len() > MACHINE_ADDRESSES_MAX {
        return Err(format!("There may be {MACHINE_ADDRESSES_MAX}."));
    }
    match addresses.iter().find(|address| !is_address(address)) {
        Some(wrong) => Err(format!("{wrong} is not an address with its prefix length, as in 192.0.2.5/24.")),
        None => Ok(addresses),
    }
}

fn read_list(text: &str) -> Result<Vec<IpAddr>, String> {
    if text == "none" {
        return Ok(Vec::new());
    }
    let addresses: Result<Vec<IpAddr>, String> = text
        .split_whitespace()
        .map(|word| word.parse().map_err(|_| format!("{word} is not an address, as in 192.0.2.1.")))
        .collect();
    match addresses? {
        many if many.len() > MACHINE_ADDRESSES_MAX => Err(format!("There may be {MACHINE_ADDRESSES_MAX}.")),
        addresses => Ok(addresses),
    }
}

/// A name of two labels or more, which goes into quotes as it is. The configuration's own check has the last word.
fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    text.len() <= MENU_LINE_OCTETS_MAX && text.contains('.') && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests;
