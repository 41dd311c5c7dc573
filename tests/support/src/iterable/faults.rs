//! Faults: what happens to a request instead of, or on top of, its usual answer.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;

/// Something that happens to the requests that match, until it was used up or is cleared.
///
/// Faults are tried in the order in which they were added, and the first that matches a request is used.
/// A request that meets a fault is held at its gate, then processed if the fault lets it take effect, then delayed,
/// and then answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Fault {
    /// Which requests it happens to: all.
    pub when: Match,
    /// How many requests it happens to; none is until it is cleared.
    pub times: Option<u32>,
    /// The gate at which the request is held before anything else, until that gate is opened.
    pub gate: Option<String>,
    /// The request takes effect although its answer does not say so: its events are stored. The answers
    /// [`Answer::Usual`], [`Answer::Slow`] and [`Answer::Truncated`] always come from a request that takes effect.
    pub stored: bool,
    /// How long the answer is held back, in milliseconds.
    pub delay_ms: u64,
    /// What is answered.
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
    /// As without a fault.
    #[default]
    Usual,
    /// With this.
    Canned {
        /// The HTTP status.
        status: u16,
        /// Headers, such as `Retry-After`.
        #[serde(default)]
        headers: BTreeMap<String, String>,
        /// The body, of any kind.
        #[serde(default)]
        body: String,
    },
    /// Not at all: the connection is closed in order (FIN).
    Cut,
    /// Not at all: the connection is reset (RST).
    Reset,
    /// Not at all: the connection stays open and silent.
    Never,
    /// As usual, in pieces with a pause before each.
    Slow {
        /// Bytes of a piece.
        piece_bytes: usize,
        /// The pause, in milliseconds.
        pause_ms: u64,
    },
    /// The head and half of the body as usual, then the connection is closed.
    Truncated,
}

/// Which requests a fault happens to: those for which all that is given here holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Match {
    /// The path, such as `/api/events/trackBulk`.
    pub path: Option<String>,
    /// Some event has this `eventName`.
    pub event_name: Option<String>,
    /// Some event or user has this `email` or `userId`.
    pub user: Option<String>,
    /// Some event has this `id`.
    pub id: Option<String>,
    /// Some event has this key in its `dataFields`.
    pub data_field: Option<String>,
}

impl Fault {
    /// Answers with a status and a body, and the request takes no effect.
    pub fn answer(status: u16, body: impl Into<String>) -> Self {
        Self::with(Answer::Canned {
            status,
            headers: BTreeMap::new(),
            body: body.into(),
        })
    }

    /// Closes the connection instead of an answer.
    pub fn cut() -> Self {
        Self::with(Answer::Cut)
    }

    /// Resets the connection instead of an answer.
    pub fn reset() -> Self {
        Self::with(Answer::Reset)
    }

    /// Never answers.
    pub fn never() -> Self {
        Self::with(Answer::Never)
    }

    /// Gives the usual answer late.
    pub fn delay(delay: Duration) -> Self {
        Self::default().delayed(delay)
    }

    /// Gives the usual answer in pieces.
    pub fn slow(piece_bytes: usize, pause: Duration) -> Self {
        Self::with(Answer::Slow {
            piece_bytes,
            pause_ms: millis(pause),
        })
    }

    /// Gives half of the usual answer.
    pub fn truncated() -> Self {
        Self::with(Answer::Truncated)
    }

    /// Holds requests at a gate, and then treats them as usual.
    pub fn hold(gate: impl Into<String>) -> Self {
        Self {
            gate: Some(gate.into()),
            ..Self::default()
        }
    }

    /// Happens to this many requests.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// Happens to the requests that match.
    #[must_use]
    pub fn when(mut self, when: Match) -> Self {
        self.when = when;
        self
    }

    /// The request takes effect, whatever is answered.
    #[must_use]
    pub fn stored(mut self) -> Self {
        self.stored = true;
        self
    }

    /// The answer is held back.
    #[must_use]
    pub fn delayed(mut self, delay: Duration) -> Self {
        self.delay_ms = millis(delay);
        self
    }

    /// The answer has this header as well; only a canned answer can.
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
    /// Requests with an event of this name.
    pub fn event_name(name: impl Into<String>) -> Self {
        Self {
            event_name: Some(name.into()),
            ..Self::default()
        }
    }

    /// Requests with an event or an update of this user.
    pub fn user(user: impl Into<String>) -> Self {
        Self {
            user: Some(user.into()),
            ..Self::default()
        }
    }

    /// Requests with the event of this id.
    pub fn id(id: impl Into<String>) -> Self {
        Self {
            id: Some(id.into()),
            ..Self::default()
        }
    }

    /// Requests with an event that has this key in its `dataFields`.
    pub fn data_field(name: impl Into<String>) -> Self {
        Self {
            data_field: Some(name.into()),
            ..Self::default()
        }
    }

    /// Requests to this path.
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
        let some = |wanted: &Option<String>, holds: fn(&Value, &str) -> bool| {
            wanted.as_ref().is_none_or(|wanted| {
                entries("events")
                    .chain(entries("users"))
                    .any(|entry| holds(entry, wanted))
            })
        };
        self.path.as_ref().is_none_or(|wanted| wanted == path)
            && some(&self.event_name, |entry, name| entry["eventName"] == name)
            && some(&self.user, |entry, user| {
                entry["email"] == user || entry["userId"] == user
            })
            && some(&self.id, |entry, id| entry["id"] == id)
            && some(&self.data_field, |entry, name| {
                entry["dataFields"].get(name).is_some()
            })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A gate at which requests are held until it opens. Its clones are the same gate.
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

    /// Lets all requests pass, those held and those to come.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// How many requests are held now.
    pub fn held(&self) -> usize {
        *self.held.borrow()
    }

    /// Waits until at least this many requests are held.
    pub async fn until_held(&self, count: usize) {
        // The channel can't close while this gate holds its sender.
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

/// The faults that are waiting, and the gates.
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

    /// Forgets all faults, and opens all gates.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        for (_, gate) in self.gates.drain() {
            gate.open();
        }
    }

    /// The gate of that name, made closed when first asked for.
    pub(super) fn gate(&mut self, name: &str) -> Gate {
        self.gates
            .entry(name.to_owned())
            .or_insert_with(Gate::closed)
            .clone()
    }

    /// The fault that happens to a request, used up by one.
    pub(super) fn take(&mut self, path: &str, body: Option<&Value>) -> Option<Fault> {
        let index = self
            .waiting
            .iter()
            .position(|fault| fault.when.matches(path, body))?;
        let fault = &mut self.waiting[index];
        let taken = fault.clone();
        if let Some(times) = &mut fault.times {
            *times = times.saturating_sub(1);
            if *times == 0 {
                self.waiting.remove(index);
            }
        }
        Some(taken)
    }
}
