//! mParticle's batches and events, borrowed from the text of the body.
//!
//! Every property is optional and can be null. Unknown properties are not errors, because the
//! outgoing format has internal fields and can grow (docs.mparticle.com, JSON reference).

use std::borrow::Cow;

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{
    lenient::{FromParts, Lenient},
    raw::{MemberName, RawJson},
};

/// One batch: the events of one user on one device, and their envelope.
#[derive(Debug, Default)]
pub struct Batch<'a> {
    /// The entries of `events`.
    pub events: Lenient<Vec<EventEntry<'a>>>,
    /// `production`, `development` or `unknown`.
    pub environment: Option<RawJson<'a>>,
    /// The mParticle ID, a signed 64-bit integer.
    pub mpid: Option<RawJson<'a>>,
    /// mParticle's device application stamp.
    pub mp_deviceid: Option<RawJson<'a>>,
    /// The batch's time in milliseconds.
    pub timestamp: Option<RawJson<'a>>,
    /// The identities: an array (outgoing format) or an object (incoming format).
    pub user_identities: Option<RawJson<'a>>,
    /// The device.
    pub device_info: Option<RawJson<'a>>,
    /// The app.
    pub application_info: Option<RawJson<'a>>,
    /// The source of the batch, and whether it is a replay.
    pub source_info: Option<RawJson<'a>>,
    /// `alias` for a request that merges two profiles, which is not a batch.
    pub request_type: Option<RawJson<'a>>,
    /// Whether any member identifies the object as a batch.
    pub recognized: bool,
}

impl Batch<'_> {
    /// Returns whether a text is a batch or an alias request.
    pub fn is_one(text: &str) -> bool {
        serde_json::from_str::<Batch<'_>>(text).is_ok_and(|batch| batch.is_known())
    }

    /// Returns whether this is a batch or an alias request.
    pub fn is_known(&self) -> bool {
        self.recognized || self.is_alias_request()
    }

    /// Returns whether this is a request to merge two profiles (its format is from the alias tests
    /// of mParticle's Apple SDK).
    pub fn is_alias_request(&self) -> bool {
        self.request_type
            .and_then(RawJson::scalar)
            .is_some_and(|kind| kind == "alias")
    }

    /// Returns whether it is from mParticle's development environment.
    pub fn is_development(&self) -> bool {
        self.environment
            .and_then(RawJson::scalar)
            .is_some_and(|environment| environment.eq_ignore_ascii_case("development"))
    }

    /// Returns whether it is an mParticle replay.
    pub fn is_replay(&self) -> bool {
        let mut is_replay = false;
        if let Some(source) = self.source_info {
            source.each_member(|name, value| match &*name {
                "replay_request_id" | "replay_job_id" => is_replay |= value.scalar().is_some(),
                "is_historical" => is_replay |= value.boolean() == Some(true),
                _ => {}
            });
        }
        is_replay
    }

    /// Returns whether a server sent it, by `source_info.channel`. Server clocks are correct, and
    /// servers send events that happened long ago.
    pub fn is_from_a_server(&self) -> bool {
        let mut is_from_a_server = false;
        if let Some(source) = self.source_info {
            source.each_member(|name, value| {
                is_from_a_server |= name == "channel"
                    && value
                        .scalar()
                        .is_some_and(|channel| channel.eq_ignore_ascii_case("server_to_server"));
            });
        }
        is_from_a_server
    }
}

/// Number of malformed entries of one kind in a batch that are reported individually. The next one
/// represents all later ones, because a body can contain half a million.
pub const MAX_MALFORMED: usize = 100;

/// An entry of `events`. After [`MAX_MALFORMED`], a malformed entry represents all later ones of
/// its kind.
#[derive(Debug)]
pub struct EventEntry<'a> {
    /// Zero-based position.
    pub position: u32,
    /// Number of entries that it represents.
    pub count: u32,
    /// The parsed entry.
    pub event: Lenient<Event<'a>>,
}

/// The reason why an entry of `events` is not an event, regardless of the forwarder's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// It is not an object.
    NotAnObject,
    /// It has no type.
    NoEventType,
}

