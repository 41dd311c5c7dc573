//! Validation by the API server, and that it stores every field of a valid object.

use event_forwarder::api::EventForwarder;
use k8s_openapi::api::{batch::v1::CronJob, core::v1::Pod};
use kube::{CustomResourceExt, ResourceExt, api::ListParams};
use serde_json::{Value, json};

use crate::{
    tracking::{start, wait_for_run_end},
    world::{Shared, World, apply_json, condition, eventually, kubectl, kubectl_apply},
};

pub async fn invalid_fields_are_rejected_with_message(shared: &Shared) {
    let world = World::new(shared, "invalid-fields").await;
    let url = "must be an SQS queue URL";
    let base = "must be a base URL";
    let duration = "must be a duration";
    let zone = "must be an IANA time zone";
    let name = "must be a valid object name";
    let cron = "schedule must be a cron expression";
    let cases = [
        (json!({"schedule": "@every 1h"}), cron),
        (json!({"schedule": "@Hourly"}), cron),
        (json!({"schedule": "0 0 L * *"}), cron),
        (json!({"schedule": "* * * * * *"}), cron),
        (
            json!({"schedule": "CRON_TZ=UTC 0 * * * *"}),
            "set spec.timeZone instead",
        ),
        (json!({"timeZone": "Local"}), zone),
        (json!({"timeZone": "+02:00"}), zone),
        (json!({"timeZone": "Europe Berlin"}), zone),
        (json!({"queue": {"url": "mparticle-events"}}), url),
        (
            json!({"queue": {"url": "arn:aws:sqs:us-east-1:123456789012:q"}}),
            url,
        ),
        (
            json!({"queue": {"url": "https://sqs.us-east-1.amazonaws.com/q"}}),
            url,
        ),
        (
            json!({"queue": {"deadLetterUrl": "https://sqs.us-east-1.amazonaws.com/1/q/"}}),
            url,
        ),
        (json!({"queue": {"endpoint": "sqs.local:9324"}}), base),
        (
            json!({"queue": {"region": "us-east-1a"}}),
            "must be an AWS region",
        ),
        (
            json!({"queue": {"assumeRole": {"arn": "event-forwarder"}}}),
            "must be an IAM role ARN",
        ),
        (json!({"queue": {"pollInterval": "2d"}}), duration),
        (json!({"drain": {"maxDuration": "90"}}), duration),
        (
            json!({"drain": {"visibilityTimeout": "13h"}}),
            "between 10s and 12h",
        ),
        (
            json!({"iterable": {"requestTimeout": "0s"}}),
            "between 1s and 10m",
        ),
        (
            json!({"iterable": {"requestTimeout": "6m"}, "drain": {"maxDuration": "5m"}}),
            "must not be longer than drain.maxDuration",
        ),
        (
            json!({"iterable": {"endpoint": "https://api.iterable.com/api"}}),
            base,
        ),
        (
            json!({"iterable": {"apiKeySecretRef": {"name": "iterable", "key": "api/key"}}}),
            "must be a valid key",
        ),
        (
            json!({"job": {"activeDeadlineSeconds": 300}}),
            "job.activeDeadlineSeconds must not be shorter than",
        ),
        (
            json!({"mapping": {"eventName": {"screenView": "Viewed {"}}}),
            "braces must come in pairs",
        ),
        (
            json!({"mapping": {"identity": {"userIdFrom": "Customer ID"}}}),
            "must be an mParticle identity type",
        ),
        (
            json!({"startingDeadlineSeconds": 10}),
            "greater than or equal to 60",
        ),
        (
            json!({"job": {"historyLimits": {"failed": 0}}}),
            "greater than or equal to 1",
        ),
        (
            json!({"iterable": {"apiKeySecretRef": {"name": "Iterable_Key"}}}),
            name,
        ),
        (
            json!({"queue": {"credentialsSecretRef": {"name": "../aws"}}}),
            name,
        ),
        (
            json!({"mapping": {"transform": {"configMapKeyRef": {"name": "rules/v1"}}}}),
            name,
        ),
        (json!({"job": {"serviceAccountName": "a b"}}), name),
        (json!({"job": {"priorityClassName": "-low"}}), name),
        (
            json!({"job": {"volumes": [{"name": "iterable", "emptyDir": {}}]}}),
            "use another name",
        ),
        (
            json!({"job": {"volumeMounts": [{"name": "ca", "mountPath": "/etc/event-forwarder"}]}}),
            "mount at another path",
        ),
        (
            json!({"job": {"topologySpreadConstraints": [
                {"topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "maxSkew": 1},
                {"topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "maxSkew": 2},
            ]}}),
            "Duplicate value",
        ),
        (
            json!({"iterable": {"dataCenter": "Europe"}}),
            "supported values: \"US\", \"EU\"",
        ),
    ];
    for (spec, expected) in cases {
        let error = kubectl_apply(&world.manifest("mparticle", spec.clone()))
            .await
            .expect_err(&spec.to_string());
        assert!(error.contains(expected), "{spec}: {error}");
    }
}

pub async fn unknown_volume_field_is_reported(shared: &Shared) {
    let world = World::new(shared, "unknown-field").await;
    world.create_key_secret().await;
    let spec = |field: &str| json!({"job": {"volumes": [{"name": "scratch", "emptyDir": {(field): "1Mi"}}]}});
    world.apply("mparticle", spec("sizelimit")).await;
    // Through kubectl, because this program can't parse the object.
    eventually("the field is reported", async || {
        let ready = r#"jsonpath={.status.conditions[?(@.type=="Ready")]}"#;
        let namespace = world.namespace.as_str();
        let ready = kubectl(&[
            "get",
            "ef",
            "mparticle",
            "--namespace",
            namespace,
            "-o",
            ready,
        ])
        .await;
        let is_reported =
            ready.contains("unknown volume field spec.job.volumes[0].emptyDir.sizelimit");
        (is_reported, ready)
    })
    .await;
    world.apply("mparticle", spec("sizeLimit")).await;
    world
        .status_until("mparticle", "the forwarder is ready", |status| {
            condition(status, "Ready").0 == "True"
        })
        .await;
}

/// Returns a spec with every field at a non-default value, and lists of maximum length.
fn all_fields(world: &World) -> Value {
    let text = |prefix: &str, n: usize| format!("{prefix}-{n}");
    let named = |count: usize, make: &dyn Fn(usize) -> Value| -> Vec<Value> {
        (0..count).map(make).collect()
    };
    let long = format!("{{event_type}}{}", "x".repeat(244));
    let event_names = [
        "sessionStart",
        "sessionEnd",
        "screenView",
        "customEvent",
        "media",
        "commerce",
        "purchase",
        "applicationStateTransition",
        "firstRun",
        "uninstall",
        "pushRegistration",
        "pushMessage",
        "pushReaction",
        "optOut",
        "crashReport",
        "networkPerformance",
        "breadcrumb",
        "profile",
        "userAttributeChange",
        "userIdentityChange",
        "preAttribution",
        "unknown",
    ];
    let names: serde_json::Map<_, _> = event_names
        .iter()
        .map(|name| ((*name).to_owned(), json!(long)))
        .collect();
    json!({
        "schedule": "0,1,2,3,4,5,6,7,8,9,10,11,12 1-5/2,*/3 ? JAN-MAR,jul SUN,mon",
        "timeZone": "America/Argentina/ComodRivadavia",
        "suspend": true,
        "startingDeadlineSeconds": 86_400,
        "queue": {
            "region": "eu-central-1",
            "assumeRole": {"arn": "arn:aws:iam::123456789012:role/r", "externalId": "id"},
            "deadLetterUrl": format!("{}-dlq", world.queue.url),
            "largePayloads": {
                "buckets": (0..16).map(|n| text("bucket", n)).collect::<Vec<_>>(),
                "keepObjects": true,
                "endpoint": "https://s3.example.com",
            },
            "pollInterval": "24h",
        },
        "iterable": {
            "apiKeySecretRef": {"name": "iterable", "key": "k"},
            "dataCenter": "EU", "projectType": "Hybrid", "requestTimeout": "1m", "compression": "Gzip",
            "requestsPerSecond": 5, "maxEventsPerRequest": 500, "maxBytesPerRequest": 1_000_000,
            "unknownUsers": "Create", "typeConflicts": "DropField",
        },
        "mapping": {
            "events": [
                "All", "SessionStart", "SessionEnd", "ScreenView", "CustomEvent", "Media",
                "Commerce", "Purchase", "ApplicationStateTransition", "FirstRun", "Uninstall",
                "PushRegistration", "PushMessage", "PushReaction", "OptOut", "CrashReport",
                "NetworkPerformance", "Breadcrumb", "Profile", "UserAttributeChange",
                "UserIdentityChange", "PreAttribution", "Unknown",
            ],
            "eventName": names,
            "identity": {"userIdFrom": "other_id_2", "withoutUser": "Skip"},
            "dataFields": {
                "context": ["Session", "Application", "Device", "Location", "Locale", "Source"],
                "coerce": "LikeMParticle", "dates": "Iterable", "refusedNames": "Drop",
                "dots": "Keep", "millisecondsField": "event_time_ms",
            },
            "development": "Forward", "replays": "Skip", "aliasRequests": "Reject",
            "transform": {"jq": "."},
        },
        "drain": {
            "maxDuration": "24h", "maxMessages": 1000, "rejected": "Leave",
            "maxBytesInFlight": 4_294_967_296_u64, "concurrency": 64, "parallelism": 32,
            "visibilityTimeout": "12h",
        },
        "job": {
            "serviceAccountName": "runs",
            "image": "registry.example.com/event-forwarder:2",
            "imagePullPolicy": "Never",
            "imagePullSecrets": named(16, &|n| json!({"name": text("pull", n)})),
            "resources": {"requests": {"cpu": "0.1", "memory": "0.1Gi"}, "limits": {"memory": "1Gi"}},
            "nodeSelector": {"disk": "ssd"},
            "tolerations": named(32, &|n| json!({"key": text("taint", n), "operator": "Exists"})),
            "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 1, "preference": {"matchExpressions": [
                    {"key": "zone", "operator": "In", "values": ["a"]},
                ]}},
            ]}},
            "topologySpreadConstraints": named(16, &|n| json!({
                "maxSkew": 1, "topologyKey": text("zone", n), "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {"team": "marketing"}},
            })),
            "priorityClassName": "system-cluster-critical",
            "podLabels": {"team": "marketing"},
            "podAnnotations": {"note": "mine"},
            "env": named(64, &|n| json!({"name": format!("NAME_{n}"), "value": "v"})),
            "volumes": named(32, &|n| json!({"name": text("volume", n), "emptyDir": {"sizeLimit": "1Mi"}})),
            "volumeMounts": named(32, &|n| json!({"name": text("volume", n), "mountPath": format!("/mnt/{n}")})),
            "hostAliases": named(32, &|n| json!({"ip": format!("10.0.0.{n}"), "hostnames": ["a", "b"]})),
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containerSecurityContext": {
                "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": true,
            },
            "activeDeadlineSeconds": 172_800,
            "terminationGracePeriodSeconds": 3600,
            "historyLimits": {"successful": 100, "failed": 100},
            "ttlSecondsAfterFinished": 2_592_000,
        },
    })
}

