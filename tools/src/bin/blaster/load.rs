//! The closed loop: each session sends its next message when the last one has its answer.
//!
//! A message that gets no final answer (a lost connection, a 4xx) is sent again, like any sender would, until
//! its patience is over; its ledger line then bears the time of its first MAIL.

use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use stratamx::smtp::client::RecipientOutcome;
use stratamx_tools::clock::{Clock, unix_us};
use stratamx_tools::record::{Acknowledged, to_line};

use crate::connection::{Attempt, Connection};
use crate::message::{Message, Plan};

/// Name in EHLO.
const HOSTNAME: &str = "blaster.test";
/// Pause before a message is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// What to send, where, and how.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) to: SocketAddr,
    pub(crate) plan: Plan,
    pub(crate) messages: u64,
    pub(crate) sessions: u64,
    /// A session ends after so many messages and another begins; 0: never.
    pub(crate) messages_per_session: u64,
    /// How long one message is tried.
    pub(crate) patience: Duration,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Totals {
    pub(crate) acknowledged: u64,
    /// Answered by 5xx, in whole or for some recipients.
    pub(crate) rejected: u64,
    /// Given up without a final answer.
    pub(crate) given_up: u64,
    /// Attempts after the first one of a message.
    pub(crate) retries: u64,
    pub(crate) octets: u64,
    pub(crate) elapsed: Duration,
    /// Microseconds from MAIL to the 250.
    pub(crate) latency: Histogram<u64>,
}

/// A line for each acknowledged message, written at once.
#[derive(Debug)]
pub(crate) struct Ledger(Option<Mutex<File>>);

impl Ledger {
    pub(crate) fn open(path: Option<&Path>) -> io::Result<Self> {
        Ok(Self(path.map(File::create).transpose()?.map(Mutex::new)))
    }

    fn write(&self, acknowledged: &Acknowledged) -> io::Result<()> {
        let Some(file) = &self.0 else { return Ok(()) };
        file.lock().unwrap_or_else(PoisonError::into_inner).write_all(&to_line(acknowledged))
    }
}

impl Load {
    /// Sends everything.
    pub(crate) fn run(&self, ledger: &Ledger, progress: &ProgressBar) -> io::Result<Totals> {
        let clock = Clock::start();
        let next = AtomicU64::new(0);
        let sender = |session| Sender { load: self, ledger, progress, next: &next, clock, session };
        let mut totals = Totals::default();
        thread::scope(|scope| {
            let senders: Vec<_> =
                (1..=self.sessions).map(|session| scope.spawn(move || sender(session).run())).collect();
            for sender in senders {
                let sent = sender.join().map_err(|_| io::Error::other("a session broke down"))??;
                totals.add(&sent);
            }
            Ok::<(), io::Error>(())
        })?;
        totals.elapsed = clock.now();
        Ok(totals)
    }
}

/// One session's share of the work.
struct Sender<'a> {
    load: &'a Load,
    ledger: &'a Ledger,
    progress: &'a ProgressBar,
    next: &'a AtomicU64,
    clock: Clock,
    session: u64,
}

/// What became of a message at last.
enum Fate {
    Acknowledged(Acknowledged, Duration),
    Rejected(String),
    GivenUp(String),
}

