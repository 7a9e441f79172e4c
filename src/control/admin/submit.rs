//! Messages of our own through our own port: a small SMTP client (RFC 5321) for a drill, so that they come as anybody's do.

use crate::limits::{DRILL_REPLY_TIMEOUT, REPLY_LINE_OCTETS_MAX};
use core::net::SocketAddr;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A session.
pub(super) struct Session {
    stream: BufReader<TcpStream>,
}

impl Session {
    /// Connects, and says who we are.
    ///
    /// # Errors
    /// What went wrong, in a sentence.
    pub(super) async fn open(address: SocketAddr, hostname: &str) -> Result<Self, String> {
        let connected = timeout(DRILL_REPLY_TIMEOUT, TcpStream::connect(address)).await;
        let stream = connected.map_err(|_| "no connection in time".to_owned())?;
        let stream = stream.map_err(|error| format!("{address}: {error}"))?;
        let mut session = Self { stream: BufReader::new(stream) };
        session.expect("the greeting", 220).await?;
        session.say(&format!("EHLO {hostname}"), 250).await?;
        Ok(session)
    }

    /// Brings a message from the null reverse-path; its lines have no dot in front. What the server said to its end.
    ///
    /// # Errors
    /// What went wrong, with the server's reply.
    pub(super) async fn bring(&mut self, recipient: &str, message: &str) -> Result<String, String> {
        self.say("MAIL FROM:<>", 250).await?;
        self.say(&format!("RCPT TO:<{recipient}>"), 250).await?;
        self.say("DATA", 354).await?;
        self.write(&format!("{message}\r\n.\r\n")).await?;
        self.expect("the message", 250).await
    }

    /// Ends it.
    pub(super) async fn close(mut self) {
        // Whatever it says: all is done.
        let _ = self.say("QUIT", 221).await;
    }

    async fn say(&mut self, command: &str, wanted: u16) -> Result<String, String> {
        self.write(&format!("{command}\r\n")).await?;
        self.expect(command, wanted).await
    }

    async fn write(&mut self, text: &str) -> Result<(), String> {
        let written = timeout(DRILL_REPLY_TIMEOUT, self.stream.get_mut().write_all(text.as_bytes())).await;
        written.map_err(|_| "our own port takes nothing".to_owned())?.map_err(|error| error.to_string())
    }

    async fn expect(&mut self, what: &str, wanted: u16) -> Result<String, String> {
        let reply = timeout(DRILL_REPLY_TIMEOUT, self.reply()).await;
        let reply = reply.map_err(|_| format!("no reply to {what} in time"))??;
        if reply.starts_with(&wanted.to_string()) { Ok(reply) } else { Err(format!("{what}: {reply}")) }
    }

    /// The last line of a reply.
    async fn reply(&mut self) -> Result<String, String> {
        loop {
            let mut line = Vec::new();
            let most = REPLY_LINE_OCTETS_MAX as u64;
            let read = (&mut self.stream).take(most).read_until(b'\n', &mut line).await;
            if read.map_err(|error| error.to_string())? == 0 {
                return Err("our own port has closed the connection".to_owned());
            }
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(line);
            }
        }
    }
}
