//! What the cluster holds of a forwarder's world: its Secrets, its runs and their reports.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, Pod, Secret},
};
use kube::{Api, ResourceExt, api::ListParams};

use super::error::{Call, Error};
use crate::{api::EventForwarderSpec, drain::report::RunReport, sqs::Credentials};

/// The keys of a Secret with AWS credentials.
const ACCESS_KEY_ID: &str = "accessKeyId";
const SECRET_ACCESS_KEY: &str = "secretAccessKey";
const SESSION_TOKEN: &str = "sessionToken";

/// A Secret that the forwarder refers to and that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretProblem {
    /// There is no such Secret.
    Missing {
        /// Its name.
        name: String,
        /// A command that makes it.
        mend: String,
    },
    /// The Secret lacks a key, or holds nothing under it.
    KeyMissing {
        /// The Secret's name.
        name: String,
        /// The key.
        key: String,
    },
}

/// Reads the Secrets that a forwarder refers to, by name alone. Yields the AWS credentials, if
/// the forwarder brings its own.
///
/// # Errors
/// When the API server fails or does not answer.
pub async fn secrets(
    api: &Api<Secret>,
    namespace: &str,
    spec: &EventForwarderSpec,
) -> Result<Result<Credentials, SecretProblem>, Error> {
    let key = &spec.iterable.api_key_secret_ref;
    let mend = format!(
        "kubectl create secret generic {} --namespace {namespace} --from-file={}=FILE-WITH-THE-KEY",
        key.name, key.key
    );
    match get_secret(api, namespace, &key.name).await? {
        None => {
            return Ok(Err(SecretProblem::Missing {
                name: key.name.clone(),
                mend,
            }));
        }
        Some(secret) if value(&secret, &key.key).is_none() => {
            return Ok(Err(SecretProblem::KeyMissing {
                name: key.name.clone(),
                key: key.key.clone(),
            }));
        }
        Some(_) => {}
    }
    let Some(reference) = &spec.queue.credentials_secret_ref else {
        return Ok(Ok(Credentials::Ambient));
    };
    let Some(secret) = get_secret(api, namespace, &reference.name).await? else {
        let mend = format!(
            "kubectl create secret generic {} --namespace {namespace} --from-file={ACCESS_KEY_ID}=FILE --from-file={SECRET_ACCESS_KEY}=FILE",
            reference.name
        );
        return Ok(Err(SecretProblem::Missing {
            name: reference.name.clone(),
            mend,
        }));
    };
    let part = |key: &str| {
        value(&secret, key).ok_or_else(|| SecretProblem::KeyMissing {
            name: reference.name.clone(),
            key: key.to_owned(),
        })
    };
    Ok(part(ACCESS_KEY_ID).and_then(|id| {
        Ok(Credentials::Keys {
            access_key_id: id,
            secret_access_key: part(SECRET_ACCESS_KEY)?,
            session_token: value(&secret, SESSION_TOKEN),
        })
    }))
}

/// Reads the user's rules, where the forwarder refers to a ConfigMap for them; none if there is
/// no such ConfigMap or key.
///
/// # Errors
/// When the API server fails or does not answer.
pub async fn transform(
    api: &Api<ConfigMap>,
    namespace: &str,
    spec: &EventForwarderSpec,
) -> Result<Option<String>, Error> {
    let transform = spec.mapping.transform.as_ref();
    let Some(reference) = transform.and_then(|transform| transform.config_map_key_ref.as_ref())
    else {
        return Ok(None);
    };
    let name = &reference.name;
    let config_map = Call::new("get", format!("ConfigMap {namespace}/{name}"))
        .run(api.get_opt(name))
        .await?;
    Ok(config_map.and_then(|config_map| config_map.data?.remove(&reference.key)))
}

async fn get_secret(
    api: &Api<Secret>,
    namespace: &str,
    name: &str,
) -> Result<Option<Secret>, Error> {
    Call::new("get", format!("Secret {namespace}/{name}"))
        .run(api.get_opt(name))
        .await
}

/// A key's value as text, without white space around it; none if absent or blank.
fn value(secret: &Secret, key: &str) -> Option<String> {
    let bytes = &secret.data.as_ref()?.get(key)?.0;
    let text = std::str::from_utf8(bytes).ok()?.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

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
    /// When and how it ended; none while it is under way.
    pub end: Option<End>,
}

/// How a Job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// When.
    pub at: Timestamp,
    /// The Job's own reason for its failure, if it failed.
    pub failure: Option<String>,
}

impl Run {
    /// Reads a Job.
    pub fn of(job: &Job) -> Self {
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
            .map(|condition| End {
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
            end,
        }
    }
}

/// What a run waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// What does not come.
    pub until: Until,
    /// What the pod, or the Job without a pod, waits for.
    pub why: String,
    /// Whether it has waited long enough for someone to be told.
    pub too_long: bool,
}

