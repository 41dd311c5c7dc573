//! Dead letters listed, shown, redriven and purged, on SQS servers that others wrote.

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

/// A world with dead letters: twelve events of a name that the project refuses, and five of a
/// user that asked to be forgotten.
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
    let place = QueuePair::from_spec(&world.spec.queue, world.plan("test-key").credentials)
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

async fn listed(place: &QueuePair) -> Vec<Value> {
    let mut out = Vec::new();
    dlq::list(place, &DlqFilter::default(), true, &mut out)
        .await
        .unwrap();
    serde_json::from_slice(&out).unwrap()
}

on_each_server!(
    dead_letters_are_listed_redriven_and_purged,
    what_is_held_stays_hidden_for_as_long_as_the_walk_takes,
    letters_that_show_up_again_do_not_end_a_walk,
    letters_that_another_command_holds_are_told_of,
);
on_each_server!(
    groups_move_on_as_their_letters_are_settled,
    fauxqs lacks "receives of several messages of a group"
);
on_each_server!(
    what_a_fifo_queue_does_not_show_is_told,
    fauxqs lacks "receives of several messages of a group"
);

async fn dead_letters_are_listed_redriven_and_purged(kind: Kind) {
    let (world, place) = with_dead_letters(kind).await;
    for _ in 0..2 {
        let reasons = listed(&place).await;
        assert_eq!(
            (&reasons[0]["reason"], &reasons[0]["messages"]),
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
    assert!(matches!(error, DlqError::MessageNotFound(_)));

    let mut out = Vec::new();
    dlq::redrive(&place, &by_reason("DisallowedEventName"), true, &mut out)
        .await
        .unwrap();
    assert!(
        String::from_utf8(out)
            .unwrap()
            .starts_with("12 dead-lettered messages would be redriven")
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
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "no dead-lettered messages\n"
    );
}

#[tokio::test]
async fn letters_that_somebody_looks_at_still_count() {
    let (_world, place) = with_dead_letters(Kind::Fauxqs).await;
    let mut walk = Scan::begin(place.dead_letters.clone(), INITIAL_VISIBILITY)
        .await
        .unwrap();
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
    assert!(
        text.starts_with("REASON         MESSAGES  EVENTS"),
        "{text}"
    );
    assert!(text.contains("\nUserForgotten  5         5"), "{text}");
    assert!(!text.contains("Disallowed"), "{text}");
}

#[tokio::test]
async fn a_message_that_sqs_moved_is_told_from_one_that_a_run_put_there() {
    let world = World::new(Setting::default()).await;
    world.queue.send(&["no batch"]).await.unwrap();
    let body = batches(1, 1);
    world.queue.send(&body).await.unwrap();
    let place = QueuePair::from_spec(&world.spec.queue, world.plan("test-key").credentials)
        .await
        .unwrap();
    let message = place.dead_letters.clone();
    let outgoing = OutgoingMessage {
        body: "no batch".to_owned(),
        attributes: BTreeMap::new(),
        fifo: None,
    };
    message.send(vec![outgoing]).await.unwrap();
    assert_eq!(
        listed(&place).await[0]["reason"],
        json!("MaxReceivesExceeded")
    );
}

async fn what_is_held_stays_hidden_for_as_long_as_the_walk_takes(kind: Kind) {
    let (world, place) = with_dead_letters(kind).await;
    let hidden = Duration::from_secs(20);
    let mut walk = Scan::begin(place.dead_letters.clone(), hidden)
        .await
        .unwrap();
    let first = walk.next().await.unwrap().unwrap();
    assert!(first.len() <= 10);
    sleep(hidden * 11 / 20).await;
    walk.next().await.unwrap().unwrap();
    // By now the first ones would be seen again.
    sleep(hidden / 2).await;
    let receipts = place
        .dead_letters
        .receive(10, Duration::from_secs(1), Some(INITIAL_VISIBILITY), None)
        .await
        .unwrap();
    assert!(
        receipts
            .iter()
            .all(|again| first.iter().all(|letter| letter.message.id != again.id)),
        "{receipts:?}"
    );
    walk.end().await.unwrap();
    let depth = world.queue.dlq_depth().await.unwrap();
    assert_eq!(depth.in_flight, receipts.len() as u64, "given back");
}

async fn letters_that_show_up_again_do_not_end_a_walk(kind: Kind) {
    let (_world, place) = with_dead_letters(kind).await;
    let mut walk = Scan::begin(place.dead_letters.clone(), INITIAL_VISIBILITY)
        .await
        .unwrap();
    let first = walk.next().await.unwrap().unwrap();
    let receipts: Vec<_> = first
        .iter()
        .map(|letter| letter.message.receipt_handle.clone())
        .collect();
    place
        .dead_letters
        .change_visibility(&receipts, Duration::ZERO)
        .await
        .unwrap();
    let mut seen = first.len();
    while let Some(found) = walk.next().await.unwrap() {
        seen += found.len();
    }
    assert_eq!(seen, 17);
    assert!(walk.end().await.unwrap().is_complete());
}

async fn letters_that_another_command_holds_are_told_of(kind: Kind) {
    let (_world, place) = with_dead_letters(kind).await;
    let mut other = Scan::begin(place.dead_letters.clone(), INITIAL_VISIBILITY)
        .await
        .unwrap();
    let mut held = 0;
    while held < 10 {
        held += other.next().await.unwrap().unwrap().len() as u64;
    }
    let short = ScanCoverage {
        read: 17 - held,
        total: 17,
        is_fifo: false,
    };
    let all = DlqFilter::default();
    let mut out = Vec::new();
    for error in [
        dlq::list(&place, &all, true, &mut out).await.unwrap_err(),
        dlq::redrive(&place, &by_reason("UserForgotten"), true, &mut Vec::new())
            .await
            .unwrap_err(),
        dlq::purge(&place, &by_reason("Other"), &mut Vec::new())
            .await
            .unwrap_err(),
    ] {
        assert!(
            matches!(&error, DlqError::IncompleteScan(sight) if *sight == short),
            "{error}"
        );
        assert!(
            error.to_string().starts_with(&format!(
                "read only {} of about 17 dead-lettered messages",
                short.read
            )),
            "{error}"
        );
    }
    let reasons: Vec<Value> = serde_json::from_slice(&out).unwrap();
    let letters: u64 = reasons
        .iter()
        .map(|reason| reason["messages"].as_u64().unwrap())
        .sum();
    assert_eq!(letters, short.read, "what was seen is listed all the same");
    let (_, is_all) = dlq::reasons(&place, Duration::from_secs(60)).await.unwrap();
    assert!(!is_all);

    other.end().await.unwrap();
    dlq::list(&place, &all, true, &mut Vec::new())
        .await
        .unwrap();
}

/// A FIFO dead-letter queue with letters of these groups and reasons, in this order.
async fn in_groups<'a>(
    kind: Kind,
    letters: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> (World, QueuePair) {
    let world = World::new(Setting {
        queue: Attributes {
            fifo: true,
            ..Attributes::default()
        },
        ..Setting::on(kind)
    })
    .await;
    let place = QueuePair::from_spec(&world.spec.queue, world.plan("test-key").credentials)
        .await
        .unwrap();
    let letters: Vec<_> = letters
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
    for batch in letters.chunks(10) {
        let results = place.dead_letters.send(batch.to_vec()).await.unwrap();
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    }
    (world, place)
}

/// Of each group: letters of reason `Mended`, with `between` others among the first of them.
fn mended(count: usize, between: usize) -> impl Iterator<Item = (&'static str, &'static str)> {
    ["one", "two"].into_iter().flat_map(move |group| {
        (0..count).map(move |n| {
            let is_other = n % 3 == 1 && n / 3 < between;
            (group, if is_other { "Other" } else { "Mended" })
        })
    })
}

async fn groups_move_on_as_their_letters_are_settled(kind: Kind) {
    let (world, place) = in_groups(kind, mended(40, 3)).await;
    let mut out = Vec::new();
    dlq::redrive(&place, &by_reason("Mended"), false, &mut out)
        .await
        .unwrap();
    let said = String::from_utf8(out).unwrap();
    assert!(
        said.starts_with("74 dead-lettered messages redriven"),
        "{said}"
    );
    assert_eq!(world.queue.depth().await.unwrap().visible, 74);
    assert_eq!(world.queue.dlq_depth().await.unwrap().visible, 6);

    dlq::purge(&place, &DlqFilter::default(), &mut Vec::new())
        .await
        .unwrap();
    let depth = world.queue.dlq_depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight), (0, 0));
}

async fn what_a_fifo_queue_does_not_show_is_told(kind: Kind) {
    let letters = (0..25).map(|n| ("one", if n < 20 { "Other" } else { "Mended" }));
    let (world, place) = in_groups(kind, letters).await;
    let mended = by_reason("Mended");
    for error in [
        dlq::list(&place, &DlqFilter::default(), true, &mut Vec::new())
            .await
            .unwrap_err(),
        dlq::redrive(&place, &mended, false, &mut Vec::new())
            .await
            .unwrap_err(),
        dlq::purge(&place, &mended, &mut Vec::new())
            .await
            .unwrap_err(),
    ] {
        let short = ScanCoverage {
            read: 10,
            total: 25,
            is_fifo: true,
        };
        assert!(
            matches!(&error, DlqError::IncompleteScan(sight) if *sight == short),
            "{error}"
        );
        assert!(error.to_string().contains("FIFO"), "{error}");
    }
    assert_eq!(world.queue.depth().await.unwrap().visible, 0);
    let depth = world.queue.dlq_depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight), (25, 0));
}
