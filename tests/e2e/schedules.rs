//! That schedules go on whatever was missed, and that tools know when a forwarder is ready.

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

/// Kubernetes gave up on CronJobs that had missed more than a hundred starts, and warns still. A
/// year without runs of each minute is half a million.
pub async fn year_of_missed_starts_does_not_stop_runs(shared: &Shared) {
    let world = World::new(shared, "missed").await;
    world.create_key_secret().await;
    let each_minute = |more: serde_json::Value| {
        let mut spec = json!({"schedule": "* * * * *", "suspend": true});
        spec.as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        spec
    };
    let longest = json!({"startingDeadlineSeconds": 86_400});
    world.apply("usual", each_minute(json!({}))).await;
    world.apply("patient", each_minute(longest.clone())).await;
    for name in ["usual", "patient"] {
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
    world.apply("usual", resumed(each_minute(json!({})))).await;
    world.apply("patient", resumed(each_minute(longest))).await;
    for name in ["usual", "patient"] {
        let status = world
            .status_until(name, "its schedule has started two runs", |status| {
                status.totals.runs >= 2
            })
            .await;
        assert_eq!(condition(&status, "Scheduled").1, "CronJobInPlace");
    }
}

/// `helm --wait` reckons by kstatus, as Flux does.
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
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), told, began.elapsed())
    };
    // There is no Secret yet: the wait goes on until it comes.
    let later = async {
        world
            .status_until("late", "the missing Secret is reported", |status| {
                condition(status, "Ready").1 == "SecretMissing"
            })
            .await;
        world.create_key_secret().await;
    };
    let ((installed, told, _), ()) = tokio::join!(install("late", json!({})), later);
    assert!(installed, "{told}");
    kubectl(&[
        "wait",
        "--for=condition=Ready",
        "ef/late",
        "--namespace",
        &world.namespace,
        "--timeout=10s",
    ])
    .await;

    let (installed, told, took) = install("never", json!({"schedule": "0 0 31 2 *"})).await;
    assert!(!installed, "{told}");
    assert!(
        took < Duration::from_secs(60),
        "it gave up after {took:?}: {told}"
    );
    let _ = std::fs::remove_dir_all(&folder);
}

/// The events about a forwarder, as (reason, how often), and the versions of what stands.
async fn traces(world: &World) -> (Vec<(String, i32)>, Option<String>, Option<String>) {
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
    let changes = ["CronJobInPlace", "Found", "Paused", "SecretMissing"];
    let once_each = changes.map(|reason| (reason.to_owned(), 1));
    // An event is published after the status that it tells of.
    eventually("each change is an event", async || {
        let events = traces(&world).await.0;
        (events.len() >= once_each.len(), events)
    })
    .await;
    // What has just been done is seen again at once; that is past by now.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = traces(&world).await;
    assert_eq!(before.0, once_each);
    // Fifty polls of the depth.
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(traces(&world).await, before);
}

/// Each minute, with as little patience as there may be.
fn each_minute(more: Value) -> Value {
    let mut spec = json!({"schedule": "* * * * *", "startingDeadlineSeconds": 60});
    let fields = spec.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("an object").clone());
    spec
}

/// When the next run is due, once that is known, and how long it is until then.
async fn due(world: &World, name: &str) -> (Timestamp, Duration) {
    let status = world
        .status_until(name, "a run is announced", |status| {
            status.next_run_time.is_some()
        })
        .await;
    let due = status.next_run_time.expect("a time").0;
    let until = due.duration_since(Timestamp::now());
    (due, Duration::try_from(until).unwrap_or_default())
}

pub async fn blocked_run_is_overdue_until_one_starts(shared: &Shared) {
    let world = World::new(shared, "overdue").await;
    world.create_key_secret().await;
    world.quota(json!({"count/jobs.batch": "0"})).await;
    world.apply("mparticle", each_minute(json!({}))).await;
    let (_, until) = due(&world, "mparticle").await;
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
            .contains("Look at the events of CronJob mparticle"),
        "{status:#?}"
    );
    world.quota(json!({"count/jobs.batch": "9"})).await;
    world
        .status_until("mparticle", "a run has started", |status| {
            condition(status, "Scheduled").1 == "CronJobInPlace" && status.totals.runs > 0
        })
        .await;
    no_more(&world).await;
}

pub async fn long_run_makes_no_start_overdue(shared: &Shared) {
    let world = World::new(shared, "long-run").await;
    world.create_key_secret().await;
    let batch = sample("01-session-and-screens-list-identities.json");
    world.queue.send(&[batch]).await.expect("sending");
    let gate = world.iterable.handle.gate("long");
    let held = Fault::hold("long").times(1);
    world.iterable.handle.add_fault(held);
    let spec = each_minute(json!({
        "iterable": {"requestTimeout": "5m"},
        "drain": {"maxDuration": "9m"},
    }));
    world.apply("mparticle", spec).await;
    within("a request is held", gate.until_held(1)).await;
    world
        .status_until("mparticle", "the start after it is announced", |status| {
            status.active == 1
                && status
                    .next_run_time
                    .as_ref()
                    .is_some_and(|due| due.0 > Timestamp::now())
        })
        .await;
    let (left_out, until) = due(&world, "mparticle").await;
    // Past the deadline, a minute on top, and the look that would find it late.
    tokio::time::sleep(until + Duration::from_secs(155)).await;
    let (next, _) = due(&world, "mparticle").await;
    assert!(next > left_out, "{next}");
    let status = world
        .status_until("mparticle", "it goes on", |_| true)
        .await;
    assert_eq!(condition(&status, "Scheduled").1, "CronJobInPlace");
    assert_eq!(
        (status.active, status.totals.runs),
        (1, 0),
        "it is the same run"
    );
    let told = traces(&world).await.0;
    assert!(
        !told.iter().any(|(reason, _)| reason == "RunOverdue"),
        "{told:?}"
    );
    gate.open();
    world
        .status_until("mparticle", "the run has ended", |status| {
            status.totals.runs > 0
        })
        .await;
    no_more(&world).await;
}

/// Takes away a forwarder that would go on to run each minute, beside tests that want rest.
async fn no_more(world: &World) {
    let forwarder = ["ef/mparticle", "--namespace", &world.namespace];
    kubectl(&[&["delete"], &forwarder[..]].concat()).await;
}
