//! Rows of the trace, from where something became of a message to the task that writes them (`replay::chronicle`): memory, with
//! a bound, and no wait. Nothing of mail depends on them.

use crate::limits::{TRACE_OCTETS_ENOUGH, TRACE_OCTETS_GATHERED_MAX};
use async_channel::Sender;
use core::cell::{Cell, RefCell};
use core::net::SocketAddr;
use storage::format::message::MessageView;
use storage::format::trace::{Accepted, ROW_UNITS_MAX, TraceRow, TracedUnit, What, row_octets};
use storage::notify::Notify;
use storage::position::{QueueId, Stamp, UnixMillis};
use storage::trace::Pending;

/// What a row says beside what became of whom.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Told {
    /// When it was so.
    pub(super) at: UnixMillis,
    /// The message; 0 where its record cannot be read.
    pub(super) queue_id: QueueId,
    pub(super) stamp: Stamp,
    pub(super) reverse_path: String,
    /// The host that was tried.
    pub(super) host: Option<SocketAddr>,
    /// It stands in the primary's place.
    pub(super) is_redirected: bool,
    /// The message had left its place in the order before.
    pub(super) is_aside: bool,
    pub(super) accepted: Option<Accepted>,
    /// Of the units: what was said about them.
    pub(super) units: Vec<Said>,
}

/// What was said about a unit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Said {
    pub(super) ordinal: u16,
    pub(super) mailbox: String,
    pub(super) code: u16,
    pub(super) text: String,
}

/// What became of a unit: its ordinal, and the code of a fact.
pub(super) type Became = (u16, What, u16);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Traces {
    gathered: RefCell<Vec<Pending>>,
    octets: Cell<usize>,
    /// Something is to be written.
    pub(super) arrived: Notify,
    /// It need not wait for company.
    pub(super) enough: Notify,
    /// Dropped when what had gathered is written, or lost.
    flushes: RefCell<Vec<Sender<()>>>,
    is_closing: Cell<bool>,
}

impl Traces {
    /// Adds what became of some units of a message. Gives how many rows there was no room for.
    pub(super) fn add(&self, told: &Told, domain: &str, became: &[Became]) -> u64 {
        let mut lost = 0;
        for part in became.chunks(ROW_UNITS_MAX) {
            let units = part.iter().map(|became| unit(told, *became)).collect();
            let is_final = part.iter().any(|(_, what, _)| what.is_final());
            let row = TraceRow {
                stamp: told.stamp,
                domain: domain.to_owned(),
                reverse_path: told.reverse_path.clone(),
                host: told.host,
                is_redirected: told.is_redirected,
                is_aside: told.is_aside,
                // A try tells it no second time: while the message is queued its record does.
                accepted: told.accepted.clone().filter(|_| is_final),
                units,
            };
            let mut payload = Vec::new();
            row.encode(&mut payload);
            lost += u64::from(!self.push(Pending { at: told.at, queue_id: told.queue_id, payload }));
        }
        lost
    }

    fn push(&self, row: Pending) -> bool {
        let octets = self.octets.get() + row_octets(row.payload.len());
        if octets > TRACE_OCTETS_GATHERED_MAX {
            return false;
        }
        self.octets.set(octets);
        let mut gathered = self.gathered.borrow_mut();
        gathered.push(row);
        if gathered.len() == 1 {
            self.arrived.notify_all();
        }
        if octets >= TRACE_OCTETS_ENOUGH {
            self.enough.notify_all();
        }
        true
    }

    /// What has gathered, and who waits for it to be written.
    pub(super) fn take(&self) -> (Vec<Pending>, Vec<Sender<()>>) {
        self.octets.set(0);
        (self.gathered.take(), self.flushes.take())
    }

    /// Whether nothing is to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.gathered.borrow().is_empty()
    }

    /// Whether it need not wait for company.
    pub(super) fn is_urgent(&self) -> bool {
        self.octets.get() >= TRACE_OCTETS_ENOUGH || !self.flushes.borrow().is_empty() || self.is_closing()
    }

    /// Completes when what has gathered until now is written, or lost.
    pub(super) async fn flush(&self) {
        if self.is_empty() || self.is_closing() {
            return;
        }
        let (written, done) = async_channel::bounded::<()>(1);
        self.flushes.borrow_mut().push(written);
        self.enough.notify_all();
        self.arrived.notify_all();
        // Nothing is ever sent.
        let _ = done.recv().await;
    }

    /// Nothing more comes: what has gathered is written, then the task ends.
    pub(super) fn close(&self) {
        self.is_closing.set(true);
        self.enough.notify_all();
        self.arrived.notify_all();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.get()
    }
}

