//! A forwarder's runs: their Jobs, why they wait, and the reports of their pods.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ContainerStateTerminated, Pod},
};
use kube::{Api, ResourceExt, api::ListParams};

use crate::{
    controller::{
        cronjob::CONTAINER,
        error::{Call, Error},
    },
    drain::report::RunReport,
};

/// One run, as described by its Job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The Job's name.
    pub job_name: String,
    /// When the Job was created.
    pub created_at: Timestamp,
    /// When the Job started.
    pub started_at: Option<Timestamp>,
    /// Whether its container is running.
    pub container_started: bool,
    /// When the Job began to fail. `None` if it does not fail, or has ended.
    pub failing_since: Option<Timestamp>,
    /// How many pods must succeed to complete the Job.
    pub pods: usize,
    /// When and how it ended. `None` while it is in progress.
    pub end: Option<JobEnd>,
}

/// How a Job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobEnd {
    /// When it ended.
    pub at: Timestamp,
    /// The Job's failure reason, if it failed.
    pub failure: Option<String>,
}

impl Run {
    /// Parses a Job.
    pub fn from_job(job: &Job) -> Self {
        let status = job.status.as_ref();
        let conditions = status
            .and_then(|status| status.conditions.as_deref())
            .unwrap_or_default();
        let end = conditions
            .iter()
            .find(|condition| {
                condition.status == "True"
                    && matches!(condition.type_.as_str(), "Complete" | "Failed")
            })
            .map(|condition| JobEnd {
                at: status
                    .and_then(|status| status.completion_time.as_ref())
                    .or(condition.last_transition_time.as_ref())
                    .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
                failure: (condition.type_ == "Failed").then(|| {
                    let reason = condition.reason.as_deref().unwrap_or("Failed");
                    match condition.message.as_deref() {
                        Some(message) if !message.is_empty() => format!("{reason}: {message}"),
                        _ => reason.to_owned(),
                    }
                }),
            });
        let failing = conditions
            .iter()
            .find(|condition| condition.status == "True" && condition.type_ == "FailureTarget");
        Self {
            failing_since: failing
                .filter(|_| end.is_none())
                .and_then(|condition| condition.last_transition_time.as_ref())
                .map(|time| time.0),
            job_name: job.name_any(),
            created_at: job
                .creation_timestamp()
                .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            started_at: status
                .and_then(|status| status.start_time.as_ref())
                .map(|time| time.0),
            container_started: status
                .and_then(|status| status.ready)
                .is_some_and(|ready| ready > 0),
            pods: job
                .spec
                .as_ref()
                .and_then(|spec| usize::try_from(spec.completions?).ok())
                .unwrap_or(1),
            end,
        }
    }
}

/// Why a run waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunWait {
    /// The step that it waits for.
    pub until: AwaitedStep,
    /// The reason, from the pod or from a Job without a pod.
    pub why: String,
    /// Whether it has waited long enough to be reported.
    pub too_long: bool,
}

/// A step that a run waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AwaitedStep {
    /// The container starts.
    ContainerStart,
    /// The pods end.
    PodEnd,
}

/// How long scheduling and starting a pod can take before it is reported.
pub const PENDING_TIMEOUT: SignedDuration = SignedDuration::from_secs(120);

/// Returns why a run has not started its container. Returns `None` if it has.
///
/// # Errors
/// If the API server fails or does not respond.
pub async fn pending(
    api: &Api<Pod>,
    namespace: &str,
    run: &Run,
    now: Timestamp,
) -> Result<Option<RunWait>, Error> {
    let pods = pods_of(api, namespace, &run.job_name).await?;
    let too_long = now.duration_since(run.created_at) > PENDING_TIMEOUT;
    Ok(
        wait_reason(namespace, &run.job_name, &pods).map(|why| RunWait {
            until: AwaitedStep::ContainerStart,
            why,
            too_long,
        }),
    )
}

/// Returns why a failed run has not finished: a pod on an unreachable node exists until the node is
/// deleted. `grace` is the pod's termination grace period.
pub fn stuck(run: &Run, namespace: &str, grace: SignedDuration, now: Timestamp) -> Option<RunWait> {
    let waiting = now.duration_since(run.failing_since?);
    Some(RunWait {
        until: AwaitedStep::PodEnd,
        why: format!(
            "it failed but its pod still exists, which blocks the next run. If the node is down, delete the node or force-delete the pod. Find it with `kubectl get pods -n {namespace} --output wide --selector batch.kubernetes.io/job-name={}`",
            run.job_name
        ),
        too_long: waiting > grace.saturating_add(PENDING_TIMEOUT),
    })
}

