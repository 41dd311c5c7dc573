//! Turns each EventForwarder into a CronJob and keeps its status.
//!
//! [`reconcile`] has five steps: [`observe`] (reads the cluster), [`validate`] (pure: parses the
//! spec), [`cronjob`] (pure: builds the CronJob), [`apply`] (writes it) and [`status`] (pure:
//! builds the status, which [`publish`] writes).
//! [`depth`] polls the queues concurrently; [`manager`] connects all of it to the API server.

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
