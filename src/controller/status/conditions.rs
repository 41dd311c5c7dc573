//! The conditions of a forwarder: the state of each part, and how to fix what is wrong.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::{Observation, dead_letters::dead_letters_empty, overdue::overdue, runs::succeeded};
use crate::{
    api::{EventForwarder, EventForwarderStatus},
    controller::{
        apply::{CronJobResult, RunStart},
        cronjob::RUN_NOW_ANNOTATION,
        depth::{DepthError, DepthResult},
        error::Error,
        observe::{AwaitedStep, SecretError},
        validate::SpecError,
    },
    mapping::MapperError,
};

const READY: &str = "Ready";
const SECRETS_AVAILABLE: &str = "SecretsAvailable";
const QUEUE_REACHABLE: &str = "QueueReachable";
pub const SCHEDULED: &str = "Scheduled";
const LAST_RUN_SUCCEEDED: &str = "LastRunSucceeded";
pub const DEAD_LETTERS_EMPTY: &str = "DeadLettersEmpty";
const STALLED: &str = "Stalled";
pub const RUN_OVERDUE: &str = "RunOverdue";

/// Reasons that only a change of the spec, or of the ConfigMap that it references, can fix.
const STALLED_REASONS: [&str; 8] = [
    "InvalidSchedule",
    "InvalidTimeZone",
    "NeverFires",
    "InvalidMapping",
    "InvalidTransform",
    "CronJobRejected",
    "NoRegion",
    "BadQueueUrl",
];

/// Longer messages are truncated, because conditions are read in terminals.
const MAX_MESSAGE_CHARS: usize = 1024;

/// A condition without transition time and generation.
pub struct ConditionDraft {
    type_: &'static str,
    status: &'static str,
    reason: String,
    message: String,
}

