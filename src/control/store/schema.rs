//! Tables, and how an older file becomes one of today.
//!
//! `PRAGMA user_version` is the number of steps that a file has gone. Steps only add: what an older version does not know it
//! leaves alone. So a newer file says in `meta` which version can still work with it (`works_since`), and an update
//! that is rolled back goes on with it (H13); a step that an older version could not live with would raise that.

use crate::limits::STORE_CHECKPOINT_PAGES;
use core::time::Duration;
use rusqlite::{Connection, TransactionBehavior};

/// The step from one version to the next, by the version that it leads to, less 1.
const STEPS: [&str; 2] = [FIRST, ALERTS];
/// The version since which a file of today can be worked with.
const WORKS_SINCE: usize = 1;

const FIRST: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
-- What a domain has of its own: a JSON object with the keys of [[domain]]. The revision is never given twice.
CREATE TABLE domain (
    name TEXT PRIMARY KEY, settings TEXT NOT NULL, revision INTEGER NOT NULL,
    created_s INTEGER NOT NULL, changed_s INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- Mailboxes of domains whose recipients are a list; an address as it was given.
CREATE TABLE recipient (
    domain TEXT NOT NULL REFERENCES domain (name) ON DELETE CASCADE, address TEXT NOT NULL,
    PRIMARY KEY (domain, address)
) STRICT, WITHOUT ROWID;
-- Of a token only its SHA-256 is kept: it is random, so nobody finds it from that.
CREATE TABLE token (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, digest BLOB NOT NULL UNIQUE, scopes TEXT NOT NULL,
    created_s INTEGER NOT NULL, expires_s INTEGER, revoked_s INTEGER
) STRICT;
-- Each change, and each look at a message's content, before it is done; the status when it was.
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at_s INTEGER NOT NULL, caller TEXT NOT NULL, method TEXT NOT NULL,
    path TEXT NOT NULL, body TEXT NOT NULL, status INTEGER
) STRICT;
-- Answers to requests that may come again (Idempotency-Key); without a status: it is under way.
CREATE TABLE answer (
    caller TEXT NOT NULL, key TEXT NOT NULL, request BLOB NOT NULL, at_s INTEGER NOT NULL,
    status INTEGER, kind TEXT, body BLOB, PRIMARY KEY (caller, key)
) STRICT;
CREATE INDEX answer_at ON answer (at_s);
CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
";

const ALERTS: &str = "
-- An outage of a domain's mail server: the whole of it as JSON.
CREATE TABLE outage (
    id INTEGER PRIMARY KEY AUTOINCREMENT, domain TEXT NOT NULL, began_s INTEGER NOT NULL, ended_s INTEGER, detail TEXT NOT NULL
) STRICT;
CREATE INDEX outage_domain ON outage (domain, id);
CREATE TABLE event (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at_s INTEGER NOT NULL, domain TEXT NOT NULL, kind TEXT NOT NULL,
    severity TEXT NOT NULL, text TEXT NOT NULL
) STRICT;
CREATE INDEX event_domain ON event (domain, id);
CREATE INDEX event_at ON event (at_s);
-- Without an over_s it holds.
CREATE TABLE alert (
    id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, domain TEXT NOT NULL, severity TEXT NOT NULL, text TEXT NOT NULL,
    since_s INTEGER NOT NULL, told_s INTEGER NOT NULL, over_s INTEGER, acknowledged_by TEXT
) STRICT;
-- Whom to tell; the sink as JSON, with its secrets.
CREATE TABLE contact (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, sink TEXT NOT NULL, domain TEXT NOT NULL,
    severity TEXT NOT NULL, created_s INTEGER NOT NULL
) STRICT;
-- What is to be told to whom; lines of a contact that are due leave as one message.
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT, contact INTEGER NOT NULL REFERENCES contact (id) ON DELETE CASCADE,
    event INTEGER NOT NULL REFERENCES event (id) ON DELETE CASCADE, at_s INTEGER NOT NULL, due_s INTEGER NOT NULL,
    tries INTEGER NOT NULL, error TEXT
) STRICT;
CREATE INDEX outbox_contact ON outbox (contact, due_s);
CREATE INDEX outbox_event ON outbox (event);
CREATE INDEX outage_ended ON outage (ended_s);
CREATE INDEX alert_over ON alert (over_s);
CREATE INDEX alert_open ON alert (kind, domain) WHERE over_s IS NULL;
CREATE INDEX audit_at ON audit (at_s);
";

