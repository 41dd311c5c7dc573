//! Users that Iterable doesn't know, and pods that share a queue.

use std::num::NonZeroU32;

use event_forwarder::drain::{self, report::Outcome};
use event_forwarder_test_support::{
    iterable::{KnownUsers, Options},
    sqs::Kind,
};
use futures::future::join_all;
use serde_json::json;

use crate::world::{Setting, World, batch};

on_each_server!(
    the_message_of_an_unknown_user_stays_by_default,
    an_unknown_user_is_made_where_the_forwarder_wants_it,
    the_event_of_an_unknown_user_is_dead_lettered_where_the_forwarder_wants_it,
    several_pods_share_a_queue_and_the_rate,
);

async fn with_a_stranger(kind: Kind, unknown_users: &str) -> World {
    let world = World::new(Setting {
        iterable: Options {
            known_users: KnownUsers::Listed(vec!["ada@example.com".to_owned()]),
            ..Options::default()
        },
        project: json!({"unknownUsers": unknown_users}),
        ..Setting::on(kind)
    })
    .await;
    let bodies = ["ada@example.com", "new@example.com"]
        .map(|user| batch(user, [("Viewed", json!({"n": 1}))]));
    world.queue.send(&bodies).await.unwrap();
    world
}

async fn the_message_of_an_unknown_user_stays_by_default(kind: Kind) {
    let world = with_a_stranger(kind, "Retry").await;
    let report = world.drain().await;
    assert_eq!(report.outcome, Outcome::Drained);
    assert_eq!(
        (
            report.messages.deleted,
            report.messages.released,
            report.messages.dead_lettered
        ),
        (1, 1, 0)
    );
    assert_eq!(report.reasons[0].reason, "UserNotFound");
}

async fn an_unknown_user_is_made_where_the_forwarder_wants_it(kind: Kind) {
    let world = with_a_stranger(kind, "Create").await;
    let report = world.drain().await;
    assert_eq!(report.outcome, Outcome::Drained);
    assert_eq!((report.messages.deleted, report.messages.released), (1, 1));
    assert_eq!(
        world.iterable.handle.users(),
        ["ada@example.com", "new@example.com"]
    );
    assert_eq!(
        world.queue.depth().await.unwrap().in_flight,
        1,
        "it stays away until Iterable knows the user"
    );
}

async fn the_event_of_an_unknown_user_is_dead_lettered_where_the_forwarder_wants_it(kind: Kind) {
    let world = with_a_stranger(kind, "Reject").await;
    let report = world.drain().await;
    assert_eq!(
        (report.messages.deleted, report.messages.dead_lettered),
        (2, 1)
    );
    assert_eq!(world.dead_letters().await.len(), 1);
}

async fn several_pods_share_a_queue_and_the_rate(kind: Kind) {
    let count = if kind == Kind::Moto { 120 } else { 600 };
    let world = World::new(Setting {
        project: json!({"maxEventsPerRequest": 40}),
        ..Setting::on(kind)
    })
    .await;
    world
        .queue
        .send(&crate::world::batches(count, 2))
        .await
        .unwrap();
    let pods = NonZeroU32::new(3).unwrap();
    let runs = (0..pods.get()).map(|_| {
        let mut plan = world.plan("test-key");
        plan.pods = pods;
        drain::drain(plan, std::future::pending())
    });
    let reports = join_all(runs).await;
    let sum = |count: fn(&drain::report::RunReport) -> u64| reports.iter().map(count).sum::<u64>();
    assert!(
        reports
            .iter()
            .all(|report| report.outcome == Outcome::Drained),
        "{reports:?}"
    );
    let (deleted, forwarded) = (
        sum(|one| one.messages.deleted),
        sum(|one| one.events.forwarded),
    );
    // A standard queue may give a message to two receivers at once; of these servers, moto does.
    if kind == Kind::Moto {
        assert!(deleted >= count as u64, "{deleted} of {count}");
    } else {
        assert_eq!(deleted, count as u64);
    }
    assert_eq!(forwarded, 2 * deleted);
    let summary = world.iterable.handle.summary();
    assert_eq!(summary.events.stored, 2 * count as u64);
    assert_eq!(
        summary.events.writes, forwarded,
        "what a pod has received it sends once"
    );
    assert_eq!(summary.requests.by_status.get("429"), None);
}