impl ConditionDraft {
    /// Creates a draft of one condition type.
    pub fn new(
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

    /// Returns whether the draft has this reason.
    pub fn has_reason(&self, reason: &str) -> bool {
        self.reason == reason
    }
}

/// Returns all conditions for `status`, whose other fields are complete.
pub fn build_conditions(
    forwarder: &EventForwarder,
    previous: &EventForwarderStatus,
    status: &EventForwarderStatus,
    observation: &Observation<'_>,
    now: Timestamp,
) -> Vec<Condition> {
    let drafts = vec![
        secrets_available(observation.secrets),
        queue_reachable(previous, status.observed_generation, observation.depth),
        scheduled(forwarder, observation, now),
        last_run_succeeded(forwarder, previous, status, observation),
        dead_letters_empty(forwarder, previous, status),
    ];
    let ready = ready(forwarder, &drafts);
    let stalled = stalled(&drafts);
    std::iter::once(ready)
        .chain(drafts)
        .chain(stalled)
        .map(|draft| {
            with_transition_time(draft, &previous.conditions, status.observed_generation, now)
        })
        .collect()
}

/// Returns the conditions of a forwarder that this controller version can't parse. Keeps all
/// conditions except the summary.
pub fn unreadable(
    error: &str,
    previous: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let message = format!(
        "This controller version can't parse the object: {error}. Correct the field, or install the same version of the controller and the CRD"
    );
    let ready = ConditionDraft::new(READY, "False", "Unreadable", message.clone());
    let stalled = ConditionDraft::new(STALLED, "True", "Unreadable", message);
    replace_summary(ready, Some(stalled), previous, generation, now)
}

/// Returns the conditions of a forwarder whose reconciliations fail repeatedly. Keeps all
/// conditions except the summary.
pub fn failing(
    error: &Error,
    previous: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let message = format!("{error}; retrying with exponential backoff");
    let ready = ConditionDraft::new(READY, "False", "ReconcileFailed", message);
    replace_summary(ready, None, previous, generation, now)
}

/// Replaces the summary conditions, Ready and Stalled.
fn replace_summary(
    ready: ConditionDraft,
    stalled: Option<ConditionDraft>,
    previous: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let condition = |draft| with_transition_time(draft, previous, generation, now);
    let others = previous
        .iter()
        .filter(|before| ![READY, STALLED].contains(&before.type_.as_str()));
    std::iter::once(condition(ready))
        .chain(others.cloned())
        .chain(stalled.map(condition))
        .collect()
}

/// Returns the condition that makes waiting tools stop, because only a change of the spec, or of the
/// ConfigMap that it references, helps. By convention, it is absent otherwise.
fn stalled(drafts: &[ConditionDraft]) -> Option<ConditionDraft> {
    let is_stalled = |draft: &&ConditionDraft| {
        draft.status == "False" && STALLED_REASONS.contains(&draft.reason.as_str())
    };
    let found = drafts.iter().find(is_stalled)?;
    Some(ConditionDraft::new(
        STALLED,
        "True",
        found.reason.clone(),
        found.message.clone(),
    ))
}

fn secrets_available(secrets: Result<(), &SecretError>) -> ConditionDraft {
    let draft = |status, reason, message: String| {
        ConditionDraft::new(SECRETS_AVAILABLE, status, reason, message)
    };
    match secrets {
        Ok(()) => draft(
            "True",
            "SecretsFound",
            "All referenced Secrets and keys exist".to_owned(),
        ),
        Err(SecretError::Missing {
            name,
            create_command,
        }) => draft(
            "False",
            "SecretMissing",
            format!(
                "Secret {name} not found. Runs are paused until it exists. Create it with `{create_command}`"
            ),
        ),
        Err(SecretError::KeyMissing { name, key }) => draft(
            "False",
            "SecretKeyMissing",
            format!(
                "Secret {name} has no value for key {key}. Runs are paused until it has one. Add the key, or reference another key in the spec"
            ),
        ),
    }
}

fn queue_reachable(
    previous: &EventForwarderStatus,
    generation: Option<i64>,
    depth: Option<&DepthResult>,
) -> ConditionDraft {
    let draft = |status, reason: &str, message: String| {
        ConditionDraft::new(QUEUE_REACHABLE, status, reason, message)
    };
    match depth {
        Some(Ok(_)) => draft("True", "Reachable", "Queue is reachable".to_owned()),
        Some(Err(DepthError { reason, message })) => draft("False", reason, message.clone()),
        // After a controller start, the previous result still applies.
        None => (previous.observed_generation == generation)
            .then(|| previous_condition(previous, QUEUE_REACHABLE))
            .flatten()
            .unwrap_or_else(|| {
                draft(
                    "Unknown",
                    "DepthUnknown",
                    "Queue depth has not been polled yet".to_owned(),
                )
            }),
    }
}

/// Returns the condition of a type from the previous status, if it is True or False.
pub fn previous_condition(
    previous: &EventForwarderStatus,
    type_: &'static str,
) -> Option<ConditionDraft> {
    let before = previous
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_)?;
    let status = ["True", "False"]
        .into_iter()
        .find(|status| *status == before.status)?;
    Some(ConditionDraft::new(
        type_,
        status,
        &before.reason,
        &before.message,
    ))
}

