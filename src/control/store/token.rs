//! Tokens that were given out.

use super::now_s;
use rusqlite::{Connection, Result, params};

/// A token as it is kept: never the token itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// Its number.
    pub id: i64,
    /// What it was given out for.
    pub name: String,
    /// SHA-256 of it.
    pub digest: Vec<u8>,
    /// What it may do: words with a space between.
    pub scopes: String,
    /// When it was given out, in seconds since 1970.
    pub created_s: i64,
    /// From when on it is worth nothing; none: it does not end.
    pub expires_s: Option<i64>,
}

/// All that are not revoked, by number.
///
/// # Errors
/// SQLite's.
pub fn all(connection: &Connection) -> Result<Vec<Row>> {
    let mut statement = connection.prepare(
        "SELECT id, name, digest, scopes, created_s, expires_s FROM token WHERE revoked_s IS NULL ORDER BY id",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(Row {
            id: row.get(0)?,
            name: row.get(1)?,
            digest: row.get(2)?,
            scopes: row.get(3)?,
            created_s: row.get(4)?,
            expires_s: row.get(5)?,
        })
    })?;
    rows.collect()
}

/// Keeps a new one: its row.
///
/// # Errors
/// SQLite's.
pub fn add(
    connection: &Connection,
    name: &str,
    digest: &[u8],
    scopes: &str,
    expires_s: Option<i64>,
) -> Result<Row> {
    let created_s = now_s();
    connection.execute(
        "INSERT INTO token (name, digest, scopes, created_s, expires_s) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![name, digest, scopes, created_s, expires_s],
    )?;
    Ok(Row {
        id: connection.last_insert_rowid(),
        name: name.to_owned(),
        digest: digest.to_owned(),
        scopes: scopes.to_owned(),
        created_s,
        expires_s,
    })
}

/// Revokes one: whether it was in force.
///
/// # Errors
/// SQLite's.
pub fn revoke(connection: &Connection, id: i64) -> Result<bool> {
    let sql = "UPDATE token SET revoked_s = ?1 WHERE id = ?2 AND revoked_s IS NULL";
    Ok(connection.execute(sql, [now_s(), id])? > 0)
}
