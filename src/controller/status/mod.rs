//! What was seen and done, as the resource's status. Pure: the clock is an argument.

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

/// All that one reconciliation learned.
pub struct Observation<'a> {
    /// The spec, parsed.
    pub spec: Result<&'a ValidatedSpec, &'a SpecError>,
    /// The Secrets.
    pub secrets: Result<(), &'a SecretError>,
    /// The mapping, tried.
    pub mapping: Result<(), &'a MapperError>,
    /// What became of the CronJob; none if the plan did not allow one.
    pub cronjob_result: Option<&'a CronJobResult>,
    /// Whether the CronJob was there before.
    pub cronjob_exists: bool,
    /// What became of a request for a run now, if there was one to be met.
    pub run_start: Option<&'a RunStart>,
    /// The request for a run now that was met just now.
    pub run_request: Option<&'a str>,
    /// When the CronJob last started a run by its schedule, or else was made.
    pub last_scheduled: Option<Timestamp>,
    /// The forwarder's runs, the newest first.
    pub runs: &'a [Run],
    /// The reports of the runs that are [`unrecorded`] or have [`run_without_job`], the oldest first.
    pub reports: &'a [(Run, Report)],
    /// What the newest run waits for, if it waits.
    pub run_wait: Option<&'a RunWait>,
    /// The queue's depth; none before the first poll.
    pub depth: Option<&'a DepthResult>,
}

impl Observation<'_> {
    /// Whether runs are held back since they could not do their work.
    pub const fn is_paused(&self) -> bool {
        self.secrets.is_err() || self.mapping.is_err()
    }

    /// Whether the API server forbids what others may come to allow.
    pub const fn is_denied(&self) -> bool {
        matches!(self.cronjob_result, Some(CronJobResult::Forbidden { .. }))
            || matches!(self.run_start, Some(RunStart::Rejected { .. }))
    }
}

/// The status that `forwarder` should have.
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

/// When the next run is due: the time announced before, until it is kept or given up.
fn next_run_time(
    forwarder: &EventForwarder,
    observation: &Observation<'_>,
    now: Timestamp,
) -> Option<Time> {
    let in_place = matches!(observation.cronjob_result, Some(CronJobResult::UpToDate));
    if forwarder.spec.suspend || observation.is_paused() || !in_place {
        return None;
    }
    let announced = overdue::missed_start(forwarder, observation).filter(|due| {
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

/// The conditions that are worth an event: those whose verdict or reason is not what it was, and
/// of what was not known before those that are not good.
pub fn changed_conditions<'a>(
    before: &'a [Condition],
    after: &'a [Condition],
) -> impl Iterator<Item = &'a Condition> {
    after.iter().filter(move |condition| {
        match before.iter().find(|known| known.type_ == condition.type_) {
            Some(known) if known.status != "Unknown" => {
                (&known.status, &known.reason) != (&condition.status, &condition.reason)
            }
            _ => condition.status == "False",
        }
    })
}

#[cfg(test)]
mod tests;
