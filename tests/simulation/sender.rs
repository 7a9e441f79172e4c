//! Senders as real ones are: they pipeline or wait, use DATA or BDAT, reset, stop in the middle, and come again with what got
//! `4xx`, or no answer. Each try is a message of its own, so that what the node made of it can be told apart.

use crate::canary::Bug;
use crate::history::{Sent, Told};
use crate::network::{End, Health, client, connect};
use crate::primary::Outside;
use core::cell::{Cell, RefCell};
use core::net::SocketAddr;
use core::time::Duration;
use futures_lite::future::or;
use std::rc::Rc;
use storage::clock::Clock;
use storage::sim::{Random, SimClock};
use stratamx::shard::link::Link;

/// What somebody wants to send.
#[derive(Clone)]
pub struct Letter {
    recipients: Vec<String>,
    proven: bool,
    is_spam: bool,
    lines: u64,
    not_before: Duration,
    tries: u32,
}

/// Letters that were put off, over all lives.
#[derive(Default)]
pub struct Letters {
    waiting: RefCell<Vec<Letter>>,
    /// No new ones are written.
    pub is_over: Cell<bool>,
}

/// Tries of a letter; then its sender gives up.
const TRIES_MAX: u32 = 4;

impl Letters {
    /// Nobody comes again.
    pub fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    fn next(&self, domains: &[String], large: bool, now: Duration, random: &mut Random) -> Option<Letter> {
        let mut waiting = self.waiting.borrow_mut();
        let due = waiting.iter().position(|letter| letter.not_before <= now);
        if let Some(due) = due.filter(|_| !random.one_in(4)) {
            return Some(waiting.swap_remove(due));
        }
        (!self.is_over.get()).then(|| Letter::new(domains, large, random))
    }

    fn again(&self, mut letter: Letter, after: Duration) {
        letter.tries += 1;
        letter.not_before = after;
        if letter.tries < TRIES_MAX {
            self.waiting.borrow_mut().push(letter);
        }
    }
}

impl Letter {
    fn new(domains: &[String], large: bool, random: &mut Random) -> Self {
        let mut recipients = Vec::new();
        let count = if random.below(10) < 3 { 2 + random.below(6) } else { 1 };
        let pick = |random: &mut Random| domains[index(random, domains.len())].clone();
        let first = pick(random);
        for _ in 0..count {
            let domain = if random.one_in(4) { pick(random) } else { first.clone() };
            let name = match random.below(24) {
                0 => "nobody".to_owned(),
                other => format!("p{}", other % 9),
            };
            let mailbox = format!("{name}@{domain}");
            if !recipients.contains(&mailbox) {
                recipients.push(mailbox);
            }
        }
        Self {
            recipients,
            proven: !random.one_in(3),
            is_spam: random.one_in(20),
            lines: if large && random.one_in(30) { 9_000 } else { random.below(120) },
            not_before: Duration::ZERO,
            tries: 0,
        }
    }

    /// What is sent for it as message `number`.
    fn data(&self, number: u32, random: &mut Random) -> Vec<u8> {
        let spam = if self.is_spam { "X-Spam: yes\r\n" } else { "" };
        let mut data = format!("Subject: {number}\r\n{spam}\r\n").into_bytes();
        for line in 0..self.lines {
            match random.below(8) {
                0 => data.extend_from_slice(b".\r\n"),
                1 => data.extend_from_slice(b"..two dots\r\n"),
                2 => data.extend_from_slice(b"\xC3\xA4\xFF eight bits\r\n"),
                3 => data.extend_from_slice(b"\r\n"),
                _ => data
                    .extend_from_slice(format!("{line} a line of some length, as lines are\r\n").as_bytes()),
            }
        }
        data
    }
}

fn index(random: &mut Random, length: usize) -> usize {
    usize::try_from(random.below(length as u64)).expect("an index")
}

/// Who sends: one connection after the other.
pub struct Sender {
    pub outside: Outside,
    pub letters: Rc<Letters>,
    pub domains: Rc<Vec<String>>,
    pub random: Random,
    /// Milliseconds between two letters, at most.
    pub pause_ms: u64,
    pub large: bool,
    /// Hands a connection to the node.
    pub admit: Rc<dyn Fn(End, SocketAddr)>,
}

/// A connection of a sender.
struct Dialogue {
    link: End,
    health: Health,
    clock: SimClock,
    input: Vec<u8>,
    heard_421: bool,
}

/// What came in place of a reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum NoReply {
    Ended,
    Silence,
}

impl Dialogue {
    async fn say(&mut self, mut octets: &[u8]) {
        while !octets.is_empty() {
            let Ok(count) = self.link.write(octets).await else { return };
            octets = &octets[count..];
        }
    }

