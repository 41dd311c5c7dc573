//! Results of runs: events at Iterable, the queue, and the status.

use std::collections::BTreeMap;

use k8s_openapi::api::{
    batch::v1::{CronJob, Job},
    core::v1::Pod,
};
use kube::{ResourceExt, api::ListParams};
use serde_json::{Value, json};

use crate::world::{
    Shared, World, condition, eventually, jobs, kubectl, recent_kiloseconds, sample,
};

/// Ada's session and screens, her custom events, every commerce action, and Grace's Android
/// life cycle.
const BATCHES: [&str; 4] = [
    "01-session-and-screens-list-identities.json",
    "02-custom-event-value-types.json",
    "03-commerce-every-action.json",
    "05-lifecycle-android-object-identities.json",
];

/// With the default mapping: 4 + 0 + 9 + 8. It skips custom events and the purchase, which
/// mParticle's own connection sends, and Android's `activity_stopped`, which is not a screen view.
const FORWARDED: u64 = 21;
const SKIPPED: u64 = 7;

pub async fn scheduled_run_forwards_all_sample_events(shared: &Shared) {
    let world = World::new(shared, "scheduled").await;
    let kiloseconds = recent_kiloseconds();
    let bodies = BATCHES.map(sample);
    world.queue.send(&bodies).await.expect("sending");
    world.create_key_secret().await;
    world
        .apply("mparticle", json!({"schedule": "* * * * *"}))
        .await;

    let status = world
        .status_until(
            "mparticle",
            "a scheduled run has drained the queue and the queue depth is polled",
            |status| {
                let run = status.last_run.as_ref();
                run.is_some_and(|run| run.outcome == "Drained")
                    && status
                        .queue
                        .as_ref()
                        .is_some_and(|queue| queue.visible == 0 && queue.in_flight == 0)
            },
        )
        .await;
    let first = jobs(&world)
        .await
        .iter()
        .filter_map(|job| job.metadata.name.clone())
        .min()
        .expect("a job");
    assert!(first.starts_with("mparticle-"), "{first}");
    assert_eq!(condition(&status, "Ready").0, "True", "{status:#?}");
    assert_eq!(condition(&status, "LastRunSucceeded").1, "Drained");
    assert!(status.last_success_time.is_some() && status.next_run_time.is_some());
    assert_eq!(world.queue.depth().await.expect("depth").visible, 0);
    assert_eq!(world.queue.dlq_depth().await.expect("depth").visible, 0);

    let events = world.iterable.handle.events();
    assert_eq!(events.len() as u64, FORWARDED);
    let ids: std::collections::BTreeSet<_> = events.iter().map(|event| &event.id).collect();
    assert_eq!(ids.len(), events.len(), "event IDs must be unique");

    // The sample's user, event name, time in seconds, and screen.
    let home = find_event(&events, "Screen View", "screen_name", "Home");
    assert_eq!(home["email"], "ada@example.com");
    assert_eq!(home.get("userId"), None, "only one key identifies the user");
    assert_eq!(home["createdAt"], kiloseconds * 1000 + 601);
    assert_eq!(home["dataFields"]["referrer"], "push");
    assert_eq!(home["dataFields"]["items"], "12", "strings stay strings");
    let main = find_event(&events, "Screen View", "screen_name", "MainActivity");
    assert_eq!(
        main["email"], "grace.hopper@example.com",
        "email addresses are lowercased"
    );

    let mut names = BTreeMap::<&str, u32>::new();
    for event in &events {
        *names
            .entry(event.event["eventName"].as_str().unwrap_or_default())
            .or_default() += 1;
    }
    for (name, count) in [
        ("Session Start", 1),
        ("Session End", 1),
        ("Screen View", 3),
        ("First Run", 1),
        ("Uninstall", 1),
    ] {
        assert_eq!(names.get(name), Some(&count), "{names:?}");
    }
    assert!(
        !names.contains_key("Quiz Completed")
            && !names.keys().any(|name| name.contains("Purchase")),
        "{names:?}"
    );

    check_printed_columns(&world).await;
}

