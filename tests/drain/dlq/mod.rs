//! Listing, showing, redriving and purging dead-lettered messages, on every SQS server.

mod kill;

use std::{collections::BTreeMap, time::Duration};

use event_forwarder::{
    cli::DlqFilter,
    dlq::{
        self, DlqError,
        queues::QueuePair,
        scan::{INITIAL_VISIBILITY, Scan, ScanCoverage},
    },
    sqs::{Attribute, OutgoingMessage},
};
use event_forwarder_test_support::sqs::{Attributes, Kind};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::world::{Setting, World, batch, batches};

/// Creates a world with dead-lettered messages: twelve with a disallowed event name, and five of a
/// forgotten user.
async fn with_dead_letters(kind: Kind) -> (World, QueuePair) {
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
    let queues = QueuePair::from_spec(&world.spec.queue, world.plan("test-key").credentials)
        .await
        .unwrap();
    (world, queues)
}

fn by_reason(reason: &str) -> DlqFilter {
    DlqFilter {
        reason: vec![reason.to_owned()],
        ..DlqFilter::default()
    }
}

async fn listed(queues: &QueuePair) -> Vec<Value> {
    let mut out = Vec::new();
    dlq::list(queues, &DlqFilter::default(), true, &mut out)
        .await
        .unwrap();
    serde_json::from_slice(&out).unwrap()
}

on_each_server!(
    messages_are_listed_redriven_and_purged,
    scan_keeps_messages_invisible,
    redelivered_messages_do_not_end_scan,
    messages_of_another_command_are_reported,
);
on_each_server!(
    groups_advance_as_messages_are_deleted,
    fauxqs lacks "receives of several messages of a group"
);
on_each_server!(
    unread_messages_of_group_are_reported,
    fauxqs lacks "receives of several messages of a group"
);

async fn messages_are_listed_redriven_and_purged(kind: Kind) {
    let (world, queues) = with_dead_letters(kind).await;
    for _ in 0..2 {
        let reasons = listed(&queues).await;
        assert_eq!(
            (&reasons[0]["reason"], &reasons[0]["messages"]),
            (&json!("DisallowedEventName"), &json!(12))
        );
        assert_eq!(
            (&reasons[1]["reason"], &reasons[1]["events"]),
            (&json!("UserForgotten"), &json!(5))
        );
    }

    let sample = listed(&queues).await[1]["sample"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut out = Vec::new();
    dlq::show(&queues, &sample, &mut out).await.unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(
        text.contains("UserForgotten") && text.contains("gone@example.com"),
        "{text}"
    );
    let error = dlq::show(&queues, "nothing", &mut Vec::new())
        .await
        .unwrap_err();
    assert!(matches!(error, DlqError::MessageNotFound(_)));

    let mut out = Vec::new();
    dlq::redrive(&queues, &by_reason("DisallowedEventName"), true, &mut out)
        .await
        .unwrap();
    assert!(
        String::from_utf8(out)
            .unwrap()
            .starts_with("12 dead-lettered messages would be redriven")
    );
    assert_eq!(world.queue.depth().await.unwrap().visible, 0);

    dlq::redrive(
        &queues,
        &by_reason("DisallowedEventName"),
        false,
        &mut Vec::new(),
    )
    .await
    .unwrap();
    assert_eq!(world.queue.depth().await.unwrap().visible, 12);
    assert_eq!(world.queue.dlq_depth().await.unwrap().visible, 5);

    // A run accepts its redriven messages. They contain only the rejected events.
    let before = world.iterable.handle.summary().events;
    world.iterable.handle.reset();
    let report = world.drain().await;
    assert_eq!(
        (report.events.forwarded, report.messages.deleted),
        (12, 12),
        "{report:?}"
    );
    assert_eq!(before.stored, 12);

    dlq::purge(&queues, &DlqFilter::default(), &mut Vec::new())
        .await
        .unwrap();
    let depth = world.queue.dlq_depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight), (0, 0));
    let mut out = Vec::new();
    dlq::list(&queues, &DlqFilter::default(), false, &mut out)
        .await
        .unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "no dead-lettered messages\n"
    );
}

#[tokio::test]
async fn invisible_messages_count_in_depth() {
    let (_world, queues) = with_dead_letters(Kind::Fauxqs).await;
    let mut scan = Scan::begin(queues.dead_letters.clone(), INITIAL_VISIBILITY)
        .await
        .unwrap();
    let messages = scan.next().await.unwrap().unwrap();
    assert!(!messages.is_empty());
    let depth = queues.queue.depth().await.unwrap();
    assert_eq!(depth.dead_letters, Some(17));
}

