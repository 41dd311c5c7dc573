use serde_json::{Value, json};

use super::*;

fn forwarder(spec: Value) -> EventForwarder {
    let mut all = json!({
        "schedule": "0 * * * *",
        "queue": {"url": "https://sqs.us-east-1.amazonaws.com/123456789012/q"},
        "iterable": {"apiKeySecretRef": {"name": "iterable", "key": "key"}},
    });
    let fields = spec.as_object().expect("an object").clone();
    all.as_object_mut().expect("an object").extend(fields);
    serde_json::from_value(json!({
        "apiVersion": "eventforwarder.io/v1alpha1",
        "kind": "EventForwarder",
        "metadata": {"name": "mparticle", "namespace": "marketing", "uid": "u-1"},
        "spec": all,
    }))
    .expect("a forwarder")
}

fn built(spec: Value) -> Value {
    let forwarder = forwarder(spec);
    let validated = ValidatedSpec::new("mparticle", &forwarder.spec).expect("a valid spec");
    let options = CronJobOptions {
        image: "event-forwarder:1",
        paused: false,
    };
    serde_json::to_value(build(&forwarder, &validated, options)).expect("json")
}

fn pod(cronjob: &Value) -> &Value {
    &cronjob["spec"]["jobTemplate"]["spec"]["template"]["spec"]
}

#[test]
fn runs_neither_overlap_nor_retry() {
    let cronjob = built(json!({}));
    assert_eq!(cronjob["spec"]["concurrencyPolicy"], "Forbid");
    assert_eq!(cronjob["spec"]["startingDeadlineSeconds"], 300);
    assert_eq!(cronjob["spec"]["jobTemplate"]["spec"]["backoffLimit"], 0);
    assert_eq!(pod(&cronjob)["restartPolicy"], "Never");
}

#[test]
fn cronjob_is_owned_by_its_forwarder() {
    let cronjob = built(json!({}));
    let owner = &cronjob["metadata"]["ownerReferences"][0];
    assert_eq!(
        (&owner["kind"], &owner["uid"], &owner["controller"]),
        (&json!("EventForwarder"), &json!("u-1"), &json!(true))
    );
}

#[test]
fn api_key_is_only_in_a_mounted_file() {
    let cronjob = built(json!({}));
    let container = &pod(&cronjob)["containers"][0];
    assert_eq!(container["env"], Value::Null);
    let volumes = pod(&cronjob)["volumes"].as_array().expect("volumes");
    let secret = volumes
        .iter()
        .find(|volume| volume["name"] == "iterable")
        .expect("the volume of the API key");
    assert_eq!(secret["secret"]["secretName"], "iterable");
    assert_eq!(
        secret["secret"]["items"],
        json!([{"key": "key", "path": "api-key"}])
    );
}

#[test]
fn pod_is_restricted_and_has_no_token() {
    let cronjob = built(json!({}));
    let pod = pod(&cronjob);
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(
        pod["securityContext"]["seccompProfile"]["type"],
        "RuntimeDefault"
    );
    let container = &pod["containers"][0]["securityContext"];
    assert_eq!(container["allowPrivilegeEscalation"], false);
    assert_eq!(container["readOnlyRootFilesystem"], true);
    assert_eq!(container["capabilities"]["drop"], json!(["ALL"]));
}

#[test]
fn run_reads_declared_forwarder() {
    let cronjob = built(
        json!({"drain": {"maxDuration": "20m"}, "job": {"priorityClassName": "low", "terminationGracePeriodSeconds": 90}}),
    );
    let template = &cronjob["spec"]["jobTemplate"]["spec"]["template"]["metadata"];
    let text = template["annotations"][RESOURCE_ANNOTATION]
        .as_str()
        .expect("the resource");
    let read: EventForwarder = serde_saphyr::from_str(text).expect("a forwarder");
    assert_eq!(
        read.spec.drain,
        forwarder(json!({"drain": {"maxDuration": "20m"}}))
            .spec
            .drain
    );
    assert_eq!(
        read.spec.job.priority_class_name, None,
        "only the controller reads spec.job"
    );
}

