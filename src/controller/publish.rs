//! The output of a reconciliation: the status, and an event for each changed condition.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::{
    Api, Resource, ResourceExt,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    runtime::{
        controller::Action,
        events::{Event, EventType, Recorder},
        reflector::ObjectRef,
    },
};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    cronjob::FIELD_MANAGER,
    error::{Call, Error},
    reconcile::Context,
    status,
};
use crate::api::{EventForwarder, EventForwarderStatus, GuardedForwarder};

/// How long publishing one event can take.
const EVENT_TIMEOUT: Duration = Duration::from_secs(15);

/// Writes the status if it differs from the current one.
pub async fn write_status(
    forwarder: &EventForwarder,
    status: &EventForwarderStatus,
    context: &Context,
) -> Result<(), Error> {
    let as_json = |status: &EventForwarderStatus| serde_json::to_value(status).ok();
    if forwarder.status.as_ref().and_then(as_json) == as_json(status) {
        return Ok(());
    }
    patch_status(context, forwarder.meta(), &json!(status)).await
}

/// Publishes an event for each changed condition, except Ready, Stalled and Unknown ones. A failure
/// is only logged, because the status has the same information.
pub async fn emit_events(
    forwarder: &EventForwarder,
    status: &EventForwarderStatus,
    recorder: &Recorder,
) {
    let before = forwarder
        .status
        .as_ref()
        .map_or(&[][..], |status| &status.conditions);
    let reference = forwarder.object_ref(&());
    for condition in status::changed_conditions(before, &status.conditions) {
        if ["Ready", "Stalled"].contains(&condition.type_.as_str()) || condition.status == "Unknown"
        {
            continue;
        }
        tracing::info!(
            condition = condition.type_,
            status = condition.status,
            reason = condition.reason,
            "{}",
            condition.message
        );
        let event = Event {
            type_: match condition.status.as_str() {
                "False" if condition.reason != "Suspended" => EventType::Warning,
                _ => EventType::Normal,
            },
            reason: condition.reason.clone(),
            note: Some(condition.message.clone()),
            action: condition.type_.clone(),
            secondary: None,
        };
        let published = timeout(EVENT_TIMEOUT, recorder.publish(&event, &reference)).await;
        let failed = match published {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no response within {} s", EVENT_TIMEOUT.as_secs()),
        };
        tracing::warn!(
            error = failed,
            reason = condition.reason,
            "could not publish an event"
        );
    }
}

/// Reports repeated failures in the status. Keeps all other fields.
pub async fn report_failure(
    forwarder: &EventForwarder,
    error: &Error,
    context: &Context,
) -> Result<(), Error> {
    let mut status = forwarder.status.clone().unwrap_or_default();
    let generation = forwarder.metadata.generation;
    status.observed_generation = generation;
    status.conditions = status::failing(error, &status.conditions, generation, Timestamp::now());
    write_status(forwarder, &status, context).await
}

/// Reports in the status that the forwarder can't be parsed. Keeps all other fields.
pub async fn report_unreadable(
    guarded: &GuardedForwarder,
    error: &str,
    context: &Context,
) -> Result<Action, Error> {
    let namespace = guarded.namespace().unwrap_or_default();
    let name = guarded.name_any();
    let resource = ApiResource::erase::<EventForwarder>(&());
    let api = Api::<DynamicObject>::namespaced_with(context.client.clone(), &namespace, &resource);
    let object = Call::new("get", format!("EventForwarder {namespace}/{name}"))
        .run(api.get_opt(&name))
        .await?;
    let Some(object) = object else {
        return Ok(Action::await_change());
    };
    let before = object.data.get("status").and_then(Value::as_object);
    let mut status = before.cloned().unwrap_or_default();
    let conditions: Vec<Condition> = status
        .get("conditions")
        .and_then(|conditions| serde_json::from_value(conditions.clone()).ok())
        .unwrap_or_default();
    let generation = guarded.meta().generation;
    let conditions = status::unreadable(error, &conditions, generation, Timestamp::now());
    status.insert("observedGeneration".to_owned(), json!(generation));
    status.insert("conditions".to_owned(), json!(conditions));
    if before != Some(&status) {
        patch_status(context, guarded.meta(), &Value::Object(status)).await?;
    }
    Ok(Action::await_change())
}

/// Writes the status of the object with this UID, not of a new object with the same name.
async fn patch_status(context: &Context, object: &ObjectMeta, status: &Value) -> Result<(), Error> {
    let namespace = object.namespace.as_deref().unwrap_or_default();
    let name = object.name.as_deref().unwrap_or_default();
    let api = Api::<GuardedForwarder>::namespaced(context.client.clone(), namespace);
    let patch = json!({
        "apiVersion": EventForwarder::api_version(&()),
        "kind": EventForwarder::kind(&()),
        "metadata": {"uid": object.uid},
        "status": status,
    });
    let written = Call::new(
        "write the status of",
        format!("EventForwarder {namespace}/{name}"),
    )
    .run(api.patch_status(
        name,
        &PatchParams::apply(FIELD_MANAGER).force(),
        &Patch::Apply(&patch),
    ))
    .await?;
    context.stale_reads.record(
        ObjectRef::new(name).within(namespace),
        written.resource_version(),
    );
    Ok(())
}
