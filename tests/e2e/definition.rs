//! The definition in `crds/`, as people apply it.

use std::{env, process::Stdio};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, api::DeleteParams};
use tokio::process::Command;

use crate::world::{Shared, eventually, gone};

pub async fn the_definition_applies_both_ways_without_a_warning(shared: &Shared) {
    // Under other names, since helm has installed it under its own.
    let manifest = include_str!("../../crds/eventforwarder.yaml")
        .replace("eventforwarder", "applied")
        .replace("EventForwarder", "Applied")
        .replace("- ef\n", "- applied-short\n");
    let file = env::temp_dir().join(format!(
        "event-forwarder-e2e-{}-crd.yaml",
        std::process::id()
    ));
    std::fs::write(&file, manifest).expect("a file");
    let definitions = Api::<CustomResourceDefinition>::all(shared.client.clone());
    let name = "applieds.applied.io";
    let _ = definitions.delete(name, &DeleteParams::default()).await;
    gone(&definitions, name).await;

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
            is("Established") && is("NamesAccepted")
        })
        .await;
    }
    let _ = std::fs::remove_file(&file);
    definitions
        .delete(name, &DeleteParams::default())
        .await
        .expect("deleting it");
}
