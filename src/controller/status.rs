//! What was seen and done, as the resource's status. Pure: the clock is an argument.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::{
    apply::Applied,
    depth::{DepthProblem, Reading},
    observe::{Report, Run, SecretProblem},
    plan::{Plan, PlanError},
};
use crate::{
    api::{EventForwarder, EventForwarderStatus, QueueDepth, RunStatus},
    drain::report::Outcome,
};

/// The outcome shown while a run is under way.
const RUNNING: &str = "Running";
/// The outcome of a run that ended and left no report.
const LOST: &str = "Lost";
/// A message longer than this is cut: conditions are read in terminals.
const MAX_MESSAGE_CHARS: usize = 1024;

/// All that one reconciliation learned.
pub struct Learned<'a> {
    /// The spec, parsed.
    pub plan: Result<&'a Plan, &'a PlanError>,
    /// The Secrets.
    pub secrets: Result<(), &'a SecretProblem>,
    /// What became of the CronJob; none if the plan did not allow one.
    pub applied: Option<&'a Applied>,
    /// The forwarder's runs, the newest first.
    pub runs: &'a [Run],
    /// The report of the newest run, if it has ended and status does not hold it yet.
    pub report: Option<&'a Report>,
    /// The queue's depth; none before the first poll.
    pub depth: Option<&'a Reading>,
}

/// The types of condition, in the order that they are shown in.
mod condition {
    pub const READY: &str = "Ready";
    pub const SECRETS_AVAILABLE: &str = "SecretsAvailable";
    pub const QUEUE_REACHABLE: &str = "QueueReachable";
    pub const SCHEDULED: &str = "Scheduled";
    pub const LAST_RUN_SUCCEEDED: &str = "LastRunSucceeded";
}

/// One condition before it has its times.
struct Finding {
    type_: &'static str,
    status: &'static str,
    reason: String,
    message: String,
}

impl Finding {
    fn new(
        type_: &'static str,
        status: &'static str,
        reason: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            type_,
            status,
            reason: reason.into(),
            message: message.into(),
        }
    }
}

/// The status that `forwarder` should have.
pub fn next(
    forwarder: &EventForwarder,
    learned: &Learned<'_>,
    now: Timestamp,
) -> EventForwarderStatus {
    let previous = forwarder.status.clone().unwrap_or_default();
    let last_run = last_run(previous.last_run.clone(), learned, now);
    let findings = vec![
        secrets_available(learned.secrets),
        queue_reachable(learned.depth),
        scheduled(forwarder, learned),
        last_run_succeeded(&previous, last_run.as_ref()),
    ];
    let generation = forwarder.metadata.generation;
    let conditions = std::iter::once(ready(forwarder, &findings))
        .chain(findings)
        .map(|finding| dated(finding, &previous.conditions, generation, now))
        .collect();
    let last_success_time = last_run
        .as_ref()
        .filter(|run| succeeded(&run.outcome))
        .and_then(|run| run.finished_at.clone())
        .or(previous.last_success_time);
    let next_run_time = match (learned.plan, forwarder.spec.suspend) {
        (Ok(plan), false) => plan.schedule.next_after(now).map(Time),
        _ => None,
    };
    EventForwarderStatus {
        observed_generation: generation,
        conditions,
        queue: queue(previous.queue, learned.depth, now),
        last_run,
        last_success_time,
        next_run_time,
        active: i32::try_from(learned.runs.iter().filter(|run| run.end.is_none()).count())
            .unwrap_or(i32::MAX),
    }
}

/// The status of a forwarder that this version of the controller can't read.
pub fn unreadable(
    error: &str,
    generation: Option<i64>,
    previous: &[Condition],
    now: Timestamp,
) -> Condition {
    let finding = Finding::new(
        condition::READY,
        "False",
        "Unreadable",
        format!(
            "this version of the controller can't read the object: {error}. Correct the field, or bring controller and definition to the same version"
        ),
    );
    dated(finding, previous, generation, now)
}

