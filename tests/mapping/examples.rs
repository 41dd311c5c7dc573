//! The mapping examples behave as their first lines describe.

use crate::support::{batch, sample};
use event_forwarder::{
    api::EventForwarder,
    mapping::{MappedBody, Mapper, SkipReason, User},
};
use serde_json::{Value, json};

fn example(name: &str) -> Mapper {
    let text = std::fs::read_to_string(format!("examples/mapping/{name}.yaml")).unwrap();
    let forwarder: EventForwarder = serde_saphyr::from_str(&text).unwrap();
    Mapper::new(
        &forwarder.spec.mapping,
        forwarder.spec.iterable.project_type,
        None,
    )
    .unwrap()
}

fn events(mapped: &MappedBody) -> Vec<Value> {
    mapped
        .events
        .iter()
        .map(|event| serde_json::from_str(event.json()).unwrap())
        .collect()
}

#[test]
fn one_event_per_screen() {
    let mapped = example("one-event-per-screen")
        .map(&sample("01"), None)
        .unwrap();
    let names: Vec<_> = mapped
        .events
        .iter()
        .map(|event| event.event_name())
        .collect();
    assert_eq!(names, ["Viewed Home", "Viewed Product Detail"]);
    assert!(
        mapped
            .skipped
            .iter()
            .all(|skipped| skipped.reason == SkipReason::NotSelected)
    );
}

#[test]
fn user_id_project() {
    let mapper = example("user-id-project");
    // The sample's user has other_id_2 "x-9".
    let mapped = mapper.map(&sample("05"), None).unwrap();
    assert!(!mapped.events.is_empty());
    assert!(
        mapped
            .events
            .iter()
            .all(|event| event.user() == User::UserId("x-9"))
    );
    let without = mapper.map(&sample("01"), None).unwrap();
    assert!(without.events.is_empty());
    assert!(
        without
            .skipped
            .iter()
            .all(|skipped| skipped.reason == SkipReason::NoUser)
    );
}

#[test]
fn anonymous_visitors() {
    let mapped = example("anonymous-visitors")
        .map(&sample("09"), None)
        .unwrap();
    assert!(!mapped.events.is_empty());
    for event in &mapped.events {
        let User::Email(email) = event.user() else {
            panic!("{event:?}")
        };
        assert!(email.ends_with("@placeholder.email"), "{email}");
    }
    let located = example("anonymous-visitors")
        .map(&sample("01"), None)
        .unwrap();
    let home = &events(&located)[1];
    assert_eq!(home["dataFields"]["city_name"], "London");
    assert_eq!(home["dataFields"]["locale_country"], "GB");
}

#[test]
fn no_personal_data() {
    let attributes = json!({"contact": "Bob@Example.com", "phone": "+44 20 7946 0000", "sku": "SKU-1", "count": 7,
                            "list": ["x", "bob@example.com"], "day": "2025-11-25",
                            "form": {"steps": [{"answer": "bob@example.com", "step": 2}]}});
    let body = batch(&[
        (
            "screen_view",
            json!({"screen_name": "Form", "custom_attributes": attributes}),
        ),
        (
            "application_state_transition",
            json!({"application_transition_type": "application_foreground",
            "launch_referral": "https://example.com/a?email=bob@example.com"}),
        ),
        (
            "commerce_event",
            json!({"product_action": {"action": "click", "products": [
                {"id": "SKU-1", "custom_attributes": {"gift_for": "bob@example.com", "size": "42"}}]}}),
        ),
    ]);
    let mapped = example("no-personal-data").map(&body, None).unwrap();
    assert!(mapped.rejected.is_empty(), "{:?}", mapped.rejected);
    let events = events(&mapped);
    let fields = events[0]["dataFields"].as_object().unwrap();
    assert!(
        !fields.contains_key("contact") && !fields.contains_key("phone"),
        "{fields:?}"
    );
    assert_eq!(
        (
            &fields["sku"],
            &fields["count"],
            &fields["day"],
            &fields["list"],
        ),
        (
            &json!("SKU-1"),
            &json!(7),
            &json!("2025-11-25"),
            &json!(["x"])
        )
    );
    assert_eq!(fields["form"], json!({"steps": [{"step": 2}]}));
    let product = &events[2]["dataFields"]["products"][0];
    assert_eq!(
        product,
        &json!({"id": "SKU-1", "custom_attributes": {"size": "42"}})
    );
    for event in &events {
        assert!(!event.to_string().contains("bob@example.com"), "{event}");
    }
    let test_account = body.replace("ada@example.com", "robot@test.example.com");
    let dropped = example("no-personal-data")
        .map(&test_account, None)
        .unwrap();
    assert!(
        dropped
            .skipped
            .iter()
            .all(|skipped| skipped.reason == SkipReason::DroppedByTransform)
    );
    assert_eq!(dropped.skipped.len(), 3);
}

#[test]
fn instead_of_mparticles_connection() {
    let mapper = example("instead-of-mparticles-connection");
    let custom = events(&mapper.map(&sample("02"), None).unwrap());
    let quiz = custom
        .iter()
        .find(|event| event["eventName"] == "Quiz Completed")
        .unwrap();
    assert_eq!(quiz["dataFields"]["score"], 42);
    assert_eq!(quiz["dataFields"]["passed"], true);
    assert_eq!(quiz["dataFields"]["event_time_ms"], 1_764_057_600_010i64);
    let typed = custom
        .iter()
        .find(|event| event["eventName"] == "Typed Values")
        .unwrap();
    assert_eq!(typed["dataFields"]["date"], "2025-11-25 08:00:00 +00:00");
    assert_eq!(typed["dataFields"]["int64"], i64::MAX);
    let commerce = mapper.map(&sample("03"), None).unwrap();
    assert_eq!(commerce.events.len(), 10);
    assert!(
        commerce
            .events
            .iter()
            .any(|event| event.event_name() == "Purchase")
    );
}
