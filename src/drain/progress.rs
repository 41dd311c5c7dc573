//! How far a run has come, for a person at a terminal.

use std::{io::IsTerminal, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::tally::Tally;

/// A bar on standard error, or nothing if that is no terminal.
#[derive(Debug)]
pub struct Progress(Option<ProgressBar>);

impl Progress {
    /// The bar at the start of a run.
    pub fn on_terminal() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let template = "{bar:30} {pos} of about {len} messages, {per_sec}, about {eta} left, {msg}";
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10))
            .with_style(style);
        bar.enable_steady_tick(Duration::from_millis(500));
        Self(Some(bar))
    }

    /// Shows the counts so far, and how many messages are `waiting` by the queue's estimate.
    pub fn show(&self, tally: &Tally, waiting: u64) {
        let Some(bar) = &self.0 else { return };
        bar.set_length(tally.messages.received + waiting);
        bar.set_position(tally.messages.deleted + tally.messages.released);
        bar.set_message(format!("{} events forwarded", tally.events.forwarded));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
