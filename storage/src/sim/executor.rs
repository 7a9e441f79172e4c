//! A single-threaded executor whose order of tasks comes from a seed. Dropping it drops every task where it
//! stands: that is the crash of a process.

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
}

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
}

impl Spawner {
    /// Adds a task.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        self.0.borrow_mut().push(Task::new(future));
    }
}

impl Executor {
    /// An executor for one life of a process.
    #[must_use]
    pub fn new(seed: u64, clock: SimClock) -> Self {
        Self { tasks: Vec::new(), spawned: Rc::default(), random: Random::new(seed), clock }
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
        let chosen = ready[usize::try_from(self.random.below(ready.len() as u64)).expect("an index")];
        let task = &mut self.tasks[chosen];
        task.flag.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&task.flag));
        if task.future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            drop(self.tasks.swap_remove(chosen));
        }
        true
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
