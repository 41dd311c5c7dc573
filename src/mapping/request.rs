//! What one request to `events/trackBulk` may hold.
//!
//! Iterable documents neither limit. 1,000 events and 4,000,000 bytes are what its other
//! integrations keep to (RudderStack, Tealium, Segment).

/// The most events in one request.
pub const MAX_EVENTS: usize = 1_000;
/// The most bytes of one request's body.
pub const MAX_BYTES: usize = 4_000_000;

/// The most bytes that one event may have to fit into a request.
pub const MAX_EVENT_BYTES: usize = MAX_BYTES - "{\"events\":[]}".len();
