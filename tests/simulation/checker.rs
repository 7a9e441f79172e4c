//! Whether the promises were kept: judged by what the outside saw and by the disk at the end, and by nothing of the node.

#[path = "checker/copies.rs"]
mod copies;

use crate::history::{Act, History, Refusal, Sent, Taken, Told, Unit, domain_of, number_of};
use crate::plan::Plan;
use crate::world::Healing;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use storage::inspect::Audit;
use storage::sim::SimDisk;
use stratamx::config::NOTICES_DOMAIN;
use stratamx::limits::OUTSTANDING_MAX;

/// By then what a primary took is journalled, also on a disk that is slow or has just failed.
const SETTLED_AFTER: Duration = Duration::from_secs(15);
/// What a probe interval may be longer by: a probe that hangs, and the look at the clock.
const PROBE_SLACK: Duration = Duration::from_secs(45);
/// Complaints of one kind that are shown.
const SHOWN: usize = 4;

/// All that is judged by what was seen.
pub fn of_history(plan: &Plan, history: &History, healing: &Healing) -> Vec<String> {
    let mut wrong = Vec::new();
    let checks: [fn(&View<'_>) -> Vec<String>; 7] =
        [lost, order, repeats, verdicts, notices, content, recovery];
    let sent = history.sent.borrow();
    let taken = history.taken.borrow();
    let view = View { plan, history, healing, sent: &sent, taken: &taken };
    for check in checks {
        let mut found = check(&view);
        found.truncate(SHOWN);
        wrong.append(&mut found);
    }
    wrong
}

struct View<'a> {
    plan: &'a Plan,
    history: &'a History,
    healing: &'a Healing,
    sent: &'a BTreeMap<u32, Sent>,
    taken: &'a [Taken],
}

impl View<'_> {
    /// Messages that are ours by our own 250.
    fn ours(&self) -> impl Iterator<Item = &Sent> {
        self.sent.values().filter(|sent| matches!(sent.told, Told::Ours(_)))
    }

    fn taken_units(&self) -> BTreeSet<(u32, &str)> {
        let units = |taken: &'_ Taken| taken.number;
        self.taken
            .iter()
            .flat_map(|taken| taken.recipients.iter().map(move |mailbox| (units(taken), mailbox.as_str())))
            .collect()
    }

    fn acted(&self, number: u32) -> BTreeSet<Act> {
        self.history.acted.borrow().get(&number).cloned().unwrap_or_default()
    }

    fn refusals(&self, unit: &Unit) -> Vec<Refusal> {
        self.history.refused.borrow().get(unit).cloned().unwrap_or_default()
    }

    /// Whether its retention may have ended; by the world's time, not by a clock that jumps.
    fn is_aged(&self, sent: &Sent) -> bool {
        self.history.began.get() > sent.told_time + self.plan.retention
    }
}

/// P1, P2: what was promised arrived, or ended as it may.
fn lost(view: &View<'_>) -> Vec<String> {
    if view.healing.at.get().is_none() {
        return Vec::new();
    }
    let taken = view.taken_units();
    let mut wrong = Vec::new();
    for sent in view.ours() {
        for mailbox in &sent.recipients {
            let unit = (sent.number, mailbox.clone());
            let ended = taken.contains(&(sent.number, mailbox.as_str()))
                || !view.refusals(&unit).is_empty()
                || view.acted(sent.number).contains(&Act::Remove)
                || view.is_aged(sent);
            if !ended {
                wrong.push(format!(
                    "P1, P2: {} to {mailbox} was promised in life {} and is lost",
                    sent.number, sent.life
                ));
            }
        }
    }
    wrong
}