/// Returns the fields of a schema that a value lacks. Skips the fields of Kubernetes types.
fn missing_fields(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let fields = schema["properties"].as_object().into_iter().flatten();
    fields
        .flat_map(|(name, field)| {
            let path = format!("{path}.{name}");
            match &value[name] {
                Value::Null => vec![path],
                _ if path.starts_with(".job.") => Vec::new(),
                value => missing_fields(field, value, &path),
            }
        })
        .collect()
}

/// Detects pruned fields, wrong types and CEL rules that exceed the cost limit.
pub async fn largest_forwarder_is_stored_completely(shared: &Shared) {
    let world = World::new(shared, "all-fields").await;
    world.create_key_secret().await;
    world
        .secret("iterable", &[("k", "planted-iterable-key-5f0c")])
        .await;
    let manifest = world.manifest("mparticle", all_fields(&world));
    let crd = serde_json::to_value(EventForwarder::crd()).expect("JSON");
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let missing = missing_fields(&schema["properties"]["spec"], &manifest["spec"], "");
    assert_eq!(missing, [".mapping.transform.configMapKeyRef"]);
    kubectl_apply(&manifest).await.expect("kubectl apply");
    let stored = kubectl(&[
        "get",
        "ef",
        "mparticle",
        "--namespace",
        &world.namespace,
        "-o",
        "json",
    ])
    .await;
    let stored: Value = serde_json::from_str(&stored).expect("JSON");
    assert_eq!(stored["spec"], manifest["spec"]);

    let cronjob = world
        .until::<CronJob>("mparticle", "the CronJob exists", |_| true)
        .await;
    let template = cronjob.spec.expect("a spec").job_template;
    let job = serde_json::to_value(template.spec.expect("a Job")).expect("JSON");
    let pod = &job["template"]["spec"];
    let container = &pod["containers"][0];
    let declared = &manifest["spec"]["job"];
    for (field, actual) in [
        ("serviceAccountName", &pod["serviceAccountName"]),
        ("image", &container["image"]),
        ("imagePullPolicy", &container["imagePullPolicy"]),
        ("imagePullSecrets", &pod["imagePullSecrets"]),
        ("nodeSelector", &pod["nodeSelector"]),
        ("tolerations", &pod["tolerations"]),
        ("affinity", &pod["affinity"]),
        (
            "topologySpreadConstraints",
            &pod["topologySpreadConstraints"],
        ),
        ("priorityClassName", &pod["priorityClassName"]),
        ("env", &container["env"]),
        ("hostAliases", &pod["hostAliases"]),
        ("securityContext", &pod["securityContext"]),
        ("containerSecurityContext", &container["securityContext"]),
        ("activeDeadlineSeconds", &job["activeDeadlineSeconds"]),
        (
            "terminationGracePeriodSeconds",
            &pod["terminationGracePeriodSeconds"],
        ),
        ("ttlSecondsAfterFinished", &job["ttlSecondsAfterFinished"]),
    ] {
        assert_eq!(actual, &declared[field], "{field}");
    }
    for (field, actual) in [
        ("volumes", &pod["volumes"]),
        ("volumeMounts", &container["volumeMounts"]),
    ] {
        let actual = actual.as_array().expect("an array");
        for item in declared[field].as_array().expect("an array") {
            assert!(actual.contains(item), "{field}: {item}");
        }
    }
    let labels = &job["template"]["metadata"];
    assert_eq!(labels["labels"]["team"], "marketing");
    assert_eq!(labels["annotations"]["note"], "mine");
}