impl Malformed {
    /// Returns the problem of an entry, or `None` if it is an event.
    pub fn from_entry(entry: &Lenient<Event<'_>>) -> Option<Self> {
        match entry {
            Lenient::Valid(event) => event
                .event_type
                .and_then(RawJson::scalar)
                .is_none()
                .then_some(Self::NoEventType),
            Lenient::Missing | Lenient::Malformed => Some(Self::NotAnObject),
        }
    }
}

/// A value for each kind of malformed entry.
#[derive(Debug, Default)]
pub struct PerKind<T> {
    not_an_object: T,
    no_event_type: T,
}

impl<T> PerKind<T> {
    /// Returns the value of a kind.
    pub const fn get_mut(&mut self, kind: Malformed) -> &mut T {
        match kind {
            Malformed::NotAnObject => &mut self.not_an_object,
            Malformed::NoEventType => &mut self.no_event_type,
        }
    }
}

/// A counter of the malformed entries of a batch by kind.
#[derive(Debug, Default)]
pub struct MalformedCounts(PerKind<usize>);

impl MalformedCounts {
    /// Counts an entry and returns the number of earlier entries of its kind.
    pub fn next(&mut self, kind: Malformed) -> usize {
        let count = self.0.get_mut(kind);
        *count += 1;
        *count - 1
    }
}

/// An event.
#[derive(Debug, Default)]
pub struct Event<'a> {
    /// `event_type`.
    pub event_type: Option<RawJson<'a>>,
    /// `data`.
    pub data: Lenient<EventData<'a>>,
}

/// The members of an event's `data`.
#[derive(Debug, Default)]
pub struct EventData<'a> {
    /// The event's time in milliseconds.
    pub timestamp: Option<RawJson<'a>>,
    /// ID set by mParticle on receipt, a signed 64-bit integer.
    pub event_id: Option<RawJson<'a>>,
    /// ID set at the source, the same for every delivery.
    pub source_message_id: Option<RawJson<'a>>,
    /// The session's UUID.
    pub session_uuid: Option<RawJson<'a>>,
    /// The attributes set by the sender.
    pub custom_attributes: Option<RawJson<'a>>,
    /// The location of the device.
    pub location: Option<RawJson<'a>>,
    /// All other members except null values and [`INTERNAL_MEMBERS`].
    pub extra: Members<'a>,
}

/// mParticle's value for an unset ID.
pub const NIL_UUID: &str = "00000000-0000-0000-0000-000000000000";

impl<'a> EventData<'a> {
    /// Returns the ID that was set at the source, if any.
    pub fn source_id(&self) -> Option<Cow<'a, str>> {
        self.source_message_id
            .and_then(RawJson::scalar)
            .filter(|id| id != NIL_UUID)
    }

    /// Returns whether the event can't be distinguished from others of its type.
    pub fn lacks_identity(&self) -> bool {
        self.source_id().is_none()
            && [self.event_id, self.timestamp]
                .into_iter()
                .all(|raw| raw.and_then(RawJson::scalar).is_none())
    }

    /// Returns whether this is a stopped Android activity: the screen was left, not viewed.
    pub fn is_screen_left(&self) -> bool {
        self.extra_member("activity_type")
            .and_then(RawJson::scalar)
            .is_some_and(|kind| kind == "activity_stopped")
    }
}

/// Names and values, in order.
pub type Members<'a> = Vec<(Cow<'a, str>, RawJson<'a>)>;

/// Members of `data` that are internal to mParticle or have no meaning to a marketer.
pub const INTERNAL_MEMBERS: [&str; 16] = [
    "session_id",
    "session_start_unixtime_ms",
    "event_start_unixtime_ms",
    "device_current_state",
    "custom_flags",
    "is_goal_defined",
    "lifetime_value_change",
    "lifetime_value_attribute_name",
    "data_connection_type",
    "event_num",
    "view_controller",
    "is_main_thread",
    "canonical_name",
    "event_system_notification_info",
    "message_id",
    "message_type",
];

/// Further members that identify an object without `events` as a batch.
const OTHER_BATCH_MEMBERS: [&str; 9] = [
    "schema_version",
    "batch_id",
    "user_attributes",
    "deleted_user_attributes",
    "attribution_info",
    "consent_state",
    "integration_attributes",
    "partner_identities",
    "source_request_id",
];