/// P3: of two messages for one recipient, the first of which was acknowledged before the other one's MAIL, the first is offered
/// first. Excepted: what the primary put off or refused, what broke three sessions, what an operator touched.
fn order(view: &View<'_>) -> Vec<String> {
    if view.plan.reading_fails {
        return Vec::new();
    }
    let put_off = view.history.put_off.borrow();
    let broken = view.history.broken_over.borrow();
    let is_exempt = |number: u32| {
        put_off.contains(&number)
            || broken.get(&number).is_some_and(|times| *times >= stratamx::limits::POISON_TRIES)
            || !view.acted(number).is_empty()
    };
    let mut by_mailbox = BTreeMap::<&str, Vec<(u64, u32, Duration)>>::new();
    let offered = view.history.offered.borrow();
    let ended_early = view.history.ended_early.borrow();
    for ((number, mailbox), (at, time)) in offered.iter() {
        by_mailbox.entry(mailbox).or_default().push((*at, *number, *time));
    }
    let mut wrong = Vec::new();
    for (mailbox, mut offers) in by_mailbox {
        offers.sort_unstable();
        // The latest MAIL of those that were offered before.
        let mut latest = (0, 0);
        for (_, number, offered_at) in offers {
            let Some(sent) = view.sent.get(&number) else {
                wrong.push(format!("{number} to {mailbox} was never sent"));
                continue;
            };
            let broke = |domain: &str| {
                let ended = ended_early.iter().filter(|(host, time)| {
                    view.plan.is_host_of(*host, domain) && (sent.told_time..=offered_at).contains(time)
                });
                ended.count() >= stratamx::limits::POISON_TRIES as usize
            };
            let is_late = matches!(sent.told, Told::Ours(_)) && sent.told_at < latest.0;
            if is_late && !is_exempt(number) && !broke(domain_of(mailbox)) {
                wrong.push(format!(
                    "P3: {} was offered before {number}, both to {mailbox}; that was promised at {:?} in life {} and offered at {:?}",
                    latest.1, sent.told_time, sent.life, offered_at
                ));
            }
            latest = latest.max((sent.mail_at, number));
        }
    }
    wrong
}

/// P4: what was taken again had an unknown outcome before.
fn repeats(view: &View<'_>) -> Vec<String> {
    let crashes = view.history.crashes.borrow();
    let mut before = BTreeMap::<(u32, &str), &Taken>::new();
    let mut by_crash = BTreeMap::<(String, u32), BTreeSet<u32>>::new();
    let mut wrong = Vec::new();
    for taken in view.taken {
        for mailbox in &taken.recipients {
            let Some(earlier) = before.insert((taken.number, mailbox), taken) else { continue };
            if !is_unknown(view, earlier) {
                let (number, first, again) = (taken.number, earlier.answered, taken.answered);
                let by = (earlier.connection, taken.connection);
                let crash = crashes.iter().find(|crash| Some(**crash) >= first);
                wrong.push(format!(
                    "P4: {number} to {mailbox} came again at {again:?}, and was known to be taken at {first:?}, by connections {by:?}; a life ended at {crash:?}"
                ));
            } else if !earlier.reply_lost {
                let key = (domain_of(mailbox).to_owned(), earlier.life);
                by_crash.entry(key).or_default().insert(taken.number);
            }
        }
    }
    let most = OUTSTANDING_MAX as usize;
    for ((domain, life), numbers) in by_crash.iter().filter(|(_, numbers)| numbers.len() > most) {
        wrong.push(format!("P4: {} messages of {domain} came again behind life {life}", numbers.len()));
    }
    wrong
}

/// Whether the node may not know, or have forgotten, that it was taken.
fn is_unknown(view: &View<'_>, taken: &Taken) -> bool {
    let Some(answered) = taken.answered.filter(|_| !taken.reply_lost) else { return true };
    let crashes = view.history.crashes.borrow();
    let crash = crashes.iter().find(|crash| **crash >= answered);
    crash.is_some_and(|crash| *crash <= answered + SETTLED_AFTER)
}

/// H41: what is judged by the copies on the disk behind each life; and how many were looked for.
pub fn of_copies(plan: &Plan, history: &History, healing: &Healing, disk: &SimDisk) -> (Vec<String>, usize) {
    let Some(rescue) = &plan.rescue else { return (Vec::new(), 0) };
    let (sent, taken) = (history.sent.borrow(), history.taken.borrow());
    let view = View { plan, history, healing, sent: &sent, taken: &taken };
    let (mut wrong, looked_for) = copies::judge(&view, rescue, disk);
    wrong.truncate(SHOWN);
    (wrong, looked_for)
}

