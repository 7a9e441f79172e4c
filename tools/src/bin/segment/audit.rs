//! `audit`: the ledger, a row a domain, and what does not balance.

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::json;
use storage::inspect::{Directory, ReadOnly};
use storage::ledger::Row;

use super::text::{plain, table};

const COLUMNS: [&str; 11] = [
    "domain",
    "accepted",
    "delivered",
    "bounced",
    "discarded",
    "expired",
    "deleted",
    "damaged",
    "backlog",
    "held",
    "verdict",
];

pub(crate) fn audit(
    directory: &Directory<ReadOnly>,
    as_json: bool,
    output: &mut impl Write,
) -> io::Result<ExitCode> {
    let audit = directory.audit();
    if as_json {
        for row in &audit.rows {
            writeln!(output, "{}", object(row))?;
        }
        for problem in &audit.problems {
            let object = json!({"path": problem.path, "offset": problem.offset, "what": problem.what});
            writeln!(output, "{}", json!({ "problem": object }))?;
        }
    } else {
        table(output, &COLUMNS, audit.rows.iter().map(|row| cells(row).to_vec()))?;
        for problem in &audit.problems {
            writeln!(output, "{}", plain(&problem.to_string()))?;
        }
    }
    let accepted: u64 = audit.rows.iter().map(|row| row.accepted).sum();
    let (domains, problems) = (audit.rows.len(), audit.problems.len());
    if audit.balances() {
        eprintln!("balanced: {accepted} units of {domains} domains");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("NOT balanced: {accepted} units of {domains} domains, {problems} problems");
    Ok(ExitCode::FAILURE)
}

fn verdict(row: &Row) -> String {
    match (row.balances(), row.lost()) {
        (true, _) => "balanced".to_owned(),
        (false, 0) => format!("{} too many", row.accounted() - row.accepted),
        (false, lost) => format!("{lost} LOST"),
    }
}

fn cells(row: &Row) -> [String; 11] {
    let domain = if row.domain.is_empty() { "(unknown)".to_owned() } else { plain(&row.domain) };
    let number = |n: u64| n.to_string();
    [
        domain,
        number(row.accepted),
        number(row.delivered),
        number(row.bounced),
        number(row.discarded),
        number(row.expired),
        number(row.deleted),
        number(row.damaged),
        number(row.backlog),
        number(row.held),
        verdict(row),
    ]
}

fn object(row: &Row) -> serde_json::Value {
    json!({
        "domain": row.domain,
        "accepted": row.accepted,
        "delivered": row.delivered,
        "bounced": row.bounced,
        "discarded": row.discarded,
        "expired": row.expired,
        "deleted": row.deleted,
        "damaged": row.damaged,
        "backlog": row.backlog,
        "held": row.held,
        "lost": row.lost(),
        "balances": row.balances(),
    })
}
