//! The node: the product's own code, put together by `stratamx::shard::node` as the server puts it together, on this world's disk,
//! clock and network; and the control plane's end of its channels.

use crate::canary::Bug;
use crate::disk::SlowDisk;
use crate::network::{End, Tasks};
use crate::plan::{Plan, SMARTHOST};
use crate::primary::Outside;
use async_channel::Sender;
use core::net::SocketAddr;
use core::time::Duration;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::sim::{SimClock, SimDisk};
use storage::store::StoreOptions;
use stratamx::bridge::operator::{self, Shards};
use stratamx::bridge::{
    Asked, Authenticated, AuthenticationQuestion, Exchanger, Question, Recipients, Snapshot, Usage,
    lookup_channel,
};
use stratamx::config::Config;
use stratamx::message::authentication::{Spf, Verdict};
use stratamx::shard::link::Spawn;
use stratamx::shard::mesh::{Note, mesh};
use stratamx::shard::node::{self, Common, Node, Ready, Synchronisation};

type SimNode = Node<SlowDisk<SimDisk>, SimClock>;

/// A node that runs.
pub struct Running {
    pub shards: Vec<Rc<SimNode>>,
    pub operator: Shards,
    notes: Vec<Sender<Note>>,
    usage: Arc<Usage>,
    recipients: Recipients,
}

/// Opens the store and starts `count` shards.
pub async fn start(
    disk: SlowDisk<SimDisk>,
    clock: SimClock,
    outside: &Outside,
    plan: &Plan,
    count: u16,
) -> Running {
    let tasks = &outside.tasks;
    let options =
        StoreOptions { shards: count, journal_octets: plan.journal_octets, ..StoreOptions::default() };
    let usage = Arc::<Usage>::default();
    let (opened, notices) =
        node::open(&disk, &clock, &options, &usage).await.expect("a store that crashed opens");
    for (domain, memory) in plan.acquaintances.borrow().iter() {
        usage.domain(domain).acquaintance.restore(memory.clone());
    }
    let (lookup, asked) = lookup_channel();
    answer(asked, outside);
    let recipients = Recipients::default();
    let snapshot = Snapshot::new(plan.config.clone(), Arc::clone(&usage)).with_recipients(&recipients);
    let common = Common {
        snapshot: Arc::new(snapshot),
        keys: Arc::default(),
        lookup,
        journal_octets: plan.journal_octets,
        caps: Arc::default(),
        deferrals: Arc::default(),
    };
    let meshes = mesh(count);
    let notes = meshes[0].senders.clone();
    let (operator, requests) = operator::channels(count);
    let mut ready = Vec::new();
    for parts in node::deal(opened, notices, meshes, &common) {
        let shard = Ready::set_up(parts, disk.clone(), clock.clone(), || Synchronisation::Synchronised);
        ready.push(shard.await.expect("a log opens"));
    }
    let stand = |(shard, requests): (Ready<_, _>, _)| Rc::new(shard.stand(outside, tasks, requests));
    let shards = ready.into_iter().zip(requests).map(stand).collect();
    Running { shards, operator, notes, usage, recipients }
}

impl Running {
    /// A connection of a sender, at one of the shards.
    pub async fn admit(&self, link: End, peer: SocketAddr, tasks: &Tasks) {
        let shard = &self.shards[usize::from(peer.port()) % self.shards.len()];
        shard.admit(link, peer, tasks).await;
    }

    /// Writes down who primaries are, as the thread that keeps files does. Gives whether any of them is a stranger.
    pub fn keep_acquaintances(&self, plan: &Plan) -> bool {
        if let Some(news) = self.usage.acquaintances() {
            plan.acquaintances.replace(news);
        }
        plan.acquaintances.borrow().iter().any(|(_, memory)| !memory.strangers.is_empty())
    }

    /// Whether a stranger took something of which copies may be kept.
    pub fn keeps_copies(&self) -> bool {
        let memory = |name: &Arc<str>| self.usage.domain(name).acquaintance.memory();
        self.usage.names().iter().any(|name| memory(name).copies_until_s > 0)
    }

    /// Another configuration, as SIGHUP brings it.
    pub async fn reload(&self, config: Config) {
        let snapshot = Snapshot::new(config, Arc::clone(&self.usage)).with_recipients(&self.recipients);
        let (taken, all) = async_channel::bounded(1);
        self.tell(&Note::Configuration(Arc::new(snapshot), taken)).await;
        // Nothing is ever sent: the wait ends when the last shard has dropped its note.
        let _ = all.recv().await;
    }

    async fn tell(&self, note: &Note) {
        for shard in &self.notes {
            let _ = shard.send(note.clone()).await;
        }
    }

    /// Ends in order.
    pub async fn shut_down(&self) {
        self.tell(&Note::Shutdown).await;
        for shard in &self.shards {
            shard.serve().await;
        }
    }
}

/// The lookup thread: primaries are addresses here, whoever sends has his mail exchanger where notices go anyway, and who is
/// proven tells his name.
fn answer(asked: Asked, outside: &Outside) {
    // No domain here asks how its primary has to show who it is.
    let Asked { questions, authentications, security: _ } = asked;
    outside.spawner.spawn(async move {
        while let Ok(question) = questions.recv().await {
            match question {
                Question::Addresses { answer, .. } => drop(answer.try_send(Ok(vec![SMARTHOST.into()]))),
                Question::Exchangers { answer, .. } => {
                    let exchanger = Exchanger { preference: 10, host: "mx.example".to_owned() };
                    drop(answer.try_send(Ok(vec![exchanger])));
                }
                Question::NameServers(_) | Question::Records { .. } => {}
            }
        }
    });
    let own = outside.clone();
    outside.spawner.spawn(async move {
        while let Ok(question) = authentications.recv().await {
            // Nobody answers in order, and DNS now and then not at all.
            let pause = Duration::from_millis(own.random.borrow_mut().below(2_000));
            if own.one_in(40) {
                own.history.count("DNS says nothing");
                continue;
            }
            let (clock, lies) = (own.clock.clone(), own.bug == Some(Bug::LyingSpf));
            own.spawner.spawn(async move {
                clock.sleep(pause).await;
                authenticate(question, lies).await;
            });
        }
    });
}

async fn authenticate(question: AuthenticationQuestion, lies: bool) {
    match question {
        AuthenticationQuestion::Sender(question) => {
            let passes = lies || question.reverse_path.ends_with("@proven.example");
            let _ = question.answer.try_send(if passes { Spf::Pass } else { Spf::Fail });
        }
        AuthenticationQuestion::Message(question) => {
            let spf = question.spf.recv().await.ok();
            let spf_proves = spf == Some(Spf::Pass) && !question.reverse_path.is_empty();
            let verdict = Verdict { spf, spf_proves, ..Verdict::default() };
            let _ = question.answer.send(Authenticated { stored: question.stored, verdict }).await;
        }
        AuthenticationQuestion::Seal(question) => drop(question.answer.try_send(None)),
    }
}

impl Running {
    /// Spawned by a task that may not wait.
    pub fn admit_soon(self: &Rc<Self>, link: End, peer: SocketAddr, tasks: &Tasks) {
        let (own, spawn) = (Rc::clone(self), tasks.clone());
        tasks.spawn(async move { own.admit(link, peer, &spawn).await });
    }
}
