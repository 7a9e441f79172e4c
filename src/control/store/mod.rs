//! The control plane's database: `control.sqlite` in the data directory, one SQLite file with one thread.
//!
//! It keeps what the API provisions and what happened: domains, their recipients, tokens, the audit log. Mail is never in
//! it, and no mail and no question about names waits for it: what mail needs is mirrored in memory ([`super::provisioning`]) and
//! stays in force whatever becomes of the file while the process runs.
//!
//! - Work is a closure over the connection; each is one transaction or a single statement, durable when it is answered (WAL,
//!   `synchronous = FULL`).
//! - Another program's lock is waited for [`STORE_LOCK_PATIENCE`], then the work fails ([`StoreError::Locked`]); behind a full queue it
//!   fails at once ([`StoreError::Busy`]). Work that panics fails alone: its transaction is rolled back.
//! - A start that cannot read the file, or finds it damaged, does not go on: mail of provisioned domains would be refused for
//!   good, and senders who find nobody come again. Of an older copy the domains hold that are in it (H14).
//! - A file that a newer version wrote is read as long as that version says so ([`schema`], H13).

pub mod alert;
pub mod answer;
pub mod audit;
pub mod domain;
pub mod recipient;
mod reserve;
mod schema;
pub mod token;

use crate::auth::contained::contain;
use crate::limits::{RESERVE_OCTETS, RESERVE_PIECE_OCTETS, STORE_LOCK_PATIENCE, STORE_QUEUE};
use async_channel::{Receiver, Sender, TrySendError};
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use reserve::Reserve;
use rusqlite::ErrorCode;
pub use rusqlite::{Connection, Result as SqlResult, Transaction};
use rustix::fs::{Mode, OFlags, open};
use schema::SchemaError;
use std::path::Path;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

/// SQLite's extended result code SQLITE_IOERR_SHMSIZE.
const IOERR_SHMSIZE: i32 = 10 | (19 << 8);

/// The file in the data directory.
pub const NAME: &str = "control.sqlite";

/// Whether it is to have a piece of the reserve.
type Job = Box<dyn FnOnce(&mut Connection) -> bool + Send>;

/// Where work is handed in.
#[derive(Clone, Debug)]
pub struct Store {
    jobs: Sender<Job>,
}

/// The thread; it ends when this is stopped, behind all work that was handed in.
#[derive(Debug)]
pub struct StoreThread {
    jobs: Sender<Job>,
    ending: Arc<AtomicBool>,
    handle: JoinHandle<()>,
}