impl<'de: 'a, 'a> Deserialize<'de> for Batch<'a> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_map(BatchVisitor)
    }
}

struct BatchVisitor;

impl<'de> Visitor<'de> for BatchVisitor {
    type Value = Batch<'de>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a batch, which is a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Batch<'de>, A::Error> {
        let mut batch = Batch::default();
        let mut seen_events = false;
        while let Some(MemberName(key)) = map.next_key()? {
            let slot = match &*key {
                // With two `events` members, the events of one would be lost.
                "events" if seen_events => return Err(A::Error::duplicate_field("events")),
                "events" => {
                    seen_events = true;
                    batch.recognized = true;
                    batch.events = map.next_value()?;
                    continue;
                }
                "environment" => &mut batch.environment,
                "mpid" => &mut batch.mpid,
                "mp_deviceid" => &mut batch.mp_deviceid,
                "timestamp_unixtime_ms" => &mut batch.timestamp,
                "user_identities" => &mut batch.user_identities,
                "device_info" => &mut batch.device_info,
                "application_info" => &mut batch.application_info,
                "source_info" => &mut batch.source_info,
                "request_type" => &mut batch.request_type,
                other => {
                    batch.recognized |= OTHER_BATCH_MEMBERS.contains(&other);
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            *slot = map.next_value::<RawJson<'de>>()?.present();
            // These don't identify a batch: an alias request has an environment too.
            batch.recognized |= !matches!(&*key, "environment" | "request_type");
        }
        Ok(batch)
    }
}

impl<'de> FromParts<'de> for Vec<EventEntry<'de>> {
    fn from_seq<A: SeqAccess<'de>>(mut seq: A) -> Result<Option<Self>, A::Error> {
        let mut entries: Self = Vec::new();
        let mut counts = MalformedCounts::default();
        // Indexes of the entries that represent later ones of their kind.
        let mut last = PerKind::<Option<usize>>::default();
        let mut position = 0;
        while let Some(event) = seq.next_element()? {
            let kind = Malformed::from_entry(&event);
            let before = kind.map_or(0, |kind| counts.next(kind));
            let rest = kind
                .filter(|_| before > MAX_MALFORMED)
                .and_then(|kind| entries.get_mut((*last.get_mut(kind))?));
            match rest {
                Some(entry) => entry.count += 1,
                None => {
                    if let Some(kind) = kind {
                        *last.get_mut(kind) = Some(entries.len());
                    }
                    entries.push(EventEntry {
                        position,
                        count: 1,
                        event,
                    });
                }
            }
            position += 1;
        }
        Ok(Some(entries))
    }
}

impl<'de> FromParts<'de> for Event<'de> {
    fn from_map<A: MapAccess<'de>>(mut map: A) -> Result<Option<Self>, A::Error> {
        let mut event = Event::default();
        while let Some(MemberName(key)) = map.next_key()? {
            match &*key {
                "event_type" => event.event_type = map.next_value::<RawJson<'de>>()?.present(),
                "data" => event.data = map.next_value()?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Some(event))
    }
}

impl<'de> FromParts<'de> for EventData<'de> {
    fn from_map<A: MapAccess<'de>>(mut map: A) -> Result<Option<Self>, A::Error> {
        let mut data = EventData::default();
        while let Some(MemberName(key)) = map.next_key()? {
            let slot = match &*key {
                "timestamp_unixtime_ms" => &mut data.timestamp,
                "event_id" => &mut data.event_id,
                "source_message_id" => &mut data.source_message_id,
                "session_uuid" => &mut data.session_uuid,
                "custom_attributes" => &mut data.custom_attributes,
                "location" => &mut data.location,
                other if INTERNAL_MEMBERS.contains(&other) => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
                _ => {
                    if let Some(value) = map.next_value::<RawJson<'de>>()?.present() {
                        data.extra.push((key, value));
                    }
                    continue;
                }
            };
            *slot = map.next_value::<RawJson<'de>>()?.present();
        }
        Ok(Some(data))
    }
}
