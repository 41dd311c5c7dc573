//! `suspend` and `resume`.
//!
//! `spec.suspend` is applied by the server with a field manager of our own, so that the rest of
//! the forwarder stays with whoever declared it. To resume is to give the field up: nothing of
//! ours is left that a later apply of the manifest could conflict with.

use kube::{
    Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{cluster::Cluster, error::PluginError};
use crate::api::EventForwarder;

/// The field manager of what the plugin changes.
pub const FIELD_MANAGER: &str = "kubectl-forwarder";

/// Suspends; yields what to tell.
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
    let under_way = match active {
        0 => "",
        _ => ". The current run continues",
    };
    Ok(format!(
        "suspended {name}. No scheduled runs start until `kubectl forwarder resume {name} --namespace {}`. Messages stay in the queue until its retention period ends{under_way}{}",
        cluster.namespace,
        override_warning(&forwarder)
    ))
}

/// Resumes; yields what to tell.
///
/// # Errors
/// A failed call.
pub async fn resume(cluster: &Cluster, name: &str) -> Result<String, PluginError> {
    let forwarder = cluster.forwarder(name).await?;
    if !forwarder.spec.suspend {
        return Ok(format!("{name} is not suspended"));
    }
    let released = apply(cluster, &forwarder, None).await?;
    // Somebody else suspended it too.
    if released.spec.suspend {
        apply(cluster, &forwarder, Some(false)).await?;
    }
    Ok(format!(
        "resumed {name}. Scheduled runs start again{}",
        override_warning(&forwarder)
    ))
}

/// Sets `spec.suspend`, or gives it up.
async fn apply(
    cluster: &Cluster,
    forwarder: &EventForwarder,
    suspend: Option<bool>,
) -> Result<EventForwarder, PluginError> {
    let name = forwarder.name_any();
    let members = [
        ("apiVersion", json!(EventForwarder::api_version(&()))),
        ("kind", json!(EventForwarder::kind(&()))),
        // With the uid, a forwarder that was deleted meanwhile is not made anew.
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

/// Who else sets `spec.suspend`, and so may set it back.
fn override_warning(forwarder: &EventForwarder) -> String {
    match conflicting_manager(forwarder) {
        Some(keeper) => format!(
            ".\nWarning: {keeper} also sets spec.suspend and overrides this change when it is next applied. Change it there to make it permanent"
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
    // Of other managers only appliers come back; and an updater seems to own what was a default.
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
    fn whoever_declares_the_field_is_named() {
        for (metadata, named) in [
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
            let keeper = conflicting_manager(&forwarder(metadata.clone()));
            match named {
                None => assert_eq!(keeper, None, "{metadata}"),
                Some(named) => assert!(keeper.is_some_and(|it| it.contains(named)), "{metadata}"),
            }
        }
    }
}
