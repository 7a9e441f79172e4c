//! Answers to requests that may come again with the same `Idempotency-Key`.

use super::now_s;
use crate::limits::{IDEMPOTENCY_AGE, IDEMPOTENCY_ANSWERS_MAX};
use rusqlite::{OptionalExtension as _, Result, Transaction, params};

/// An answer as it was given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Given {
    /// The status.
    pub status: u16,
    /// The media type.
    pub kind: String,
    /// The body.
    pub body: Vec<u8>,
}

/// What is known of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Known {
    /// Nothing: it is this request's from now on.
    New,
    /// The same request was answered so.
    Given(Given),
    /// The same request is under way, or was when the process ended.
    UnderWay,
    /// It was another request's.
    Others,
}

/// Looks a caller's key up, and takes it if it is new; `request` is a digest of what is asked.
///
/// # Errors
/// SQLite's.
pub fn take(transaction: &Transaction<'_>, caller: &str, key: &str, request: &[u8]) -> Result<Known> {
    let now = now_s();
    let age = i64::try_from(IDEMPOTENCY_AGE.as_secs()).unwrap_or(i64::MAX);
    transaction.execute("DELETE FROM answer WHERE at_s < ?1", [now - age])?;
    type Found = (Vec<u8>, Option<u16>, Option<String>, Option<Vec<u8>>);
    let found: Option<Found> = transaction
        .query_row(
            "SELECT request, status, kind, body FROM answer WHERE caller = ?1 AND key = ?2",
            [caller, key],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )
        .optional()?;
    Ok(match found {
        Some((of, ..)) if of != request => Known::Others,
        Some((_, Some(status), Some(kind), Some(body))) => Known::Given(Given { status, kind, body }),
        Some(_) => Known::UnderWay,
        None => {
            transaction.execute(
                "INSERT INTO answer (caller, key, request, at_s) VALUES (?1, ?2, ?3, ?4)",
                params![caller, key, request, now],
            )?;
            let most = i64::try_from(IDEMPOTENCY_ANSWERS_MAX).unwrap_or(i64::MAX);
            transaction.execute(
                "DELETE FROM answer WHERE rowid IN
                 (SELECT rowid FROM answer ORDER BY at_s DESC, rowid DESC LIMIT -1 OFFSET ?1)",
                [most],
            )?;
            Known::New
        }
    })
}

/// Keeps the answer; `None`: the key is free again, nothing was done.
///
/// # Errors
/// SQLite's.
pub fn give(transaction: &Transaction<'_>, caller: &str, key: &str, given: Option<&Given>) -> Result<()> {
    match given {
        Some(Given { status, kind, body }) => transaction.execute(
            "UPDATE answer SET status = ?3, kind = ?4, body = ?5 WHERE caller = ?1 AND key = ?2",
            params![caller, key, status, kind, body],
        ),
        None => transaction.execute("DELETE FROM answer WHERE caller = ?1 AND key = ?2", [caller, key]),
    }
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::super::schema::in_memory;
    use super::*;

    #[test]
    fn a_key_is_one_requests_until_a_day_is_over() {
        let mut connection = in_memory();
        let transaction = connection.transaction().expect("one");
        let take = |caller: &str, key: &str, request: &[u8]| {
            take(&transaction, caller, key, request).expect("looked up")
        };
        assert_eq!(take("a", "k", b"1"), Known::New);
        assert_eq!(take("a", "k", b"1"), Known::UnderWay);
        assert_eq!(take("b", "k", b"2"), Known::New, "another caller's");
        let given = Given { status: 201, kind: "application/json".to_owned(), body: b"{}".to_vec() };
        give(&transaction, "a", "k", Some(&given)).expect("kept");
        assert_eq!(take("a", "k", b"1"), Known::Given(given));
        assert_eq!(take("a", "k", b"2"), Known::Others);
        give(&transaction, "b", "k", None).expect("freed");
        assert_eq!(take("b", "k", b"3"), Known::New);
        let age = i64::try_from(IDEMPOTENCY_AGE.as_secs()).expect("small");
        transaction.execute("UPDATE answer SET at_s = at_s - ?1", [age + 1]).expect("aged");
        assert_eq!(take("a", "k", b"2"), Known::New);
    }
}
