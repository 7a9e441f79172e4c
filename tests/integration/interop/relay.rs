//! Real mail servers as relays, each a private instance behind `relay.py`.

pub use super::super::harness::peers::unpacked as peers;
use super::super::harness::{PATIENCE, free_address};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// Whose server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Exim,
    OpenSmtpd,
    Postfix,
}

/// A server that runs, and ends with this value.
pub struct Relay {
    child: Child,
    pub address: SocketAddr,
}

impl Relay {
    /// Takes mail from anybody for anybody, and hands it on to `next`; through TLS or not at all, or never through it.
    pub fn start(kind: Kind, directory: &Path, next: SocketAddr, tls: bool) -> Self {
        const TRIES: usize = 3;
        let mut said = String::new();
        for number in 0..TRIES {
            // The port was free, and somebody else may have taken it since.
            match Self::try_start(kind, &directory.join(number.to_string()), next, tls) {
                Ok(relay) => return relay,
                Err(reason) => said = reason,
            }
        }
        panic!("{kind:?} did not start: {said}");
    }

    fn try_start(kind: Kind, directory: &Path, next: SocketAddr, tls: bool) -> Result<Self, String> {
        let address = free_address();
        let name = format!("{kind:?}").to_lowercase();
        let mut command = Command::new("python3");
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/interop/relay.py"));
        command.args([&name, "--listen", &address.to_string(), "--next", &next.to_string(), "--directory"]);
        command.arg(directory).arg("--root").arg(peers()).args(tls.then_some("--tls"));
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line.trim() == address.to_string() {
            return Ok(Self { child, address });
        }
        let mut said = String::new();
        let _ = child.stderr.take().unwrap().read_to_string(&mut said);
        let _ = child.wait();
        Err(said)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // The end of its standard input is its sign; where the test fails, what it wrote stays.
        let mut input = self.child.stdin.take();
        if let (true, Some(input)) = (std::thread::panicking(), &mut input) {
            let _ = input.write_all(b"keep\n");
        }
        drop(input);
        let end = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
