//! A single-threaded executor whose order of tasks comes from a seed. Dropping it drops every task where it
//! stands: that is the crash of a process.
//!
//! As with the real one a task runs at once where it is spawned, up to its first wait: whoever holds a borrow over
//! `spawn` is found here, too.

use super::clock::SimClock;
use super::random::Random;
use core::cell::RefCell;
use core::future::Future;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Wake;

/// See the module.
pub struct Executor {
    tasks: Vec<Task>,
    spawned: Rc<RefCell<Vec<Task>>>,
    random: Random,
    clock: SimClock,
    /// One task in so many turns begins to starve.
    unfair_one_in: Option<u64>,
    /// The task that gets no turn while another can have it, and for how many turns still.
    starving: Option<(Arc<Flag>, u64)>,
}

/// Turns for which a task starves at most: a disk that hangs, a core that is stolen.
const STARVING_TURNS_MAX: u64 = 400;

/// Spawns tasks from within tasks.
#[derive(Clone)]
pub struct Spawner(Rc<RefCell<Vec<Task>>>);

struct Task {
    future: Pin<Box<dyn Future<Output = ()>>>,
    flag: Arc<Flag>,
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Task {
    fn new(future: impl Future<Output = ()> + 'static) -> Self {
        Self { future: Box::pin(future), flag: Arc::new(Flag(AtomicBool::new(true))) }
    }

    /// A turn.
    fn poll(&mut self) -> Poll<()> {
        self.flag.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&self.flag));
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }
}

impl Spawner {
    /// Adds a task, and gives it its first turn.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        let mut task = Task::new(future);
        if task.poll().is_pending() {
            self.0.borrow_mut().push(task);
        }
    }
}

impl Executor {
    /// An executor for one life of a process.
    #[must_use]
    pub fn new(seed: u64, clock: SimClock) -> Self {
        let (tasks, spawned, random) = (Vec::new(), Rc::default(), Random::new(seed));
        Self { tasks, spawned, random, clock, unfair_one_in: None, starving: None }
    }

    /// The same, but now and then, once in about `one_in` turns, a task gets none for a while though it could run: races
    /// whose window is a few polls wide become likely.
    #[must_use]
    pub fn unfair(seed: u64, clock: SimClock, one_in: u64) -> Self {
        Self { unfair_one_in: Some(one_in), ..Self::new(seed, clock) }
    }

    /// For spawning.
    #[must_use]
    pub fn spawner(&self) -> Spawner {
        Spawner(Rc::clone(&self.spawned))
    }

    /// Polls one task that was woken, chosen by the seed; moves the clock if there is none. Returns `false`
    /// if nothing can ever run again.
    pub fn step(&mut self) -> bool {
        self.tasks.append(&mut self.spawned.borrow_mut());
        let ready: Vec<usize> =
            (0..self.tasks.len()).filter(|i| self.tasks[*i].flag.0.load(Ordering::Relaxed)).collect();
        if ready.is_empty() {
            return self.clock.advance();
        }
        let chosen = self.choose(&ready);
        if self.tasks[chosen].poll().is_ready() {
            drop(self.tasks.swap_remove(chosen));
        }
        true
    }

    fn choose(&mut self, ready: &[usize]) -> usize {
        let mut pick =
            |from: &[usize]| from[usize::try_from(self.random.below(from.len() as u64)).expect("an index")];
        let Some(one_in) = self.unfair_one_in else { return pick(ready) };
        let starving = self.starving.take().filter(|(_, turns)| *turns > 0);
        let Some((flag, turns)) = starving else {
            let chosen = pick(ready);
            if self.random.below(one_in) == 0 {
                let turns = self.random.below(STARVING_TURNS_MAX);
                self.starving = Some((Arc::clone(&self.tasks[chosen].flag), turns));
            }
            return chosen;
        };
        let others: Vec<usize> =
            ready.iter().copied().filter(|task| !Arc::ptr_eq(&self.tasks[*task].flag, &flag)).collect();
        let chosen = pick(if others.is_empty() { ready } else { &others });
        self.starving = Some((flag, turns - 1));
        chosen
    }

    /// Runs until `future` is done, or `steps` polls were made: then `None`, which is a crash if the executor
    /// is dropped.
    pub fn run<T: 'static>(&mut self, steps: u64, future: impl Future<Output = T> + 'static) -> Option<T> {
        let result = Rc::new(RefCell::new(None));
        let sink = Rc::clone(&result);
        self.spawner().spawn(async move {
            let value = future.await;
            *sink.borrow_mut() = Some(value);
        });
        for _ in 0..steps {
            if let Some(value) = result.borrow_mut().take() {
                return Some(value);
            }
            if !self.step() {
                break;
            }
        }
        result.borrow_mut().take()
    }
}

/// Gives way once, so that another task may run.
pub async fn yield_now() {
    let mut yielded = false;
    core::future::poll_fn(move |context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