/// Why a file cannot be worked with.
#[derive(Debug, thiserror::Error)]
pub(super) enum SchemaError {
    /// Of a version that this one cannot live with.
    #[error("a newer version of the program made it (step {0}), and says that this one cannot work with it")]
    Newer(usize),
    /// SQLite finds it damaged.
    #[error("it is damaged ({0}): restore a copy, or move it away and provision its domains again")]
    Damaged(String),
    /// What SQLite says.
    #[error("{0}")]
    Failed(#[from] rusqlite::Error),
}

/// Sets the connection up and brings the file to today's tables.
pub(super) fn prepare(connection: &mut Connection, lock_patience: Duration) -> Result<(), SchemaError> {
    connection.busy_timeout(lock_patience)?;
    // Durable when it is answered: a token that was revoked, a domain that was added.
    for (pragma, value) in [("journal_mode", "WAL"), ("synchronous", "FULL"), ("foreign_keys", "ON")] {
        connection.pragma_update(None, pragma, value)?;
    }
    connection.pragma_update(None, "trusted_schema", "OFF")?;
    // Its log is used again before it has grown much: on a full disk it has no more than the reserve.
    connection.pragma_update(None, "wal_autocheckpoint", STORE_CHECKPOINT_PAGES)?;
    let version = version_of(connection)?;
    if version > 0 {
        check(connection)?;
    }
    if version > STEPS.len() {
        let sql = "SELECT value FROM meta WHERE name = 'works_since'";
        let since = connection.query_row(sql, [], |row| row.get::<_, u32>(0))?;
        let works = usize::try_from(since).is_ok_and(|since| since <= STEPS.len());
        return if works { Ok(()) } else { Err(SchemaError::Newer(version)) };
    }
    if version == STEPS.len() {
        // No lock: whoever has one keeps nobody from starting.
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version = version_of(&transaction)?;
    for step in &STEPS[version..] {
        transaction.execute_batch(step)?;
    }
    if version < STEPS.len() {
        transaction.execute(
            "INSERT INTO meta VALUES ('works_since', ?1) ON CONFLICT (name) DO UPDATE SET value = ?1",
            [WORKS_SINCE],
        )?;
        transaction.pragma_update(None, "user_version", STEPS.len())?;
    }
    transaction.commit()?;
    Ok(())
}

fn version_of(connection: &Connection) -> rusqlite::Result<usize> {
    let version = connection.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))?;
    Ok(usize::try_from(version).unwrap_or(usize::MAX))
}

/// Looks at what mail relies on; the rest may be large, and damage there costs a request.
fn check(connection: &Connection) -> Result<(), SchemaError> {
    for table in ["meta", "domain", "recipient", "token"] {
        let sql = format!("PRAGMA quick_check({table})");
        let found: String = connection.query_row(&sql, [], |row| row.get(0))?;
        if found != "ok" {
            return Err(SchemaError::Damaged(found));
        }
    }
    Ok(())
}

/// A database in memory, with today's tables.
#[cfg(test)]
pub(super) fn in_memory() -> Connection {
    let mut connection = Connection::open_in_memory().expect("memory");
    prepare(&mut connection, Duration::ZERO).expect("tables");
    connection
}

#[cfg(test)]
mod tests {
    use super::super::tests::Directory;
    use super::*;
    use rustix::fs::{Mode, OFlags, fstat, open};
    use rustix::io::pwrite;

    #[test]
    fn a_newer_file_is_worked_with_as_long_as_it_says_so() {
        let directory = Directory::new("schema");
        let path = directory.0.join("db");
        let mut connection = Connection::open(&path).expect("it opens");
        prepare(&mut connection, Duration::ZERO).expect("new");
        prepare(&mut connection, Duration::ZERO).expect("again");
        connection.pragma_update(None, "user_version", STEPS.len() + 7).expect("newer");
        prepare(&mut connection, Duration::ZERO).expect("it only has more");
        let version: usize =
            connection.pragma_query_value(None, "user_version", |row| row.get(0)).expect("it is there");
        assert_eq!(version, STEPS.len() + 7, "it stays a newer one's");
        connection
            .execute("UPDATE meta SET value = ?1 WHERE name = 'works_since'", [STEPS.len() + 1])
            .expect("changed");
        assert!(matches!(prepare(&mut connection, Duration::ZERO), Err(SchemaError::Newer(_))));
    }

    #[test]
    fn a_damaged_file_is_told_and_not_worked_with() {
        let directory = Directory::new("schema-damaged");
        let path = directory.0.join("db");
        let mut connection = Connection::open(&path).expect("it opens");
        prepare(&mut connection, Duration::ZERO).expect("new");
        for number in 0..500 {
            let sql = "INSERT INTO domain VALUES (?1, '{}', 1, 1, 1)";
            connection.execute(sql, [format!("domain{number}.test")]).expect("new");
        }
        connection.close().expect("closed");
        // All but the first page, which has the tables' names.
        let file = open(&path, OFlags::RDWR, Mode::empty()).expect("it is there");
        let length = u64::try_from(fstat(&file).expect("it is there").st_size).expect("a size");
        for offset in (4096..length).step_by(4096) {
            pwrite(&file, &[0xA5; 4096], offset).expect("damaged");
        }
        drop(file);
        let mut connection = Connection::open(&path).expect("it opens");
        assert!(prepare(&mut connection, Duration::ZERO).is_err());
    }
}
