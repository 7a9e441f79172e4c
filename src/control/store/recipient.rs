//! Recipients of provisioned domains.

use rusqlite::{Connection, Result, Transaction, params};

/// The addresses of a domain behind `after`, in order, so many at most.
///
/// # Errors
/// SQLite's.
pub fn page(connection: &Connection, domain: &str, after: &str, limit: usize) -> Result<Vec<String>> {
    let mut statement = connection.prepare(
        "SELECT address FROM recipient WHERE domain = ?1 AND address > ?2 ORDER BY address LIMIT ?3",
    )?;
    let rows = statement.query_map(params![domain, after, limit], |row| row.get(0))?;
    rows.collect()
}

/// How many a domain has.
///
/// # Errors
/// SQLite's.
pub fn count(connection: &Connection, domain: &str) -> Result<u64> {
    connection.query_row("SELECT count(*) FROM recipient WHERE domain = ?1", [domain], |row| row.get(0))
}

/// Hands all addresses of a domain to `each`.
///
/// # Errors
/// SQLite's.
pub fn each(connection: &Connection, domain: &str, mut each: impl FnMut(&str)) -> Result<()> {
    let mut statement = connection.prepare("SELECT address FROM recipient WHERE domain = ?1")?;
    let mut rows = statement.query([domain])?;
    while let Some(row) = rows.next()? {
        each(row.get_ref(0)?.as_str()?);
    }
    Ok(())
}

/// Adds addresses: how many are new.
///
/// # Errors
/// SQLite's.
pub fn add(transaction: &Transaction<'_>, domain: &str, addresses: &[String]) -> Result<u64> {
    let mut statement = transaction.prepare("INSERT OR IGNORE INTO recipient VALUES (?1, ?2)")?;
    let mut new = 0;
    for address in addresses {
        new += statement.execute([domain, address])? as u64;
    }
    Ok(new)
}

/// Removes one: whether it was there.
///
/// # Errors
/// SQLite's.
pub fn remove(transaction: &Transaction<'_>, domain: &str, address: &str) -> Result<bool> {
    let sql = "DELETE FROM recipient WHERE domain = ?1 AND address = ?2";
    Ok(transaction.execute(sql, [domain, address])? > 0)
}

/// Removes all of a domain.
///
/// # Errors
/// SQLite's.
pub fn clear(transaction: &Transaction<'_>, domain: &str) -> Result<()> {
    transaction.execute("DELETE FROM recipient WHERE domain = ?1", [domain]).map(drop)
}
