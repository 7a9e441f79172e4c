//! Outages, events, alerts, contacts, and what is on its way to them.

use super::now_s;
use crate::control::alert::book::Open;
use crate::control::alert::outage::Outage;
use crate::control::alert::{Condition, Kind, Severity, Sink};
use crate::limits::{
    ALERT_LINES_MAX, EVENT_AGE, EVENTS_MAX, OUTAGES_UNPROVED_MAX, OUTBOX_MAX, OUTBOX_TRIES_MAX,
};
use rusqlite::{Connection, OptionalExtension as _, Result, Row, Transaction, params};
use serde_json::Value;

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// Its number; 0: not kept yet.
    pub id: i64,
    /// When, in seconds since 1970.
    pub at_s: i64,
    /// Of which domain; empty: of the whole server.
    pub domain: String,
    /// What, in a word.
    pub kind: String,
    /// How much it matters.
    pub severity: Severity,
    /// In a sentence.
    pub text: String,
}

/// Who is told of what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Contact {
    /// Its number.
    pub id: i64,
    /// What an operator calls it.
    pub name: String,
    /// Where it goes.
    pub sink: Sink,
    /// Of this domain only; empty: of all, and of the server.
    pub domain: String,
    /// What matters less is not told.
    pub severity: Severity,
    /// When it was made.
    pub created_s: i64,
}

impl Contact {
    /// Whether it is told of this.
    #[must_use]
    pub fn wants(&self, event: &Event) -> bool {
        let is_of = self.domain.is_empty() || self.domain == event.domain;
        is_of && event.severity >= self.severity
    }
}

/// An alert as it is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Alert {
    /// Its number.
    pub id: i64,
    /// What it tells.
    pub condition: Condition,
    /// Since when it holds, in seconds since 1970.
    pub since_s: i64,
    /// When it was told last.
    pub told_s: i64,
    /// When it was over.
    pub over_s: Option<i64>,
    /// Who looks after it.
    pub acknowledged_by: Option<String>,
}

/// What waits for a contact.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Waiting {
    /// The numbers of its lines.
    pub lines: Vec<i64>,
    /// Whom it is for.
    pub contact: Contact,
    /// What happened, in order.
    pub events: Vec<Event>,
    /// How often it was tried.
    pub tries: u32,
}

/// Keeps an outage; its number is given at the first time.
///
/// # Errors
/// SQLite's.
pub fn keep_outage(transaction: &Transaction<'_>, id: Option<i64>, outage: &Outage) -> Result<i64> {
    let detail = serde_json::to_string(outage).unwrap_or_default();
    let values = params![id, outage.domain, outage.began_s, outage.ended_s, detail];
    transaction.execute(
        "INSERT INTO outage (id, domain, began_s, ended_s, detail) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (id) DO UPDATE SET ended_s = ?4, detail = ?5",
        values,
    )?;
    Ok(id.unwrap_or_else(|| transaction.last_insert_rowid()))
}

/// Outages with their numbers, the latest first: of a domain or all, before one, so many at most.
///
/// # Errors
/// SQLite's.
pub fn outages(
    connection: &Connection,
    domain: Option<&str>,
    before: i64,
    limit: usize,
) -> Result<Vec<(i64, Outage)>> {
    let mut statement = connection.prepare(
        "SELECT id, detail FROM outage WHERE id < ?1 AND (?2 IS NULL OR domain = ?2) ORDER BY id DESC LIMIT ?3",
    )?;
    read_outages(statement.query_map(params![before, domain, limit], id_and_text)?)
}

/// Those that are under way.
///
/// # Errors
/// SQLite's.
pub fn open_outages(connection: &Connection) -> Result<Vec<(i64, Outage)>> {
    let mut statement = connection.prepare("SELECT id, detail FROM outage WHERE ended_s IS NULL")?;
    read_outages(statement.query_map([], id_and_text)?)
}

