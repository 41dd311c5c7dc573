//! What becomes of rejected events where the forwarder wants no dead letters, and of fields that
//! don't fit.

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
    a_rejected_event_is_discarded_and_counted_where_the_forwarder_wants_it,
    the_message_of_a_rejected_event_is_left_to_sqs_where_the_forwarder_wants_it,
    a_field_of_another_type_is_left_out_where_the_forwarder_wants_it,
    an_event_with_a_field_of_another_type_is_dead_lettered_by_default,
);

/// Two messages, one of them with an event that the project refuses beside one that it takes.
async fn with_a_refused_event(kind: Kind, rejected: &str) -> World {
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
    let fine = |n: u32| ("Fine", json!({"n": n}));
    let bodies = [
        batch("ada@example.com", [fine(1), ("Secret", json!({"n": 2}))]),
        batch("bob@example.com", [fine(3)]),
    ];
    world.queue.send(&bodies).await.unwrap();
    world
}

/// By the field `n`, how often each event was written.
fn writes(world: &World) -> BTreeMap<u64, u32> {
    let events = world.iterable.handle.events();
    let number = |event: &Value| event["dataFields"]["n"].as_u64().unwrap();
    events
        .iter()
        .map(|event| (number(&event.event), event.writes))
        .collect()
}

/// How many messages are still in the queue.
async fn left(world: &World) -> u64 {
    let depth = world.queue.depth().await.unwrap();
    depth.visible + depth.in_flight
}

async fn a_rejected_event_is_discarded_and_counted_where_the_forwarder_wants_it(kind: Kind) {
    let world = with_a_refused_event(kind, "Drop").await;
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
    assert_eq!(left(&world).await, 0);
    assert_eq!(world.queue.dlq_depth().await.unwrap().visible, 0);
}

async fn the_message_of_a_rejected_event_is_left_to_sqs_where_the_forwarder_wants_it(kind: Kind) {
    let world = with_a_refused_event(kind, "Leave").await;
    let report = world.drain().await;
    assert_eq!(report.outcome, Outcome::Drained, "{report:?}");
    let (messages, events) = (&report.messages, &report.events);
    assert_eq!((messages.deleted, messages.dead_lettered), (1, 0));
    assert!(messages.released > 0, "{report:?}");
    assert_eq!(events.forwarded, 2);
    assert_eq!(report.reasons[0].reason, "DisallowedEventName");
    assert_eq!(left(&world).await, 1);
    assert_eq!(world.queue.dlq_depth().await.unwrap().visible, 0);

    // Each run tries again, until SQS moves the message: as it was, with all of its events.
    let deadline = Instant::now() + Duration::from_secs(90);
    while world.queue.dlq_depth().await.unwrap().visible == 0 {
        assert!(Instant::now() < deadline, "the message is never moved");
        let report = world.drain().await;
        assert_eq!(report.messages.dead_lettered, 0, "{report:?}");
        sleep(Duration::from_secs(1)).await;
    }
    let letters = world.dead_letters().await;
    assert_eq!(letters.len(), 1);
    let body = letters[0].body.as_ref().unwrap();
    assert!(body.contains("Secret") && body.contains("Fine"), "{body}");
    assert!(letters[0].message_attributes.is_none(), "no run sent it");
    assert_eq!(left(&world).await, 0);
    let taken: Vec<_> = writes(&world).into_keys().collect();
    assert_eq!(taken, [1, 3]);
}

/// A project that knows the field `price` as a number, and a queue with two events, one of which
/// has it as a text.
async fn with_a_type_conflict(kind: Kind, project: Value) -> World {
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

async fn a_field_of_another_type_is_left_out_where_the_forwarder_wants_it(kind: Kind) {
    let world = with_a_type_conflict(kind, json!({"typeConflicts": "DropField"})).await;
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

async fn an_event_with_a_field_of_another_type_is_dead_lettered_by_default(kind: Kind) {
    let world = with_a_type_conflict(kind, json!({})).await;
    let report = world.drain().await;
    assert_eq!(
        (report.messages.deleted, report.messages.dead_lettered),
        (2, 1),
        "{report:?}"
    );
    assert_eq!((report.events.forwarded, report.events.rejected), (1, 1));
    let taken: Vec<_> = writes(&world).into_keys().collect();
    assert_eq!(taken, [1, 2]);
    let letters = world.dead_letters().await;
    let attributes = letters[0].message_attributes.as_ref().unwrap();
    assert_eq!(
        attributes["EventForwarderReason"].string_value(),
        Some("RequestFieldsTypesMismatched")
    );
}
