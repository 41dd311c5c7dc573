//! A forwarder's runs: their Jobs, what they wait for, and the reports of their pods.

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

/// One run, as its Job tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The Job's name.
    pub job_name: String,
    /// When the Job was made.
    pub created_at: Timestamp,
    /// When the Job started.
    pub started_at: Option<Timestamp>,
    /// Whether its container is known to run.
    pub container_started: bool,
    /// Since when it is known to fail, while its pods have not ended.
    pub failing_since: Option<Timestamp>,
    /// How many pods are to end well for it to be complete.
    pub pods: usize,
    /// When and how it ended; none while it is under way.
    pub end: Option<JobEnd>,
}

/// How a Job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobEnd {
    /// When.
    pub at: Timestamp,
    /// The Job's own reason for its failure, if it failed.
    pub failure: Option<String>,
}

impl Run {
    /// Reads a Job.
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

/// What a run waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunWait {
    /// What does not come.
    pub until: AwaitedStep,
    /// What the pod, or the Job without a pod, waits for.
    pub why: String,
    /// Whether it has waited long enough for someone to be told.
    pub too_long: bool,
}

/// Something that a run is waited for to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AwaitedStep {
    /// Its container starts.
    ContainerStart,
    /// Its pods end.
    PodEnd,
}

/// How long a pod may take to be placed and started before someone is told.
pub const PENDING_TIMEOUT: SignedDuration = SignedDuration::from_secs(120);

/// Reads why a run that is under way has not started its container; none if it has.
///
/// # Errors
/// When the API server fails or does not answer.
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

/// Why a run that has failed is not over: a pod whose node does not answer stays for as long as
/// nobody takes the node away. `grace` is how long a pod that is told to end may take.
pub fn stuck(run: &Run, namespace: &str, grace: SignedDuration, now: Timestamp) -> Option<RunWait> {
    let waits = now.duration_since(run.failing_since?);
    Some(RunWait {
        until: AwaitedStep::PodEnd,
        why: format!(
            "it failed but its pod still exists, which blocks the next run. If the node is down, delete the node or force-delete the pod. Find it with `kubectl get pods -n {namespace} --output wide --selector batch.kubernetes.io/job-name={}`",
            run.job_name
        ),
        too_long: waits > grace.saturating_add(PENDING_TIMEOUT),
    })
}

fn wait_reason(namespace: &str, job: &str, pods: &[Pod]) -> Option<String> {
    let Some(pod) = pods.last() else {
        return Some(format!(
            "no pod was created; a quota, limit, or policy may forbid it. Run `kubectl describe job {job} -n {namespace}`"
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
    let unplaced = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    Some(match unplaced {
        Some(condition) => format!(
            "pod {name} can't be scheduled: {}",
            condition.message.as_deref().unwrap_or("no message")
        ),
        None => format!(
            "pod {name} is being created. If it does not start, a volume or Secret is missing. Run `kubectl describe pod {name} -n {namespace}`"
        ),
    })
}

/// What a run left behind.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// Its own report.
    Read(Box<RunReport>),
    /// The reports of some of its pods, and what is known of why another left none.
    Partial {
        /// What the others report.
        report: Box<RunReport>,
        /// A sentence on what became of the pod without a report.
        why: String,
    },
    /// No report, and what is known of why.
    Missing {
        /// A sentence on what became of the pod.
        why: String,
    },
}

/// Why there is no word yet on what a run left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoReport {
    /// Its Job is gone, and a pod of it still works.
    PodRunning,
    /// No pod of it is left, nor the last word of one.
    NoPod,
}

/// Reads the report that a run's pods left in their termination messages. `departed` are those of
/// its pods that were seen to end and are deleted.
///
/// # Errors
/// When the API server fails or does not answer.
pub async fn report(
    api: &Api<Pod>,
    namespace: &str,
    run: &Run,
    departed: Vec<Pod>,
    job_deleted: bool,
) -> Result<Result<Report, NoReport>, Error> {
    let pods = with_terminated(pods_of(api, namespace, &run.job_name).await?, departed);
    let works = |pod: &Pod| {
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        terminated(pod).is_none() && !matches!(phase, Some("Succeeded" | "Failed"))
    };
    if pods.is_empty() {
        return Ok(Err(NoReport::NoPod));
    }
    if job_deleted && pods.iter().any(works) {
        return Ok(Err(NoReport::PodRunning));
    }
    Ok(Ok(report_in(run, &pods)))
}

fn with_terminated(mut pods: Vec<Pod>, departed: Vec<Pod>) -> Vec<Pod> {
    for pod in departed {
        if pods
            .iter()
            .all(|known| known.metadata.uid != pod.metadata.uid)
        {
            pods.push(pod);
        }
    }
    pods
}

async fn pods_of(api: &Api<Pod>, namespace: &str, job_name: &str) -> Result<Vec<Pod>, Error> {
    let of_the_job =
        ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job_name}"));
    let pods = Call::new("list", format!("pods of Job {namespace}/{job_name}"))
        .run(api.list(&of_the_job))
        .await?;
    Ok(pods.items)
}

fn report_in(run: &Run, pods: &[Pod]) -> Report {
    let (mut reports, mut silent) = (Vec::new(), None);
    for pod in pods {
        match report_of(pod) {
            Some(report) => reports.push(report),
            None => silent = Some(termination_reason(pod)),
        }
    }
    let failed = run.end.as_ref().is_some_and(|end| end.failure.is_some());
    let why = silent.or_else(|| {
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

/// How a pod's container ended, if it has. Others may have put containers of theirs beside it.
pub fn terminated(pod: &Pod) -> Option<&ContainerStateTerminated> {
    let statuses = pod.status.as_ref()?.container_statuses.as_deref()?;
    let ours = statuses.iter().find(|status| status.name == CONTAINER)?;
    ours.state.as_ref()?.terminated.as_ref()
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
