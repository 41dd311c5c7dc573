//! What ends a run.

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
    empty_is_believed_after_a_receive_that_asked_every_host,
    the_most_messages_of_a_run_are_kept_to,
    a_deadline_ends_a_run_with_nothing_held,
    a_queue_that_fills_as_fast_as_it_drains_ends_a_run,
    a_queue_that_is_deleted_ends_a_run,
    an_outage_of_five_runs_touches_ten_messages_a_run,
);

async fn empty_is_believed_after_a_receive_that_asked_every_host(kind: Kind) {
    let mut world = World::new(Setting::on(kind)).await;
    let tap = Tap::start(&world.sqs.endpoint()).await;
    world.spec.queue.endpoint = Some(tap.url.clone());
    world.queue.send(&batches(12, 1)).await.unwrap();
    let report = world.drain().await;
    assert_eq!(report.outcome, Outcome::Drained);
    // SQS asks all its hosts when a receive may wait for a second or longer.
    let receives = tap.bodies("ReceiveMessage");
    assert!(receives.len() >= 3);
    assert!(
        receives
            .iter()
            .all(|receive| receive["WaitTimeSeconds"] == 1)
    );
}

async fn the_most_messages_of_a_run_are_kept_to(kind: Kind) {
    let world = World::new(Setting {
        drain: json!({"maxMessages": 25}),
        ..Setting::on(kind)
    })
    .await;
    world.queue.send(&batches(60, 1)).await.unwrap();
    let report = world.drain().await;
    assert_eq!(report.outcome, Outcome::LimitReached, "{report:?}");
    // Moto may hand one message to two receives at once.
    let messages = &report.messages;
    let deleted = 25 - messages.duplicate;
    assert_eq!((messages.received, messages.deleted), (25, deleted));
    let depth = world.queue.depth().await.unwrap();
    let left = 60 - deleted;
    assert_eq!((depth.visible, depth.in_flight), (left, 0));
}

async fn a_deadline_ends_a_run_with_nothing_held(kind: Kind) {
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

async fn a_queue_that_fills_as_fast_as_it_drains_ends_a_run(kind: Kind) {
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
    let trickle = async {
        for few in bodies.chunks(3) {
            world.queue.send(few).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let report = tokio::select! {
        report = world.drain() => report,
        () = trickle => panic!("the run goes on as long as messages come"),
    };
    assert_eq!(report.outcome, Outcome::Drained, "{report:?}");
    let messages = &report.messages;
    assert_eq!(messages.received, messages.deleted + messages.duplicate);
}

async fn a_queue_that_is_deleted_ends_a_run(kind: Kind) {
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

async fn an_outage_of_five_runs_touches_ten_messages_a_run(kind: Kind) {
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
    // Five tries a run.
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