fn scheduled(
    forwarder: &EventForwarder,
    observation: &Observation<'_>,
    now: Timestamp,
) -> ConditionDraft {
    let draft =
        |status, reason, message: String| ConditionDraft::new(SCHEDULED, status, reason, message);
    let spec = match observation.spec {
        Ok(spec) => spec,
        Err(error) => {
            let reason = match error {
                SpecError::Schedule { .. } => "InvalidSchedule",
                SpecError::TimeZone(_) => "InvalidTimeZone",
            };
            let suffix = match observation.cronjob_exists {
                true => ". Until then, the CronJob keeps its previous schedule",
                false => "",
            };
            return draft("False", reason, format!("{error}{suffix}"));
        }
    };
    let name = &spec.cronjob_name;
    match observation.cronjob_result {
        None | Some(CronJobResult::UpToDate) => {}
        Some(CronJobResult::NameConflict { name }) => {
            return draft(
                "False",
                "CronJobNameConflict",
                format!(
                    "CronJob {name} exists but is not owned by this EventForwarder, so the controller does not change it. Rename the EventForwarder, or delete the CronJob"
                ),
            );
        }
        Some(CronJobResult::Rejected { message }) => {
            return draft(
                "False",
                "CronJobRejected",
                format!(
                    "The API server rejected CronJob {name}: {message}. Correct the corresponding field of the spec"
                ),
            );
        }
        Some(CronJobResult::Forbidden { message }) => {
            return draft(
                "False",
                "CronJobForbidden",
                format!(
                    "The API server denied CronJob {name}: {message}. Fix the quota, policy, or permission. The controller retries automatically"
                ),
            );
        }
    }
    if let Some(RunStart::Rejected { message }) = observation.run_start {
        return draft(
            "False",
            "RunRejected",
            format!(
                "The API server rejected the Job requested by annotation {RUN_NOW_ANNOTATION}: {message}. Fix the cause and the run starts automatically, or remove the annotation"
            ),
        );
    }
    if forwarder.spec.suspend {
        return draft("False", "Suspended", "Scheduled runs are suspended (spec.suspend is true). Messages stay in the queue until its retention period ends".to_owned());
    }
    if let Err(error) = observation.mapping {
        return draft(
            "False",
            mapping_reason(error),
            format!("Runs are paused because the mapping can't be used: {error}"),
        );
    }
    if observation.secrets.is_err() {
        return draft(
            "False",
            "WaitingForSecrets",
            "Runs are paused until all referenced Secrets and keys exist".to_owned(),
        );
    }
    if spec.schedule.next_after(Timestamp::UNIX_EPOCH).is_none() {
        return draft(
            "False",
            "NeverFires",
            format!(
                "No date matches spec.schedule \"{}\". Correct its day and month",
                forwarder.spec.schedule
            ),
        );
    }
    if let Some(message) = overdue(forwarder, name, observation, now) {
        return draft("False", RUN_OVERDUE, message);
    }
    draft(
        "True",
        "CronJobUpToDate",
        format!("CronJob {name} starts the runs"),
    )
}

fn last_run_succeeded(
    forwarder: &EventForwarder,
    previous: &EventForwarderStatus,
    status: &EventForwarderStatus,
    observation: &Observation<'_>,
) -> ConditionDraft {
    let draft = |status, reason: &str, message: String| {
        ConditionDraft::new(LAST_RUN_SUCCEEDED, status, reason, message)
    };
    let Some(run) = &status.last_run else {
        return draft("Unknown", "NoRunYet", "No run has finished yet".to_owned());
    };
    if let Some(pending) = observation.run_wait.filter(|pending| pending.too_long) {
        let job = &run.job_name;
        let why = &pending.why;
        return match pending.until {
            AwaitedStep::ContainerStart => draft(
                "False",
                "RunPending",
                format!(
                    "Job {job} has not started its container: {why}. Fix the cause. If you change spec.job, also delete this Job, because it keeps the old settings: `kubectl delete job {job} -n {}`",
                    forwarder.metadata.namespace.as_deref().unwrap_or_default()
                ),
            ),
            AwaitedStep::PodEnd => draft(
                "False",
                "RunStuck",
                format!("Job {job} does not finish: {why}"),
            ),
        };
    }
    // The condition describes the previous run until this one finishes.
    if run.finished_at.is_none() {
        return previous_condition(previous, LAST_RUN_SUCCEEDED)
            .filter(|before| !before.has_reason("RunPending") && !before.has_reason("RunStuck"))
            .unwrap_or_else(|| {
                draft(
                    "Unknown",
                    "NoRunYet",
                    "The first run is in progress".to_owned(),
                )
            });
    }
    if succeeded(&run.outcome) {
        let events = &run.events;
        let message = format!(
            "Job {}: {} events forwarded, {} skipped, {} rejected",
            run.job_name, events.forwarded, events.skipped, events.rejected
        );
        return draft("True", &run.outcome, message);
    }
    let why = run
        .message
        .as_deref()
        .unwrap_or("no reason reported; check the pod log");
    draft(
        "False",
        &run.outcome,
        format!("Job {}: {why}", run.job_name),
    )
}

