//! One connection of a host: commands, what its mood makes of them, and what of it the world remembers.

use super::{Host, Mood, Outside, Stage};
use crate::canary::Bug;
use crate::history::{Instant, Notice, Refusal, Taken, number_of};
use crate::network::{End, Health};
use core::cell::RefCell;
use core::time::Duration;
use std::rc::Rc;
use storage::clock::Clock;
use stratamx::shard::link::Link;

/// A transaction that is open.
#[derive(Default)]
struct Transaction {
    reverse_path: String,
    mail_at: Instant,
    recipients: Vec<String>,
    data: Vec<u8>,
    /// A chunk came for which nobody was accepted.
    is_spoilt: bool,
}

/// See the module. Steps give `None` when the connection is over.
pub(super) struct Session {
    outside: Outside,
    host: Rc<Host>,
    link: End,
    health: Health,
    number: u32,
    /// Which machine it is of.
    machine: u32,
    input: Vec<u8>,
    output: Vec<u8>,
    open: Option<Transaction>,
    /// What it took: places in the history.
    taken: Vec<usize>,
    /// So many of these have their reply on its way.
    flushed: usize,
    /// Those that the node has not read.
    unheard: Rc<RefCell<Vec<usize>>>,
    said_goodbye: bool,
    /// It said what nobody can make sense of: what was in flight is unknown, whoever says goodbye.
    rambled: bool,
}

/// As many as may be outstanding (P4).
const OUTSTANDING: usize = stratamx::limits::OUTSTANDING_MAX as usize;
/// What no server may say, in place of a reply.
const ODD: [&[u8]; 6] =
    [b"2500 ok\r\n", b"banana\r\n", b"250-a\r\n251 b\r\n", b"999 no\r\n", b"\r\n", b"354 go on\r\n"];

impl Session {
    pub(super) async fn run(outside: Outside, host: Rc<Host>, link: End) {
        let (health, number) = (link.health(), outside.history.next_number());
        let unheard = Rc::<RefCell<Vec<usize>>>::default();
        let (pending, history, clock) =
            (Rc::clone(&unheard), Rc::clone(&outside.history), outside.clock.clone());
        health.when_heard(move || {
            for place in pending.take() {
                history.taken.borrow_mut()[place].answered = Some(history.time(clock.now()));
            }
        });
        let machine = host.machine.get();
        let mut session = Self {
            outside,
            host,
            link,
            health,
            number,
            machine,
            input: Vec::new(),
            output: Vec::new(),
            open: None,
            taken: Vec::new(),
            flushed: 0,
            unheard,
            said_goodbye: false,
            rambled: false,
        };
        session.serve().await;
        session.end();
    }

    async fn serve(&mut self) -> Option<()> {
        while self.host.mood.get() == Mood::Hanging {
            self.outside.history.count(Mood::Hanging.word());
            self.outside.clock.sleep(Duration::from_secs(5)).await;
            if self.link.has_unread() || self.health.is_broken() {
                return None;
            }
        }
        self.closes_at(Stage::Greeting).await?;
        self.say(&format!("220 {} ESMTP", self.name()));
        loop {
            let line = self.line().await?;
            self.command(&line).await?;
        }
    }

    /// What was in flight when it ended is unknown to the node (RFC 1047), unless it said QUIT.
    fn end(&mut self) {
        let history = &self.outside.history;
        if self.said_goodbye && !self.rambled && !self.health.is_broken() {
            return;
        }
        if self.open.is_none() {
            let now = history.time(self.outside.clock.now());
            history.ended_early.borrow_mut().push((self.host.address, now));
        }
        let mut taken = history.taken.borrow_mut();
        let mut over: Vec<u32> = self.open.iter().filter_map(|open| number_of(&open.reverse_path)).collect();
        for place in self.taken.iter().rev().take(OUTSTANDING) {
            taken[*place].reply_lost = true;
            over.push(taken[*place].number);
        }
        for number in over {
            *history.broken_over.borrow_mut().entry(number).or_default() += 1;
        }
    }