/// Some clusters, for example OpenShift, assign user IDs to each namespace and reject all others.
pub async fn run_works_with_assigned_user_id(shared: &Shared) {
    let world = World::new(shared, "any-user").await;
    world.create_key_secret().await;
    apply_json(
        &world.client,
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "extra", "namespace": world.namespace},
            "data": {"a": "b"},
        }),
    )
    .await;
    let spec = json!({"job": {
        "securityContext": {"runAsNonRoot": true, "runAsUser": 1000680000, "fsGroup": 1000680000, "seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [{"name": "extra", "configMap": {"name": "extra"}}],
        "volumeMounts": [{"name": "extra", "mountPath": "/mnt/extra", "readOnly": true}],
        "podLabels": {"team": "marketing"},
    }});
    world.apply("mparticle", spec).await;
    start(&world, "mparticle", "now").await;
    let status = wait_for_run_end(&world, "mparticle", "now").await;
    assert_eq!(
        condition(&status, "LastRunSucceeded").1,
        "Drained",
        "{status:#?}"
    );
    let pods = world
        .api::<Pod>()
        .list(&ListParams::default().labels("team=marketing"))
        .await
        .expect("pods");
    let context = pods.items[0]
        .spec
        .as_ref()
        .and_then(|spec| spec.security_context.as_ref());
    assert_eq!(
        context.and_then(|context| context.run_as_user),
        Some(1_000_680_000)
    );
}

