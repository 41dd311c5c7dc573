//! Health levels of conditions, runs and forwarders, and their colors. Pure.

use anstyle::{AnsiColor, Style};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::{
    api::EventForwarder,
    controller::{PENDING, RUNNING, succeeded},
};

/// A health level, shown as a sign and a color.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthLevel {
    /// Healthy.
    Ok,
    /// An action is required.
    Error,
    /// Unknown, in progress, intended, or not urgent.
    Pending,
}

impl HealthLevel {
    /// Returns the level of a condition. A suspension is intended, and dead-lettered messages do
    /// not block runs.
    pub fn from_condition(condition: &Condition) -> Self {
        match (condition.status.as_str(), condition.reason.as_str()) {
            (_, "Suspended" | "DeadLettersPresent") => Self::Pending,
            ("True", _) => Self::Ok,
            ("False", _) => Self::Error,
            _ => Self::Pending,
        }
    }

    /// Returns the level of a run's outcome.
    pub fn from_outcome(outcome: &str) -> Self {
        match outcome {
            PENDING | RUNNING => Self::Pending,
            outcome if succeeded(outcome) => Self::Ok,
            _ => Self::Error,
        }
    }

    /// Returns the text in the level's color.
    pub fn paint(self, text: &str) -> String {
        let color = match self {
            Self::Ok => AnsiColor::Green,
            Self::Error => AnsiColor::Red,
            Self::Pending => AnsiColor::Yellow,
        };
        let style = color.on_default();
        format!("{style}{text}{style:#}")
    }

    /// Returns the sign in the level's color.
    pub fn sign(self) -> String {
        self.paint(match self {
            Self::Ok => "✔",
            Self::Error => "✖",
            Self::Pending => "●",
        })
    }
}

/// Returns the text in bold.
pub fn bold(text: &str) -> String {
    let style = Style::new().bold();
    format!("{style}{text}{style:#}")
}

/// Returns the text dimmed.
pub fn dim(text: &str) -> String {
    let style = Style::new().dimmed();
    format!("{style}{text}{style:#}")
}

/// The health of a forwarder.
#[derive(Debug, PartialEq, Eq)]
pub struct ForwarderHealth {
    /// The level.
    pub level: HealthLevel,
    /// The reason of the Ready condition, or `NotSeenYet`.
    pub word: String,
}

impl ForwarderHealth {
    /// Creates the health from the Ready condition.
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

/// Returns the forwarder's condition of a type.
pub fn condition<'a>(forwarder: &'a EventForwarder, type_: &str) -> Option<&'a Condition> {
    let conditions = &forwarder.status.as_ref()?.conditions;
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Returns whether the status is of the current spec.
pub fn is_current(forwarder: &EventForwarder) -> bool {
    forwarder
        .status
        .as_ref()
        .is_some_and(|status| status.observed_generation == forwarder.metadata.generation)
}
