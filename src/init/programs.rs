//! The programs that PID 1 keeps running, and what they are started with.

use super::console::say;
use super::program::Program;
use super::revision::{CURRENT, SERVER_FILE};
use super::syslog::Source;
use super::update::SelfTest;
use super::{CONFIGURATION, SERVER, SERVER_USER, network, settings, wait_until};
use crate::limits::DEVICE_PATIENCE;
use crate::update::at_rest::KEYS_VARIABLE;
use crate::update::configuration::DIRECTORY_VARIABLE;
use crate::update::{SOCKET, SOCKET_VARIABLE, TRIAL_VARIABLE};
use std::path::{Path, PathBuf};

/// The server, which works in the directory of its configuration, and follows the link to it at a reload.
pub(super) fn server(directory: &Path, keys: Option<String>) -> Program {
    let own =
        std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/bin/stratamx")).display().to_string();
    let arguments = vec![own, "serve".to_owned(), "--config".to_owned(), SERVER_FILE.to_owned()];
    let mut server = Program::new(SERVER, arguments, Some(SERVER_USER), directory.to_owned());
    let current = Path::new(CONFIGURATION).join(CURRENT).display().to_string();
    server.environment = vec![
        (SOCKET_VARIABLE, SOCKET.to_owned()),
        (TRIAL_VARIABLE, SelfTest::configuration()),
        (DIRECTORY_VARIABLE, current),
    ];
    server.environment.extend(keys.map(|keys| (KEYS_VARIABLE, keys)));
    server.source = Some(Source::Server);
    server
}

/// Who asks for addresses.
pub(super) fn network_program(arguments: Vec<String>) -> Program {
    Program::new("DHCP", arguments, None, PathBuf::from("/"))
}

/// Brings the network up; without one the machine still keeps what it has.
pub(super) fn start_network(network: &settings::Network) -> Option<Vec<String>> {
    wait_until(DEVICE_PATIENCE, || network::interface(network).is_some());
    let Some(interface) = network::interface(network) else {
        say("there is no network interface");
        return None;
    };
    network::start(network, &interface).unwrap_or_else(|error| {
        say(&format!("network: {error}"));
        None
    })
}
