//! Turns each EventForwarder into a CronJob and keeps its status.
//!
//! [`reconcile`] tells the story in five steps: [`observe`] (what the cluster holds),
//! [`plan`] (pure: what was declared, parsed), [`cronjob`] (pure: the CronJob that should be),
//! [`apply`] (makes it so), [`status`] (pure: what was seen and done, as status).
//! [`depth`] reads the queues beside it; [`run`] wires all of it to the API server.

mod ambient;
mod apply;
mod cronjob;
mod depth;
mod error;
mod http;
mod metrics;
mod observe;
mod packed;
mod plan;
mod reconcile;
mod run;
mod run_index;
mod status;

pub use ambient::{AllowedHosts, AllowedRoles};
pub use error::Error;
pub use run::run;