async fn check_printed_columns(world: &World) {
    let table = kubectl(&["get", "ef", "--namespace", &world.namespace]).await;
    let mut lines = table.lines();
    let header: Vec<_> = lines
        .next()
        .expect("a header")
        .split("  ")
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .collect();
    assert_eq!(
        header,
        [
            "NAME",
            "SCHEDULE",
            "READY",
            "REASON",
            "DEPTH",
            "DEAD",
            "LAST RUN",
            "OUTCOME",
            "FORWARDED",
            "AGE"
        ]
    );
    let row = lines.next().expect("a row");
    for word in ["mparticle", "* * * * *", "True"] {
        assert!(row.contains(word), "{table}");
    }
    let wide = kubectl(&["get", "ef", "--namespace", &world.namespace, "-o", "wide"]).await;
    for column in ["IN FLIGHT", "NEXT RUN", "SUSPENDED", "QUEUE", "REASON"] {
        assert!(wide.contains(column), "{wide}");
    }
}

fn find_event<'a>(
    events: &'a [event_forwarder_test_support::iterable::StoredEvent],
    name: &str,
    field: &str,
    value: &str,
) -> &'a Value {
    events
        .iter()
        .map(|stored| &stored.event)
        .find(|event| event["eventName"] == name && event["dataFields"][field] == value)
        .unwrap_or_else(|| panic!("no {name} with {field} {value} in {events:#?}"))
}

pub async fn manual_run_is_reported_in_status(shared: &Shared) {
    let world = World::new(shared, "manual-run").await;
    let bodies = BATCHES.map(sample);
    world.queue.send(&bodies).await.expect("sending");
    world.create_key_secret().await;
    world.apply("mparticle", json!({})).await;
    let status = world.run_now("mparticle", "now").await;
    let run = status.last_run.expect("a run");
    assert_eq!(run.outcome, "Drained", "{run:#?}");
    assert_eq!((run.messages.received, run.messages.deleted), (4, 4));
    assert_eq!(
        (
            run.events.forwarded,
            run.events.skipped,
            run.events.rejected
        ),
        (FORWARDED, SKIPPED, 0)
    );
    assert_eq!(run.requests.iterable, 1);
}

pub async fn annotation_starts_exactly_one_run(shared: &Shared) {
    let world = World::new(shared, "run-now").await;
    world.create_key_secret().await;
    world.apply("mparticle", json!({})).await;
    world
        .until::<CronJob>("mparticle", "the CronJob exists", |_| true)
        .await;
    let request_run = async |value: &str| {
        let annotation = format!("eventforwarder.io/run-now={value}");
        kubectl(&[
            "annotate",
            "ef",
            "mparticle",
            "--namespace",
            &world.namespace,
            "--overwrite",
            &annotation,
        ])
        .await;
        world
            .status_until("mparticle", "the requested run has ended", |status| {
                status.last_run_request.as_deref() == Some(value)
                    && status.active == 0
                    && status
                        .last_run
                        .as_ref()
                        .is_some_and(|run| run.finished_at.is_some())
            })
            .await
    };
    request_run("first").await;
    assert_eq!(
        request_run("first").await.totals.runs,
        1,
        "the same value must not request a second run"
    );
    world
        .status_until("mparticle", "at most two runs are counted", |status| {
            status.totals.runs <= 2
        })
        .await;
    request_run("second").await;
    eventually("two Jobs exist", async || {
        let jobs = jobs(&world).await.len();
        (jobs == 2, jobs)
    })
    .await;
}

pub async fn unparsable_batch_is_left_for_redrive_policy(shared: &Shared) {
    let world = World::new(shared, "unreadable-batch").await;
    let truncated = sample("33-body-truncated.txt");
    world.queue.send(&[truncated]).await.expect("sending");
    world.create_key_secret().await;
    world.apply("mparticle", json!({})).await;
    let status = world.run_now("mparticle", "now").await;
    let run = status.last_run.expect("a run");
    assert_eq!(
        (run.messages.received >= 1, run.messages.deleted),
        (true, 0),
        "{run:#?}"
    );
    assert!(
        !run.reasons.is_empty(),
        "the reason must be counted: {run:#?}"
    );
    let depth = world.queue.depth().await.expect("depth");
    let dead = world.queue.dlq_depth().await.expect("depth");
    assert_eq!(
        depth.visible + depth.in_flight + dead.visible,
        1,
        "the message must not be deleted"
    );
    assert!(world.iterable.handle.events().is_empty());
}