/// Why work was not done.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StoreError {
    /// Too much other work waits.
    #[error("the database is busy; try again")]
    Busy,
    /// Another program has it locked.
    #[error("another program has the database locked; try again")]
    Locked,
    /// The thread has ended, or the work panicked.
    #[error("the database's work failed; the log tells more")]
    Lost,
    /// The disk has no room.
    #[error("the disk is full: nothing was kept, and nothing has changed")]
    Full,
    /// What SQLite says.
    #[error("the database: {0}")]
    Failed(String),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked,
            Some(ErrorCode::DiskFull) => Self::Full,
            // The file that readers share cannot grow.
            _ if error.sqlite_extended_error_code() == Some(IOERR_SHMSIZE) => Self::Full,
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl Store {
    /// Opens the file, makes or migrates it, and starts the thread. Blocks.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn open(directory: &Path) -> Result<(Self, StoreThread), String> {
        let path = directory.join(NAME);
        let failed = |error: &dyn core::fmt::Display| format!("{}: {error}", path.display());
        // Ours alone; SQLite gives its other files the same permissions.
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
        drop(open(&path, flags, Mode::RUSR | Mode::WUSR).map_err(|error| failed(&error))?);
        let mut reserve = Reserve::open(directory);
        let connection = opened(&path, &mut reserve).map_err(|error| failed(&error))?;
        let (jobs, waiting) = async_channel::bounded(STORE_QUEUE);
        let ending = Arc::<AtomicBool>::default();
        let told = Arc::clone(&ending);
        let work = move || work(connection, reserve, &waiting, &told);
        let thread = Builder::new().name("store".to_owned()).spawn(work);
        let handle = thread.map_err(|error| failed(&error))?;
        Ok((Self { jobs: jobs.clone() }, StoreThread { jobs, ending, handle }))
    }

    /// Does it in the database's thread; on a full disk as often as there is a piece of the database's reserve for it. What an operator is
    /// waiting for, and small.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn run_again<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> SqlResult<T> + Clone + Send + 'static,
    ) -> Result<T, StoreError> {
        for _ in 0..RESERVE_OCTETS / RESERVE_PIECE_OCTETS {
            let answered = self.hand_in(work.clone(), true)?;
            match answered.recv().await.map_err(|_| StoreError::Lost)? {
                Err(StoreError::Full) => {}
                done => return done,
            }
        }
        self.run(work).await
    }

    /// Gives up a piece of the reserve, for a file of an operator's beside the database.
    pub async fn make_room(&self) {
        let (done, waited) = async_channel::bounded::<()>(1);
        let job: Job = Box::new(move |_| {
            drop(done);
            true
        });
        if self.jobs.try_send(job).is_ok() {
            // The next job's answer comes behind the piece.
            let _ = waited.recv().await;
            let _ = self.run(|_| Ok(())).await;
        }
    }

    /// Does it in the database's thread.
    ///
    /// # Errors
    /// See [`StoreError`]; nothing is changed then, but behind [`StoreError::Lost`], which does not tell.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> SqlResult<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let answered = self.hand_in(work, false)?;
        answered.recv().await.map_err(|_| StoreError::Lost)?
    }

    /// The same for who may block.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> SqlResult<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let answered = self.hand_in(work, false)?;
        answered.recv_blocking().map_err(|_| StoreError::Lost)?
    }

    fn hand_in<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> SqlResult<T> + Send + 'static,
        may_have_room: bool,
    ) -> Result<Receiver<Result<T, StoreError>>, StoreError> {
        let (answer, answered) = async_channel::bounded(1);
        let job: Job = Box::new(move |connection| {
            let done = work(connection).map_err(StoreError::from);
            let is_full = matches!(done, Err(StoreError::Full));
            // Whoever asked may have given up.
            let _ = answer.try_send(done);
            is_full && may_have_room
        });
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Busy,
            TrySendError::Closed(_) => StoreError::Lost,
        })?;
        Ok(answered)
    }
}

/// With others, who may make a copy meanwhile; on a disk without a free octet, where the file that is shared with them cannot be made, alone: it is
/// read all the same, and a server that does not start hands nothing over. First it has a piece of the reserve.
fn opened(path: &Path, reserve: &mut Reserve) -> Result<Connection, SchemaError> {
    let open = |mode: &str| {
        let mut connection = Connection::open(path)?;
        connection.pragma_update(None, "locking_mode", mode)?;
        schema::prepare(&mut connection, STORE_LOCK_PATIENCE)?;
        Ok(connection)
    };
    let mut normal = open("NORMAL");
    if matches!(normal, Err(SchemaError::Failed(_))) && reserve.release() {
        normal = open("NORMAL");
    }
    match normal {
        Err(SchemaError::Failed(error)) => {
            let alone = open("EXCLUSIVE").map_err(|_| SchemaError::Failed(error))?;
            tracing::warn!(file = %path.display(), "the database is used alone: nothing can be written beside it");
            Ok(alone)
        }
        opened => opened,
    }
}

impl StoreThread {
    /// Ends it behind all work that was handed in; locks of others are not waited for any more.
    pub fn stop(self) {
        self.ending.store(true, Ordering::Relaxed);
        self.jobs.close();
        if self.handle.join().is_err() {
            tracing::error!("the database's thread ended badly");
        }
    }
}

fn work(mut connection: Connection, mut reserve: Reserve, waiting: &Receiver<Job>, ending: &AtomicBool) {
    while let Ok(job) = waiting.recv_blocking() {
        if ending.load(Ordering::Relaxed) {
            // The process has ten seconds; what cannot be done now is not done.
            let _ = connection.busy_timeout(Duration::ZERO);
        }
        match contain(|| job(&mut connection)) {
            Some(true) if reserve.release() => {
                // Its log begins anew: nothing of the piece is spent on more of it.
                let _ = connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()));
            }
            Some(true) => {}
            Some(false) => reserve.refill(),
            None => tracing::error!("work of the database panicked; what it had begun is rolled back"),
        }
    }
    if let Err((_, error)) = connection.close() {
        tracing::error!(%error, "the database was not closed well; the next start goes on from its log");
    }
}