#[tokio::test]
async fn reasons_are_counted_until_time_limit() {
    let (world, queues) = with_dead_letters(Kind::Fauxqs).await;
    let (reasons, is_all) = dlq::reasons(&queues, Duration::from_secs(60))
        .await
        .unwrap();
    let counts: Vec<_> = reasons
        .iter()
        .map(|reason| (reason.reason.as_str(), reason.count))
        .collect();
    assert_eq!(counts, [("DisallowedEventName", 12), ("UserForgotten", 5)]);
    assert!(is_all);
    let (reasons, is_all) = dlq::reasons(&queues, Duration::ZERO).await.unwrap();
    assert!(reasons.iter().map(|reason| reason.count).sum::<u64>() < 17);
    assert!(!is_all);
    assert_eq!(
        world.queue.dlq_depth().await.unwrap().visible,
        17,
        "released"
    );
}

#[tokio::test]
async fn messages_are_selected_by_age() {
    let (world, queues) = with_dead_letters(Kind::Fauxqs).await;
    let old = DlqFilter {
        older_than: Some("1h".parse().unwrap()),
        ..DlqFilter::default()
    };
    dlq::purge(&queues, &old, &mut Vec::new()).await.unwrap();
    assert_eq!(world.queue.dlq_depth().await.unwrap().visible, 17);
    let new = DlqFilter {
        newer_than: Some("1h".parse().unwrap()),
        ..DlqFilter::default()
    };
    dlq::purge(&queues, &new, &mut Vec::new()).await.unwrap();
    assert_eq!(world.queue.dlq_depth().await.unwrap().visible, 0);
}

#[tokio::test]
async fn table_shows_reason_and_counts() {
    let (_world, queues) = with_dead_letters(Kind::Fauxqs).await;
    let mut out = Vec::new();
    dlq::list(&queues, &by_reason("UserForgotten"), false, &mut out)
        .await
        .unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(
        text.starts_with("REASON         MESSAGES  EVENTS"),
        "{text}"
    );
    assert!(text.contains("\nUserForgotten  5         5"), "{text}");
    assert!(!text.contains("Disallowed"), "{text}");
}

#[tokio::test]
async fn message_moved_by_sqs_has_separate_reason() {
    let world = World::new(Setting::default()).await;
    world.queue.send(&["no batch"]).await.unwrap();
    let body = batches(1, 1);
    world.queue.send(&body).await.unwrap();
    let queues = QueuePair::from_spec(&world.spec.queue, world.plan("test-key").credentials)
        .await
        .unwrap();
    let dead_letters = queues.dead_letters.clone();
    let outgoing = OutgoingMessage {
        body: "no batch".to_owned(),
        attributes: BTreeMap::new(),
        fifo: None,
    };
    dead_letters.send(vec![outgoing]).await.unwrap();
    assert_eq!(
        listed(&queues).await[0]["reason"],
        json!("MaxReceivesExceeded")
    );
}

async fn scan_keeps_messages_invisible(kind: Kind) {
    let (world, queues) = with_dead_letters(kind).await;
    let visibility = Duration::from_secs(20);
    let mut scan = Scan::begin(queues.dead_letters.clone(), visibility)
        .await
        .unwrap();
    let first = scan.next().await.unwrap().unwrap();
    assert!(first.len() <= 10);
    sleep(visibility * 11 / 20).await;
    scan.next().await.unwrap().unwrap();
    // Without the extension, the first messages would be visible again.
    sleep(visibility / 2).await;
    let received = queues
        .dead_letters
        .receive(10, Duration::from_secs(1), Some(INITIAL_VISIBILITY), None)
        .await
        .unwrap();
    assert!(
        received
            .iter()
            .all(|one| first.iter().all(|message| message.message.id != one.id)),
        "{received:?}"
    );
    scan.end().await.unwrap();
    let depth = world.queue.dlq_depth().await.unwrap();
    assert_eq!(depth.in_flight, received.len() as u64, "released");
}

async fn redelivered_messages_do_not_end_scan(kind: Kind) {
    let (_world, queues) = with_dead_letters(kind).await;
    let mut scan = Scan::begin(queues.dead_letters.clone(), INITIAL_VISIBILITY)
        .await
        .unwrap();
    let first = scan.next().await.unwrap().unwrap();
    let receipt_handles: Vec<_> = first
        .iter()
        .map(|message| message.message.receipt_handle.clone())
        .collect();
    queues
        .dead_letters
        .change_visibility(&receipt_handles, Duration::ZERO)
        .await
        .unwrap();
    let mut read = first.len();
    while let Some(messages) = scan.next().await.unwrap() {
        read += messages.len();
    }
    assert_eq!(read, 17);
    assert!(scan.end().await.unwrap().is_complete());
}

