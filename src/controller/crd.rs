//! Checks whether the installed EventForwarder CRD is as new as this program. The API server
//! silently drops fields that an older CRD lacks, including status fields.

use std::time::Duration;

use axum::http::Request;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client, CustomResourceExt};
use serde_json::Value;

use super::{
    error::{Call, Error},
    installation::{CRD, Installation},
    metrics::Metrics,
};
use crate::api::EventForwarder;

/// The schema that the API server publishes. Every user of a cluster is allowed to read it.
const OPENAPI_PATH: &str = "/openapi/v3/apis/eventforwarder.io/v1alpha1";
/// Delay before an outdated or unreadable CRD is checked again.
const CHECK_INTERVAL: Duration = Duration::from_secs(300);

/// Waits until the CRD has every field that this program knows. Until then, logs the missing
/// fields.
pub async fn wait_until_current(client: Client, metrics: Metrics) {
    let mut last_logged = Vec::new();
    loop {
        match missing_fields(&client).await {
            Ok(missing) => {
                metrics.set_missing_fields(missing.len());
                if missing.is_empty() {
                    return;
                }
                if missing != last_logged {
                    tracing::warn!(
                        missing = missing.join(" "),
                        "the installed EventForwarder CRD is older than this controller, so the API server drops these fields. {}",
                        installation(&client).await.how_to_update()
                    );
                    last_logged = missing;
                }
            }
            Err(error) => tracing::warn!("{error}; retrying"),
        }
        tokio::time::sleep(CHECK_INTERVAL).await;
    }
}

/// Reads how the CRD was installed. Returns `Unknown` if the controller runs with Roles only,
/// because it then has no permission to read the CRD.
async fn installation(client: &Client) -> Installation {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let read = Call::new("get", "the EventForwarder CRD").run(crds.get_metadata(CRD));
    match read.await {
        Ok(crd) => Installation::from_metadata(&crd.metadata),
        Err(_) => Installation::Unknown,
    }
}

async fn missing_fields(client: &Client) -> Result<Vec<String>, Error> {
    let get = async {
        let request = Request::get(OPENAPI_PATH)
            .body(Vec::new())
            .map_err(kube::Error::HttpError)?;
        client.request::<Value>(request).await
    };
    let openapi = Call::new("get", "the schema of the EventForwarder CRD")
        .run(get)
        .await?;
    Ok(missing_from(&current_schema(), published_schema(&openapi)))
}

/// Returns the schema in this program's version of the CRD.
fn current_schema() -> Value {
    let crd = EventForwarder::crd();
    let version = crd.spec.versions.into_iter().next();
    version
        .and_then(|version| version.schema?.open_api_v3_schema)
        .and_then(|schema| serde_json::to_value(schema).ok())
        .unwrap_or_default()
}

/// Returns the schema of EventForwarder in the API server's OpenAPI document.
fn published_schema(openapi: &Value) -> &Value {
    openapi
        .pointer("/components/schemas")
        .and_then(Value::as_object)
        .and_then(|schemas| {
            schemas
                .iter()
                .find(|(name, _)| name.ends_with(".EventForwarder"))
        })
        .map_or(&Value::Null, |(_, schema)| schema)
}

/// Returns the paths of the fields in `current` that `installed` lacks, without the fields below
/// them.
fn missing_from(current: &Value, installed: &Value) -> Vec<String> {
    let mut missing = Vec::new();
    for part in ["spec", "status"] {
        let (current, installed) = (property(current, part), property(installed, part));
        collect_missing(current, installed, part, &mut missing);
    }
    missing
}

/// Returns the schema of a field, or null if there is no such field.
fn property<'s>(schema: &'s Value, name: &str) -> &'s Value {
    schema
        .get("properties")
        .and_then(|properties| properties.get(name))
        .unwrap_or(&Value::Null)
}

fn collect_missing(current: &Value, installed: &Value, path: &str, missing: &mut Vec<String>) {
    if installed.is_null() {
        missing.push(path.to_owned());
        return;
    }
    let properties = current["properties"].as_object().into_iter().flatten();
    for (name, schema) in properties {
        let installed = property(installed, name);
        collect_missing(schema, installed, &format!("{path}.{name}"), missing);
    }
    for inner in ["items", "additionalProperties"] {
        if current[inner].is_object() {
            collect_missing(
                &current[inner],
                &installed[inner],
                &format!("{path}[]"),
                missing,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(properties: Value) -> Value {
        json!({"type": "object", "properties": properties})
    }

    #[test]
    fn missing_fields_are_reported_by_path() {
        let text = json!({"type": "string"});
        let run = |fields: Value| json!({"type": "array", "items": object(fields)});
        let current = object(json!({
            "spec": object(json!({"schedule": text, "drain": object(json!({"pace": text, "rate": text}))})),
            "status": object(json!({"runs": run(json!({"name": text, "bytes": text}))})),
        }));
        for (older, expected) in [
            (current.clone(), vec![]),
            (
                object(json!({
                    "spec": object(json!({"schedule": text})),
                    "status": object(json!({"runs": run(json!({"name": text}))})),
                })),
                vec!["spec.drain", "status.runs[].bytes"],
            ),
            (Value::Null, vec!["spec", "status"]),
        ] {
            assert_eq!(missing_from(&current, &older), expected);
        }
    }

    #[test]
    fn field_removed_from_crd_is_missing() {
        let current = current_schema();
        assert_eq!(missing_from(&current, &current), Vec::<String>::new());
        let mut older = current.clone();
        older["properties"]["status"]["properties"]
            .as_object_mut()
            .expect("the status's fields")
            .remove("totals");
        assert_eq!(missing_from(&current, &older), ["status.totals"]);
    }
}
