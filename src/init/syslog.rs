//! The machine's log at another host: lines of PID 1 and of the server as RFC 5424 messages, by UDP (RFC 5426) or TCP with octet counting (RFC 6587 3.4.1).
//!
//! # Promises
//! - Nobody waits for it: a line goes into a queue of [`SYSLOG_LINES_MAX`] lines of at most [`SYSLOG_LINE_OCTETS_MAX`] octets, which a thread of its own empties.
//! - What finds no room is counted, and the count is the next thing that is sent, and told on the console.
//! - Lines said before the configuration was read are in the queue too. What is secret is never in it (`console::show`).
//!
//! It promises no delivery: UDP loses, and what a broken TCP connection had taken may not have come. The line on whose write it broke is
//! sent again. There is no TLS: send over a network of your own.

use super::settings::{Syslog, Transport};
use crate::limits::{
    SYSLOG_DATAGRAM_OCTETS_MAX, SYSLOG_LINE_OCTETS_MAX, SYSLOG_LINES_MAX, SYSLOG_PATIENCE, SYSLOG_RETRY,
};
use core::net::SocketAddr;
use core::sync::atomic::{AtomicU64, Ordering};
use jiff::Timestamp;
use std::io::{self, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _, UdpSocket};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::SystemTime;

/// Whose line it is: the facility of RFC 5424 6.2.1, and the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// PID 1: daemon.
    Init,
    /// The server: mail.
    Server,
}

/// One line, and when it was said.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    source: Source,
    at: SystemTime,
    text: String,
}

struct Queue {
    lines: SyncSender<Line>,
    /// Until it is known where they go.
    taken: Mutex<Option<Receiver<Line>>>,
    lost: AtomicU64,
}

static QUEUE: LazyLock<Queue> = LazyLock::new(|| {
    let (lines, taken) = sync_channel(SYSLOG_LINES_MAX);
    Queue { lines, taken: Mutex::new(Some(taken)), lost: AtomicU64::new(0) }
});

/// RFC 5424 6.2.1.
const SEVERITY_ERROR: u8 = 3;
const SEVERITY_WARNING: u8 = 4;
const SEVERITY_INFORMATIONAL: u8 = 6;
const SEVERITY_DEBUG: u8 = 7;

/// Hands a line over. Never waits.
pub(super) fn hand_over(source: Source, text: &str) {
    let cut = text.floor_char_boundary(SYSLOG_LINE_OCTETS_MAX);
    let line = Line { source, at: SystemTime::now(), text: text[..cut].to_owned() };
    if let Err(TrySendError::Full(_)) = QUEUE.lines.try_send(line) {
        QUEUE.lost.fetch_add(1, Ordering::Relaxed);
    }
}

/// Sends what was handed over, and what will be; or forgets it, where it goes nowhere. Once. What becomes of it is told by `tell`.
pub(super) fn start(settings: Option<Syslog>, host_name: String, tell: fn(&str)) {
    let lines = QUEUE.taken.lock().unwrap_or_else(PoisonError::into_inner).take();
    let (Some(lines), Some(settings)) = (lines, settings) else { return };
    let thread = std::thread::Builder::new().name("syslog".to_owned());
    if let Err(error) = thread.spawn(move || send_all(&lines, &settings, &host_name, tell)) {
        tell(&format!("nothing is sent to the log's host: {error}"));
    }
}

/// Until PID 1 ends.
fn send_all(lines: &Receiver<Line>, settings: &Syslog, host_name: &str, tell: fn(&str)) {
    let mut sender = Sender { settings, way: None, was_well: true, tell };
    while let Ok(line) = lines.recv() {
        let lost = QUEUE.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let text = format!("{lost} lines of the log found no room and are lost");
            tell(&text);
            let told = Line { source: Source::Init, at: SystemTime::now(), text };
            sender.deliver(&message(&told, host_name));
        }
        sender.deliver(&message(&line, host_name));
    }
}

