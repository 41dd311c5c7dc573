//! Event IDs: the same for every delivery of an event, and different for every other event.
//!
//! Iterable overwrites an event with the same ID, even one from another integration. It accepts
//! only letters, digits and hyphens (support.iterable.com, "Custom Event Properties").

use std::fmt::Write;

use sha2::{Digest, Sha256};

use super::{
    identity::{self, Identities, UserKey},
    mparticle::{Batch, EventData},
    raw::{JsonType, RawJson},
};

/// The prefix that distinguishes these IDs from those of other integrations.
const PREFIX: &str = "mp-";

/// Maximum nesting depth of [`content_digest`]. Deeper values are hashed as raw JSON.
const MAX_DEPTH: u8 = 32;

/// An event ID for Iterable: `mp-` and 32 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EventId(String);

impl EventId {
    /// Returns the ID as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Derives the ID of an event from its type and the first of these that it has:
    ///
    /// 1. `source_message_id`, set at the source. A UUID is used without the user. Any other value
    ///    is combined with the user, because servers choose it freely.
    /// 2. `event_id`, set by mParticle on receipt, with the user.
    /// 3. The complete content of the event, in any member order, with the user.
    ///
    /// The user is the mParticle ID, else the customer ID, else the email identity, else `key`, the
    /// key that the event is sent with.
    ///
    /// The type is included because a `session_start` carries the UUID of its session. No other
    /// data of the batch is included, because batches are split, merged and resent.
    pub fn derive(
        event_type: &str,
        data: &EventData<'_>,
        batch: &Batch<'_>,
        identities: &Identities<'_>,
        key: Option<&UserKey>,
    ) -> Self {
        let mut hash = Sha256::new();
        part(&mut hash, event_type.as_bytes());
        let source = data.source_id();
        match source.as_deref() {
            Some(uuid) if is_uuid(uuid) => part(&mut hash, uuid.to_ascii_lowercase().as_bytes()),
            source => {
                let event_id = data.event_id.and_then(RawJson::scalar);
                match source.or(event_id.as_deref()) {
                    Some(base) => part(&mut hash, base.as_bytes()),
                    None => hash.update(content_digest(data)),
                }
                let mpid = identity::mpid(batch);
                let user = mpid
                    .as_deref()
                    .or_else(|| identities.customer_id())
                    .or_else(|| identities.email())
                    .or_else(|| key.map(UserKey::text));
                part(&mut hash, user.unwrap_or_default().as_bytes());
            }
        }
        let mut id = String::with_capacity(PREFIX.len() + 32);
        id.push_str(PREFIX);
        for byte in hash.finalize().iter().take(16) {
            // Writing to a String never fails.
            let _ = write!(id, "{byte:02x}");
        }
        Self(id)
    }
}

/// Hashes a part with its length, so that different lists of parts have different input.
fn part(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Returns a digest of an event's content, independent of the order of members.
fn content_digest(data: &EventData<'_>) -> [u8; 32] {
    let mut members: Vec<_> = data
        .extra
        .iter()
        .map(|(key, value)| (&**key, *value))
        .collect();
    let common = [
        ("timestamp_unixtime_ms", data.timestamp),
        ("session_uuid", data.session_uuid),
        ("custom_attributes", data.custom_attributes),
        ("location", data.location),
    ];
    members.extend(
        common
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?))),
    );
    members.sort_by_key(|(key, _)| *key);
    let mut hash = Sha256::new();
    for (key, value) in members {
        part(&mut hash, key.as_bytes());
        hash.update(digest(value, MAX_DEPTH));
    }
    hash.finalize().into()
}

fn digest(raw: RawJson<'_>, depth: u8) -> [u8; 32] {
    let mut hash = Sha256::new();
    match (raw.json_type(), depth.checked_sub(1)) {
        (JsonType::Object, Some(depth)) => {
            let mut members = Vec::new();
            raw.each_member(|key, value| members.push((key, digest(value, depth))));
            members.sort();
            part(&mut hash, b"{");
            for (key, value) in members {
                part(&mut hash, key.as_bytes());
                hash.update(value);
            }
        }
        (JsonType::Array, Some(depth)) => {
            part(&mut hash, b"[");
            raw.each_element(|value| hash.update(digest(value, depth)));
        }
        (JsonType::String, _) => {
            part(&mut hash, b"\"");
            part(&mut hash, raw.text().unwrap_or_default().as_bytes());
        }
        _ => part(&mut hash, raw.json().as_bytes()),
    }
    hash.finalize().into()
}