/// When those ended that are not proved, and their numbers: of the latest that ended.
///
/// # Errors
/// SQLite's.
pub fn unproven(connection: &Connection) -> Result<Vec<(u64, i64)>> {
    let sql = "SELECT id, detail FROM outage WHERE ended_s IS NOT NULL ORDER BY id DESC LIMIT ?1";
    let mut statement = connection.prepare(sql)?;
    let ended = read_outages(statement.query_map([OUTAGES_UNPROVED_MAX], id_and_text)?)?;
    let unproven = ended.into_iter().filter(|(_, outage)| outage.proof.is_none());
    Ok(unproven.filter_map(|(id, outage)| Some((outage.ended_s?, id))).collect())
}

/// One of them.
///
/// # Errors
/// SQLite's.
pub fn outage(connection: &Connection, id: i64) -> Result<Option<Outage>> {
    let sql = "SELECT detail FROM outage WHERE id = ?1";
    let text: Option<String> = connection.query_row(sql, [id], |row| row.get(0)).optional()?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

fn id_and_text(row: &Row<'_>) -> Result<(i64, String)> {
    Ok((row.get(0)?, row.get(1)?))
}

fn read_outages(rows: impl Iterator<Item = Result<(i64, String)>>) -> Result<Vec<(i64, Outage)>> {
    // What a newer version wrote and this one cannot read is left out (H13).
    let read = |(id, text): (i64, String)| serde_json::from_str(&text).ok().map(|outage| (id, outage));
    rows.filter_map(|row| row.map(read).transpose()).collect()
}

/// Keeps events, and of those that are told a line for each contact that wants it, due at `due_s`.
///
/// # Errors
/// SQLite's.
pub fn keep_events(transaction: &Transaction<'_>, events: &[(Event, bool)], due_s: i64) -> Result<()> {
    let contacts = contacts(transaction)?;
    let mut keep = transaction
        .prepare("INSERT INTO event (at_s, domain, kind, severity, text) VALUES (?1, ?2, ?3, ?4, ?5)")?;
    let mut tell = transaction
        .prepare("INSERT INTO outbox (contact, event, at_s, due_s, tries) VALUES (?1, ?2, ?3, ?4, 0)")?;
    for (event, is_told) in events {
        let Event { at_s, domain, kind, severity, text, .. } = event;
        keep.execute(params![at_s, domain, kind, severity.word(), text])?;
        let id = transaction.last_insert_rowid();
        for contact in contacts.iter().filter(|contact| *is_told && contact.wants(event)) {
            tell.execute(params![contact.id, id, at_s, due_s])?;
        }
    }
    sweep(transaction, &contacts)
}

/// Takes out what is old, or too much.
fn sweep(transaction: &Transaction<'_>, contacts: &[Contact]) -> Result<()> {
    let oldest = now_s() - i64::try_from(EVENT_AGE.as_secs()).unwrap_or(i64::MAX);
    let most = i64::try_from(EVENTS_MAX).unwrap_or(i64::MAX);
    let last = "SELECT coalesce(max(id), 0) FROM event";
    transaction
        .execute(&format!("DELETE FROM event WHERE at_s < ?1 OR id <= ({last}) - ?2"), [oldest, most])?;
    transaction.execute("DELETE FROM outage WHERE ended_s < ?1", [oldest])?;
    transaction.execute("DELETE FROM alert WHERE over_s < ?1", [oldest])?;
    let most = i64::try_from(OUTBOX_MAX).unwrap_or(i64::MAX);
    for contact in contacts {
        let dropped = transaction.execute(
            "DELETE FROM outbox WHERE contact = ?1 AND id IN
             (SELECT id FROM outbox WHERE contact = ?1 ORDER BY id DESC LIMIT -1 OFFSET ?2)",
            params![contact.id, most],
        )?;
        if dropped > 0 {
            tracing::error!(
                contact = contact.name,
                dropped,
                "what could not be told is too much: the oldest is dropped"
            );
        }
    }
    Ok(())
}

/// Events, the latest first: of a domain or all, before one, so many at most.
///
/// # Errors
/// SQLite's.
pub fn events(
    connection: &Connection,
    domain: Option<&str>,
    before: i64,
    limit: usize,
) -> Result<Vec<Event>> {
    let mut statement = connection.prepare(
        "SELECT id, at_s, domain, kind, severity, text FROM event
         WHERE id < ?1 AND (?2 IS NULL OR domain = ?2) ORDER BY id DESC LIMIT ?3",
    )?;
    statement.query_map(params![before, domain, limit], |row| event(row, 0))?.collect()
}

fn event(row: &Row<'_>, from: usize) -> Result<Event> {
    let severity: String = row.get(from + 4)?;
    Ok(Event {
        id: row.get(from)?,
        at_s: row.get(from + 1)?,
        domain: row.get(from + 2)?,
        kind: row.get(from + 3)?,
        severity: Severity::parse(&severity).unwrap_or(Severity::Critical),
        text: row.get(from + 5)?,
    })
}

/// Keeps what was told of an alert.
///
/// # Errors
/// SQLite's.
pub fn keep_alert(transaction: &Transaction<'_>, open: &Open, is_over: bool) -> Result<()> {
    let Open { condition: Condition { kind, domain, severity, text }, since_s, told_s, seen_s, .. } = open;
    let over_s = is_over.then_some(*seen_s);
    let changed = transaction.execute(
        "UPDATE alert SET severity = ?3, text = ?4, told_s = ?6, over_s = ?7
         WHERE kind = ?1 AND domain = ?2 AND over_s IS NULL AND since_s = ?5",
        params![kind.word(), domain, severity.word(), text, since_s, told_s, over_s],
    )?;
    if changed == 0 {
        transaction.execute(
            "INSERT INTO alert (kind, domain, severity, text, since_s, told_s, over_s) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![kind.word(), domain, severity.word(), text, since_s, told_s, over_s],
        )?;
    }
    Ok(())
}

/// Alerts, the latest first: those that are open only, or all before one, so many at most.
///
/// # Errors
/// SQLite's.
pub fn alerts(connection: &Connection, open_only: bool, before: i64, limit: usize) -> Result<Vec<Alert>> {
    let mut statement = connection.prepare(
        "SELECT id, kind, domain, severity, text, since_s, told_s, over_s, acknowledged_by FROM alert
         WHERE id < ?1 AND (over_s IS NULL OR NOT ?2) ORDER BY id DESC LIMIT ?3",
    )?;
    let rows = statement.query_map(params![before, open_only, limit], |row| {
        let (kind, severity): (String, String) = (row.get(1)?, row.get(3)?);
        let Some(kind) = Kind::parse(&kind) else { return Ok(None) };
        let severity = Severity::parse(&severity).unwrap_or(Severity::Critical);
        Ok(Some(Alert {
            id: row.get(0)?,
            condition: Condition { kind, domain: row.get(2)?, severity, text: row.get(4)? },
            since_s: row.get(5)?,
            told_s: row.get(6)?,
            over_s: row.get(7)?,
            acknowledged_by: row.get(8)?,
        }))
    })?;
    rows.filter_map(Result::transpose).collect()
}

/// Says that somebody looks after an open alert: which it is.
///
/// # Errors
/// SQLite's.
pub fn acknowledge(connection: &Connection, id: i64, by: &str) -> Result<Option<(Kind, String)>> {
    let sql = "UPDATE alert SET acknowledged_by = ?2 WHERE id = ?1 AND over_s IS NULL RETURNING kind, domain";
    let found: Option<(String, String)> =
        connection.query_row(sql, params![id, by], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    Ok(found.and_then(|(kind, domain)| Kind::parse(&kind).map(|kind| (kind, domain))))
}

/// All contacts, by number.
///
/// # Errors
/// SQLite's.
pub fn contacts(connection: &Connection) -> Result<Vec<Contact>> {
    let mut statement =
        connection.prepare("SELECT id, name, sink, domain, severity, created_s FROM contact ORDER BY id")?;
    let rows = statement.query_map([], contact)?;
    rows.filter_map(Result::transpose).collect()
}

fn contact(row: &Row<'_>) -> Result<Option<Contact>> {
    let (sink, severity): (String, String) = (row.get(2)?, row.get(4)?);
    let Ok(sink) = serde_json::from_str(&sink) else { return Ok(None) };
    let severity = Severity::parse(&severity).unwrap_or(Severity::Information);
    Ok(Some(Contact {
        id: row.get(0)?,
        name: row.get(1)?,
        sink,
        domain: row.get(3)?,
        severity,
        created_s: row.get(5)?,
    }))
}

/// Keeps a new contact: its number.
///
/// # Errors
/// SQLite's.
pub fn add_contact(connection: &Connection, new: &Contact) -> Result<i64> {
    let sink = serde_json::to_string(&new.sink).unwrap_or_default();
    connection.execute(
        "INSERT INTO contact (name, sink, domain, severity, created_s) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![new.name, sink, new.domain, new.severity.word(), new.created_s],
    )?;
    Ok(connection.last_insert_rowid())
}

/// Removes one, with what waits for it: whether it was there.
///
/// # Errors
/// SQLite's.
pub fn remove_contact(connection: &Connection, id: i64) -> Result<bool> {
    Ok(connection.execute("DELETE FROM contact WHERE id = ?1", [id])? > 0)
}

/// What is due, by contact, a message's worth of each: of a contact that was not reached, when his next try is.
///
/// # Errors
/// SQLite's.
pub fn due(connection: &Connection, now: i64, limit: usize) -> Result<Vec<Waiting>> {
    let mut statement = connection.prepare(
        "SELECT contact, max(tries) FROM outbox GROUP BY contact
         HAVING min(due_s) <= ?1 AND max(iif(tries > 0, due_s, 0)) <= ?1 ORDER BY min(due_s) LIMIT ?2",
    )?;
    let found: Vec<(i64, u32)> = statement
        .query_map(params![now, limit], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_>>()?;
    let contacts = contacts(connection)?;
    let mut all = Vec::new();
    for (id, tries) in found {
        let Some(contact) = contacts.iter().find(|contact| contact.id == id).cloned() else { continue };
        let mut statement = connection.prepare(
            "SELECT outbox.id, event.id, event.at_s, event.domain, event.kind, event.severity, event.text
             FROM outbox JOIN event ON event.id = outbox.event WHERE contact = ?1 ORDER BY outbox.id LIMIT ?2",
        )?;
        let rows = statement
            .query_map(params![id, ALERT_LINES_MAX], |row| Ok((row.get::<_, i64>(0)?, event(row, 1)?)))?;
        let (lines, events) = rows.collect::<Result<Vec<_>>>()?.into_iter().unzip();
        all.push(Waiting { lines, contact, events, tries });
    }
    Ok(all)
}

/// Before it goes out: as if it had failed, so that what cannot be written afterwards is not sent again and again. Those that were tried too
/// often go.
///
/// # Errors
/// SQLite's; then it does not go out.
pub fn sending(transaction: &Transaction<'_>, lines: &[i64], again_s: i64) -> Result<()> {
    for line in lines {
        transaction
            .execute("UPDATE outbox SET due_s = ?2, tries = tries + 1 WHERE id = ?1", [*line, again_s])?;
    }
    transaction.execute("DELETE FROM outbox WHERE tries > ?1", [OUTBOX_TRIES_MAX]).map(drop)
}

/// It went out; or why it did not.
///
/// # Errors
/// SQLite's.
pub fn sent(transaction: &Transaction<'_>, lines: &[i64], error: Option<&str>) -> Result<()> {
    for line in lines {
        match error {
            None => transaction.execute("DELETE FROM outbox WHERE id = ?1", [line])?,
            Some(error) => {
                transaction.execute("UPDATE outbox SET error = ?2 WHERE id = ?1", params![line, error])?
            }
        };
    }
    Ok(())
}

/// What waits is due within an hour at most, whatever the clock said when it was written.
///
/// # Errors
/// SQLite's.
pub fn calm_clock(connection: &Connection) -> Result<()> {
    let latest = now_s() + 3_600;
    connection.execute("UPDATE outbox SET due_s = ?1 WHERE due_s > ?1", [latest]).map(drop)
}

/// Why what waits for a contact did not go out, of its latest try.
///
/// # Errors
/// SQLite's.
pub fn last_error(connection: &Connection, contact: i64) -> Result<Option<String>> {
    let sql = "SELECT error FROM outbox WHERE contact = ?1 AND error IS NOT NULL ORDER BY id DESC LIMIT 1";
    connection.query_row(sql, [contact], |row| row.get(0)).optional()
}

impl Event {
    /// As programs read it.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::json!({
            "at_s": self.at_s,
            "domain": self.domain,
            "kind": self.kind,
            "severity": self.severity,
            "text": self.text,
        })
    }
}
