//! Conditions and messages for errors in the spec and the environment.

use std::path::Path;

use k8s_openapi::api::batch::v1::CronJob;
use kube::{Api, ResourceExt, api::DynamicObject};
use serde_json::json;

use crate::{
    plugin::forwarder,
    world::{
        AMBIENT_SECRET, API_KEY, AWS_SECRET, SYSTEM, Shared, World, apply_json, condition, kubectl,
        kubectl_apply, sample,
    },
};

/// A key that Iterable rejects.
const REJECTED_KEY: &str = "planted-rejected-key-77d1";

pub async fn missing_secret_pauses_runs_until_it_exists(shared: &Shared) {
    let world = World::new(shared, "no-secret").await;
    world.queue.send(&["{}"]).await.expect("sending");
    world.apply("mparticle", json!({})).await;
    let status = world
        .status_until(
            "mparticle",
            "the condition names the Secret, and the queue is polled",
            |status| {
                condition(status, "SecretsAvailable").0 == "False"
                    && condition(status, "QueueReachable").0 == "True"
            },
        )
        .await;
    assert_eq!(status.queue.as_ref().map(|queue| queue.visible), Some(1));
    let (_, reason, message) = condition(&status, "SecretsAvailable");
    assert_eq!(reason, "SecretMissing");
    assert!(
        message.contains("Secret iterable")
            && message.contains("kubectl create secret generic iterable"),
        "{message}"
    );
    assert_eq!(condition(&status, "Ready").1, "SecretMissing");
    let suspended = |cronjob: &CronJob| cronjob.spec.as_ref().and_then(|spec| spec.suspend);
    world
        .until::<CronJob>("mparticle", "runs are paused", |cronjob| {
            suspended(cronjob) == Some(true)
        })
        .await;

    world.create_key_secret().await;
    let status = world
        .status_until("mparticle", "the condition clears", |status| {
            condition(status, "Ready").0 == "True"
        })
        .await;
    assert_eq!(condition(&status, "SecretsAvailable").0, "True");
    world
        .until::<CronJob>("mparticle", "runs are no longer paused", |cronjob| {
            suspended(cronjob) == Some(false)
        })
        .await;
    kubectl(&[
        "wait",
        "--for=condition=Ready",
        "ef/mparticle",
        "--namespace",
        &world.namespace,
        "--timeout=10s",
    ])
    .await;
}

pub async fn missing_queue_sets_condition(shared: &Shared) {
    let world = World::new(shared, "no-queue").await;
    world.create_key_secret().await;
    let elsewhere = format!("{}-elsewhere", world.queue.url);
    for (name, queue) in [
        ("mistyped", json!({"url": elsewhere})),
        ("another-region", json!({"region": "eu-west-1"})),
    ] {
        let manifest = world.manifest(name, json!({"queue": queue}));
        let url = manifest["spec"]["queue"]["url"].as_str().expect("a URL");
        world.apply(name, json!({"queue": queue})).await;
        let status = world
            .status_until(name, "the condition is set", |status| {
                condition(status, "QueueReachable").0 == "False"
            })
            .await;
        let (_, reason, message) = condition(&status, "QueueReachable");
        assert_eq!(reason, "QueueMissing", "{name}: {message}");
        assert!(
            message.contains(url) && message.contains("its region"),
            "{name}: {message}"
        );
        assert_eq!(condition(&status, "Ready").1, "QueueMissing");
    }
}

pub async fn invalid_schedule_is_rejected_with_message(shared: &Shared) {
    let world = World::new(shared, "bad-schedule").await;
    for (schedule, expected) in [
        (
            "every hour",
            "schedule must be a cron expression: five fields",
        ),
        (
            "60 * * * *",
            "schedule must be a cron expression: five fields",
        ),
        ("0 * * *", "schedule must be a cron expression: five fields"),
        ("TZ=Europe/Berlin 0 * * * *", "set spec.timeZone instead"),
    ] {
        let manifest = world.manifest("mparticle", json!({"schedule": schedule}));
        let error = kubectl_apply(&manifest).await.expect_err(schedule);
        assert!(error.contains(expected), "{schedule}: {error}");
    }
    for schedule in [
        "0 * * * *",
        "*/5 8-18 * JAN,mar 1-5",
        "@hourly",
        "0 0 1,15 * ?",
    ] {
        let manifest = world.manifest("mparticle", json!({"schedule": schedule, "suspend": true}));
        kubectl_apply(&manifest).await.expect(schedule);
    }
}

pub async fn invalid_spec_is_rejected_with_fix(shared: &Shared) {
    let world = World::new(shared, "rejected").await;
    for (spec, expected) in [
        (
            json!({"drain": {"maxDuration": "48h"}}),
            "drain.maxDuration must be between 1m and 24h",
        ),
        (
            json!({"drain": {"maxDuration": "10s"}}),
            "drain.maxDuration must be between 1m and 24h",
        ),
        (
            json!({"queue": {"pollInterval": "0s"}}),
            "queue.pollInterval must be between 1s and 24h",
        ),
        (
            json!({
                "iterable": {"projectType": "UserId"},
                "mapping": {"identity": {"withoutUser": "PlaceholderEmail"}},
            }),
            "PlaceholderEmail requires iterable.projectType: Email",
        ),
        (
            json!({"mapping": {"transform": {"jq": ".", "configMapKeyRef": {"name": "rules"}}}}),
            "requires exactly one of jq and configMapKeyRef",
        ),
    ] {
        let error = kubectl_apply(&world.manifest("mparticle", spec))
            .await
            .expect_err(expected);
        assert!(error.contains(expected), "{error}");
    }
}

