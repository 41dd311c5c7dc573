//! The visibility timeout of messages that a run holds.

use std::time::Duration;

use event_forwarder::drain::report::Outcome;
use event_forwarder_test_support::{
    iterable::Fault,
    sqs::{Attributes, Kind},
};
use serde_json::json;

use crate::{
    tap::Tap,
    world::{Setting, World, batches},
};

on_each_server!(
    messages_stay_invisible_while_iterable_is_slow,
    forwarder_visibility_timeout_overrides_queue,
    zero_visibility_timeout_requires_forwarder_timeout,
    released_message_stays_invisible_until_its_timeout,
);

async fn messages_stay_invisible_while_iterable_is_slow(kind: Kind) {
    let timeout = Duration::from_secs(6);
    let mut world = World::new(Setting {
        queue: Attributes {
            visibility_timeout: timeout,
            ..Attributes::default()
        },
        ..Setting::on(kind)
    })
    .await;
    let tap = Tap::start(&world.sqs.endpoint()).await;
    world.spec.queue.endpoint = Some(tap.url.clone());
    world.queue.send(&batches(20, 1)).await.unwrap();
    let gate = world.iterable.handle.gate("slow");
    world
        .iterable
        .handle
        .add_fault(Fault::hold("slow").times(1));
    let (report, ()) = tokio::join!(world.drain(), async {
        gate.until_held(1).await;
        // After three timeouts without extensions, all would be redelivered.
        tokio::time::sleep(3 * timeout).await;
        gate.open();
    });
    assert_eq!(report.outcome, Outcome::Drained, "{report:?}");
    assert_eq!(
        (report.messages.deleted, report.messages.duplicate),
        (20, 0),
        "{report:?}"
    );
    assert_eq!(world.iterable.handle.summary().events.writes, 20);

    let receives = tap.bodies("ReceiveMessage");
    assert!(!receives.is_empty());
    assert!(
        receives
            .iter()
            .all(|receive| receive.get("VisibilityTimeout").is_none())
    );
    let extensions = tap.bodies("ChangeMessageVisibilityBatch");
    assert!(
        extensions.len() >= 7,
        "at a third of the timeout or earlier: {}",
        extensions.len()
    );
    for extension in extensions {
        let entries = extension["Entries"].as_array().unwrap();
        assert_eq!(entries.len(), 10, "all messages in flight, in one request");
        assert!(
            entries.iter().all(|entry| entry["VisibilityTimeout"] == 6),
            "by a full timeout"
        );
    }
}

async fn zero_visibility_timeout_requires_forwarder_timeout(kind: Kind) {
    let mut world = World::new(Setting {
        queue: Attributes {
            visibility_timeout: Duration::ZERO,
            ..Attributes::default()
        },
        ..Setting::on(kind)
    })
    .await;
    world.queue.send(&batches(3, 1)).await.unwrap();
    let report = world.drain().await;
    assert_eq!(report.outcome, Outcome::BadConfiguration, "{report:?}");
    let message = report.message.unwrap();
    assert!(
        message.contains("spec.drain.visibilityTimeout"),
        "{message}"
    );
    assert_eq!(world.iterable.handle.requests().len(), 0);

    world.spec.drain.visibility_timeout = serde_json::from_value(json!("10s")).unwrap();
    let report = world.drain().await;
    assert_eq!(report.outcome, Outcome::Drained, "{report:?}");
    assert_eq!(report.messages.deleted, 3);
}

async fn forwarder_visibility_timeout_overrides_queue(kind: Kind) {
    let mut world = World::new(Setting {
        drain: json!({"visibilityTimeout": "45s"}),
        ..Setting::on(kind)
    })
    .await;
    let tap = Tap::start(&world.sqs.endpoint()).await;
    world.spec.queue.endpoint = Some(tap.url.clone());
    world.queue.send(&batches(3, 1)).await.unwrap();
    world.drain().await;
    let receives = tap.bodies("ReceiveMessage");
    assert!(!receives.is_empty());
    assert!(
        receives
            .iter()
            .all(|receive| receive["VisibilityTimeout"] == 45)
    );
}

async fn released_message_stays_invisible_until_its_timeout(kind: Kind) {
    let world = World::new(Setting::on(kind)).await;
    world.queue.send(&["no batch"]).await.unwrap();
    let report = world.drain().await;
    assert_eq!((report.messages.received, report.messages.released), (1, 1));
    let depth = world.queue.depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight), (0, 1));
}
