//! Which conditions hold: a pure function of what was seen.
//!
//! Each has a sentence for the operator that says what happens to mail meanwhile, and what he can do.

use super::outage::{Outage, is_left_alone, shortened};
use super::{Condition, Kind, Severity};
use crate::bridge::operator::{DomainStatus, State};
use crate::control::acme::Stands;
use crate::limits::{
    CERTIFICATE_CRITICAL, CERTIFICATE_WARNING, EXPIRY_WARNING, HELD_EXPIRY_MARKS, SPOOL_CRITICAL_PERCENT,
    SPOOL_FORECAST, SPOOL_FULL_PERCENT, SPOOL_WARNING_PERCENT,
};
use crate::update::machine::{self, Disk};
use core::cmp::Reverse;
use core::time::Duration;
use std::collections::BTreeMap;

/// The disk with what is queued on it, in octets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Spool {
    /// What is queued and held.
    pub queued: u64,
    /// What is free.
    pub free: u64,
    /// With less free, new mail is refused.
    pub min_free: u64,
    /// By how much `free` fell in an hour, if it did.
    pub shrinks_an_hour: u64,
}

impl Spool {
    /// How much of the room for mail is used, in percent.
    #[must_use]
    pub fn percent(self) -> u64 {
        let room = self.free.saturating_sub(self.min_free);
        match self.queued.saturating_add(room) {
            0 => 100,
            all => u64::try_from(u128::from(self.queued) * 100 / u128::from(all)).unwrap_or(100),
        }
    }

    /// When new mail will be refused, if it goes on like this.
    #[must_use]
    pub fn full_in(self) -> Option<Duration> {
        let room = self.free.saturating_sub(self.min_free);
        let seconds = (u128::from(room) * 3600).checked_div(self.shrinks_an_hour.into())?;
        u64::try_from(seconds).ok().map(Duration::from_secs)
    }
}

/// What is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// All domains' rows.
    pub domains: &'a [DomainStatus],
    /// How long their mail is kept, and what is held of it, by domain; missing: not configured.
    pub retention: &'a BTreeMap<String, (Duration, Duration)>,
    /// Outages that are under way, by domain.
    pub outages: &'a BTreeMap<String, Outage>,
    /// None: a shard does not answer, and nothing else is known.
    pub spool: Option<Spool>,
    /// What we show.
    pub certificates: &'a Certificates,
    /// The disk of the appliance.
    pub disk: &'a Looked,
}

/// What was seen of the disk of the appliance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Looked {
    /// This is no appliance.
    Nothing,
    /// How it is.
    Seen(Box<Disk>),
    /// PID 1 does not say.
    Unknown,
}

/// The certificates that senders and clients of the admin API are shown.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Certificates {
    /// Their validity, in seconds since 1970.
    pub validity: Vec<(i64, i64)>,
    /// Whether an authority issues new ones.
    pub stands: Stands,
    /// Seconds since 1970, by the clock of this moment.
    pub now_s: i64,
}

/// All that hold.
#[must_use]
pub fn conditions(seen: &Seen<'_>) -> Vec<Condition> {
    let disk = of_disk(seen.disk);
    let Some(spool) = seen.spool else {
        let text = "A part of the server does not answer: mail may not be taken. Look at its log; a restart loses nothing.";
        let storage = condition(Kind::Storage, "", Severity::Critical, text.to_owned());
        return [Some(storage), disk].into_iter().flatten().collect();
    };
    let own = seen.domains.iter().flat_map(|domain| of_domain(domain, seen));
    own.chain(of_spool(spool)).chain(of_certificates(seen.certificates)).chain(disk).collect()
}

