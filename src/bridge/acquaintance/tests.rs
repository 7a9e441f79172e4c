use super::*;

const ROUTE: &str = "mail.example.com:25";
const DAY_S: u32 = 86_400;
const HOUR_S: u32 = 3_600;

fn at(wall_s: u32) -> Instants {
    Instants { wall_s, now: Duration::from_secs(wall_s.into()) }
}

fn host(name: &str, software: &str) -> Fingerprint {
    let software = Some(software.to_owned());
    Fingerprint { hello: name.to_owned(), software, ..Fingerprint::default() }
}

fn ours() -> Fingerprint {
    host("mail.example.com", "postfix")
}

fn rescue() -> Fingerprint {
    host("rescue.example.net", "exim")
}

/// Known since one million.
fn known(answer: Option<Answer>) -> Acquaintance {
    let known = Acquaintance::default();
    assert!(known.learn(ROUTE, &ours(), answer, at(1_000_000)));
    known
}

fn meet(known: &Acquaintance, shown: &Fingerprint, is_calm: bool, at_s: u32) -> Meeting {
    known.meet(ROUTE, shown, None, is_calm, at(at_s))
}

fn is_stranger(meeting: &Meeting) -> bool {
    matches!(meeting, Meeting::Stranger(_))
}

#[test]
fn where_nobody_is_known_nobody_is_a_stranger() {
    let nobody = Acquaintance::default();
    assert_eq!(meet(&nobody, &rescue(), false, 9), Meeting::Known);
    assert!(!nobody.is_strange() && !nobody.keeps_copies(9) && nobody.change().is_none());
}

#[test]
fn h41_a_stranger_is_told_once_and_copies_are_kept_while_he_is_one() {
    let known = known(None);
    let Meeting::Stranger(Some(change)) = meet(&known, &rescue(), false, 1_000_100) else {
        panic!("he is another")
    };
    assert_eq!((change.since_s, known.change()), (1_000_100, Some(change.clone())));
    assert_eq!(change.what, "name mail.example.com -> rescue.example.net, software postfix -> exim");
    assert_eq!(meet(&known, &rescue(), true, 1_000_200), Meeting::Stranger(None));
    assert!(known.takes_care(&rescue()) && !known.takes_care(&rescue()));
    assert!(known.is_strange() && !known.learn(ROUTE, &rescue(), None, at(1_000_300)), "he has to wait");
    let Meeting::Back(back) = meet(&known, &ours(), false, 1_000_400) else { panic!("that is news") };
    assert_eq!((back.since_s, back.last_s), (1_000_100, 1_000_200));
    assert_eq!(meet(&known, &ours(), false, 1_000_500), Meeting::Known, "once");
    assert!(!known.is_strange() && known.keeps_copies(1_000_500), "he took some, and may be there again");
    meet(&known, &ours(), true, 1_000_200 + DAY_S);
    assert!(!known.keeps_copies(1_000_200 + DAY_S) && known.change().is_none());
}

#[test]
fn he_is_known_after_a_day_in_state_up_by_both_clocks_and_what_was_before_is_not() {
    let known = known(None);
    meet(&known, &rescue(), false, 1_000_100);
    // An outage of his own: the day begins again.
    meet(&known, &rescue(), false, 1_000_100 + HOUR_S);
    assert!(!known.learn(ROUTE, &rescue(), None, at(1_000_100 + DAY_S)));
    let jumped = Instants { wall_s: 1_000_100 + 9 * DAY_S, now: Duration::from_secs(1_010_000) };
    assert!(!known.learn(ROUTE, &rescue(), None, jumped), "a clock that jumped");
    let then = at(1_000_100 + HOUR_S + DAY_S);
    assert!(known.learn(ROUTE, &rescue(), None, then));
    assert!(!known.is_strange() && !known.keeps_copies(then.wall_s));
    assert!(is_stranger(&meet(&known, &ours(), false, then.wall_s + 9)), "it is another than of late");
}

#[test]
fn he_is_proven_by_refusing_nobody_as_before_and_copies_are_kept_all_the_same() {
    for (before, answer, is_proven) in [
        (Some(Answer::Refuses), Some(Answer::Refuses), true),
        (Some(Answer::Refuses), None, false),
        (Some(Answer::Accepts), Some(Answer::Accepts), false),
        (None, Some(Answer::Refuses), false),
    ] {
        let known = known(before);
        meet(&known, &rescue(), false, 1_000_100);
        answer.into_iter().for_each(|answer| known.note_answer(&rescue(), answer));
        assert_eq!(known.may_be_proven(&rescue()), is_proven, "{before:?} {answer:?}");
        assert!(!known.may_be_proven(&rescue()), "once");
        assert_eq!(known.prove(&rescue(), at(1_000_200)), is_proven);
        assert_eq!(known.is_strange(), !is_proven);
        assert!(known.keeps_copies(1_000_099 + DAY_S));
        assert_eq!(known.keeps_copies(1_000_100 + DAY_S), !is_proven);
        assert!(!is_stranger(&meet(&known, &ours(), false, 1_000_300)), "both are known");
    }
}

