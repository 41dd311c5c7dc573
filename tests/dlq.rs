//! Dead letters listed, shown, redriven and purged, on SQS servers that others wrote.

#[path = "drain/world.rs"]
#[allow(dead_code, reason = "other test files use the rest")]
mod world;

use std::time::Duration;

use event_forwarder::{
    cli::DlqFilter,
    dlq::{self, DlqError, place::Place, walk::Walk},
};
use event_forwarder_test_support::sqs::Kind;
use serde_json::{Value, json};

use crate::world::{Setting, World, batch, batches};

/// A world with dead letters: twelve events of a name that the project refuses, and five of a
/// user that asked to be forgotten.
async fn with_dead_letters(kind: Kind) -> (World, Place) {
    let world = World::new(Setting {
        kind,
        ..Setting::default()
    })
    .await;
    world.iterable.handle.disallow_event_name("Secret");
    world.iterable.handle.forget_user("gone@example.com");
    let mut bodies: Vec<_> = (0..12)
        .map(|n| {
            batch(
                "ada@example.com",
                [("Secret", json!({"n": n})), ("Fine", json!({"n": n}))],
            )
        })
        .collect();
    bodies.extend((0..5).map(|n| batch("gone@example.com", [("Fine", json!({"n": n}))])));
    world.queue.send(&bodies).await.unwrap();
    let report = world.drain().await;
    assert_eq!(report.messages.dead_lettered, 17, "{report:?}");
    let place = Place::of(&world.spec.queue, world.plan("test-key").credentials)
        .await
        .unwrap();
    (world, place)
}

fn by_reason(reason: &str) -> DlqFilter {
    DlqFilter {
        reason: vec![reason.to_owned()],
        ..DlqFilter::default()
    }
}

async fn listed(place: &Place) -> Vec<Value> {
    let mut out = Vec::new();
    dlq::list(place, &DlqFilter::default(), true, &mut out)
        .await
        .unwrap();
    serde_json::from_slice(&out).unwrap()
}

async fn lists_redrives_and_purges(kind: Kind) {
    let (world, place) = with_dead_letters(kind).await;
    for _ in 0..2 {
        let reasons = listed(&place).await;
        assert_eq!(
            (&reasons[0]["reason"], &reasons[0]["letters"]),
            (&json!("DisallowedEventName"), &json!(12))
        );
        assert_eq!(
            (&reasons[1]["reason"], &reasons[1]["events"]),
            (&json!("UserForgotten"), &json!(5))
        );
    }

    let sample = listed(&place).await[1]["sample"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut out = Vec::new();
    dlq::show(&place, &sample, &mut out).await.unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(
        text.contains("UserForgotten") && text.contains("gone@example.com"),
        "{text}"
    );
    let error = dlq::show(&place, "nothing", &mut Vec::new())
        .await
        .unwrap_err();
    assert!(matches!(error, DlqError::NoSuchLetter(_)));

    let mut out = Vec::new();
    dlq::redrive(&place, &by_reason("DisallowedEventName"), true, &mut out)
        .await
        .unwrap();
    assert!(
        String::from_utf8(out)
            .unwrap()
            .starts_with("12 dead letters would be sent")
    );
    assert_eq!(world.queue.depth().await.unwrap().visible, 0);

    dlq::redrive(
        &place,
        &by_reason("DisallowedEventName"),
        false,
        &mut Vec::new(),
    )
    .await
    .unwrap();
    assert_eq!(world.queue.depth().await.unwrap().visible, 12);
    assert_eq!(world.queue.dlq_depth().await.unwrap().visible, 5);

    // The same drain reads what it wrote, and only the events that were missing are new.
    let before = world.iterable.handle.summary().events;
    world.iterable.handle.reset();
    let report = world.drain().await;
    assert_eq!(
        (report.events.forwarded, report.messages.deleted),
        (12, 12),
        "{report:?}"
    );
    assert_eq!(before.stored, 12);

    dlq::purge(&place, &DlqFilter::default(), &mut Vec::new())
        .await
        .unwrap();
    let depth = world.queue.dlq_depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight), (0, 0));
    let mut out = Vec::new();
    dlq::list(&place, &DlqFilter::default(), false, &mut out)
        .await
        .unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), "no dead letters\n");
}

