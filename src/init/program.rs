//! One program that is to run: started, ended, started again after a while that grows.

use super::console::say;
use super::output;
use super::syslog::Source;
use crate::limits::{RESTART_DELAY_MAX, RESTART_DELAY_MIN, RESTART_FORGIVEN_AFTER, STOP_PATIENCE};
use core::time::Duration;
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

/// See the module.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) name: &'static str,
    /// The file first.
    pub(super) arguments: Vec<String>,
    /// User and group, if not root.
    pub(super) run_as: Option<u32>,
    pub(super) directory: PathBuf,
    /// Variables of its environment, beside those that all have.
    pub(super) environment: Vec<(&'static str, String)>,
    /// As whose its output goes to the log's host, if it does.
    pub(super) source: Option<Source>,
    state: State,
    delay: Duration,
}

#[derive(Debug)]
enum State {
    Running {
        pid: Pid,
        since: Instant,
    },
    Waiting {
        until: Instant,
    },
    /// It was told to end, and is started again as soon as it has; it is killed then.
    Restarting {
        pid: Pid,
        until: Instant,
    },
    /// It was told to end, and is not started again.
    Ending {
        pid: Pid,
    },
    Ended,
}

impl Program {
    /// A program that is due at once.
    pub(super) fn new(
        name: &'static str,
        arguments: Vec<String>,
        run_as: Option<u32>,
        directory: PathBuf,
    ) -> Self {
        let state = State::Waiting { until: Instant::now() };
        Self {
            name,
            arguments,
            run_as,
            directory,
            environment: Vec::new(),
            source: None,
            state,
            delay: RESTART_DELAY_MIN,
        }
    }

    /// When it is to be started; none while it runs, or when it was ended.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { until } => Some(until),
            State::Running { .. } | State::Restarting { .. } | State::Ending { .. } | State::Ended => None,
        }
    }

    /// Starts it.
    pub(super) fn start(&mut self) {
        let Some((file, arguments)) = self.arguments.split_first() else { return };
        let mut command = Command::new(file);
        command.args(arguments).current_dir(&self.directory).stdin(Stdio::null()).env_clear();
        command.env("PATH", "/bin:/sbin").env("HOME", "/");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(id) = self.run_as {
            // The standard library gives up supplementary groups with it.
            command.uid(id).gid(id);
        }
        // Without a pipe it says what it has to say on the console.
        if let Some(source) = self.source
            && let Ok((one, other)) = output::follow(source).and_then(|pipe| Ok((pipe.try_clone()?, pipe)))
        {
            command.stdout(one).stderr(other);
        }
        match command.spawn() {
            Ok(child) => self.state = State::Running { pid: Pid::from_child(&child), since: Instant::now() },
            Err(error) => self.put_off(&format!("cannot be started: {error}")),
        }
    }

    /// What cannot be started now is tried again.
    pub(super) fn put_off(&mut self, why: &str) {
        say(&format!("{} {why}; again in {} s", self.name, self.delay.as_secs()));
        self.state = State::Waiting { until: Instant::now() + self.delay };
        self.delay = (self.delay * 2).min(RESTART_DELAY_MAX);
    }

    /// Whether this was the process that ended; then it is started again after a while.
    pub(super) fn has_ended(&mut self, ended: Pid, how: &str) -> bool {
        let (pid, since) = match self.state {
            State::Running { pid, since } => (pid, since),
            State::Ending { pid } if pid == ended => {
                self.state = State::Ended;
                return true;
            }
            State::Restarting { pid, .. } if pid == ended => {
                self.delay = RESTART_DELAY_MIN;
                self.state = State::Waiting { until: Instant::now() };
                return true;
            }
            _ => return false,
        };
        if pid != ended {
            return false;
        }
        let ran = since.elapsed();
        if ran >= RESTART_FORGIVEN_AFTER {
            self.delay = RESTART_DELAY_MIN;
        }
        self.put_off(&format!("ended after {} s, {how}", ran.as_secs()));
        true
    }

    /// Sends a signal, if it runs.
    pub(super) fn signal(&self, signal: Signal) {
        if let State::Running { pid, .. } | State::Restarting { pid, .. } | State::Ending { pid } = self.state
        {
            let _ = kill_process(pid, signal);
        }
    }

    /// Ends it for good: asks it to.
    pub(super) fn end(&mut self) {
        self.signal(Signal::TERM);
        self.state = match self.state {
            State::Running { pid, .. } | State::Restarting { pid, .. } | State::Ending { pid } => {
                State::Ending { pid }
            }
            State::Waiting { .. } | State::Ended => State::Ended,
        };
    }

    /// Whether it runs.
    pub(super) fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. } | State::Restarting { .. } | State::Ending { .. })
    }

    /// Ends it, and has it started again at once; one that waits to be started waits no more.
    pub(super) fn restart(&mut self) {
        self.signal(Signal::TERM);
        match self.state {
            State::Running { pid, .. } => {
                self.state = State::Restarting { pid, until: Instant::now() + STOP_PATIENCE };
            }
            State::Waiting { .. } => self.state = State::Waiting { until: Instant::now() },
            State::Restarting { .. } | State::Ending { .. } | State::Ended => {}
        }
    }

    /// One that takes too long to end is killed.
    pub(super) fn hurry(&self) {
        if let State::Restarting { until, .. } = self.state
            && until <= Instant::now()
        {
            self.signal(Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound() {
        let mut program = Program::new("none", vec!["/no/such/program".to_owned()], None, PathBuf::from("/"));
        let mut delay = program.delay;
        for _ in 0..20 {
            program.start();
            assert!(!program.is_running() && program.due().is_some());
            assert!(program.delay == delay * 2 || program.delay == RESTART_DELAY_MAX);
            delay = program.delay;
        }
        assert_eq!(delay, RESTART_DELAY_MAX);
    }

    #[test]
    fn only_its_own_end_is_its_end() {
        let mut program = Program::new("true", vec!["/bin/true".to_owned()], None, PathBuf::from("/"));
        assert!(program.due().is_some() && !program.is_running());
        program.start();
        assert!(program.is_running() && program.due().is_none());
        assert!(!program.has_ended(Pid::INIT, "exit status 0"));
        let State::Running { pid, .. } = program.state else { unreachable!() };
        assert!(program.has_ended(pid, "exit status 0"));
        assert!(program.due().is_some_and(|due| due > Instant::now()));
        program.restart();
        assert!(program.due().is_some_and(|due| due <= Instant::now()), "it waits no more");
        program.start();
        program.restart();
        let State::Restarting { pid, .. } = program.state else { unreachable!() };
        program.hurry();
        assert!(program.is_running() && program.due().is_none() && program.has_ended(pid, "signal 15"));
        assert!(program.due().is_some_and(|due| due <= Instant::now()), "it is started again at once");
        program.start();
        program.end();
        let State::Ending { pid } = program.state else { unreachable!() };
        assert!(program.is_running() && program.has_ended(pid, "signal 15"));
        assert!(
            !program.is_running() && program.due().is_none(),
            "what was told to end is not started again"
        );
        program.arguments = vec!["/no/such/program".to_owned()];
        program.start();
        assert!(!program.is_running(), "what cannot be started is tried again");
    }
}
