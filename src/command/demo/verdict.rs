//! The judgement of the demo: pure, over what was acknowledged and what the primary took.

use core::time::Duration;
use std::collections::{BTreeMap, HashMap};

/// A message that was answered by 250.
#[derive(Clone, Debug)]
pub(super) struct Promised {
    pub(super) number: u32,
    pub(super) mail_at: Duration,
    pub(super) acknowledged_at: Duration,
}

/// A message that the primary took, in the order of MAIL.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    /// None: a message that the demo did not send, or its data was altered.
    pub(super) number: Option<u32>,
    pub(super) recipient: String,
}

/// What came of it all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Verdict {
    pub(super) promised: usize,
    pub(super) delivered: usize,
    pub(super) lost: usize,
    pub(super) altered: usize,
    pub(super) inverted: usize,
    pub(super) repeated: usize,
}

impl Verdict {
    pub(super) const fn holds(&self) -> bool {
        self.lost == 0 && self.altered == 0 && self.inverted == 0 && self.promised > 0
    }
}

/// Judges; `taken` is in the order in which the primary was offered the messages.
pub(super) fn judge(promised: &[Promised], taken: &[Taken]) -> Verdict {
    let by_number: HashMap<u32, &Promised> =
        promised.iter().map(|promise| (promise.number, promise)).collect();
    let mut verdict = Verdict { promised: promised.len(), ..Verdict::default() };
    let mut times: BTreeMap<u32, usize> = BTreeMap::new();
    // Per recipient, the latest MAIL among those that were offered before.
    let mut latest: HashMap<&str, Duration> = HashMap::new();
    for message in taken {
        let Some(number) = message.number else {
            verdict.altered += 1;
            continue;
        };
        let seen = times.entry(number).or_insert(0);
        *seen += 1;
        if *seen > 1 {
            continue;
        }
        let Some(promise) = by_number.get(&number) else { continue };
        let before = latest.entry(&message.recipient).or_insert(Duration::ZERO);
        // P3: acknowledged before the other began, and offered behind it.
        verdict.inverted += usize::from(promise.acknowledged_at < *before);
        *before = promise.mail_at.max(*before);
    }
    verdict.delivered = promised.iter().filter(|promise| times.contains_key(&promise.number)).count();
    verdict.lost = verdict.promised - verdict.delivered;
    verdict.repeated = times.values().filter(|seen| **seen > 1).count();
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    fn promised(count: u32) -> Vec<Promised> {
        let promise = |number| Promised {
            number,
            mail_at: Duration::from_secs(u64::from(number) * 10),
            acknowledged_at: Duration::from_secs(u64::from(number) * 10 + 1),
        };
        (0..count).map(promise).collect()
    }

    fn taken(numbers: &[u32]) -> Vec<Taken> {
        numbers.iter().map(|number| Taken { number: Some(*number), recipient: "you".to_owned() }).collect()
    }

    #[test]
    fn the_verdict_finds_what_is_planted() {
        assert!(judge(&promised(4), &taken(&[0, 1, 2, 3])).holds());
        assert_eq!(judge(&promised(4), &taken(&[0, 1, 3])).lost, 1);
        assert_eq!(judge(&promised(4), &taken(&[0, 2, 1, 3])).inverted, 1);
        let repeated = judge(&promised(4), &taken(&[0, 1, 1, 2, 3]));
        assert!(repeated.holds() && repeated.repeated == 1);
        let mut altered = taken(&[0, 1, 2, 3]);
        altered[2].number = None;
        let verdict = judge(&promised(4), &altered);
        assert_eq!((verdict.altered, verdict.lost), (1, 1));
        assert!(!judge(&[], &[]).holds(), "nothing promised proves nothing");
    }
}
