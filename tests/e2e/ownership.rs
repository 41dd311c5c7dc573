//! Objects that the controller creates, restores, keeps unchanged and deletes.

use event_forwarder::api::EventForwarder;
use k8s_openapi::{
    api::{batch::v1::CronJob, core::v1::Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::json;

use crate::world::{
    SYSTEM, Shared, World, apply_json, condition, eventually, kubectl, kubectl_apply,
    wait_until_deleted,
};

fn schedule(cronjob: &CronJob) -> &str {
    cronjob
        .spec
        .as_ref()
        .map_or("", |spec| spec.schedule.as_str())
}

pub async fn cronjob_follows_schedule_change(shared: &Shared) {
    let world = World::new(shared, "schedule").await;
    world.create_key_secret().await;
    world
        .apply("mparticle", json!({"schedule": "0 0 1 1 *"}))
        .await;
    world
        .until::<CronJob>("mparticle", "the first schedule", |cronjob| {
            schedule(cronjob) == "0 0 1 1 *"
        })
        .await;
    world
        .apply(
            "mparticle",
            json!({"schedule": "30 6 1 1 *", "timeZone": "Europe/Berlin"}),
        )
        .await;
    let cronjob = world
        .until::<CronJob>("mparticle", "the second schedule", |cronjob| {
            schedule(cronjob) == "30 6 1 1 *"
        })
        .await;
    assert_eq!(
        cronjob.spec.and_then(|spec| spec.time_zone).as_deref(),
        Some("Europe/Berlin")
    );
    world
        .status_until("mparticle", "the next run by the new schedule", |status| {
            // 06:30 in Berlin in January is 05:30 UTC.
            status
                .next_run_time
                .as_ref()
                .is_some_and(|next| next.0.to_string().ends_with("-01-01T05:30:00Z"))
        })
        .await;
}

pub async fn edited_cronjob_is_restored(shared: &Shared) {
    let world = World::new(shared, "manual-edit").await;
    world.create_key_secret().await;
    world.apply("mparticle", json!({})).await;
    world
        .until::<CronJob>("mparticle", "the CronJob exists", |_| true)
        .await;
    let edit = json!({"spec": {"schedule": "* * * * *", "concurrencyPolicy": "Allow"}});
    world
        .api::<CronJob>()
        .patch("mparticle", &PatchParams::default(), &Patch::Merge(&edit))
        .await
        .expect("a manual edit");
    let is_restored = |cronjob: &CronJob| {
        schedule(cronjob) == "0 0 1 1 *"
            && cronjob
                .spec
                .as_ref()
                .and_then(|spec| spec.concurrency_policy.as_deref())
                == Some("Forbid")
    };
    world
        .until::<CronJob>("mparticle", "the edit is reverted", is_restored)
        .await;

    world
        .api::<CronJob>()
        .delete("mparticle", &DeleteParams::default())
        .await
        .expect("a manual deletion");
    eventually("the CronJob is recreated", async || {
        let cronjob = world
            .api::<CronJob>()
            .get_opt("mparticle")
            .await
            .expect("a get");
        let metadata = cronjob.map(|cronjob| cronjob.metadata);
        let is_kept = |it: &ObjectMeta| it.deletion_timestamp.is_none();
        (metadata.as_ref().is_some_and(is_kept), metadata)
    })
    .await;
}

pub async fn deletion_removes_cronjob_jobs_and_pods(shared: &Shared) {
    let world = World::new(shared, "delete").await;
    world.create_key_secret().await;
    world.apply("mparticle", json!({})).await;
    world.run_now("mparticle", "now").await;
    assert_ne!(world.forwarder_objects::<Pod>().await, Vec::<String>::new());
    kubectl(&["delete", "ef", "mparticle", "--namespace", &world.namespace]).await;
    wait_until_deleted(&world.api::<EventForwarder>(), "mparticle").await;
    eventually("CronJob, Jobs and pods are deleted", async || {
        let remaining = world.remaining_objects().await;
        (remaining.is_empty(), remaining)
    })
    .await;
}

pub async fn foreign_cronjob_is_not_changed(shared: &Shared) {
    let world = World::new(shared, "name-conflict").await;
    world.create_key_secret().await;
    apply_json(
        &world.client,
        json!({
            "apiVersion": "batch/v1", "kind": "CronJob",
            "metadata": {"name": "mparticle", "namespace": world.namespace},
            "spec": {
                "schedule": "0 0 2 2 *",
                "jobTemplate": {"spec": {"template": {"spec": {
                    "restartPolicy": "Never",
                    "containers": [{"name": "other", "image": "example.invalid/other"}],
                }}}},
            },
        }),
    )
    .await;
    world.apply("mparticle", json!({})).await;
    let status = world
        .status_until("mparticle", "the condition is set", |status| {
            condition(status, "Scheduled").1 == "CronJobNameConflict"
        })
        .await;
    assert!(
        condition(&status, "Scheduled")
            .2
            .contains("CronJob mparticle"),
        "{status:#?}"
    );
    let cronjob = world
        .api::<CronJob>()
        .get("mparticle")
        .await
        .expect("the user's CronJob");
    assert_eq!(schedule(&cronjob), "0 0 2 2 *");
}

pub async fn nothing_is_written_when_unchanged(shared: &Shared) {
    let world = World::new(shared, "unchanged").await;
    world.create_key_secret().await;
    world
        .apply(
            "mparticle",
            json!({"job": {"resources": {"requests": {"cpu": "0.05", "memory": "0.1Gi"}}}}),
        )
        .await;
    world
        .status_until(
            "mparticle",
            "it is ready and its queue is polled",
            |status| condition(status, "Ready").0 == "True" && status.queue.is_some(),
        )
        .await;
    let versions = || async {
        (
            world
                .api::<EventForwarder>()
                .get("mparticle")
                .await
                .expect("a get")
                .resource_version(),
            world
                .api::<CronJob>()
                .get("mparticle")
                .await
                .expect("a get")
                .resource_version(),
        )
    };
    let before = versions().await;
    // Each label triggers a reconciliation that has nothing to change.
    for round in 0..3 {
        let label = json!({"metadata": {"labels": {"touched": round.to_string()}}});
        world
            .api::<CronJob>()
            .patch("mparticle", &PatchParams::default(), &Patch::Merge(&label))
            .await
            .expect("a label");
    }
    let after_labels = versions().await;
    // Five polls of the queue depth, at an interval of two seconds.
    tokio::time::sleep(std::time::Duration::from_secs(11)).await;
    assert_eq!(versions().await, after_labels);
    assert_eq!(
        before.0, after_labels.0,
        "the forwarder's status must not be written"
    );
}

pub async fn long_name_gets_shortened_cronjob_name(shared: &Shared) {
    let world = World::new(shared, "long-name").await;
    world.create_key_secret().await;
    let name = "a-forwarder-whose-name-is-as-long-as-a-label-may-be-which-is-63";
    assert_eq!(name.len(), 63);
    world.apply(name, json!({})).await;
    let status = world
        .status_until(name, "the forwarder is scheduled", |status| {
            condition(status, "Scheduled").0 == "True"
        })
        .await;
    let message = condition(&status, "Scheduled").2;
    let cronjob = message
        .split_whitespace()
        .nth(1)
        .expect("the CronJob's name")
        .to_owned();
    assert!(cronjob.len() <= 52, "{cronjob}");
    kubectl(&[
        "create",
        "job",
        "now",
        "--namespace",
        &world.namespace,
        &format!("--from=cronjob/{cronjob}"),
    ])
    .await;
    world
        .status_until(name, "its run has ended", |status| {
            status
                .last_run
                .as_ref()
                .is_some_and(|run| run.job_name == "now" && run.finished_at.is_some())
        })
        .await;
}

pub async fn restarted_controller_reconciles_all_forwarders(shared: &Shared) {
    shared.install().await.expect("the operator");
    let world = World::new(shared, "restart").await;
    world.create_key_secret().await;
    let names: Vec<_> = (0..40).map(|n| format!("forwarder-{n}")).collect();
    let apply_all = async |schedule: &str| {
        let spec = json!({"schedule": schedule, "suspend": true});
        let items: Vec<_> = names
            .iter()
            .map(|name| world.manifest(name, spec.clone()))
            .collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        kubectl_apply(&list).await.expect("kubectl apply");
    };
    apply_all("0 0 1 1 *").await;
    kubectl(&[
        "delete",
        "pods",
        "--namespace",
        SYSTEM,
        "--all",
        "--wait=false",
    ])
    .await;
    apply_all("0 0 2 2 *").await;
    eventually(
        "each CronJob has the schedule that was applied during the restart",
        async || {
            let cronjobs = world
                .api::<CronJob>()
                .list(&ListParams::default())
                .await
                .expect("CronJobs")
                .items;
            let is_current = |cronjob: &&CronJob| schedule(cronjob) == "0 0 2 2 *";
            let count = cronjobs.iter().filter(is_current).count();
            (count == names.len(), format!("{count} CronJobs"))
        },
    )
    .await;
    shared.uninstall().await;
}
