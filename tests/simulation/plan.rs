//! What one seed decides of a world before it begins: shards, segments, domains and their configuration.

use crate::history::domain_of;
use core::cell::RefCell;
use core::net::IpAddr;
use core::time::Duration;
use std::rc::Rc;
use std::sync::Arc;
use storage::sim::Random;
use stratamx::bridge::Memory;
use stratamx::config::{
    Config, Domain, Host as Named, OnExpiry, OnReject, Primaries, Primary, PrimaryTls, Protocol, Recipients,
    UnknownDuringOutage, WhenUp,
};

use crate::primary::{Host, Mood};

/// See the module.
pub struct Plan {
    pub seed: u64,
    pub lives: u32,
    pub domains: Rc<Vec<String>>,
    pub config: Config,
    pub hosts: Rc<Vec<Rc<Host>>>,
    pub journal_octets: u64,
    pub large: bool,
    pub latency: Duration,
    pub retention: Duration,
    /// Reads fail now and then.
    pub reading_fails: bool,
    /// What the file of who primaries are has between two lives.
    pub acquaintances: RefCell<Vec<(Arc<str>, Memory)>>,
    /// How long the first lives are, where the story is about time alone: nothing else goes wrong then, and nothing heals in them.
    pub lengths: Vec<Duration>,
    /// Other machines come and go by this, in place of weather.
    pub rescue: Option<Rescue>,
}

/// A primary that is well, then gone, then another, and then itself again, by the world's time (H41).
#[derive(Clone, Copy, Debug)]
pub struct Rescue {
    pub gone_from: Duration,
    pub another_from: Duration,
    pub back_from: Duration,
}

impl Rescue {
    /// How hosts are.
    pub fn mood(&self, time: Duration) -> Mood {
        match () {
            () if time < self.gone_from => Mood::Well,
            () if time < self.another_from => Mood::Refusing,
            () if time < self.back_from => Mood::Another,
            () => Mood::Well,
        }
    }
}

/// Where notices go.
pub const SMARTHOST: [u8; 4] = [192, 0, 2, 250];

fn one_of<T: Copy>(random: &mut Random, choices: &[T]) -> T {
    choices[usize::try_from(random.below(choices.len() as u64)).expect("few")]
}

