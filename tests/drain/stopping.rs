//! Conditions that end a run.

use std::time::Duration;

use event_forwarder::drain::report::Outcome;
use event_forwarder_test_support::{
    iterable::{Fault, Limits, Options},
    sqs::{Attributes, Kind},
};
use serde_json::json;

use crate::{
    tap::Tap,
    world::{Setting, World, batches},
};

on_each_server!(
    run_ends_only_after_a_long_poll,
    run_stops_at_max_messages,
    run_releases_messages_at_its_deadline,
    run_ends_when_messages_keep_arriving,
    run_ends_when_queue_is_deleted,
    outage_uses_ten_receives_per_run,
);

async fn run_ends_only_after_a_long_poll(kind: Kind) {
    let mut world = World::new(Setting::on(kind)).await;
    let tap = Tap::start(&world.sqs.endpoint()).await;
    world.spec.queue.endpoint = Some(tap.url.clone());
    world.queue.send(&batches(12, 1)).await.unwrap();
    let report = world.drain().await;
    assert_eq!(report.outcome, Outcome::Drained);
    // SQS queries all its hosts only if a receive waits for at least one second.
    let receives = tap.bodies("ReceiveMessage");
    assert!(receives.len() >= 3);
    assert!(
        receives
            .iter()
            .all(|receive| receive["WaitTimeSeconds"] == 1)
    );
}

async fn run_stops_at_max_messages(kind: Kind) {
    let world = World::new(Setting {
        drain: json!({"maxMessages": 25}),
        ..Setting::on(kind)
    })
    .await;
    world.queue.send(&batches(60, 1)).await.unwrap();
    let report = world.drain().await;
    assert_eq!(report.outcome, Outcome::LimitReached, "{report:?}");
    // Moto can deliver one message to two concurrent receives.
    let messages = &report.messages;
    let deleted = 25 - messages.duplicate;
    assert_eq!((messages.received, messages.deleted), (25, deleted));
    let depth = world.queue.depth().await.unwrap();
    let left = 60 - deleted;
    assert_eq!((depth.visible, depth.in_flight), (left, 0));
}

async fn run_releases_messages_at_its_deadline(kind: Kind) {
    let world = World::new(Setting {
        drain: json!({"maxDuration": "4s", "concurrency": 1}),
        iterable: Options {
            latency: Duration::from_millis(500),
            ..Options::default()
        },
        project: json!({"maxEventsPerRequest": 10}),
        ..Setting::on(kind)
    })
    .await;
    world.queue.send(&batches(200, 1)).await.unwrap();
    let report = world.drain().await;
    assert_eq!(report.outcome, Outcome::LimitReached, "{report:?}");
    assert!(report.messages.deleted > 0 && report.messages.deleted < 200);
    let depth = world.queue.depth().await.unwrap();
    assert_eq!(
        (depth.visible, depth.in_flight),
        (200 - report.messages.deleted, 0),
        "{report:?}"
    );
}

async fn run_ends_when_messages_keep_arriving(kind: Kind) {
    let world = World::new(Setting {
        iterable: Options {
            limits: Limits {
                track_bulk_rate: None,
                ..Limits::default()
            },
            ..Options::default()
        },
        project: json!({"requestsPerSecond": 1000}),
        ..Setting::on(kind)
    })
    .await;
    world.queue.send(&batches(20, 1)).await.unwrap();
    let bodies = batches(100_000, 1);
    let send_continuously = async {
        for part in bodies.chunks(3) {
            world.queue.send(part).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let report = tokio::select! {
        report = world.drain() => report,
        () = send_continuously => panic!("the run does not end while messages arrive"),
    };
    assert_eq!(report.outcome, Outcome::Drained, "{report:?}");
    let messages = &report.messages;
    assert_eq!(messages.received, messages.deleted + messages.duplicate);
}

async fn run_ends_when_queue_is_deleted(kind: Kind) {
    let world = World::new(Setting {
        project: json!({"maxEventsPerRequest": 5}),
        ..Setting::on(kind)
    })
    .await;
    world.queue.send(&batches(60, 1)).await.unwrap();
    let gate = world.iterable.handle.gate("held");
    world
        .iterable
        .handle
        .add_fault(Fault::hold("held").times(1));
    let (report, ()) = tokio::join!(world.drain(), async {
        gate.until_held(1).await;
        let client = world.sqs.client();
        client
            .delete_queue()
            .queue_url(&world.queue.url)
            .send()
            .await
            .unwrap();
        gate.open();
    });
    assert_eq!(report.outcome, Outcome::QueueDenied, "{report:?}");
    assert_eq!(report.messages.deleted, 0);
    assert!(report.message.unwrap().contains("does not exist"));
    assert!(report.requests.sqs < 20, "{} requests", report.requests.sqs);
}

async fn outage_uses_ten_receives_per_run(kind: Kind) {
    let count = if kind == Kind::Moto { 120 } else { 1_000 };
    let world = World::new(Setting {
        queue: Attributes {
            max_receive_count: 10,
            ..Attributes::default()
        },
        ..Setting::on(kind)
    })
    .await;
    world.queue.send(&batches(count, 1)).await.unwrap();
    // Five attempts per run.
    world
        .iterable
        .handle
        .add_fault(Fault::answer(503, "").times(25));
    for _ in 0..5 {
        let report = world.drain().await;
        assert_eq!(report.outcome, Outcome::SinkDown, "{report:?}");
        assert_eq!(
            (report.messages.received, report.messages.released),
            (10, 10)
        );
    }
    let report = world.drain().await;
    assert_eq!(report.outcome, Outcome::Drained, "{report:?}");
    assert_eq!(report.events.forwarded, count as u64);
}
