//! The command `run`: requests a run with an annotation and follows it.

use std::{
    io::IsTerminal,
    process::ExitCode,
    time::{Duration, Instant},
};

use indicatif::ProgressBar;
use jiff::Timestamp;
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{
    cli::RunArgs,
    cluster::Cluster,
    error::{PluginError, RUN_LOST_EXIT_CODE},
    health::{condition, is_current},
    print,
    runs::{self, RequestedRun, requested_run},
    suspend::FIELD_MANAGER,
    time::span,
};
use crate::{
    api::{EventForwarder, RunStatus},
    controller::{RUN_NOW_ANNOTATION, cronjob_name, run_now_name, succeeded},
    drain::report::Outcome,
};

/// Maximum time for the controller to start a run.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Interval between reads of the status. The command polls because it needs the permission to get
/// anyway; watching needs another permission.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Starts a run. With `--follow`, waits until it finishes.
///
/// # Errors
/// If the run can't start, does not finish within `--timeout`, or a call fails.
pub async fn run(cluster: &Cluster, args: &RunArgs) -> Result<ExitCode, PluginError> {
    let started = Instant::now();
    let forwarder = cluster.forwarder(&args.name).await?;
    if let Some(reason) = blocked_reason(&forwarder, Timestamp::now()) {
        return Err(PluginError::RunBlocked(reason));
    }
    let request = format!("{} by kubectl forwarder", Timestamp::now());
    request_run(cluster, &args.name, &request).await?;
    let job = run_now_name(&cronjob_name(&args.name), &request);

    let mut output = ProgressOutput::new();
    let mut is_started = false;
    loop {
        let forwarder = cluster.forwarder(&args.name).await?;
        let rejection = rejection(&forwarder);
        let status = forwarder.status.unwrap_or_default();
        match requested_run(&status, &request, &job) {
            RequestedRun::Requested => match rejection {
                Some(reason) => return Err(PluginError::RunBlocked(reason)),
                None => output.update("waiting for the controller"),
            },
            RequestedRun::Running(text) => {
                if !is_started {
                    is_started = true;
                    output.print_line(&format!("Job {job} was started"))?;
                    if forwarder.spec.suspend {
                        output.print_line(&suspended_note(&args.name, &cluster.namespace))?;
                    }
                }
                if !args.follow {
                    return Ok(ExitCode::SUCCESS);
                }
                output.update(&text);
            }
            RequestedRun::Finished(run) => {
                output.print_line(&runs::report(&run, Timestamp::now()).join("\n"))?;
                return Ok(match args.follow {
                    true => exit_code(&run),
                    false => ExitCode::SUCCESS,
                });
            }
        }
        let waited = started.elapsed();
        if !is_started && waited > START_TIMEOUT.min(args.timeout.get()) {
            return Err(PluginError::RunNotStarted {
                name: args.name.clone(),
                namespace: cluster.namespace.clone(),
                annotation: RUN_NOW_ANNOTATION,
                seconds: waited.as_secs(),
            });
        }
        if waited > args.timeout.get() {
            return Err(PluginError::StillRunning {
                job,
                timeout: args.timeout.to_string(),
                name: args.name.clone(),
                namespace: cluster.namespace.clone(),
            });
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

async fn request_run(cluster: &Cluster, name: &str, request: &str) -> Result<(), PluginError> {
    let call = format!("annotate EventForwarder {}/{name}", cluster.namespace);
    let annotation = json!({"metadata": {"annotations": {RUN_NOW_ANNOTATION: request}}});
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let api = cluster.forwarders();
    cluster
        .call_api(
            call,
            api.patch_metadata(name, &params, &Patch::Merge(&annotation)),
        )
        .await?;
    Ok(())
}

fn suspended_note(name: &str, namespace: &str) -> String {
    format!(
        "{name} is suspended: this run continues, but no scheduled runs start until `kubectl forwarder resume {name} --namespace {namespace}`"
    )
}

/// Returns why no run can start now, and what to do. Returns `None` if the status has no such
/// reason.
fn blocked_reason(forwarder: &EventForwarder, now: Timestamp) -> Option<String> {
    let name = forwarder.name_any();
    let namespace = forwarder.namespace().unwrap_or_default();
    let status = forwarder.status.as_ref()?;
    if let Some(run) = status.last_run.as_ref().filter(|_| status.active > 0) {
        let job = &run.job_name;
        let started = run.started_at.as_ref();
        let duration = started.map_or(String::new(), |at| span(now.duration_since(at.0)));
        return Some(match &run.message {
            Some(reason) => format!(
                "Job {job} has been waiting for {duration}: {reason}. Fix the cause, or delete the Job with `kubectl delete job {job} --namespace {namespace}`"
            ),
            None => format!(
                "Job {job} has been running for {duration} on the same queue. Wait for it to finish: see `kubectl forwarder status {name} --namespace {namespace}`"
            ),
        });
    }
    if !is_current(forwarder) {
        return None;
    }
    let types = ["SecretsAvailable", "Scheduled"].into_iter();
    types
        .filter_map(|type_| condition(forwarder, type_))
        .find(|condition| {
            // These reasons do not block a requested run.
            condition.status == "False"
                && !matches!(
                    condition.reason.as_str(),
                    "Suspended" | "RunOverdue" | "NeverFires"
                )
        })
        .map(|condition| format!("{}: {}", condition.reason, condition.message))
}

/// Returns the condition's message if the API server rejected the requested run.
fn rejection(forwarder: &EventForwarder) -> Option<String> {
    condition(forwarder, "Scheduled")
        .filter(|scheduled| scheduled.reason == "RunRejected")
        .map(|scheduled| format!("{}: {}", scheduled.reason, scheduled.message))
}

/// Returns 0 if the run succeeded, otherwise the exit code of its container.
fn exit_code(run: &RunStatus) -> ExitCode {
    if succeeded(&run.outcome) {
        return ExitCode::SUCCESS;
    }
    let outcome: Option<Outcome> = serde_json::from_value(json!(run.outcome)).ok();
    ExitCode::from(outcome.map_or(RUN_LOST_EXIT_CODE, Outcome::exit_code))
}

/// Progress on stderr: a spinner on a terminal, otherwise one line per change.
struct ProgressOutput {
    bar: Option<ProgressBar>,
    last: String,
}

impl ProgressOutput {
    fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self {
            bar,
            last: String::new(),
        }
    }

    fn update(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(text.to_owned()),
            None if self.last != text => eprintln!("{text}"),
            None => {}
        }
        text.clone_into(&mut self.last);
    }

    /// Prints a permanent line to stdout.
    fn print_line(&self, text: &str) -> Result<(), PluginError> {
        match &self.bar {
            Some(bar) => bar.suspend(|| print(text)),
            None => print(text),
        }
    }
}

impl Drop for ProgressOutput {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn forwarder(status: Value) -> EventForwarder {
        serde_json::from_value(json!({
            "apiVersion": "eventforwarder.io/v1alpha1", "kind": "EventForwarder",
            "metadata": {"name": "mparticle", "namespace": "marketing", "generation": 2},
            "spec": {
                "schedule": "0 * * * *",
                "queue": {"url": "https://sqs.us-east-1.amazonaws.com/1/q"},
                "iterable": {"apiKeySecretRef": {"name": "iterable"}},
            },
            "status": status,
        }))
        .expect("a forwarder")
    }

    #[test]
    fn blocked_reason_ignores_conditions_that_do_not_block() {
        let with = |generation: i64, type_: &str, reason: &str| {
            json!({"observedGeneration": generation, "conditions": [{
                "type": type_, "status": "False", "reason": reason, "message": "the fix",
                "lastTransitionTime": "2026-01-05T09:00:00Z",
            }]})
        };
        let active = |outcome: &str, message: Value| {
            json!({"active": 1, "lastRun": {
                "jobName": "m-1", "outcome": outcome, "startedAt": "2026-01-05T09:57:00Z", "message": message,
            }})
        };
        for (status, expected) in [
            (json!(null), None),
            (
                active("Running", json!(null)),
                Some("Job m-1 has been running for 3m"),
            ),
            (
                active("Pending", json!("ErrImagePull")),
                Some("kubectl delete job m-1"),
            ),
            (
                with(2, "SecretsAvailable", "SecretMissing"),
                Some("the fix"),
            ),
            (
                with(2, "Scheduled", "CronJobNameConflict"),
                Some("CronJobNameConflict: the fix"),
            ),
            (with(2, "Scheduled", "Suspended"), None),
            (with(2, "Scheduled", "RunOverdue"), None),
            (with(2, "LastRunSucceeded", "SinkDown"), None),
            // The status is of an older spec.
            (with(1, "Scheduled", "InvalidSchedule"), None),
        ] {
            let now = "2026-01-05T10:00:00Z".parse().expect("a time");
            let reason = blocked_reason(&forwarder(status.clone()), now);
            match expected {
                None => assert_eq!(reason, None, "{status}"),
                Some(part) => assert!(reason.is_some_and(|it| it.contains(part)), "{status}"),
            }
        }
    }

    #[test]
    fn exit_code_depends_on_outcome() {
        let run = |outcome: &str| -> RunStatus {
            serde_json::from_value(json!({"jobName": "m-1", "outcome": outcome})).expect("a run")
        };
        for (outcome, code) in [
            ("Drained", 0),
            ("LimitReached", 0),
            ("SinkDown", 20),
            ("ApiKeyRejected", 21),
            ("Lost", RUN_LOST_EXIT_CODE),
        ] {
            assert_eq!(exit_code(&run(outcome)), ExitCode::from(code), "{outcome}");
        }
    }
}
