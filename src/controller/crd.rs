//! Whether the installed definition of EventForwarder is as new as this program. Of a field that
//! an older one lacks, the API server drops the value without a word, in status too.

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

/// What every user of a cluster may read.
const PUBLISHED: &str = "/openapi/v3/apis/eventforwarder.io/v1alpha1";
/// How soon a definition that is too old, or could not be read, is looked at again.
const CHECK_INTERVAL: Duration = Duration::from_secs(300);

/// Returns once the definition has every field that this program knows; says meanwhile what it
/// lacks.
pub async fn wait_until_current(client: Client, metrics: Metrics) {
    let mut told = Vec::new();
    loop {
        match missing_fields(&client).await {
            Ok(missing) => {
                metrics.set_missing_fields(missing.len());
                if missing.is_empty() {
                    return;
                }
                if missing != told {
                    tracing::warn!(
                        missing = missing.join(" "),
                        "the installed EventForwarder CRD is older than this controller, so the API server drops these fields. {}",
                        installation(&client).await.how_to_update()
                    );
                    told = missing;
                }
            }
            Err(error) => tracing::warn!("{error}"),
        }
        tokio::time::sleep(CHECK_INTERVAL).await;
    }
}

/// Reads how the CRD was installed. The controller has no permission for it if it runs with Roles
/// only.
async fn installation(client: &Client) -> Installation {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let read = Call::new("get", "the EventForwarder CRD").run(definitions.get_metadata(CRD));
    match read.await {
        Ok(definition) => Installation::from_metadata(&definition.metadata),
        Err(_) => Installation::Unknown,
    }
}

async fn missing_fields(client: &Client) -> Result<Vec<String>, Error> {
    let ask = async {
        let request = Request::get(PUBLISHED)
            .body(Vec::new())
            .map_err(kube::Error::HttpError)?;
        client.request::<Value>(request).await
    };
    let published = Call::new("get", "the schema of the EventForwarder CRD")
        .run(ask)
        .await?;
    Ok(missing_from(&known(), published_schema(&published)))
}

/// The schema that this program would install.
fn known() -> Value {
    let definition = EventForwarder::crd();
    let version = definition.spec.versions.into_iter().next();
    version
        .and_then(|version| version.schema?.open_api_v3_schema)
        .and_then(|schema| serde_json::to_value(schema).ok())
        .unwrap_or_default()
}

/// The schema in what the API server publishes.
fn published_schema(published: &Value) -> &Value {
    published
        .pointer("/components/schemas")
        .and_then(Value::as_object)
        .and_then(|schemas| {
            schemas
                .iter()
                .find(|(name, _)| name.ends_with(".EventForwarder"))
        })
        .map_or(&Value::Null, |(_, schema)| schema)
}

/// The fields of `known` that `installed` has not, as paths; of a field that is missing, not
/// those below it.
fn missing_from(known: &Value, installed: &Value) -> Vec<String> {
    let mut missing = Vec::new();
    for part in ["spec", "status"] {
        let (known, installed) = (property(known, part), property(installed, part));
        collect(known, installed, part, &mut missing);
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

fn collect(known: &Value, installed: &Value, path: &str, missing: &mut Vec<String>) {
    if installed.is_null() {
        missing.push(path.to_owned());
        return;
    }
    let properties = known["properties"].as_object().into_iter().flatten();
    for (name, schema) in properties {
        let installed = property(installed, name);
        collect(schema, installed, &format!("{path}.{name}"), missing);
    }
    for inner in ["items", "additionalProperties"] {
        if known[inner].is_object() {
            collect(
                &known[inner],
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
    fn what_an_older_definition_lacks_is_named_by_its_path() {
        let text = json!({"type": "string"});
        let run = |fields: Value| json!({"type": "array", "items": object(fields)});
        let known = object(json!({
            "spec": object(json!({"schedule": text, "drain": object(json!({"pace": text, "rate": text}))})),
            "status": object(json!({"runs": run(json!({"name": text, "bytes": text}))})),
        }));
        for (older, expected) in [
            (known.clone(), vec![]),
            (
                object(json!({
                    "spec": object(json!({"schedule": text})),
                    "status": object(json!({"runs": run(json!({"name": text}))})),
                })),
                vec!["spec.drain", "status.runs[].bytes"],
            ),
            (Value::Null, vec!["spec", "status"]),
        ] {
            assert_eq!(missing_from(&known, &older), expected);
        }
    }

    #[test]
    fn a_field_that_is_removed_from_the_definition_is_missed() {
        let known = known();
        assert_eq!(missing_from(&known, &known), Vec::<String>::new());
        let mut older = known.clone();
        older["properties"]["status"]["properties"]
            .as_object_mut()
            .expect("the status's fields")
            .remove("totals");
        assert_eq!(missing_from(&known, &older), ["status.totals"]);
    }
}