#[test]
fn job_deadline_includes_grace_and_start() {
    let cronjob = built(
        json!({"drain": {"maxDuration": "20m"}, "job": {"terminationGracePeriodSeconds": 90}}),
    );
    assert_eq!(
        cronjob["spec"]["jobTemplate"]["spec"]["activeDeadlineSeconds"],
        1200 + 90 + 300
    );
}

#[test]
fn paused_forwarder_suspends_cronjob() {
    let forwarder = forwarder(json!({}));
    let validated = ValidatedSpec::new("mparticle", &forwarder.spec).expect("a valid spec");
    let paused = CronJobOptions {
        image: "i",
        paused: true,
    };
    assert_eq!(
        build(&forwarder, &validated, paused)
            .spec
            .and_then(|spec| spec.suspend),
        Some(true)
    );
    assert_eq!(built(json!({"suspend": true}))["spec"]["suspend"], true);
    assert_eq!(built(json!({}))["spec"]["suspend"], false);
}

#[test]
fn user_labels_never_replace_instance_label() {
    let cronjob =
        built(json!({"job": {"podLabels": {INSTANCE_LABEL: "mine", "team": "marketing"}}}));
    let labels = &cronjob["spec"]["jobTemplate"]["metadata"]["labels"];
    assert_eq!(
        (&labels[INSTANCE_LABEL], &labels["team"]),
        (&json!("mparticle"), &json!("marketing"))
    );
}

#[test]
fn aws_credentials_are_mounted_only_if_referenced() {
    let with = built(json!({"queue": {
        "url": "https://sqs.us-east-1.amazonaws.com/123456789012/q",
        "credentialsSecretRef": {"name": "aws"},
    }}));
    let args = |cronjob: &Value| pod(cronjob)["containers"][0]["args"].to_string();
    assert!(
        args(&with).contains("--aws-credentials-dir"),
        "{}",
        args(&with)
    );
    assert!(!args(&built(json!({}))).contains("--aws-credentials-dir"));
}

#[test]
fn config_map_program_is_mounted_for_run() {
    let cronjob = built(json!({"mapping": {"transform": {"configMapKeyRef": {"name": "rules"}}}}));
    let pod = pod(&cronjob);
    let args = pod["containers"][0]["args"].to_string();
    assert!(
        args.contains("--transform=/etc/event-forwarder-mapping/transform.jq"),
        "{args}"
    );
    let volumes = pod["volumes"].as_array().expect("volumes");
    let program = volumes
        .iter()
        .find(|volume| volume["name"] == "mapping")
        .expect("the volume of the program");
    assert_eq!(program["configMap"]["name"], "rules");
}

#[test]
fn several_pods_are_independent_in_one_indexed_job() {
    let job = |spec: Value| built(spec)["spec"]["jobTemplate"]["spec"].clone();
    let several = job(json!({"drain": {"parallelism": 3}}));
    assert_eq!(
        (&several["completions"], &several["parallelism"]),
        (&json!(3), &json!(3))
    );
    assert_eq!(several["completionMode"], "Indexed");
    assert_eq!(
        (&several["backoffLimitPerIndex"], &several["backoffLimit"]),
        (&json!(0), &Value::Null)
    );
    assert_eq!(job(json!({}))["completionMode"], "NonIndexed");
}

#[test]
fn hash_annotation_changes_with_desired_spec() {
    let applied =
        |spec: Value| built(spec)["metadata"]["annotations"][SPEC_HASH_ANNOTATION].clone();
    let with = |job: Value| applied(json!({"job": job}));
    assert!(applied(json!({})).is_string());
    assert_eq!(applied(json!({})), applied(json!({})));
    let two = json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]});
    let one = json!({"env": [{"name": "A", "value": "1"}]});
    let reordered = json!({"env": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]});
    let all = [with(two), with(one), with(reordered), applied(json!({}))];
    for (index, hash) in all.iter().enumerate() {
        assert!(!all[index + 1..].contains(hash), "{all:?}");
    }
}
