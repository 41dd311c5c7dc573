//! Detection of scheduled runs that did not start.

use jiff::{SignedDuration, Timestamp};

use super::{
    Observation,
    conditions::{RUN_OVERDUE, SCHEDULED},
};
use crate::api::EventForwarder;

/// How long after `startingDeadlineSeconds` a late run is reported.
const OVERDUE_DELAY: SignedDuration = SignedDuration::from_secs(60);

/// Returns the message for a run that did not start in time, until a later one starts.
pub fn overdue(
    forwarder: &EventForwarder,
    cronjob: &str,
    observation: &Observation<'_>,
    now: Timestamp,
) -> Option<String> {
    let is_late = |due: &Timestamp| {
        due.checked_add(start_deadline(forwarder))
            .is_ok_and(|end| now > end)
    };
    if let Some(due) = announced_start(forwarder, observation).filter(is_late) {
        return Some(format!(
            "The run scheduled for {due} has not started. Check the events of CronJob {cronjob} and kube-controller-manager"
        ));
    }
    let status = forwarder.status.as_ref()?;
    let before = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == SCHEDULED && condition.reason == RUN_OVERDUE)?;
    let since = before.last_transition_time.0;
    let still_applies = status.observed_generation == forwarder.metadata.generation
        && observation.last_scheduled.is_none_or(|last| last < since);
    still_applies.then(|| before.message.clone())
}

/// Returns the next start in the status, if the spec is unchanged and no run started at that time
/// or later. It can be in the future. Ignores starts during another run, because the CronJob can
/// skip them.
pub fn announced_start(
    forwarder: &EventForwarder,
    observation: &Observation<'_>,
) -> Option<Timestamp> {
    let status = forwarder.status.as_ref()?;
    let due = status.next_run_time.as_ref()?.0;
    let same_spec = status.observed_generation == forwarder.metadata.generation;
    let started = observation.last_scheduled.is_some_and(|last| last >= due);
    let was_busy = observation
        .runs
        .iter()
        .any(|run| run.created_at <= due && run.end.as_ref().is_none_or(|end| end.at >= due));
    (same_spec && !started && !was_busy).then_some(due)
}

/// Returns how late a run can start before it is overdue.
pub fn start_deadline(forwarder: &EventForwarder) -> SignedDuration {
    SignedDuration::from_secs(forwarder.spec.starting_deadline_seconds)
        .saturating_add(OVERDUE_DELAY)
}
