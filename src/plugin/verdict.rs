//! What is well, what is not, and what waits. Pure.

use anstyle::{AnsiColor, Style};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::{
    api::EventForwarder,
    controller::{PENDING, RUNNING, succeeded},
};

/// A judgement that shows as a sign and a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// All is well.
    Good,
    /// Somebody should act.
    Bad,
    /// Not known yet, meant to be so, or to be looked at some time.
    Open,
}

impl Mark {
    /// Of a condition. That a forwarder is suspended is meant to be so, and dead letters
    /// hinder no run.
    pub fn of(condition: &Condition) -> Self {
        match (condition.status.as_str(), condition.reason.as_str()) {
            (_, "Suspended" | "DeadLettersPresent") => Self::Open,
            ("True", _) => Self::Good,
            ("False", _) => Self::Bad,
            _ => Self::Open,
        }
    }

    /// Of a run's outcome.
    pub fn of_outcome(outcome: &str) -> Self {
        match outcome {
            PENDING | RUNNING => Self::Open,
            outcome if succeeded(outcome) => Self::Good,
            _ => Self::Bad,
        }
    }

    /// The text in the mark's colour.
    pub fn paint(self, text: &str) -> String {
        let color = match self {
            Self::Good => AnsiColor::Green,
            Self::Bad => AnsiColor::Red,
            Self::Open => AnsiColor::Yellow,
        };
        let style = color.on_default();
        format!("{style}{text}{style:#}")
    }

    /// The sign, in colour.
    pub fn sign(self) -> String {
        self.paint(match self {
            Self::Good => "✔",
            Self::Bad => "✖",
            Self::Open => "●",
        })
    }
}

/// The text in bold.
pub fn bold(text: &str) -> String {
    let style = Style::new().bold();
    format!("{style}{text}{style:#}")
}

/// The text, dimmed.
pub fn dim(text: &str) -> String {
    let style = Style::new().dimmed();
    format!("{style}{text}{style:#}")
}

/// How a forwarder fares as a whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The judgement.
    pub mark: Mark,
    /// A word: Ready, Suspended, or the reason why not.
    pub word: String,
}

impl Verdict {
    /// By the Ready condition.
    pub fn of(forwarder: &EventForwarder) -> Self {
        let (mark, word) = match condition(forwarder, "Ready") {
            None => (Mark::Open, "NotSeenYet"),
            Some(ready) => (Mark::of(ready), ready.reason.as_str()),
        };
        Self {
            mark,
            word: word.to_owned(),
        }
    }
}

/// The forwarder's condition of a type.
pub fn condition<'a>(forwarder: &'a EventForwarder, type_: &str) -> Option<&'a Condition> {
    let conditions = &forwarder.status.as_ref()?.conditions;
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether the status speaks of the spec as it is now.
pub fn is_current(forwarder: &EventForwarder) -> bool {
    forwarder
        .status
        .as_ref()
        .is_some_and(|status| status.observed_generation == forwarder.metadata.generation)
}
