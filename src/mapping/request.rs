//! Limits of one request to `events/trackBulk`.
//!
//! Iterable documents no limits. 1,000 events and 4,000,000 bytes are the limits of its other
//! integrations (RudderStack, Tealium, Segment).

/// Default maximum number of events in one request.
pub const MAX_EVENTS: usize = 1_000;
/// Default maximum size of a request body, in bytes.
pub const MAX_BYTES: usize = 4_000_000;

/// Maximum size of one event, in bytes: what fits into the largest request that a forwarder can
/// configure. An event larger than the configured request is sent in a separate request, because
/// only Iterable knows whether it is too large.
pub const MAX_EVENT_BYTES: usize = 32_000_000 - "{\"events\":[]}".len();

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::{
        api::{EventSelector, MappingSpec, ProjectType},
        mapping::{MappedEvent, Mapper},
    };

    #[test]
    fn event_larger_than_default_request_is_kept() {
        let spec = MappingSpec {
            events: vec![EventSelector::All],
            ..MappingSpec::default()
        };
        let mapper = Mapper::new(&spec, ProjectType::Email, None).unwrap();
        let fields: Map<String, Value> = (0..200)
            .map(|field| (format!("field{field}"), json!("x".repeat(30_000))))
            .collect();
        let event = |fields: &Map<String, Value>| {
            json!({
                "event_type": "custom_event",
                "data": {
                    "event_name": "Viewed",
                    "custom_event_type": "other",
                    "timestamp_unixtime_ms": 1_764_057_600_000_i64,
                    "custom_attributes": fields,
                },
            })
        };
        let body = json!({
            "schema_version": 2,
            "environment": "production",
            "user_identities": [{"identity_type": "email", "identity": "ada@example.com"}],
            "events": [event(&Map::new()), event(&fields), event(&Map::new())],
        });
        let mapped = mapper.map(&body.to_string(), None).unwrap();
        assert!(mapped.rejected.is_empty(), "{:?}", mapped.rejected);
        let is_larger = |event: &MappedEvent| event.json().len() > MAX_BYTES;
        let sizes: Vec<_> = mapped.events.iter().map(is_larger).collect();
        assert_eq!(sizes, [false, true, false]);
    }
}