/// Something that a run is waited for to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Its container starts.
    Started,
    /// Its pods end.
    Ended,
}

/// How long a pod may take to be placed and started before someone is told.
pub const PENDING_LIMIT: SignedDuration = SignedDuration::from_secs(120);

/// Reads why a run that is under way has not started its container; none if it has.
///
/// # Errors
/// When the API server fails or does not answer.
pub async fn pending(
    api: &Api<Pod>,
    namespace: &str,
    run: &Run,
    now: Timestamp,
) -> Result<Option<Pending>, Error> {
    let pods = pods_of(api, namespace, &run.job_name).await?;
    let too_long = now.duration_since(run.created_at) > PENDING_LIMIT;
    Ok(what_it_waits_for(&pods).map(|why| Pending {
        until: Until::Started,
        why,
        too_long,
    }))
}

/// Why a run that has failed is not over: a pod whose node does not answer stays for as long as
/// nobody takes the node away. `grace` is how long a pod that is told to end may take.
pub fn stuck(run: &Run, grace: SignedDuration, now: Timestamp) -> Option<Pending> {
    let waits = now.duration_since(run.failing_since?);
    Some(Pending {
        until: Until::Ended,
        why: format!(
            "it has failed and its pod is still there, so no further run starts; if the pod's node is dead, delete the node, or the pod by force: see `kubectl get pods --output wide --selector batch.kubernetes.io/job-name={}`",
            run.job_name
        ),
        too_long: waits > grace.saturating_add(PENDING_LIMIT),
    })
}

fn what_it_waits_for(pods: &[Pod]) -> Option<String> {
    let Some(pod) = pods.last() else {
        return Some(
            "it has no pod; a quota, a limit or a policy may forbid it: see `kubectl describe job`"
                .to_owned(),
        );
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
        let message = waiting.message.as_deref().unwrap_or("no further word");
        return Some(format!("pod {name}: {reason}: {message}"));
    }
    let unplaced = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    Some(match unplaced {
        Some(condition) => format!(
            "pod {name} can't be placed on a node: {}",
            condition.message.as_deref().unwrap_or("no further word")
        ),
        None => format!(
            "pod {name} is being created; if it stays so, a volume or Secret is missing: see `kubectl describe pod {name}`"
        ),
    })
}

/// What a run left behind.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// Its own report.
    Read(Box<RunReport>),
    /// No report, and what is known of why.
    Missing {
        /// A sentence on what became of the pod.
        why: String,
    },
}

/// Reads the report that a run's pods left in their termination messages. `departed` are those of
/// its pods that were seen to end and are deleted.
///
/// # Errors
/// When the API server fails or does not answer.
pub async fn report(
    api: &Api<Pod>,
    namespace: &str,
    job_name: &str,
    departed: Vec<Pod>,
) -> Result<Report, Error> {
    let pods = pods_of(api, namespace, job_name).await?;
    Ok(report_in(&with_departed(pods, departed)))
}

/// Reads the report of a run whose Job is gone; none while a pod of it still works.
///
/// # Errors
/// When the API server fails or does not answer.
pub async fn last_report(
    api: &Api<Pod>,
    namespace: &str,
    job_name: &str,
    departed: Vec<Pod>,
) -> Result<Option<Report>, Error> {
    let pods = pods_of(api, namespace, job_name).await?;
    let works = |pod: &Pod| {
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        terminated(pod).is_none() && !matches!(phase, Some("Succeeded" | "Failed"))
    };
    if pods.iter().any(works) {
        return Ok(None);
    }
    let report = match report_in(&with_departed(pods, departed)) {
        Report::Missing { why } => Report::Missing {
            why: format!("its Job was deleted, and {why}"),
        },
        report => report,
    };
    Ok(Some(report))
}