    fn name(&self) -> &'static str {
        if self.mood() == Mood::Another { "rescue.test" } else { "primary.test" }
    }

    fn mood(&self) -> Mood {
        self.host.mood.get()
    }

    fn fired(&self) {
        self.outside.history.count(self.mood().word());
    }

    fn say(&mut self, line: &str) {
        self.output.extend_from_slice(line.as_bytes());
        self.output.extend_from_slice(b"\r\n");
    }

    async fn flush(&mut self) -> Option<()> {
        let output = core::mem::take(&mut self.output);
        let mut rest = &output[..];
        while !rest.is_empty() {
            let mut piece = rest;
            if let Mood::Dripping(pause) = self.mood() {
                piece = &rest[..1];
                self.fired();
                self.outside.clock.sleep(pause).await;
            }
            let count = self.link.write(piece).await.ok()?;
            rest = &rest[count..];
        }
        self.unheard.borrow_mut().extend(self.taken.get(self.flushed..).unwrap_or_default());
        self.flushed = self.taken.len();
        Some(())
    }

    async fn read(&mut self) -> Option<()> {
        self.flush().await?;
        let mut memory = [0; 8192];
        let count = self.link.read(&mut memory).await.ok().filter(|count| *count > 0)?;
        self.input.extend_from_slice(&memory[..count]);
        // Connections end with the machine.
        (self.machine == self.host.machine.get()).then_some(())
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.input.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.input.drain(..end + 2).take(end).collect();
                return Some(String::from_utf8_lossy(&line).into_owned());
            }
            self.read().await?;
        }
    }

    async fn closes_at(&mut self, stage: Stage) -> Option<()> {
        if self.mood() == Mood::ClosesAt(stage) && self.outside.one_in(2) {
            self.fired();
            self.flush().await;
            return None;
        }
        Some(())
    }

    /// Says something odd in place of a reply, now and then.
    fn rambles(&mut self) -> bool {
        if self.mood() != Mood::Rambling || !self.outside.one_in(8) {
            return false;
        }
        self.fired();
        self.rambled = true;
        let number = self.open.as_ref().and_then(|open| number_of(&open.reverse_path));
        self.outside.history.put_off.borrow_mut().extend(number);
        let odd = usize::try_from(self.outside.random.borrow_mut().below(ODD.len() as u64)).expect("few");
        self.output.extend_from_slice(ODD[odd]);
        true
    }

    async fn command(&mut self, line: &str) -> Option<()> {
        let verb: String = line.chars().take(4).collect::<String>().to_ascii_uppercase();
        match verb.as_str() {
            "EHLO" | "HELO" => self.hello().await?,
            "XCLI" => self.say("220 primary.test ESMTP"),
            "XFOR" | "NOOP" => self.say("250 2.0.0 Ok"),
            "MAIL" => self.mail(line).await?,
            "RCPT" => self.recipient(line).await?,
            "DATA" => self.data().await?,
            "BDAT" => self.chunk(line).await?,
            "RSET" => {
                self.open = None;
                self.say("250 2.0.0 Ok");
            }
            "QUIT" => {
                self.said_goodbye = true;
                self.say("221 2.0.0 Bye");
                self.flush().await;
                return None;
            }
            _ => self.say("502 5.5.1 not known here"),
        }
        Some(())
    }

    async fn hello(&mut self) -> Option<()> {
        self.closes_at(Stage::Hello).await?;
        self.open = None;
        if self.rambles() {
            return Some(());
        }
        self.say(&format!("250-{}", self.name()));
        let is_own = self.mood() != Mood::Another;
        for (keyword, is_offered) in [
            ("PIPELINING", self.host.pipelining),
            ("CHUNKING", self.host.chunking && is_own),
            ("DSN", !is_own),
            ("XCLIENT NAME ADDR PORT PROTO HELO", self.host.xclient && is_own),
            ("8BITMIME", true),
            ("ENHANCEDSTATUSCODES", true),
        ] {
            if is_offered {
                self.say(&format!("250-{keyword}"));
            }
        }
        self.say("250 SIZE 10000000");
        Some(())
    }

    async fn mail(&mut self, line: &str) -> Option<()> {
        let path = path_of(line);
        let mail_at = self.outside.history.tick();
        self.open = Some(Transaction { reverse_path: path.clone(), mail_at, ..Transaction::default() });
        self.closes_at(Stage::Sender).await?;
        if self.rambles() {
            return Some(());
        }
        let number = number_of(&path);
        match self.mood() {
            Mood::Pacing(most) if self.taken.len() as u64 >= u64::from(most) && number.is_some() => {
                self.fired();
                self.put_off();
                self.say("421 4.7.0 enough for this connection");
                self.flush().await;
                return None;
            }
            Mood::PuttingOff if number.is_some() && self.outside.one_in(2) => {
                self.fired();
                self.put_off();
                self.open = None;
                self.say("451 4.3.0 later");
            }
            _ => self.say("250 2.1.0 Ok"),
        }
        Some(())
    }

    fn put_off(&self) {
        let number = self.open.as_ref().and_then(|open| number_of(&open.reverse_path));
        self.outside.history.put_off.borrow_mut().extend(number);
    }

    async fn recipient(&mut self, line: &str) -> Option<()> {
        let mailbox = path_of(line);
        let Some(open) = &self.open else {
            self.say("503 5.5.1 no transaction");
            return Some(());
        };
        let number = number_of(&open.reverse_path);
        if let Some(number) = number {
            let mail_at = open.mail_at;
            self.note_offer(number, &mailbox, mail_at);
        }
        self.closes_at(Stage::Recipient).await?;
        if self.rambles() {
            return Some(());
        }
        match self.verdict(number, &mailbox) {
            None => {
                self.open.as_mut().expect("it is open").recipients.push(mailbox);
                self.say("250 2.1.5 Ok");
            }
            Some(reply) => {
                if reply.starts_with('4') {
                    self.put_off();
                } else if let Some(number) = number {
                    self.note_refusal(number, &mailbox);
                }
                self.say(reply);
            }
        }
        Some(())
    }

    fn note_offer(&self, number: u32, mailbox: &str, mail_at: Instant) {
        let mut offered = self.outside.history.offered.borrow_mut();
        let mut at = mail_at;
        if self.outside.bug == Some(Bug::LateOffer) && number.is_multiple_of(5) {
            // As if it had waited for a later one.
            at += 1_000_000;
        }
        let time = self.outside.history.time(self.outside.clock.now());
        offered.entry((number, mailbox.to_owned())).or_insert((at, time));
    }

    fn note_refusal(&self, number: u32, mailbox: &str) {
        let history = &self.outside.history;
        let refusal = Refusal { at: history.tick(), is_half_restored: self.mood() == Mood::HalfRestored };
        history.refused.borrow_mut().entry((number, mailbox.to_owned())).or_default().push(refusal);
    }

    /// What is said to a recipient that is not taken.
    fn verdict(&self, number: Option<u32>, mailbox: &str) -> Option<&'static str> {
        if self.host.is_smarthost {
            return None;
        }
        if self.mood() == Mood::Another {
            self.fired();
            return None;
        }
        if mailbox.starts_with("no-such-user") {
            return Some("550 5.1.1 no such user");
        }
        if self.host.is_healed.get() {
            return None;
        }
        if mailbox.starts_with("nobody") {
            return Some("550 5.1.1 no such user");
        }
        let history = &self.outside.history;
        match self.mood() {
            Mood::HalfRestored => {
                self.fired();
                Some("550 5.1.1 unknown user")
            }
            Mood::PuttingOff if number.is_some() => {
                self.fired();
                Some("452 4.2.2 mailbox full")
            }
            Mood::Greylisting => {
                let unit = (number?, mailbox.to_owned());
                let now = history.time(self.outside.clock.now());
                let first = *self.host.seen.borrow_mut().entry(unit).or_insert(now);
                if now >= first + Duration::from_secs(300) {
                    return None;
                }
                self.fired();
                Some("451 4.7.1 greylisted")
            }
            _ => None,
        }
    }

    async fn data(&mut self) -> Option<()> {
        self.closes_at(Stage::DataStart).await?;
        if self.open.as_ref().is_none_or(|open| open.recipients.is_empty()) {
            self.say("554 5.5.1 no valid recipients");
            return Some(());
        }
        self.say("354 go on");
        let mut data = Vec::new();
        loop {
            let Some(end) = self.input.windows(2).position(|pair| pair == b"\r\n") else {
                self.read().await?;
                continue;
            };
            let line: Vec<u8> = self.input.drain(..end + 2).collect();
            match line.strip_prefix(b".") {
                Some(b"\r\n") => break,
                Some(rest) => data.extend_from_slice(rest),
                None => data.extend_from_slice(&line),
            }
        }
        self.open.as_mut().expect("it was looked at").data = data;
        self.message_ends().await
    }

    async fn chunk(&mut self, line: &str) -> Option<()> {
        let mut words = line.split_ascii_whitespace().skip(1);
        let octets: usize = words.next()?.parse().ok()?;
        let is_last = words.next().is_some_and(|word| word.eq_ignore_ascii_case("LAST"));
        while self.input.len() < octets {
            self.read().await?;
        }
        let chunk: Vec<u8> = self.input.drain(..octets).collect();
        let Some(open) = self.open.as_mut().filter(|open| !open.recipients.is_empty() && !open.is_spoilt)
        else {
            if let Some(open) = &mut self.open {
                open.is_spoilt = true;
            }
            self.say("554 5.5.1 no valid recipients");
            return Some(());
        };
        open.data.extend_from_slice(&chunk);
        if is_last {
            return self.message_ends().await;
        }
        self.say("250 2.0.0 go on");
        Some(())
    }

    /// The end of data: verdict, and what is remembered.
    async fn message_ends(&mut self) -> Option<()> {
        self.closes_at(Stage::DataEnd).await?;
        if let Mood::Slow(pause) = self.mood() {
            self.fired();
            self.flush().await?;
            let until = self.outside.clock.now() + pause;
            while self.outside.clock.now() < until && !self.host.is_healed.get() {
                self.outside.clock.sleep(pause.min(Duration::from_secs(1))).await;
            }
        }
        let open = self.open.take().expect("there is one");
        let refuses = !self.host.is_smarthost && !self.host.is_healed.get();
        if refuses && find(&open.data, b"X-Spam: yes").is_some() {
            if let Some(number) = number_of(&open.reverse_path) {
                for mailbox in &open.recipients {
                    self.note_refusal(number, mailbox);
                }
            }
            self.say("554 5.7.1 not wanted");
            return Some(());
        }
        let is_deaf = self.mood() == Mood::Deaf && !self.host.is_smarthost;
        if is_deaf && self.outside.one_in(2) {
            // It has nothing, and does not say so.
            return self.hang().await;
        }
        let reply_lost = is_deaf || self.mood() == Mood::ClosesAt(Stage::DataEnd) && self.outside.one_in(2);
        self.take(open, reply_lost);
        if is_deaf {
            return self.hang().await;
        }
        if reply_lost {
            self.fired();
            return None;
        }
        if self.mood() == Mood::Rambling && self.outside.one_in(8) {
            self.fired();
            if let Some(place) = self.taken.last() {
                self.outside.history.taken.borrow_mut()[*place].reply_lost = true;
            }
            self.output.extend_from_slice(ODD[1]);
            return Some(());
        }
        self.say("250 2.0.0 taken by the primary");
        Some(())
    }

    async fn hang(&mut self) -> Option<()> {
        self.fired();
        self.flush().await?;
        // Whoever mends it starts it anew.
        while !self.host.is_healed.get() && !self.health.is_broken() && !self.health.is_left() {
            self.outside.clock.sleep(Duration::from_secs(1)).await;
        }
        None
    }

    fn take(&mut self, open: Transaction, reply_lost: bool) {
        let history = &self.outside.history;
        if self.host.is_smarthost {
            if self.outside.bug == Some(Bug::LostNotice) && open.recipients[0].contains('7') {
                return;
            }
            return history.notices.borrow_mut().push(notice_of(&open));
        }
        // What is no sender's of ours is a probe with data, which there is none of.
        let Some(number) = number_of(&open.reverse_path) else {
            return history.complain(format!("a message from <{}>", open.reverse_path));
        };
        if self.outside.bug == Some(Bug::ForgettingPrimary) && number.is_multiple_of(7) {
            return;
        }
        let taken = Taken {
            number,
            recipients: open.recipients,
            data: open.data,
            answered: None,
            life: history.life.get(),
            connection: self.number,
            by_another: self.mood() == Mood::Another,
            reply_lost,
        };
        let mut all = history.taken.borrow_mut();
        self.taken.push(all.len());
        if self.outside.bug == Some(Bug::TakenTwice) && number.is_multiple_of(7) {
            all.push(taken.clone());
        }
        all.push(taken);
    }
}

/// The path in angle brackets.
fn path_of(line: &str) -> String {
    let inside = line.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    inside.map_or("", |(path, _)| path).to_owned()
}

pub(super) fn find(octets: &[u8], what: &[u8]) -> Option<usize> {
    octets.windows(what.len()).position(|window| window == what)
}

fn notice_of(open: &Transaction) -> Notice {
    let text = String::from_utf8_lossy(&open.data);
    let field = |name: &str| -> Vec<String> {
        text.lines().filter_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned()).collect()
    };
    let units = field("Final-Recipient: rfc822;");
    let id = field("Message-ID:").into_iter().next().unwrap_or_default();
    Notice { to: open.recipients.join(","), id, units }
}