pub async fn suspended_forwarder_starts_no_runs_until_resumed(shared: &Shared) {
    let world = World::new(shared, "suspend").await;
    world.create_key_secret().await;
    world
        .apply(
            "mparticle",
            json!({"schedule": "* * * * *", "suspend": true}),
        )
        .await;
    world
        .until::<CronJob>("mparticle", "the CronJob is suspended", |cronjob| {
            cronjob.spec.as_ref().and_then(|spec| spec.suspend) == Some(true)
        })
        .await;
    let status = world
        .status_until("mparticle", "the condition is set", |status| {
            condition(status, "Scheduled").1 == "Suspended"
        })
        .await;
    assert_eq!(status.next_run_time, None);
    // A second forwarder with the same schedule shows when a run was due.
    world
        .apply("control", json!({"schedule": "* * * * *"}))
        .await;
    let runs_of = async |name: &str| {
        jobs(&world)
            .await
            .iter()
            .filter(|job| job.name_any().starts_with(name))
            .count()
    };
    let has_run = async |name| {
        let runs = runs_of(name).await;
        (runs > 0, runs)
    };
    eventually("the control has a run", async || has_run("control").await).await;
    assert_eq!(runs_of("mparticle").await, 0, "no run while suspended");

    world
        .apply(
            "mparticle",
            json!({"schedule": "* * * * *", "suspend": false}),
        )
        .await;
    eventually("a run starts after resuming", async || {
        has_run("mparticle").await
    })
    .await;
}

pub async fn rejected_key_sets_condition_and_deletes_nothing(shared: &Shared) {
    let world = World::new(shared, "rejected-key").await;
    world
        .secret("iterable", &[("api-key", "not-the-key")])
        .await;
    let body = sample(BATCHES[0]);
    world.queue.send(&[body]).await.expect("sending");
    world.apply("mparticle", json!({})).await;
    let status = world.run_now("mparticle", "now").await;
    let (condition_status, reason, message) = condition(&status, "LastRunSucceeded");
    assert_eq!(
        (condition_status, reason),
        ("False", "ApiKeyRejected"),
        "{message}"
    );
    assert_eq!(condition(&status, "Ready").1, "ApiKeyRejected");
    let depth = world.queue.depth().await.expect("depth");
    assert_eq!(
        depth.visible + depth.in_flight,
        1,
        "the message must not be deleted"
    );
    world
        .until::<Job>("now", "the Job has failed", |job| {
            job.status
                .as_ref()
                .is_some_and(|status| status.failed == Some(1))
        })
        .await;

    // Each run reads the key when it starts, so the next run succeeds with a valid key.
    world.create_key_secret().await;
    let status = world.run_now("mparticle", "again").await;
    assert_eq!(
        condition(&status, "LastRunSucceeded").0,
        "True",
        "{status:#?}"
    );
}

pub async fn reports_of_all_pods_are_summed(shared: &Shared) {
    let world = World::new(shared, "several-pods").await;
    world.create_key_secret().await;
    let batch = sample("01-session-and-screens-list-identities.json");
    world.queue.send(&vec![batch; 30]).await.expect("sending");
    world
        .apply("mparticle", json!({"drain": {"parallelism": 3}}))
        .await;
    let status = world.run_now("mparticle", "now").await;
    let run = status.last_run.expect("a run");
    assert_eq!(
        (run.outcome.as_str(), run.events.rejected),
        ("Drained", 0),
        "{run:#?}"
    );
    // Moto may deliver a message twice.
    assert!(
        run.messages.deleted >= 30 && run.events.forwarded >= 4,
        "{run:#?}"
    );
    let of_the_run = ListParams::default().labels("batch.kubernetes.io/job-name=now");
    let pods = world.api::<Pod>().list(&of_the_run).await.expect("pods");
    assert_eq!(pods.items.len(), 3);
    let depth = world.queue.depth().await.expect("depth");
    assert_eq!(depth.visible + depth.in_flight, 0);
}
