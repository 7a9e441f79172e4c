//! Primaries that have to show who they are: by MTA-STS and by DANE. What is not shown is a failure of now; the mail waits, and
//! goes when it is.

use super::SimSpawn;
use super::many::{plan, play, send_to_all};
use super::primary::Tls;
use crate::bridge::authority::{Authority, Shown};
use crate::bridge::operator::State;
use crate::bridge::{
    Asked, Certificates, ClientTls, Exchanger, LookupError, Question, SecureExchangers, SecurityQuestion,
    Tlsa, TlsaRecord, Transport, lookup_channel,
};
use crate::config::{Host, Primaries, Primary as Address, PrimaryTls, Protocol};
use crate::message::mta_sts::{Mode, Policy};
use crate::shard::link::Spawn;
use core::cell::RefCell;
use core::net::IpAddr;
use core::time::Duration;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;

const MINUTE: Duration = Duration::from_secs(60);
const HOST: &str = "mail.0.test";

/// What is published, as it is just now.
#[derive(Clone)]
struct Published {
    policy: Option<Policy>,
    tlsa: Result<Option<Tlsa>, LookupError>,
    is_secure: bool,
}

fn policy(mode: Mode, mx: &str) -> Option<Policy> {
    Some(Policy { mode, max_age_s: 86_400, mx: vec![mx.to_owned()] })
}

fn tlsa(record: TlsaRecord) -> Result<Option<Tlsa>, LookupError> {
    Ok(Some(Tlsa { base: HOST.to_owned(), records: vec![record] }))
}

/// Answers for the lookup thread.
fn answer(asked: Asked, spawn: &SimSpawn, published: &Rc<RefCell<Published>>) {
    spawn.spawn(async move {
        while let Ok(question) = asked.questions.recv().await {
            match question {
                Question::Exchangers { answer, .. } => {
                    let _ = answer.try_send(Ok(exchangers()));
                }
                Question::Addresses { answer, .. } => {
                    let _ = answer.try_send(Ok(vec![IpAddr::from([192, 0, 2, 1])]));
                }
                Question::NameServers(_) | Question::Records { .. } => unreachable!("nobody asks"),
            }
        }
    });
    let published = Rc::clone(published);
    spawn.spawn(async move {
        while let Ok(question) = asked.security.recv().await {
            let Published { policy, tlsa, is_secure } = published.borrow().clone();
            match question {
                SecurityQuestion::Exchangers { answer, .. } => {
                    let _ = answer.try_send(Ok(SecureExchangers { exchangers: exchangers(), is_secure }));
                }
                SecurityQuestion::Policy { answer, .. } => {
                    let _ = answer.try_send(Ok(policy.map(Arc::new)));
                }
                SecurityQuestion::Tlsa { host, port, answer } => {
                    assert_eq!((host.as_str(), port), (HOST, 25));
                    let _ = answer.try_send(tlsa);
                }
                SecurityQuestion::Trust(_) => unreachable!("nobody changes it"),
            }
        }
    });
}

fn exchangers() -> Vec<Exchanger> {
    vec![Exchanger { preference: 10, host: HOST.to_owned() }]
}

/// What a primary shows, and offers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shows {
    Nothing,
    Right,
    WrongName,
    SelfSigned,
}

struct Story {
    tls: PrimaryTls,
    by_mx: bool,
    published: Published,
    shows: Shows,
    /// Through what it goes at once; else what the operator reads while it waits.
    expected: Result<Transport, &'static str>,
    /// Through what it goes in the end, when the primary shows the right certificate.
    in_the_end: Transport,
}

