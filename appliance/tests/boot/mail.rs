//! A sender and a mail server, just enough of both.

use std::io::{BufRead, BufReader, Read as _, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Longest wait for a message to come. The guest is emulated, and shares two cores with whatever else runs.
const PATIENCE: Duration = Duration::from_secs(180);
/// QEMU takes a connection before the guest is there, and tries late again: short tries find the guest sooner.
const TRY: Duration = Duration::from_millis(1500);

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Whether somebody says 220 at this port.
pub(crate) fn greets(port: u16) -> bool {
    connect(port).is_some()
}

fn connect(port: u16) -> Option<BufReader<TcpStream>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(TRY)).unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    let is_greeted = reader.read_line(&mut line).is_ok() && line.starts_with("220");
    reader.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
    is_greeted.then_some(reader)
}

/// Sends one message; the reply to its end.
pub(crate) fn send(port: u16, recipient: &str, text: &str) -> String {
    let end = Instant::now() + PATIENCE;
    let mut session = loop {
        match connect(port) {
            Some(session) => break session,
            None => assert!(Instant::now() < end, "nobody greets at port {port}"),
        }
    };
    let mut reply = String::new();
    let lines = [
        "EHLO client.test".to_owned(),
        "MAIL FROM:<sender@client.test>".to_owned(),
        format!("RCPT TO:<{recipient}>"),
        "DATA".to_owned(),
        format!("Subject: appliance\r\n\r\n{text}\r\n."),
    ];
    for line in lines {
        session.get_mut().write_all(format!("{line}\r\n").as_bytes()).unwrap();
        loop {
            reply.clear();
            session.read_line(&mut reply).unwrap();
            if reply.as_bytes().get(3) != Some(&b'-') {
                break;
            }
        }
        assert!(reply.starts_with(['2', '3']), "{line}: {reply}");
    }
    reply
}

/// What the admin API answers, by its own self-signed certificate.
pub(crate) fn ask(port: u16, path: &str, token: &str) -> String {
    let end = Instant::now() + PATIENCE;
    let url = format!("https://127.0.0.1:{port}{path}");
    loop {
        let output = Command::new("curl")
            .args(["--silent", "--include", "--insecure", "--max-time", "10", &url])
            .args(["--header", &format!("Authorization: Bearer {token}")])
            .output()
            .expect("curl is installed");
        if output.status.success() {
            return String::from_utf8_lossy(&output.stdout).into_owned();
        }
        assert!(Instant::now() < end, "the admin API does not answer: {output:?}");
        thread::sleep(TRY / 3);
    }
}

/// Waits until it is so.
pub(crate) fn eventually(is_so: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "it never was so");
        thread::sleep(TRY / 3);
    }
}

/// Waits until the admin API answers at a path without TLS.
pub(crate) fn ask_plainly(port: u16, path: &str) {
    let url = format!("http://127.0.0.1:{port}{path}");
    eventually(|| {
        let asked = Command::new("curl")
            .args(["--silent", "--fail", "--max-time", "5", "--output", "/dev/null", &url])
            .status();
        asked.expect("curl is installed").success()
    });
}

/// A host that takes a machine's log: TCP, octets counted.
pub(crate) struct LogHost {
    pub(crate) port: u16,
    lines: Receiver<String>,
}

impl LogHost {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tell, lines) = channel();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut stream = BufReader::new(stream);
                while let Some(message) = counted(&mut stream) {
                    if tell.send(message).is_err() {
                        return;
                    }
                }
            }
        });
        Self { port, lines }
    }

    /// The next message with this in it.
    pub(crate) fn wait_for(&self, text: &str) {
        let end = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(text) => return,
                Ok(line) => seen.push(line),
                Err(_) => panic!("{text:?} was not sent; what was:\n{}", seen.join("\n")),
            }
        }
    }
}

/// RFC 6587 3.4.1.
fn counted(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut count = Vec::new();
    stream.read_until(b' ', &mut count).ok()?;
    let count = String::from_utf8(count).ok()?.trim().parse().ok()?;
    let mut message = vec![0; count];
    stream.read_exact(&mut message).ok()?;
    String::from_utf8(message).ok()
}

/// A mail server that takes everything.
pub(crate) struct Sink {
    messages: Receiver<String>,
}

impl Sink {
    pub(crate) fn start(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let (tell, messages) = channel();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let tell = tell.clone();
                thread::spawn(move || drop(serve(stream, |message| drop(tell.send(message)))));
            }
        });
        Self { messages }
    }

    /// The next message.
    pub(crate) fn message(&self) -> String {
        self.messages.recv_timeout(PATIENCE).expect("a message arrives")
    }
}

fn serve(mut stream: TcpStream, mut taken: impl FnMut(String)) -> std::io::Result<()> {
    let reader = BufReader::new(stream.try_clone()?);
    stream.write_all(b"220 sink.test\r\n")?;
    let mut data: Option<String> = None;
    for line in reader.lines() {
        let line = line?;
        if let Some(text) = &mut data {
            if line != "." {
                text.push_str(&line);
                text.push('\n');
                continue;
            }
            taken(data.take().unwrap_or_default());
            stream.write_all(b"250 2.0.0 taken\r\n")?;
            continue;
        }
        let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        if verb == "DATA" {
            data = Some(String::new());
        }
        stream.write_all(match verb.as_str() {
            "DATA" => b"354 go on\r\n",
            "QUIT" => b"221 bye\r\n",
            _ => b"250 sink.test\r\n",
        })?;
    }
    Ok(())
}