async fn messages_of_another_command_are_reported(kind: Kind) {
    let (_world, queues) = with_dead_letters(kind).await;
    let mut other = Scan::begin(queues.dead_letters.clone(), INITIAL_VISIBILITY)
        .await
        .unwrap();
    let mut invisible = 0;
    while invisible < 10 {
        invisible += other.next().await.unwrap().unwrap().len() as u64;
    }
    let coverage = ScanCoverage {
        read: 17 - invisible,
        total: 17,
        is_fifo: false,
    };
    let all = DlqFilter::default();
    let mut out = Vec::new();
    for error in [
        dlq::list(&queues, &all, true, &mut out).await.unwrap_err(),
        dlq::redrive(&queues, &by_reason("UserForgotten"), true, &mut Vec::new())
            .await
            .unwrap_err(),
        dlq::purge(&queues, &by_reason("Other"), &mut Vec::new())
            .await
            .unwrap_err(),
    ] {
        assert!(
            matches!(&error, DlqError::IncompleteScan(found) if *found == coverage),
            "{error}"
        );
        assert!(
            error.to_string().starts_with(&format!(
                "read only {} of about 17 dead-lettered messages",
                coverage.read
            )),
            "{error}"
        );
    }
    let reasons: Vec<Value> = serde_json::from_slice(&out).unwrap();
    let listed: u64 = reasons
        .iter()
        .map(|reason| reason["messages"].as_u64().unwrap())
        .sum();
    assert_eq!(
        listed, coverage.read,
        "an incomplete list is printed anyway"
    );
    let (_, is_all) = dlq::reasons(&queues, Duration::from_secs(60))
        .await
        .unwrap();
    assert!(!is_all);

    other.end().await.unwrap();
    dlq::list(&queues, &all, true, &mut Vec::new())
        .await
        .unwrap();
}

/// Creates a FIFO dead-letter queue with messages of these groups and reasons, in this order.
async fn in_groups<'a>(
    kind: Kind,
    messages: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> (World, QueuePair) {
    let world = World::new(Setting {
        queue: Attributes {
            fifo: true,
            ..Attributes::default()
        },
        ..Setting::on(kind)
    })
    .await;
    let queues = QueuePair::from_spec(&world.spec.queue, world.plan("test-key").credentials)
        .await
        .unwrap();
    let messages: Vec<_> = messages
        .into_iter()
        .enumerate()
        .map(|(n, (group, reason))| OutgoingMessage {
            body: n.to_string(),
            attributes: BTreeMap::from([(
                "EventForwarderReason".to_owned(),
                Attribute::text(reason),
            )]),
            fifo: Some((group.to_owned(), n.to_string())),
        })
        .collect();
    for batch in messages.chunks(10) {
        let results = queues.dead_letters.send(batch.to_vec()).await.unwrap();
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    }
    (world, queues)
}

/// Returns `count` messages for each of two groups. Their reason is `Fixed`, except that `others`
/// of the first messages have the reason `Other`.
fn fixed(count: usize, others: usize) -> impl Iterator<Item = (&'static str, &'static str)> {
    ["one", "two"].into_iter().flat_map(move |group| {
        (0..count).map(move |n| {
            let is_other = n % 3 == 1 && n / 3 < others;
            (group, if is_other { "Other" } else { "Fixed" })
        })
    })
}

async fn groups_advance_as_messages_are_deleted(kind: Kind) {
    let (world, queues) = in_groups(kind, fixed(40, 3)).await;
    let mut out = Vec::new();
    dlq::redrive(&queues, &by_reason("Fixed"), false, &mut out)
        .await
        .unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(
        text.starts_with("74 dead-lettered messages redriven"),
        "{text}"
    );
    assert_eq!(world.queue.depth().await.unwrap().visible, 74);
    assert_eq!(world.queue.dlq_depth().await.unwrap().visible, 6);

    dlq::purge(&queues, &DlqFilter::default(), &mut Vec::new())
        .await
        .unwrap();
    let depth = world.queue.dlq_depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight), (0, 0));
}

async fn unread_messages_of_group_are_reported(kind: Kind) {
    let messages = (0..25).map(|n| ("one", if n < 20 { "Other" } else { "Fixed" }));
    let (world, queues) = in_groups(kind, messages).await;
    let fixed = by_reason("Fixed");
    for error in [
        dlq::list(&queues, &DlqFilter::default(), true, &mut Vec::new())
            .await
            .unwrap_err(),
        dlq::redrive(&queues, &fixed, false, &mut Vec::new())
            .await
            .unwrap_err(),
        dlq::purge(&queues, &fixed, &mut Vec::new())
            .await
            .unwrap_err(),
    ] {
        let coverage = ScanCoverage {
            read: 10,
            total: 25,
            is_fifo: true,
        };
        assert!(
            matches!(&error, DlqError::IncompleteScan(found) if *found == coverage),
            "{error}"
        );
        assert!(error.to_string().contains("FIFO"), "{error}");
    }
    assert_eq!(world.queue.depth().await.unwrap().visible, 0);
    let depth = world.queue.dlq_depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight), (25, 0));
}
