//! The audit log: who changed what, and who looked at the content of mail.
//!
//! An entry is there before its request is done, so nothing is done without one; what became of it is added behind. An entry
//! without a status is of a request that was under way when the process ended.

use super::now_s;
use crate::limits::{AUDIT_AGE, AUDIT_ENTRIES_MAX, AUDIT_LOOKS_MAX};
use rusqlite::{Connection, Result, params};

/// An entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// Its number: later ones have higher ones.
    pub id: i64,
    /// When, in seconds since 1970.
    pub at_s: i64,
    /// The name of the token.
    pub caller: String,
    /// The method.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// What came with it, or how long that was.
    pub body: String,
    /// How it was answered.
    pub status: Option<u16>,
}

/// Entries between two times that old ones are looked for.
const SWEEP_EVERY: i64 = 1024;

/// Begins an entry: its number.
///
/// # Errors
/// SQLite's.
pub fn begin(connection: &Connection, caller: &str, method: &str, path: &str, body: &str) -> Result<i64> {
    let now = now_s();
    connection.execute(
        "INSERT INTO audit (at_s, caller, method, path, body) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![now, caller, method, path, body],
    )?;
    let id = connection.last_insert_rowid();
    if id % SWEEP_EVERY == 0 {
        let age = i64::try_from(AUDIT_AGE.as_secs()).unwrap_or(i64::MAX);
        connection.execute("DELETE FROM audit WHERE at_s < ?1", [now - age])?;
        sweep(connection, "method = 'GET'", AUDIT_LOOKS_MAX)?;
        sweep(connection, "method <> 'GET'", AUDIT_ENTRIES_MAX)?;
    }
    Ok(id)
}

/// Looks have a room of their own: whoever may look only cannot push out what others changed.
fn sweep(connection: &Connection, which: &str, most: u64) -> Result<()> {
    let last = format!("SELECT id FROM audit WHERE {which} ORDER BY id DESC LIMIT 1 OFFSET ?1");
    connection.execute(&format!("DELETE FROM audit WHERE {which} AND id <= ({last})"), [most]).map(drop)
}

/// Tells what became of it.
///
/// # Errors
/// SQLite's.
pub fn end(connection: &Connection, id: i64, status: u16) -> Result<()> {
    connection.execute("UPDATE audit SET status = ?1 WHERE id = ?2", params![status, id]).map(drop)
}

/// The entries before `before`, the latest first, so many at most.
///
/// # Errors
/// SQLite's.
pub fn page(connection: &Connection, before: i64, limit: usize) -> Result<Vec<Row>> {
    let mut statement = connection.prepare(
        "SELECT id, at_s, caller, method, path, body, status FROM audit WHERE id < ?1 ORDER BY id DESC LIMIT ?2",
    )?;
    let rows = statement.query_map(params![before, limit], |row| {
        Ok(Row {
            id: row.get(0)?,
            at_s: row.get(1)?,
            caller: row.get(2)?,
            method: row.get(3)?,
            path: row.get(4)?,
            body: row.get(5)?,
            status: row.get(6)?,
        })
    })?;
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::super::schema::in_memory;
    use super::*;

    #[test]
    fn entries_come_latest_first_and_old_ones_go() {
        let connection = in_memory();
        for name in ["a", "b", "c"] {
            let id = begin(&connection, name, "POST", "/x", "").expect("new");
            end(&connection, id, 204).expect("told");
        }
        let callers = |rows: Vec<Row>| rows.into_iter().map(|row| row.caller).collect::<Vec<_>>();
        assert_eq!(callers(page(&connection, i64::MAX, 2).expect("two")), ["c", "b"]);
        assert_eq!(callers(page(&connection, 2, 9).expect("one")), ["a"]);
        connection.execute("UPDATE audit SET at_s = 1 WHERE caller = 'a'", []).expect("long ago");
        for _ in 0..SWEEP_EVERY {
            begin(&connection, "d", "POST", "/x", "").expect("new");
        }
        let rows = page(&connection, i64::MAX, 2000).expect("all");
        assert_eq!(rows.last().map(|row| row.caller.as_str()), Some("b"));
        assert_eq!(rows.last().and_then(|row| row.status), Some(204));
    }

    #[test]
    fn who_only_looks_pushes_no_change_out() {
        let connection = in_memory();
        let counts = || {
            let count = |which: &str| {
                let sql = format!("SELECT count(*) FROM audit WHERE {which}");
                connection.query_row(&sql, [], |row| row.get::<_, u64>(0)).expect("counted")
            };
            (count("method = 'GET'"), count("method <> 'GET'"))
        };
        begin(&connection, "a", "DELETE", "/x", "").expect("new");
        for _ in 0..9 {
            begin(&connection, "b", "GET", "/x", "").expect("new");
        }
        sweep(&connection, "method = 'GET'", 4).expect("swept");
        sweep(&connection, "method <> 'GET'", 4).expect("swept");
        assert_eq!(counts(), (4, 1));
        for _ in 0..9 {
            begin(&connection, "a", "PUT", "/x", "").expect("new");
        }
        sweep(&connection, "method <> 'GET'", 4).expect("swept");
        assert_eq!(counts(), (4, 4));
        let last = page(&connection, i64::MAX, 1).expect("one").remove(0);
        assert_eq!((last.id, last.method.as_str()), (19, "PUT"), "the latest stay");
    }
}
