//! A run: workers on their threads, what they tell while it lasts, and what came of it.
//!
//! Two loops. *Closed*: each session sends its next message when the last one has its answer, as fast as the server is. *Open*: messages
//! arrive on a schedule, whatever the server does; one that finds no free session waits in a bounded queue, and its latency counts from
//! when it was meant to be sent. So a server that stops for a second shows that second in every message of it, and not once a session
//! (coordinated omission). A full queue drops arrivals, and says how many.
//!
//! A message that gets no final answer (a lost connection, a 4xx) is sent again, like any sender would, until its patience is over; its
//! ledger line then bears the time of its first MAIL.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use stratamx_tools::clock::Clock;

use crate::ledger::Ledger;
use crate::shared::{Load, Note, Shared};
use crate::tally::{Counts, SLICE, Slice, Totals, histogram};
use crate::worker::Worker;

/// Who looks on.
pub(crate) trait Audience {
    /// A slice of all workers is whole.
    fn slice(&mut self, slice: &Slice) -> io::Result<()>;
    /// So many messages are done with, and this is the time.
    fn progress(&mut self, done: u64, now: Duration);
    /// A line for people.
    fn complaint(&mut self, line: &str);
}

impl Load {
    /// Sends everything.
    pub(crate) fn run(
        &self,
        ledger: &Ledger,
        stop: &Arc<AtomicBool>,
        audience: &mut impl Audience,
    ) -> io::Result<Totals> {
        let shared = Shared {
            load: self,
            ledger,
            clock: Clock::start(),
            next: AtomicU64::new(0),
            arrived: AtomicU64::new(0),
            done: AtomicU64::new(0),
            stop: Arc::clone(stop),
            hopeless: OnceLock::new(),
        };
        let (notes, heard) = channel();
        let mut totals = Totals {
            counts: Counts::default(),
            elapsed: Duration::ZERO,
            latency: histogram(),
            service: self.pace.is_open().then(histogram),
            points: Vec::new(),
            cpu: Vec::new(),
            is_interrupted: false,
            is_hopeless: false,
        };
        thread::scope(|scope| {
            let begin = |number| {
                let (shared, notes): (_, Sender<Note>) = (&shared, notes.clone());
                scope.spawn(move || Worker::new(shared, number, notes)?.run())
            };
            let workers: Vec<_> = (0..self.threads).map(begin).collect();
            drop(notes);
            let listened = listen(&heard, &shared, &mut totals, audience);
            if listened.is_err() {
                shared.stop.store(true, Ordering::Relaxed);
            }
            for worker in workers {
                let (counts, cpu) = worker.join().map_err(|_| io::Error::other("a worker broke down"))??;
                totals.counts.add(&counts);
                totals.cpu.push(cpu);
            }
            listened
        })?;
        // Leave-taking is no part of the load; what has no answer had until now to get one.
        let is_answered = totals.counts.unfinished == 0 && !totals.counts.answered_at.is_zero();
        totals.elapsed = if is_answered { totals.counts.answered_at } else { shared.clock.now() };
        totals.is_hopeless = shared.hopeless.get().is_some();
        totals.is_interrupted = shared.stop.load(Ordering::Relaxed) && !totals.is_hopeless;
        Ok(totals)
    }
}

/// Puts slices of one time together until all workers are done.
fn listen(
    heard: &Receiver<Note>,
    shared: &Shared<'_>,
    totals: &mut Totals,
    audience: &mut impl Audience,
) -> io::Result<()> {
    let mut open: BTreeMap<u64, Slice> = BTreeMap::new();
    // Slices that each worker has handed over.
    let mut handed = vec![0; shared.load.threads];
    loop {
        match heard.recv_timeout(SLICE) {
            Ok(Note::Slice(worker, slice)) => {
                handed[worker] = slice.index + 1;
                match open.get_mut(&slice.index) {
                    Some(whole) => whole.add(&slice),
                    None => drop(open.insert(slice.index, *slice)),
                }
            }
            Ok(Note::Over(worker)) => handed[worker] = u64::MAX,
            Ok(Note::Complaint(line)) => audience.complaint(&line),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        let whole = handed.iter().copied().min().unwrap_or_default();
        while let Some(first) = open.first_entry().filter(|first| *first.key() < whole) {
            close(&first.remove(), totals, audience)?;
        }
        audience.progress(shared.done.load(Ordering::Relaxed), shared.clock.now());
    }
    Ok(())
}

fn close(slice: &Slice, totals: &mut Totals, audience: &mut impl Audience) -> io::Result<()> {
    totals.latency.add(&slice.latency).expect("the histogram grows as it needs");
    if let (Some(ours), Some(theirs)) = (&mut totals.service, &slice.service) {
        ours.add(theirs).expect("the histogram grows as it needs");
    }
    totals.points.push(slice.point());
    audience.slice(slice)
}
