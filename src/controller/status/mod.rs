//! The status of a forwarder, computed from one observation. Pure: the time is an argument.

mod conditions;
mod dead_letters;
mod overdue;
mod runs;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

pub use conditions::{failing, unreadable};
pub use runs::{PENDING, RUNNING, run_without_job, succeeded, unrecorded};

use super::{
    apply::{CronJobResult, RunStart},
    depth::DepthResult,
    observe::{Report, Run, RunWait, SecretError},
    validate::{SpecError, ValidatedSpec},
};
use crate::{
    api::{EventForwarder, EventForwarderStatus, QueueDepth},
    mapping::MapperError,
};

/// The input of the status: everything that one reconciliation observed.
pub struct Observation<'a> {
    /// The parsed spec.
    pub spec: Result<&'a ValidatedSpec, &'a SpecError>,
    /// Whether the referenced Secrets and keys exist.
    pub secrets: Result<(), &'a SecretError>,
    /// Whether the mapping can be used.
    pub mapping: Result<(), &'a MapperError>,
    /// The result of applying the CronJob. `None` if the spec is invalid.
    pub cronjob_result: Option<&'a CronJobResult>,
    /// Whether the CronJob existed before.
    pub cronjob_exists: bool,
    /// The result of starting a requested run. `None` if there was none to start.
    pub run_start: Option<&'a RunStart>,
    /// The request whose run was just started.
    pub run_request: Option<&'a str>,
    /// When the CronJob last started a scheduled run.
    pub last_scheduled: Option<Timestamp>,
    /// The forwarder's runs, newest first.
    pub runs: &'a [Run],
    /// The reports of the [`unrecorded`] runs and of a [`run_without_job`], oldest first.
    pub reports: &'a [(Run, Report)],
    /// Why the newest run waits, if it waits.
    pub run_wait: Option<&'a RunWait>,
    /// The queue depth. `None` before the first poll.
    pub depth: Option<&'a DepthResult>,
}

impl Observation<'_> {
    /// Returns whether runs are paused because they would fail.
    pub const fn is_paused(&self) -> bool {
        self.secrets.is_err() || self.mapping.is_err()
    }

    /// Returns whether the API server denied an object that it can accept later without a change of
    /// the spec.
    pub const fn is_denied(&self) -> bool {
        matches!(self.cronjob_result, Some(CronJobResult::Forbidden { .. }))
            || matches!(self.run_start, Some(RunStart::Rejected { .. }))
    }
}

/// Returns the status to write to `forwarder`.
pub fn build_status(
    forwarder: &EventForwarder,
    observation: &Observation<'_>,
    now: Timestamp,
) -> EventForwarderStatus {
    let previous = forwarder.status.clone().unwrap_or_default();
    let mut status = EventForwarderStatus {
        observed_generation: forwarder.metadata.generation,
        conditions: Vec::new(),
        queue: queue(previous.queue.clone(), observation.depth, now),
        last_run: runs::last_run(&previous, observation),
        recent_runs: runs::recent_runs(&previous, observation),
        totals: runs::totals(&previous, observation),
        last_success_time: runs::last_success_time(&previous, observation),
        next_run_time: next_run_time(forwarder, observation, now),
        last_run_request: observation
            .run_request
            .map(str::to_owned)
            .or_else(|| previous.last_run_request.clone()),
        active: runs::active(&previous, observation),
    };
    status.conditions =
        conditions::build_conditions(forwarder, &previous, &status, observation, now);
    status
}

/// Returns the next scheduled start. Keeps the previous value until a run starts or is overdue.
fn next_run_time(
    forwarder: &EventForwarder,
    observation: &Observation<'_>,
    now: Timestamp,
) -> Option<Time> {
    let up_to_date = matches!(observation.cronjob_result, Some(CronJobResult::UpToDate));
    if forwarder.spec.suspend || observation.is_paused() || !up_to_date {
        return None;
    }
    let announced = overdue::announced_start(forwarder, observation).filter(|due| {
        due.checked_add(overdue::start_deadline(forwarder))
            .is_ok_and(|end| now <= end)
    });
    announced
        .or_else(|| observation.spec.ok()?.schedule.next_after(now))
        .map(Time)
}

fn queue(
    previous: Option<QueueDepth>,
    depth: Option<&DepthResult>,
    now: Timestamp,
) -> Option<QueueDepth> {
    let Some(Ok(depth)) = depth else {
        return previous;
    };
    let unchanged = previous.filter(|before| {
        let numbers = (
            before.visible,
            before.in_flight,
            before.delayed,
            before.dead_letters,
        );
        numbers
            == (
                depth.visible,
                depth.in_flight,
                depth.delayed,
                depth.dead_letters,
            )
    });
    unchanged.or(Some(QueueDepth {
        visible: depth.visible,
        in_flight: depth.in_flight,
        delayed: depth.delayed,
        dead_letters: depth.dead_letters,
        observed_at: Time(now),
    }))
}

/// Returns the conditions to emit events for: those whose status or reason changed. A condition
/// that was Unknown or absent counts only if it is now False.
pub fn changed_conditions<'a>(
    before: &'a [Condition],
    after: &'a [Condition],
) -> impl Iterator<Item = &'a Condition> {
    after.iter().filter(move |condition| {
        match before.iter().find(|old| old.type_ == condition.type_) {
            Some(old) if old.status != "Unknown" => {
                (&old.status, &old.reason) != (&condition.status, &condition.reason)
            }
            _ => condition.status == "False",
        }
    })
}

#[cfg(test)]
mod tests;
