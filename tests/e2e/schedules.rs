//! Missed and overdue starts, and readiness as seen by helm.

use std::time::Duration;

use event_forwarder::api::EventForwarder;
use event_forwarder_test_support::iterable::Fault;
use jiff::Timestamp;
use k8s_openapi::api::{batch::v1::CronJob, events::v1::Event};
use kube::{
    ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::world::{Shared, World, condition, eventually, kubectl, sample, within};

/// Older versions of Kubernetes stopped CronJobs that had missed more than 100 starts, and current
/// versions log a warning. A schedule of every minute misses 525,600 starts in a year.
pub async fn year_of_missed_starts_does_not_stop_runs(shared: &Shared) {
    let world = World::new(shared, "missed").await;
    world.create_key_secret().await;
    let every_minute = |more: serde_json::Value| {
        let mut spec = json!({"schedule": "* * * * *", "suspend": true});
        spec.as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        spec
    };
    let longest = json!({"startingDeadlineSeconds": 86_400});
    world.apply("default", every_minute(json!({}))).await;
    world
        .apply("long-deadline", every_minute(longest.clone()))
        .await;
    for name in ["default", "long-deadline"] {
        world
            .until::<CronJob>(name, "the CronJob exists", |_| true)
            .await;
        let a_year_ago = jiff::Timestamp::now()
            .checked_sub(jiff::SignedDuration::from_hours(365 * 24))
            .expect("a time");
        let status = json!({"status": {"lastScheduleTime": a_year_ago.to_string()}});
        world
            .api::<CronJob>()
            .patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
            .await
            .expect("a CronJob that last ran a year ago");
    }
    let resumed = |mut spec: serde_json::Value| {
        spec["suspend"] = json!(false);
        spec
    };
    world
        .apply("default", resumed(every_minute(json!({}))))
        .await;
    world
        .apply("long-deadline", resumed(every_minute(longest)))
        .await;
    for name in ["default", "long-deadline"] {
        let status = world
            .status_until(name, "two scheduled runs have ended", |status| {
                status.totals.runs >= 2
            })
            .await;
        assert_eq!(condition(&status, "Scheduled").1, "CronJobUpToDate");
    }
}

/// `helm --wait` uses kstatus, like Flux.
pub async fn helm_waits_unless_forwarder_is_stalled(shared: &Shared) {
    let world = World::new(shared, "waits").await;
    let folder = std::env::temp_dir().join(format!("event-forwarder-waits-{}", std::process::id()));
    let templates = folder.join("templates");
    std::fs::create_dir_all(&templates).expect("a folder");
    std::fs::write(
        folder.join("Chart.yaml"),
        "apiVersion: v2\nname: waits\nversion: 0.1.0\n",
    )
    .expect("a file");
    let install = async |name: &str, spec: serde_json::Value| {
        let manifest = world.manifest(name, spec).to_string();
        std::fs::write(templates.join("forwarder.yaml"), manifest).expect("a file");
        let began = std::time::Instant::now();
        let output = Command::new("helm")
            .args(["install", name])
            .arg(&folder)
            .args([
                "--namespace",
                &world.namespace,
                "--wait",
                "--timeout",
                "100s",
            ])
            .output()
            .await
            .expect("helm");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), stderr, began.elapsed())
    };
    // The Secret is created later, and helm waits for it.
    let later = async {
        world
            .status_until("late", "the missing Secret is reported", |status| {
                condition(status, "Ready").1 == "SecretMissing"
            })
            .await;
        world.create_key_secret().await;
    };
    let ((installed, stderr, _), ()) = tokio::join!(install("late", json!({})), later);
    assert!(installed, "{stderr}");
    kubectl(&[
        "wait",
        "--for=condition=Ready",
        "ef/late",
        "--namespace",
        &world.namespace,
        "--timeout=10s",
    ])
    .await;

    let (installed, stderr, duration) = install("never", json!({"schedule": "0 0 31 2 *"})).await;
    assert!(!installed, "{stderr}");
    assert!(
        duration < Duration::from_secs(60),
        "helm failed only after {duration:?}: {stderr}"
    );
    let _ = std::fs::remove_dir_all(&folder);
}

/// Returns the events about forwarders as (reason, count), and the resource versions of the
/// forwarder and its CronJob.
async fn events_and_versions(
    world: &World,
) -> (Vec<(String, i32)>, Option<String>, Option<String>) {
    let all = world.api::<Event>().list(&ListParams::default()).await;
    let mut events: Vec<_> = all
        .expect("events")
        .items
        .into_iter()
        .filter(|event| {
            let about = event.regarding.as_ref();
            about.and_then(|about| about.kind.as_deref()) == Some("EventForwarder")
        })
        .map(|event| {
            let count = event.series.map_or(1, |series| series.count);
            (event.reason.unwrap_or_default(), count)
        })
        .collect();
    events.sort();
    let forwarder = world.api::<EventForwarder>().get("mparticle").await;
    let cronjob = world.api::<CronJob>().get("mparticle").await;
    (
        events,
        forwarder.expect("a get").resource_version(),
        cronjob.expect("a get").resource_version(),
    )
}

