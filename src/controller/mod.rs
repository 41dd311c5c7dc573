//! Turns each EventForwarder into a CronJob and keeps its status.
//!
//! [`reconcile`] tells the story in five steps: [`observe`] (what the cluster holds),
//! [`validate`] (pure: what was declared, parsed), [`cronjob`] (pure: the CronJob that should be),
//! [`apply`] (makes it so), [`status`] (pure: what was seen and done, as status, which
//! [`publish`] writes).
//! [`depth`] reads the queues beside it; [`manager`] wires all of it to the API server.

mod ambient_credentials;
mod apply;
mod client;
mod compressed;
mod crd;
mod cronjob;
mod depth;
mod error;
mod health;
mod http;
mod installation;
mod lease;
mod manager;
mod metrics;
mod observe;
mod prerequisites;
mod publish;
mod reconcile;
mod requeue;
mod run_index;
mod schedule;
mod stale_reads;
mod status;
mod terminated_pods;
mod validate;

pub use ambient_credentials::{AllowedHosts, AllowedRoles};
pub use cronjob::{RUN_NOW_ANNOTATION, run_now_name};
pub use error::Error;
pub use manager::run;
pub use status::{PENDING, RUNNING, succeeded};
pub use validate::cronjob_name;