pub async fn unreadable_object_does_not_block_others(shared: &Shared) {
    let world = World::new(shared, "unreadable").await;
    world.create_key_secret().await;
    // The CRD does not validate volumes. A CRD of another version may not validate other fields.
    world
        .apply(
            "invalid",
            json!({"job": {"volumes": [{"name": "invalid", "configMap": 5}]}}),
        )
        .await;
    world.apply("good", json!({})).await;
    world
        .status_until("good", "the other forwarder is ready", |status| {
            condition(status, "Ready").0 == "True"
        })
        .await;
    let forwarders: Api<DynamicObject> = Api::namespaced_with(
        world.client.clone(),
        &world.namespace,
        &kube::api::ApiResource::erase::<event_forwarder::api::EventForwarder>(&()),
    );
    crate::world::eventually(
        "the condition of the invalid forwarder is set",
        async || {
            let object = forwarders.get("invalid").await.expect("a get");
            let ready = &object.data["status"]["conditions"][0];
            let is_reported = ready["type"] == "Ready" && ready["reason"] == "Unreadable";
            (
                is_reported && object.name_any() == "invalid",
                object.data.clone(),
            )
        },
    )
    .await;
}

pub async fn config_map_program_is_checked_before_runs(shared: &Shared) {
    let world = World::new(shared, "rules").await;
    world.create_key_secret().await;
    let rules = async |program: &str| {
        apply_json(
            &world.client,
            json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "rules", "namespace": world.namespace},
                "data": {"transform.jq": program},
            }),
        )
        .await;
    };
    let spec = json!({"mapping": {"transform": {"configMapKeyRef": {"name": "rules"}}}});
    world.apply("mparticle", spec).await;
    let scheduled = async |reason| world.scheduled_until("mparticle", reason).await;
    let message = scheduled("TransformMissing").await;
    assert!(message.contains("ConfigMap rules"), "{message}");
    rules(".dataFields.tier = ").await;
    let message = scheduled("InvalidTransform").await;
    assert!(
        message.contains("spec.mapping.transform: line 1, column"),
        "{message}"
    );
    rules(r#".dataFields.tier = "gold""#).await;
    scheduled("CronJobUpToDate").await;

    world
        .queue
        .send(&[sample("01-session-and-screens-list-identities.json")])
        .await
        .expect("sending");
    world.run_now("mparticle", "now").await;
    let events = world.iterable.handle.events();
    assert_eq!(events.len(), 4);
    assert!(
        events
            .iter()
            .all(|event| event.event["dataFields"]["tier"] == "gold"),
        "{events:#?}"
    );
}

pub async fn secrets_appear_in_no_output(shared: &Shared) {
    let world = World::new(shared, "secrecy").await;
    world.create_key_secret().await;
    world
        .queue
        .send(&[sample("01-session-and-screens-list-identities.json")])
        .await
        .expect("sending");
    world.apply("mparticle", json!({})).await;
    world.run_now("mparticle", "good").await;
    // Errors are reported with details: with a key that Iterable rejects, and without a queue.
    world.secret("iterable", &[("api-key", REJECTED_KEY)]).await;
    world
        .queue
        .send(&[sample("01-session-and-screens-list-identities.json")])
        .await
        .expect("sending");
    world.run_now("mparticle", "rejected").await;
    let elsewhere = format!("{}-elsewhere", world.queue.url);
    world
        .apply("mparticle", json!({"queue": {"url": elsewhere}}))
        .await;
    world.run_now("mparticle", "denied").await;

    let namespace = world.namespace.as_str();
    let mut printed = kubectl(&[
        "get",
        "ef,cronjobs,jobs,pods,events",
        "--namespace",
        namespace,
        "-o",
        "yaml",
    ])
    .await;
    printed += &kubectl(&["describe", "ef", "--namespace", namespace]).await;
    for pods_of in [namespace, SYSTEM] {
        printed += &kubectl(&[
            "logs",
            "--namespace",
            pods_of,
            "--selector",
            "app.kubernetes.io/name=event-forwarder",
            "--tail=-1",
            // The log of a pod that is being replaced may be unavailable.
            "--ignore-errors",
            "--prefix",
        ])
        .await;
    }
    let controllers = kubectl(&[
        "get",
        "pods",
        "--namespace",
        SYSTEM,
        "--selector",
        "app.kubernetes.io/component=controller",
        "-o",
        "jsonpath={.items[*].metadata.name}",
    ])
    .await;
    for pod in controllers.split_whitespace() {
        let page = format!("/api/v1/namespaces/{SYSTEM}/pods/{pod}:8080/proxy/metrics");
        printed += &kubectl(&["get", "--raw", &page]).await;
    }
    let batch = Path::new("tests/samples").join("01-session-and-screens-list-identities.json");
    let batch = batch.to_string_lossy();
    for command in [
        &["status", "mparticle"][..],
        &["map", "mparticle", &batch],
        &["dlq", "mparticle", "list"],
        &["run", "mparticle", "--follow"],
    ] {
        let output = forwarder(&world, command).await;
        printed += &format!("{output:?}");
    }
    assert!(
        printed.contains("ApiKeyRejected") && printed.contains("QueueMissing"),
        "the output must contain the failed runs"
    );
    for secret in [API_KEY, REJECTED_KEY, AWS_SECRET, AMBIENT_SECRET] {
        assert!(!printed.contains(secret), "{secret} was printed");
    }
}
