//! Provisioned domains.

use super::now_s;
use rusqlite::{Connection, OptionalExtension as _, Result, Transaction, params};

/// A domain as it is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// Its name in lower case, as A-labels.
    pub name: String,
    /// A JSON object with the keys of `[[domain]]`, without the name.
    pub settings: String,
    /// Another one for each change of any domain.
    pub revision: u64,
    /// When it came, in seconds since 1970.
    pub created_s: i64,
    /// When it changed last.
    pub changed_s: i64,
}

/// All of them, by name.
///
/// # Errors
/// SQLite's.
pub fn all(connection: &Connection) -> Result<Vec<Row>> {
    let mut statement = connection
        .prepare("SELECT name, settings, revision, created_s, changed_s FROM domain ORDER BY name")?;
    let rows = statement.query_map([], |row| {
        Ok(Row {
            name: row.get(0)?,
            settings: row.get(1)?,
            revision: row.get(2)?,
            created_s: row.get(3)?,
            changed_s: row.get(4)?,
        })
    })?;
    rows.collect()
}

/// Makes or changes one: its row.
///
/// # Errors
/// SQLite's.
pub fn put(transaction: &Transaction<'_>, name: &str, settings: &str) -> Result<Row> {
    let revision = next_revision(transaction)?;
    let now = now_s();
    transaction.execute(
        "INSERT INTO domain VALUES (?1, ?2, ?3, ?4, ?4)
         ON CONFLICT (name) DO UPDATE SET settings = ?2, revision = ?3, changed_s = ?4",
        params![name, settings, revision, now],
    )?;
    let created_s =
        transaction.query_row("SELECT created_s FROM domain WHERE name = ?1", [name], |row| row.get(0))?;
    Ok(Row { name: name.to_owned(), settings: settings.to_owned(), revision, created_s, changed_s: now })
}

/// Removes one with its recipients: whether it was there.
///
/// # Errors
/// SQLite's.
pub fn remove(transaction: &Transaction<'_>, name: &str) -> Result<bool> {
    // So that no revision comes twice, whatever is removed.
    next_revision(transaction)?;
    Ok(transaction.execute("DELETE FROM domain WHERE name = ?1", [name])? > 0)
}

fn next_revision(transaction: &Transaction<'_>) -> Result<u64> {
    let last: Option<u64> = transaction
        .query_row("SELECT value FROM meta WHERE name = 'revision'", [], |row| row.get(0))
        .optional()?;
    let next = last.unwrap_or(0) + 1;
    transaction.execute(
        "INSERT INTO meta VALUES ('revision', ?1) ON CONFLICT (name) DO UPDATE SET value = ?1",
        [next],
    )?;
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::super::schema::in_memory;
    use super::*;

    #[test]
    fn no_revision_is_given_twice_even_behind_a_removal() {
        let mut connection = in_memory();
        let transaction = connection.transaction().expect("one");
        let first = put(&transaction, "a.test", "{}").expect("new");
        let other = put(&transaction, "b.test", "{}").expect("new");
        let changed = put(&transaction, "a.test", "{\"x\":1}").expect("changed");
        assert!(
            remove(&transaction, "a.test").expect("gone") && !remove(&transaction, "a.test").expect("no")
        );
        let again = put(&transaction, "a.test", "{}").expect("new");
        let revisions = [&first, &other, &changed, &again].map(|row| row.revision);
        assert!(revisions.is_sorted_by(|one, next| one < next), "{revisions:?}");
        transaction.commit().expect("kept");
        assert_eq!(all(&connection).expect("both"), [again, other]);
    }
}