fn wait_reason(namespace: &str, job: &str, pods: &[Pod]) -> Option<String> {
    let Some(pod) = pods.last() else {
        return Some(format!(
            "no pod exists; a quota, limit, or policy may forbid its creation. Run `kubectl describe job {job} -n {namespace}`"
        ));
    };
    let status = pod.status.as_ref()?;
    if status.phase.as_deref() != Some("Pending") {
        return None;
    }
    let name = pod.name_any();
    let waiting = status
        .container_statuses
        .iter()
        .flatten()
        .filter_map(|container| container.state.as_ref()?.waiting.as_ref())
        .find(|waiting| waiting.reason.as_deref() != Some("ContainerCreating"));
    if let Some(waiting) = waiting {
        let reason = waiting.reason.as_deref().unwrap_or("waiting");
        let message = waiting.message.as_deref().unwrap_or("no message");
        return Some(format!("pod {name}: {reason}: {message}"));
    }
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    Some(match unscheduled {
        Some(condition) => format!(
            "pod {name} can't be scheduled: {}",
            condition.message.as_deref().unwrap_or("no message")
        ),
        None => format!(
            "pod {name} is being created. If it does not start, a volume or Secret may be missing. Run `kubectl describe pod {name} -n {namespace}`"
        ),
    })
}

/// The report of a finished run.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// The merged reports. None is missing: pods of a complete Job may be deleted already.
    Read(Box<RunReport>),
    /// Some pods left a report, but another did not.
    Partial {
        /// The merged reports.
        report: Box<RunReport>,
        /// Why the other pod left no report.
        why: String,
    },
    /// No pod left a report.
    Missing {
        /// The reason.
        why: String,
    },
}

/// Why a run has no report yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoReport {
    /// Its Job is deleted, and one of its pods has not ended.
    PodRunning,
    /// No pod exists, and no terminated pod was recorded.
    NoPod,
}

/// Reads the report of a run from the termination messages of its pods. `deleted` are its pods
/// that ended while being deleted.
///
/// # Errors
/// If the API server fails or does not respond.
pub async fn report(
    api: &Api<Pod>,
    namespace: &str,
    run: &Run,
    deleted: Vec<Pod>,
    job_deleted: bool,
) -> Result<Result<Report, NoReport>, Error> {
    let pods = with_terminated(pods_of(api, namespace, &run.job_name).await?, deleted);
    let is_running = |pod: &Pod| {
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        terminated(pod).is_none() && !matches!(phase, Some("Succeeded" | "Failed"))
    };
    if pods.is_empty() {
        return Ok(Err(NoReport::NoPod));
    }
    if job_deleted && pods.iter().any(is_running) {
        return Ok(Err(NoReport::PodRunning));
    }
    Ok(Ok(report_in(run, &pods)))
}

fn with_terminated(mut pods: Vec<Pod>, deleted: Vec<Pod>) -> Vec<Pod> {
    for pod in deleted {
        if pods
            .iter()
            .all(|listed| listed.metadata.uid != pod.metadata.uid)
        {
            pods.push(pod);
        }
    }
    pods
}

async fn pods_of(api: &Api<Pod>, namespace: &str, job_name: &str) -> Result<Vec<Pod>, Error> {
    let params = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job_name}"));
    let pods = Call::new("list", format!("pods of Job {namespace}/{job_name}"))
        .run(api.list(&params))
        .await?;
    Ok(pods.items)
}

fn report_in(run: &Run, pods: &[Pod]) -> Report {
    let (mut reports, mut missing) = (Vec::new(), None);
    for pod in pods {
        match report_of(pod) {
            Some(report) => reports.push(report),
            None => missing = Some(termination_reason(pod)),
        }
    }
    let failed = run.end.as_ref().is_some_and(|end| end.failure.is_some());
    let why = missing.or_else(|| {
        (pods.is_empty() || failed && pods.len() < run.pods).then(|| match run.pods {
            1 => "its pod no longer exists".to_owned(),
            all => format!(
                "{} of its {all} pods no longer exist",
                all - pods.len().min(all)
            ),
        })
    });
    match (reports.into_iter().reduce(RunReport::and), why) {
        (Some(report), None) => Report::Read(Box::new(report)),
        (Some(report), Some(why)) => Report::Partial {
            report: Box::new(report),
            why,
        },
        (None, why) => Report::Missing {
            why: why.unwrap_or_default(),
        },
    }
}

fn report_of(pod: &Pod) -> Option<RunReport> {
    serde_json::from_str(terminated(pod)?.message.as_deref()?).ok()
}

/// Returns how a pod's drain container ended. Admission webhooks can inject other containers.
pub fn terminated(pod: &Pod) -> Option<&ContainerStateTerminated> {
    let statuses = pod.status.as_ref()?.container_statuses.as_deref()?;
    let drain = statuses.iter().find(|status| status.name == CONTAINER)?;
    drain.state.as_ref()?.terminated.as_ref()
}

fn termination_reason(pod: &Pod) -> String {
    let name = pod.name_any();
    if let Some(terminated) = terminated(pod) {
        let reason = terminated.reason.as_deref().unwrap_or("no reason reported");
        return format!(
            "the container of pod {name} ended with exit code {} ({reason})",
            terminated.exit_code
        );
    }
    let status = pod.status.as_ref();
    let reason = status.and_then(|status| status.reason.as_deref());
    let message = status.and_then(|status| status.message.as_deref());
    match (reason, message) {
        (Some(reason), Some(message)) => format!("pod {name}: {reason}: {message}"),
        (Some(reason), None) => format!("pod {name}: {reason}"),
        _ => format!("pod {name} never ran its container"),
    }
}

#[cfg(test)]
mod tests;