impl Sender<'_> {
    fn run(&self) -> io::Result<Totals> {
        let mut totals = Totals::default();
        let mut connection = None;
        let mut sent = 0;
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.load.messages {
                break;
            }
            let message = self.load.plan.message(number);
            match self.deliver(&message, &mut connection, &mut totals) {
                Fate::Acknowledged(acknowledged, latency) => {
                    self.ledger.write(&acknowledged)?;
                    totals.note(&acknowledged, latency);
                }
                Fate::Rejected(why) => {
                    totals.rejected += 1;
                    self.progress.suspend(|| eprintln!("{}: rejected: {why}", message.id));
                }
                Fate::GivenUp(why) => {
                    totals.given_up += 1;
                    self.progress.suspend(|| eprintln!("{}: given up: {why}", message.id));
                }
            }
            self.progress.inc(1);
            sent += 1;
            let is_over = self.load.messages_per_session > 0 && sent % self.load.messages_per_session == 0;
            if let Some(open) = connection.take_if(|_| is_over) {
                open.close();
            }
        }
        if let Some(open) = connection {
            open.close();
        }
        Ok(totals)
    }

    /// Tries until there is a final answer or the patience is over.
    fn deliver(&self, message: &Message, connection: &mut Option<Connection>, totals: &mut Totals) -> Fate {
        let deadline = self.clock.now() + self.load.patience;
        let mut first_mail_unix_us = None;
        loop {
            let why = match self.attempt(message, connection) {
                Ok(attempt) => {
                    let mail_unix_us = *first_mail_unix_us.get_or_insert(attempt.mail_unix_us);
                    match self.judge(message, &attempt, mail_unix_us) {
                        Ok(fate) => return fate,
                        Err(why) => why,
                    }
                }
                Err(error) => error.to_string(),
            };
            if self.clock.now() >= deadline {
                return Fate::GivenUp(why);
            }
            totals.retries += 1;
            thread::sleep(RETRY_PAUSE);
        }
    }

    fn attempt(&self, message: &Message, connection: &mut Option<Connection>) -> io::Result<Attempt> {
        let mut open = match connection.take() {
            Some(open) => open,
            None => Connection::open(self.load.to, HOSTNAME)?,
        };
        let attempt = open.deliver(message)?;
        *connection = Some(open).filter(Connection::is_ready);
        Ok(attempt)
    }

    /// The final answer, or why there is none yet.
    fn judge(&self, message: &Message, attempt: &Attempt, mail_unix_us: u64) -> Result<Fate, String> {
        let mut acknowledged = Acknowledged {
            id: message.id.clone(),
            session: self.session,
            mail_unix_us,
            reply_unix_us: attempt.reply_unix_us,
            reverse_path: message.reverse_path.clone(),
            octets: message.octets,
            crc32: message.crc32,
            ..Acknowledged::default()
        };
        let (mut rejection, mut setback) = (None, None);
        for (recipient, outcome) in message.recipients.iter().zip(&attempt.outcome.recipients) {
            match outcome {
                RecipientOutcome::Delivered(reply) => {
                    acknowledged.queue_id = queue_id(&reply.text).to_owned();
                    acknowledged.recipients.push(recipient.clone());
                    continue;
                }
                RecipientOutcome::Rejected { reply, .. } => rejection = Some(reply.to_string()),
                RecipientOutcome::Deferred { reply, .. } => setback = Some(reply.to_string()),
                RecipientOutcome::NotTried => {
                    setback = Some("the connection was lost before the end of data".to_owned())
                }
                RecipientOutcome::Unknown => {
                    setback = Some("the connection was lost before the reply".to_owned())
                }
            }
            acknowledged.refused.push(recipient.clone());
        }
        if !acknowledged.recipients.is_empty() {
            return Ok(Fate::Acknowledged(acknowledged, attempt.latency));
        }
        match (setback, rejection) {
            (Some(why), _) => Err(why),
            (None, why) => Ok(Fate::Rejected(why.unwrap_or_default())),
        }
    }
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            acknowledged: 0,
            rejected: 0,
            given_up: 0,
            retries: 0,
            octets: 0,
            elapsed: Duration::ZERO,
            latency: Histogram::new(3).expect("three digits are within what a histogram can do"),
        }
    }
}

impl Totals {
    fn note(&mut self, acknowledged: &Acknowledged, latency: Duration) {
        self.acknowledged += 1;
        self.rejected += u64::from(!acknowledged.refused.is_empty());
        self.octets += acknowledged.octets;
        let latency_us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.latency.record(latency_us).expect("the histogram grows as it needs");
    }

    fn add(&mut self, other: &Self) {
        self.acknowledged += other.acknowledged;
        self.rejected += other.rejected;
        self.given_up += other.given_up;
        self.retries += other.retries;
        self.octets += other.octets;
        self.latency.add(&other.latency).expect("the histogram grows as it needs");
    }
}

/// A name for a run that no other run has.
pub(crate) fn run_name() -> String {
    format!("{:x}", unix_us())
}

/// The last word of `Ok: queued as <id>`; empty if the reply says something else.
fn queue_id(text: &str) -> &str {
    text.split_once("queued as ").map_or("", |(_, id)| id.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_of_all_sessions_are_counted() {
        let mut totals = Totals::default();
        for milliseconds in [5, 7, 600_000] {
            let mut session = Totals::default();
            session.note(&Acknowledged::default(), Duration::from_millis(milliseconds));
            totals.add(&session);
        }
        let percentile = |percentile| totals.latency.value_at_percentile(percentile) / 1000;
        assert_eq!((totals.acknowledged, percentile(1.0), percentile(50.0)), (3, 5, 7));
        assert!((599_000..=601_000).contains(&percentile(100.0)));
    }

    #[test]
    fn the_queue_id_is_what_the_reply_names() {
        assert_eq!(queue_id("Ok: queued as 01-ab"), "01-ab");
        assert_eq!(queue_id("Message accepted"), "");
    }
}
