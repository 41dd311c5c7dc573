//! The runs in the status, from their start to their report.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Observation;
use crate::{
    api::{EventForwarderStatus, RecentRun, RunStatus, RunTotals},
    controller::observe::{AwaitedStep, JobEnd, Report, Run},
    drain::report::{Outcome, RunReport},
};

/// The outcome before a run's container starts.
pub const PENDING: &str = "Pending";
/// The outcome of a run in progress.
pub const RUNNING: &str = "Running";
/// The outcome of a run that ended without a report.
pub const LOST: &str = "Lost";
/// How many finished runs the status keeps.
const MAX_RECENT: usize = 10;

/// Returns whether a run succeeded. After a limit is reached, the next run continues.
pub fn succeeded(outcome: &str) -> bool {
    [Outcome::Drained, Outcome::LimitReached]
        .iter()
        .any(|good| good.to_string() == outcome)
}

/// Returns the finished runs that the status lacks, oldest first. There can be several after
/// controller downtime.
pub fn unrecorded(status: Option<&EventForwarderStatus>, runs: &[Run]) -> Vec<Run> {
    let recent = status.map_or(&[][..], |status| &status.recent_runs);
    // A full list no longer contains runs that ended before its oldest entry.
    let oldest_kept = (recent.len() >= MAX_RECENT)
        .then(|| recent.iter().map(|run| run.finished_at.0).min())
        .flatten();
    let mut new: Vec<_> = runs
        .iter()
        .filter(|run| {
            let Some(end) = &run.end else { return false };
            recent.iter().all(|recorded| {
                recorded.job_name != run.job_name || recorded.started_at.0 != started(run)
            }) && oldest_kept.is_none_or(|oldest| end.at > oldest)
        })
        .cloned()
        .collect();
    new.sort_by_key(|run| run.end.as_ref().map(|end| end.at));
    new
}

/// Returns when a run started, in whole seconds as in the status.
fn started(run: &Run) -> Timestamp {
    let exact = run.started_at.unwrap_or(run.created_at);
    Timestamp::from_second(exact.as_second()).unwrap_or(exact)
}

/// Returns the unfinished run in the status if its Job no longer exists, with `now` as its end.
pub fn run_without_job(
    status: Option<&EventForwarderStatus>,
    runs: &[Run],
    now: Timestamp,
) -> Option<Run> {
    let last = status?.last_run.as_ref()?;
    let job_deleted = runs.iter().all(|run| run.job_name != last.job_name);
    (last.finished_at.is_none() && job_deleted).then(|| {
        let started_at = last.started_at.as_ref().map(|time| time.0);
        Run {
            job_name: last.job_name.clone(),
            created_at: started_at.unwrap_or(now),
            started_at,
            container_started: true,
            failing_since: None,
            pods: 1,
            end: Some(JobEnd {
                at: now,
                failure: None,
            }),
        }
    })
}

/// Returns how many runs are in progress. Includes a run whose Job is deleted until its pod ends.
pub fn active(previous: &EventForwarderStatus, observation: &Observation<'_>) -> i32 {
    let with_job = observation
        .runs
        .iter()
        .filter(|run| run.end.is_none())
        .count();
    let without_job = terminating_run(previous, observation).is_some();
    i32::try_from(with_job + usize::from(without_job)).unwrap_or(i32::MAX)
}

/// Returns the run in progress, or else the last finished run.
pub fn last_run(
    previous: &EventForwarderStatus,
    observation: &Observation<'_>,
) -> Option<RunStatus> {
    let newest = observation.runs.first();
    if let Some(current) = newest.filter(|run| run.end.is_none()) {
        let mut run = from_job(current);
        if let Some(pending) = observation.run_wait {
            let is_pending = pending.until == AwaitedStep::ContainerStart;
            if is_pending {
                run.outcome = PENDING.to_owned();
            }
            run.message = (is_pending || pending.too_long).then(|| pending.why.clone());
        }
        return Some(run);
    }
    if let Some(last) = terminating_run(previous, observation) {
        return Some(last.clone());
    }
    match observation.reports.last() {
        Some((run, report)) => Some(finished(run, report)),
        None => previous.last_run.clone(),
    }
}

