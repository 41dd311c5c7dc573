//! The resource's definition, as users and the API server read it.

use event_forwarder::api::EventForwarder;
use kube::CustomResourceExt;
use serde_json::Value;

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

#[test]
fn a_default_in_the_schema_is_named_in_the_description() {
    let mut silent = Vec::new();
    each_field(
        &schema()["properties"]["spec"],
        ".spec",
        &mut |path, field| {
            let plain = field["default"].is_string() || field["default"].is_number();
            let description = field["description"].as_str().unwrap_or_default();
            let shown = match &field["default"] {
                Value::String(text) => text.clone(),
                number => number.to_string(),
            };
            if plain && !description.contains("Default") && !description.contains(&shown) {
                silent.push(path.to_owned());
            }
        },
    );
    assert!(silent.is_empty(), "{silent:#?}");
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
