//! The proof of a new version: it takes a message, keeps it while nobody takes it, and hands it over.
//!
//! PID 1 is both the sender and the mail server of one domain, [`DOMAIN`], which the server protects for as long as the trial lasts
//! ([`crate::update::TRIAL_VARIABLE`]): its one recipient is a secret of this start, so nobody else has mail for it. Everything is asked by SMTP, as anybody would:
//! 1. the message is sent, and taken by 250: the log is open, and the record durable;
//! 2. ETRN says that it waits, since nobody listens where it is to go;
//! 3. PID 1 listens there, and gets it;
//! 4. ETRN says that nothing waits: that it was handed over is a fact of the journal.

use super::super::tool::write_durably;
use crate::limits::{SELF_TEST_LINE_OCTETS_MAX, SELF_TEST_PATIENCE, SELF_TEST_REPLY_PATIENCE};
use core::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use core::time::Duration;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Builder;
use std::time::Instant;

/// Nobody can have it (RFC 2606).
const DOMAIN: &str = "self-test.invalid";
/// Where both files are, which the server reads.
const DIRECTORY: &str = "/run/stratamx";
const CONFIGURATION: &str = "trial.toml";
const RECIPIENTS: &str = "trial-recipients";
const SECRET_OCTETS: usize = 16;
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(500);
const LISTEN_BACKLOG: i32 = 8;
/// Between two looks for a connection.
const LOOK: Duration = Duration::from_millis(20);
/// More than any server needs for one message.
const CONNECTIONS_MAX: usize = 64;

/// See the module.
#[derive(Debug)]
pub(crate) struct SelfTest {
    secret: String,
    /// Bound, so that it is ours, and not listened at yet.
    place: TcpListener,
}

impl SelfTest {
    /// What the server is told by, before it starts.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn prepare() -> Result<Self, String> {
        let mut octets = [0; SECRET_OCTETS];
        let random = File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut octets));
        random.map_err(|error| error.to_string())?;
        let secret: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
        let place = reserve().map_err(|error| format!("no port on loopback: {error}"))?;
        let address = place.local_addr().map_err(|error| error.to_string())?;
        let directory = Path::new(DIRECTORY);
        let list = format!("{secret}@{DOMAIN}\n");
        let write = |name, text: &str| write_durably(directory, name, text.as_bytes(), 0o644);
        let written = fs::create_dir_all(directory)
            .and_then(|()| write(RECIPIENTS, &list))
            .and_then(|()| write(CONFIGURATION, &configuration(address)));
        written.map_err(|error| format!("{DIRECTORY}: {error}"))?;
        Ok(Self { secret, place })
    }

    /// Where the server finds what it needs to know.
    pub(crate) fn configuration() -> String {
        format!("{DIRECTORY}/{CONFIGURATION}")
    }

    /// Nobody needs it any more.
    pub(crate) fn forget() {
        for name in [CONFIGURATION, RECIPIENTS] {
            let _ = fs::remove_file(Path::new(DIRECTORY).join(name));
        }
    }

    /// Tries the server at this address.
    ///
    /// # Errors
    /// A sentence: what it did not do.
    pub(crate) fn run(self, server: SocketAddr) -> Result<(), String> {
        let end = Instant::now() + SELF_TEST_PATIENCE;
        let mut session = Session::open(server).map_err(|error| format!("nobody greets: {error}"))?;
        session.say(&format!("EHLO {DOMAIN}"), "250")?;
        session.say("MAIL FROM:<>", "250")?;
        session.say(&format!("RCPT TO:<{}@{DOMAIN}>", self.secret), "250")?;
        session.say("DATA", "354")?;
        let message =
            format!("From: <postmaster@{DOMAIN}>\r\nSubject: self-test\r\n\r\n{}\r\n.", self.secret);
        session.say(&message, "250")?;
        let etrn = format!("ETRN {DOMAIN}");
        session.until(&etrn, "253", end).map_err(|error| format!("the message is not kept: {error}"))?;
        let (came, _wanted) = self.listen(end)?;
        loop {
            // Makes it due.
            session.ask(&etrn)?;
            match came.recv_timeout(PAUSE) {
                Ok(()) => break,
                Err(_) if Instant::now() < end => {}
                Err(_) => return Err("the message is not handed over".to_owned()),
            }
        }
        session
            .until(&etrn, "251", end)
            .map_err(|error| format!("that it was handed over is not known: {error}"))?;
        session.say("QUIT", "221").map(drop)
    }

    /// Is a mail server from now on, until the deadline or until what is returned is gone; nobody's server behind that.
    fn listen(self, end: Instant) -> Result<(Receiver<()>, Arc<()>), String> {
        let listening = self.place.set_nonblocking(true).map(|()| listen(&self.place, LISTEN_BACKLOG));
        listening.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        let (tell, came) = channel();
        let wanted = Arc::new(());
        let still = Arc::downgrade(&wanted);
        let accept = move || {
            let mut served = 0;
            while still.strong_count() > 0 && Instant::now() < end && served < CONNECTIONS_MAX {
                let Ok((stream, _)) = self.place.accept() else {
                    std::thread::sleep(LOOK);
                    continue;
                };
                served += 1;
                let (tell, secret) = (tell.clone(), self.secret.clone());
                let serve = move || drop(serve(stream, &secret, &tell));
                let _ = Builder::new().name("self-test".to_owned()).spawn(serve);
            }
        };
        Builder::new().name("self-test".to_owned()).spawn(accept).map_err(|error| error.to_string())?;
        Ok((came, wanted))
    }
}