pub async fn longest_valid_name_works(shared: &Shared) {
    let world = World::new(shared, "longest-name").await;
    world.create_key_secret().await;
    let name = [
        "a".repeat(63),
        "b".repeat(63),
        "c".repeat(63),
        "d".repeat(61),
    ]
    .join(".");
    assert_eq!(name.len(), 253);
    world.apply(&name, json!({})).await;
    let status = world
        .status_until(&name, "the forwarder is scheduled", |status| {
            condition(status, "Scheduled").0 == "True"
        })
        .await;
    let message = condition(&status, "Scheduled").2;
    let cronjob = message
        .split_whitespace()
        .nth(1)
        .expect("the CronJob's name");
    assert!(cronjob.len() <= 52, "{cronjob}");
    let from = format!("--from=cronjob/{cronjob}");
    kubectl(&[
        "create",
        "job",
        "now",
        "--namespace",
        &world.namespace,
        &from,
    ])
    .await;
    let status = wait_for_run_end(&world, &name, "now").await;
    assert_eq!(
        condition(&status, "LastRunSucceeded").1,
        "Drained",
        "{status:#?}"
    );
    let annotation = "eventforwarder.io/run-now=1";
    kubectl(&[
        "annotate",
        "ef",
        &name,
        "--namespace",
        &world.namespace,
        annotation,
    ])
    .await;
    let status = world
        .status_until(&name, "the requested run is counted", |status| {
            status.totals.runs == 2
        })
        .await;
    assert_eq!(status.last_run_request.as_deref(), Some("1"));
    let forwarders = world
        .api::<EventForwarder>()
        .list(&ListParams::default())
        .await;
    assert_eq!(forwarders.expect("forwarders").items[0].name_any(), name);
}
