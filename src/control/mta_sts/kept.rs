//! Policies as a file of the data directory: so that neither a restart nor a web server that is down takes one back.
//!
//! JSON: `{"version": 1, "policies": [{"domain", "id", "fetched_s", "policy"}]}`; `policy` is what the web server sent. Written whole
//! beside the file before and renamed. A file that is damaged, or of another version, is as good as none; a row
//! that is no policy is left out, and told.

use super::Entry;
use crate::limits::MTA_STS_POLICIES_MAX;
use crate::message::mta_sts::Policy;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    policies: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
struct Row {
    domain: String,
    id: String,
    fetched_s: u64,
    policy: String,
}

/// As it is read: a row may be anything.
#[derive(Deserialize)]
struct Rows {
    version: u32,
    policies: Vec<Value>,
}

pub(super) fn encode(policies: &HashMap<String, Entry>) -> Vec<u8> {
    let row = |(domain, entry): (&String, &Entry)| Row {
        domain: domain.clone(),
        id: entry.id.clone(),
        fetched_s: entry.fetched_s,
        policy: entry.text.clone(),
    };
    let mut rows: Vec<Row> = policies.iter().map(row).collect();
    rows.sort_by(|one, other| one.domain.cmp(&other.domain));
    serde_json::to_vec_pretty(&File { version: VERSION, policies: rows }).expect("text and numbers")
}

/// `None`: it is not what we write.
pub(super) fn decode(octets: &[u8]) -> Option<HashMap<String, Entry>> {
    let file: Rows = serde_json::from_slice(octets).ok()?;
    if file.version != VERSION {
        return None;
    }
    let entry = |value: Value| match entry(value) {
        Ok(entry) => Some(entry),
        Err(error) => {
            tracing::error!(error, "a row of the MTA-STS policies is left out; its policy is fetched anew");
            None
        }
    };
    Some(file.policies.into_iter().take(MTA_STS_POLICIES_MAX).filter_map(entry).collect())
}

fn entry(value: Value) -> Result<(String, Entry), String> {
    let row: Row = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let policy = Policy::parse(&row.policy).map_err(|error| format!("{}: {error}", row.domain))?;
    let entry = Entry { id: row.id, text: row.policy, policy: Arc::new(policy), fetched_s: row.fetched_s };
    Ok((row.domain, entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_reads_back_and_damage_is_nothing() {
        let text = "version: STSv1\r\nmode: enforce\r\nmx: *.example.test\r\nmax_age: 86400\r\n".to_owned();
        let policy = Arc::new(Policy::parse(&text).expect("a policy"));
        let entry = Entry { id: "7".to_owned(), text, policy, fetched_s: 1_790_000_000 };
        let octets = encode(&HashMap::from([("example.test".to_owned(), entry.clone())]));
        let back = decode(&octets).expect("whole");
        let read = &back["example.test"];
        assert_eq!((&read.id, &read.text, read.fetched_s), (&entry.id, &entry.text, entry.fetched_s));
        assert_eq!(read.policy, entry.policy);
        let rows = String::from_utf8(octets.clone()).expect("text");
        for bad in [
            "{\"domain\": \"a.test\"}, ",
            "7, ",
            "{\"domain\": \"a.test\", \"id\": \"1\", \"fetched_s\": 1, \"policy\": \"?\"}, ",
        ] {
            let with = rows.replacen("[", &format!("[{bad}"), 1);
            assert_eq!(decode(with.as_bytes()).expect("whole").len(), 1, "the other rows: {bad}");
        }
        for cut in 0..octets.len() {
            assert!(decode(&octets[..cut]).is_none(), "cut at {cut}");
        }
        let other = String::from_utf8(octets).expect("text").replace("\"version\": 1", "\"version\": 2");
        assert!(decode(other.as_bytes()).is_none());
    }
}
