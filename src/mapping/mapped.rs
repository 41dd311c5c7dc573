//! Results of mapping a body: each event is forwarded, skipped or rejected.

use std::{borrow::Cow, ops::Range, sync::Arc};

use super::{
    identity::{User, UserKey},
    raw::{JsonType, RawJson, push_text},
    warnings::Warnings,
};

/// The result of mapping a body. Each event is in exactly one of the three lists. Malformed entries
/// after the first hundred of a batch or body share one entry with their count.
#[derive(Debug, Default)]
pub struct MappedBody {
    /// Events to send, in body order.
    pub events: Vec<MappedEvent>,
    /// Events excluded by a rule of the forwarder.
    pub skipped: Vec<Skipped>,
    /// Events that can't be sent.
    pub rejected: Vec<Rejected>,
    /// Counts of the warnings.
    pub warnings: Warnings,
}

/// The position of an event in a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventPosition {
    /// Zero-based index of the batch. Values grouped with another one are not counted.
    pub batch: u32,
    /// Zero-based index of the event in its batch, or 0 if the complete batch is meant.
    pub event: u32,
}

/// mParticle's `event_type`, or empty if the event has none.
pub type EventType = Cow<'static, str>;

/// An event excluded by a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Position of the event.
    pub source: EventPosition,
    /// Event type.
    pub event_type: EventType,
    /// The rule that excludes it.
    pub reason: SkipReason,
}

/// Why an event was skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SkipReason {
    /// `mapping.events` does not select it.
    NotSelected,
    /// An Android activity stopped: the screen was left, not viewed.
    ScreenLeft,
    /// It is from mParticle's development environment.
    Development,
    /// It is an mParticle replay.
    Replay,
    /// It is a request to merge two profiles.
    AliasRequest,
    /// It has no user identifier of the kind that the project uses.
    NoUser,
    /// The custom rules dropped it.
    DroppedByTransform,
}

impl SkipReason {
    /// All reasons.
    pub const ALL: [Self; 7] = [
        Self::NotSelected,
        Self::ScreenLeft,
        Self::Development,
        Self::Replay,
        Self::AliasRequest,
        Self::NoUser,
        Self::DroppedByTransform,
    ];

    /// Returns the reason identifier.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotSelected => "NotSelected",
            Self::ScreenLeft => "ScreenLeft",
            Self::Development => "Development",
            Self::Replay => "Replay",
            Self::AliasRequest => "AliasRequest",
            Self::NoUser => "NoUser",
            Self::DroppedByTransform => "DroppedByTransform",
        }
    }
}

/// An event that can't be sent, or a malformed entry that may represent later ones of its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Position of the event.
    pub source: EventPosition,
    /// Number of entries that it represents.
    pub count: u32,
    /// Event type.
    pub event_type: EventType,
    /// Reason of the rejection.
    pub reason: RejectReason,
    /// The problem, its location, and how to fix it.
    pub detail: String,
}

/// Why an event was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RejectReason {
    /// One of several values in a body is not a batch.
    NotABatch,
    /// `events` of a batch is not an array.
    EventsNotAList,
    /// An element of `events` is not an object.
    EventNotAnObject,
    /// The event has no type.
    NoEventType,
    /// The event has neither an ID nor a time.
    NoIdOrTime,
    /// `data` is not an object.
    DataNotAnObject,
    /// The event has no value for its name template.
    NoEventName,
    /// Iterable would reject the email address.
    InvalidEmail,
    /// Iterable would reject the userId.
    InvalidUserId,
    /// The event is larger than a request can be.
    TooLarge,
    /// The custom rules raised an error.
    TransformFailed,
    /// The custom rules exceeded a limit.
    TransformTooCostly,
    /// The output of the custom rules is not a valid event.
    TransformOutput,
    /// It is a request to merge two profiles, and `mapping.aliasRequests` is Reject.
    AliasRequest,
}

impl RejectReason {
    /// All reasons.
    pub const ALL: [Self; 14] = [
        Self::NotABatch,
        Self::EventsNotAList,
        Self::EventNotAnObject,
        Self::NoEventType,
        Self::NoIdOrTime,
        Self::DataNotAnObject,
        Self::NoEventName,
        Self::InvalidEmail,
        Self::InvalidUserId,
        Self::TooLarge,
        Self::TransformFailed,
        Self::TransformTooCostly,
        Self::TransformOutput,
        Self::AliasRequest,
    ];

