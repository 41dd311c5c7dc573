//! Whether the installed definition of EventForwarder is as new as this program. Of a field that
//! an older one lacks, the API server drops the value without a word, in status too.

use std::time::Duration;

use axum::http::Request;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client, CustomResourceExt, core::ObjectMeta};
use serde_json::Value;

use super::{
    error::{Call, Error},
    metrics::Metrics,
};
use crate::api::EventForwarder;

/// What every user of a cluster may read.
const PUBLISHED: &str = "/openapi/v3/apis/eventforwarder.io/v1alpha1";
/// The name of the CRD.
const NAME: &str = "eventforwarders.eventforwarder.io";
/// Updates a CRD that no Helm release owns. Without `--force-conflicts` it fails if the CRD was
/// created by anything except `kubectl apply`.
pub const APPLY: &str = "kubectl apply --server-side --force-conflicts -f crds/";
/// How soon a definition that is too old, or could not be read, is looked at again.
const PAUSE: Duration = Duration::from_secs(300);

/// Returns once the definition has every field that this program knows; says meanwhile what it
/// lacks.
pub async fn up_to_date(client: Client, metrics: Metrics) {
    let mut told = Vec::new();
    loop {
        match missing_fields(&client).await {
            Ok(missing) => {
                metrics.definition_lacks(missing.len());
                if missing.is_empty() {
                    return;
                }
                if missing != told {
                    tracing::warn!(
                        missing = missing.join(" "),
                        "the installed CRD of EventForwarder is older than this controller, so the API server drops these fields. {}",
                        how_to_update(installation(&client).await)
                    );
                    told = missing;
                }
            }
            Err(error) => tracing::warn!("{error}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// How the CRD was installed.
#[derive(Debug, PartialEq, Eq)]
enum Installation {
    /// By the chart: only an upgrade of this release leaves Helm the owner of the CRD.
    Helm {
        release: String,
        namespace: String,
        /// Something else has written to the CRD since, so Helm meets a conflict.
        contested: bool,
    },
    /// By anything else.
    Applied,
    /// The controller is not allowed to read the CRD.
    Unknown,
}

impl Installation {
    fn of(metadata: &ObjectMeta) -> Self {
        let annotation = |name: &str| metadata.annotations.as_ref()?.get(name).cloned();
        let by_helm = metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get("app.kubernetes.io/managed-by"))
            .is_some_and(|manager| manager == "Helm");
        match (
            annotation("meta.helm.sh/release-name"),
            annotation("meta.helm.sh/release-namespace"),
        ) {
            (Some(release), Some(namespace)) if by_helm => Self::Helm {
                release,
                namespace,
                contested: has_another_writer(metadata),
            },
            _ => Self::Applied,
        }
    }
}

/// Whether something besides Helm owns fields of the CRD, except for its status.
fn has_another_writer(metadata: &ObjectMeta) -> bool {
    let writers = metadata.managed_fields.iter().flatten();
    writers
        .filter(|writer| writer.subresource.is_none())
        .any(|writer| writer.manager.as_deref() != Some("helm"))
}

/// Reads how the CRD was installed. The controller has no permission for it if it runs with Roles
/// only.
async fn installation(client: &Client) -> Installation {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let read = Call::new("get", "the CRD of EventForwarder").run(definitions.get_metadata(NAME));
    match read.await {
        Ok(definition) => Installation::of(&definition.metadata),
        Err(_) => Installation::Unknown,
    }
}

/// The command that updates the CRD, for how it was installed.
fn how_to_update(installation: Installation) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let upgrade = |release: &str, namespace: &str, force: &str| {
        format!(
            "`helm upgrade {release} charts/event-forwarder --namespace {namespace} --reset-then-reuse-values --set crds.install=true{force}`"
        )
    };
    match installation {
        Installation::Helm {
            release,
            namespace,
            contested,
        } => format!(
            "The Helm release {namespace}/{release} installed it. In the folder of event-forwarder {version}, run {}; if that release no longer exists, run `{APPLY}`",
            upgrade(
                &release,
                &namespace,
                if contested { " --force-conflicts" } else { "" }
            )
        ),
        Installation::Applied => format!(
            "No Helm release owns it. In the folder of event-forwarder {version}, run `{APPLY}`"
        ),
        Installation::Unknown => format!(
            "See how it was installed with `kubectl describe customresourcedefinition {NAME}`. If its annotations name a Helm release, run {} in the folder of event-forwarder {version}, otherwise `{APPLY}`",
            upgrade("RELEASE", "RELEASE-NAMESPACE", "")
        ),
    }
}

async fn missing_fields(client: &Client) -> Result<Vec<String>, Error> {
    let ask = async {
        let request = Request::get(PUBLISHED)
            .body(Vec::new())
            .map_err(kube::Error::HttpError)?;
        client.request::<Value>(request).await
    };
    let published = Call::new("get", "the definition of EventForwarder")
        .run(ask)
        .await?;
    Ok(lacks(&known(), published_schema(&published)))
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
fn lacks(known: &Value, installed: &Value) -> Vec<String> {
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
            assert_eq!(lacks(&known, &older), expected);
        }
    }

    #[test]
    fn the_command_that_updates_the_crd_fits_how_it_was_installed() {
        let metadata = |labels: Value, annotations: Value, writers: Value| -> ObjectMeta {
            serde_json::from_value(json!({
                "labels": labels, "annotations": annotations, "managedFields": writers,
            }))
            .expect("metadata")
        };
        let writers = |managers: &[&str]| -> Value {
            let status = json!({"manager": "kube-apiserver", "subresource": "status"});
            let managers = managers.iter().map(|manager| json!({"manager": manager}));
            managers.chain([status]).collect()
        };
        let by_helm = json!({"app.kubernetes.io/managed-by": "Helm"});
        let release = json!({
            "meta.helm.sh/release-name": "events",
            "meta.helm.sh/release-namespace": "marketing",
        });
        let helm = |contested| Installation::Helm {
            release: "events".to_owned(),
            namespace: "marketing".to_owned(),
            contested,
        };
        let (alone, two) = (writers(&["helm"]), writers(&["helm", "kubectl-edit"]));
        for (labels, annotations, writers, expected) in [
            (by_helm.clone(), release.clone(), alone.clone(), helm(false)),
            (by_helm.clone(), release.clone(), two, helm(true)),
            (
                json!({}),
                json!({}),
                writers(&["kubectl"]),
                Installation::Applied,
            ),
            (json!({}), release, alone.clone(), Installation::Applied),
            (by_helm, json!({}), alone, Installation::Applied),
        ] {
            let found = Installation::of(&metadata(labels, annotations, writers));
            assert_eq!(found, expected);
        }
        let upgrade = "`helm upgrade events charts/event-forwarder --namespace marketing --reset-then-reuse-values --set crds.install=true";
        for (contested, end) in [(false, "`"), (true, " --force-conflicts`")] {
            let told = how_to_update(helm(contested));
            assert!(told.contains(&format!("{upgrade}{end}")), "{told}");
        }
        let applied = how_to_update(Installation::Applied);
        let command = format!("`{APPLY}`");
        assert!(
            applied.contains(&command) && !applied.contains("helm "),
            "{applied}"
        );
        let unknown = how_to_update(Installation::Unknown);
        let either = unknown.contains(&command) && unknown.contains("`helm upgrade RELEASE ");
        assert!(either, "{unknown}");
    }

    #[test]
    fn a_field_that_is_removed_from_the_definition_is_missed() {
        let known = known();
        assert_eq!(lacks(&known, &known), Vec::<String>::new());
        let mut older = known.clone();
        older["properties"]["status"]["properties"]
            .as_object_mut()
            .expect("the status's fields")
            .remove("totals");
        assert_eq!(lacks(&known, &older), ["status.totals"]);
    }
}