/// A port that connections are refused at.
fn reserve() -> std::io::Result<TcpListener> {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
    Ok(TcpListener::from(socket))
}

/// A configuration of one domain; the server takes that, and leaves the rest.
fn configuration(primary: SocketAddr) -> String {
    format!(
        "hostname = \"{DOMAIN}\"\npostmaster = \"postmaster@{DOMAIN}\"\n[[domain]]\nname = \"{DOMAIN}\"\nprimary = [\"{primary}\"]\n\
         when_up = \"relay\"\nauthenticate = false\ntls = \"none\"\nrecipients = \"list\"\nrecipient_list = \"{DIRECTORY}/{RECIPIENTS}\"\n\
         etrn_from = [\"0.0.0.0/0\", \"::/0\"]\n"
    )
}

/// A session with the server.
struct Session(BufReader<TcpStream>);

impl Session {
    fn open(server: SocketAddr) -> Result<Self, String> {
        let text = |error: std::io::Error| error.to_string();
        let stream = TcpStream::connect_timeout(&server, SELF_TEST_REPLY_PATIENCE).map_err(text)?;
        stream.set_read_timeout(Some(SELF_TEST_REPLY_PATIENCE)).map_err(text)?;
        stream.set_write_timeout(Some(SELF_TEST_REPLY_PATIENCE)).map_err(text)?;
        let mut session = Self(BufReader::new(stream));
        session.reply().and_then(|reply| expect("the greeting", reply, "220")).map(|_| session)
    }

    /// The last line of what is replied.
    fn ask(&mut self, line: &str) -> Result<String, String> {
        let said = self.0.get_mut().write_all(format!("{line}\r\n").as_bytes());
        said.map_err(|error| error.to_string())?;
        self.reply()
    }

    fn say(&mut self, line: &str, code: &str) -> Result<String, String> {
        let reply = self.ask(line)?;
        expect(line.lines().next().unwrap_or_default(), reply, code)
    }