/// Who sends, and how it went last.
struct Sender<'a> {
    settings: &'a Syslog,
    way: Option<Way>,
    was_well: bool,
    tell: fn(&str),
}

impl Sender<'_> {
    /// Tries until it is sent.
    fn deliver(&mut self, message: &[u8]) {
        let host = &self.settings.server;
        loop {
            let opened = match self.way.take() {
                Some(way) => Ok(way),
                None => Way::open(self.settings),
            };
            match opened.and_then(|mut open| open.send(message).map(|()| open)) {
                Ok(open) => {
                    self.way = Some(open);
                    if !core::mem::replace(&mut self.was_well, true) {
                        (self.tell)(&format!("the log goes to {host} again"));
                    }
                    return;
                }
                Err(error) => {
                    if core::mem::replace(&mut self.was_well, false) {
                        (self.tell)(&format!("the log does not go to {host}: {error}"));
                    }
                    std::thread::sleep(SYSLOG_RETRY);
                }
            }
        }
    }
}

/// An open way to the host.
enum Way {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

impl Way {
    fn open(settings: &Syslog) -> io::Result<Self> {
        let mut last = io::Error::other("the name has no address");
        for address in settings.server.to_socket_addrs()? {
            match Self::to(address, settings.transport) {
                Ok(way) => return Ok(way),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn to(address: SocketAddr, transport: Transport) -> io::Result<Self> {
        match transport {
            Transport::Tcp => {
                let stream = TcpStream::connect_timeout(&address, SYSLOG_PATIENCE)?;
                stream.set_write_timeout(Some(SYSLOG_PATIENCE))?;
                Ok(Self::Tcp(stream))
            }
            Transport::Udp => {
                let ours = if address.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
                let socket = UdpSocket::bind(ours)?;
                socket.connect(address)?;
                Ok(Self::Udp(socket))
            }
        }
    }

    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(&framed(message)),
            Self::Udp(socket) => {
                let cut = message.len().min(SYSLOG_DATAGRAM_OCTETS_MAX);
                match socket.send(&message[..cut]) {
                    // What the last one was answered with: nobody listens there. This one is gone too, as UDP loses.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
                    other => other.map(drop),
                }
            }
        }
    }
}

/// RFC 6587 3.4.1.
fn framed(message: &[u8]) -> Vec<u8> {
    [format!("{} ", message.len()).as_bytes(), message].concat()
}

/// RFC 5424 6: header without structured data, and the line as UTF-8 without control characters.
fn message(line: &Line, host_name: &str) -> Vec<u8> {
    let (facility, name) = match line.source {
        Source::Init => (3, "stratamx-init"),
        Source::Server => (2, "stratamx"),
    };
    let priority = facility * 8 + severity(line);
    // RFC 5424 6.2.3: at most six digits of a second.
    let at = Timestamp::try_from(line.at).map_or_else(|_| "-".to_owned(), |at| format!("{at:.6}"));
    let is_printable = |c: &char| c.is_ascii_graphic();
    let host: String = host_name.chars().filter(is_printable).take(255).collect();
    let host = if host.is_empty() { "-" } else { &host };
    let text: String = line.text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("<{priority}>1 {at} {host} {name} - - - {text}").into_bytes()
}

/// The server's lines say their level; of PID 1's a refusal is an error.
fn severity(line: &Line) -> u8 {
    if line.source == Source::Init {
        return if line.text.starts_with("REFUSED") { SEVERITY_ERROR } else { SEVERITY_INFORMATIONAL };
    }
    let level = serde_json::from_str::<serde_json::Value>(&line.text).ok();
    match level.as_ref().and_then(|line| line.get("level")?.as_str()) {
        Some("ERROR") => SEVERITY_ERROR,
        Some("WARN") => SEVERITY_WARNING,
        Some("DEBUG" | "TRACE") => SEVERITY_DEBUG,
        Some(_) => SEVERITY_INFORMATIONAL,
        // What is no JSON was said outside of the log: why it does not start, a panic.
        None => SEVERITY_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;
    use std::io::Read as _;
    use std::net::TcpListener;

    fn line(source: Source, text: &str) -> Line {
        let at = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_790_000_000_123_456_789);
        Line { source, at, text: text.to_owned() }
    }

    #[test]
    fn a_line_is_a_message() {
        for (source, text, expected) in [
            (Source::Init, "READY", "<30>1 2026-09-21T14:13:20.123456Z mx2.test stratamx-init - - - READY"),
            (
                Source::Init,
                "REFUSED, no mail is taken",
                "<27>1 2026-09-21T14:13:20.123456Z mx2.test stratamx-init - - - REFUSED, no mail is taken",
            ),
            (
                Source::Server,
                "{\"level\":\"WARN\",\"message\":\"x\"}",
                "<20>1 2026-09-21T14:13:20.123456Z mx2.test stratamx - - - {\"level\":\"WARN\",\"message\":\"x\"}",
            ),
            (
                Source::Server,
                "{\"level\":\"INFO\"}",
                "<22>1 2026-09-21T14:13:20.123456Z mx2.test stratamx - - - {\"level\":\"INFO\"}",
            ),
            (
                Source::Server,
                "a\tpanic\u{7}",
                "<19>1 2026-09-21T14:13:20.123456Z mx2.test stratamx - - - a panic ",
            ),
        ] {
            assert_eq!(String::from_utf8(message(&line(source, text), "mx2.test")).unwrap(), expected);
        }
        let nameless = message(&line(Source::Init, "x"), "");
        assert!(String::from_utf8(nameless).unwrap().contains("Z - stratamx-init - - - x"));
        assert_eq!(framed(b"<30>1 x"), b"7 <30>1 x");
    }

    #[test]
    fn tcp_counts_octets_and_comes_back() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap().to_string();
        let settings = Syslog { server, transport: Transport::Tcp };
        let mut sender = Sender { settings: &settings, way: None, was_well: true, tell: |_| {} };
        sender.deliver("ä".as_bytes());
        let (mut taken, _) = listener.accept().unwrap();
        sender.deliver(b"two");
        drop(sender.way.take());
        let mut text = String::new();
        taken.read_to_string(&mut text).unwrap();
        assert_eq!(text, "2 ä3 two");
        // The connection is gone: a new one.
        sender.deliver(b"three");
        let (mut taken, _) = listener.accept().unwrap();
        drop(sender.way.take());
        text.clear();
        taken.read_to_string(&mut text).unwrap();
        assert_eq!(text, "5 three");
    }