fn of_domain(domain: &DomainStatus, seen: &Seen<'_>) -> Vec<Condition> {
    let name = domain.name.as_str();
    let mut all = Vec::new();
    let reason = domain.last_failure.as_ref().map(|failure| shortened(&failure.reason)).unwrap_or_default();
    match domain.state {
        State::Down if !is_left_alone(domain) => {
            let since = seen.outages.get(name).map_or(0, |outage| outage.began_s);
            let text = format!(
                "The mail server of {name} cannot be reached since {}: {reason}. {} messages wait here; they are handed over in order \
                 when it is back, without anything to do.",
                instant(since),
                domain.messages
            );
            all.push(condition(Kind::PrimaryDown, name, Severity::Critical, text));
        }
        State::Impaired => {
            let text = format!(
                "The mail server of {name} answers and puts everything off: {reason}. {} messages wait here. Is its disk full, or its directory \
                 down?",
                domain.messages
            );
            all.push(condition(Kind::PrimaryImpaired, name, Severity::Warning, text));
        }
        State::Frozen => {
            let text = format!(
                "The mail server of {name} is back and refuses recipients that it used to take: {reason}. Nothing is handed over, so that nothing \
                 bounces; {} messages wait. It goes on by itself when they are taken again; stratamx queue thaw, bounce, discard or redirect \
                 {name} are the other ways out.",
                domain.messages
            );
            all.push(condition(Kind::Frozen, name, Severity::Critical, text));
        }
        _ => {}
    }
    if let Some(change) = &domain.primary_changed {
        let text = format!(
            "The mail server of {name} is another than before ({}). It gets mail carefully, and copies of all that it takes are kept for a day: \
             stratamx queue thaw {name} if it is right, queue replay {name} if it was not.",
            change.what
        );
        all.push(condition(Kind::PrimaryChanged, name, Severity::Warning, text));
    }
    let retention = seen.retention.get(name).copied();
    if let Some((severity, left)) = held_ends_in(domain, retention.map(|(_, held)| held)) {
        let text = format!(
            "The first of {} held recipients of {name} ends in {}, and nobody is told of it: stratamx queue release, redirect, bounce or delete decides \
             about it; stratamx domain set {name} held_retention=90d keeps it longer.",
            domain.held,
            span(left.as_secs())
        );
        all.push(condition(Kind::HeldExpiry, name, severity, text));
    }
    if let Some(left) = expires_in(domain, retention.map(|(all, _)| all)) {
        let text = format!(
            "The oldest mail of {name} has waited for {} and expires in {}. A longer retention keeps it: that of {name} in the configuration, or stratamx domain set {name} retention=90d.",
            span(domain.oldest_s),
            span(left.as_secs())
        );
        all.push(condition(Kind::Expiry, name, Severity::Critical, text));
    }
    all
}

/// What is left to the oldest message, where that is little.
fn expires_in(domain: &DomainStatus, retention: Option<Duration>) -> Option<Duration> {
    let retention = retention?;
    if domain.backlog == 0 || domain.oldest_s == 0 {
        return None;
    }
    let left = retention.saturating_sub(Duration::from_secs(domain.oldest_s));
    // What is kept for a short time only is always near its end: its last tenth counts.
    (left <= EXPIRY_WARNING.min(retention / 10)).then_some(left)
}

/// What is left to the first of what is held, at the marks of DESIGN.md 5; of what is held for a short time the last quarter, tenth and thirtieth count.
fn held_ends_in(domain: &DomainStatus, retention: Option<Duration>) -> Option<(Severity, Duration)> {
    let retention = retention.filter(|_| domain.held > 0)?;
    let left = retention.saturating_sub(Duration::from_secs(domain.held_oldest_s));
    let severities = [Severity::Critical, Severity::Warning, Severity::Information];
    let parts = [30, 10, 4].map(|part| retention / part);
    let marks = HELD_EXPIRY_MARKS.into_iter().zip(parts).map(|(mark, part)| mark.min(part));
    marks.zip(severities).find(|(mark, _)| left <= *mark).map(|(_, severity)| (severity, left))
}