    /// A whole reply: its code and its last line.
    async fn reply(&mut self, patience_s: u64) -> Result<(u16, String), NoReply> {
        loop {
            while let Some(end) = self.input.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.input.drain(..end + 2).take(end).collect();
                let line = String::from_utf8_lossy(&line).into_owned();
                if line.as_bytes().get(3) != Some(&b'-') {
                    let code = line.get(..3).and_then(|code| code.parse().ok()).unwrap_or(0);
                    self.heard_421 |= code == 421;
                    return Ok((code, line));
                }
            }
            let mut memory = [0; 1024];
            let clock = self.clock.clone();
            let silence = async {
                clock.sleep(Duration::from_secs(patience_s)).await;
                None
            };
            match or(async { Some(self.link.read(&mut memory).await) }, silence).await {
                None => return Err(NoReply::Silence),
                Some(Ok(count @ 1..)) => self.input.extend_from_slice(&memory[..count]),
                Some(_) => return Err(NoReply::Ended),
            }
        }
    }
}

impl Sender {
    /// Sends until the life ends, or nothing is left.
    pub async fn run(mut self) {
        loop {
            let pause = Duration::from_millis(self.random.below(self.pause_ms) + 1);
            self.outside.clock.sleep(pause).await;
            let now = self.time();
            let Some(letter) = self.letters.next(&self.domains, self.large, now, &mut self.random) else {
                if self.letters.is_over.get() && self.letters.is_empty() {
                    return;
                }
                continue;
            };
            self.connection(letter).await;
        }
    }

    fn time(&self) -> Duration {
        self.outside.history.time(self.outside.clock.now())
    }

    /// A connection, and a few letters on it.
    async fn connection(&mut self, first: Letter) {
        let outside = &self.outside;
        let mut quality = outside.quality(&Rc::default());
        quality.swallows = outside.bug == Some(Bug::SwallowedReply);
        let (node, link) = connect(&outside.history, &outside.clock, &outside.spawner, quality);
        let peer = SocketAddr::new(client(self.random.next()), 25_000);
        (self.admit)(node, peer);
        let (health, clock) = (link.health(), outside.clock.clone());
        let mut dialogue = Dialogue { link, health, clock, input: Vec::new(), heard_421: false };
        let mut letter = Some(first);
        let greeted = self.greet(&mut dialogue).await;
        let mut is_open = self.judge(&dialogue, "the greeting", greeted);
        while let Some(next) = letter.take() {
            if !is_open {
                let later = self.later();
                return self.letters.again(next, later);
            }
            is_open = self.bring(&mut dialogue, next).await;
            if self.random.one_in(2) {
                let now = self.time();
                letter = self.letters.next(&self.domains, self.large, now, &mut self.random);
            }
        }
        if is_open && !self.random.one_in(8) {
            dialogue.say(b"QUIT\r\n").await;
            let _ = dialogue.reply(300).await;
        }
    }

    async fn greet(&mut self, dialogue: &mut Dialogue) -> Result<bool, NoReply> {
        let (code, _) = dialogue.reply(300).await?;
        dialogue.say(b"EHLO sender.example\r\n").await;
        if code != 220 {
            return Ok(false);
        }
        Ok(dialogue.reply(300).await?.0 == 250)
    }

    /// P7: whoever is heard is answered. Whether it goes on.
    fn judge(&self, dialogue: &Dialogue, at: &str, result: Result<bool, NoReply>) -> bool {
        let history = &self.outside.history;
        match result {
            Ok(goes_on) => return goes_on && !dialogue.heard_421,
            Err(_) if dialogue.health.is_broken() || dialogue.heard_421 => {}
            Err(NoReply::Silence) => history.complain(format!("P7: silence instead of the reply to {at}")),
            Err(NoReply::Ended) => history.complain(format!("P7: closed without a word at {at}")),
        }
        false
    }

    fn later(&mut self) -> Duration {
        self.time() + Duration::from_secs(30 + self.random.below(300))
    }

    /// One transaction. Whether the connection is still good.
    async fn bring(&mut self, dialogue: &mut Dialogue, letter: Letter) -> bool {
        let history = Rc::clone(&self.outside.history);
        let number = history.next_number();
        let domain = if letter.proven { "proven.example" } else { "forged.example" };
        let data = letter.data(number, &mut self.random);
        let mut sent = Sent {
            number,
            reverse_path: format!("t{number}@{domain}"),
            proven: letter.proven,
            recipients: Vec::new(),
            refused: Vec::new(),
            data,
            mail_at: history.tick(),
            told_at: 0,
            told_time: Duration::ZERO,
            life: history.life.get(),
            told: Told::Abandoned,
        };
        // Known before the first octet leaves: the node may end while it is on its way.
        history.sent.borrow_mut().insert(number, sent.clone());
        let result = self.transaction(dialogue, &letter, &mut sent).await;
        sent.told_at = history.tick();
        sent.told_time = self.time();
        let puts_off = match &sent.told {
            Told::Refused(code) => *code < 500,
            Told::Nothing | Told::Abandoned => true,
            Told::Ours(_) | Told::Primarys => sent.refused.iter().any(|(_, code)| *code < 500),
        };
        let mut again = letter;
        if matches!(sent.told, Told::Ours(_) | Told::Primarys) {
            let put_off =
                |mailbox: &String| sent.refused.iter().any(|(of, code)| of == mailbox && *code < 500);
            again.recipients.retain(put_off);
        }
        again
            .recipients
            .retain(|mailbox| !sent.refused.iter().any(|(of, code)| of == mailbox && *code >= 500));
        if sent.told == Told::Primarys {
            history.count("carried through");
        }
        let at = format!("message {number}");
        history.sent.borrow_mut().insert(number, sent);
        if puts_off && !again.recipients.is_empty() {
            let later = self.later();
            self.letters.again(again, later);
        }
        self.judge(dialogue, &at, result)
    }

