//! Properties of every body.

use std::collections::BTreeSet;

use crate::support::spec;
use event_forwarder::{
    api::{EventSelector, MappingSpec, ProjectType, SkipOrForward},
    mapping::{EventPosition, MappedBody, Mapper, User, check_email, excerpt},
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn everything() -> MappingSpec {
    spec(|spec| {
        spec.events = vec![EventSelector::All];
        spec.development = SkipOrForward::Forward;
    })
}

fn mapper() -> Mapper {
    Mapper::new(&everything(), ProjectType::Hybrid, None).unwrap()
}

/// Returns any JSON value of limited size.
fn any_json() -> impl Strategy<Value = Value> + Clone {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        prop::sample::select(vec![
            "email",
            "customer_id",
            "ada@example.com",
            "purchase",
            "media",
            "1764057600000",
            "alias"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(".{0,6}", inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Returns an object with a few of these members, with any values.
fn object_of(names: &'static [&'static str]) -> impl Strategy<Value = Value> + Clone {
    prop::collection::btree_map(prop::sample::select(names), any_json(), 0..6).prop_map(|members| {
        members
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect::<Map<_, _>>()
            .into()
    })
}

const TYPES: [&str; 22] = [
    "session_start",
    "session_end",
    "screen_view",
    "custom_event",
    "commerce_event",
    "application_state_transition",
    "first_run",
    "uninstall",
    "push_registration",
    "push_message",
    "push_reaction",
    "opt_out",
    "crash_report",
    "network_performance",
    "breadcrumb",
    "profile",
    "user_attribute_change",
    "user_identity_change",
    "pre_attribution",
    "never_seen",
    "",
    "SCREEN_VIEW",
];

fn any_event() -> impl Strategy<Value = Value> {
    let data = object_of(&[
        "timestamp_unixtime_ms",
        "event_id",
        "source_message_id",
        "session_uuid",
        "custom_attributes",
        "location",
        "screen_name",
        "activity_type",
        "event_name",
        "custom_event_type",
        "product_action",
        "promotion_action",
        "product_impressions",
        "shopping_cart",
        "application_transition_type",
        "new",
        "old",
        "session_duration_ms",
        "data",
    ]);
    let named = (data.clone(), 0_u32..9, 0_i64..9).prop_map(|(mut data, id, millis)| {
        data["source_message_id"] = json!(format!("message-{id}"));
        data["timestamp_unixtime_ms"] = json!(1_764_057_600_000i64 + millis);
        data
    });
    let event = (
        prop::sample::select(TYPES.to_vec()),
        prop_oneof![4 => named, 2 => data, 1 => any_json()],
    )
        .prop_map(|(event_type, data)| json!({"event_type": event_type, "data": data}));
    prop_oneof![6 => event, 1 => any_json()]
}

fn any_batch() -> impl Strategy<Value = Value> {
    let envelope = object_of(&[
        "environment",
        "mpid",
        "mp_deviceid",
        "timestamp_unixtime_ms",
        "user_identities",
        "device_info",
        "application_info",
        "source_info",
        "request_type",
        "schema_version",
        "body",
        "Message",
        "Type",
    ]);
    (
        envelope,
        prop::collection::vec(any_event(), 0..6),
        any::<bool>(),
    )
        .prop_map(|(mut batch, events, has_user)| {
            batch["events"] = Value::Array(events);
            if has_user {
                batch["user_identities"] = json!({"email": "ada@example.com"});
            }
            batch
        })
}

fn sources(mapped: &MappedBody) -> Vec<EventPosition> {
    let events = mapped.events.iter().map(|event| event.source());
    let skipped = mapped.skipped.iter().map(|skipped| skipped.source);
    let rejected = mapped.rejected.iter().map(|rejected| rejected.source);
    events.chain(skipped).chain(rejected).collect()
}

fn ids(mapped: &MappedBody) -> Vec<String> {
    mapped
        .events
        .iter()
        .map(|event| event.id().to_owned())
        .collect()
}

/// Appends the value with the members of every object in reverse order.
fn reversed(value: &Value, text: &mut String) {
    match value {
        Value::Object(members) => {
            text.push('{');
            for (index, (name, value)) in members.iter().rev().enumerate() {
                text.push_str(if index > 0 { " , " } else { "" });
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push_str(" : ");
                reversed(value, text);
            }
            text.push('}');
        }
        Value::Array(elements) => {
            text.push('[');
            for (index, element) in elements.iter().enumerate() {
                text.push_str(if index > 0 { ",\n" } else { "" });
                reversed(element, text);
            }
            text.push(']');
        }
        other => text.push_str(&other.to_string()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_mapped_or_rejected(body in any::<String>()) {
        let _ = mapper().map(&body, None);
    }

    #[test]
    fn any_json_is_mapped_or_rejected(body in any_json()) {
        let body = body.to_string();
        for body in [body.clone(), format!("[{body}]"), format!("{{\"events\":{body}}}"), format!("{{\"mpid\":1,\"events\":[{body}]}}")] {
            let _ = mapper().map(&body, None);
        }
    }

    #[test]
    fn every_event_is_forwarded_skipped_or_rejected_once(batch in any_batch()) {
        prop_assume!(batch["request_type"] != "alias");
        let count = batch["events"].as_array().map_or(0, Vec::len);
        let mapped = mapper().map(&batch.to_string(), None).unwrap();
        let expected: Vec<_> = (0..).take(count).map(|event| EventPosition { batch: 0, event }).collect();
        let mut found = sources(&mapped);
        found.sort();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn forwarded_events_are_valid_for_a_request(batch in any_batch()) {
        let mapped = mapper().map(&batch.to_string(), None).unwrap();
        for event in &mapped.events {
            let json: Value = serde_json::from_str(event.json()).unwrap();
            prop_assert!(!event.json().contains('\n'));
            prop_assert!(json["email"].is_string() != json["userId"].is_string());
            if let User::Email(email) = event.user() {
                prop_assert!(check_email(email).is_ok());
                prop_assert_eq!(email, email.to_lowercase());
            }
            let name = json["eventName"].as_str().unwrap();
            prop_assert!(!name.trim().is_empty() && name.chars().count() <= 256);
            prop_assert!(event.id().len() <= 512 && event.id().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
            prop_assert!(json["createdAt"].is_null() || json["createdAt"].is_i64());
            for (name, value) in json["dataFields"].as_object().unwrap() {
                prop_assert!(!value.is_null());
                prop_assert!(!name.contains([',', '#', '.']) && !name.starts_with('_') && !name.trim().is_empty());
                prop_assert!(!name.bytes().all(|byte| byte.is_ascii_digit()));
            }
        }
    }

    #[test]
    fn ids_ignore_member_order_and_whitespace(batch in any_batch()) {
        let mapped = mapper().map(&batch.to_string(), None).unwrap();
        let mut other = String::new();
        reversed(&batch, &mut other);
        prop_assert_eq!(ids(&mapped), ids(&mapper().map(&other, None).unwrap()));
    }

    #[test]
    fn ids_ignore_batch_boundaries(batch in any_batch(), cut in 0usize..6) {
        prop_assume!(batch["request_type"] != "alias");
        let complete = mapper().map(&batch.to_string(), None).unwrap();
        let events = batch["events"].as_array().unwrap();
        let (first, second) = events.split_at(cut.min(events.len()));
        let part = |events: &[Value], batch_id: u64| {
            let mut part = batch.clone();
            part["events"] = Value::from(events.to_vec());
            part["batch_id"] = json!(batch_id);
            part["schema_version"] = json!(2);
            part
        };
        let parts = json!([part(first, 1), part(second, 2)]).to_string();
        prop_assert_eq!(ids(&complete), ids(&mapper().map(&parts, None).unwrap()));
    }

    #[test]
    fn excerpt_maps_to_the_same_ids(batches in prop::collection::vec(any_batch(), 1..4), pick in any::<u64>()) {
        let body = Value::from(batches).to_string();
        let Ok(mapped) = mapper().map(&body, None) else { return Ok(()) };
        let kept: Vec<_> = mapped
            .events
            .iter()
            .enumerate()
            .filter(|(index, _)| pick >> (index % 64) & 1 == 1)
            .map(|(_, event)| (event.source(), event.id().to_owned()))
            .collect();
        if kept.is_empty() {
            return Ok(());
        }
        let sources: Vec<_> = kept.iter().map(|(source, _)| *source).collect();
        let remapped = mapper().map(&excerpt(&body, &sources).unwrap().body, None).unwrap();
        prop_assert_eq!(ids(&remapped), kept.into_iter().map(|(_, id)| id).collect::<Vec<_>>());
    }

    #[test]
    fn different_events_have_different_ids(left in any_event(), right in any_event()) {
        let names = |event: &Value| {
            let data = &event["data"];
            (event["event_type"].clone(), data["source_message_id"].clone(), data["event_id"].clone(), data.clone())
        };
        let body = json!({"mpid": 1, "user_identities": {"email": "a@b.com"}, "events": [left, right]});
        let mapped = mapper().map(&body.to_string(), None).unwrap();
        if let [one, two] = mapped.events.as_slice() && one.id() == two.id() {
            let (left, right) = (names(&left), names(&right));
            prop_assert_eq!(left.0, right.0);
            // Equal IDs need an equal message ID, or one without, or equal content.
            prop_assert!(left.1 == right.1 || left.1.is_null() || right.1.is_null() || left.3 == right.3 || equal_as_strings(&left.1, &right.1));
        }
    }
}

fn equal_as_strings(left: &Value, right: &Value) -> bool {
    let text = |value: &Value| match value {
        Value::String(text) => text.to_lowercase(),
        Value::Object(_) | Value::Array(_) => String::new(),
        other => other.to_string(),
    };
    text(left) == text(right)
}

#[test]
fn mapper_can_be_shared_between_threads() {
    fn is_shared<T: Send + Sync>(_: &T) {}
    let mapper = mapper();
    is_shared(&mapper);
    let body = crate::support::batch(&[("screen_view", json!({}))]);
    let ids: BTreeSet<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| ids(&mapper.map(&body, None).unwrap())))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(ids.len(), 1);
}
