//! What becomes of what a disk says and what the kernel complains of: a state, and sentences for whoever has to act. Pure.

use super::kernel::Complaints;
use super::memory::Memory;
use super::smart::Smart;
use crate::limits::{DISK_ANSWER_PATIENCE, DISK_COMPLAINT_TOLD, DISK_GROWTH_TOLD, DISK_USED_PERCENT_WARNING};
use crate::update::machine::State;
use core::time::Duration;

/// What is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// What it said last; none: it was not asked yet, or says nothing.
    pub(super) smart: Option<Smart>,
    /// Why it says nothing.
    pub(super) unasked: Option<String>,
    pub(super) complaints: Complaints,
    /// Of the starts before this one, too.
    pub(super) memory: Memory,
    /// Seconds since 1970.
    pub(super) now_s: u64,
    pub(super) is_read_only: bool,
    /// Since when an answer is waited for.
    pub(super) waited: Option<Duration>,
}

/// Bits of the critical warning (NVM Express Base Specification 2.0, figure 207).
const WARNINGS: [(u64, State, &str); 6] = [
    (0, State::Failing, "its spare blocks are nearly used up: it is to be replaced now"),
    (1, State::Degraded, "its temperature is out of range: look at fans and airflow"),
    (2, State::Failing, "it says that it is unreliable: it is to be replaced now"),
    (3, State::Failing, "it takes no more writes: it is to be replaced now"),
    (4, State::Failing, "what keeps its cache over a power cut has failed: what it acknowledges may be lost"),
    (5, State::Degraded, "its persistent memory region is read-only or unreliable"),
];
/// The last resort of every sentence.
const REPLACE: &str = "make a backup (stratamx backup) and replace it";

/// How the disk is, and why; the worst first.
pub(super) fn judge(known: &Known) -> (State, Vec<String>) {
    let mut found = of_kernel(known);
    let told = known.smart.as_ref().filter(|smart| smart.tells());
    if let Some(smart) = told {
        found.extend(of_disk(
            smart,
            known.memory.grown_s.filter(|at_s| is_recent(*at_s, known.now_s, DISK_GROWTH_TOLD)),
        ));
    }
    if let Some(why) = known.unasked.as_ref().filter(|_| known.memory.has_told) {
        found.push((
            State::Degraded,
            format!("it told how it is before, and does not any more ({why}); {REPLACE}"),
        ));
    }
    found.sort_by_key(|(state, _)| core::cmp::Reverse(*state));
    let state = match found.first() {
        Some((state, _)) => *state,
        None if told.is_some() => State::Healthy,
        None => State::Silent,
    };
    let mut findings: Vec<String> = found.into_iter().map(|(_, text)| text).collect();
    if told.is_none() && !known.memory.has_told {
        let why = known.unasked.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        findings.push(format!("it tells nothing of its health, as most disks of hypervisors{why}"));
    }
    (state, findings)
}

/// Whether it was so short a time ago. What lies ahead was written by a clock that was wrong.
const fn is_recent(at_s: u64, now_s: u64, span: Duration) -> bool {
    now_s.saturating_sub(at_s) < span.as_secs()
}

fn of_kernel(known: &Known) -> Vec<(State, String)> {
    let Complaints { io, file_system, is_shut_down } = known.complaints;
    let mut found = Vec::new();
    if is_shut_down {
        let text = "the file system has shut itself down, and no mail is taken; restart the machine, and if it happens again replace the disk";
        found.push((State::Failing, text.to_owned()));
    }
    if known.is_read_only {
        found.push((
            State::Failing,
            "the file system is read-only, and no mail is taken; restart the machine".to_owned(),
        ));
    }
    if let Some(waited) = known.waited.filter(|waited| *waited > DISK_ANSWER_PATIENCE) {
        let text = format!("it has not answered for {} s; {REPLACE}", waited.as_secs());
        found.push((State::Failing, text));
    }
    let complained_s = known.memory.complained_s;
    if let Some(at_s) = complained_s.filter(|at_s| is_recent(*at_s, known.now_s, DISK_COMPLAINT_TOLD)) {
        let text = format!(
            "reads or writes of it, or of its file system, failed, the last on {} ({io} and {file_system} since the start); {REPLACE} if it goes on",
            date(at_s)
        );
        found.push((State::Degraded, text));
    }
    found
}

fn date(at_s: u64) -> String {
    let at = i64::try_from(at_s).ok().and_then(|at_s| jiff::Timestamp::from_second(at_s).ok());
    at.map(|at| at.strftime("%Y-%m-%d %H:%M UTC").to_string()).unwrap_or_default()
}

