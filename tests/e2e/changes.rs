//! Effects of changes of the forwarder on a running run and on the next one.

use event_forwarder::api::EventForwarder;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use serde_json::json;

use crate::{
    plugin::forwarder,
    tracking::{start, start_held_run, wait_for_run_end},
    world::{
        API_KEY, RELEASE, SYSTEM, Shared, World, condition, eventually, kubectl, sample,
        wait_until_deleted,
    },
};

const BATCH: &str = "01-session-and-screens-list-identities.json";
const EVENTS: usize = 4;

fn image(cronjob: &CronJob) -> Option<&str> {
    let pod = cronjob
        .spec
        .as_ref()?
        .job_template
        .spec
        .as_ref()?
        .template
        .spec
        .as_ref()?;
    pod.containers.first()?.image.as_deref()
}

pub async fn deletion_during_run_loses_no_messages(shared: &Shared) {
    let world = World::new(shared, "delete-mid-run").await;
    let gate = start_held_run(&world, "mparticle", "now", json!({})).await;
    kubectl(&["delete", "ef", "mparticle", "--namespace", &world.namespace]).await;
    wait_until_deleted(&world.api::<EventForwarder>(), "mparticle").await;
    // The pod has received a termination signal, and settles its messages.
    gate.open();
    eventually("CronJob, Jobs and pods are deleted", async || {
        let remaining = world.remaining_objects().await;
        (remaining.is_empty(), remaining)
    })
    .await;
    assert_eq!(world.iterable.handle.events().len(), EVENTS);
    let depth = world.queue.depth().await.expect("depth");
    assert_eq!(
        depth.visible + depth.in_flight,
        0,
        "its message was deleted"
    );
}

