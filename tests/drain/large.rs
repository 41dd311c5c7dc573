//! Payloads in S3, as SQS's extended client stores them, and large messages.

use std::time::Duration;

use aws_sdk_s3::{
    Client,
    config::{BehaviorVersion, Builder, Credentials, Region},
};
use aws_sdk_sqs::types::QueueAttributeName;
use event_forwarder::{
    drain::report::Outcome,
    sqs::{QueueClient, Room, Squeeze},
};
use event_forwarder_test_support::sqs::Kind;
use serde_json::json;
use tokio::sync::mpsc;

use crate::world::{Setting, World, batch, batches, server};

on_each_server!(
    s3_payloads_are_sent_and_deleted_with_message,
    s3_payloads_over_the_memory_budget_are_sent,
    s3_pointer_stays_in_queue_without_listed_buckets,
    large_messages_are_sent_within_memory_budget,
    large_receive_response_waits_for_memory,
);

/// Creates a bucket on moto, on every SQS server, because ElasticMQ has no S3.
async fn s3(bucket: &str) -> Client {
    let client = Client::from_conf(
        Builder::new()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .endpoint_url(server(Kind::Moto).await.endpoint())
            .force_path_style(true)
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build(),
    );
    client.create_bucket().bucket(bucket).send().await.unwrap();
    client
}

fn pointer(class: &str, bucket: &str, key: &str) -> String {
    json!([class, {"s3BucketName": bucket, "s3Key": key}]).to_string()
}

const CLASS: &str = "software.amazon.payloadoffloading.PayloadS3Pointer";
const OLD_CLASS: &str = "com.amazon.sqs.javamessaging.MessageS3Pointer";

async fn s3_payloads_are_sent_and_deleted_with_message(kind: Kind) {
    let mut world = World::new(Setting {
        ..Setting::on(kind)
    })
    .await;
    let bucket = format!("payloads-{kind}");
    let client = s3(&bucket).await;
    world.spec.queue.large_payloads = serde_json::from_value(
        json!({"buckets": [bucket], "endpoint": server(Kind::Moto).await.endpoint()}),
    )
    .unwrap();
    let long = "x".repeat(30_000);
    let large = batch(
        "ada@example.com",
        (0..50).map(|n| ("Viewed", json!({"n": n.to_string(), "text": long}))),
    );
    assert!(large.len() > 1_400_000);
    for key in ["one", "two/2"] {
        let body = large
            .replace("ada@", &format!("{}@", &key[..3]))
            .into_bytes();
        client
            .put_object()
            .bucket(&bucket)
            .key(key)
            .body(body.into())
            .send()
            .await
            .unwrap();
    }
    world
        .queue
        .send(&[
            pointer(CLASS, &bucket, "one"),
            pointer(OLD_CLASS, &bucket, "two/2"),
            pointer(CLASS, &bucket, "missing"),
            pointer(CLASS, "elsewhere", "one"),
            batches(1, 1).remove(0),
        ])
        .await
        .unwrap();
    let report = world.drain().await;
    assert_eq!(report.outcome, Outcome::Drained, "{report:?}");
    assert_eq!(
        (report.messages.deleted, report.messages.released),
        (3, 2),
        "{report:?}"
    );
    assert_eq!(report.events.forwarded, 101, "{report:?}");
    let reasons: Vec<_> = report
        .reasons
        .iter()
        .map(|reason| reason.reason.as_str())
        .collect();
    assert!(
        reasons.contains(&"BucketNotListed") && reasons.contains(&"PayloadMissing"),
        "{reasons:?}"
    );
    let left = client
        .list_objects_v2()
        .bucket(&bucket)
        .send()
        .await
        .unwrap();
    assert_eq!(left.key_count, Some(0));
}

async fn s3_payloads_over_the_memory_budget_are_sent(kind: Kind) {
    let mut world = World::new(Setting {
        drain: json!({"maxBytesInFlight": 4_194_304}),
        ..Setting::on(kind)
    })
    .await;
    let bucket = format!("many-{kind}");
    let client = s3(&bucket).await;
    world.spec.queue.large_payloads = serde_json::from_value(
        json!({"buckets": [bucket], "endpoint": server(Kind::Moto).await.endpoint()}),
    )
    .unwrap();
    let long = "x".repeat(30_000);
    for user in 0..10 {
        let events = (0..30).map(|n| ("Viewed", json!({"n": n, "text": long})));
        let body = batch(&format!("user{user}@example.com"), events).into_bytes();
        assert!(body.len() > 900_000);
        let put = client.put_object().bucket(&bucket).key(user.to_string());
        put.body(body.into()).send().await.unwrap();
    }
    let pointers: Vec<_> = (0..10)
        .map(|user| pointer(CLASS, &bucket, &user.to_string()))
        .collect();
    world.queue.send(&pointers).await.unwrap();
    let report = world.drain().await;
    assert_eq!(report.outcome, Outcome::Drained, "{report:?}");
    assert_eq!(
        (report.messages.deleted, report.events.forwarded),
        (10, 300),
        "{report:?}"
    );
}