/// H21, H22: a 250 of the primary's is his; who was refused is not delivered to by us later.
fn verdicts(view: &View<'_>) -> Vec<String> {
    let taken = view.taken_units();
    let mut wrong = Vec::new();
    for sent in view.sent.values() {
        let number = sent.number;
        for mailbox in &sent.recipients {
            let has = taken.contains(&(number, mailbox.as_str()));
            match sent.told {
                Told::Primarys if !has => {
                    wrong
                        .push(format!("H21: {number} to {mailbox} had the primary's 250, and he has it not"));
                }
                Told::Refused(code) if has && code >= 500 => {
                    wrong.push(format!("{number} to {mailbox} was refused by {code} and delivered"));
                }
                Told::Abandoned if has => {
                    wrong.push(format!("{number} to {mailbox} was never sent to its end and delivered"));
                }
                _ => {}
            }
        }
        for (mailbox, _) in &sent.refused {
            if taken.contains(&(number, mailbox.as_str())) {
                wrong.push(format!("{number} to {mailbox} was refused at RCPT and delivered"));
            }
        }
    }
    for taken in view.taken {
        let recipients = view.sent.get(&taken.number).map(|sent| &sent.recipients);
        for mailbox in &taken.recipients {
            if !recipients.is_some_and(|recipients| recipients.contains(mailbox)) {
                wrong.push(format!("{} came to {mailbox}, who was no recipient of it", taken.number));
            }
        }
    }
    wrong
}

/// P5: notices go to whom is proven, tell of what was refused, and of each unit once.
fn notices(view: &View<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut told = BTreeMap::<(u32, String), BTreeSet<String>>::new();
    for notice in view.history.notices.borrow().iter() {
        let Some(sent) = number_of(&notice.to).and_then(|number| view.sent.get(&number)) else {
            wrong.push(format!("P5: a notice to {}, who sent nothing", notice.to));
            continue;
        };
        if !sent.proven {
            wrong.push(format!("P5: a notice to {}, who is not proven", notice.to));
        }
        if notice.units.is_empty() {
            wrong.push(format!("a notice to {} about nobody", notice.to));
        }
        for mailbox in &notice.units {
            let unit = (sent.number, mailbox.clone());
            if view.refusals(&unit).is_empty() && !view.is_aged(sent) {
                wrong.push(format!("a notice of {unit:?}, whom nobody refused"));
            }
            told.entry(unit).or_default().insert(notice.id.clone());
        }
    }
    for (unit, ids) in told.iter().filter(|(_, ids)| ids.len() > 1) {
        wrong.push(format!("P5: {} notices of {unit:?}", ids.len()));
    }
    wrong
}

/// What arrives is what was sent, octet by octet, behind what we put in front.
fn content(view: &View<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    for taken in view.taken {
        let Some(sent) = view.sent.get(&taken.number) else { continue };
        let Some(front) = taken.data.strip_suffix(sent.data.as_slice()) else {
            wrong.push(format!("{} arrived with other octets", taken.number));
            continue;
        };
        let front = String::from_utf8_lossy(front);
        let is_field = |line: &str| line.starts_with([' ', '\t']) || line.contains(": ");
        let below = front
            .strip_prefix("Authentication-Results: ")
            .map_or(&*front, |field| field.find("\r\nReceived: ").map_or("", |end| &field[end + 2..]));
        let is_trace = below.starts_with("Received: ") && front.matches("Received: ").count() == 1;
        if !is_trace || !front.ends_with("\r\n") || !front.lines().all(is_field) {
            wrong.push(format!("{} arrived behind {front:?}", taken.number));
        }
    }
    wrong
}

