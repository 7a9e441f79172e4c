//! Tickets: which message may leave on which connection of a domain, so that several connections keep the order of each
//! recipient (P3, H47). Pure: the lane takes messages from its queue, reads them and tells; this says what is next.
//!
//! Each message has a ticket from the moment it is taken from the queue until it has an outcome. A ticket names the recipients
//! by a set of bits, one of 256 a recipient: two that share none share no recipient, two that share one are taken to. A false
//! match costs a chance to go at the same time and never the order, and 500 recipients cost what one does.
//! ```text
//!    taken --> Unread --> Waiting --> InFlight(connection) --> (an outcome: the ticket is torn)
//! ```
//! A message may leave on connection c when for each earlier ticket that shares a recipient with it: that one is in flight on c.
//! - What is in flight on c was pushed before, so its MAIL is in front on the wire, and if c breaks both come back.
//! - What is in flight elsewhere may come back from there, so it has to have its outcome first. "Offered" is not enough: the
//!   first try may have reached nobody.
//! - An unread ticket shares recipients with everybody. What waits in the queue again (it came back) blocks all later ones, until
//!   it is taken again: the caller says what the first stamp in the queue is.
//! - What stepped aside has left the order: it blocks nobody, and nothing blocks it. What comes again since it was greylisted has not.
//!
//! No deadlock: of the tickets that are not in flight the earliest that is read waits for such only as are in flight, and each
//! of these has an outcome when its connection answers, breaks, or is out of time. A message is never split, so nothing waits
//! while it holds half of what it needs.
//!
//! Memory: [`READ_AHEAD_MAX`] tickets of some hundred octets beside what is in flight, with [`READ_AHEAD_KEYS_MAX`] keys, and messages
//! in [`READ_AHEAD_OCTETS`]. What is read and has no room until it can go is read once more then.

use crate::limits::{READ_AHEAD_KEYS_MAX, READ_AHEAD_MAX, READ_AHEAD_OCTETS};
use crate::shard::backlog::Key;
use core::hash::{Hash, Hasher};
use std::hash::DefaultHasher;
use storage::position::Stamp;

/// See the module. `M` is a message that was read.
#[derive(Debug)]
pub(super) struct Order<M> {
    /// By stamp.
    tickets: Vec<Ticket<M>>,
    /// Of messages that wait, as they are held.
    octets: usize,
    /// Of tickets that wait.
    keys: usize,
}

/// Whoever has messages in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ConnectionId(pub(super) u64);

/// Recipients of messages, as far as they have to be told apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Recipients([u64; 4]);

#[derive(Debug)]
struct Ticket<M> {
    stamp: Stamp,
    recipients: Recipients,
    /// It stepped aside.
    is_aside: bool,
    state: State<M>,
}

#[derive(Debug)]
enum State<M> {
    Unread,
    /// None: it has to be read again.
    Waiting(Option<M>, usize, Box<[Key]>),
    InFlight(ConnectionId),
}

impl Recipients {
    const ALL: Self = Self([u64::MAX; 4]);
    const NONE: Self = Self([0; 4]);

    /// Those with these names.
    pub(super) fn of<N: Hash>(names: impl IntoIterator<Item = N>) -> Self {
        let mut all = Self::NONE;
        for name in names {
            let mut hasher = DefaultHasher::new();
            name.hash(&mut hasher);
            let bit = hasher.finish() % 256;
            all.0[usize::try_from(bit / 64).expect("below 4")] |= 1 << (bit % 64);
        }
        all
    }

    fn shares(self, other: Self) -> bool {
        self.0.iter().zip(other.0).any(|(these, those)| these & those != 0)
    }

    fn add(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(these, those)| *these |= those);
    }
}

impl<M> Default for Order<M> {
    fn default() -> Self {
        Self { tickets: Vec::new(), octets: 0, keys: 0 }
    }
}

impl<M> Order<M> {
    /// A message was taken from the queue; it steps aside or is in order.
    ///
    /// # Panics
    /// If it has a ticket.
    pub(super) fn take(&mut self, stamp: Stamp, is_aside: bool) {
        let recipients = if is_aside { Recipients::NONE } else { Recipients::ALL };
        let at = self.tickets.binary_search_by_key(&stamp, |ticket| ticket.stamp);
        let at = at.expect_err("a message is taken once");
        self.tickets.insert(at, Ticket { stamp, recipients, is_aside, state: State::Unread });
    }