#[tokio::test]
async fn dead_letters_of_fauxqs_are_listed_redriven_and_purged() {
    lists_redrives_and_purges(Kind::Fauxqs).await;
}

#[tokio::test]
async fn dead_letters_of_elasticmq_are_listed_redriven_and_purged() {
    lists_redrives_and_purges(Kind::ElasticMq).await;
}

#[tokio::test]
async fn dead_letters_of_moto_are_listed_redriven_and_purged() {
    lists_redrives_and_purges(Kind::Moto).await;
}

#[tokio::test]
async fn letters_that_somebody_looks_at_still_count() {
    let (_world, place) = with_dead_letters(Kind::Fauxqs).await;
    let mut walk = Walk::new(place.dead_letters.clone());
    let seen = walk.next().await.unwrap().unwrap();
    assert!(!seen.is_empty());
    let depth = place.queue.depth().await.unwrap();
    assert_eq!(depth.dead_letters, Some(17));
}

#[tokio::test]
async fn reasons_are_counted_for_as_long_as_there_is_time() {
    let (world, place) = with_dead_letters(Kind::Fauxqs).await;
    let (reasons, is_all) = dlq::reasons(&place, Duration::from_secs(60)).await.unwrap();
    let counts: Vec<_> = reasons
        .iter()
        .map(|reason| (reason.reason.as_str(), reason.count))
        .collect();
    assert_eq!(counts, [("DisallowedEventName", 12), ("UserForgotten", 5)]);
    assert!(is_all);
    let (reasons, is_all) = dlq::reasons(&place, Duration::ZERO).await.unwrap();
    assert!(reasons.iter().map(|reason| reason.count).sum::<u64>() < 17);
    assert!(!is_all);
    assert_eq!(
        world.queue.dlq_depth().await.unwrap().visible,
        17,
        "given back"
    );
}

#[tokio::test]
async fn letters_are_chosen_by_age() {
    let (world, place) = with_dead_letters(Kind::Fauxqs).await;
    let old = DlqFilter {
        older_than: Some("1h".parse().unwrap()),
        ..DlqFilter::default()
    };
    dlq::purge(&place, &old, &mut Vec::new()).await.unwrap();
    assert_eq!(world.queue.dlq_depth().await.unwrap().visible, 17);
    let new = DlqFilter {
        newer_than: Some("1h".parse().unwrap()),
        ..DlqFilter::default()
    };
    dlq::purge(&place, &new, &mut Vec::new()).await.unwrap();
    assert_eq!(world.queue.dlq_depth().await.unwrap().visible, 0);
}

#[tokio::test]
async fn a_table_shows_reason_count_and_detail() {
    let (_world, place) = with_dead_letters(Kind::Fauxqs).await;
    let mut out = Vec::new();
    dlq::list(&place, &by_reason("UserForgotten"), false, &mut out)
        .await
        .unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.starts_with("REASON         LETTERS  EVENTS"), "{text}");
    assert!(text.contains("\nUserForgotten  5        5"), "{text}");
    assert!(!text.contains("Disallowed"), "{text}");
}

#[tokio::test]
async fn a_message_that_sqs_moved_is_told_from_one_that_a_run_put_there() {
    let world = World::new(Setting::default()).await;
    world.queue.send(&["no batch"]).await.unwrap();
    let body = batches(1, 1);
    world.queue.send(&body).await.unwrap();
    let place = Place::of(&world.spec.queue, world.plan("test-key").credentials)
        .await
        .unwrap();
    let message = place.dead_letters.clone();
    let outgoing = event_forwarder::sqs::Outgoing {
        body: "no batch".to_owned(),
        attributes: std::collections::BTreeMap::new(),
        fifo: None,
    };
    message.send(vec![outgoing]).await.unwrap();
    assert_eq!(listed(&place).await[0]["reason"], json!("MovedBySqs"));
}