fn of_spool(spool: Spool) -> Option<Condition> {
    let percent = spool.percent();
    let is_full_soon = spool.full_in().is_some_and(|time| time < SPOOL_FORECAST);
    let severity = match percent {
        _ if spool.free <= spool.min_free => Severity::Critical,
        SPOOL_FULL_PERCENT.. => Severity::Critical,
        SPOOL_CRITICAL_PERCENT.. => Severity::Warning,
        // Whatever fills the disk, mail is refused when it is full.
        _ if is_full_soon || spool.free < spool.min_free.saturating_mul(2) => Severity::Warning,
        SPOOL_WARNING_PERCENT.. => Severity::Information,
        _ => return None,
    };
    let forecast = match spool.full_in() {
        Some(time) => format!("; at the pace of the last hour it is full in {}", span(time.as_secs())),
        None => String::new(),
    };
    let text = format!(
        "{percent} % of the room for mail is used, {} MiB are left{forecast}. When it is full senders are asked to come again (452), and nothing is lost. A larger disk, \
         or a mail server that is back, makes room.",
        spool.free.saturating_sub(spool.min_free) >> 20
    );
    Some(condition(Kind::Spool, "", severity, text))
}

fn of_disk(disk: &Looked) -> Option<Condition> {
    let Looked::Seen(disk) = disk else { return None };
    let severity = match disk.state {
        machine::State::Healthy | machine::State::Silent => return None,
        machine::State::Degraded => Severity::Warning,
        machine::State::Failing => Severity::Critical,
    };
    let text = format!("The disk {} is {}: {}.", disk.device, disk.state.word(), disk.findings.join("; "));
    Some(condition(Kind::DiskHealth, "", severity, text))
}

/// The one for which most has to be done; else that none is issued.
fn of_certificates(certificates: &Certificates) -> Option<Condition> {
    let Certificates { validity, stands, now_s } = certificates;
    let why = match stands {
        Stands::Failed(error) => {
            format!("The authority issued no new one: {error}. It is asked again by itself.")
        }
        Stands::Unknown | Stands::Well => {
            "New files of smtp.tls or admin.tls are read as soon as they are there.".to_owned()
        }
    };
    let worst = validity.iter().filter_map(|(begins_s, ends_s)| {
        let seconds = |from: i64| u64::try_from(ends_s.saturating_sub(from)).unwrap_or(0);
        let (left, whole) = (Duration::from_secs(seconds(*now_s)), Duration::from_secs(seconds(*begins_s)));
        // One that is for a few days only is renewed late: its last quarter counts.
        let severity = match left {
            _ if left <= CERTIFICATE_CRITICAL.min(whole / 8) => Severity::Critical,
            _ if left <= CERTIFICATE_WARNING.min(whole / 4) => Severity::Warning,
            _ => return None,
        };
        Some((severity, Reverse(left)))
    });
    let (severity, text) = match worst.max() {
        Some((severity, Reverse(left))) => {
            let when = if left.is_zero() {
                "has ended".to_owned()
            } else {
                format!("ends in {}", span(left.as_secs()))
            };
            let matters = if severity == Severity::Critical {
                ": senders who insist on one (MTA-STS, DANE) do not hand us mail then"
            } else {
                ""
            };
            (severity, format!("A certificate that is shown {when}{matters}. {why}"))
        }
        None if matches!(stands, Stands::Failed(_)) => {
            (Severity::Warning, format!("The certificate in force is shown. {why}"))
        }
        None => return None,
    };
    Some(condition(Kind::Certificate, "", severity, text))
}

fn condition(kind: Kind, domain: &str, severity: Severity, text: String) -> Condition {
    Condition { kind, domain: domain.to_owned(), severity, text }
}

/// Seconds since 1970 for people, in UTC.
#[must_use]
pub fn instant(at_s: u64) -> String {
    let at = i64::try_from(at_s).ok().and_then(|at| jiff::Timestamp::from_second(at).ok());
    at.map(|at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()).unwrap_or_default()
}