    /// It was read: whom it is for, what of them is counted by rates, and how many octets of memory it has.
    pub(super) fn read(
        &mut self,
        stamp: Stamp,
        recipients: Recipients,
        keys: Box<[Key]>,
        message: M,
        octets: usize,
    ) {
        let has_room = self.octets == 0 || self.octets + octets <= READ_AHEAD_OCTETS;
        let Some(ticket) = self.ticket(stamp) else { return };
        assert!(matches!(ticket.state, State::Unread), "what waits was read");
        if !ticket.is_aside {
            ticket.recipients = recipients;
        }
        let count = keys.len();
        ticket.state = State::Waiting(Some(message), octets, keys);
        self.octets += octets;
        self.keys += count;
        if !has_room {
            self.forget_last();
        }
    }

    /// The first message that may leave on `connection` while nothing before `queued` waits to be taken, and that `may_go`
    /// lets go by the rates of its recipients. It is in flight from here on. Without a message: it has to be read again.
    pub(super) fn pick(
        &mut self,
        connection: ConnectionId,
        queued: Option<Stamp>,
        mut may_go: impl FnMut(&[Key]) -> bool,
    ) -> Option<(Stamp, Option<M>)> {
        let mut blocked = Recipients::NONE;
        let has_asides = self.tickets.iter().any(|ticket| ticket.is_aside);
        let mut waits_long = false;
        for ticket in &mut self.tickets {
            let is_free = ticket.is_aside
                || (queued.is_none_or(|queued| ticket.stamp < queued) && !ticket.recipients.shares(blocked));
            match &mut ticket.state {
                State::InFlight(other) if *other == connection => {}
                State::Waiting(message, octets, keys) => {
                    let may_go = is_free && may_go(keys);
                    waits_long |= is_free && !may_go;
                    let message = if may_go || waits_long { message.take() } else { None };
                    self.octets -= if message.is_some() { *octets } else { 0 };
                    if may_go {
                        self.keys -= keys.len();
                        ticket.state = State::InFlight(connection);
                        return Some((ticket.stamp, message));
                    }
                    // What waits for a rate, or behind such, names no place meanwhile.
                    blocked.add(ticket.recipients);
                }
                State::Unread | State::InFlight(_) => blocked.add(ticket.recipients),
            }
            if blocked == Recipients::ALL && !has_asides {
                break;
            }
        }
        None
    }

    /// Whether something of what was read could go on a connection that has nothing in flight, by its ticket.
    pub(super) fn could_go(&self, queued: Option<Stamp>) -> bool {
        let mut blocked = Recipients::NONE;
        self.tickets.iter().any(|ticket| {
            let in_order = queued.is_none_or(|queued| ticket.stamp < queued);
            let is_free = ticket.is_aside || (in_order && !ticket.recipients.shares(blocked));
            blocked.add(ticket.recipients);
            is_free && matches!(ticket.state, State::Waiting(..))
        })
    }

    /// It has an outcome, or is back in the queue.
    pub(super) fn leave(&mut self, stamp: Stamp) {
        if let Ok(at) = self.tickets.binary_search_by_key(&stamp, |ticket| ticket.stamp)
            && let State::Waiting(message, octets, keys) = self.tickets.remove(at).state
        {
            self.octets -= if message.is_some() { octets } else { 0 };
            self.keys -= keys.len();
        }
    }

    /// Whether another one may be taken, `queued` being the first that is in order and waits in the queue.
    pub(super) fn has_room(&self, queued: Option<Stamp>) -> bool {
        let waiting = self.tickets.iter().filter(|ticket| !matches!(ticket.state, State::InFlight(_)));
        let last = self.tickets.last().map(|last| last.stamp);
        // What came back goes before what is here, whatever the room.
        let is_full = self.keys >= READ_AHEAD_KEYS_MAX || waiting.count() >= READ_AHEAD_MAX;
        !is_full || queued.is_some_and(|queued| last.is_some_and(|last| queued < last))
    }

