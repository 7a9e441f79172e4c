//! A server behind the others that takes everything as it comes and judges nothing: only CRLF . CRLF ends data, and whatever is in it is
//! kept. `stratamx-sink` would not do, since it is as strict as the server.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A message as it came.
#[derive(Clone, Debug)]
pub struct Received {
    /// The first recipient, without brackets.
    pub recipient: String,
    /// With its dots, without the terminator.
    pub data: Vec<u8>,
}

/// Runs until the test ends.
pub struct Receiver {
    pub address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&received);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let received = Arc::clone(&shared);
                thread::spawn(move || serve(stream, &received));
            }
        });
        Self { address, received }
    }

    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

/// None: the client is gone.
fn serve(stream: TcpStream, received: &Mutex<Vec<Received>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut recipient = String::new();
    reply(&mut reader, "220 receiver.test")?;
    loop {
        let mut line = Vec::new();
        reader.read_until(b'\n', &mut line).ok().filter(|count| *count > 0)?;
        let line = String::from_utf8_lossy(&line).into_owned();
        let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        match verb.as_str() {
            "EHLO" => reply(&mut reader, "250-receiver.test\r\n250-SIZE\r\n250-SMTPUTF8\r\n250 8BITMIME")?,
            "MAIL" => {
                recipient.clear();
                reply(&mut reader, "250 ok")?;
            }
            "RCPT" => {
                let path = line.split(['<', '>']).nth(1).unwrap_or_default();
                if recipient.is_empty() {
                    recipient = path.to_owned();
                }
                reply(&mut reader, "250 ok")?;
            }
            "DATA" => {
                reply(&mut reader, "354 go on")?;
                let data = data(&mut reader)?;
                received.lock().unwrap().push(Received { recipient: recipient.clone(), data });
                reply(&mut reader, "250 ok")?;
            }
            _ => reply(&mut reader, "250 ok")?,
        }
    }
}

fn data(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut data = b"\r\n".to_vec();
    while !data.ends_with(b"\r\n.\r\n") {
        reader.read_until(b'\n', &mut data).ok().filter(|count| *count > 0)?;
    }
    data.truncate(data.len() - 3);
    Some(data.split_off(2.min(data.len())))
}

fn reply(reader: &mut BufReader<TcpStream>, text: &str) -> Option<()> {
    reader.get_mut().write_all(format!("{text}\r\n").as_bytes()).ok()
}
