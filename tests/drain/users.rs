//! Unknown users, and pods that share a queue.

use std::{collections::BTreeSet, num::NonZeroU32};

use event_forwarder::drain::{self, report::Outcome};
use event_forwarder_test_support::{
    iterable::{Fault, KnownUsers, Options, ProjectType},
    sqs::Kind,
};
use futures::future::join_all;
use serde_json::json;

use crate::{
    process::Pod,
    world::{Setting, World, batch, batches},
};

on_each_server!(
    message_of_unknown_user_is_released_by_default,
    unknown_user_is_created_when_configured,
    unknown_user_event_is_dead_lettered_when_configured,
    unknown_user_ids_are_retried_or_created,
    pods_share_a_queue_and_the_rate,
    indexed_job_processes_share_queue_and_rate,
);

async fn with_unknown_user(kind: Kind, unknown_users: &str) -> World {
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

async fn message_of_unknown_user_is_released_by_default(kind: Kind) {
    let world = with_unknown_user(kind, "Retry").await;
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

async fn unknown_user_is_created_when_configured(kind: Kind) {
    let world = with_unknown_user(kind, "Create").await;
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
        "it stays invisible until the user is known"
    );
}

async fn unknown_user_event_is_dead_lettered_when_configured(kind: Kind) {
    let world = with_unknown_user(kind, "Reject").await;
    let report = world.drain().await;
    assert_eq!(
        (report.messages.deleted, report.messages.dead_lettered),
        (2, 1)
    );
    assert_eq!(world.dead_letters().await.len(), 1);
}

async fn unknown_user_ids_are_retried_or_created(kind: Kind) {
    for (project_type, name) in [
        (ProjectType::UserId, "UserId"),
        (ProjectType::Hybrid, "Hybrid"),
    ] {
        for unknown_users in ["Retry", "Create"] {
            let world = World::new(Setting {
                iterable: Options {
                    project_type,
                    known_users: KnownUsers::Listed(vec!["ada".to_owned()]),
                    ..Options::default()
                },
                project: json!({"projectType": name, "unknownUsers": unknown_users}),
                ..Setting::on(kind)
            })
            .await;
            let bodies = ["ada", "new"].map(|user| batch(user, [("Viewed", json!({"n": 1}))]));
            world.queue.send(&bodies).await.unwrap();
            let report = world.drain().await;
            let messages = &report.messages;
            assert_eq!(
                (report.outcome, messages.deleted, messages.released),
                (Outcome::Drained, 1, 1),
                "{name} {unknown_users}: {report:?}"
            );
            let not_found = report
                .reasons
                .iter()
                .find(|reason| reason.reason == "UserNotFound");
            assert_eq!(not_found.map(|reason| reason.count), Some(1), "{report:?}");
            let is_created = world.iterable.handle.users().contains(&"new".to_owned());
            assert_eq!(is_created, unknown_users == "Create", "{name}");
            let left = world.queue.depth().await.unwrap();
            assert_eq!(left.visible + left.in_flight, 1, "{name} {unknown_users}");
        }
    }
}

async fn pods_share_a_queue_and_the_rate(kind: Kind) {
    let count = if kind == Kind::Moto { 120 } else { 600 };
    let world = World::new(Setting {
        project: json!({"maxEventsPerRequest": 40}),
        ..Setting::on(kind)
    })
    .await;
    world.queue.send(&batches(count, 2)).await.unwrap();
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
        sum(|report| report.messages.deleted),
        sum(|report| report.events.forwarded),
    );
    // A standard queue can deliver a message to two receivers at once, and moto does.
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
        "every pod sends its messages once"
    );
    assert_eq!(summary.requests.by_status.get("429"), None);
}

async fn indexed_job_processes_share_queue_and_rate(kind: Kind) {
    const MESSAGES: usize = 200;
    // Enough requests that two processes would exceed Iterable's rate limit if each used all of it.
    let world = World::new(Setting {
        drain: json!({"parallelism": 2}),
        project: json!({"maxEventsPerRequest": 4}),
        ..Setting::on(kind)
    })
    .await;
    world.queue.send(&batches(MESSAGES, 1)).await.unwrap();
    // Every process starts with one request, so two requests mean that both have started.
    let gate = world.iterable.handle.gate("both");
    world
        .iterable
        .handle
        .add_fault(Fault::hold("both").times(2));
    let runs = ["0", "1"].map(async |index| {
        let pod = Pod::new("indexed");
        let environment = [("JOB_COMPLETION_INDEX", index.to_owned())];
        let child = pod.all_files(&world).start_with(environment);
        pod.end(child).await
    });
    let (results, ()) = tokio::join!(join_all(runs), async {
        gate.until_held(2).await;
        gate.open();
    });
    for (code, report) in results {
        assert_eq!((code, report.outcome), (Some(0), Outcome::Drained));
        assert!(report.messages.deleted > 0, "{report:?}");
    }
    let events = world.iterable.handle.events();
    let ids: BTreeSet<_> = events.iter().map(|event| &event.id).collect();
    let numbers: BTreeSet<_> = events
        .iter()
        .map(|event| event.event["dataFields"]["n"].as_str().unwrap())
        .collect();
    assert_eq!(
        (events.len(), ids.len(), numbers.len()),
        (MESSAGES, MESSAGES, MESSAGES)
    );
    let depth = world.queue.depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight), (0, 0));
    let requests = world.iterable.handle.summary().requests;
    assert_eq!(requests.by_status.get("429"), None, "{requests:?}");
}
