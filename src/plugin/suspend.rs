//! The commands `suspend` and `resume`.
//!
//! `suspend` sets `spec.suspend` with server-side apply under a separate field manager, so all
//! other fields keep their managers. `resume` releases the field, so a later apply of the manifest
//! has no conflict.

use kube::{
    Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{cluster::Cluster, error::PluginError};
use crate::api::EventForwarder;

/// The field manager of the plugin's changes.
pub const FIELD_MANAGER: &str = "kubectl-forwarder";

/// Suspends the forwarder. Returns the message to print.
///
/// # Errors
/// A failed call.
pub async fn suspend(cluster: &Cluster, name: &str) -> Result<String, PluginError> {
    let forwarder = cluster.forwarder(name).await?;
    if forwarder.spec.suspend {
        return Ok(format!("{name} is already suspended"));
    }
    apply(cluster, &forwarder, Some(true)).await?;
    let active = forwarder.status.as_ref().map_or(0, |status| status.active);
    let current_run = match active {
        0 => "",
        _ => ". The current run continues",
    };
    Ok(format!(
        "suspended {name}. No scheduled runs start until `kubectl forwarder resume {name} --namespace {}`. Messages stay in the queue until its retention period ends{current_run}{}",
        cluster.namespace,
        override_warning(&forwarder)
    ))
}

/// Resumes the forwarder. Returns the message to print.
///
/// # Errors
/// A failed call.
pub async fn resume(cluster: &Cluster, name: &str) -> Result<String, PluginError> {
    let forwarder = cluster.forwarder(name).await?;
    if !forwarder.spec.suspend {
        return Ok(format!("{name} is not suspended"));
    }
    let released = apply(cluster, &forwarder, None).await?;
    // Another manager also set it.
    if released.spec.suspend {
        apply(cluster, &forwarder, Some(false)).await?;
    }
    Ok(format!(
        "resumed {name}. Scheduled runs start again{}",
        override_warning(&forwarder)
    ))
}

/// Sets `spec.suspend`, or releases it if `suspend` is `None`.
async fn apply(
    cluster: &Cluster,
    forwarder: &EventForwarder,
    suspend: Option<bool>,
) -> Result<EventForwarder, PluginError> {
    let name = forwarder.name_any();
    let members = [
        ("apiVersion", json!(EventForwarder::api_version(&()))),
        ("kind", json!(EventForwarder::kind(&()))),
        // With the UID, apply does not create a forwarder that was just deleted.
        ("metadata", json!({"name": name, "uid": forwarder.uid()})),
    ];
    let spec = suspend.map(|suspend| ("spec", json!({"suspend": suspend})));
    let patch: Value = members.into_iter().chain(spec).collect();
    let call = format!(
        "change spec.suspend of EventForwarder {}/{name}",
        cluster.namespace
    );
    let api = cluster.forwarders();
    let params = PatchParams::apply(FIELD_MANAGER).force();
    cluster
        .call_api(call, api.patch(&name, &params, &Patch::Apply(&patch)))
        .await
}

/// Returns a warning if another manager sets `spec.suspend` and can override the change.
fn override_warning(forwarder: &EventForwarder) -> String {
    match conflicting_manager(forwarder) {
        Some(manager) => format!(
            ".\nWarning: {manager} also sets spec.suspend and overrides this change when it is next applied. Change it there to make it permanent"
        ),
        None => String::new(),
    }
}

fn conflicting_manager(forwarder: &EventForwarder) -> Option<String> {
    const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
    let applied = forwarder.annotations().get(LAST_APPLIED);
    let manifest = applied.and_then(|text| serde_json::from_str::<Value>(text).ok());
    if manifest.is_some_and(|manifest| manifest.pointer("/spec/suspend").is_some()) {
        return Some("the manifest that was last applied with `kubectl apply`".to_owned());
    }
    // Only managers that apply set the field again. A manager that updates also owns defaults.
    forwarder.managed_fields().iter().find_map(|entry| {
        let manager = entry.manager.as_deref()?;
        let fields = &entry.fields_v1.as_ref()?.0;
        let applies = entry.operation.as_deref() == Some("Apply");
        let owns = fields.pointer("/f:spec/f:suspend").is_some();
        (applies && owns && manager != FIELD_MANAGER).then(|| format!("the manifest of {manager}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarder(metadata: Value) -> EventForwarder {
        let mut metadata = metadata;
        metadata["name"] = json!("mparticle");
        serde_json::from_value(json!({
            "apiVersion": "eventforwarder.io/v1alpha1", "kind": "EventForwarder",
            "metadata": metadata,
            "spec": {
                "schedule": "0 * * * *",
                "queue": {"url": "https://sqs.us-east-1.amazonaws.com/1/q"},
                "iterable": {"apiKeySecretRef": {"name": "iterable"}},
            },
        }))
        .expect("a forwarder")
    }

    fn managed(manager: &str, operation: &str) -> Value {
        json!({"managedFields": [{
            "manager": manager, "operation": operation,
            "fieldsV1": {"f:spec": {"f:suspend": {}}},
        }]})
    }

    fn last_applied(spec: &Value) -> Value {
        let manifest = json!({"spec": spec}).to_string();
        json!({"annotations": {"kubectl.kubernetes.io/last-applied-configuration": manifest}})
    }

    #[test]
    fn conflicting_manager_is_found() {
        for (metadata, expected) in [
            (json!({}), None),
            (managed("flux", "Apply"), Some("flux")),
            (managed("kubectl-create", "Update"), None),
            (managed(FIELD_MANAGER, "Apply"), None),
            (
                last_applied(&json!({"suspend": false})),
                Some("kubectl apply"),
            ),
            (last_applied(&json!({"schedule": "0 * * * *"})), None),
        ] {
            let manager = conflicting_manager(&forwarder(metadata.clone()));
            match expected {
                None => assert_eq!(manager, None, "{metadata}"),
                Some(name) => assert!(manager.is_some_and(|it| it.contains(name)), "{metadata}"),
            }
        }
    }
}
