//! The operator: holds, releases, removes and flushes at random, reloads the configuration; and at the end looks after what waits.

use crate::faults::Weather;
use crate::history::{Act, History, Told};
use crate::node::Running;
use crate::plan::Plan;
use crate::primary::Outside;
use core::time::Duration;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::sim::Random;
use stratamx::bridge::operator::{
    Action, Cursor, DomainStatus, Filter, MessageState, Request, Selection, State,
};
use stratamx::config::NOTICES_DOMAIN;

/// See the module.
pub struct Operator {
    pub node: Rc<Running>,
    pub plan: Rc<Plan>,
    pub outside: Outside,
}

const HOUR: Duration = Duration::from_secs(3600);

impl Operator {
    /// Does something now and then, until it is calm.
    pub async fn work(self: Rc<Self>, weather: Weather, mut random: Random) {
        loop {
            self.outside.clock.sleep(Duration::from_secs(5 + random.below(200))).await;
            if weather.is_calm.get() {
                return;
            }
            match random.below(8) {
                0 if !weather.is_ahead.get() => {
                    self.outside.history.count("reload");
                    self.node.reload(self.plan.changed(&mut random)).await;
                }
                1 | 2 => {
                    self.outside.history.count("operator flushes");
                    let domain: Arc<str> = self.plan.domains[0].as_str().into();
                    let _ = self.node.operator.ask(|to| Request::Flush(Arc::clone(&domain), to)).await;
                }
                _ => self.act(&mut random).await,
            }
        }
    }

    /// Something to one message of late.
    async fn act(&self, random: &mut Random) {
        let history = &self.outside.history;
        let recent = {
            let sent = history.sent.borrow();
            let ours = sent.values().rev().filter_map(|sent| match &sent.told {
                Told::Ours(id) => Some((sent.number, id.clone())),
                _ => None,
            });
            ours.take(40).collect::<Vec<_>>()
        };
        if recent.is_empty() {
            return;
        }
        let (number, id) = recent[usize::try_from(random.below(recent.len() as u64)).expect("few")].clone();
        let (act, action) = match random.below(6) {
            0 => (Act::Remove, Action::Delete),
            1 => (Act::Remove, Action::Discard),
            2 | 3 => (Act::Release, Action::Release),
            _ => (Act::Hold, Action::Hold),
        };
        note(history, number, act);
        history.count("operator acts");
        let selection = Selection::Id(id, None);
        let _ = self.node.operator.ask(|to| Request::Act(action, selection.clone(), to)).await;
    }

    /// How all domains are.
    pub async fn statuses(&self) -> Vec<DomainStatus> {
        let names = self.plan.domains.iter().map(|name| Arc::from(name.as_str()));
        let names: Vec<Arc<str>> = names.chain([NOTICES_DOMAIN.into()]).collect();
        let answers = self.node.operator.ask(|to| Request::Domains(names.clone(), to)).await;
        answers.into_iter().flatten().flatten().collect()
    }

    /// Waits until nothing waits for a primary, at most so long. Whether that came.
    pub async fn until_drained(&self, patience: Duration) -> bool {
        let deadline = self.outside.clock.now() + patience;
        while self.outside.clock.now() < deadline {
            if self.statuses().await.iter().all(|status| status.backlog == 0) {
                return true;
            }
            self.outside.clock.sleep(Duration::from_secs(20)).await;
        }
        false
    }

    /// All is well again: what waits in order drains by itself, what stepped aside when it is flushed; what the guard froze and what is
    /// held waits for this operator.
    pub async fn look_after(&self) {
        let history = &self.outside.history;
        for turn in 0..3 {
            if self.until_drained(HOUR).await && turn > 0 {
                return;
            }
            for status in self.statuses().await {
                let domain: Arc<str> = status.name.into();
                if status.state == State::Frozen {
                    history.count("lane thawed by hand");
                    let _ = self.node.operator.ask(|to| Request::Thaw(Arc::clone(&domain), to)).await;
                }
                if turn == 0 {
                    self.release(&domain).await;
                }
                let _ = self.node.operator.ask(|to| Request::Flush(Arc::clone(&domain), to)).await;
            }
        }
        for status in self.statuses().await.iter().filter(|status| status.backlog > 0) {
            let waiting = self.waiting(&status.name).await;
            let (name, state) = (&status.name, status.state);
            history.complain(format!("P2: {} units of {name} wait, {state}: {waiting}", status.backlog));
        }
    }

    /// A few of the messages that wait in a domain.
    async fn waiting(&self, name: &str) -> String {
        let filter = Filter { domain: Some(name.into()), limit: 100, ..Filter::default() };
        let pages = self.node.operator.ask(|to| Request::List(filter.clone(), to)).await.unwrap_or_default();
        let messages = pages.into_iter().flat_map(|page| page.messages);
        let told = messages.filter(|message| message.state != MessageState::Held).take(5).map(|message| {
            let next = (message.next_try_s, message.deferrals);
            format!("{:?} {:?} {next:?} {:?}", message.state, message.reverse_path, message.recipients)
        });
        told.collect::<Vec<_>>().join("; ")
    }

    async fn release(&self, domain: &Arc<str>) {
        let mut after = Cursor::default();
        loop {
            let (domain, state) = (Some(Arc::clone(domain)), Some(MessageState::Held));
            let selection = Selection::All(Filter {
                domain,
                state,
                after: after.clone(),
                limit: 1000,
                ..Filter::default()
            });
            let asked = self.node.operator.ask(|to| Request::Act(Action::Release, selection.clone(), to));
            let Ok(done) = asked.await else {
                return self.outside.history.complain("the operator gets no answer".to_owned());
            };
            match done.into_iter().find_map(|done| done.more) {
                Some(more) => after = more,
                None => return,
            }
        }
    }
}

fn note(history: &History, number: u32, act: Act) {
    history.acted.borrow_mut().entry(number).or_default().insert(act);
}