    /// Asks until the reply has this code.
    fn until(&mut self, line: &str, code: &str, end: Instant) -> Result<(), String> {
        loop {
            let reply = self.ask(line)?;
            if reply.starts_with(code) {
                return Ok(());
            }
            if Instant::now() >= end {
                return Err(reply);
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn reply(&mut self) -> Result<String, String> {
        loop {
            let line = line(&mut self.0).map_err(|error| error.to_string())?;
            if line.is_empty() {
                return Err("the connection ended".to_owned());
            }
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(line);
            }
        }
    }
}

fn expect(line: &str, reply: String, code: &str) -> Result<String, String> {
    if reply.starts_with(code) { Ok(reply) } else { Err(format!("{line}: {}", reply.trim_end())) }
}

fn line(reader: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut line = Vec::new();
    reader.take(SELF_TEST_LINE_OCTETS_MAX).read_until(b'\n', &mut line)?;
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// A mail server that knows one recipient, and tells when his message came.
fn serve(stream: TcpStream, secret: &str, tell: &Sender<()>) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(SELF_TEST_PATIENCE))?;
    let mut reader = BufReader::new(stream);
    reader.get_mut().write_all(format!("220 {DOMAIN}\r\n").as_bytes())?;
    loop {
        let line = line(&mut reader)?;
        if line.is_empty() {
            return Ok(());
        }
        let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        let reply = match verb.as_str() {
            "RCPT" if !line.contains(secret) => "550 5.1.1 no such mailbox",
            "DATA" => {
                reader.get_mut().write_all(b"354 go on\r\n")?;
                if data(&mut reader, secret)? {
                    let _ = tell.send(());
                }
                "250 2.0.0 taken"
            }
            "QUIT" => "221 2.0.0 bye",
            "EHLO" | "HELO" | "MAIL" | "RCPT" | "RSET" | "NOOP" => "250 2.0.0 ok",
            _ => "502 5.5.1 not known",
        };
        reader.get_mut().write_all(format!("{reply}\r\n").as_bytes())?;
        if verb == "QUIT" {
            return Ok(());
        }
    }
}

/// Whether the message has the secret.
fn data(reader: &mut BufReader<TcpStream>, secret: &str) -> std::io::Result<bool> {
    let mut has_secret = false;
    loop {
        let line = line(reader)?;
        if line.is_empty() {
            return Ok(false);
        }
        if line.trim_end() == "." {
            return Ok(has_secret);
        }
        has_secret |= line.trim_end() == secret;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Recipients};

    #[test]
    fn the_domain_of_the_trial_is_a_configuration() {
        let text = configuration("127.0.0.1:4711".parse().unwrap());
        let config = Config::parse(&text, "trial").unwrap();
        let domain = &config.domains[0];
        assert_eq!((domain.name.as_str(), config.domains.len()), (DOMAIN, 1));
        assert_eq!(domain.recipients.recipients, Recipients::List);
        assert!(!domain.authenticate && domain.etrn_from.len() == 2);
    }

    #[test]
    fn a_reserved_port_refuses_until_it_is_listened_at() {
        let place = reserve().unwrap();
        let address = place.local_addr().unwrap();
        assert!(TcpStream::connect(address).is_err());
        let test = SelfTest { secret: "secret".to_owned(), place };
        let (came, wanted) = test.listen(Instant::now() + SELF_TEST_PATIENCE).unwrap();
        let mut session = Session::open(address).unwrap();
        session.say("EHLO us", "250").unwrap();
        session.say("MAIL FROM:<>", "250").unwrap();
        assert!(session.say("RCPT TO:<other@self-test.invalid>", "250").unwrap_err().contains("550"));
        session.say("RCPT TO:<secret@self-test.invalid>", "250").unwrap();
        session.say("DATA", "354").unwrap();
        session.say("Received: x\r\n\r\nsecret\r\n.", "250").unwrap();
        came.recv_timeout(SELF_TEST_PATIENCE).unwrap();
        session.say("QUIT", "221").unwrap();
        // Whoever waited is gone, and so is the mail server.
        drop(wanted);
        while TcpStream::connect(address).is_ok() {
            std::thread::sleep(LOOK);
        }
    }

    /// A server that says yes to everything and keeps nothing does not pass: nothing waits.
    #[test]
    fn who_keeps_nothing_has_not_proven_itself() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, _came) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = serve(stream, "@", &tell);
            }
        });
        let mut session = Session::open(address).unwrap();
        session.say("EHLO us", "250").unwrap();
        let refused = session.until("ETRN self-test.invalid", "253", Instant::now()).unwrap_err();
        assert!(refused.starts_with("502"), "{refused}");
    }
}
