//! The `EventForwarder` custom resource, `eventforwarder.io/v1alpha1`: its `spec` and `status`.
//! Does not depend on other modules of this crate.

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
    reason = "the printer columns repeat attribute names"
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

/// An EventForwarder, or the metadata and error of one that this version can't parse. One invalid
/// object must not stop the list or watch of all others.
pub type GuardedForwarder = DeserializeGuard<EventForwarder>;

/// Returns a CEL rule that a string matches `pattern`, with the error message of the API server.
/// For a schema's `pattern`, the API server's message would be only the pattern.
fn pattern_rule(pattern: &str, message: &str) -> Value {
    json!([{"rule": format!("self.matches(r'{pattern}')"), "message": message}])
}

/// Pattern of a queue URL.
const QUEUE_URL: &str = r"^https?://[^/\s]+/[0-9]+/[A-Za-z0-9_-]{1,80}(\.fifo)?$";
/// Pattern of a base URL.
const BASE_URL: &str = r"^https?://[^/\s]+/?$";
/// Pattern of the name of a Secret, ConfigMap, ServiceAccount, or PriorityClass.
const OBJECT_NAME: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// Pattern of a key of a Secret or ConfigMap.
const DATA_KEY: &str = r"^[-._a-zA-Z0-9]+$";

const QUEUE_URL_MESSAGE: &str = "must be an SQS queue URL, as shown in the SQS console, for example https://sqs.us-east-1.amazonaws.com/123456789012/mparticle-events";
const BASE_URL_MESSAGE: &str = "must be a base URL: scheme and host, optionally a port, and no path, for example https://proxy.example.com:8443";
const OBJECT_NAME_MESSAGE: &str = "must be a valid object name: lowercase letters, digits, dashes, and dots, beginning and ending with a letter or digit, for example iterable-key";
const DATA_KEY_MESSAGE: &str =
    "must be a valid key: letters, digits, dots, dashes, and underscores, for example api-key";

/// Adapts a schema to the API server and `kubectl explain`.
///
/// The API server does not support unsigned formats and warns about them at each installation. Such
/// fields also have a minimum of 0. `kubectl explain` wraps descriptions, so the line breaks of the
/// source are removed.
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
