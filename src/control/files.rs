//! The thread that looks at files: certificates, lists of recipients, what primaries said about recipients, who primaries are, and MTA-STS
//! policies.
//!
//! A file system that stalls, or a list of a million lines, stops this thread and nobody else: no question about names
//! waits for it, and what is in force stays in force.

use super::acquaintances::Acquaintances;
use super::certificate::Watch;
use super::mta_sts::Policies;
use super::recipients::Keeper;
use crate::limits::{FILES_POLL_INTERVAL, RECIPIENTS_KEPT_INTERVAL};
use async_channel::{Receiver, Sender};
use futures_lite::future::or;
use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

/// See the module; it ends when this is dropped or stopped.
#[derive(Debug)]
pub struct FilesThread {
    stop: Sender<()>,
    handle: JoinHandle<()>,
}

impl FilesThread {
    /// Starts it; each watch has the configuration key that its files stand behind.
    ///
    /// # Errors
    /// The system's, if no thread or timer can be had.
    pub fn start(
        keeper: Arc<Keeper>,
        acquaintances: Acquaintances,
        policies: Arc<Policies>,
        watches: Vec<(&'static str, Arc<Watch>)>,
    ) -> io::Result<Self> {
        let (stop, stopped) = async_channel::bounded(1);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let task = move || runtime.block_on(run(&keeper, &acquaintances, &policies, &watches, &stopped));
        let handle = Builder::new().name("files".to_owned()).spawn(task)?;
        Ok(Self { stop, handle })
    }

    /// Ends it, and waits for that.
    pub fn stop(self) {
        drop(self.stop);
        if self.handle.join().is_err() {
            tracing::error!("the thread that looks at files ended badly");
        }
    }
}

async fn run(
    keeper: &Keeper,
    acquaintances: &Acquaintances,
    policies: &Policies,
    watches: &[(&str, Arc<Watch>)],
    stopped: &Receiver<()>,
) {
    let tick = async || {
        tokio::time::sleep(FILES_POLL_INTERVAL).await;
        true
    };
    let end = async || {
        // Nothing is ever sent.
        let _ = stopped.recv().await;
        false
    };
    let mut ticks = 0;
    while or(tick(), end()).await {
        for (key, watch) in watches {
            match watch.look_again() {
                None => {}
                Some(Ok(())) => tracing::info!(key, "the certificates have changed and were read again"),
                Some(Err(error)) => tracing::error!(key, error, "the certificates in force stay"),
            }
        }
        keeper.look_again();
        policies.keep();
        ticks += 1;
        if FILES_POLL_INTERVAL * ticks >= RECIPIENTS_KEPT_INTERVAL {
            ticks = 0;
            keeper.keep();
            acquaintances.keep();
        }
    }
    keeper.keep();
    acquaintances.keep();
    policies.keep();
}