    async fn transaction(
        &mut self,
        dialogue: &mut Dialogue,
        letter: &Letter,
        sent: &mut Sent,
    ) -> Result<bool, NoReply> {
        let pipelines = self.random.one_in(2);
        let mail = format!("MAIL FROM:<{}>\r\n", sent.reverse_path);
        if pipelines {
            let mut all = mail;
            for mailbox in &letter.recipients {
                all.push_str(&format!("RCPT TO:<{mailbox}>\r\n"));
            }
            dialogue.say(all.as_bytes()).await;
        } else {
            dialogue.say(mail.as_bytes()).await;
        }
        let (code, _) = dialogue.reply(300).await?;
        let is_refused = code != 250;
        if is_refused {
            sent.told = Told::Refused(code);
            if !pipelines {
                return Ok(true);
            }
        }
        for mailbox in &letter.recipients {
            if !pipelines {
                dialogue.say(format!("RCPT TO:<{mailbox}>\r\n").as_bytes()).await;
            }
            match dialogue.reply(300).await?.0 {
                250 => sent.recipients.push(mailbox.clone()),
                code => sent.refused.push((mailbox.clone(), code)),
            }
        }
        if is_refused || sent.recipients.is_empty() {
            let worst = sent.refused.iter().map(|(_, code)| *code).min().unwrap_or(code);
            sent.told = Told::Refused(worst);
            return self.reset(dialogue).await;
        }
        if self.random.one_in(30) {
            self.outside.history.count("sender resets");
            return self.reset(dialogue).await;
        }
        // What the node knows from here on a checker must know.
        self.outside.history.sent.borrow_mut().insert(sent.number, sent.clone());
        if self.random.one_in(2) {
            self.by_data(dialogue, sent).await
        } else {
            self.by_chunks(dialogue, sent).await
        }
    }

    async fn reset(&mut self, dialogue: &mut Dialogue) -> Result<bool, NoReply> {
        dialogue.say(b"RSET\r\n").await;
        Ok(dialogue.reply(300).await?.0 == 250)
    }

    /// Stops in the middle, now and then.
    fn stops(&mut self) -> bool {
        let stops = self.random.one_in(30);
        if stops {
            self.outside.history.count("sender stops in the middle");
        }
        stops
    }

    async fn by_data(&mut self, dialogue: &mut Dialogue, sent: &mut Sent) -> Result<bool, NoReply> {
        dialogue.say(b"DATA\r\n").await;
        let (code, _) = dialogue.reply(120).await?;
        if code != 354 {
            sent.told = Told::Refused(code);
            return Ok(true);
        }
        let mut stuffed = Vec::new();
        for line in sent.data.split_inclusive(|octet| *octet == b'\n') {
            if line.starts_with(b".") {
                stuffed.push(b'.');
            }
            stuffed.extend_from_slice(line);
        }
        if self.stops() {
            dialogue.say(&stuffed[..index(&mut self.random, stuffed.len())]).await;
            return Ok(false);
        }
        stuffed.extend_from_slice(b".\r\n");
        self.the_end_is_near(sent);
        dialogue.say(&stuffed).await;
        self.end(dialogue, sent).await
    }

    async fn by_chunks(&mut self, dialogue: &mut Dialogue, sent: &mut Sent) -> Result<bool, NoReply> {
        let cut = index(&mut self.random, sent.data.len());
        if cut > 0 {
            let mut chunk = format!("BDAT {cut}\r\n").into_bytes();
            chunk.extend_from_slice(&sent.data[..cut]);
            dialogue.say(&chunk).await;
            let (code, _) = dialogue.reply(180).await?;
            if code != 250 {
                sent.told = Told::Refused(code);
                return self.reset(dialogue).await;
            }
        }
        if self.stops() {
            return Ok(false);
        }
        let rest = &sent.data[cut..];
        let mut chunk = format!("BDAT {} LAST\r\n", rest.len()).into_bytes();
        chunk.extend_from_slice(rest);
        self.the_end_is_near(sent);
        dialogue.say(&chunk).await;
        self.end(dialogue, sent).await
    }

    /// From here on he does not know.
    fn the_end_is_near(&self, sent: &mut Sent) {
        sent.told = Told::Nothing;
        self.outside.history.sent.borrow_mut().insert(sent.number, sent.clone());
    }

    async fn end(&mut self, dialogue: &mut Dialogue, sent: &mut Sent) -> Result<bool, NoReply> {
        let (code, line) = dialogue.reply(600).await?;
        sent.told = match (code, line.split_once("queued as ")) {
            (250, Some((_, id))) => Told::Ours(id.to_owned()),
            (250, None) => Told::Primarys,
            (code, _) => Told::Refused(code),
        };
        Ok(true)
    }
}