pub async fn each_change_emits_one_event(shared: &Shared) {
    let world = World::new(shared, "quiet").await;
    world.apply("mparticle", json!({})).await;
    world
        .status_until("mparticle", "the missing Secret is reported", |status| {
            condition(status, "Ready").1 == "SecretMissing"
        })
        .await;
    world.create_key_secret().await;
    world
        .status_until("mparticle", "the forwarder is ready", |status| {
            condition(status, "Ready").0 == "True" && status.queue.is_some()
        })
        .await;
    let changes = [
        "CronJobUpToDate",
        "SecretMissing",
        "SecretsFound",
        "WaitingForSecrets",
    ];
    let once_each = changes.map(|reason| (reason.to_owned(), 1));
    // An event is created after the status that it reports.
    eventually("each change has an event", async || {
        let events = events_and_versions(&world).await.0;
        (events.len() >= once_each.len(), events)
    })
    .await;
    // The controller's own writes trigger reconciliations. These are finished after five seconds.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = events_and_versions(&world).await;
    assert_eq!(before.0, once_each);
    // Fifty polls of the queue depth.
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(events_and_versions(&world).await, before);
}

/// Returns a spec with a schedule of every minute and the shortest starting deadline.
fn every_minute(more: Value) -> Value {
    let mut spec = json!({"schedule": "* * * * *", "startingDeadlineSeconds": 60});
    let fields = spec.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("an object").clone());
    spec
}

/// Waits until the next run is known. Returns its time and the duration until then.
async fn next_run(world: &World, name: &str) -> (Timestamp, Duration) {
    let status = world
        .status_until(name, "the next run is known", |status| {
            status.next_run_time.is_some()
        })
        .await;
    let next_run = status.next_run_time.expect("a time").0;
    let until = next_run.duration_since(Timestamp::now());
    (next_run, Duration::try_from(until).unwrap_or_default())
}

pub async fn blocked_run_is_overdue_until_one_starts(shared: &Shared) {
    let world = World::new(shared, "overdue").await;
    world.create_key_secret().await;
    world.quota(json!({"count/jobs.batch": "0"})).await;
    world.apply("mparticle", every_minute(json!({}))).await;
    let (_, until) = next_run(&world, "mparticle").await;
    tokio::time::sleep(until).await;
    let status = world
        .status_until("mparticle", "the run is overdue", |status| {
            condition(status, "Scheduled").1 == "RunOverdue"
        })
        .await;
    assert_eq!(condition(&status, "Ready").1, "RunOverdue");
    assert!(
        condition(&status, "Scheduled")
            .2
            .contains("Check the events of CronJob mparticle"),
        "{status:#?}"
    );
    world.quota(json!({"count/jobs.batch": "9"})).await;
    world
        .status_until("mparticle", "a run has started", |status| {
            condition(status, "Scheduled").1 == "CronJobUpToDate" && status.totals.runs > 0
        })
        .await;
    delete_forwarder(&world).await;
}

pub async fn long_run_makes_no_start_overdue(shared: &Shared) {
    let world = World::new(shared, "long-run").await;
    world.create_key_secret().await;
    let batch = sample("01-session-and-screens-list-identities.json");
    world.queue.send(&[batch]).await.expect("sending");
    let gate = world.iterable.handle.gate("long");
    let held = Fault::hold("long").times(1);
    world.iterable.handle.add_fault(held);
    let spec = every_minute(json!({
        "iterable": {"requestTimeout": "5m"},
        "drain": {"maxDuration": "9m"},
    }));
    world.apply("mparticle", spec).await;
    within("a request is held", gate.until_held(1)).await;
    world
        .status_until("mparticle", "the next start is known", |status| {
            status.active == 1
                && status
                    .next_run_time
                    .as_ref()
                    .is_some_and(|next_run| next_run.0 > Timestamp::now())
        })
        .await;
    let (skipped, until) = next_run(&world, "mparticle").await;
    // Until after the starting deadline, another minute, and the reconciliation that would detect
    // it.
    tokio::time::sleep(until + Duration::from_secs(155)).await;
    let (next, _) = next_run(&world, "mparticle").await;
    assert!(next > skipped, "{next}");
    let status = world
        .status_until("mparticle", "the status exists", |_| true)
        .await;
    assert_eq!(condition(&status, "Scheduled").1, "CronJobUpToDate");
    assert_eq!(
        (status.active, status.totals.runs),
        (1, 0),
        "the first run must still be active"
    );
    let events = events_and_versions(&world).await.0;
    assert!(
        !events.iter().any(|(reason, _)| reason == "RunOverdue"),
        "{events:?}"
    );
    gate.open();
    world
        .status_until("mparticle", "the run has ended", |status| {
            status.totals.runs > 0
        })
        .await;
    delete_forwarder(&world).await;
}

/// Deletes a forwarder that would otherwise run every minute while other tests run.
async fn delete_forwarder(world: &World) {
    let forwarder = ["ef/mparticle", "--namespace", &world.namespace];
    kubectl(&[&["delete"], &forwarder[..]].concat()).await;
}