    #[test]
    fn a_datagram_is_a_message_and_bounded() {
        let host = UdpSocket::bind("127.0.0.1:0").unwrap();
        let settings = Syslog { server: host.local_addr().unwrap().to_string(), transport: Transport::Udp };
        let mut way = Way::open(&settings).unwrap();
        way.send(&vec![b'a'; SYSLOG_DATAGRAM_OCTETS_MAX + 1]).unwrap();
        let mut datagram = vec![0; 2 * SYSLOG_DATAGRAM_OCTETS_MAX];
        assert_eq!(host.recv(&mut datagram).unwrap(), SYSLOG_DATAGRAM_OCTETS_MAX);
    }

    #[test]
    fn who_hands_over_never_waits() {
        // Nobody takes: all that is more than the queue holds is counted.
        let before = QUEUE.lost.load(Ordering::Relaxed);
        for _ in 0..SYSLOG_LINES_MAX + 7 {
            hand_over(Source::Server, &"x".repeat(SYSLOG_LINE_OCTETS_MAX + 1));
        }
        assert!(QUEUE.lost.load(Ordering::Relaxed) >= before + 7);
        let taken = QUEUE.taken.lock().unwrap();
        assert!(taken.as_ref().unwrap().try_iter().all(|line| line.text.len() <= SYSLOG_LINE_OCTETS_MAX));
    }
}