/// `grown_s`: when one of its counts of bad blocks grew, if that is not long ago.
fn of_disk(smart: &Smart, grown_s: Option<u64>) -> Vec<(State, String)> {
    let mut found = Vec::new();
    let warning = smart.critical_warning.unwrap_or(0);
    for (bit, state, text) in WARNINGS {
        if warning & (1 << bit) != 0 {
            found.push((state, text.to_owned()));
        }
    }
    // Of NVMe the verdict is these bits.
    if smart.passed == Some(false) && smart.critical_warning.is_none() {
        found.push((State::Failing, "it says that it fails: it is to be replaced now".to_owned()));
    }
    if let (Some(spare), Some(threshold)) = (smart.spare_percent, smart.spare_threshold)
        && spare < threshold
        && warning & 1 == 0
    {
        found.push((
            State::Failing,
            format!("{spare} % of its spare blocks are left, below its mark of {threshold} %; replace it"),
        ));
    }
    if let Some(used) = smart.used_percent.filter(|used| *used >= DISK_USED_PERCENT_WARNING) {
        found.push((
            State::Degraded,
            format!("{used} % of the wear that it is made for is used; plan to replace it"),
        ));
    }
    if let Some(pending) = smart.pending.filter(|pending| *pending > 0) {
        found.push((State::Degraded, format!("{pending} blocks cannot be read; {REPLACE}")));
    }
    for (count, what) in [
        (smart.media_errors, "times it could not read or write a block"),
        (smart.reallocated, "blocks were replaced by spare ones"),
    ] {
        let Some(count) = count.filter(|count| *count > 0) else { continue };
        found.push(match grown_s {
            Some(at_s) => {
                (State::Degraded, format!("{count} {what}, more on {} than before; {REPLACE}", date(at_s)))
            }
            None => (State::Healthy, format!("{count} {what}; it does not grow")),
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(smart: Smart) -> (State, Vec<String>) {
        judge(&Known { smart: Some(smart), ..Known::default() })
    }

    #[test]
    fn what_a_disk_says_is_judged_as_its_specification_means_it() {
        let well = Smart {
            passed: Some(true),
            critical_warning: Some(0),
            used_percent: Some(3),
            spare_percent: Some(100),
            spare_threshold: Some(10),
            media_errors: Some(0),
            ..Smart::default()
        };
        let with = |change: fn(&mut Smart)| {
            let mut smart = well.clone();
            change(&mut smart);
            of(smart)
        };
        assert_eq!(of(well.clone()), (State::Healthy, vec![]));
        for (state, change, word) in [
            (State::Failing, (|smart| smart.critical_warning = Some(1)) as fn(&mut Smart), "spare"),
            (State::Degraded, |smart| smart.critical_warning = Some(2), "temperature"),
            (State::Failing, |smart| smart.critical_warning = Some(4), "unreliable"),
            (State::Failing, |smart| smart.critical_warning = Some(8), "no more writes"),
            (State::Failing, |smart| smart.critical_warning = Some(16), "power cut"),
            (State::Degraded, |smart| smart.critical_warning = Some(32), "persistent"),
            (State::Failing, |smart| smart.spare_percent = Some(9), "9 % of its spare"),
            (State::Degraded, |smart| smart.used_percent = Some(90), "90 %"),
            (State::Healthy, |smart| smart.media_errors = Some(1), "could not read"),
            (State::Healthy, |smart| smart.reallocated = Some(1), "replaced by spare"),
            (State::Degraded, |smart| smart.pending = Some(8), "8 blocks cannot be read"),
        ] {
            let (told, findings) = with(change);
            assert!(
                told == state && findings.len() == 1 && findings[0].contains(word),
                "{told:?} {findings:?}"
            );
        }
        let ata = Smart { passed: Some(false), ..Smart::default() };
        assert_eq!(of(ata).0, State::Failing);
        let (state, findings) = with(|smart| {
            smart.used_percent = Some(120);
            smart.critical_warning = Some(4);
        });
        assert!(
            state == State::Failing && findings[0].contains("unreliable"),
            "the worst first: {findings:?}"
        );
    }

    #[test]
    fn one_that_tells_nothing_is_silent_until_the_kernel_complains() {
        let (state, findings) = judge(&Known::default());
        assert!(state == State::Silent && findings[0].contains("tells nothing"), "{findings:?}");
        let day = 86_400;
        let complained = |complained_s, now_s| {
            let memory = Memory { complained_s: Some(complained_s), ..Memory::default() };
            judge(&Known { memory, now_s, ..Known::default() }).0
        };
        assert_eq!(complained(100, 100 + 6 * day), State::Degraded, "a restart is no repair");
        assert_eq!(complained(100, 100 + 8 * day), State::Silent);
        assert_eq!(complained(100, 50), State::Degraded, "the clock was put back");
        let complaints = Complaints { is_shut_down: true, ..Complaints::default() };
        assert_eq!(judge(&Known { complaints, ..Known::default() }).0, State::Failing);
        assert_eq!(judge(&Known { is_read_only: true, ..Known::default() }).0, State::Failing);
        let waited = |waited| judge(&Known { waited: Some(waited), ..Known::default() }).0;
        assert_eq!(waited(DISK_ANSWER_PATIENCE), State::Silent);
        assert_eq!(waited(DISK_ANSWER_PATIENCE * 2), State::Failing);
    }

    #[test]
    fn counts_matter_while_they_grow_and_silence_when_there_was_none() {
        let smart = Smart { passed: Some(true), reallocated: Some(3), ..Smart::default() };
        let of = |memory: Memory, unasked: Option<&str>| {
            let (smart, unasked) = (Some(smart.clone()), unasked.map(str::to_owned));
            judge(&Known { smart, unasked, memory, now_s: 1_000_000, ..Known::default() })
        };
        let (state, findings) = of(Memory { grown_s: Some(999_000), ..Memory::default() }, None);
        assert!(state == State::Degraded && findings[0].contains("more on 1970-01-12"), "{findings:?}");
        let told = Memory { has_told: true, ..Memory::default() };
        assert_eq!(of(told.clone(), None).0, State::Healthy);
        let (state, findings) = of(told.clone(), Some("open device failed"));
        assert!(state == State::Degraded && findings[0].contains("open device failed"), "{findings:?}");
        let gone = Known { memory: told, unasked: Some("no answer".to_owned()), ..Known::default() };
        assert_eq!(judge(&gone).0, State::Degraded, "also at the next start");
    }
}
