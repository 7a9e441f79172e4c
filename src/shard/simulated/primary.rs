//! A primary on the simulated machine: up or down, with something to say about recipients.

use super::manner::{Act, Manner, Turn};
use super::serving::Serving;
use super::{MemoryLink, SimSpawn};
use crate::bridge::{Certificates, server_config};
use crate::shard::link::{Dialer, Spawn};
use crate::smtp::chunk::DotUnstuffer;
use crate::smtp::data::Transfer;
use crate::smtp::server::{RecipientVerdict, ServerProfile, ServerSession};
use core::cell::{Cell, RefCell};
use core::future::pending;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::CertifiedKey;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::sim::SimClock;

/// What a primary says about a local part.
pub(super) type Judge = fn(&str) -> RecipientVerdict<'static>;

/// What one that speaks LMTP says to the end of data for a local part, and how long it behaves as it does.
pub(super) type Boxes = fn(&str, Duration) -> &'static str;

/// Which addresses swallow everything.
pub(super) type Swallows = fn(IpAddr) -> bool;

/// How a primary speaks TLS.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Tls {
    /// It offers STARTTLS, and what follows is no handshake.
    Broken,
    /// It does not offer STARTTLS.
    #[default]
    Not,
    /// It offers STARTTLS.
    Offered,
    /// It offers STARTTLS and refuses it.
    Refused,
}

/// Whether a primary understands XCLIENT.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Xclient {
    #[default]
    Never,
    Always,
    /// Once a connection, though it offers it on.
    Once,
    /// Always; but its first five connections end over 198.51.100.6.
    ClosesOver,
}

/// A message that a primary took.
pub(super) struct Taken {
    /// It came through TLS.
    pub(super) is_secured: bool,
    pub(super) subject: String,
    /// Whom XCLIENT named, and what EHLO said.
    pub(super) client: Option<IpAddr>,
    pub(super) hello: String,
    /// Those that it accepted.
    pub(super) recipients: Vec<String>,
    pub(super) at: Duration,
    /// Unstuffed.
    pub(super) body: String,
    pub(super) by_chunk: bool,
}

/// What is wrong with a primary.
#[derive(Clone, Default)]
pub(super) enum Script {
    #[default]
    Nothing,
    /// Each of its first connections ends behind so many octets.
    CloseBehind(Vec<u64>),
    /// It says 421 when it has taken so many messages on a connection.
    ClosingAfter(u32),
    /// It offers CHUNKING and does not know BDAT.
    DoesNotSwallow,
    /// So often it ends the connection when it has this message.
    BreaksOver(u32, u32),
}

/// A primary in memory: down until told, then it takes everything and remembers it in the order of MAIL.
#[derive(Clone)]
pub(super) struct Primary {
    pub(super) up: Rc<Cell<bool>>,
    /// Takes connections to such an address and says nothing.
    pub(super) hangs: Rc<Cell<Swallows>>,
    /// Connections to such an address are never made, and never refused.
    pub(super) swallows: Rc<Cell<Swallows>>,
    /// Connections that are being made, and the most at a time.
    pub(super) dialing: Rc<Cell<(u32, u32)>>,
    /// Connections that were asked for.
    pub(super) dialed: Rc<Cell<u32>>,
    /// And where to.
    pub(super) addresses: Rc<RefCell<Vec<String>>>,
    /// Refuses connections to this address.
    pub(super) refuses: Rc<Cell<Option<IpAddr>>>,
    /// What it calls itself.
    pub(super) name: Rc<RefCell<String>>,
    /// What it says to RCPT, by the local part.
    pub(super) judges: Rc<Cell<Judge>>,
    /// It speaks LMTP, and this for each recipient.
    pub(super) boxes: Rc<Cell<Option<Boxes>>>,
    pub(super) taken: Rc<RefCell<Vec<Taken>>>,
    pub(super) tls: Rc<Cell<Tls>>,
    /// What it shows; none: something that it signed itself.
    pub(super) shows: Rc<RefCell<Option<Arc<ServerConfig>>>>,
    pub(super) xclient: Rc<Cell<Xclient>>,
    /// How long it thinks about a message.
    pub(super) thinks: Rc<Cell<Duration>>,
    pub(super) script: Rc<RefCell<Script>>,
    /// What it says in its own way.
    pub(super) manner: Rc<RefCell<Option<Manner>>>,
    /// Since when, and how long before that already.
    pub(super) began: Rc<Cell<(Duration, Duration)>>,
    /// So long it takes over each octet that it says, and until when.
    pub(super) drips: Rc<Cell<(Duration, Duration)>>,
    /// Connections that it served, and that it refused.
    pub(super) served: Rc<Cell<u32>>,
    pub(super) refused: Rc<Cell<u32>>,
    /// Connections that it serves now.
    pub(super) live: Rc<Cell<usize>>,
    /// Messages that had something behind them when they ended, and the most that were whole at once.
    pub(super) rode: Rc<Cell<u32>>,
    pub(super) most_behind: Rc<Cell<usize>>,
    /// How much its connections hold.
    pub(super) narrow: Rc<Cell<Option<usize>>>,
    /// Writes to it.
    pub(super) pieces: Rc<Cell<u32>>,
    /// Keywords of EHLO that it does not offer.
    pub(super) withheld: Rc<RefCell<Vec<String>>>,
    pub(super) clock: SimClock,
    spawn: SimSpawn,
}

