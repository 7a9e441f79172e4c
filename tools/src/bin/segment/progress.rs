//! A bar on standard error while something long goes on; on a terminal only.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Gone from the terminal when it is dropped.
pub(crate) struct Progress {
    bar: ProgressBar,
    kind: &'static str,
}

impl Progress {
    /// Counts octets.
    pub(crate) fn octets(what: &'static str) -> Self {
        Self::new(what, "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left")
    }

    /// Counts messages.
    pub(crate) fn messages(what: &'static str) -> Self {
        Self::new(what, "{msg} {wide_bar} {human_pos}/{human_len} messages, {eta} left")
    }

    fn new(kind: &'static str, template: &str) -> Self {
        // It draws nothing where standard error is no terminal.
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(4));
        bar.set_style(ProgressStyle::with_template(template).expect("the template is well formed"));
        Self { bar, kind }
    }

    pub(crate) fn at(&self, done: u64, all: u64) {
        if self.bar.length() != Some(all) {
            self.bar.set_length(all);
            self.bar.set_message(self.kind);
        }
        self.bar.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