fn secrets_available(secrets: Result<(), &SecretProblem>) -> Finding {
    let finding = |status, reason, message: String| {
        Finding::new(condition::SECRETS_AVAILABLE, status, reason, message)
    };
    match secrets {
        Ok(()) => finding(
            "True",
            "Found",
            "every Secret and key that the spec names is there".to_owned(),
        ),
        Err(SecretProblem::Missing { name, mend }) => finding(
            "False",
            "SecretMissing",
            format!(
                "Secret {name} does not exist; runs are held back until it does. Make it with: {mend}"
            ),
        ),
        Err(SecretProblem::KeyMissing { name, key }) => finding(
            "False",
            "SecretKeyMissing",
            format!(
                "Secret {name} has no value under the key {key}; runs are held back until it has. Add the key, or name another one in the spec"
            ),
        ),
    }
}

fn queue_reachable(depth: Option<&Reading>) -> Finding {
    let finding = |status, reason: &str, message: String| {
        Finding::new(condition::QUEUE_REACHABLE, status, reason, message)
    };
    match depth {
        None => finding(
            "Unknown",
            "NotReadYet",
            "the queue's depth has not been read yet".to_owned(),
        ),
        Some(Ok(_)) => finding("True", "Reachable", "the queue answers".to_owned()),
        Some(Err(DepthProblem { reason, message })) => finding("False", reason, message.clone()),
    }
}

fn scheduled(forwarder: &EventForwarder, learned: &Learned<'_>) -> Finding {
    let finding = |status, reason, message: String| {
        Finding::new(condition::SCHEDULED, status, reason, message)
    };
    let plan = match learned.plan {
        Ok(plan) => plan,
        Err(error) => {
            let reason = match error {
                PlanError::Schedule { .. } => "InvalidSchedule",
                PlanError::TimeZone(_) => "InvalidTimeZone",
            };
            return finding("False", reason, error.to_string());
        }
    };
    let name = &plan.cronjob_name;
    match learned.applied {
        None | Some(Applied::InPlace) => {}
        Some(Applied::NameTaken { name }) => {
            return finding(
                "False",
                "NameTaken",
                format!(
                    "a CronJob {name} stands in this namespace that this forwarder does not own; it is left alone. Rename the forwarder, or delete that CronJob"
                ),
            );
        }
        Some(Applied::Refused { message }) => {
            return finding(
                "False",
                "CronJobRefused",
                format!(
                    "the API server refused CronJob {name}: {message}. Correct the field of the spec that it stems from"
                ),
            );
        }
    }
    if forwarder.spec.suspend {
        return finding("False", "Suspended", "no runs start while spec.suspend is true; messages wait in the queue, no longer than its retention time".to_owned());
    }
    if learned.secrets.is_err() {
        return finding(
            "False",
            "Paused",
            "runs are held back until the Secrets are there".to_owned(),
        );
    }
    if plan.schedule.next_after(Timestamp::UNIX_EPOCH).is_none() {
        return finding(
            "False",
            "NeverFires",
            format!(
                "no date ever matches spec.schedule \"{}\". Correct its day and month",
                forwarder.spec.schedule
            ),
        );
    }
    finding(
        "True",
        "CronJobInPlace",
        format!("CronJob {name} starts the runs"),
    )
}

fn last_run_succeeded(previous: &EventForwarderStatus, last_run: Option<&RunStatus>) -> Finding {
    let finding = |status, reason: &str, message: String| {
        Finding::new(condition::LAST_RUN_SUCCEEDED, status, reason, message)
    };
    match last_run {
        None => finding("Unknown", "NoRunYet", "no run has ended yet".to_owned()),
        // A run that is under way says nothing yet: the verdict on the one before it stays.
        Some(run) if run.outcome == RUNNING => previous
            .conditions
            .iter()
            .find(|condition| condition.type_ == condition::LAST_RUN_SUCCEEDED)
            .map_or_else(
                || {
                    finding(
                        "Unknown",
                        "NoRunYet",
                        "the first run is under way".to_owned(),
                    )
                },
                |before| {
                    let status = match before.status.as_str() {
                        "True" => "True",
                        "False" => "False",
                        _ => "Unknown",
                    };
                    finding(status, &before.reason, before.message.clone())
                },
            ),
        Some(run) if succeeded(&run.outcome) => finding(
            "True",
            &run.outcome,
            format!(
                "Job {}: {} events forwarded, {} skipped, {} rejected",
                run.job_name, run.events.forwarded, run.events.skipped, run.events.rejected
            ),
        ),
        Some(run) => finding(
            "False",
            &run.outcome,
            format!(
                "Job {}: {}",
                run.job_name,
                run.message
                    .as_deref()
                    .unwrap_or("the run gave no reason; see its pod's log")
            ),
        ),
    }
}

