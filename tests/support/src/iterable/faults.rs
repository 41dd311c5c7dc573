//! Faults: changes to how a request is answered.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;

/// A fault for matching requests, until it is used up or cleared.
///
/// The first matching fault applies, in the order in which they were added. A request with a fault
/// waits at the gate, is processed if the fault lets it take effect, is delayed, and is answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Fault {
    /// Requests that have this fault. Default all.
    pub when: Match,
    /// Number of requests that have this fault. If unset, it lasts until it is cleared.
    pub times: Option<u32>,
    /// Name of the gate at which the request waits, before anything else, until the gate opens.
    pub gate: Option<String>,
    /// Whether the request takes effect regardless of its answer: its events are stored.
    ///
    /// Requests with [`Answer::Usual`], [`Answer::Slow`] and [`Answer::Truncated`] always take
    /// effect.
    pub stored: bool,
    /// Delay of the answer, in milliseconds.
    pub delay_ms: u64,
    /// The answer.
    pub answer: Answer,
}

/// How a request is answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum Answer {
    /// The answer without a fault.
    #[default]
    Usual,
    /// A fixed response.
    Canned {
        /// The HTTP status.
        status: u16,
        /// Headers, such as `Retry-After`.
        #[serde(default)]
        headers: BTreeMap<String, String>,
        /// The body, in any format.
        #[serde(default)]
        body: String,
    },
    /// No answer: the connection is closed in order (FIN).
    Cut,
    /// No answer: the connection is reset (RST).
    Reset,
    /// No answer: the connection stays open and silent.
    Never,
    /// The usual answer, in pieces with a delay before each.
    Slow {
        /// Bytes per piece.
        piece_bytes: usize,
        /// Delay before each piece, in milliseconds.
        pause_ms: u64,
    },
    /// The usual head and half of the usual body, then the connection is closed.
    Truncated,
}

/// A filter for requests that match all set fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Match {
    /// Path of the request, such as `/api/events/trackBulk`.
    pub path: Option<String>,
    /// The `eventName` of at least one event.
    pub event_name: Option<String>,
    /// The `email` or `userId` of at least one event or user.
    pub user: Option<String>,
    /// The `id` of at least one event.
    pub id: Option<String>,
    /// A key in the `dataFields` of at least one event.
    pub data_field: Option<String>,
}

impl Fault {
    /// Answers with a status and a body; the request has no effect.
    pub fn answer(status: u16, body: impl Into<String>) -> Self {
        Self::with(Answer::Canned {
            status,
            headers: BTreeMap::new(),
            body: body.into(),
        })
    }

    /// Closes the connection instead of answering.
    pub fn cut() -> Self {
        Self::with(Answer::Cut)
    }

    /// Resets the connection instead of answering.
    pub fn reset() -> Self {
        Self::with(Answer::Reset)
    }

    /// Never answers.
    pub fn never() -> Self {
        Self::with(Answer::Never)
    }

    /// Delays the usual answer.
    pub fn delay(delay: Duration) -> Self {
        Self::default().delayed(delay)
    }

    /// Sends the usual answer in pieces.
    pub fn slow(piece_bytes: usize, pause: Duration) -> Self {
        Self::with(Answer::Slow {
            piece_bytes,
            pause_ms: millis(pause),
        })
    }

    /// Sends half of the usual answer.
    pub fn truncated() -> Self {
        Self::with(Answer::Truncated)
    }

    /// Holds requests at a gate, then processes them as usual.
    pub fn hold(gate: impl Into<String>) -> Self {
        Self {
            gate: Some(gate.into()),
            ..Self::default()
        }
    }

    /// Limits this fault to `times` requests.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// Limits this fault to the requests that match.
    #[must_use]
    pub fn when(mut self, when: Match) -> Self {
        self.when = when;
        self
    }

    /// Lets the request take effect, regardless of its answer.
    #[must_use]
    pub fn stored(mut self) -> Self {
        self.stored = true;
        self
    }

    /// Delays the answer.
    #[must_use]
    pub fn delayed(mut self, delay: Duration) -> Self {
        self.delay_ms = millis(delay);
        self
    }

    /// Adds a header to a canned answer; has no effect on others.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        if let Answer::Canned { headers, .. } = &mut self.answer {
            headers.insert(name.into(), value.into());
        }
        self
    }

    pub(super) fn takes_effect(&self) -> bool {
        self.stored
            || matches!(
                self.answer,
                Answer::Usual | Answer::Slow { .. } | Answer::Truncated
            )
    }

    fn with(answer: Answer) -> Self {
        Self {
            answer,
            ..Self::default()
        }
    }
}

