//! The resource's definition, as users and the API server read it.

use std::collections::BTreeSet;

use event_forwarder::{
    api::{EventForwarder, EventForwarderSpec, ProjectType},
    mapping::Mapper,
};
use kube::CustomResourceExt;
use serde_json::{Value, json};

fn schema() -> Value {
    let definition = serde_json::to_value(EventForwarder::crd()).expect("json");
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
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
fn every_field_is_described_for_kubectl_explain() {
    let mut bare = Vec::new();
    each_field(&schema(), "", &mut |path, field| {
        // The rest of Affinity and its like are Kubernetes' own words.
        if field["description"].as_str().unwrap_or_default().is_empty()
            && !path.starts_with(".metadata")
        {
            bare.push(path.to_owned());
        }
    });
    bare.retain(|path| path != ".metadata");
    assert!(bare.is_empty(), "{bare:#?}");
}

/// A doc comment on an enum must not take the place of the comment on the field.
#[test]
fn a_field_with_a_fixed_set_of_values_says_what_each_means_and_which_is_the_default() {
    let mut unexplained = Vec::new();
    each_field(
        &schema()["properties"]["spec"],
        ".spec",
        &mut |path, field| {
            let Some(values) = field["enum"].as_array() else {
                return;
            };
            let description = field["description"].as_str().unwrap_or_default();
            let explains = |value: &Value| {
                value
                    .as_str()
                    .is_none_or(|value| description.contains(value))
            };
            if !values.iter().all(explains) || !description.contains("Default") {
                unexplained.push(path.to_owned());
            }
        },
    );
    assert!(unexplained.is_empty(), "{unexplained:#?}");
}

/// Whether Kubernetes has the words on it: what is below the fields that a run's pod shares with any
/// other.
fn is_kubernetes_own(path: &str) -> bool {
    path.strip_prefix(".spec.job.")
        .is_some_and(|field| field.contains(['.', '[']) && !field.starts_with("historyLimits."))
}

/// Calls `visit` with the path, schema and description of each field of the spec that is described
/// here, and whether it must be given.
fn each_field_of_ours(visit: &mut impl FnMut(&str, &Value, &str, bool)) {
    let spec = &schema()["properties"]["spec"];
    let mut required = BTreeSet::new();
    let mut note = |path: &str, schema: &Value| {
        let names = schema["required"].as_array().into_iter().flatten();
        let names = names.filter_map(Value::as_str);
        required.extend(names.map(|name| format!("{path}.{name}")));
    };
    note(".spec", spec);
    each_field(spec, ".spec", &mut note);
    each_field(spec, ".spec", &mut |path, field| {
        if !is_kubernetes_own(path) {
            let description = field["description"].as_str().unwrap_or_default();
            visit(path, field, description, required.contains(path));
        }
    });
}

#[test]
fn a_field_that_may_be_left_out_says_what_holds_then() {
    let mut silent = Vec::new();
    each_field_of_ours(&mut |path, field, description, is_required| {
        let says = match &field["default"] {
            Value::Null => description.contains("Default") || description.contains("Left out:"),
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
        if !says && !is_required && field["type"] != "object" {
            silent.push(path.to_owned());
        }
    });
    assert!(silent.is_empty(), "{silent:#?}");
}

/// The value that stands behind "Example: ", as YAML: quoted, in brackets, or up to the next
/// comma or full stop.
fn example(description: &str) -> Option<Value> {
    let (_, text) = description.split_once("Example: ")?;
    let length = match text.chars().next()? {
        '"' => 1 + text[1..].find('"')? + 1,
        '[' | '{' => {
            let mut depth = 0;
            text.find(|letter| {
                depth += i32::from("[{".contains(letter)) - i32::from("]}".contains(letter));
                depth == 0
            })? + 1
        }
        _ => text.find(['.', ',']).unwrap_or(text.len()),
    };
    serde_saphyr::from_str(&text[..length]).ok()
}

/// All examples together are a spec that the program reads, and nothing of it is lost.
#[test]
fn every_field_has_an_example_that_can_be_written_as_it_stands() {
    let mut bare = Vec::new();
    let mut written = json!({"spec": {}});
    each_field_of_ours(&mut |path, _, description, _| match example(description) {
        Some(example) => {
            let field = path[1..]
                .split('.')
                .fold(&mut written, |object, name| &mut object[name]);
            *field = example;
        }
        None => bare.push(path.to_owned()),
    });
    assert!(bare.is_empty(), "{bare:#?}");

    let mut spec: EventForwarderSpec =
        serde_json::from_value(written["spec"].clone()).expect("a spec");
    assert_eq!(serde_json::to_value(&spec).expect("json"), written["spec"]);
    // A program stands in one of two places.
    if let Some(transform) = &mut spec.mapping.transform {
        transform.config_map_key_ref = None;
    }
    Mapper::new(&spec.mapping, ProjectType::Email, None).expect("a mapping");
}

/// The document is the closed list.
#[test]
fn the_status_names_every_outcome() {
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
fn the_definition_fits_the_annotation_that_kubectl_apply_keeps() {
    let bytes = serde_json::to_string(&EventForwarder::crd())
        .expect("json")
        .len();
    // Client-side apply keeps a copy of it in an annotation of 262,144 bytes at most.
    assert!(bytes < 200_000, "{bytes} bytes");
}

#[test]
fn the_api_server_knows_every_format() {
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

/// Server-side apply merges such a list by its keys, so that two managers can each own a part.
#[test]
fn lists_of_named_things_are_maps_and_lists_of_words_are_sets() {
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

/// What the API server says of a pattern is the pattern itself.
#[test]
fn a_text_of_the_wrong_shape_is_refused_with_a_sentence() {
    let mut bare = Vec::new();
    each_field(
        &schema()["properties"]["spec"],
        ".spec",
        &mut |path, field| {
            if field["pattern"].is_string() {
                bare.push(path.to_owned());
            }
        },
    );
    // Quantities are Kubernetes' own.
    bare.retain(|path| !path.starts_with(".spec.job."));
    assert!(bare.is_empty(), "{bare:#?}");
}

/// Helm and Flux take an object for ready that says nothing of what was observed.
#[test]
fn a_forwarder_that_nobody_has_looked_at_is_not_taken_for_ready() {
    let status = &schema()["properties"]["status"];
    assert_eq!(
        status["default"],
        serde_json::json!({"observedGeneration": -1})
    );
}