fn tell(story: Story, authority: &Authority, right: &Rc<Shown>) {
    let Story { tls, by_mx, published, shows, expected, in_the_end } = story;
    let (lookup, asked) = lookup_channel();
    let mut plan = plan(1, MINUTE, |_| IpAddr::from([192, 0, 2, 1]));
    plan.lookup = lookup;
    plan.client_tls = Some(ClientTls::new(Certificates::new(Vec::new()), authority.roots()));
    let domain = &mut plan.config.domains[0];
    domain.tls = tls;
    domain.primaries = match by_mx {
        true => Primaries::Exchangers,
        false => Primaries::Hosts(vec![Address {
            host: Host::Name(HOST.to_owned()),
            port: 25,
            protocol: Protocol::Smtp,
        }]),
    };
    let (right, wrong) = (Rc::clone(right), authority.issue("other.0.test"));
    play(plan, async move |shard, primary, clock, spawn| {
        answer(asked, &spawn, &Rc::new(RefCell::new(published)));
        primary.up.set(true);
        let show = |shows| {
            primary.tls.set(if shows == Shows::Nothing { Tls::Not } else { Tls::Offered });
            *primary.shows.borrow_mut() = match shows {
                Shows::Right => Some(right.server()),
                Shows::WrongName => Some(wrong.server()),
                Shows::Nothing | Shows::SelfSigned => None,
            };
        };
        show(shows);
        send_to_all(&shard, &spawn, 1).await;
        clock.sleep(5 * MINUTE).await;
        let lane = shard.lanes.of("0.test").expect("it has mail");
        let taken = || Transport::ALL.map(|through| lane.usage.taken(through));
        let once = |transport| Transport::ALL.map(|through| u64::from(through == transport));
        match expected {
            Ok(transport) => assert_eq!((taken(), primary.taken.borrow().len()), (once(transport), 1)),
            Err(reason) => {
                assert_eq!((taken(), primary.taken.borrow().len()), ([0; 4], 0), "it waits: {reason}");
                assert_eq!(shard.counters.held.value() + shard.counters.bounced.value(), 0, "it waits");
                assert_ne!(lane.health.get().state(), State::Up, "a host that gets no mail is not up");
                let failure = lane.failure.borrow().clone().expect("the operator reads why").reason;
                assert!(failure.contains(reason) && failure.starts_with(HOST), "{failure}");
                assert_eq!(lane.complaints.borrow().len(), 1, "once for all tries");
                show(Shows::Right);
                clock.sleep(2 * MINUTE).await;
                assert_eq!((taken(), primary.taken.borrow().len()), (once(in_the_end), 1), "nothing is lost");
                assert!(lane.complaints.borrow().is_empty(), "it would be told again");
            }
        }
    });
}

#[test]
fn a_policy_that_is_enforced_keeps_mail_from_whoever_does_not_keep_to_it() {
    let authority = Authority::new();
    let right = Rc::new(authority.issue(HOST));
    let mta_sts = Transport::VerifiedMtaSts;
    for by_mx in [false, true] {
        for (mode, shows, expected) in [
            (Mode::Enforce, Shows::Right, Ok(mta_sts)),
            (Mode::Enforce, Shows::WrongName, Err("certificate not valid for name")),
            (Mode::Enforce, Shows::SelfSigned, Err("invalid peer certificate")),
            (Mode::Enforce, Shows::Nothing, Err("TLS is required, and not offered")),
            (Mode::Testing, Shows::WrongName, Ok(Transport::Encrypted)),
            (Mode::Testing, Shows::Nothing, Ok(Transport::Plain)),
            (Mode::None, Shows::SelfSigned, Ok(Transport::Encrypted)),
        ] {
            let published = Published { policy: policy(mode, "*.0.test"), tlsa: Ok(None), is_secure: false };
            let tls = PrimaryTls::MtaSts;
            tell(Story { tls, by_mx, published, shows, expected, in_the_end: mta_sts }, &authority, &right);
        }
    }
}

#[test]
fn a_host_that_the_policy_does_not_name_gets_no_mail_by_mx_records() {
    let (authority, unnamed) = (Authority::new(), policy(Mode::Enforce, "*.other.test"));
    let (lookup, asked) = lookup_channel();
    let mut plan = plan(1, MINUTE, |_| IpAddr::from([192, 0, 2, 1]));
    plan.lookup = lookup;
    plan.client_tls = Some(ClientTls::new(Certificates::new(Vec::new()), authority.roots()));
    plan.config.domains[0].tls = PrimaryTls::MtaSts;
    plan.config.domains[0].primaries = Primaries::Exchangers;
    let shown = authority.issue(HOST);
    play(plan, async move |shard, primary, clock, spawn| {
        let published = Published { policy: unnamed, tlsa: Ok(None), is_secure: false };
        let published = Rc::new(RefCell::new(published));
        answer(asked, &spawn, &published);
        primary.up.set(true);
        primary.tls.set(Tls::Offered);
        *primary.shows.borrow_mut() = Some(shown.server());
        send_to_all(&shard, &spawn, 1).await;
        clock.sleep(5 * MINUTE).await;
        assert_eq!(primary.dialed.get(), 0, "it is not even asked");
        // The domain mends its policy.
        published.borrow_mut().policy = policy(Mode::Enforce, HOST);
        clock.sleep(2 * MINUTE).await;
        assert_eq!(primary.taken.borrow().len(), 1);
    });
}

