//! The `EventForwarder` custom resource, `eventforwarder.io/v1alpha1`: what users declare
//! (`spec`) and what the controller saw (`status`). Depends on nothing else in this crate.

use schemars::{Schema, transform::transform_subschemas};
use serde_json::Value;

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
