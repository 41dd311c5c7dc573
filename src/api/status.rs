use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most recently observed status of the EventForwarder.
// Tools consider an object without `observedGeneration` ready. The default prevents this before
// the first reconcile.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(
    transform = super::for_kubernetes,
    extend("default" = serde_json::json!({"observedGeneration": -1}))
)]
pub struct EventForwarderStatus {
    /// The `metadata.generation` that this status is based on. It is -1 before the first reconcile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Ready summarizes SecretsAvailable, QueueReachable, Scheduled, and LastRunSucceeded;
    /// DeadLettersEmpty is not part of Ready. True is the healthy value. Stalled is present, and
    /// True, only while a change of the spec, or of the ConfigMap that it references, is required.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// Queue depth in messages, as reported by SQS. The numbers are approximate and lag by about a
    /// minute. Numbers of 100 and more are rounded to two significant digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueDepth>,

    /// The run in progress, or the last one that finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<RunStatus>,

    /// Last ten finished runs, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub recent_runs: Vec<RecentRun>,

    /// Totals of all runs since the EventForwarder was created.
    #[serde(default)]
    pub totals: RunTotals,

    /// End of the last successful run: one with the outcome Drained or LimitReached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success_time: Option<Time>,

    /// Start of the next scheduled run, in UTC. Unset if the forwarder is suspended, its runs are
    /// paused, its schedule is invalid or matches no date, or its CronJob could not be applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_run_time: Option<Time>,

    /// Value of the annotation `eventforwarder.io/run-now` that last started a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run_request: Option<String>,

    /// Number of runs in progress, including pending ones.
    #[serde(default)]
    pub active: i32,
}

/// Queue depth, as reported by SQS. The numbers are approximate and lag by about a minute.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct QueueDepth {
    /// Messages that can be received now.
    pub visible: i64,
    /// Messages that were received, and are neither deleted nor visible again.
    pub in_flight: i64,
    /// Messages whose delivery delay has not ended.
    pub delayed: i64,
    /// Messages in the dead-letter queue. Unset if there is none, or it can't be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<i64>,
    /// Time at which the controller last saw these numbers change.
    pub observed_at: Time,
}

/// A run: its Job, and its report after it finishes.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RunStatus {
    /// Name of the Job.
    pub job_name: String,
    /// Start time of the Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// End time of the run. Unset while it is running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// Pending until the container starts, then Running, then how the run ended: Drained,
    /// LimitReached, Interrupted, SinkDown, ApiKeyRejected, QueueDenied, QueueDown,
    /// BadConfiguration, Panicked, or Lost if it left no report.
    pub outcome: String,
    /// Counts of messages.
    #[serde(default)]
    pub messages: MessageCounts,
    /// Counts of the events in the messages.
    #[serde(default)]
    pub events: EventCounts,
    /// Counts of requests.
    #[serde(default)]
    pub requests: RequestCounts,
    /// Why events were skipped, changed, or rejected, and why messages were released, most frequent
    /// first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub reasons: Vec<ReasonCount>,
    /// Error message of the run, or what the run is waiting for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Summary of a finished run.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RecentRun {
    /// Name of the Job.
    pub job_name: String,
    /// Start time of the Job.
    pub started_at: Time,
    /// End time of the run.
    pub finished_at: Time,
    /// How the run ended; see `lastRun.outcome`.
    pub outcome: String,
    /// Events accepted by Iterable.
    #[serde(default)]
    pub forwarded: u64,
    /// Events rejected by the mapping or by Iterable.
    #[serde(default)]
    pub rejected: u64,
}

/// Totals of all runs since the EventForwarder was created.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct RunTotals {
    /// Finished runs.
    pub runs: u64,
    /// Finished runs that did not succeed.
    pub failed_runs: u64,
    /// Messages deleted from the queue, because all their events were settled.
    pub messages_deleted: u64,
    /// Events accepted by Iterable. Duplicate deliveries are included.
    pub forwarded: u64,
    /// Events excluded by a mapping rule.
    pub skipped: u64,
    /// Events rejected by the mapping or by Iterable.
    pub rejected: u64,
}

/// Counts of the SQS messages of a run. Every receive of a message counts once: `received` is the
/// sum of `deleted`, `released`, and `duplicate`.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct MessageCounts {
    /// Messages received from the queue.
    pub received: u64,
    /// Messages deleted from the queue, because all their events were settled.
    pub deleted: u64,
    /// Messages released to the queue. They become visible at once, or when their visibility
    /// timeout ends.
    pub released: u64,
    /// Messages with events that were sent to the dead-letter queue. Most are also counted as
    /// deleted.
    pub dead_lettered: u64,
    /// Messages received again in the same run. Their events are not sent again.
    pub duplicate: u64,
}

/// Counts of the events of a run.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct EventCounts {
    /// Events accepted by Iterable.
    pub forwarded: u64,
    /// Events excluded by a mapping rule.
    pub skipped: u64,
    /// Events rejected by the mapping or by Iterable.
    pub rejected: u64,
}

/// Counts of the requests of a run.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct RequestCounts {
    /// Requests to SQS. AWS bills each of them.
    pub sqs: u64,
    /// Requests to Iterable.
    pub iterable: u64,
}

/// A reason and how often it occurred.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ReasonCount {
    /// Reason in PascalCase, for example "NoUser".
    pub reason: String,
    /// Number of events or messages.
    pub count: u64,
}

/// Returns the reasons with their counts, most frequent first.
pub fn reason_counts(by_reason: &BTreeMap<String, u64>) -> Vec<ReasonCount> {
    let mut counts: Vec<_> = by_reason
        .iter()
        .map(|(reason, count)| ReasonCount {
            reason: reason.clone(),
            count: *count,
        })
        .collect();
    counts.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.reason.cmp(&b.reason)));
    counts
}