#[test]
fn a_known_host_that_takes_nobody_is_a_stranger_until_it_refuses_him_again() {
    let known = known(Some(Answer::Refuses));
    let meet = |answer, at_s| known.meet(ROUTE, &ours(), answer, false, at(at_s));
    assert_eq!(meet(None, 1_000_100), Meeting::Known);
    assert!(is_stranger(&meet(Some(Answer::Accepts), 1_000_200)));
    assert!(is_stranger(&meet(None, 1_000_300)), "his name alone does not clear him");
    assert_eq!(meet(Some(Answer::Refuses), 1_000_400), Meeting::Known);
    assert!(known.change().is_none() && known.keeps_copies(1_000_400));
}

#[test]
fn a_farm_is_learned_while_it_is_up_and_a_quiet_hour_makes_nobody_sure() {
    let known = known(None);
    for number in 1..=2 * u32::try_from(FINGERPRINTS_A_DOMAIN_MAX).expect("few") {
        let other = host(&format!("node{number}.example.org"), "exim");
        let now_s = 1_000_000 + number * (HOUR_S - 1);
        assert_eq!(meet(&known, &other, true, now_s), Meeting::Known);
        assert!(known.learn(ROUTE, &other, None, at(now_s)));
    }
    assert_eq!(known.memory().known.len(), FINGERPRINTS_A_DOMAIN_MAX, "the oldest are forgotten");
    let last_s = known.memory().known.iter().map(|known| known.last_s).max().expect("some");
    let new = host("new.example.org", "sendmail");
    assert!(is_stranger(&meet(&known, &new, true, last_s + HOUR_S)), "an outage without mail is not seen");
    for number in 0..9 {
        meet(&known, &host(&format!("h{number}.example.net"), "mox"), false, last_s + HOUR_S + number);
    }
    assert_eq!(known.memory().strangers.len(), STRANGERS_A_DOMAIN_MAX);
}

#[test]
fn other_primaries_are_no_strangers_and_an_operator_may_vouch() {
    let known = known(None);
    meet(&known, &rescue(), false, 1_000_100);
    assert_eq!((known.vouch(at(1_000_200)), known.vouch(at(1_000_200))), (1, 0));
    assert!(!known.is_strange() && !known.keeps_copies(1_000_200));
    assert_eq!(meet(&known, &rescue(), false, 1_000_300), Meeting::Known);
    assert_eq!(known.meet("elsewhere.test:25", &ours(), None, false, at(1_000_400)), Meeting::Known);
    assert!(known.memory().known.is_empty());
}

#[test]
fn a_restart_between_learning_and_comparing_compares_and_one_with_a_stranger_keeps_on() {
    let before = known(Some(Answer::Refuses));
    let memory = before.memory();
    assert!(before.take_news() && !before.take_news());
    let again = Acquaintance::default();
    again.restore(memory);
    let now = Instants { wall_s: 1_000_100, now: Duration::from_secs(1) };
    assert!(!again.is_fresh(now.now));
    assert!(is_stranger(&again.meet(ROUTE, &rescue(), None, true, now)), "in any state");
    let once_more = Acquaintance::default();
    once_more.restore(again.memory());
    assert!(once_more.is_strange() && once_more.keeps_copies(1_000_200) && once_more.takes_care(&rescue()));
    assert_eq!(once_more.meet(ROUTE, &rescue(), None, true, now), Meeting::Stranger(None), "it was told");
}

#[test]
fn nobody_is_asked_for_once_a_day_and_behind_an_outage_where_that_says_something() {
    let now = Duration::from_secs;
    for (answer, is_wanted) in [(None, false), (Some(Answer::Accepts), false), (Some(Answer::Refuses), true)]
    {
        assert_eq!(known(answer).may_compare(false, now(1)), is_wanted, "{answer:?}");
    }
    let known = known(Some(Answer::Refuses));
    assert!(known.may_ask(now(1)) && !known.may_ask(now(86_400)));
    assert!(!known.may_compare(true, now(301)), "no outage was seen");
    assert!(known.may_compare(false, now(301)) && !known.may_compare(false, now(600)), "an outage was");
    assert!(!known.may_be_asked(&rescue(), now(600)), "he was not met");
    meet(&known, &rescue(), false, 600);
    assert!(known.may_be_asked(&rescue(), now(600)) && !known.may_be_asked(&rescue(), now(600)));
    known.mute(now(600));
    assert!(!known.may_compare(false, now(86_999)) && known.may_compare(false, now(87_000)));
}