/// P8: the drain begins within a probe interval of the primary's return.
fn recovery(view: &View<'_>) -> Vec<String> {
    let Some(healed) = view.healing.at.get() else { return Vec::new() };
    if view.plan.reading_fails {
        // A record that could not be read has stepped aside for its own sake, and the primary has not seen it.
        return Vec::new();
    }
    let offered = view.history.offered.borrow();
    let mut waiting = BTreeMap::<&str, Vec<Option<Duration>>>::new();
    let put_off = view.history.put_off.borrow();
    let is_aside = |number: u32| put_off.contains(&number) || !view.acted(number).is_empty();
    for sent in view.ours().filter(|sent| sent.told_time < healed && !is_aside(sent.number)) {
        for mailbox in &sent.recipients {
            let first = offered.get(&(sent.number, mailbox.clone())).map(|(_, time)| *time);
            if first.is_none_or(|first| first >= healed) {
                waiting.entry(domain_of(mailbox)).or_default().push(first);
            }
        }
    }
    let mut wrong = Vec::new();
    for (name, firsts) in waiting {
        let Some(domain) = view.plan.domain_of(&format!("x@{name}")) else { continue };
        if view.healing.frozen.borrow().iter().any(|frozen| frozen == name) {
            continue;
        }
        let first = firsts.iter().flatten().min();
        if first.is_none_or(|first| *first > healed + domain.retry_interval + PROBE_SLACK) {
            wrong.push(format!(
                "P8: {name} has {} units, the first went at {first:?}, healed {healed:?}",
                firsts.len()
            ));
        }
    }
    wrong
}

/// What is judged by the disk behind each life.
pub fn of_audit(plan: &Plan, history: &History, audit: &Audit, healing: &Healing) -> Vec<String> {
    let mut wrong = Vec::new();
    let (sent, taken) = (history.sent.borrow(), history.taken.borrow());
    let view = View { plan, history, healing, sent: &sent, taken: &taken };
    let units = view.taken_units();
    let mut noticed = BTreeSet::new();
    for notice in history.notices.borrow().iter() {
        noticed.extend(notice.units.iter().map(|mailbox| (notice.to.clone(), mailbox.clone())));
    }
    for row in &audit.rows {
        let name = row.domain.as_str();
        let count = |of: &dyn Fn(&Sent) -> bool| -> u64 {
            let sent = sent.values().filter(|sent| of(sent));
            sent.flat_map(|sent| &sent.recipients).filter(|mailbox| domain_of(mailbox) == name).count() as u64
        };
        if name == NOTICES_DOMAIN {
            continue;
        }
        let promised = count(&|sent| matches!(sent.told, Told::Ours(_)));
        let unknown = count(&|sent| matches!(sent.told, Told::Nothing | Told::Refused(400..=499)));
        if row.accepted < promised || row.accepted > promised + unknown {
            wrong.push(format!(
                "P2: {name}: {promised} promised, {unknown} unknown, {} accepted",
                row.accepted
            ));
        }
        let here = units.iter().filter(|(_, mailbox)| domain_of(mailbox) == name).count() as u64;
        if row.delivered > here {
            wrong.push(format!("P2: {name}: {} delivered, and primaries have {here}", row.delivered));
        }
        let told = noticed.iter().filter(|(_, mailbox)| domain_of(mailbox) == name).count() as u64;
        // A notice may be on its way until all is well.
        let is_over = healing.is_over.get();
        if is_over && row.bounced != told || row.bounced < told {
            wrong.push(format!("P5: {name}: {} bounced, and {told} were told", row.bounced));
        }
        if row.damaged > 0 {
            wrong.push(format!("P2: {name}: {} damaged, and nothing rotted", row.damaged));
        }
        let aged = count(&|sent| view.is_aged(sent));
        if row.expired > aged {
            wrong.push(format!("H5: {name}: {} expired, and {aged} are old enough", row.expired));
        }
    }
    wrong
}

/// Tasks of a shard without anything to do, and of a lane; files of a directory that was written into once.
const TASKS_MAX: usize = 120;
const FILES_MAX: usize = 60;

/// P7: when nothing is to be done any more nothing has grown.
pub fn bounds(healing: &Healing, disk: &SimDisk, wrong: &mut Vec<String>) {
    if healing.tasks_left.get() > TASKS_MAX {
        wrong.push(format!("P7: {} tasks are left", healing.tasks_left.get()));
    }
    let files = disk.paths().len();
    if files > FILES_MAX {
        wrong.push(format!("P7: {files} files are left"));
    }
}