/// Counts for as long as it is there.
struct Dialing(Rc<Cell<(u32, u32)>>);

impl Dialing {
    fn new(count: &Rc<Cell<(u32, u32)>>) -> Self {
        let (now, most) = count.get();
        count.set((now + 1, most.max(now + 1)));
        Self(Rc::clone(count))
    }
}

impl Drop for Dialing {
    fn drop(&mut self) {
        let (now, most) = self.0.get();
        self.0.set((now - 1, most));
    }
}

impl Dialer for Primary {
    type Link = MemoryLink;

    async fn dial(&self, address: SocketAddr) -> io::Result<MemoryLink> {
        self.dialed.set(self.dialed.get() + 1);
        self.addresses.borrow_mut().push(address.to_string());
        if self.swallows.get()(address.ip()) {
            let _dialing = Dialing::new(&self.dialing);
            return pending().await;
        }
        if !self.up.get() || self.refuses.get() == Some(address.ip()) {
            self.refused.set(self.refused.get() + 1);
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        self.served.set(self.served.get() + 1);
        let (mut ours, theirs) = MemoryLink::pair();
        ours.writes = Rc::clone(&self.pieces);
        if let Some(capacity) = self.narrow.get() {
            ours.narrow(capacity);
        }
        self.live.set(self.live.get() + 1);
        let (live, serving) = (Rc::clone(&self.live), Serving::run(self.clone(), address, theirs));
        self.spawn.spawn(async move {
            serving.await;
            live.set(live.get() - 1);
        });
        Ok(ours)
    }
}

impl Primary {
    pub(super) fn session(&self) -> ServerSession {
        let mut session = ServerSession::new(Arc::new(self.profile()), self.clock.now());
        if self.xclient.get() != Xclient::Never {
            session.allow_xclient();
        }
        session
    }

    fn profile(&self) -> ServerProfile {
        let hostname = self.name.borrow().clone();
        ServerProfile {
            hostname,
            max_message_size: 1 << 30,
            max_recipients: 100,
            starttls: self.tls.get() != Tls::Not,
            withheld: self.withheld.borrow().clone(),
        }
    }

    pub(super) fn take(
        &self,
        session: &ServerSession,
        data: &mut Vec<u8>,
        transfer: Transfer,
        is_secured: bool,
    ) {
        self.taken.borrow_mut().push(Taken {
            subject: subject(data),
            is_secured,
            client: session.client().address,
            hello: session.greeted_as().to_owned(),
            recipients: session.transaction().recipients().map(str::to_owned).collect(),
            at: self.clock.now(),
            body: body(data, transfer),
            by_chunk: transfer != Transfer::Data,
        });
        data.clear();
    }

    /// How long it behaves as it does.
    pub(super) fn since(&self) -> Duration {
        let (began, before) = self.began.get();
        self.clock.now() - began + before
    }