impl Told {
    /// What a record tells, about these of its units.
    pub(super) fn of_record(
        message: &MessageView<'_>,
        (queue_id, stamp, received_s): (QueueId, Stamp, u32),
        ordinals: impl Iterator<Item = u16>,
        at: UnixMillis,
    ) -> Self {
        let said = |ordinal: u16| {
            let mailbox = message.recipients.get(usize::from(ordinal)).copied().unwrap_or_default();
            Said { ordinal, mailbox: mailbox.to_owned(), code: 0, text: String::new() }
        };
        Self {
            at,
            queue_id,
            stamp,
            reverse_path: message.reverse_path.to_owned(),
            host: None,
            is_redirected: false,
            is_aside: message.extensions.replay_of.is_some(),
            accepted: Some(accepted(message, received_s)),
            units: ordinals.map(said).collect(),
        }
    }

    /// What is known of a message whose record cannot be read.
    pub(super) const fn unreadable(queue_id: QueueId, stamp: Stamp, at: UnixMillis) -> Self {
        Self {
            at,
            queue_id,
            stamp,
            reverse_path: String::new(),
            host: None,
            is_redirected: false,
            is_aside: true,
            accepted: None,
            units: Vec::new(),
        }
    }
}

/// What the record of a message says of its acceptance.
pub(super) fn accepted(message: &MessageView<'_>, received_s: u32) -> Accepted {
    Accepted {
        received_s,
        size: message.data.unstuffed_octets,
        client: message.client,
        helo: message.helo.to_owned(),
        tls: message.extensions.tls.map(|tls| (tls.version, tls.cipher_suite)),
    }
}

fn unit(told: &Told, (ordinal, what, code): Became) -> TracedUnit {
    let said = told.units.iter().find(|said| said.ordinal == ordinal);
    let (mailbox, text) =
        said.map_or_else(Default::default, |said| (said.mailbox.clone(), said.text.clone()));
    let code = if code == 0 { said.map_or(0, |said| said.code) } else { code };
    TracedUnit { ordinal, what, code, mailbox, text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::format::journal_entry::Outcome;

    fn told(units: u16) -> Told {
        let said = |ordinal| Said {
            ordinal,
            mailbox: format!("r{ordinal}@a.test"),
            code: 450,
            text: "later".to_owned(),
        };
        let mut told = Told::unreadable(QueueId(9), Stamp(7), UnixMillis(5));
        told.units = (0..units).map(said).collect();
        told
    }

    #[test]
    fn units_are_dealt_out_to_rows_that_fit() {
        let traces = Traces::default();
        let became: Vec<Became> = (0..250).map(|ordinal| (ordinal, What::Deferred, 0)).collect();
        assert_eq!(traces.add(&told(250), "a.test", &became), 0);
        let (rows, _) = traces.take();
        let rows: Vec<TraceRow> = rows.iter().filter_map(|row| TraceRow::decode(&row.payload)).collect();
        assert_eq!(rows.iter().map(|row| row.units.len()).collect::<Vec<_>>(), [100, 100, 50]);
        let last = rows[2].units.last().unwrap();
        assert_eq!(
            (last.ordinal, last.code, &*last.mailbox, &*last.text),
            (249, 450, "r249@a.test", "later")
        );
    }

    #[test]
    fn p7_what_cannot_be_written_is_lost_and_counted() {
        let traces = Traces::default();
        let became = [(0, What::Outcome(Outcome::Delivered), 250)];
        let mut lost = 0;
        for _ in 0..100_000 {
            lost += traces.add(&told(1), "a.test", &became);
        }
        assert!(lost > 0 && traces.is_urgent());
        let (rows, _) = traces.take();
        assert_eq!(rows.len() as u64 + lost, 100_000);
        assert_eq!(traces.add(&told(1), "a.test", &became), 0, "there is room again");
    }
}
