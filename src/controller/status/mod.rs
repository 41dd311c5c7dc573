//! What was seen and done, as the resource's status. Pure: the clock is an argument.

mod conditions;
mod dead_letters;
mod overdue;
mod runs;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

pub use conditions::{failing, unreadable};
pub use runs::{PENDING, RUNNING, succeeded, unrecorded, vanished};

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
pub struct Learned<'a> {
    /// The spec, parsed.
    pub plan: Result<&'a ValidatedSpec, &'a SpecError>,
    /// The Secrets.
    pub secrets: Result<(), &'a SecretError>,
    /// The mapping, tried.
    pub mapping: Result<(), &'a MapperError>,
    /// What became of the CronJob; none if the plan did not allow one.
    pub applied: Option<&'a CronJobResult>,
    /// Whether the CronJob was there before.
    pub cronjob_stands: bool,
    /// What became of a request for a run now, if there was one to be met.
    pub started: Option<&'a RunStart>,
    /// The request for a run now that was met just now.
    pub run_request: Option<&'a str>,
    /// When the CronJob last started a run by its schedule, or else was made.
    pub last_scheduled: Option<Timestamp>,
    /// The forwarder's runs, the newest first.
    pub runs: &'a [Run],
    /// The reports of the runs that are [`unrecorded`] or have [`vanished`], the oldest first.
    pub reports: &'a [(Run, Report)],
    /// What the newest run waits for, if it waits.
    pub pending: Option<&'a RunWait>,
    /// The queue's depth; none before the first poll.
    pub depth: Option<&'a DepthResult>,
}

impl Learned<'_> {
    /// Whether runs are held back since they could not do their work.
    pub const fn held_back(&self) -> bool {
        self.secrets.is_err() || self.mapping.is_err()
    }

    /// Whether the API server forbids what others may come to allow.
    pub const fn forbidden(&self) -> bool {
        matches!(self.applied, Some(CronJobResult::Forbidden { .. }))
            || matches!(self.started, Some(RunStart::Rejected { .. }))
    }
}

/// The status that `forwarder` should have.
pub fn next(
    forwarder: &EventForwarder,
    learned: &Learned<'_>,
    now: Timestamp,
) -> EventForwarderStatus {
    let previous = forwarder.status.clone().unwrap_or_default();
    let mut status = EventForwarderStatus {
        observed_generation: forwarder.metadata.generation,
        conditions: Vec::new(),
        queue: queue(previous.queue.clone(), learned.depth, now),
        last_run: runs::last_run(&previous, learned),
        recent_runs: runs::recent_runs(&previous, learned),
        totals: runs::totals(&previous, learned),
        last_success_time: runs::last_success_time(&previous, learned),
        next_run_time: next_run_time(forwarder, learned, now),
        last_run_request: learned
            .run_request
            .map(str::to_owned)
            .or_else(|| previous.last_run_request.clone()),
        active: runs::active(&previous, learned),
    };
    status.conditions = conditions::all(forwarder, &previous, &status, learned, now);
    status
}

/// When the next run is due: the time announced before, until it is kept or given up.
fn next_run_time(
    forwarder: &EventForwarder,
    learned: &Learned<'_>,
    now: Timestamp,
) -> Option<Time> {
    let in_place = matches!(learned.applied, Some(CronJobResult::UpToDate));
    if forwarder.spec.suspend || learned.held_back() || !in_place {
        return None;
    }
    let announced = overdue::broken_promise(forwarder, learned).filter(|due| {
        due.checked_add(overdue::patience(forwarder))
            .is_ok_and(|end| now <= end)
    });
    announced
        .or_else(|| learned.plan.ok()?.schedule.next_after(now))
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
