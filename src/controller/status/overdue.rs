//! Whether the schedule keeps what status announced.

use jiff::{SignedDuration, Timestamp};

use super::{
    Observation,
    conditions::{RUN_OVERDUE, SCHEDULED},
};
use crate::api::EventForwarder;

/// How late a run may be before someone is told, beyond its own starting deadline.
const OVERDUE_DELAY: SignedDuration = SignedDuration::from_secs(60);

/// What to say of an announced start that was not kept in time, as long as no later one is.
pub fn overdue(
    forwarder: &EventForwarder,
    cronjob: &str,
    observation: &Observation<'_>,
    now: Timestamp,
) -> Option<String> {
    let given_up = |due: &Timestamp| {
        due.checked_add(start_deadline(forwarder))
            .is_ok_and(|end| now > end)
    };
    if let Some(due) = missed_start(forwarder, observation).filter(given_up) {
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
    let stands = status.observed_generation == forwarder.metadata.generation
        && observation.last_scheduled.is_none_or(|last| last < since);
    stands.then(|| before.message.clone())
}

/// The next run that status announced for this very spec and that has not started. While another
/// run is under way none is to start, and what was due then may be left out.
pub fn missed_start(
    forwarder: &EventForwarder,
    observation: &Observation<'_>,
) -> Option<Timestamp> {
    let status = forwarder.status.as_ref()?;
    let due = status.next_run_time.as_ref()?.0;
    let same_spec = status.observed_generation == forwarder.metadata.generation;
    let kept = observation.last_scheduled.is_some_and(|last| last >= due);
    let was_busy = observation
        .runs
        .iter()
        .any(|run| run.created_at <= due && run.end.as_ref().is_none_or(|end| end.at >= due));
    (same_spec && !kept && !was_busy).then_some(due)
}

/// How late a run may start before it counts as overdue.
pub fn start_deadline(forwarder: &EventForwarder) -> SignedDuration {
    SignedDuration::from_secs(forwarder.spec.starting_deadline_seconds)
        .saturating_add(OVERDUE_DELAY)
}
