//! Complete runs.

use event_forwarder::drain::report::Outcome;
use event_forwarder_test_support::{iterable::Fault, sqs::Kind};
use serde_json::json;

use crate::world::{EVENT_TIME_MS, Setting, World, batch, batches};

on_each_server!(
    run_drains_a_queue,
    event_keeps_its_time,
    event_changes_are_counted_by_reason,
    run_ends_immediately_when_queue_is_empty,
    invalid_message_stays_in_the_queue,
    run_releases_messages_when_key_is_rejected,
    run_receives_ten_messages_when_iterable_is_down,
    run_delivers_everything_after_temporary_errors,
    rejected_event_is_dead_lettered_with_its_reason,
);

async fn run_drains_a_queue(kind: Kind) {
    let count = if kind == Kind::Moto { 120 } else { 1_000 };
    let world = World::new(Setting::on(kind)).await;
    world.queue.send(&batches(count, 3)).await.unwrap();
    let report = world.drain().await;
    assert_eq!(report.outcome, Outcome::Drained, "{report:?}");
    // SQS can deliver a message twice; the report counts duplicates separately.
    assert_eq!(
        report.messages.received - report.messages.duplicate,
        count as u64
    );
    assert_eq!(report.messages.deleted, count as u64);
    assert_eq!(report.events.forwarded, 3 * count as u64);
    assert_eq!(
        world.iterable.handle.summary().events.stored,
        3 * count as u64
    );
    let depth = world.queue.depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight), (0, 0));
    let tens = count.div_ceil(10) as u64;
    // The attributes of two queues, the depth, an empty receive, and a spare one.
    assert!(
        report.requests.sqs <= 2 * tens + 5,
        "{} requests to SQS",
        report.requests.sqs
    );
}

async fn event_keeps_its_time(kind: Kind) {
    let world = World::new(Setting::on(kind)).await;
    world.queue.send(&batches(1, 1)).await.unwrap();
    let report = world.drain().await;
    assert_eq!(report.events.forwarded, 1);
    let events = world.iterable.handle.events();
    let seconds = EVENT_TIME_MS.div_euclid(1_000);
    assert_eq!(events[0].event["createdAt"], seconds);
}

async fn event_changes_are_counted_by_reason(kind: Kind) {
    let world = World::new(Setting::on(kind)).await;
    let fields = |n: u32| json!({"n": n, "_renamed": 1, "long": "x".repeat(33_000)});
    let events = [("Viewed", fields(1)), ("Viewed", fields(2))];
    let body = batch("ada@example.com", events);
    world.queue.send(&[body]).await.unwrap();
    let report = world.drain().await;
    assert_eq!(report.events.forwarded, 2);
    let mut counted: Vec<_> = report
        .reasons
        .iter()
        .map(|counted| (counted.reason.as_str(), counted.count))
        .collect();
    counted.sort_unstable();
    assert_eq!(counted, [("FieldRenamed", 2), ("FieldTooLong", 2)]);
}

async fn run_ends_immediately_when_queue_is_empty(kind: Kind) {
    let world = World::new(Setting::on(kind)).await;
    let report = world.drain().await;
    assert_eq!(report.outcome, Outcome::Drained);
    // The attributes of the queue and of its dead-letter queue, the depth, and one receive.
    assert_eq!((report.requests.sqs, report.requests.iterable), (4, 0));
}

async fn invalid_message_stays_in_the_queue(kind: Kind) {
    let world = World::new(Setting::on(kind)).await;
    world
        .queue
        .send(&["no batch".to_owned(), batches(1, 1).remove(0)])
        .await
        .unwrap();
    let report = world.drain().await;
    assert_eq!(report.outcome, Outcome::Drained);
    assert_eq!((report.messages.deleted, report.messages.released), (1, 1));
    assert!(
        report
            .message
            .unwrap()
            .contains("could not parse a message")
    );
    assert_eq!(world.queue.depth().await.unwrap().in_flight, 1);
}

async fn run_releases_messages_when_key_is_rejected(kind: Kind) {
    let world = World::new(Setting::on(kind)).await;
    world.queue.send(&batches(30, 1)).await.unwrap();
    let report =
        event_forwarder::drain::drain(world.plan("wrong-key"), std::future::pending()).await;
    assert_eq!(report.outcome, Outcome::ApiKeyRejected);
    assert_eq!((report.messages.received, report.messages.deleted), (10, 0));
    assert_eq!(report.requests.iterable, 1);
    assert_eq!(world.queue.depth().await.unwrap().visible, 30);
    assert!(
        !serde_json::to_string(&report)
            .unwrap()
            .contains("wrong-key")
    );
}

async fn run_receives_ten_messages_when_iterable_is_down(kind: Kind) {
    let world = World::new(Setting::on(kind)).await;
    world.queue.send(&batches(200, 1)).await.unwrap();
    world
        .iterable
        .handle
        .add_fault(Fault::answer(503, "<html>"));
    let report = world.drain().await;
    assert_eq!(report.outcome, Outcome::SinkDown, "{report:?}");
    assert_eq!(
        (report.messages.received, report.messages.released),
        (10, 10)
    );
    assert_eq!(report.requests.iterable, 5);
    assert_eq!(world.queue.depth().await.unwrap().visible, 200);
}

async fn run_delivers_everything_after_temporary_errors(kind: Kind) {
    let world = World::new(Setting::on(kind)).await;
    for fault in [
        Fault::answer(503, "<html>"),
        Fault::reset(),
        Fault::cut().stored(),
        Fault::answer(429, r#"{"code":"RateLimitExceeded"}"#).header("Retry-After", "1"),
        Fault::truncated(),
        Fault::answer(200, "<html>a proxy's page"),
        Fault::answer(500, r#"{"code":"Success","msg":"odd"}"#),
    ] {
        world.iterable.handle.reset();
        world.iterable.handle.add_fault(fault.times(2));
        world.queue.send(&batches(60, 2)).await.unwrap();
        let report = world.drain().await;
        assert_eq!(report.outcome, Outcome::Drained, "{report:?}");
        assert_eq!(
            (report.events.forwarded, report.messages.deleted),
            (120, 60)
        );
        assert_eq!(world.iterable.handle.summary().events.stored, 120);
        let depth = world.queue.depth().await.unwrap();
        assert_eq!((depth.visible, depth.in_flight), (0, 0));
    }
}

async fn rejected_event_is_dead_lettered_with_its_reason(kind: Kind) {
    let world = World::new(Setting::on(kind)).await;
    world
        .queue
        .send(&[
            batch(
                "ada@example.com",
                [("Bought", json!({"n": 1})), ("Secret", json!({"n": 2}))],
            ),
            batch("bob@example.com", [("Bought", json!({"n": 3}))]),
        ])
        .await
        .unwrap();
    world.iterable.handle.disallow_event_name("Secret");
    let report = world.drain().await;
    assert_eq!(report.outcome, Outcome::Drained, "{report:?}");
    assert_eq!(
        (report.messages.deleted, report.messages.dead_lettered),
        (2, 1)
    );
    assert_eq!((report.events.forwarded, report.events.rejected), (2, 1));
    let dead_letters = world.dead_letters().await;
    assert_eq!(dead_letters.len(), 1);
    let body = dead_letters[0].body.as_deref().unwrap();
    assert!(body.contains("Secret") && !body.contains("Bought"));
    let attributes = dead_letters[0].message_attributes.as_ref().unwrap();
    let reason = attributes["EventForwarderReason"].string_value().unwrap();
    assert_eq!(reason, "DisallowedEventName");
}
