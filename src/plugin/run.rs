//! `run`: asks the controller for a run, by an annotation, and follows it.

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

/// How long the controller may take to start a run.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How often status is looked at. To get is a right that everyone has who may run this; to
/// watch is another.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Starts a run and, if so asked, stays until it has ended.
///
/// # Errors
/// When no run can start, or nothing more can be learned of it.
pub async fn run(cluster: &Cluster, args: &RunArgs) -> Result<ExitCode, PluginError> {
    let started = Instant::now();
    let forwarder = cluster.forwarder(&args.name).await?;
    if let Some(why) = blocked_reason(&forwarder, Timestamp::now()) {
        return Err(PluginError::RunBlocked(why));
    }
    let request = format!("{} by kubectl forwarder", Timestamp::now());
    request_run(cluster, &args.name, &request).await?;
    let job = run_now_name(&cronjob_name(&args.name), &request);

    let mut says = ProgressOutput::new();
    let mut is_taken_up = false;
    loop {
        let forwarder = cluster.forwarder(&args.name).await?;
        let refusal = rejection(&forwarder);
        let status = forwarder.status.unwrap_or_default();
        match requested_run(&status, &request, &job) {
            RequestedRun::Requested => match refusal {
                Some(why) => return Err(PluginError::RunBlocked(why)),
                None => says.update("waiting for the controller"),
            },
            RequestedRun::Running(text) => {
                if !is_taken_up {
                    is_taken_up = true;
                    says.print_line(&format!("Job {job} was started"))?;
                    if forwarder.spec.suspend {
                        says.print_line(&suspended_note(&args.name, &cluster.namespace))?;
                    }
                }
                if !args.follow {
                    return Ok(ExitCode::SUCCESS);
                }
                says.update(&text);
            }
            RequestedRun::Finished(run) => {
                says.print_line(&runs::report(&run, Timestamp::now()).join("\n"))?;
                return Ok(match args.follow {
                    true => exit_code(&run),
                    false => ExitCode::SUCCESS,
                });
            }
        }
        let waited = started.elapsed();
        if !is_taken_up && waited > START_TIMEOUT.min(args.timeout.get()) {
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

/// Why no run can start now, and what to do; none if one can, as far as status tells.
fn blocked_reason(forwarder: &EventForwarder, now: Timestamp) -> Option<String> {
    let name = forwarder.name_any();
    let namespace = forwarder.namespace().unwrap_or_default();
    let status = forwarder.status.as_ref()?;
    if let Some(run) = status.last_run.as_ref().filter(|_| status.active > 0) {
        let job = &run.job_name;
        let since = run.started_at.as_ref();
        let since = since.map_or(String::new(), |at| span(now.duration_since(at.0)));
        return Some(match &run.message {
            Some(waits_for) => format!(
                "Job {job} has been pending for {since}: {waits_for}. Fix the cause, or delete the Job with `kubectl delete job {job} --namespace {namespace}`"
            ),
            None => format!(
                "Job {job} has been running for {since} on the same queue. Wait for it to finish: see `kubectl forwarder status {name} --namespace {namespace}`"
            ),
        });
    }
    if !is_current(forwarder) {
        return None;
    }
    let stops = ["SecretsAvailable", "Scheduled"].into_iter();
    stops
        .filter_map(|type_| condition(forwarder, type_))
        .find(|one| {
            // Neither of these keeps a run back that is asked for.
            one.status == "False"
                && !matches!(
                    one.reason.as_str(),
                    "Suspended" | "RunOverdue" | "NeverFires"
                )
        })
        .map(|one| format!("{}: {}", one.reason, one.message))
}

/// What the controller says of a request that the API server refuses.
fn rejection(forwarder: &EventForwarder) -> Option<String> {
    condition(forwarder, "Scheduled")
        .filter(|scheduled| scheduled.reason == "RunRejected")
        .map(|scheduled| format!("{}: {}", scheduled.reason, scheduled.message))
}

/// 0 for a run that did its work, else the exit code of its container.
fn exit_code(run: &RunStatus) -> ExitCode {
    if succeeded(&run.outcome) {
        return ExitCode::SUCCESS;
    }
    let outcome: Option<Outcome> = serde_json::from_value(json!(run.outcome)).ok();
    ExitCode::from(outcome.map_or(RUN_LOST_EXIT_CODE, Outcome::exit_code))
}

/// What goes on, on standard error: a line that moves on a terminal, elsewhere a line for each
/// change.
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

    /// What stays, on standard output.
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
    fn what_hinders_a_run_is_told_and_what_does_not_is_no_matter() {
        let with = |generation: i64, type_: &str, reason: &str| {
            json!({"observedGeneration": generation, "conditions": [{
                "type": type_, "status": "False", "reason": reason, "message": "the mend",
                "lastTransitionTime": "2026-01-05T09:00:00Z",
            }]})
        };
        let active = |outcome: &str, message: Value| {
            json!({"active": 1, "lastRun": {
                "jobName": "m-1", "outcome": outcome, "startedAt": "2026-01-05T09:57:00Z", "message": message,
            }})
        };
        for (status, told) in [
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
                Some("the mend"),
            ),
            (
                with(2, "Scheduled", "CronJobNameConflict"),
                Some("CronJobNameConflict: the mend"),
            ),
            (with(2, "Scheduled", "Suspended"), None),
            (with(2, "Scheduled", "RunOverdue"), None),
            (with(2, "LastRunSucceeded", "SinkDown"), None),
            // It may be mended since.
            (with(1, "Scheduled", "InvalidSchedule"), None),
        ] {
            let now = "2026-01-05T10:00:00Z".parse().expect("a time");
            let hindrance = blocked_reason(&forwarder(status.clone()), now);
            match told {
                None => assert_eq!(hindrance, None, "{status}"),
                Some(told) => assert!(hindrance.is_some_and(|it| it.contains(told)), "{status}"),
            }
        }
    }

    #[test]
    fn a_run_that_was_followed_gives_its_exit_code() {
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