/// Returns the unfinished run in the status if its Job is deleted and its pod has not ended.
fn terminating_run<'a>(
    previous: &'a EventForwarderStatus,
    observation: &Observation<'_>,
) -> Option<&'a RunStatus> {
    let is_last = |name: &str, last: &RunStatus| name == last.job_name;
    previous.last_run.as_ref().filter(|last| {
        last.finished_at.is_none()
            && observation
                .runs
                .iter()
                .all(|run| !is_last(&run.job_name, last))
            && observation
                .reports
                .iter()
                .all(|(run, _)| !is_last(&run.job_name, last))
    })
}

fn from_job(run: &Run) -> RunStatus {
    RunStatus {
        job_name: run.job_name.clone(),
        started_at: Some(Time(started(run))),
        finished_at: run.end.as_ref().map(|end| Time(end.at)),
        outcome: RUNNING.to_owned(),
        messages: Default::default(),
        events: Default::default(),
        requests: Default::default(),
        reasons: Vec::new(),
        message: None,
    }
}

fn finished(run: &Run, report: &Report) -> RunStatus {
    let mut status = from_job(run);
    match report {
        Report::Read(report) => copy_report(&mut status, report),
        Report::Partial { report, why } => {
            copy_report(&mut status, report);
            mark_lost(&mut status, run, "a pod of the run", why);
        }
        Report::Missing { why } => mark_lost(&mut status, run, "the run", why),
    }
    status
}

fn copy_report(status: &mut RunStatus, report: &RunReport) {
    status.outcome = report.outcome.to_string();
    status.messages = report.messages;
    status.events = report.events;
    status.requests = report.requests;
    status.reasons = report.reasons.clone();
    status.message = report.message.clone();
}

fn mark_lost(status: &mut RunStatus, run: &Run, who: &str, why: &str) {
    status.outcome = LOST.to_owned();
    let failure = run.end.as_ref().and_then(|end| end.failure.as_deref());
    let failure = failure.map(|failure| format!("; the Job failed with {failure}"));
    status.message = Some(format!(
        "{who} ended without a report: {why}{}. Messages that it did not delete become visible again",
        failure.unwrap_or_default()
    ));
}

/// Returns the latest finished runs, newest first.
pub fn recent_runs(
    previous: &EventForwarderStatus,
    observation: &Observation<'_>,
) -> Vec<RecentRun> {
    let new = observation.reports.iter().rev().map(|(run, report)| {
        let ended = finished(run, report);
        RecentRun {
            job_name: ended.job_name,
            started_at: Time(started(run)),
            finished_at: ended.finished_at.unwrap_or(Time(started(run))),
            outcome: ended.outcome,
            forwarded: ended.events.forwarded,
            rejected: ended.events.rejected,
        }
    });
    new.chain(previous.recent_runs.iter().cloned())
        .take(MAX_RECENT)
        .collect()
}

/// Returns the sums over all runs since the forwarder was created.
pub fn totals(previous: &EventForwarderStatus, observation: &Observation<'_>) -> RunTotals {
    observation
        .reports
        .iter()
        .fold(previous.totals, |mut totals, (run, report)| {
            let run = finished(run, report);
            totals.runs += 1;
            totals.failed_runs += u64::from(!succeeded(&run.outcome));
            totals.messages_deleted += run.messages.deleted;
            totals.forwarded += run.events.forwarded;
            totals.skipped += run.events.skipped;
            totals.rejected += run.events.rejected;
            totals
        })
}

/// Returns when the last successful run ended.
pub fn last_success_time(
    previous: &EventForwarderStatus,
    observation: &Observation<'_>,
) -> Option<Time> {
    observation
        .reports
        .iter()
        .rev()
        .find(|(run, report)| succeeded(&finished(run, report).outcome))
        .and_then(|(run, _)| run.end.as_ref().map(|end| Time(end.at)))
        .or_else(|| previous.last_success_time.clone())
}