    /// Messages in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.tickets.iter().filter(|ticket| matches!(ticket.state, State::InFlight(_))).count()
    }

    /// Whether it is one of them.
    pub(super) fn is_in_flight(&self, stamp: Stamp) -> bool {
        let at = self.tickets.binary_search_by_key(&stamp, |ticket| ticket.stamp);
        at.is_ok_and(|at| matches!(self.tickets[at].state, State::InFlight(_)))
    }

    /// Messages that were taken and are not in flight.
    pub(super) fn waiting(&self) -> impl Iterator<Item = Stamp> {
        let waiting = self.tickets.iter().filter(|ticket| !matches!(ticket.state, State::InFlight(_)));
        waiting.map(|ticket| ticket.stamp)
    }

    fn ticket(&mut self, stamp: Stamp) -> Option<&mut Ticket<M>> {
        let at = self.tickets.binary_search_by_key(&stamp, |ticket| ticket.stamp).ok()?;
        Some(&mut self.tickets[at])
    }

    /// The last message that waits is read again when its time comes.
    fn forget_last(&mut self) {
        let held = self.tickets.iter_mut().rev().find_map(|ticket| match &mut ticket.state {
            State::Waiting(message @ Some(_), octets, _) => Some((message, *octets)),
            State::Unread | State::Waiting(..) | State::InFlight(_) => None,
        });
        if let Some((message, octets)) = held {
            *message = None;
            self.octets -= octets;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use storage::sim::Random;

    const ONE: ConnectionId = ConnectionId(1);
    const TWO: ConnectionId = ConnectionId(2);

    fn order_of(messages: &[(u64, &[&str])]) -> Order<u64> {
        let mut order = Order::default();
        for (stamp, names) in messages {
            order.take(Stamp(*stamp), false);
            order.read(Stamp(*stamp), Recipients::of(*names), Box::default(), *stamp, 10);
        }
        order
    }

    fn pick(order: &mut Order<u64>, connection: ConnectionId) -> Option<u64> {
        order.pick(connection, None, |_| true).map(|(stamp, _)| stamp.0)
    }

    #[test]
    fn p3_who_shares_a_recipient_rides_behind_on_the_same_connection_or_waits() {
        let mut order = order_of(&[(1, &["a"]), (2, &["a"]), (3, &["b"]), (4, &["b", "a"]), (5, &["c"])]);
        assert_eq!(pick(&mut order, ONE), Some(1));
        assert_eq!(pick(&mut order, TWO), Some(3), "2 shares a with 1, which is in flight on the other");
        assert_eq!(pick(&mut order, ONE), Some(2));
        assert_eq!(pick(&mut order, ONE), Some(5), "4 shares b with 3, though 2 is here");
        assert_eq!(pick(&mut order, TWO), None);
        order.leave(Stamp(3));
        assert_eq!(pick(&mut order, TWO), None, "a is in flight on the first");
        assert_eq!(pick(&mut order, ONE), Some(4));
        assert_eq!((order.in_flight(), order.waiting().count()), (4, 0));
    }

    #[test]
    fn h47_what_waits_blocks_those_behind_it_with_all_of_its_recipients() {
        let mut order = order_of(&[(1, &["a"]), (2, &["a", "b"]), (3, &["b"]), (4, &["c"])]);
        assert_eq!(pick(&mut order, ONE), Some(1));
        // 2 waits for 1, and so does 3: it shares b with 2, which waits.
        assert_eq!(pick(&mut order, TWO), Some(4));
        assert_eq!(pick(&mut order, TWO), None);
        order.leave(Stamp(1));
        assert_eq!(pick(&mut order, TWO), Some(2));
        assert_eq!(pick(&mut order, ONE), None);
        assert_eq!(pick(&mut order, TWO), Some(3));
    }

    #[test]
    fn what_is_not_read_blocks_all_behind_it_and_what_stepped_aside_nobody() {
        let mut order = order_of(&[(2, &["b"])]);
        order.take(Stamp(1), false);
        assert_eq!(pick(&mut order, ONE), None);
        order.take(Stamp(0), true);
        order.read(Stamp(0), Recipients::of(["b"]), Box::default(), 0, 1);
        assert_eq!(pick(&mut order, TWO), Some(0));
        order.read(Stamp(1), Recipients::of(["a"]), Box::default(), 1, 1);
        assert_eq!(pick(&mut order, ONE), Some(1));
        assert_eq!(pick(&mut order, TWO), Some(2), "0 blocks nobody");
    }

    #[test]
    fn p3_what_came_back_into_the_queue_goes_before_all_that_is_later() {
        let mut order = order_of(&[(2, &["a"]), (3, &["b"])]);
        assert!(order.pick(ONE, Some(Stamp(1)), |_| true).is_none(), "1 waits in the queue");
        assert!(order.has_room(Some(Stamp(1))));
        assert_eq!(order.pick(ONE, Some(Stamp(3)), |_| true), Some((Stamp(2), Some(2))));
    }

    #[test]
    fn who_is_over_his_rate_holds_up_his_own_mail_only() {
        let mut order = Order::default();
        for (stamp, name, key) in [(1, "a", 1), (2, "b", 2), (3, "a", 1)] {
            order.take(Stamp(stamp), false);
            order.read(Stamp(stamp), Recipients::of([name]), [Key(key)].into(), stamp, 10);
        }
        let rate = |keys: &[Key]| !keys.contains(&Key(1));
        assert_eq!(order.pick(ONE, None, rate), Some((Stamp(2), Some(2))));
        assert_eq!(order.pick(ONE, None, rate), None);
        assert_eq!(pick(&mut order, ONE), Some(1));
        assert_eq!(order.keys, 1);
    }

    #[test]
    fn read_ahead_has_a_bound_and_what_has_no_room_is_read_again() {
        let mut order = Order::default();
        let many = u64::try_from(READ_AHEAD_MAX).expect("small");
        for stamp in 1..=many {
            assert!(order.has_room(None));
            order.take(Stamp(stamp), false);
            order.read(Stamp(stamp), Recipients::of(["a"]), Box::default(), stamp, READ_AHEAD_OCTETS / 2);
        }
        assert!(!order.has_room(None) && order.octets <= READ_AHEAD_OCTETS);
        assert_eq!(order.pick(ONE, None, |_| true), Some((Stamp(1), Some(1))));
        assert_eq!(order.pick(ONE, None, |_| true), Some((Stamp(2), Some(2))));
        assert_eq!(order.pick(ONE, None, |_| true), Some((Stamp(3), None)));
        for stamp in 1..=many {
            order.leave(Stamp(stamp));
        }
        assert_eq!((order.octets, order.keys, order.tickets.len()), (0, 0, 0));
    }

    /// A story of messages, connections that answer and connections that break. `recipients` makes the tickets; what is checked
    /// goes by the names.
    fn story(seed: u64, recipients: fn(&[u64]) -> Recipients) -> Result<(), String> {
        let mut random = Random::new(seed);
        let connections = 1 + random.below(8);
        let mut queue: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for stamp in 1..=60 {
            let count = if random.below(10) < 3 { 1 + random.below(20) } else { 1 };
            queue.insert(stamp, (0..count).map(|_| random.below(30)).collect());
        }
        let all = queue.clone();
        let shares = |one: u64, other: u64| all[&one].iter().any(|name| all[&other].contains(name));
        let (mut order, mut flying) = (Order::default(), BTreeMap::<u64, Vec<u64>>::new());
        let mut done: BTreeMap<u64, u64> = BTreeMap::new();
        for _ in 0..20_000 {
            let queued = queue.keys().next().copied();
            let at = 1 + random.below(connections);
            match (random.below(4), queued) {
                (0, Some(stamp)) if order.has_room(queued.map(Stamp)) => {
                    let names = queue.remove(&stamp).expect("the first");
                    order.take(Stamp(stamp), false);
                    order.read(Stamp(stamp), recipients(&names), Box::default(), stamp, 10);
                }
                (1, _) => {
                    if let Some((stamp, _)) = order.pick(ConnectionId(at), queued.map(Stamp), |_| true) {
                        // On its own wire it is behind what is in flight there.
                        let mut elsewhere = flying.iter().filter(|(other, _)| **other != at);
                        if elsewhere.any(|(_, there)| there.iter().any(|before| shares(*before, stamp.0))) {
                            return Err(format!("seed {seed}: {} flies beside another", stamp.0));
                        }
                        flying.entry(at).or_default().push(stamp.0);
                    }
                }
                (2, _) if flying.get(&at).is_some_and(|there| !there.is_empty()) => {
                    let stamp = flying.get_mut(&at).expect("it is there").remove(0);
                    order.leave(Stamp(stamp));
                    for name in &all[&stamp] {
                        if done.insert(*name, stamp).is_some_and(|before| before > stamp) {
                            return Err(format!("seed {seed}: {stamp} is late for {name}"));
                        }
                    }
                }
                (3, _) if random.below(20) == 0 => {
                    // A connection breaks: what was on it is back in its place.
                    for stamp in flying.remove(&at).unwrap_or_default() {
                        order.leave(Stamp(stamp));
                        queue.insert(stamp, all[&stamp].clone());
                    }
                }
                _ => {}
            }
            if queue.is_empty() && order.tickets.is_empty() {
                return Ok(());
            }
        }
        Err(format!("seed {seed}: it does not end"))
    }

    #[test]
    fn p3_h47_random_stories_have_no_inversion_and_end() {
        for seed in 1..=300 {
            assert_eq!(story(seed, |names| Recipients::of(names)), Ok(()));
        }
    }

    /// Tickets that go by the first recipient alone, and such as are for nobody.
    #[test]
    fn h47_tickets_that_leave_out_a_recipient_are_found_out() {
        for recipients in [|names: &[u64]| Recipients::of(names.first()), |_: &[u64]| Recipients::NONE] {
            let found = (1..=300).filter(|seed| story(*seed, recipients).is_err()).count();
            assert!(found > 250, "{found} of 300");
        }
    }
}
