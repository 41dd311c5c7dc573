//! The definition in `crds/`, as people apply it.

use std::{env, process::Stdio};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, api::DeleteParams};
use tokio::process::Command;

use crate::{
    sharing::{CRD, PART_OF, delete_ours, with_crd_put_back},
    world::{RELEASE, SYSTEM, Shared, eventually, kubectl, rolled_out},
};

pub async fn the_definition_applies_both_ways_without_a_warning(shared: &Shared) {
    // Under other names, because helm has installed it under its own.
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
    let definitions = Api::<CustomResourceDefinition>::all(shared.client.clone());
    let name = "eventforwardere2es.eventforwardere2e.io";
    delete_ours::<CustomResourceDefinition>(&shared.client, name).await;

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
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && said.is_empty(),
            "kubectl {}: {said}",
            arguments.join(" ")
        );
        eventually("it is established and in good order", async || {
            let definition = definitions.get(name).await.expect("a get");
            let conditions = definition.status.unwrap_or_default().conditions;
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
    definitions
        .delete(name, &DeleteParams::default())
        .await
        .expect("deleting it");
}

pub async fn a_definition_that_is_older_than_the_controller_is_told(shared: &Shared) {
    shared.install().await.expect("the operator");
    with_crd_put_back(&shared.client, older_crd_is_reported()).await;
    shared.uninstall().await;
}

async fn older_crd_is_reported() {
    const LACKS: &str = r#"[{"op": "remove", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/lastRunRequest"}]"#;
    kubectl(&["patch", "crd", CRD, "--type=json", "--patch", LACKS]).await;
    let published = "/openapi/v3/apis/eventforwarder.io/v1alpha1";
    eventually("the older definition is published", async || {
        let schema = kubectl(&["get", "--raw", published]).await;
        let [there, absent] = ["recentRuns", "lastRunRequest"].map(|it| schema.contains(it));
        (there && !absent, [there, absent])
    })
    .await;
    let pods = ["pods", "--namespace", SYSTEM];
    kubectl(&[&["delete"], &pods[..], &["--all"]].concat()).await;
    rolled_out().await;
    eventually("the field is named", async || {
        let selector = "--selector=app.kubernetes.io/name=event-forwarder";
        let said = kubectl(&["logs", "--namespace", SYSTEM, selector]).await;
        let told = said.contains("status.lastRunRequest")
            && said.contains("`helm upgrade event-forwarder")
            && said.contains(" charts/event-forwarder --namespace");
        (told, said)
    })
    .await;
    let name = "--output=jsonpath={.items[0].metadata.name}";
    let pod = kubectl(&[&["get"], &pods[..], &[name]].concat()).await;
    let metrics = format!("/api/v1/namespaces/{SYSTEM}/pods/{pod}:8080/proxy/metrics");
    eventually("it is counted", async || {
        let page = kubectl(&["get", "--raw", &metrics]).await;
        let counted = page.contains("event_forwarder_definition_missing_fields 1\n");
        (counted, page)
    })
    .await;
    let crds = "--filename=crds/eventforwarder.yaml";
    kubectl(&["apply", "--server-side", "--force-conflicts", crds]).await;
    eventually("the definition is whole again", async || {
        let schema = kubectl(&["get", "--raw", published]).await;
        let whole = schema.contains("lastRunRequest");
        (whole, whole)
    })
    .await;
}
