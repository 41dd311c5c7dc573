//! That schedules go on whatever was missed, and that tools know when a forwarder is ready.

use k8s_openapi::api::batch::v1::CronJob;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::process::Command;

use crate::world::{Shared, World, condition, kubectl};

/// Kubernetes gave up on CronJobs that had missed more than a hundred starts, and warns still. A
/// year without runs of each minute is half a million.
pub async fn a_year_of_missed_starts_does_not_stop_runs(shared: &Shared) {
    let world = World::new(shared, "missed").await;
    world.give_key().await;
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
            .until::<CronJob>(name, "a CronJob is there", |_| true)
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
        .apply("usual", resumed(each_minute(json!({}))))
        .await;
    world
        .apply("patient", resumed(each_minute(longest)))
        .await;
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
pub async fn tools_wait_for_what_may_still_come_and_give_up_on_what_can_not(shared: &Shared) {
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
            .args(["--namespace", &world.namespace, "--wait", "--timeout", "100s"])
            .output()
            .await
            .expect("helm");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), told, began.elapsed())
    };
    // There is no Secret yet: the wait goes on until it comes.
    let later = async {
        world
            .status_until("late", "the Secret is missed", |status| {
                condition(status, "Ready").1 == "SecretMissing"
            })
            .await;
        world.give_key().await;
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
        took < std::time::Duration::from_secs(60),
        "it gave up after {took:?}: {told}"
    );
    let _ = std::fs::remove_dir_all(&folder);
}
