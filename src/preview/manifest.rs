//! Parses EventForwarder manifests as strictly as `kubectl apply`.

use std::path::Path;

use kube::CustomResourceExt;
use serde_json::Value;

use crate::api::EventForwarder;

use super::{PreviewError, read};

/// Reads a manifest. Rejects unknown fields, because a typo would otherwise silently select the
/// defaults.
pub fn forwarder(path: &Path) -> Result<EventForwarder, PreviewError> {
    let text = read(path)?;
    let failed = |error: String| PreviewError::Forwarder {
        path: path.display().to_string(),
        error,
    };
    let forwarder = serde_saphyr::from_str(&text).map_err(|error| failed(error.to_string()))?;
    let manifest: Value =
        serde_saphyr::from_str(&text).map_err(|error| failed(error.to_string()))?;
    let spec = manifest.get("spec");
    match spec.and_then(|spec| unknown_field(spec, &spec_schema(), "spec")) {
        None => Ok(forwarder),
        Some(field) => Err(failed(format!(
            "unknown field {field}; for all fields, see `kubectl explain eventforwarder.spec --recursive`"
        ))),
    }
}

/// Returns the CRD's schema of `spec`.
fn spec_schema() -> Value {
    let versions = EventForwarder::crd().spec.versions;
    let schema = versions
        .into_iter()
        .find_map(|version| version.schema?.open_api_v3_schema)
        .and_then(|schema| schema.properties?.remove("spec"));
    serde_json::to_value(schema).unwrap_or_default()
}

/// Returns the path of the first member that a schema does not list. A schema that lists none
/// accepts all.
fn unknown_field(value: &Value, schema: &Value, path: &str) -> Option<String> {
    match value {
        Value::Object(members) => {
            let properties = schema.get("properties").and_then(Value::as_object)?;
            members.iter().find_map(|(name, value)| {
                let path = format!("{path}.{name}");
                match properties.get(name) {
                    None => Some(path),
                    Some(schema) => unknown_field(value, schema, &path),
                }
            })
        }
        Value::Array(elements) => elements.iter().enumerate().find_map(|(index, value)| {
            unknown_field(value, &schema["items"], &format!("{path}[{index}]"))
        }),
        _ => None,
    }
}
