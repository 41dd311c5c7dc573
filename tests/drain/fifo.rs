//! FIFO queues: the order within a group is kept.

use event_forwarder::drain::report::Outcome;
use event_forwarder_test_support::{
    iterable::Fault,
    sqs::{Attributes, Kind},
};
use serde_json::json;

use crate::world::{Setting, World, batch};

async fn keeps_the_order(kind: Kind) {
    let world = World::new(Setting {
        kind,
        queue: Attributes {
            fifo: true,
            ..Attributes::default()
        },
        project: json!({"maxEventsPerRequest": 7}),
        ..Setting::default()
    })
    .await;
    let bodies: Vec<_> = (0..60)
        .map(|n| {
            batch(
                "ada@example.com",
                [("Viewed", json!({"n": n})), ("Left", json!({"n": n}))],
            )
        })
        .collect();
    world.queue.send(&bodies).await.unwrap();
    world
        .iterable
        .handle
        .add_fault(Fault::answer(503, "").times(1));
    let report = world.drain().await;
    assert_eq!(report.outcome, Outcome::Drained, "{report:?}");
    assert_eq!(
        (report.messages.deleted, report.events.forwarded),
        (60, 120)
    );
    let events = world.iterable.handle.events();
    let order: Vec<_> = events
        .iter()
        .map(|event| event.event["dataFields"]["n"].as_i64().unwrap())
        .collect();
    assert!(order.is_sorted(), "{order:?}");
    assert!(events.iter().all(|event| event.writes == 1));
}

#[tokio::test]
async fn a_fifo_queue_of_fauxqs_keeps_its_order() {
    keeps_the_order(Kind::Fauxqs).await;
}

#[tokio::test]
async fn a_fifo_queue_of_elasticmq_keeps_its_order() {
    keeps_the_order(Kind::ElasticMq).await;
}

#[tokio::test]
async fn a_fifo_queue_of_moto_keeps_its_order() {
    keeps_the_order(Kind::Moto).await;
}

#[tokio::test]
async fn a_dead_letter_of_a_fifo_queue_carries_its_group() {
    let world = World::new(Setting {
        queue: Attributes {
            fifo: true,
            ..Attributes::default()
        },
        ..Setting::default()
    })
    .await;
    world.iterable.handle.disallow_event_name("Secret");
    world
        .queue
        .send(&[batch("ada@example.com", [("Secret", json!({"n": 1}))])])
        .await
        .unwrap();
    let report = world.drain().await;
    assert_eq!(
        (report.messages.dead_lettered, report.messages.deleted),
        (1, 1),
        "{report:?}"
    );
    assert_eq!(world.dead_letters().await.len(), 1);
}