/// A time in its two largest units.
#[must_use]
pub fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::operator::Failure;

    fn row(state: State) -> DomainStatus {
        let last_failure = Some(Failure { at_s: 1_795_388_400, reason: "no connection".to_owned() });
        DomainStatus {
            name: "a.test".to_owned(),
            state,
            messages: 7,
            last_failure,
            ..DomainStatus::default()
        }
    }

    fn told(domains: &[DomainStatus], spool: Option<Spool>) -> Vec<(Kind, Severity, String)> {
        let month = Duration::from_secs(30 * 86_400);
        let retention = BTreeMap::from([("a.test".to_owned(), (month, month))]);
        let (outages, certificates) = (BTreeMap::new(), Certificates::default());
        let (retention, outages, certificates) = (&retention, &outages, &certificates);
        let seen = Seen { domains, retention, outages, spool, certificates, disk: &Looked::Nothing };
        let all = conditions(&seen).into_iter();
        all.map(|condition| (condition.kind, condition.severity, condition.text)).collect()
    }

    #[test]
    fn a_disk_that_fails_is_told_also_when_nothing_else_is_known() {
        let disk = |state| {
            Looked::Seen(Box::new(Disk {
                device: "nvme0n1".to_owned(),
                state,
                findings: vec!["it says that it is unreliable".to_owned()],
                ..Disk::default()
            }))
        };
        let severity = |looked: &Looked| of_disk(looked).map(|condition| condition.severity);
        assert_eq!(severity(&Looked::Nothing), None);
        assert_eq!(severity(&Looked::Unknown), None);
        assert_eq!(severity(&disk(machine::State::Silent)), None);
        assert_eq!(severity(&disk(machine::State::Healthy)), None);
        assert_eq!(severity(&disk(machine::State::Degraded)), Some(Severity::Warning));
        let failing = disk(machine::State::Failing);
        let (certificates, retention, outages) = Default::default();
        let (certificates, disk) = (&certificates, &failing);
        let seen =
            Seen { domains: &[], retention: &retention, outages: &outages, spool: None, certificates, disk };
        let told = conditions(&seen);
        assert_eq!(told.iter().map(|one| one.kind).collect::<Vec<_>>(), [Kind::Storage, Kind::DiskHealth]);
        assert_eq!(told[1].text, "The disk nvme0n1 is failing: it says that it is unreliable.");
    }

    const ROOM: Spool = Spool { queued: 0, free: 1 << 30, min_free: 1 << 20, shrinks_an_hour: 0 };

    #[test]
    fn a_state_that_needs_somebody_is_a_condition_and_no_other_is() {
        for (state, expected) in [
            (State::Up, None),
            (State::Suspect, None),
            (State::Recovering, None),
            (State::Held, None),
            (State::Unknown, None),
            (State::Down, Some(Kind::PrimaryDown)),
            (State::Impaired, Some(Kind::PrimaryImpaired)),
            (State::Frozen, Some(Kind::Frozen)),
        ] {
            let kinds: Vec<Kind> = told(&[row(state)], Some(ROOM)).into_iter().map(|one| one.0).collect();
            assert_eq!(kinds, expected.into_iter().collect::<Vec<_>>(), "{state}");
        }
        let text = told(&[row(State::Frozen)], Some(ROOM)).remove(0).2;
        assert!(text.contains("7 messages wait") && text.contains("queue thaw"), "{text}");
    }

    #[test]
    fn the_spool_is_told_by_its_three_marks_with_a_forecast() {
        let spool = |queued, shrinks_an_hour| Spool {
            queued,
            free: 100 - queued + 10,
            min_free: 10,
            shrinks_an_hour,
        };
        for (queued, expected) in [
            (49, None),
            (50, Some(Severity::Information)),
            (80, Some(Severity::Warning)),
            (95, Some(Severity::Critical)),
            (100, Some(Severity::Critical)),
        ] {
            let told = told(&[], Some(spool(queued, 0)));
            assert_eq!(told.first().map(|one| one.1), expected, "{queued}");
        }
        assert!(told(&[], Some(spool(80, 10)))[0].2.contains("full in 2 h 0 min"));
        let filling = Spool { queued: 1, free: 1_000, min_free: 100, shrinks_an_hour: 100 };
        assert_eq!(told(&[], Some(filling))[0].1, Severity::Warning, "others fill the disk");
        assert_eq!(told(&[], Some(Spool { shrinks_an_hour: 1, ..filling })), []);
        let short = Spool { free: 150, shrinks_an_hour: 0, ..filling };
        assert_eq!(told(&[], Some(short))[0].1, Severity::Warning);
        assert!(!told(&[], Some(spool(80, 0)))[0].2.contains("full in"));
        let gone = told(&[row(State::Down)], None);
        assert_eq!(
            gone.iter().map(|one| one.0).collect::<Vec<_>>(),
            [Kind::Storage],
            "nothing else is known"
        );
    }

    #[test]
    fn a_certificate_near_its_end_is_told_and_one_that_is_not_issued() {
        const DAY: i64 = 86_400;
        let told = |validity: &[(i64, i64)], failure: Option<&str>| {
            let stands = failure.map_or(Stands::Well, |failure| Stands::Failed(failure.to_owned()));
            let told =
                of_certificates(&Certificates { validity: validity.to_vec(), stands, now_s: 100 * DAY });
            told.map(|one| (one.severity, one.text))
        };
        let severity = |validity: &[(i64, i64)]| told(validity, None).map(|one| one.0);
        let (begins_s, now_s) = (40 * DAY, 100 * DAY);
        assert_eq!(severity(&[]), None);
        assert_eq!(severity(&[(begins_s, now_s + 15 * DAY)]), None);
        assert_eq!(severity(&[(begins_s, now_s + 14 * DAY), (0, 1_000 * DAY)]), Some(Severity::Warning));
        assert_eq!(severity(&[(begins_s, now_s + 3 * DAY)]), Some(Severity::Critical));
        assert_eq!(severity(&[(now_s - 3 * DAY, now_s + 3 * DAY)]), None, "for six days");
        assert_eq!(severity(&[(now_s - 5 * DAY, now_s + DAY)]), Some(Severity::Warning));
        let (short, long) = ((now_s - 4 * DAY, now_s + 2 * DAY), (begins_s, now_s + 2 * DAY + 1));
        assert_eq!(severity(&[short, long]), Some(Severity::Critical), "not the one that ends first");
        let (severity, text) = told(&[(begins_s, now_s - 1)], Some("no answer")).expect("it has ended");
        assert!(
            severity == Severity::Critical && text.contains("has ended") && text.contains("no answer"),
            "{text}"
        );
        let (severity, text) =
            told(&[(begins_s, now_s + 80 * DAY)], Some("rate limited")).expect("not issued");
        assert!(severity == Severity::Warning && text.contains("rate limited"), "{text}");
    }

    #[test]
    fn held_mail_is_told_seven_days_three_and_one_before_its_end() {
        let held = |hours: u64, held| DomainStatus { held_oldest_s: hours * 3_600, held, ..row(State::Up) };
        for (hours, expected) in [
            (22 * 24, None),
            (23 * 24, Some(Severity::Information)),
            (27 * 24, Some(Severity::Warning)),
            (29 * 24, Some(Severity::Critical)),
            (40 * 24, Some(Severity::Critical)),
        ] {
            let told = told(&[held(hours, 2)], Some(ROOM));
            assert_eq!(told.first().map(|one| one.1), expected, "{hours}");
            assert!(told.iter().all(|one| one.0 == Kind::HeldExpiry && one.2.contains("2 held recipients")));
        }
        assert!(told(&[held(29 * 24, 0)], Some(ROOM)).is_empty(), "nothing is held");
        let short = Some(Duration::from_secs(40 * 3_600));
        assert_eq!(
            held_ends_in(&held(1, 1), short),
            None,
            "what is kept for a short time is always near its end"
        );
        assert_eq!(held_ends_in(&held(37, 1), short).map(|one| one.0), Some(Severity::Warning));
    }

    #[test]
    fn mail_that_is_about_to_expire_is_told_three_days_before() {
        let aged = |days: u64, backlog| DomainStatus { oldest_s: days * 86_400, backlog, ..row(State::Up) };
        assert!(told(&[aged(26, 1)], Some(ROOM)).is_empty());
        let told_late = told(&[aged(28, 1)], Some(ROOM));
        assert_eq!((told_late[0].0, told_late[0].1), (Kind::Expiry, Severity::Critical));
        assert!(told_late[0].2.contains("expires in 2 d 0 h"), "{}", told_late[0].2);
        assert!(told(&[aged(28, 0)], Some(ROOM)).is_empty(), "nothing waits");
    }
}