impl Plan {
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x005E_ED0F_A110_0001);
        let count = 1 + random.below(4);
        let domains: Vec<String> = (0..count).map(|number| format!("d{number}.test")).collect();
        let mut hosts: Vec<Rc<Host>> = (0..=count)
            .map(|number| {
                let octet = 10 + u8::try_from(number).expect("few");
                Rc::new(Host::new([192, 0, 2, octet].into(), &mut random))
            })
            .collect();
        let mut smarthost = Host::new(SMARTHOST.into(), &mut random);
        smarthost.is_smarthost = true;
        hosts.push(Rc::new(smarthost));
        let large = random.one_in(4);
        let mut config = Config::embedded();
        let segment_octets = if large { 1 << 20 } else { 128 << 10 };
        config.storage.segment_size_bytes = segment_octets;
        config.storage.min_free_space_bytes = 1 << 20;
        config.hostname = "mx2.example.net".to_owned();
        config.postmaster = format!("postmaster@{}", domains[0]);
        let example = config.domains.remove(0);
        for (name, host) in domains.iter().zip(0..) {
            config.domains.push(domain(example.clone(), name, host, &mut random));
        }
        Self {
            seed,
            lives: 1 + u32::try_from(random.below(4)).expect("few"),
            domains: Rc::new(domains),
            config,
            hosts: Rc::new(hosts),
            journal_octets: 1 << 20,
            large,
            latency: Duration::from_millis(one_of(&mut random, &[0, 0, 1, 30, 200])),
            retention: Duration::from_secs(30 * 86_400),
            reading_fails: random.one_in(3),
            acquaintances: RefCell::default(),
            lengths: Vec::new(),
            rescue: None,
        }
    }

    /// An outage of 36 days: mail is kept for 30, what is held for three days more.
    pub fn of_days(seed: u64) -> Self {
        let day = Duration::from_secs(86_400);
        let mut plan = Self::new(seed);
        plan.lengths = [15 * day, 14 * day + day / 2, 7 * day].to_vec();
        plan.lives = 3;
        plan.hosts.iter().filter(|host| !host.is_smarthost).for_each(|host| host.mood.set(Mood::Refusing));
        let endings = [OnExpiry::Bounce, OnExpiry::Discard, OnExpiry::Hold];
        for (domain, on_expiry) in plan.config.domains.iter_mut().zip(endings.into_iter().cycle()) {
            domain.retry_interval = Duration::from_secs(3600);
            domain.recipients.recipients = Recipients::Any;
            (domain.retention, domain.held_retention, domain.on_expiry) =
                (plan.retention, 3 * day, on_expiry);
        }
        plan
    }

    /// A rescue system takes what comes for 40 minutes, in which the power fails, or just before; then the primary is back. A last life in which
    /// all heals begins 20 hours later.
    pub fn of_rescue(seed: u64) -> Self {
        let minute = Duration::from_secs(60);
        let mut plan = Self::new(seed);
        (plan.reading_fails, plan.large) = (false, false);
        plan.rescue =
            Some(Rescue { gone_from: 20 * minute, another_from: 35 * minute, back_from: 75 * minute });
        let mut random = Random::new(seed ^ 0x005E_ED0F_A110_0002);
        let first = Duration::from_secs(22 * 60 + random.below(50 * 60));
        plan.lengths = [first, 80 * minute - first, 20 * 60 * minute].to_vec();
        plan.lives = 4;
        plan
    }

    /// Whether the last life heals.
    pub fn heals(&self) -> bool {
        self.lengths.len() < self.lives as usize
    }

    /// The same configuration with a few things changed, or a domain less: what a SIGHUP brings.
    pub fn changed(&self, random: &mut Random) -> Config {
        let mut config = self.config.clone();
        for domain in &mut config.domains {
            domain.when_up = one_of(random, &[WhenUp::Proxy, WhenUp::Relay, WhenUp::Defer]);
            domain.max_connections = 1 + u32::try_from(random.below(6)).expect("few");
        }
        if config.domains.len() > 1 && random.one_in(3) {
            config.domains.remove(1);
        }
        config
    }

    /// Whether a domain's mail goes to this host.
    pub fn is_host_of(&self, address: IpAddr, domain: &str) -> bool {
        let domain = self.config.domains.iter().find(|own| own.name == domain);
        let hosts = domain.into_iter().flat_map(|domain| domain.primaries.hosts());
        hosts.into_iter().any(|host| host.host == Named::Address(address))
    }

    /// The domain of a mailbox.
    pub fn domain_of(&self, mailbox: &str) -> Option<&Domain> {
        self.config.domains.iter().find(|domain| domain.name == domain_of(mailbox))
    }
}

fn domain(mut domain: Domain, name: &str, host: u8, random: &mut Random) -> Domain {
    let address = |octet: u8| Primary {
        host: Named::Address([192, 0, 2, octet].into()),
        port: 25,
        protocol: Protocol::Smtp,
    };
    let mut hosts = vec![address(10 + host)];
    if random.one_in(5) {
        // Another one behind it, which others share.
        hosts.push(address(11 + host));
    }
    domain.name = name.to_owned();
    domain.primaries = Primaries::Hosts(hosts);
    domain.when_up = one_of(random, &[WhenUp::Proxy, WhenUp::Proxy, WhenUp::Relay, WhenUp::Defer]);
    domain.on_reject =
        one_of(random, &[OnReject::Bounce, OnReject::Bounce, OnReject::Hold, OnReject::Discard]);
    domain.on_expiry = one_of(random, &[OnExpiry::Bounce, OnExpiry::Hold, OnExpiry::Discard]);
    domain.retry_interval = Duration::from_secs(one_of(random, &[15, 60, 300]));
    domain.max_connections = 1 + u32::try_from(random.below(6)).expect("few");
    domain.tls = PrimaryTls::None;
    domain.recipients.recipients =
        one_of(random, &[Recipients::Any, Recipients::Any, Recipients::Learn, Recipients::Verify]);
    domain.recipients.unknown_during_outage = one_of(
        random,
        &[UnknownDuringOutage::Accept, UnknownDuringOutage::Accept, UnknownDuringOutage::Defer],
    );
    domain.quota.messages = one_of(random, &[0, 0, 0, 20]);
    domain.smarthost =
        Some(Primary { host: Named::Address(SMARTHOST.into()), port: 25, protocol: Protocol::Smtp });
    domain
}
