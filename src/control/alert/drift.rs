//! Whether records still bring mail here in an outage: MX records that do not name us any more, or an MTA-STS policy that does not.
//!
//! One domain after the other, each every few hours; the check is the doctor's ([`super::super::doctor`]). What is wrong at two looks in a row is told;
//! a look that found nothing out changes nothing. Pure, but for [`look`].

use super::super::doctor::{Facts, Verdict, examine_records, hosts};
use super::{Condition, Kind, Severity};
use crate::bridge::operator::DomainStatus;
use crate::bridge::{Lookup, LookupError, Snapshot};
use crate::limits::{DRIFT_LOOK_INTERVAL, DRIFT_PAUSE_MAX, DRIFT_PAUSE_MIN};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

/// Looks in a row at which it is wrong before it is told.
const LOOKS: u32 = 2;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Drift {
    looks: BTreeMap<String, Looked>,
    last: Option<String>,
}

/// What was found last; nothing that was found is no look.
#[derive(Debug, Default)]
struct Looked {
    wrong: u32,
    text: String,
}

impl Drift {
    /// Whose turn it is: of these, the one behind the last, by name.
    pub(super) fn next(&mut self, domains: &BTreeSet<String>) -> Option<String> {
        self.looks.retain(|domain, _| domains.contains(domain));
        let behind = self.last.as_ref().and_then(|last| {
            domains.range::<String, _>((core::ops::Bound::Excluded(last), core::ops::Bound::Unbounded)).next()
        });
        self.last = behind.or_else(|| domains.first()).cloned();
        self.last.clone()
    }

    /// What a look found to be wrong, in a sentence; `None`: nothing could be found out.
    pub(super) fn looked(&mut self, domain: &str, found: Option<String>) {
        let Some(text) = found else { return };
        let looked = self.looks.entry(domain.to_owned()).or_default();
        looked.wrong = if text.is_empty() { 0 } else { looked.wrong + 1 };
        looked.text = text;
    }

    /// What holds.
    pub(super) fn conditions(&self) -> impl Iterator<Item = Condition> {
        let wrong = self.looks.iter().filter(|(_, looked)| looked.wrong >= LOOKS);
        wrong.map(|(domain, looked)| Condition {
            kind: Kind::Drift,
            domain: domain.clone(),
            severity: Severity::Warning,
            text: format!("{domain}: {}", looked.text),
        })
    }

    /// Those that were not looked at often enough to say that it is over.
    pub(super) fn unsettled(&self, domains: &BTreeSet<String>) -> impl Iterator<Item = (Kind, String)> {
        let is_unsettled = |domain: &&String| {
            self.looks.get(*domain).is_none_or(|looked| (1..LOOKS).contains(&looked.wrong))
        };
        domains
            .iter()
            .filter(is_unsettled)
            .map(|domain| (Kind::Drift, domain.clone()))
            .collect::<Vec<_>>()
            .into_iter()
    }
}

/// Between two looks, with so many domains.
pub(super) fn pause(domains: usize) -> Duration {
    let domains = u32::try_from(domains.max(1)).unwrap_or(u32::MAX);
    (DRIFT_LOOK_INTERVAL / domains).clamp(DRIFT_PAUSE_MIN, DRIFT_PAUSE_MAX)
}

/// One look at a domain, as [`Drift::looked`] takes it.
pub(super) async fn look(lookup: &Lookup, snapshot: &Snapshot, name: &str) -> Option<String> {
    let domain = snapshot.domain(name)?;
    let hostname = snapshot.config.hostname.as_str();
    let exchangers = match hosts(lookup, name, hostname).await {
        Ok(hosts) => hosts,
        Err(LookupError::NoAddress) => {
            return Some(format!("It has no MX records: in an outage nobody comes to {hostname}."));
        }
        Err(LookupError::Temporary(_)) => return None,
    };
    let ours = lookup.addresses(hostname).await;
    let is_unknown = |addresses: &Result<_, LookupError>| matches!(addresses, Err(LookupError::Temporary(_)));
    let is_named = exchangers.iter().any(|host| host.exchanger.host == hostname);
    if !is_named && (is_unknown(&ours) || exchangers.iter().any(|host| is_unknown(&host.addresses))) {
        // It may be there by another name.
        return None;
    }
    let policy = lookup.policy(name).await;
    let told = |error: LookupError| error.to_string();
    let status = DomainStatus::default();
    let facts = Facts {
        hostname,
        ours: ours.map_err(told),
        domain,
        exchangers: Ok(exchangers),
        is_secure: None,
        policy: policy.map(|policy| policy.map(|policy| (*policy).clone())).map_err(told),
        has_tlsa: Ok(false),
        has_certificate: true,
        status: &status,
        is_trusted: false,
        contacts: 0,
        beside: None,
        test: None,
    };
    let wrong = examine_records(&facts).into_iter().filter(|finding| finding.verdict == Verdict::Error);
    let sentences = wrong.map(|finding| match finding.mend {
        Some(mend) => format!("{} {mend}", finding.text),
        None => finding.text,
    });
    Some(sentences.collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn told(drift: &Drift) -> Vec<String> {
        drift.conditions().map(|condition| condition.text).collect()
    }

    #[test]
    fn it_is_told_when_it_is_wrong_twice_in_a_row_and_over_when_it_is_right() {
        let (mut drift, all) = (Drift::default(), names(&["a.test", "b.test"]));
        let unsettled = |drift: &Drift| drift.unsettled(&all).map(|(_, domain)| domain).collect::<Vec<_>>();
        assert_eq!(unsettled(&drift), ["a.test", "b.test"], "an alert of an earlier life stays");
        drift.looked("a.test", Some("None of its MX records is mx2.".to_owned()));
        drift.looked("b.test", Some(String::new()));
        assert_eq!((told(&drift).len(), unsettled(&drift)), (0, vec!["a.test".to_owned()]));
        drift.looked("a.test", None);
        assert_eq!(told(&drift).len(), 0, "nothing was found out");
        drift.looked("a.test", Some("None of its MX records is mx2.".to_owned()));
        assert_eq!(told(&drift), ["a.test: None of its MX records is mx2."]);
        drift.looked("a.test", None);
        assert_eq!(told(&drift).len(), 1, "it stays, until it is seen to be right");
        drift.looked("a.test", Some(String::new()));
        assert_eq!((told(&drift).len(), unsettled(&drift).len()), (0, 0));
    }

    #[test]
    fn each_has_its_turn_and_one_that_is_gone_is_forgotten() {
        let mut drift = Drift::default();
        let all = names(&["a.test", "b.test", "c.test"]);
        let turns: Vec<String> = (0..4).filter_map(|_| drift.next(&all)).collect();
        assert_eq!(turns, ["a.test", "b.test", "c.test", "a.test"]);
        for _ in 0..LOOKS {
            drift.looked("b.test", Some("wrong".to_owned()));
        }
        assert_eq!(drift.next(&names(&["c.test"])).as_deref(), Some("c.test"));
        assert_eq!((told(&drift).len(), drift.next(&BTreeSet::new())), (0, None));
        assert_eq!(
            [1, 100, 100_000].map(pause),
            [DRIFT_PAUSE_MAX, Duration::from_secs(216), DRIFT_PAUSE_MIN]
        );
    }
}