    /// What it does at this point.
    pub(super) fn act(&self, turn: &Turn<'_>) -> Act {
        self.manner.borrow().as_ref().map_or(Act::Regular, |manner| manner(turn))
    }

    /// Octets that the next connection takes.
    pub(super) fn octets(&self) -> u64 {
        match &mut *self.script.borrow_mut() {
            Script::CloseBehind(lives) if !lives.is_empty() => lives.remove(0),
            _ => u64::MAX,
        }
    }

    pub(super) fn breaks_over(&self, subject: &str) -> bool {
        match &mut *self.script.borrow_mut() {
            Script::BreaksOver(number, times @ 1..) if *subject == number.to_string() => {
                *times -= 1;
                true
            }
            _ => false,
        }
    }

    /// What it does not want to be told; true ends the connection.
    pub(super) fn names_too_much(&self, session: &ServerSession, input: &mut [u8]) -> bool {
        let found = input.windows(8).position(|octets| octets == b"XCLIENT ");
        let is_named = session.client().address.is_some();
        if let Some(at) = found.filter(|_| is_named && self.xclient.get() == Xclient::Once) {
            input[at + 1] = b'X';
        }
        self.xclient.get() == Xclient::ClosesOver
            && self.served.get() <= 5
            && input.windows(18).any(|octets| octets == b"ADDR=198.51.100.6 ")
    }

    pub(super) fn hear(&self, input: &mut [u8]) {
        const BDAT: &[u8] = b"BDAT ";
        let found: Vec<usize> = (0..input.len()).filter(|at| input[*at..].starts_with(BDAT)).collect();
        self.most_behind.set(self.most_behind.get().max(found.len()));
        if matches!(*self.script.borrow(), Script::DoesNotSwallow) {
            found.into_iter().for_each(|at| input[at] = b'X');
        }
    }
}

/// As it was before it was stuffed.
fn body(data: &[u8], transfer: Transfer) -> String {
    let mut out = Vec::new();
    match transfer {
        Transfer::Data => DotUnstuffer::default().unstuff(data, &mut out),
        Transfer::Bdat { .. } => out.extend_from_slice(data),
    }
    String::from_utf8(out).expect("text")
}

/// What it shows is signed by itself, as most primaries' is.
pub(super) fn server_tls() -> Arc<ServerConfig> {
    let made = rcgen::generate_simple_self_signed(vec!["primary.test".to_owned()]).expect("a name");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let certified = CertifiedKey::from_der(vec![made.cert.der().clone()], key, &ring::default_provider());
    server_config(Certificates::new(vec![Arc::new(certified.expect("they belong together"))])).expect("ring")
}

pub(super) fn subject(data: &[u8]) -> String {
    let text = String::from_utf8_lossy(data);
    let line = text.lines().find_map(|line| line.strip_prefix("Subject: "));
    line.unwrap_or("none").to_owned()
}

/// A primary at its beginning.
pub(super) fn primary_of(clock: &SimClock, spawn: &SimSpawn, up: bool) -> Primary {
    let taken = Rc::default();
    let judges: Judge = |_| RecipientVerdict::Accept;
    let swallows: Swallows = |_| false;
    Primary {
        up: Rc::new(Cell::new(up)),
        hangs: Rc::new(Cell::new(swallows)),
        swallows: Rc::new(Cell::new(swallows)),
        dialing: Rc::default(),
        dialed: Rc::default(),
        addresses: Rc::default(),
        refuses: Rc::default(),
        name: Rc::new(RefCell::new("primary.test".to_owned())),
        judges: Rc::new(Cell::new(judges)),
        boxes: Rc::default(),
        taken,
        tls: Rc::default(),
        shows: Rc::default(),
        xclient: Rc::default(),
        thinks: Rc::default(),
        script: Rc::default(),
        manner: Rc::default(),
        began: Rc::default(),
        drips: Rc::default(),
        served: Rc::default(),
        refused: Rc::default(),
        live: Rc::default(),
        rode: Rc::default(),
        most_behind: Rc::default(),
        narrow: Rc::default(),
        pieces: Rc::default(),
        withheld: Rc::default(),
        clock: clock.clone(),
        spawn: spawn.clone(),
    }
}