    /// Returns the reason identifier.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotABatch => "NotABatch",
            Self::EventsNotAList => "EventsNotAList",
            Self::EventNotAnObject => "EventNotAnObject",
            Self::NoEventType => "NoEventType",
            Self::NoIdOrTime => "NoIdOrTime",
            Self::DataNotAnObject => "DataNotAnObject",
            Self::NoEventName => "NoEventName",
            Self::InvalidEmail => "InvalidEmail",
            Self::InvalidUserId => "InvalidUserId",
            Self::TooLarge => "TooLarge",
            Self::TransformFailed => "TransformFailed",
            Self::TransformTooCostly => "TransformTooCostly",
            Self::TransformOutput => "TransformOutput",
            Self::AliasRequest => "AliasRequest",
        }
    }
}

/// An event for Iterable, encoded as one `TrackRequest` of `events/trackBulk`.
#[derive(Clone, Debug)]
pub struct MappedEvent {
    json: String,
    id: Range<usize>,
    data_fields: Range<usize>,
    event_name: Arc<str>,
    user: UserKey,
    source: EventPosition,
    event_type: EventType,
}

impl MappedEvent {
    /// Creates an event from its encoding.
    pub(super) fn new(
        encoded: Encoded,
        event_name: Arc<str>,
        user: UserKey,
        source: EventPosition,
        event_type: EventType,
    ) -> Self {
        let Encoded {
            json,
            id,
            data_fields,
        } = encoded;
        Self {
            json,
            id,
            data_fields,
            event_name,
            user,
            source,
            event_type,
        }
    }

    /// Returns the encoded object, on one line.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// Returns the event's name at Iterable.
    pub fn event_name(&self) -> &str {
        &self.event_name
    }

    /// Returns the user of the event.
    pub fn user(&self) -> User<'_> {
        self.user.user()
    }

    /// Returns the ID by which Iterable detects a duplicate delivery.
    pub fn id(&self) -> &str {
        &self.json[self.id.clone()]
    }

    /// Returns the position in the body.
    pub fn source(&self) -> EventPosition {
        self.source
    }

    /// Returns mParticle's type of the event.
    pub fn event_type(&self) -> &str {
        &self.event_type
    }

    /// Returns the event without one entry of its `dataFields`. Returns `None` if it has no such
    /// entry.
    pub fn without_field(&self, field: &str) -> Option<Self> {
        let fields = RawJson::parse(&self.json[self.data_fields.clone()])?;
        if fields.json_type() != JsonType::Object {
            return None;
        }
        let mut kept = String::with_capacity(fields.json().len());
        let mut found = false;
        kept.push('{');
        fields.each_member(|name, value| {
            if name == field {
                found = true;
                return;
            }
            if kept.len() > 1 {
                kept.push(',');
            }
            push_text(&mut kept, &name);
            kept.push(':');
            kept.push_str(value.json());
        });
        kept.push('}');
        if !found {
            return None;
        }
        let mut event = self.clone();
        event.json.replace_range(self.data_fields.clone(), &kept);
        event.data_fields.end = event.data_fields.start + kept.len();
        Some(event)
    }
}

/// A `TrackRequest` as JSON, with the byte ranges of two of its values.
#[derive(Debug)]
pub(super) struct Encoded {
    pub json: String,
    id: Range<usize>,
    data_fields: Range<usize>,
}

/// The members of a `TrackRequest` except `dataFields`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head<'h> {
    pub event_name: &'h str,
    pub user: Option<User<'h>>,
    pub id: &'h str,
    pub created_at: Option<i64>,
    /// Further members as JSON, each preceded by a comma.
    pub more: &'h str,
}

impl Encoded {
    /// Encodes an event. `data_fields` appends the `dataFields` object.
    pub fn new(head: Head<'_>, size_hint: usize, data_fields: impl FnOnce(&mut String)) -> Self {
        let mut json = String::with_capacity(size_hint);
        json.push_str("{\"eventName\":");
        push_text(&mut json, head.event_name);
        match head.user {
            Some(User::Email(email)) => {
                json.push_str(",\"email\":");
                push_text(&mut json, email);
            }
            Some(User::UserId(id)) => {
                json.push_str(",\"userId\":");
                push_text(&mut json, id);
            }
            None => {}
        }
        json.push_str(",\"id\":\"");
        let id_start = json.len();
        json.push_str(head.id);
        let id = id_start..json.len();
        json.push('"');
        if let Some(seconds) = head.created_at {
            json.push_str(",\"createdAt\":");
            json.push_str(&seconds.to_string());
        }
        json.push_str(head.more);
        json.push_str(",\"dataFields\":");
        let fields_start = json.len();
        data_fields(&mut json);
        let data_fields = fields_start..json.len();
        json.push('}');
        Self {
            json,
            id,
            data_fields,
        }
    }
}