/// Does not run on ElasticMQ, which does not have this limit.
#[tokio::test(flavor = "multi_thread")]
async fn oversized_dead_letter_is_not_sent() {
    let world = World::new(Setting::default()).await;
    let set = world.sqs.client().set_queue_attributes();
    set.queue_url(&world.queue.dlq_url)
        .attributes(QueueAttributeName::MaximumMessageSize, "2048")
        .send()
        .await
        .unwrap();
    world.iterable.handle.disallow_event_name("Secret");
    let text = "x".repeat(3_000);
    world
        .queue
        .send(&[
            batch("ada@example.com", [("Secret", json!({"text": text}))]),
            batch("bob@example.com", [("Secret", json!({"n": 1}))]),
        ])
        .await
        .unwrap();
    let report = world.drain().await;
    assert_eq!(
        (report.messages.dead_lettered, report.messages.released),
        (1, 1),
        "{report:?}"
    );
    let reasons: Vec<_> = report
        .reasons
        .iter()
        .map(|reason| reason.reason.as_str())
        .collect();
    assert!(reasons.contains(&"DeadLetterTooLarge"), "{reasons:?}");
}

async fn s3_pointer_stays_in_queue_without_listed_buckets(kind: Kind) {
    let world = World::new(Setting::on(kind)).await;
    world
        .queue
        .send(&[pointer(CLASS, "payloads", "one")])
        .await
        .unwrap();
    let report = world.drain().await;
    assert_eq!((report.messages.deleted, report.messages.released), (0, 1));
    assert!(
        report
            .message
            .unwrap()
            .contains("spec.queue.largePayloads.buckets")
    );
}

async fn large_messages_are_sent_within_memory_budget(kind: Kind) {
    let world = World::new(Setting {
        drain: json!({"maxBytesInFlight": 8_388_608}),
        ..Setting::on(kind)
    })
    .await;
    let long = "x".repeat(30_000);
    let bodies: Vec<_> = (0..40)
        .map(|user| {
            let events = (0..34).map(|n| ("Viewed", json!({"n": n.to_string(), "text": long})));
            batch(&format!("user{user}@example.com"), events)
        })
        .collect();
    assert!(
        bodies
            .iter()
            .all(|body| body.len() > 1_000_000 && body.len() <= 1_048_576)
    );
    // The run first adapts to small messages.
    world.queue.send(&batches(200, 1)).await.unwrap();
    world.queue.send(&bodies).await.unwrap();
    let report = world.drain_until_empty().await;
    assert_eq!(report.outcome, Outcome::Drained, "{report:?}");
    assert_eq!(
        (report.messages.deleted, report.events.forwarded),
        (240, 200 + 40 * 34)
    );
    let requests = world.iterable.handle.requests();
    assert!(requests.iter().all(|request| request.bytes <= 4_000_000));
}

async fn large_receive_response_waits_for_memory(kind: Kind) {
    let world = World::new(Setting::on(kind)).await;
    let text = "x".repeat(20_000);
    world.queue.send(&vec![text.clone(); 4]).await.unwrap();
    let queue = QueueClient::connect(&world.spec.queue, world.plan("test-key").credentials)
        .await
        .unwrap();
    let (ask, mut squeezes) = mpsc::unbounded_channel();
    let room = |receive, bytes| Room {
        receive,
        bytes,
        ask: ask.clone(),
    };
    let receive = |room| queue.receive(2, Duration::from_secs(1), None, Some(room));

    let (received, ()) = tokio::join!(receive(room(7, 1_000)), async {
        let Some(Squeeze::Larger {
            receive,
            bytes,
            read,
        }) = squeezes.recv().await
        else {
            panic!("the response exceeds the memory budget");
        };
        assert_eq!(receive, 7);
        assert!(bytes.is_none_or(|bytes| bytes > 40_000), "{bytes:?}");
        read.send(()).unwrap();
    });
    let received = received.unwrap();
    assert_eq!(received.len(), 2);
    assert!(received.iter().all(|message| message.body == text));

    let (received, ()) = tokio::join!(receive(room(8, 1_000)), async {
        drop(squeezes.recv().await.unwrap());
    });
    received.unwrap_err();
}
