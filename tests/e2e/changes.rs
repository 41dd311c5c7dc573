//! What a change of the forwarder does to a run that is under way, and to the next one.

use event_forwarder::api::EventForwarder;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use serde_json::json;

use crate::{
    plugin::forwarder,
    tracking::{ended, held_run, start},
    world::{
        API_KEY, RELEASE, SYSTEM, Shared, World, condition, eventually, gone, kubectl, sample,
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

pub async fn deleting_the_forwarder_in_mid_run_loses_nothing(shared: &Shared) {
    let world = World::new(shared, "delete-mid-run").await;
    let gate = held_run(&world, "mparticle", "now", json!({})).await;
    kubectl(&["delete", "ef", "mparticle", "--namespace", &world.namespace]).await;
    gone(&world.api::<EventForwarder>(), "mparticle").await;
    // The pod has been told to end, and settles what it holds.
    gate.open();
    eventually("CronJob, Jobs and pods are gone", async || {
        let left = world.left().await;
        (left.is_empty(), left)
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

pub async fn a_changed_queue_is_for_the_next_run(shared: &Shared) {
    let world = World::new(shared, "queue-change").await;
    let gate = held_run(&world, "mparticle", "now", json!({})).await;
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
        "the run is left alone"
    );
    gate.open();
    let status = ended(&world, "mparticle", "now").await;
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
    assert_eq!(depth.visible, 1, "the first queue is not read any more");
}

pub async fn suspending_lets_the_run_end_and_resuming_starts_the_next(shared: &Shared) {
    let world = World::new(shared, "suspend-mid-run").await;
    let gate = held_run(&world, "mparticle", "now", json!({})).await;
    let suspended = json!({"iterable": {"requestTimeout": "5m"}, "suspend": true});
    world.apply("mparticle", suspended).await;
    world
        .status_until("mparticle", "it is suspended", |status| {
            condition(status, "Scheduled").1 == "Suspended"
        })
        .await;
    gate.open();
    let status = ended(&world, "mparticle", "now").await;
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

pub async fn another_secret_in_the_spec_is_for_the_next_run(shared: &Shared) {
    let world = World::new(shared, "secret-rename").await;
    world
        .secret("iterable", &[("api-key", "a-key-of-another-project")])
        .await;
    world.queue.send(&[sample(BATCH)]).await.expect("sending");
    world.apply("mparticle", json!({})).await;
    let status = world.run_now("mparticle", "refused").await;
    assert_eq!(condition(&status, "LastRunSucceeded").1, "KeyRefused");

    let renamed = json!({"iterable": {"apiKeySecretRef": {"name": "renamed", "key": "token"}}});
    world.apply("mparticle", renamed.clone()).await;
    let status = world
        .status_until("mparticle", "the new Secret is missed", |status| {
            condition(status, "SecretsAvailable").1 == "SecretMissing"
        })
        .await;
    assert!(
        condition(&status, "SecretsAvailable")
            .2
            .contains("Secret renamed"),
        "{status:#?}"
    );
    world.secret("renamed", &[("other", API_KEY)]).await;
    let status = world
        .status_until("mparticle", "its key is missed", |status| {
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
        .status_until("mparticle", "all is there", |status| {
            condition(status, "SecretsAvailable").0 == "True"
        })
        .await;
    start(&world, "mparticle", "accepted").await;
    let status = ended(&world, "mparticle", "accepted").await;
    assert_eq!(
        condition(&status, "LastRunSucceeded").1,
        "Drained",
        "{status:#?}"
    );
    assert_eq!(world.iterable.handle.events().len(), EVENTS);
}

/// The runs' image is the operator's own, so that an upgrade of the one is one of the other.
pub async fn an_upgrade_changes_the_image_of_cronjobs_and_leaves_runs_alone(shared: &Shared) {
    shared.install().await.expect("the operator");
    let world = World::new(shared, "upgrade").await;
    let gate = held_run(&world, "mparticle", "now", json!({})).await;
    let before = world
        .api::<CronJob>()
        .get("mparticle")
        .await
        .expect("the CronJob");
    let old = image(&before).expect("an image").to_owned();
    let job = world.api::<Job>().get("now").await.expect("the Job");
    // What a chart of the next version sets, without an image of it on the node.
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
    let status = ended(&world, "mparticle", "now").await;
    assert_eq!(condition(&status, "LastRunSucceeded").1, "Drained");
    shared.uninstall().await;
}

pub async fn what_is_taken_out_of_the_job_leaves_the_cronjob(shared: &Shared) {
    let world = World::new(shared, "taken-out").await;
    world.give_key().await;
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
        .until::<CronJob>("mparticle", "the CronJob is there", |_| true)
        .await;
    let with = pod(&cronjob);
    assert_eq!(with["metadata"]["labels"]["team"], "marketing");
    assert_eq!(
        with["spec"]["containers"][0]["env"]
            .as_array()
            .map(Vec::len),
        Some(2)
    );
    // Values that the API server does not store are no reason to apply it again and again.
    for round in 0..3 {
        let seen = format!("visible after round {round}");
        world.queue.send(&[sample(BATCH)]).await.expect("sending");
        world
            .status_until("mparticle", &seen, |status| {
                status
                    .queue
                    .as_ref()
                    .is_some_and(|queue| queue.visible > round)
            })
            .await;
    }
    let applied = |log: &str| {
        let of_ours =
            |line: &&str| line.contains("applied the CronJob") && line.contains(&world.namespace);
        log.lines().filter(of_ours).count()
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
        .until::<CronJob>("mparticle", "what was taken out is gone", |cronjob| {
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

pub async fn what_a_quota_forbids_is_told_until_it_is_allowed(shared: &Shared) {
    let world = World::new(shared, "forbidden").await;
    world.give_key().await;
    world
        .quota(json!({"count/cronjobs.batch": "0", "count/jobs.batch": "0"}))
        .await;
    world.apply("mparticle", json!({})).await;
    let told = async |reason| world.scheduled_until("mparticle", reason).await;
    let message = told("CronJobForbidden").await;
    assert!(message.contains("exceeded quota: quota"), "{message}");

    world.quota(json!({"count/jobs.batch": "0"})).await;
    told("CronJobInPlace").await;
    let asked = forwarder(&world, &["run", "mparticle"]).await;
    assert_ne!(asked.code, 0, "{asked:?}");
    assert!(asked.error.contains("RunRefused"), "{asked:?}");
    let message = told("RunRefused").await;
    assert!(message.contains("exceeded quota: quota"), "{message}");
    // The rest of the status goes on.
    world.queue.send(&[sample(BATCH)]).await.expect("sending");
    world
        .status_until("mparticle", "the depth is read on", |status| {
            status
                .queue
                .as_ref()
                .is_some_and(|queue| queue.visible == 1)
        })
        .await;

    world.quota(json!({"count/jobs.batch": "9"})).await;
    let status = world
        .status_until(
            "mparticle",
            "the run that was asked for has ended",
            |status| status.totals.runs == 1,
        )
        .await;
    let request = status.last_run_request.as_deref().expect("a request");
    assert!(request.ends_with("by kubectl forwarder"), "{request}");
    assert_eq!(condition(&status, "Scheduled").1, "CronJobInPlace");
}