#[test]
fn what_a_host_publishes_is_what_it_has_to_show() {
    let authority = Authority::new();
    let right = Rc::new(authority.issue(HOST));
    let own = || tlsa(right.tlsa(0, 3, 1, 1));
    let (dane, described) = (Transport::VerifiedDane, "no TLSA record of the host describes its certificate");
    for (tlsa, enforced, is_secure, shows, expected) in [
        (own(), false, true, Shows::Right, Ok(dane)),
        (tlsa(right.tlsa(1, 2, 0, 1)), false, true, Shows::Right, Ok(dane)),
        (tlsa(right.tlsa(1, 2, 0, 1)), false, true, Shows::WrongName, Err("NotValidForName")),
        (own(), false, true, Shows::WrongName, Err(described)),
        (own(), false, true, Shows::SelfSigned, Err(described)),
        (own(), false, true, Shows::Nothing, Err("TLS is required, and not offered")),
        // DANE wins, either way (RFC 8461 2).
        (own(), true, true, Shows::WrongName, Err(described)),
        (Ok(None), true, true, Shows::SelfSigned, Err("invalid peer certificate")),
        (tlsa(right.tlsa(0, 1, 1, 1)), false, true, Shows::SelfSigned, Ok(Transport::Encrypted)),
        (tlsa(right.tlsa(0, 1, 1, 1)), false, true, Shows::Nothing, Err("has to speak TLS")),
        (Ok(None), false, true, Shows::Nothing, Ok(Transport::Plain)),
        // What an unsigned MX record names is not asked about (RFC 7672 2.2).
        (own(), false, false, Shows::SelfSigned, Ok(Transport::Encrypted)),
    ] {
        let in_the_end = match &tlsa {
            Ok(None) => Transport::VerifiedMtaSts,
            Ok(Some(tlsa)) if tlsa.records[0].usage == 1 => Transport::Encrypted,
            _ => dane,
        };
        let policy = policy(Mode::Enforce, HOST).filter(|_| enforced);
        let published = Published { policy, tlsa, is_secure };
        let story = Story { tls: PrimaryTls::Dane, by_mx: true, published, shows, expected, in_the_end };
        tell(story, &authority, &right);
    }
}

/// RFC 7672 2.1.1: whatever the host shows.
#[test]
fn an_answer_about_tlsa_that_fails_is_no_none() {
    let authority = Authority::new();
    let right = authority.issue(HOST);
    let (lookup, asked) = lookup_channel();
    let mut plan = plan(1, MINUTE, |_| IpAddr::from([192, 0, 2, 1]));
    plan.lookup = lookup;
    plan.client_tls = Some(ClientTls::new(Certificates::new(Vec::new()), authority.roots()));
    plan.config.domains[0].tls = PrimaryTls::Dane;
    plan.config.domains[0].primaries = Primaries::Exchangers;
    play(plan, async move |shard, primary, clock, spawn| {
        let tlsa_fails = Err(LookupError::Temporary("SERVFAIL".to_owned()));
        let published = Rc::new(RefCell::new(Published { policy: None, tlsa: tlsa_fails, is_secure: true }));
        answer(asked, &spawn, &published);
        primary.up.set(true);
        primary.tls.set(Tls::Offered);
        *primary.shows.borrow_mut() = Some(right.server());
        send_to_all(&shard, &spawn, 1).await;
        clock.sleep(5 * MINUTE).await;
        assert_eq!(primary.dialed.get(), 0);
        published.borrow_mut().tlsa = tlsa(right.tlsa(0, 3, 1, 1));
        clock.sleep(2 * MINUTE).await;
        let lane = shard.lanes.of("0.test").expect("it has mail");
        assert_eq!(lane.usage.taken(Transport::VerifiedDane), 1);
    });
}