/// Now, in seconds since 1970.
#[must_use]
pub fn now_s() -> i64 {
    jiff::Timestamp::now().as_second()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::path::PathBuf;

    /// A directory of its own, removed at the end.
    #[derive(Debug)]
    pub(crate) struct Directory(pub(crate) PathBuf);

    impl Directory {
        pub(crate) fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("stratamx-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).expect("a directory");
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn count(connection: &mut Connection) -> SqlResult<i64> {
        connection.query_row("SELECT count(*) FROM setting", [], |row| row.get(0))
    }

    #[test]
    fn work_that_panics_fails_alone_and_leaves_nothing() {
        let directory = Directory::new("store-panic");
        let (store, thread) = Store::open(&directory.0).expect("it opens");
        let panicked: Result<(), StoreError> = store.run_blocking(|connection| {
            let transaction = connection.transaction()?;
            transaction.execute("INSERT INTO setting VALUES ('a', 'b')", [])?;
            panic!("half done")
        });
        assert_eq!(panicked, Err(StoreError::Lost));
        assert_eq!(store.run_blocking(count), Ok(0));
        thread.stop();
        assert_eq!(store.run_blocking(count), Err(StoreError::Lost));
    }

    #[test]
    fn what_is_handed_in_is_done_before_the_end_and_is_there_at_the_next_start() {
        let directory = Directory::new("store-end");
        let (store, thread) = Store::open(&directory.0).expect("it opens");
        let insert = |connection: &mut Connection| {
            connection.execute("INSERT INTO setting VALUES ('a', 'b')", []).map(drop)
        };
        let answered = store.hand_in(insert, false).expect("there is room");
        thread.stop();
        assert_eq!(answered.recv_blocking(), Ok(Ok(())));
        let (store, thread) = Store::open(&directory.0).expect("it opens");
        assert_eq!(store.run_blocking(count), Ok(1));
        thread.stop();
        let mode = rustix::fs::stat(directory.0.join(NAME)).expect("it is there").st_mode;
        assert_eq!(mode & 0o777, 0o600);
    }

    /// A full disk has no room for the file that readers share; here a directory is in its place.
    #[test]
    fn what_is_kept_is_read_where_nothing_can_be_written_beside_it() {
        let directory = Directory::new("store-alone");
        let (store, thread) = Store::open(&directory.0).expect("it opens");
        let insert = |connection: &mut Connection| {
            connection.execute("INSERT INTO setting VALUES ('a', 'b')", []).map(drop)
        };
        assert_eq!(store.run_blocking(insert), Ok(()));
        thread.stop();
        std::fs::create_dir(directory.0.join(format!("{NAME}-shm"))).expect("a directory");
        let (store, thread) = Store::open(&directory.0).expect("it opens alone");
        assert_eq!(store.run_blocking(count), Ok(1));
        thread.stop();
    }

    #[test]
    fn a_full_queue_and_a_lock_are_told_apart_and_neither_is_waited_for() {
        let directory = Directory::new("store-busy");
        let (store, thread) = Store::open(&directory.0).expect("it opens");
        let (go, gone) = async_channel::bounded::<()>(1);
        let (began, begun) = async_channel::bounded::<()>(1);
        let first = store.hand_in(
            move |_| {
                began.send_blocking(()).expect("it is heard");
                Ok(gone.recv_blocking().is_err())
            },
            false,
        );
        begun.recv_blocking().expect("it began");
        let waiting: Vec<_> = (0..STORE_QUEUE).map(|_| store.hand_in(count, false).expect("room")).collect();
        assert_eq!(store.run_blocking(count), Err(StoreError::Busy));
        drop(go);
        assert_eq!(first.expect("room").recv_blocking(), Ok(Ok(true)));
        assert!(waiting.iter().all(|one| one.recv_blocking() == Ok(Ok(0))));
        let other = Connection::open(directory.0.join(NAME)).expect("it opens");
        other.execute_batch("BEGIN IMMEDIATE").expect("a lock");
        let locked = store.run_blocking(|connection| {
            connection.busy_timeout(Duration::ZERO)?;
            connection.execute("INSERT INTO setting VALUES ('a', 'b')", []).map(drop)
        });
        assert_eq!(locked, Err(StoreError::Locked));
        assert_eq!(store.run_blocking(count), Ok(0), "whoever reads needs no lock");
        thread.stop();
    }
}
