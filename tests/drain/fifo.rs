//! FIFO queues keep the order within a message group.

use std::collections::BTreeMap;

use aws_sdk_sqs::types::MessageSystemAttributeName;
use event_forwarder::drain::report::Outcome;
use event_forwarder_test_support::{
    iterable::{Fault, KnownUsers, Match, Options},
    sqs::{Attributes, Kind},
};
use serde_json::json;

use crate::world::{Setting, World, batch};

on_each_server!(
    fifo_queue_keeps_its_order,
    fifo_order_is_kept_after_rejected_event,
    fifo_dead_letter_keeps_its_message_group,
    released_fifo_message_blocks_only_its_group,
);

async fn fifo_queue_keeps_its_order(kind: Kind) {
    let world = World::new(Setting {
        queue: Attributes {
            fifo: true,
            ..Attributes::default()
        },
        project: json!({"maxEventsPerRequest": 7}),
        ..Setting::on(kind)
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

async fn fifo_order_is_kept_after_rejected_event(kind: Kind) {
    let world = World::new(Setting {
        queue: Attributes {
            fifo: true,
            ..Attributes::default()
        },
        ..Setting::on(kind)
    })
    .await;
    let bodies: Vec<_> = (0..10)
        .map(|n| {
            let name = if n == 6 { "Offending" } else { "Viewed" };
            batch("ada@example.com", [(name, json!({"n": n}))])
        })
        .collect();
    world.queue.send(&bodies).await.unwrap();
    // The index is correct for the complete request and wrong for its parts.
    let rejection = json!({
        "code": "BadJsonBody", "msg": "message",
        "params": {"obj.events[6].createdAt": "Number value expected"},
    });
    world
        .iterable
        .handle
        .add_fault(Fault::answer(400, rejection.to_string()).when(Match::event_name("Offending")));
    let report = world.drain().await;
    assert_eq!(
        (report.messages.deleted, report.messages.dead_lettered),
        (10, 1),
        "{report:?}"
    );
    let events = world.iterable.handle.events();
    let order: Vec<_> = events
        .iter()
        .map(|event| event.event["dataFields"]["n"].as_i64().unwrap())
        .collect();
    assert_eq!(order, [0, 1, 2, 3, 4, 5, 7, 8, 9]);
}

async fn fifo_dead_letter_keeps_its_message_group(kind: Kind) {
    let world = World::new(Setting {
        queue: Attributes {
            fifo: true,
            ..Attributes::default()
        },
        ..Setting::on(kind)
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
    let dead_letters = world.dead_letters().await;
    assert_eq!(dead_letters.len(), 1);
    let attributes = dead_letters[0].attributes.as_ref().unwrap();
    assert_eq!(
        attributes[&MessageSystemAttributeName::MessageGroupId],
        "test"
    );
}

async fn released_fifo_message_blocks_only_its_group(kind: Kind) {
    let world = World::new(Setting {
        queue: Attributes {
            fifo: true,
            ..Attributes::default()
        },
        iterable: Options {
            known_users: KnownUsers::Listed(vec!["ada@example.com".to_owned()]),
            ..Options::default()
        },
        ..Setting::on(kind)
    })
    .await;
    let client = world.sqs.client();
    for n in 0..6 {
        // The third message of the first group is of an unknown user.
        let user = if n == 2 {
            "new@example.com"
        } else {
            "ada@example.com"
        };
        for (group, user) in [("one", user), ("two", "ada@example.com")] {
            client
                .send_message()
                .queue_url(&world.queue.url)
                .message_body(batch(user, [("Viewed", json!({"n": n, "group": group}))]))
                .message_group_id(group)
                .send()
                .await
                .unwrap();
        }
    }
    let report = world.drain().await;
    assert_eq!(report.outcome, Outcome::Drained, "{report:?}");
    let mut accepted: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for event in world.iterable.handle.events() {
        let fields = &event.event["dataFields"];
        let group = fields["group"].as_str().unwrap().to_owned();
        accepted
            .entry(group)
            .or_default()
            .push(fields["n"].as_i64().unwrap());
    }
    assert_eq!(accepted["two"], [0, 1, 2, 3, 4, 5]);
    // Iterable also accepted the other events of the same request, but their messages wait for the
    // third.
    assert!(
        accepted["one"].is_sorted() && !accepted["one"].contains(&2),
        "{accepted:?}"
    );
    assert_eq!(report.messages.deleted, 8, "{report:?}");
    let depth = world.queue.depth().await.unwrap();
    assert_eq!(depth.visible + depth.in_flight, 4);
}
