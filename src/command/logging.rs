//! Log output: for people on a terminal, JSON lines otherwise, on standard error.
//!
//! A core puts its lines into memory that a thread empties: a terminal that stands still never stops it, and a line costs it neither a
//! system call nor a wake-up while others are waiting already. What is there leaves together, [`GATHERING`] behind its first line. A reader that is
//! slower than the server loses lines, which are counted and told; at the end one that stands still is waited for in bounded time. `RUST_LOG` filters as usual; the default is `info`.

use crate::control::process::Tail;
use core::mem;
use core::time::Duration;
use std::io::{self, IsTerminal, Write, stderr};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use tracing_subscriber::EnvFilter;

/// How long the first line waits for others.
const GATHERING: Duration = Duration::from_millis(5);
/// Octets that wait for the reader at most.
const WAITING_OCTETS_MAX: usize = 4 << 20;
/// How long the end waits for the reader.
const END_PATIENCE: Duration = Duration::from_secs(1);

/// Writes what is left when it is dropped.
#[derive(Debug)]
pub(super) struct Log {
    lines: Arc<Lines>,
    tail: Arc<Tail>,
}

/// Lines on their way.
#[derive(Debug, Default)]
pub(super) struct Lines {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    octets: Vec<u8>,
    /// Lines that found no room.
    lost: u64,
    is_ending: bool,
    has_ended: bool,
}

/// Starts the log. Lines are written until what it returns is dropped.
pub(super) fn start() -> Log {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,hickory_resolver=warn"));
    let terminal = stderr().is_terminal();
    let log = Log::to(stderr());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    let builder = builder.with_writer(Arc::clone(&log.lines));
    if terminal {
        builder.with_ansi(true).init();
    } else {
        builder.json().flatten_event(true).with_ansi(false).init();
    }
    log
}

impl Log {
    fn to(output: impl Write + Send + 'static) -> Self {
        let (lines, tail) = (Arc::<Lines>::default(), Arc::<Tail>::default());
        let (taken, kept) = (Arc::clone(&lines), Arc::clone(&tail));
        let writer = std::thread::Builder::new().name("log".to_owned());
        writer.spawn(move || taken.write_to(output, &kept)).expect("a thread can be started");
        Self { lines, tail }
    }

    /// Its end, for who asks what happened.
    pub(super) fn tail(&self) -> Arc<Tail> {
        Arc::clone(&self.tail)
    }

    /// For who ends the process otherwise.
    pub(super) fn lines(&self) -> Arc<Lines> {
        Arc::clone(&self.lines)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.lines.end(END_PATIENCE);
    }
}

impl Lines {
    /// Nobody panics while he holds it, but where memory ends: what is there is whole.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing comes any more: waits until all is written, for as long as `patience` has it.
    pub(super) fn end(&self, patience: Duration) {
        let mut waiting = self.lock();
        waiting.is_ending = true;
        self.changed.notify_all();
        drop(self.changed.wait_timeout_while(waiting, patience, |waiting| !waiting.has_ended));
    }

    /// Until it ends and nothing is left. A reader that is gone loses what it did not read.
    fn write_to(&self, mut output: impl Write, tail: &Tail) {
        let mut octets = Vec::new();
        loop {
            let has_none = |waiting: &mut Waiting| !waiting.is_ending && waiting.octets.is_empty();
            let waiting =
                self.changed.wait_while(self.lock(), has_none).unwrap_or_else(PoisonError::into_inner);
            let not_ending = |waiting: &mut Waiting| !waiting.is_ending;
            let gathered = self.changed.wait_timeout_while(waiting, GATHERING, not_ending);
            let mut waiting = gathered.unwrap_or_else(PoisonError::into_inner).0;
            mem::swap(&mut octets, &mut waiting.octets);
            let (lost, is_ending) = (mem::take(&mut waiting.lost), waiting.is_ending);
            drop(waiting);
            // First: a reader that stands still is what somebody may ask about.
            tail.push(&octets);
            let _ = output.write_all(&octets).and_then(|()| output.flush());
            octets.clear();
            if lost > 0 {
                tracing::warn!(lost, "the log is not read as fast as it is written: lines are lost");
            }
            if is_ending && lost == 0 {
                self.lock().has_ended = true;
                self.changed.notify_all();
                return;
            }
        }
    }
}

/// One call a line.
impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut waiting = self.lock();
        if waiting.octets.len() + line.len() > WAITING_OCTETS_MAX {
            waiting.lost += 1;
            return Ok(line.len());
        }
        let is_first = waiting.octets.is_empty();
        waiting.octets.extend_from_slice(line);
        drop(waiting);
        if is_first {
            self.changed.notify_all();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// Says when it is written to, and goes on when it is told.
    struct Reader {
        began: Sender<Vec<u8>>,
        goes_on: Receiver<()>,
    }

    impl Write for Reader {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.began.send(octets.to_vec()).unwrap();
            self.goes_on.recv().unwrap();
            Ok(octets.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn log() -> (Log, Receiver<Vec<u8>>, Sender<()>) {
        let ((began, written), (go_on, goes_on)) = (channel(), channel());
        (Log::to(Reader { began, goes_on }), written, go_on)
    }

    #[test]
    fn lines_leave_together_in_order_and_all_before_the_end() {
        let (log, written, go_on) = log();
        let lines = Arc::clone(&log.lines);
        for number in 0..100 {
            writeln!(&*lines, "{number}").unwrap();
        }
        let dropped = std::thread::spawn(move || drop(log));
        let mut all = Vec::new();
        let mut calls = 0;
        while all.iter().filter(|octet| **octet == b'\n').count() < 100 {
            all.extend(written.recv().unwrap());
            go_on.send(()).unwrap();
            calls += 1;
        }
        dropped.join().unwrap();
        let expected: String = (0..100).map(|number| format!("{number}\n")).collect();
        assert_eq!(String::from_utf8(all).unwrap(), expected);
        assert!(calls < 100, "a call a line");
    }

    #[test]
    fn p7_a_reader_that_stands_still_stops_nobody_and_what_it_missed_is_counted() {
        let (log, written, go_on) = log();
        let line = [b'x'; 1 << 10];
        (&*log.lines).write_all(&line).unwrap();
        // It has the first line, and reads no more.
        written.recv().unwrap();
        for _ in 0..WAITING_OCTETS_MAX / line.len() + 7 {
            (&*log.lines).write_all(&line).unwrap();
        }
        let waiting = log.lines.lock();
        assert_eq!((waiting.octets.len(), waiting.lost), (WAITING_OCTETS_MAX, 7));
        drop(waiting);
        // Neither does the end wait for it for ever.
        log.lines.end(Duration::from_millis(1));
        assert!(!log.lines.lock().has_ended);
        go_on.send(()).unwrap();
        assert_eq!(written.recv().unwrap().len(), WAITING_OCTETS_MAX);
        go_on.send(()).unwrap();
        drop(log);
    }
}