fn with_departed(mut pods: Vec<Pod>, departed: Vec<Pod>) -> Vec<Pod> {
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

fn report_in(pods: &[Pod]) -> Report {
    let reports = pods.iter().filter_map(|pod| {
        let terminated = terminated(pod)?;
        serde_json::from_str(terminated.message.as_deref()?).ok()
    });
    match reports.reduce(RunReport::and) {
        Some(report) => Report::Read(Box::new(report)),
        None => Report::Missing {
            why: pods
                .last()
                .map_or_else(|| "its pod is gone".to_owned(), what_became_of),
        },
    }
}

/// How a pod's container ended, if it has.
pub fn terminated(pod: &Pod) -> Option<&k8s_openapi::api::core::v1::ContainerStateTerminated> {
    let statuses = pod.status.as_ref()?.container_statuses.as_deref()?;
    statuses.first()?.state.as_ref()?.terminated.as_ref()
}

fn what_became_of(pod: &Pod) -> String {
    let name = pod.name_any();
    if let Some(terminated) = terminated(pod) {
        let reason = terminated.reason.as_deref().unwrap_or("no reason given");
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
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(status: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "status": status})).expect("a pod")
    }

    #[test]
    fn a_report_is_read_from_the_termination_message() {
        let message = json!({
            "outcome": "Drained",
            "startedAt": "2026-01-01T00:00:00Z",
            "finishedAt": "2026-01-01T00:00:05Z",
            "messages": {"received": 2, "deleted": 2},
            "events": {"forwarded": 7},
            "requests": {"sqs": 4, "iterable": 1},
            "reasons": [],
            "bytesSent": 10,
        });
        let pods = [pod(json!({"containerStatuses": [{
            "name": "drain", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 0, "message": message.to_string()}},
        }]}))];
        let Report::Read(report) = report_in(&pods) else {
            panic!("no report")
        };
        assert_eq!(report.events.forwarded, 7);
    }

    #[test]
    fn a_missing_report_says_what_became_of_the_pod() {
        let why = |pods: &[Pod]| match report_in(pods) {
            Report::Missing { why } => why,
            Report::Read(report) => panic!("{report:?}"),
        };
        let killed = pod(json!({"containerStatuses": [{
            "name": "drain", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
        }]}));
        assert!(why(&[killed]).contains("exit code 137 (OOMKilled)"));
        let evicted = pod(json!({"reason": "Evicted", "message": "The node was low on memory."}));
        assert!(why(&[evicted]).contains("Evicted: The node was low on memory."));
        assert_eq!(why(&[]), "its pod is gone");
    }

    #[test]
    fn the_report_of_a_pod_that_is_gone_counts_and_none_counts_twice() {
        let ended = |uid: &str| {
            let message = json!({
                "outcome": "Interrupted",
                "startedAt": "2026-01-01T00:00:00Z",
                "finishedAt": "2026-01-01T00:00:05Z",
                "messages": {}, "events": {"forwarded": 3}, "requests": {},
                "reasons": [], "bytesSent": 0,
            });
            let mut pod = pod(json!({"containerStatuses": [{
                "name": "drain", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": 11, "message": message.to_string()}},
            }]}));
            pod.metadata.uid = Some(uid.to_owned());
            pod
        };
        let forwarded = |pods, departed| match report_in(&with_departed(pods, departed)) {
            Report::Read(report) => report.events.forwarded,
            Report::Missing { why } => panic!("{why}"),
        };
        assert_eq!(forwarded(vec![], vec![ended("a")]), 3);
        assert_eq!(forwarded(vec![ended("a")], vec![ended("a")]), 3);
        assert_eq!(forwarded(vec![ended("b")], vec![ended("a")]), 6);
    }

    #[test]
    fn a_failed_run_whose_pod_does_not_end_is_stuck_after_its_grace() {
        let job = |more: serde_json::Value| -> Job {
            let mut conditions = vec![json!({
                "type": "FailureTarget", "status": "True",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            })];
            conditions.extend(more.as_array().cloned().unwrap_or_default());
            serde_json::from_value(json!({
                "metadata": {"name": "run-1"}, "status": {"conditions": conditions},
            }))
            .expect("a Job")
        };
        let stuck_at = |job: &Job, now: &str| {
            let grace = SignedDuration::from_secs(60);
            stuck(&Run::of(job), grace, now.parse().expect("a time"))
        };
        let soon = stuck_at(&job(json!([])), "2026-01-01T00:02:59Z").expect("it waits");
        assert!(!soon.too_long);
        let late = stuck_at(&job(json!([])), "2026-01-01T00:03:01Z").expect("it waits");
        assert!(
            late.too_long && late.why.contains("job-name=run-1"),
            "{}",
            late.why
        );
        let over = json!([{"type": "Failed", "status": "True"}]);
        assert_eq!(stuck_at(&job(over), "2026-01-01T00:03:01Z"), None);
    }

    #[test]
    fn what_a_run_waits_for_before_its_container_starts_is_told() {
        let told = |status: serde_json::Value| what_it_waits_for(&[pod(status)]);
        let waiting = |reason: &str, message: &str| {
            json!({"phase": "Pending", "containerStatuses": [{
                "name": "drain", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": reason, "message": message}},
            }]})
        };
        let none = what_it_waits_for(&[]).expect("no pod");
        assert!(none.contains("quota"), "{none}");
        let image = told(waiting("ErrImagePull", "not found")).expect("no image");
        assert_eq!(image, "pod p: ErrImagePull: not found");
        let creating = told(waiting("ContainerCreating", "")).expect("no volume");
        assert!(creating.contains("volume or Secret"), "{creating}");
        let unplaced = told(json!({"phase": "Pending", "conditions": [{
            "type": "PodScheduled", "status": "False", "message": "0/1 nodes are available",
        }]}));
        assert_eq!(
            unplaced.as_deref(),
            Some("pod p can't be placed on a node: 0/1 nodes are available")
        );
        assert_eq!(told(json!({"phase": "Running"})), None);
    }
}