impl Match {
    /// Matches requests with an event of this name.
    pub fn event_name(name: impl Into<String>) -> Self {
        Self {
            event_name: Some(name.into()),
            ..Self::default()
        }
    }

    /// Matches requests with an event or an update of this user.
    pub fn user(user: impl Into<String>) -> Self {
        Self {
            user: Some(user.into()),
            ..Self::default()
        }
    }

    /// Matches requests with the event of this ID.
    pub fn id(id: impl Into<String>) -> Self {
        Self {
            id: Some(id.into()),
            ..Self::default()
        }
    }

    /// Matches requests with an event that has this key in its `dataFields`.
    pub fn data_field(name: impl Into<String>) -> Self {
        Self {
            data_field: Some(name.into()),
            ..Self::default()
        }
    }

    /// Matches requests to this path.
    pub fn path(path: impl Into<String>) -> Self {
        Self {
            path: Some(path.into()),
            ..Self::default()
        }
    }

    fn matches(&self, path: &str, body: Option<&Value>) -> bool {
        let entries = |list| {
            body.and_then(|body| body[list].as_array())
                .into_iter()
                .flatten()
        };
        let any_entry = |expected: &Option<String>, has: fn(&Value, &str) -> bool| {
            expected.as_ref().is_none_or(|expected| {
                entries("events")
                    .chain(entries("users"))
                    .any(|entry| has(entry, expected))
            })
        };
        self.path.as_ref().is_none_or(|expected| expected == path)
            && any_entry(&self.event_name, |entry, name| entry["eventName"] == name)
            && any_entry(&self.user, |entry, user| {
                entry["email"] == user || entry["userId"] == user
            })
            && any_entry(&self.id, |entry, id| entry["id"] == id)
            && any_entry(&self.data_field, |entry, name| {
                entry["dataFields"].get(name).is_some()
            })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A gate that holds requests until it opens. Clones share the same gate.
#[derive(Clone, Debug)]
pub struct Gate {
    open: watch::Sender<bool>,
    held: watch::Sender<usize>,
}

impl Gate {
    fn closed() -> Self {
        Self {
            open: watch::Sender::new(false),
            held: watch::Sender::new(0),
        }
    }

    /// Lets all current and future requests pass.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Returns the number of requests that are currently held.
    pub fn held(&self) -> usize {
        *self.held.borrow()
    }

    /// Waits until at least `count` requests are held.
    pub async fn until_held(&self, count: usize) {
        // The channel can't close, because this gate owns its sender.
        let _ = self.held.subscribe().wait_for(|held| *held >= count).await;
    }

    pub(super) async fn pass(&self) {
        struct Held<'a>(&'a watch::Sender<usize>);
        impl Drop for Held<'_> {
            fn drop(&mut self) {
                self.0.send_modify(|held| *held -= 1);
            }
        }
        self.held.send_modify(|held| *held += 1);
        let _held = Held(&self.held);
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }
}

/// The faults that wait for requests, and the gates.
#[derive(Debug, Default)]
pub(super) struct Faults {
    waiting: Vec<Fault>,
    gates: HashMap<String, Gate>,
}

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) {
        self.waiting.push(fault);
    }

    pub(super) fn waiting(&self) -> &[Fault] {
        &self.waiting
    }

    /// Removes all faults and opens all gates.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        for (_, gate) in self.gates.drain() {
            gate.open();
        }
    }

    /// Returns the gate with this name; the first call creates it closed.
    pub(super) fn gate(&mut self, name: &str) -> Gate {
        self.gates
            .entry(name.to_owned())
            .or_insert_with(Gate::closed)
            .clone()
    }

    /// Returns the fault that applies to a request, and counts this use of it.
    pub(super) fn take(&mut self, path: &str, body: Option<&Value>) -> Option<Fault> {
        let index = self
            .waiting
            .iter()
            .position(|fault| fault.when.matches(path, body))?;
        let fault = &mut self.waiting[index];
        let used = fault.clone();
        if let Some(times) = &mut fault.times {
            *times = times.saturating_sub(1);
            if *times == 0 {
                self.waiting.remove(index);
            }
        }
        Some(used)
    }
}
