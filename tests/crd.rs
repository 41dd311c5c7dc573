//! The CRD's schema: descriptions for users, and rules for the API server.

use std::collections::BTreeSet;

use event_forwarder::{
    api::{EventForwarder, EventForwarderSpec, ProjectType},
    mapping::Mapper,
};
use kube::CustomResourceExt;
use serde_json::{Value, json};

fn schema() -> Value {
    let crd = serde_json::to_value(EventForwarder::crd()).expect("json");
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// Calls `visit` with the path and schema of each field below `schema`.
fn each_field(schema: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        visit(&path, field);
        each_field(field, &path, visit);
    }
    if schema["items"].is_object() {
        each_field(&schema["items"], &format!("{path}[]"), visit);
    }
}

#[test]
fn every_field_has_a_description() {
    let mut failures = Vec::new();
    each_field(&schema(), "", &mut |path, field| {
        // The API server defines metadata.
        if field["description"].as_str().unwrap_or_default().is_empty()
            && !path.starts_with(".metadata")
        {
            failures.push(path.to_owned());
        }
    });
    failures.retain(|path| path != ".metadata");
    assert!(failures.is_empty(), "{failures:#?}");
}

/// A doc comment on an enum must not replace the field's comment.
#[test]
fn enum_field_describes_values_and_default() {
    let mut failures = Vec::new();
    each_field(
        &schema()["properties"]["spec"],
        ".spec",
        &mut |path, field| {
            let Some(values) = field["enum"].as_array() else {
                return;
            };
            let description = field["description"].as_str().unwrap_or_default();
            let is_described = |value: &Value| {
                value
                    .as_str()
                    .is_none_or(|value| description.contains(value))
            };
            if !values.iter().all(is_described) || !description.contains("Default") {
                failures.push(path.to_owned());
            }
        },
    );
    assert!(failures.is_empty(), "{failures:#?}");
}

/// Returns whether Kubernetes defines the field: it is in a Kubernetes type below `.spec.job`.
fn is_kubernetes_field(path: &str) -> bool {
    path.strip_prefix(".spec.job.")
        .is_some_and(|field| field.contains(['.', '[']) && !field.starts_with("historyLimits."))
}

/// Calls `visit` for each field of the spec that this project defines, with its path, schema,
/// description, and whether it is required.
fn each_spec_field(visit: &mut impl FnMut(&str, &Value, &str, bool)) {
    let spec = &schema()["properties"]["spec"];
    let mut required = BTreeSet::new();
    let mut collect_required = |path: &str, schema: &Value| {
        let names = schema["required"].as_array().into_iter().flatten();
        let names = names.filter_map(Value::as_str);
        required.extend(names.map(|name| format!("{path}.{name}")));
    };
    collect_required(".spec", spec);
    each_field(spec, ".spec", &mut collect_required);
    each_field(spec, ".spec", &mut |path, field| {
        if !is_kubernetes_field(path) {
            let description = field["description"].as_str().unwrap_or_default();
            visit(path, field, description, required.contains(path));
        }
    });
}

#[test]
fn optional_field_describes_default_or_unset_value() {
    let mut failures = Vec::new();
    each_spec_field(&mut |path, field, description, is_required| {
        let is_described = match &field["default"] {
            Value::Null => description.contains("Default") || description.contains("If unset, "),
            default => {
                let shown = match default {
                    Value::String(text) => text.clone(),
                    Value::Array(values) => {
                        let words = values.iter().filter_map(Value::as_str);
                        format!("[{}]", words.collect::<Vec<_>>().join(", "))
                    }
                    other => other.to_string(),
                };
                description.contains(&format!("Default {shown}"))
                    || description.contains(&format!("Default \"{shown}\""))
            }
        };
        if !is_described && !is_required && field["type"] != "object" {
            failures.push(path.to_owned());
        }
    });
    assert!(failures.is_empty(), "{failures:#?}");
}

/// Parses the YAML value after "Example: ", which ends with its closing quote or bracket, or before
/// the next comma or period.
fn example(description: &str) -> Option<Value> {
    let (_, text) = description.split_once("Example: ")?;
    let length = match text.chars().next()? {
        '"' => 1 + text[1..].find('"')? + 1,
        '[' | '{' => {
            let mut depth = 0;
            text.find(|char| {
                depth += i32::from("[{".contains(char)) - i32::from("]}".contains(char));
                depth == 0
            })? + 1
        }
        _ => text.find(['.', ',']).unwrap_or(text.len()),
    };
    serde_saphyr::from_str(&text[..length]).ok()
}

