//! What is well, what is not, and what waits. Pure.

use anstyle::{AnsiColor, Style};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::{
    api::EventForwarder,
    controller::{PENDING, RUNNING, succeeded},
};

/// A judgement that shows as a sign and a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthLevel {
    /// All is well.
    Ok,
    /// Somebody should act.
    Error,
    /// Not known yet, meant to be so, or to be looked at some time.
    Pending,
}

impl HealthLevel {
    /// Of a condition. That a forwarder is suspended is meant to be so, and dead letters
    /// hinder no run.
    pub fn from_condition(condition: &Condition) -> Self {
        match (condition.status.as_str(), condition.reason.as_str()) {
            (_, "Suspended" | "DeadLettersPresent") => Self::Pending,
            ("True", _) => Self::Ok,
            ("False", _) => Self::Error,
            _ => Self::Pending,
        }
    }

    /// Of a run's outcome.
    pub fn from_outcome(outcome: &str) -> Self {
        match outcome {
            PENDING | RUNNING => Self::Pending,
            outcome if succeeded(outcome) => Self::Ok,
            _ => Self::Error,
        }
    }

    /// The text in the mark's colour.
    pub fn paint(self, text: &str) -> String {
        let color = match self {
            Self::Ok => AnsiColor::Green,
            Self::Error => AnsiColor::Red,
            Self::Pending => AnsiColor::Yellow,
        };
        let style = color.on_default();
        format!("{style}{text}{style:#}")
    }

    /// The sign, in colour.
    pub fn sign(self) -> String {
        self.paint(match self {
            Self::Ok => "✔",
            Self::Error => "✖",
            Self::Pending => "●",
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
pub struct ForwarderHealth {
    /// The judgement.
    pub level: HealthLevel,
    /// A word: Ready, Suspended, or the reason why not.
    pub word: String,
}

impl ForwarderHealth {
    /// By the Ready condition.
    pub fn new(forwarder: &EventForwarder) -> Self {
        let (level, word) = match condition(forwarder, "Ready") {
            None => (HealthLevel::Pending, "NotSeenYet"),
            Some(ready) => (HealthLevel::from_condition(ready), ready.reason.as_str()),
        };
        Self {
            level,
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
