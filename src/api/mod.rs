//! The `EventForwarder` custom resource, `eventforwarder.io/v1alpha1`: what users declare
//! (`spec`) and what the controller saw (`status`). Depends on nothing else in this crate.

mod drain;
mod duration;
mod iterable;
mod job;
mod mapping;
mod queue;
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
