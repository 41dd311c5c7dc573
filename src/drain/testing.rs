//! Events for the tests of this folder, made as a run makes them.

use serde_json::{Value, json};

use super::{
    ack::{Admission, Ledger, Ticket},
    batch::{Group, Item, Owner},
};
use crate::{
    api::{EventSelector, MappingSpec, ProjectType},
    mapping::{MappedEvent, Mapper},
};

/// The mapping that sends everything.
pub fn mapper() -> Mapper {
    let spec = MappingSpec {
        events: vec![EventSelector::All],
        ..MappingSpec::default()
    };
    Mapper::new(&spec, ProjectType::Email, None).unwrap()
}

/// A batch of one user with custom events of these names and fields.
pub fn batch(user: &str, events: &[(&str, Value)]) -> String {
    let events: Vec<_> = events
        .iter()
        .map(|(name, fields)| {
            json!({
                "event_type": "custom_event",
                "data": {
                    "event_name": name,
                    "custom_event_type": "other",
                    "timestamp_unixtime_ms": 1_764_057_600_000_i64,
                    "custom_attributes": fields,
                },
            })
        })
        .collect();
    json!({
        "schema_version": 2,
        "environment": "production",
        "user_identities": [{"identity_type": "email", "identity": user}],
        "events": events,
    })
    .to_string()
}

/// One event.
pub fn event(user: &str, name: &str, fields: Value) -> MappedEvent {
    let mapped = mapper().map(&batch(user, &[(name, fields)]), None).unwrap();
    mapped.events.into_iter().next().unwrap()
}

/// Any ticket.
pub fn ticket() -> Ticket {
    match Ledger::<(), ()>::new(false).admit("any", None, 1, ()) {
        Admission::New(ticket) => ticket,
        _ => unreachable!("the ledger is empty"),
    }
}

/// A request with these events: user, name, fields.
pub fn group<'a>(events: impl IntoIterator<Item = (&'a str, &'a str, Value)>) -> Group {
    let items = events.into_iter().map(|(user, name, fields)| {
        let event = event(user, name, fields);
        let owner = Owner {
            ticket: ticket(),
            source: event.source(),
        };
        Item {
            event,
            owner,
            twins: Vec::new(),
        }
    });
    Group {
        items: items.collect(),
        ..Group::default()
    }
}
