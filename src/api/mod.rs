//! The `EventForwarder` custom resource, `eventforwarder.io/v1alpha1`: what users declare
//! (`spec`) and what the controller saw (`status`). Depends on nothing else in this crate.

use kube::core::DeserializeGuard;
use schemars::{Schema, transform::transform_subschemas};
use serde_json::{Value, json};

mod drain;
mod duration;
mod iterable;
mod job;
mod mapping;
mod queue;
#[expect(
    clippy::duplicated_attributes,
    reason = "each printcolumn has a name and a type of its own"
)]
mod spec;
mod status;

pub use drain::*;
pub use duration::*;
pub use iterable::*;
pub use job::*;
pub use mapping::*;
pub use queue::*;
pub use spec::*;
pub use status::*;

/// An EventForwarder, or the metadata and the error of one that this version can't parse, so that
/// one such object does not stop the list or watch of all others.
pub type GuardedForwarder = DeserializeGuard<EventForwarder>;

/// A rule that a text has this pattern_rule, with the sentence that the API server refuses others with.
/// A schema's own `pattern` would show the expression in its place.
fn pattern_rule(pattern: &str, message: &str) -> Value {
    json!([{"rule": format!("self.matches(r'{pattern}')"), "message": message}])
}

/// The shape of a queue's URL.
const QUEUE_URL: &str = r"^https?://[^/\s]+/[0-9]+/[A-Za-z0-9_-]{1,80}(\.fifo)?$";
/// The shape of a server's base URL.
const BASE_URL: &str = r"^https?://[^/\s]+/?$";
/// The shape of the name of a Secret, a ConfigMap, a ServiceAccount or a PriorityClass.
const OBJECT_NAME: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// The shape of a key of a Secret or a ConfigMap.
const DATA_KEY: &str = r"^[-._a-zA-Z0-9]+$";

const QUEUE_URL_MESSAGE: &str = "this is no queue URL: copy it from the queue's page in the SQS console, for example https://sqs.us-east-1.amazonaws.com/123456789012/mparticle-events";
const BASE_URL_MESSAGE: &str = "this is no base URL: write scheme and host, with a port where it needs one and without a path, for example https://proxy.example.com:8443";
const OBJECT_NAME_MESSAGE: &str = "no object has such a name: it is made of lower-case letters, digits, dashes and dots, and begins and ends with a letter or digit, for example iterable-key";
const DATA_KEY_MESSAGE: &str =
    "a key holds only letters, digits, dots, dashes and underscores, for example api-key";

/// Makes a schema what the API server and `kubectl explain` read best.
///
/// The API server knows no unsigned integers and warns of their formats at each install; the
/// minimum of 0 that stands beside them says the same. `kubectl explain` wraps descriptions
/// itself, so the line breaks of the source would only be in its way.
fn for_kubernetes(schema: &mut Schema) {
    let unsigned = |format: &Value| {
        format
            .as_str()
            .is_some_and(|format| format.starts_with("uint"))
    };
    if schema.get("format").is_some_and(unsigned) {
        schema.remove("format");
    }
    if let Some(Value::String(description)) = schema.get_mut("description") {
        let paragraphs = description
            .split("\n\n")
            .map(|paragraph| paragraph.replace('\n', " "));
        *description = paragraphs.collect::<Vec<_>>().join("\n\n");
    }
    transform_subschemas(&mut for_kubernetes, schema);
}