pub async fn queue_change_applies_to_next_run(shared: &Shared) {
    let world = World::new(shared, "queue-change").await;
    let gate = start_held_run(&world, "mparticle", "now", json!({})).await;
    let before = world.api::<Job>().get("now").await.expect("the Job");
    let dead_letters = world.queue.dlq_url.clone();
    let spec = json!({"iterable": {"requestTimeout": "5m"}, "queue": {"url": dead_letters}});
    world.apply("mparticle", spec).await;
    world
        .until::<CronJob>("mparticle", "the CronJob has the other queue", |cronjob| {
            serde_json::to_string(cronjob)
                .is_ok_and(|text| text.contains(&format!(r#"\"url\":\"{dead_letters}\""#)))
        })
        .await;
    let after = world.api::<Job>().get("now").await.expect("the Job");
    assert_eq!(
        (&before.metadata.uid, before.metadata.generation),
        (&after.metadata.uid, after.metadata.generation),
        "the Job is unchanged"
    );
    gate.open();
    let status = wait_for_run_end(&world, "mparticle", "now").await;
    let run = status.last_run.expect("a run");
    assert_eq!((run.outcome.as_str(), run.messages.deleted), ("Drained", 1));

    world.queue.send(&[sample(BATCH)]).await.expect("sending");
    let status = world.run_now("mparticle", "next").await;
    let run = status.last_run.expect("a run");
    assert_eq!(
        (run.outcome.as_str(), run.messages.received),
        ("Drained", 0)
    );
    let depth = world.queue.depth().await.expect("depth");
    assert_eq!(depth.visible, 1, "the first queue is no longer read");
}

pub async fn suspend_does_not_stop_running_run(shared: &Shared) {
    let world = World::new(shared, "suspend-mid-run").await;
    let gate = start_held_run(&world, "mparticle", "now", json!({})).await;
    let suspended = json!({"iterable": {"requestTimeout": "5m"}, "suspend": true});
    world.apply("mparticle", suspended).await;
    world
        .status_until("mparticle", "the forwarder is suspended", |status| {
            condition(status, "Scheduled").1 == "Suspended"
        })
        .await;
    gate.open();
    let status = wait_for_run_end(&world, "mparticle", "now").await;
    assert_eq!(condition(&status, "LastRunSucceeded").1, "Drained");
    assert_eq!(
        (condition(&status, "Ready").0, condition(&status, "Ready").1),
        ("True", "Suspended")
    );
    assert_eq!(status.next_run_time, None);

    world
        .apply(
            "mparticle",
            json!({"schedule": "* * * * *", "suspend": false}),
        )
        .await;
    world
        .status_until("mparticle", "the schedule starts a run again", |status| {
            status.totals.runs >= 2 && status.next_run_time.is_some()
        })
        .await;
}

pub async fn secret_change_applies_to_next_run(shared: &Shared) {
    let world = World::new(shared, "secret-rename").await;
    world
        .secret("iterable", &[("api-key", "a-key-of-another-project")])
        .await;
    world.queue.send(&[sample(BATCH)]).await.expect("sending");
    world.apply("mparticle", json!({})).await;
    let status = world.run_now("mparticle", "rejected").await;
    assert_eq!(condition(&status, "LastRunSucceeded").1, "ApiKeyRejected");

    let renamed = json!({"iterable": {"apiKeySecretRef": {"name": "renamed", "key": "token"}}});
    world.apply("mparticle", renamed.clone()).await;
    let status = world
        .status_until(
            "mparticle",
            "the new Secret is reported missing",
            |status| condition(status, "SecretsAvailable").1 == "SecretMissing",
        )
        .await;
    assert!(
        condition(&status, "SecretsAvailable")
            .2
            .contains("Secret renamed"),
        "{status:#?}"
    );
    world.secret("renamed", &[("other", API_KEY)]).await;
    let status = world
        .status_until("mparticle", "its key is reported missing", |status| {
            condition(status, "SecretsAvailable").1 == "SecretKeyMissing"
        })
        .await;
    assert!(
        condition(&status, "SecretsAvailable")
            .2
            .contains("key token"),
        "{status:#?}"
    );
    world.secret("renamed", &[("token", API_KEY)]).await;
    world
        .status_until("mparticle", "the Secret is available", |status| {
            condition(status, "SecretsAvailable").0 == "True"
        })
        .await;
    start(&world, "mparticle", "accepted").await;
    let status = wait_for_run_end(&world, "mparticle", "accepted").await;
    assert_eq!(
        condition(&status, "LastRunSucceeded").1,
        "Drained",
        "{status:#?}"
    );
    assert_eq!(world.iterable.handle.events().len(), EVENTS);
}

/// Runs use the operator's image, so an upgrade of the operator also upgrades later runs.
pub async fn upgrade_changes_cronjob_image_but_not_runs(shared: &Shared) {
    shared.install().await.expect("the operator");
    let world = World::new(shared, "upgrade").await;
    let gate = start_held_run(&world, "mparticle", "now", json!({})).await;
    let before = world
        .api::<CronJob>()
        .get("mparticle")
        .await
        .expect("the CronJob");
    let old = image(&before).expect("an image").to_owned();
    let job = world.api::<Job>().get("now").await.expect("the Job");
    // The chart of the next version sets this variable. The node does not have this image.
    let set = format!("EVENT_FORWARDER_IMAGE={old}-next");
    let deployment = &format!("deployment/{RELEASE}");
    kubectl(&["set", "env", "--namespace", SYSTEM, deployment, &set]).await;
    let next = format!("{old}-next");
    world
        .until::<CronJob>("mparticle", "the CronJob has the next image", |cronjob| {
            image(cronjob) == Some(&next)
        })
        .await;
    let after = world.api::<Job>().get("now").await.expect("the Job");
    assert_eq!(
        (job.metadata.uid, job.metadata.generation),
        (after.metadata.uid.clone(), after.metadata.generation)
    );
    gate.open();
    let status = wait_for_run_end(&world, "mparticle", "now").await;
    assert_eq!(condition(&status, "LastRunSucceeded").1, "Drained");
    shared.uninstall().await;
}

pub async fn removed_job_fields_leave_cronjob(shared: &Shared) {
    let world = World::new(shared, "removed-fields").await;
    world.create_key_secret().await;
    let variable = |name: &str, value: &str| json!({"name": name, "value": value});
    let more = json!({"job": {
        "env": [variable("A", "1"), variable("B", "")],
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "podLabels": {"team": "marketing"},
        "volumes": [{"name": "scratch", "emptyDir": {}}],
        "volumeMounts": [{"name": "scratch", "mountPath": "/tmp", "readOnly": false}],
    }});
    let pod = |cronjob: &CronJob| {
        let template = serde_json::to_value(cronjob).expect("JSON");
        template["spec"]["jobTemplate"]["spec"]["template"].clone()
    };
    world.apply("mparticle", more).await;
    let cronjob = world
        .until::<CronJob>("mparticle", "the CronJob exists", |_| true)
        .await;
    let with = pod(&cronjob);
    assert_eq!(with["metadata"]["labels"]["team"], "marketing");
    assert_eq!(
        with["spec"]["containers"][0]["env"]
            .as_array()
            .map(Vec::len),
        Some(2)
    );
    // Values that the API server does not store must not cause repeated writes.
    for round in 0..3 {
        let what = format!("the message of round {round} is visible");
        world.queue.send(&[sample(BATCH)]).await.expect("sending");
        world
            .status_until("mparticle", &what, |status| {
                status
                    .queue
                    .as_ref()
                    .is_some_and(|queue| queue.visible > round)
            })
            .await;
    }
    let applied = |log: &str| {
        let is_apply =
            |line: &&str| line.contains("applied the CronJob") && line.contains(&world.namespace);
        log.lines().filter(is_apply).count()
    };
    let log = kubectl(&[
        "logs",
        "--namespace",
        SYSTEM,
        "--tail=-1",
        "--ignore-errors",
        "--selector",
        "app.kubernetes.io/name=event-forwarder",
    ])
    .await;
    assert_eq!(applied(&log), 1, "{log}");

    world
        .apply("mparticle", json!({"job": {"env": [variable("A", "1")]}}))
        .await;
    let cronjob = world
        .until::<CronJob>("mparticle", "the fields are removed", |cronjob| {
            let env = &pod(cronjob)["spec"]["containers"][0]["env"];
            env.as_array().is_some_and(|env| env.len() == 1)
        })
        .await;
    let without = pod(&cronjob);
    for path in [
        "/spec/tolerations",
        "/spec/nodeSelector",
        "/metadata/labels/team",
    ] {
        assert_eq!(without.pointer(path), None, "{path}");
    }
    assert!(!without.to_string().contains("scratch"), "{without}");
}

pub async fn quota_denial_is_reported_until_allowed(shared: &Shared) {
    let world = World::new(shared, "forbidden").await;
    world.create_key_secret().await;
    world
        .quota(json!({"count/cronjobs.batch": "0", "count/jobs.batch": "0"}))
        .await;
    world.apply("mparticle", json!({})).await;
    let scheduled = async |reason| world.scheduled_until("mparticle", reason).await;
    let message = scheduled("CronJobForbidden").await;
    assert!(message.contains("exceeded quota: quota"), "{message}");

    world.quota(json!({"count/jobs.batch": "0"})).await;
    scheduled("CronJobUpToDate").await;
    let output = forwarder(&world, &["run", "mparticle"]).await;
    assert_ne!(output.code, 0, "{output:?}");
    assert!(output.error.contains("RunRejected"), "{output:?}");
    let message = scheduled("RunRejected").await;
    assert!(message.contains("exceeded quota: quota"), "{message}");
    // The rest of the status is still updated.
    world.queue.send(&[sample(BATCH)]).await.expect("sending");
    world
        .status_until("mparticle", "the depth is still updated", |status| {
            status
                .queue
                .as_ref()
                .is_some_and(|queue| queue.visible == 1)
        })
        .await;

    world.quota(json!({"count/jobs.batch": "9"})).await;
    let status = world
        .status_until("mparticle", "the requested run has ended", |status| {
            status.totals.runs == 1
        })
        .await;
    let request = status.last_run_request.as_deref().expect("a request");
    assert!(request.ends_with("by kubectl forwarder"), "{request}");
    assert_eq!(condition(&status, "Scheduled").1, "CronJobUpToDate");
}