/// The spec that consists of all examples must be parsed without losing a field.
#[test]
fn every_field_has_a_valid_example() {
    let mut failures = Vec::new();
    let mut manifest = json!({"spec": {}});
    each_spec_field(&mut |path, _, description, _| match example(description) {
        Some(example) => {
            let field = path[1..]
                .split('.')
                .fold(&mut manifest, |object, name| &mut object[name]);
            *field = example;
        }
        None => failures.push(path.to_owned()),
    });
    assert!(failures.is_empty(), "{failures:#?}");

    let mut spec: EventForwarderSpec =
        serde_json::from_value(manifest["spec"].clone()).expect("a spec");
    assert_eq!(serde_json::to_value(&spec).expect("json"), manifest["spec"]);
    // A mapping has either `jq` or `configMapKeyRef`.
    if let Some(transform) = &mut spec.mapping.transform {
        transform.config_map_key_ref = None;
    }
    Mapper::new(&spec.mapping, ProjectType::Email, None).expect("a mapping");
}

/// `docs/conditions.md` lists all outcomes.
#[test]
fn status_description_lists_every_outcome() {
    let document = include_str!("../docs/conditions.md");
    let (_, outcomes) = document.split_once("## Outcomes").expect("the outcomes");
    let outcome =
        &schema()["properties"]["status"]["properties"]["lastRun"]["properties"]["outcome"];
    let description = outcome["description"].as_str().unwrap_or_default();
    let rows = outcomes.lines().filter_map(|line| line.strip_prefix("| "));
    let names = rows.filter_map(|row| row.split(' ').next());
    let missing: Vec<_> = names
        .filter(|name| name.starts_with(char::is_uppercase) && !description.contains(name))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn crd_fits_last_applied_annotation() {
    let bytes = serde_json::to_string(&EventForwarder::crd())
        .expect("json")
        .len();
    // Client-side apply stores the CRD in an annotation. All annotations together are limited to
    // 262,144 bytes.
    assert!(bytes < 200_000, "{bytes} bytes");
}

#[test]
fn api_server_supports_every_format() {
    let text = schema().to_string();
    assert!(
        !text.contains("\"format\":\"uint"),
        "unsigned formats make the API server warn"
    );
}

#[test]
fn conditions_are_a_map_by_type() {
    let conditions = &schema()["properties"]["status"]["properties"]["conditions"];
    assert_eq!(conditions["x-kubernetes-list-type"], "map");
    assert_eq!(
        conditions["x-kubernetes-list-map-keys"],
        serde_json::json!(["type"])
    );
}

/// Server-side apply merges a list of type map by its keys, so two managers can each own items.
#[test]
fn lists_have_map_or_set_type() {
    let schema = schema();
    let field = |path: &[&str]| {
        path.iter()
            .fold(&schema["properties"]["spec"], |schema, name| {
                &schema["properties"][name]
            })
    };
    for (path, key) in [
        (["job", "env"], "name"),
        (["job", "volumes"], "name"),
        (["job", "volumeMounts"], "mountPath"),
        (["job", "hostAliases"], "ip"),
        (["job", "imagePullSecrets"], "name"),
    ] {
        let list = field(&path);
        assert_eq!(list["x-kubernetes-list-type"], "map", "{path:?}");
        assert_eq!(
            list["x-kubernetes-list-map-keys"],
            serde_json::json!([key]),
            "{path:?}"
        );
    }
    for path in [
        &["mapping", "events"][..],
        &["mapping", "dataFields", "context"],
        &["queue", "largePayloads", "buckets"],
    ] {
        assert_eq!(field(path)["x-kubernetes-list-type"], "set", "{path:?}");
    }
}

/// For a pattern, the API server's error message is only the pattern.
#[test]
fn spec_uses_rules_instead_of_patterns() {
    let mut failures = Vec::new();
    each_field(
        &schema()["properties"]["spec"],
        ".spec",
        &mut |path, field| {
            if field["pattern"].is_string() {
                failures.push(path.to_owned());
            }
        },
    );
    // Kubernetes defines the patterns of quantities.
    failures.retain(|path| !path.starts_with(".spec.job."));
    assert!(failures.is_empty(), "{failures:#?}");
}

/// Helm and Flux consider an object without `observedGeneration` ready.
#[test]
fn unobserved_forwarder_is_not_ready() {
    let status = &schema()["properties"]["status"];
    assert_eq!(
        status["default"],
        serde_json::json!({"observedGeneration": -1})
    );
}
