//! Dead-lettered messages are listed, shown, redriven and purged on third-party SQS servers.

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

/// Creates a world with dead-lettered messages: twelve events with a disallowed name, and five of a
/// forgotten user.
async fn with_dead_letters(kind: Kind) -> (World, QueuePair) {
    let world = World::new(Setting {
        kind,
        ..Setting::default()
    })
    .await;
    world.iterable.handle.disallow_event_name("Secret");
    world.iterable.handle.forget_user("forgotten@example.com");
    let mut bodies: Vec<_> = (0..12)
        .map(|n| {
            batch(
                "ada@example.com",
                [("Secret", json!({"n": n})), ("Fine", json!({"n": n}))],
            )
        })
        .collect();
    bodies.extend((0..5).map(|n| batch("forgotten@example.com", [("Fine", json!({"n": n}))])));
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

async fn list_json(queues: &QueuePair) -> Vec<Value> {
    let mut out = Vec::new();
    dlq::list(queues, &DlqFilter::default(), true, &mut out)
        .await
        .unwrap();
    serde_json::from_slice(&out).unwrap()
}

on_each_server!(
    dead_letters_are_listed_redriven_and_purged,
    scan_keeps_messages_invisible_until_it_ends,
    scan_continues_when_messages_are_redelivered,
    commands_report_messages_held_by_another_command,
);
on_each_server!(
    redrive_reads_complete_fifo_groups,
    fauxqs lacks "receives of several messages of a group"
);
on_each_server!(
    commands_report_unread_fifo_messages,
    fauxqs lacks "receives of several messages of a group"
);

async fn dead_letters_are_listed_redriven_and_purged(kind: Kind) {
    let (world, queues) = with_dead_letters(kind).await;
    for _ in 0..2 {
        let reasons = list_json(&queues).await;
        assert_eq!(
            (&reasons[0]["reason"], &reasons[0]["messages"]),
            (&json!("DisallowedEventName"), &json!(12))
        );
        assert_eq!(
            (&reasons[1]["reason"], &reasons[1]["events"]),
            (&json!("UserForgotten"), &json!(5))
        );
    }

    let sample = list_json(&queues).await[1]["sample"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut out = Vec::new();
    dlq::show(&queues, &sample, &mut out).await.unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(
        text.contains("UserForgotten") && text.contains("forgotten@example.com"),
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
            .starts_with("12 dead letters would be sent")
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

    // A run accepts redriven messages, which contain only the events that were rejected.
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
    assert_eq!(String::from_utf8(out).unwrap(), "no dead letters\n");
}

#[tokio::test]
async fn queue_depth_includes_messages_held_by_scan() {
    let (_world, queues) = with_dead_letters(Kind::Fauxqs).await;
    let mut scan = Scan::begin(queues.dead_letters.clone(), INITIAL_VISIBILITY)
        .await
        .unwrap();
    let found = scan.next().await.unwrap().unwrap();
    assert!(!found.is_empty());
    let depth = queues.queue.depth().await.unwrap();
    assert_eq!(depth.dead_letters, Some(17));
}

#[tokio::test]
async fn reasons_are_counted_within_the_time_limit() {
    let (world, queues) = with_dead_letters(Kind::Fauxqs).await;
    let (reasons, is_complete) = dlq::reasons(&queues, Duration::from_secs(60))
        .await
        .unwrap();
    let counts: Vec<_> = reasons
        .iter()
        .map(|reason| (reason.reason.as_str(), reason.count))
        .collect();
    assert_eq!(counts, [("DisallowedEventName", 12), ("UserForgotten", 5)]);
    assert!(is_complete);
    let (reasons, is_complete) = dlq::reasons(&queues, Duration::ZERO).await.unwrap();
    assert!(reasons.iter().map(|reason| reason.count).sum::<u64>() < 17);
    assert!(!is_complete);
    assert_eq!(
        world.queue.dlq_depth().await.unwrap().visible,
        17,
        "released"
    );
}

#[tokio::test]
async fn dead_letters_are_filtered_by_age() {
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
async fn list_prints_reason_and_counts() {
    let (_world, queues) = with_dead_letters(Kind::Fauxqs).await;
    let mut out = Vec::new();
    dlq::list(&queues, &by_reason("UserForgotten"), false, &mut out)
        .await
        .unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.starts_with("REASON         LETTERS  EVENTS"), "{text}");
    assert!(text.contains("\nUserForgotten  5        5"), "{text}");
    assert!(!text.contains("Disallowed"), "{text}");
}

#[tokio::test]
async fn message_without_attributes_has_reason_of_sqs() {
    let world = World::new(Setting::default()).await;
    world.queue.send(&["no batch"]).await.unwrap();
    let body = batches(1, 1);
    world.queue.send(&body).await.unwrap();
    let queues = QueuePair::from_spec(&world.spec.queue, world.plan("test-key").credentials)
        .await
        .unwrap();
    let message = queues.dead_letters.clone();
    let outgoing = OutgoingMessage {
        body: "no batch".to_owned(),
        attributes: BTreeMap::new(),
        fifo: None,
    };
    message.send(vec![outgoing]).await.unwrap();
    assert_eq!(
        list_json(&queues).await[0]["reason"],
        json!("MaxReceivesExceeded")
    );
}

async fn scan_keeps_messages_invisible_until_it_ends(kind: Kind) {
    let (world, queues) = with_dead_letters(kind).await;
    let visibility = Duration::from_secs(20);
    let mut scan = Scan::begin(queues.dead_letters.clone(), visibility)
        .await
        .unwrap();
    let first = scan.next().await.unwrap().unwrap();
    assert!(first.len() <= 10);
    sleep(visibility * 11 / 20).await;
    scan.next().await.unwrap().unwrap();
    // Without extensions, the first ones would be visible now.
    sleep(visibility / 2).await;
    let received = queues
        .dead_letters
        .receive(10, Duration::from_secs(1), Some(INITIAL_VISIBILITY), None)
        .await
        .unwrap();
    assert!(
        received
            .iter()
            .all(|other| first.iter().all(|first| first.message.id != other.id)),
        "{received:?}"
    );
    scan.end().await.unwrap();
    let depth = world.queue.dlq_depth().await.unwrap();
    assert_eq!(depth.in_flight, received.len() as u64, "released");
}

async fn scan_continues_when_messages_are_redelivered(kind: Kind) {
    let (_world, queues) = with_dead_letters(kind).await;
    let mut scan = Scan::begin(queues.dead_letters.clone(), INITIAL_VISIBILITY)
        .await
        .unwrap();
    let first = scan.next().await.unwrap().unwrap();
    let handles: Vec<_> = first
        .iter()
        .map(|first| first.message.receipt_handle.clone())
        .collect();
    queues
        .dead_letters
        .change_visibility(&handles, Duration::ZERO)
        .await
        .unwrap();
    let mut seen = first.len();
    while let Some(found) = scan.next().await.unwrap() {
        seen += found.len();
    }
    assert_eq!(seen, 17);
    assert!(scan.end().await.unwrap().is_complete());
}

async fn commands_report_messages_held_by_another_command(kind: Kind) {
    let (_world, queues) = with_dead_letters(kind).await;
    let mut other = Scan::begin(queues.dead_letters.clone(), INITIAL_VISIBILITY)
        .await
        .unwrap();
    let mut held = 0;
    while held < 10 {
        held += other.next().await.unwrap().unwrap().len() as u64;
    }
    let expected = ScanCoverage {
        read: 17 - held,
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
            matches!(&error, DlqError::IncompleteScan(coverage) if *coverage == expected),
            "{error}"
        );
        assert!(
            error
                .to_string()
                .starts_with(&format!("only {} of about 17 dead letters", expected.read)),
            "{error}"
        );
    }
    let reasons: Vec<Value> = serde_json::from_slice(&out).unwrap();
    let dead_letters: u64 = reasons
        .iter()
        .map(|reason| reason["messages"].as_u64().unwrap())
        .sum();
    assert_eq!(
        dead_letters, expected.read,
        "messages that were read are listed"
    );
    let (_, is_complete) = dlq::reasons(&queues, Duration::from_secs(60))
        .await
        .unwrap();
    assert!(!is_complete);

    other.end().await.unwrap();
    dlq::list(&queues, &all, true, &mut Vec::new())
        .await
        .unwrap();
}

/// Creates a FIFO dead-letter queue with messages of these groups and reasons, in this order.
async fn with_fifo_dead_letters<'a>(
    kind: Kind,
    dead_letters: impl IntoIterator<Item = (&'a str, &'a str)>,
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
    let dead_letters: Vec<_> = dead_letters
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
    for batch in dead_letters.chunks(10) {
        let results = queues.dead_letters.send(batch.to_vec()).await.unwrap();
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    }
    (world, queues)
}

/// Returns groups and reasons: `count` messages per group with reason `Fixed`, except `others` of
/// the first ones.
fn groups_with_reasons(
    count: usize,
    others: usize,
) -> impl Iterator<Item = (&'static str, &'static str)> {
    ["one", "two"].into_iter().flat_map(move |group| {
        (0..count).map(move |n| {
            let is_other = n % 3 == 1 && n / 3 < others;
            (group, if is_other { "Other" } else { "Fixed" })
        })
    })
}

async fn redrive_reads_complete_fifo_groups(kind: Kind) {
    let (world, queues) = with_fifo_dead_letters(kind, groups_with_reasons(40, 3)).await;
    let mut out = Vec::new();
    dlq::redrive(&queues, &by_reason("Fixed"), false, &mut out)
        .await
        .unwrap();
    let stdout = String::from_utf8(out).unwrap();
    assert!(stdout.starts_with("74 dead letters sent"), "{stdout}");
    assert_eq!(world.queue.depth().await.unwrap().visible, 74);
    assert_eq!(world.queue.dlq_depth().await.unwrap().visible, 6);

    dlq::purge(&queues, &DlqFilter::default(), &mut Vec::new())
        .await
        .unwrap();
    let depth = world.queue.dlq_depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight), (0, 0));
}

async fn commands_report_unread_fifo_messages(kind: Kind) {
    let dead_letters = (0..25).map(|n| ("one", if n < 20 { "Other" } else { "Fixed" }));
    let (world, queues) = with_fifo_dead_letters(kind, dead_letters).await;
    let filter = by_reason("Fixed");
    for error in [
        dlq::list(&queues, &DlqFilter::default(), true, &mut Vec::new())
            .await
            .unwrap_err(),
        dlq::redrive(&queues, &filter, false, &mut Vec::new())
            .await
            .unwrap_err(),
        dlq::purge(&queues, &filter, &mut Vec::new())
            .await
            .unwrap_err(),
    ] {
        let expected = ScanCoverage {
            read: 10,
            total: 25,
            is_fifo: true,
        };
        assert!(
            matches!(&error, DlqError::IncompleteScan(coverage) if *coverage == expected),
            "{error}"
        );
        assert!(error.to_string().contains("FIFO"), "{error}");
    }
    assert_eq!(world.queue.depth().await.unwrap().visible, 0);
    let depth = world.queue.dlq_depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight), (25, 0));
}
