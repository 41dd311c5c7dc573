//! The policies for rejected events and for fields with type conflicts.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use event_forwarder::drain::report::Outcome;
use event_forwarder_test_support::sqs::{Attributes, Kind};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::world::{Setting, World, batch};

on_each_server!(
    rejected_event_is_dropped_and_counted_when_configured,
    rejected_message_is_left_to_sqs_when_configured,
    conflicting_field_is_dropped_when_configured,
    type_conflict_is_dead_lettered_by_default,
);

/// Creates a world with two messages, one of which has a rejected and an accepted event.
async fn with_rejected_event(kind: Kind, rejected: &str) -> World {
    let world = World::new(Setting {
        queue: Attributes {
            visibility_timeout: Duration::from_secs(3),
            ..Attributes::default()
        },
        drain: json!({"rejected": rejected}),
        ..Setting::on(kind)
    })
    .await;
    world.iterable.handle.disallow_event_name("Secret");
    let valid = |n: u32| ("Fine", json!({"n": n}));
    let bodies = [
        batch("ada@example.com", [valid(1), ("Secret", json!({"n": 2}))]),
        batch("bob@example.com", [valid(3)]),
    ];
    world.queue.send(&bodies).await.unwrap();
    world
}

/// Returns the number of writes of every event by its field `n`.
fn writes(world: &World) -> BTreeMap<u64, u32> {
    let events = world.iterable.handle.events();
    let number = |event: &Value| event["dataFields"]["n"].as_u64().unwrap();
    events
        .iter()
        .map(|event| (number(&event.event), event.writes))
        .collect()
}

/// Returns the number of messages in the queue.
async fn remaining(world: &World) -> u64 {
    let depth = world.queue.depth().await.unwrap();
    depth.visible + depth.in_flight
}

async fn rejected_event_is_dropped_and_counted_when_configured(kind: Kind) {
    let world = with_rejected_event(kind, "Drop").await;
    let report = world.drain().await;
    assert_eq!(report.outcome, Outcome::Drained, "{report:?}");
    let (messages, events) = (&report.messages, &report.events);
    assert_eq!(
        (messages.deleted, messages.released, messages.dead_lettered),
        (2, 0, 0)
    );
    assert_eq!((events.forwarded, events.rejected), (2, 1));
    assert_eq!(
        (report.reasons[0].reason.as_str(), report.reasons[0].count),
        ("DisallowedEventName", 1)
    );
    assert_eq!(writes(&world), BTreeMap::from([(1, 1), (3, 1)]));
    assert_eq!(remaining(&world).await, 0);
    assert_eq!(world.queue.dlq_depth().await.unwrap().visible, 0);
}

async fn rejected_message_is_left_to_sqs_when_configured(kind: Kind) {
    let world = with_rejected_event(kind, "Leave").await;
    let report = world.drain().await;
    assert_eq!(report.outcome, Outcome::Drained, "{report:?}");
    let (messages, events) = (&report.messages, &report.events);
    assert_eq!((messages.deleted, messages.dead_lettered), (1, 0));
    assert!(messages.released > 0, "{report:?}");
    assert_eq!(events.forwarded, 2);
    assert_eq!(report.reasons[0].reason, "DisallowedEventName");
    assert_eq!(remaining(&world).await, 1);
    assert_eq!(world.queue.dlq_depth().await.unwrap().visible, 0);

    // Every run retries until SQS moves the message, unchanged and with all of its events.
    let deadline = Instant::now() + Duration::from_secs(90);
    while world.queue.dlq_depth().await.unwrap().visible == 0 {
        assert!(
            Instant::now() < deadline,
            "the message is not moved in time"
        );
        let report = world.drain().await;
        assert_eq!(report.messages.dead_lettered, 0, "{report:?}");
        sleep(Duration::from_secs(1)).await;
    }
    let dead_letters = world.dead_letters().await;
    assert_eq!(dead_letters.len(), 1);
    let body = dead_letters[0].body.as_ref().unwrap();
    assert!(body.contains("Secret") && body.contains("Fine"), "{body}");
    assert!(
        dead_letters[0].message_attributes.is_none(),
        "no run sent it"
    );
    assert_eq!(remaining(&world).await, 0);
    let accepted: Vec<_> = writes(&world).into_keys().collect();
    assert_eq!(accepted, [1, 3]);
}

/// Creates a project whose field `price` is a number, and a queue with two events. In one of them,
/// `price` is a string.
async fn with_type_conflict(kind: Kind, project: Value) -> World {
    let world = World::new(Setting {
        project,
        ..Setting::on(kind)
    })
    .await;
    let priced = |n: u32, price: Value| {
        batch(
            "ada@example.com",
            [("Priced", json!({"n": n, "price": price}))],
        )
    };
    world.queue.send(&[priced(1, json!(5))]).await.unwrap();
    assert_eq!(world.drain().await.events.forwarded, 1);
    let bodies = [priced(2, json!(7)), priced(3, json!("cheap"))];
    world.queue.send(&bodies).await.unwrap();
    world
}

async fn conflicting_field_is_dropped_when_configured(kind: Kind) {
    let world = with_type_conflict(kind, json!({"typeConflicts": "DropField"})).await;
    let report = world.drain().await;
    assert_eq!(report.outcome, Outcome::Drained, "{report:?}");
    assert_eq!(
        (report.messages.deleted, report.messages.dead_lettered),
        (2, 0)
    );
    assert_eq!((report.events.forwarded, report.events.rejected), (2, 0));
    let prices: BTreeMap<_, _> = world
        .iterable
        .handle
        .events()
        .iter()
        .map(|event| {
            let fields = &event.event["dataFields"];
            (fields["n"].as_u64().unwrap(), fields["price"].as_u64())
        })
        .collect();
    assert_eq!(
        prices,
        BTreeMap::from([(1, Some(5)), (2, Some(7)), (3, None)])
    );
    let events = world.iterable.handle.events();
    assert!(
        events
            .iter()
            .all(|event| event.event["dataFields"]["price"] != "cheap")
    );
    assert_eq!(world.queue.dlq_depth().await.unwrap().visible, 0);
}

async fn type_conflict_is_dead_lettered_by_default(kind: Kind) {
    let world = with_type_conflict(kind, json!({})).await;
    let report = world.drain().await;
    assert_eq!(
        (report.messages.deleted, report.messages.dead_lettered),
        (2, 1),
        "{report:?}"
    );
    assert_eq!((report.events.forwarded, report.events.rejected), (1, 1));
    let accepted: Vec<_> = writes(&world).into_keys().collect();
    assert_eq!(accepted, [1, 2]);
    let dead_letters = world.dead_letters().await;
    let attributes = dead_letters[0].message_attributes.as_ref().unwrap();
    assert_eq!(
        attributes["EventForwarderReason"].string_value(),
        Some("RequestFieldsTypesMismatched")
    );
}