const fn mapping_reason(error: &MapperError) -> &'static str {
    match error {
        MapperError::TransformMissing { .. } => "TransformMissing",
        MapperError::Transform(_) => "InvalidTransform",
        MapperError::Template { .. } | MapperError::PlaceholderNeedsEmailProject => {
            "InvalidMapping"
        }
    }
}

/// Returns the summary: the first False condition, else the first Unknown one, else True. Ignores
/// DeadLettersEmpty and the reasons Suspended and NoRunYet.
fn ready(forwarder: &EventForwarder, drafts: &[ConditionDraft]) -> ConditionDraft {
    let is_relevant = |draft: &&ConditionDraft| {
        draft.type_ != DEAD_LETTERS_EMPTY
            && !["Suspended", "NoRunYet"].contains(&draft.reason.as_str())
    };
    for status in ["False", "Unknown"] {
        let mut found = drafts.iter().filter(is_relevant);
        if let Some(found) = found.find(|draft| draft.status == status) {
            return ConditionDraft::new(READY, status, found.reason.clone(), found.message.clone());
        }
    }
    if forwarder.spec.suspend {
        return ConditionDraft::new(
            READY,
            "True",
            "Suspended",
            "EventForwarder is ready. Scheduled runs are suspended (spec.suspend is true)",
        );
    }
    ConditionDraft::new(READY, "True", "Ready", "EventForwarder is ready")
}

/// Creates the condition of a draft: `lastTransitionTime` changes only with the status.
fn with_transition_time(
    draft: ConditionDraft,
    previous: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let since = previous
        .iter()
        .find(|before| before.type_ == draft.type_ && before.status == draft.status)
        .map_or(Time(now), |before| before.last_transition_time.clone());
    Condition {
        type_: draft.type_.to_owned(),
        status: draft.status.to_owned(),
        reason: draft.reason,
        message: capitalize(&draft.message)
            .chars()
            .take(MAX_MESSAGE_CHARS)
            .collect(),
        observed_generation: generation,
        last_transition_time: since,
    }
}

/// Returns `message` with a capital first letter if its first word consists of lowercase ASCII
/// letters and apostrophes. Keeps identifiers, such as `spec.schedule`, `my-job` or `kubectl`.
fn capitalize(message: &str) -> String {
    let word = message.split(' ').next().unwrap_or_default();
    let letters = word.trim_end_matches([',', ':', ';']);
    let is_word = !letters.is_empty()
        && letters != "kubectl"
        && letters
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'\'');
    let mut message = message.to_owned();
    if is_word && let Some(first) = message.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    message
}

#[cfg(test)]
mod tests {
    use super::capitalize;

    #[test]
    fn messages_start_with_a_capital_except_identifiers() {
        for (message, expected) in [
            ("queue https://q denied", "Queue https://q denied"),
            ("timeout: no response", "Timeout: no response"),
            ("failed; retrying", "Failed; retrying"),
            ("can't read x", "Can't read x"),
            ("Job my-job failed", "Job my-job failed"),
            ("SQS failed", "SQS failed"),
            (
                "no usable response from goaws",
                "No usable response from goaws",
            ),
            ("spec.schedule is empty", "spec.schedule is empty"),
            ("my-job failed", "my-job failed"),
            ("sqs:SendMessage was denied", "sqs:SendMessage was denied"),
            ("kubectl get pods", "kubectl get pods"),
            ("`kubectl get pods` failed", "`kubectl get pods` failed"),
            ("über", "über"),
            (": x", ": x"),
            ("", ""),
        ] {
            assert_eq!(capitalize(message), expected);
        }
    }
}
