//! What becomes of a body's events: each is forwarded, skipped or rejected.

use std::{borrow::Cow, ops::Range, sync::Arc};

use super::{
    identity::{User, UserKey},
    raw::{JsonType, RawJson, push_text},
    warnings::Warnings,
};

/// What a body was mapped to. Every event of it stands in exactly one of the three lists, once, but for
/// what is malformed past the hundredth of a batch or a body, which stands there as one with its count.
#[derive(Debug, Default)]
pub struct MappedBody {
    /// To be sent, in the body's order.
    pub events: Vec<MappedEvent>,
    /// Left out by a rule of the forwarder.
    pub skipped: Vec<Skipped>,
    /// Fit for no request; the dead-letter queue is their place.
    pub rejected: Vec<Rejected>,
    /// What was changed or left out of the events that go on.
    pub warnings: Warnings,
}

/// Where in a body an event stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventPosition {
    /// The batch, counted from 0 over all that the body holds; what is kept with another is not
    /// counted.
    pub batch: u32,
    /// The event in its batch, counted from 0; 0 as well for what is no batch.
    pub event: u32,
}

/// mParticle's `event_type` of an event, or empty if it has none.
pub type EventType = Cow<'static, str>;

/// An event that was left out by a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Where it stands.
    pub source: EventPosition,
    /// Its type.
    pub event_type: EventType,
    /// The rule.
    pub reason: SkipReason,
}

/// Why an event was skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SkipReason {
    /// `mapping.events` does not select it.
    NotSelected,
    /// An Android activity that stopped: a screen that is left, not seen.
    ScreenLeft,
    /// It comes from the development environment.
    Development,
    /// mParticle replays it.
    Replay,
    /// It asks to merge two profiles.
    AliasRequest,
    /// It has no user that the project knows users by.
    NoUser,
    /// The forwarder's own rules dropped it.
    DroppedByTransform,
}

impl SkipReason {
    /// Every one.
    pub const ALL: [Self; 7] = [
        Self::NotSelected,
        Self::ScreenLeft,
        Self::Development,
        Self::Replay,
        Self::AliasRequest,
        Self::NoUser,
        Self::DroppedByTransform,
    ];

    /// The reason as a word.
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

/// An event that can't be sent, or a malformed entry of `events`, or value that is no batch, with all later
/// ones of its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Where it stands.
    pub source: EventPosition,
    /// How many entries it stands for.
    pub count: u32,
    /// Its type.
    pub event_type: EventType,
    /// What is wrong.
    pub reason: RejectReason,
    /// What is wrong, where, and what mends it.
    pub detail: String,
}

/// Why an event was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RejectReason {
    /// A value stands where a batch should, and is none.
    NotABatch,
    /// A batch's `events` is no list.
    EventsNotAList,
    /// An entry of `events` is no object.
    EventNotAnObject,
    /// An event has no type.
    NoEventType,
    /// An event's data has neither an id nor a time.
    NoIdOrTime,
    /// An event's data is no object.
    DataNotAnObject,
    /// The template gives no name.
    NoEventName,
    /// Iterable would refuse the email address.
    InvalidEmail,
    /// Iterable would refuse the userId.
    InvalidUserId,
    /// The event is larger than a request may be.
    TooLarge,
    /// The forwarder's own rules failed on it.
    TransformFailed,
    /// The forwarder's own rules need too much time or memory on it.
    TransformTooCostly,
    /// The forwarder's own rules made something of it that is no event.
    TransformOutput,
    /// It asks to merge two profiles, and `mapping.aliasRequests` is Reject.
    AliasRequest,
}

impl RejectReason {
    /// Every one.
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

    /// The reason as a word.
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

/// An event as Iterable takes it: one `TrackRequest` of `events/trackBulk`, encoded.
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
    /// An event that goes out as `encoded`.
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

    /// The encoded object, on one line.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// The event's name at Iterable.
    pub fn event_name(&self) -> &str {
        &self.event_name
    }

    /// Whose event it is.
    pub fn user(&self) -> User<'_> {
        self.user.user()
    }

    /// The id by which Iterable tells a second send from a second event.
    pub fn id(&self) -> &str {
        &self.json[self.id.clone()]
    }

    /// Where in the body it stood.
    pub fn source(&self) -> EventPosition {
        self.source
    }

    /// mParticle's type of the event.
    pub fn event_type(&self) -> &str {
        &self.event_type
    }

    /// The same event without one entry of its `dataFields`. None if it has no such entry.
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

/// A `TrackRequest` as JSON, and where two of its members stand in it.
#[derive(Debug)]
pub(super) struct Encoded {
    pub json: String,
    id: Range<usize>,
    data_fields: Range<usize>,
}

/// The members of a `TrackRequest` but for its `dataFields`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head<'h> {
    pub event_name: &'h str,
    pub user: Option<User<'h>>,
    pub id: &'h str,
    pub created_at: Option<i64>,
    /// Further members, each with a comma before it.
    pub more: &'h str,
}

impl Encoded {
    /// Encodes an event. `data_fields` writes the object of that name.
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
