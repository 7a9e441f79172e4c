//! `stratamx queue flush`: everything of a domain at once, and with `--watch` how it goes until nothing waits.

use super::super::Exit;
use super::super::client::{Client, age, escaped, print};
use core::time::Duration;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{IsTerminal as _, stdout};

/// Between two looks.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// The pace is that of so many looks.
const PACE_LOOKS: usize = 10;

/// One look: what waits, and what was handed over since the start of the server.
#[derive(Clone, Copy)]
struct Look {
    backlog: u64,
    delivered: u64,
}

/// How a drain goes.
#[derive(Default)]
struct Drain {
    looks: VecDeque<Look>,
    began: Option<u64>,
}

impl Drain {
    /// A line about it; `None` in the end: nothing waits.
    fn line(&mut self, domain: &Value) -> (String, bool) {
        let number = |name: &str| domain[name].as_u64().unwrap_or(0);
        let look = Look { backlog: number("backlog"), delivered: number("delivered") };
        let began = *self.began.get_or_insert(look.delivered);
        self.looks.push_back(look);
        if self.looks.len() > PACE_LOOKS + 1 {
            self.looks.pop_front();
        }
        let done = look.delivered.saturating_sub(began);
        let (first, looks) = (self.looks[0], self.looks.len() as u64 - 1);
        let pace = look.delivered.saturating_sub(first.delivered) / looks.max(1);
        let state = domain["state"].as_str().unwrap_or_default();
        if look.backlog == 0 {
            return (format!("nothing waits: {done} handed over"), true);
        }
        // What is new meanwhile counts: the time is until nothing waits, if it goes on like this.
        let shrinks = first.backlog.saturating_sub(look.backlog) / looks.max(1);
        let left = match look.backlog.checked_div(shrinks) {
            Some(seconds) => format!("{} left", age(seconds.max(1))),
            None => match domain["last_failure"]["reason"].as_str().filter(|_| state != "up") {
                Some(reason) => reason.to_owned(),
                None => "it does not grow less".to_owned(),
            },
        };
        let all = look.backlog + done;
        let percent = done * 100 / all.max(1);
        (format!("{state}: {done} of {all} ({percent} %), {pace} a second, {left}"), false)
    }
}

/// Runs it; what is watched goes on without whoever watches.
pub(super) fn run(client: &Client, domain: &str, watch: bool) -> Result<Exit, String> {
    let path = format!("/api/v1/domains/{}", escaped(domain));
    let mut drain = Drain::default();
    if watch {
        drain.line(&client.get(&path)?);
    }
    let answer = client.post("/api/v1/queue/flush", Some(&json!({ "domain": domain })))?;
    let exit = print(&format!("messages tried now: {}\n", answer["messages"]));
    if !watch || exit != Exit::Done {
        return Ok(exit);
    }
    let is_terminal = stdout().is_terminal();
    loop {
        client.pause(WATCH_INTERVAL);
        let (line, is_over) = drain.line(&client.get(&path)?);
        let exit = match (is_terminal, is_over) {
            (true, false) => print(&format!("\r\x1b[K{line}")),
            (true, true) => print(&format!("\r\x1b[K{line}\n")),
            (false, _) => print(&format!("{line}\n")),
        };
        if is_over || exit != Exit::Done {
            return Ok(exit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(state: &str, backlog: u64, delivered: u64) -> Value {
        json!({
            "state": state, "backlog": backlog, "delivered": delivered,
            "last_failure": {"reason": "connection refused"},
        })
    }

    #[test]
    fn a_drain_tells_its_pace_and_the_time_left() {
        let mut drain = Drain::default();
        assert_eq!(
            drain.line(&row("down", 1_000, 50)).0,
            "down: 0 of 1000 (0 %), 0 a second, connection refused"
        );
        assert_eq!(
            drain.line(&row("recovering", 900, 150)).0,
            "recovering: 100 of 1000 (10 %), 100 a second, 9s left"
        );
        // What arrives meanwhile is a part of it.
        assert_eq!(drain.line(&row("up", 900, 250)).0, "up: 200 of 1100 (18 %), 100 a second, 18s left");
        for _ in 0..PACE_LOOKS {
            drain.line(&row("up", 900, 250));
        }
        assert_eq!(
            drain.line(&row("up", 900, 250)).0,
            "up: 200 of 1100 (18 %), 0 a second, it does not grow less"
        );
        assert_eq!(drain.line(&row("up", 0, 1_150)), ("nothing waits: 1100 handed over".to_owned(), true));
    }
}
