//! The CRD in `crds/`, applied with kubectl, and a CRD that is older than the controller.

use std::{env, process::Stdio};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, api::DeleteParams};
use tokio::process::Command;

use crate::{
    sharing::{CRD, PART_OF, delete_cluster_object, with_crd_restored},
    world::{RELEASE, SYSTEM, Shared, eventually, kubectl, wait_for_rollout},
};

pub async fn crd_applies_without_warnings(shared: &Shared) {
    // Renamed, because helm has installed the CRD with its original name.
    let label = format!("\nmetadata:\n  labels:\n    {PART_OF}: {RELEASE}\n");
    let manifest = include_str!("../../crds/eventforwarder.yaml")
        .replace("eventforwarder", "eventforwardere2e")
        .replace("EventForwarder", "EventForwarderE2e")
        .replace("- ef\n", "- ef-e2e\n")
        .replacen("\nmetadata:\n", &label, 1);
    let file = env::temp_dir().join(format!(
        "event-forwarder-e2e-{}-crd.yaml",
        std::process::id()
    ));
    std::fs::write(&file, manifest).expect("a file");
    let crds = Api::<CustomResourceDefinition>::all(shared.client.clone());
    let name = "eventforwardere2es.eventforwardere2e.io";
    delete_cluster_object::<CustomResourceDefinition>(&shared.client, name).await;

    for arguments in [
        &["apply"][..],
        &["apply"],
        &["apply", "--server-side", "--force-conflicts"],
        &["apply", "--server-side"],
    ] {
        let output = Command::new("kubectl")
            .args(arguments)
            .arg("-f")
            .arg(&file)
            .stdin(Stdio::null())
            .output()
            .await
            .expect("kubectl");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && stderr.is_empty(),
            "kubectl {}: {stderr}",
            arguments.join(" ")
        );
        eventually("the CRD is established", async || {
            let crd = crds.get(name).await.expect("a get");
            let conditions = crd.status.unwrap_or_default().conditions;
            let is = |type_: &str| {
                let mut conditions = conditions.iter().flatten();
                conditions.any(|condition| condition.type_ == type_ && condition.status == "True")
            };
            assert!(!is("NonStructuralSchema") && !is("Terminating"));
            let met = is("Established") && is("NamesAccepted");
            (met, conditions)
        })
        .await;
    }
    let _ = std::fs::remove_file(&file);
    crds.delete(name, &DeleteParams::default())
        .await
        .expect("deleting it");
}

pub async fn older_crd_is_reported(shared: &Shared) {
    shared.install().await.expect("the operator");
    with_crd_restored(&shared.client, check_older_crd()).await;
    shared.uninstall().await;
}

async fn check_older_crd() {
    const REMOVE_FIELD: &str = r#"[{"op": "remove", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/lastRunRequest"}]"#;
    kubectl(&["patch", "crd", CRD, "--type=json", "--patch", REMOVE_FIELD]).await;
    let published = "/openapi/v3/apis/eventforwarder.io/v1alpha1";
    eventually("the older CRD is published", async || {
        let schema = kubectl(&["get", "--raw", published]).await;
        let [kept, removed] = ["recentRuns", "lastRunRequest"].map(|it| schema.contains(it));
        (kept && !removed, [kept, removed])
    })
    .await;
    let pods = ["pods", "--namespace", SYSTEM];
    kubectl(&[&["delete"], &pods[..], &["--all"]].concat()).await;
    wait_for_rollout().await;
    eventually("the field is logged", async || {
        let selector = "--selector=app.kubernetes.io/name=event-forwarder";
        let log = kubectl(&["logs", "--namespace", SYSTEM, selector]).await;
        let is_logged = log.contains("status.lastRunRequest")
            && log.contains("`helm upgrade event-forwarder")
            && log.contains(" charts/event-forwarder --namespace");
        (is_logged, log)
    })
    .await;
    let name = "--output=jsonpath={.items[0].metadata.name}";
    let pod = kubectl(&[&["get"], &pods[..], &[name]].concat()).await;
    let metrics = format!("/api/v1/namespaces/{SYSTEM}/pods/{pod}:8080/proxy/metrics");
    eventually("the missing field is counted", async || {
        let page = kubectl(&["get", "--raw", &metrics]).await;
        let counted = page.contains("event_forwarder_crd_missing_fields 1\n");
        (counted, page)
    })
    .await;
    let crds = "--filename=crds/eventforwarder.yaml";
    kubectl(&["apply", "--server-side", "--force-conflicts", crds]).await;
    eventually("the CRD is complete again", async || {
        let schema = kubectl(&["get", "--raw", published]).await;
        let is_complete = schema.contains("lastRunRequest");
        (is_complete, is_complete)
    })
    .await;
}