/// A run that met its time limit did its work; the next one goes on.
fn succeeded(outcome: &str) -> bool {
    [Outcome::Drained, Outcome::Deadline]
        .iter()
        .any(|good| good.to_string() == outcome)
}

/// Sums up: what is wrong first, then what is not known yet.
fn ready(forwarder: &EventForwarder, findings: &[Finding]) -> Finding {
    let says =
        |finding: &&Finding, status| finding.status == status && finding.reason != "Suspended";
    if let Some(bad) = findings.iter().find(|finding| says(finding, "False")) {
        return Finding::new(
            condition::READY,
            "False",
            bad.reason.clone(),
            bad.message.clone(),
        );
    }
    let unknown = |finding: &&Finding| finding.status == "Unknown" && finding.reason != "NoRunYet";
    if let Some(open) = findings.iter().find(unknown) {
        return Finding::new(
            condition::READY,
            "Unknown",
            open.reason.clone(),
            open.message.clone(),
        );
    }
    if forwarder.spec.suspend {
        return Finding::new(
            condition::READY,
            "True",
            "Suspended",
            "all is in place; no runs start while spec.suspend is true",
        );
    }
    Finding::new(condition::READY, "True", "Ready", "all is in place")
}

/// Gives a finding its times: `lastTransitionTime` moves only when the status does.
fn dated(
    finding: Finding,
    previous: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let since = previous
        .iter()
        .find(|before| before.type_ == finding.type_ && before.status == finding.status)
        .map_or(Time(now), |before| before.last_transition_time.clone());
    Condition {
        type_: finding.type_.to_owned(),
        status: finding.status.to_owned(),
        reason: finding.reason,
        message: finding.message.chars().take(MAX_MESSAGE_CHARS).collect(),
        observed_generation: generation,
        last_transition_time: since,
    }
}

fn queue(
    previous: Option<QueueDepth>,
    depth: Option<&Reading>,
    now: Timestamp,
) -> Option<QueueDepth> {
    let Some(Ok(depth)) = depth else {
        return previous;
    };
    let unchanged = previous.filter(|before| {
        (
            before.visible,
            before.in_flight,
            before.delayed,
            before.dead_letters,
        ) == (
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

fn last_run(
    previous: Option<RunStatus>,
    learned: &Learned<'_>,
    now: Timestamp,
) -> Option<RunStatus> {
    let Some(newest) = learned.runs.first() else {
        return previous.map(|run| without_job(run, now));
    };
    if let Some(previous) =
        previous.filter(|run| run.job_name == newest.job_name && run.finished_at.is_some())
    {
        return Some(previous);
    }
    let mut run = RunStatus {
        job_name: newest.job_name.clone(),
        started_at: Some(Time(newest.started_at.unwrap_or(newest.created_at))),
        finished_at: newest.end.as_ref().map(|end| Time(end.at)),
        outcome: RUNNING.to_owned(),
        messages: Default::default(),
        events: Default::default(),
        requests: Default::default(),
        reasons: Vec::new(),
        message: None,
    };
    match (&newest.end, learned.report) {
        (None, _) => {}
        (Some(_), Some(Report::Read(report))) => {
            run.outcome = report.outcome.to_string();
            run.messages = report.messages;
            run.events = report.events;
            run.requests = report.requests;
            run.reasons = report.reasons.clone();
            run.message = report.message.clone();
        }
        (Some(end), report) => {
            let why = match report {
                Some(Report::Missing { why }) => why.as_str(),
                _ => "its report was not read",
            };
            run.outcome = LOST.to_owned();
            run.message = Some(match &end.failure {
                Some(failure) => format!(
                    "the run left no report: {why}; the Job failed with {failure}. What it had not deleted comes back to the queue"
                ),
                None => format!(
                    "the run left no report: {why}. What it had not deleted comes back to the queue"
                ),
            });
        }
    }
    Some(run)
}

/// The last run, now that its Job is gone: kept, or lost if it had not ended.
fn without_job(mut run: RunStatus, now: Timestamp) -> RunStatus {
    if run.finished_at.is_none() {
        run.outcome = LOST.to_owned();
        run.finished_at = Some(Time(now));
        run.message = Some("its Job was deleted before the run ended. What it had not deleted comes back to the queue".to_owned());
    }
    run
}

#[cfg(test)]
mod tests;
