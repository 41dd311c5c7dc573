use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the controller last saw of an EventForwarder's world.
// Until it has seen anything, the default stands there: tools take an object for ready that has
// no word on which generation was observed.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(
    transform = super::for_kubernetes,
    extend("default" = serde_json::json!({"observedGeneration": -1}))
)]
pub struct EventForwarderStatus {
    /// The `metadata.generation` that this status speaks of; -1 before the controller's first look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Ready sums up SecretsAvailable, QueueReachable, Scheduled and LastRunSucceeded;
    /// DeadLettersEmpty stands beside them. True is good for each of these. Stalled is there only
    /// while nothing but a change of the spec helps, and is True then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// The queue's depth, in messages, as SQS reports it: approximate, and behind by about a
    /// minute. Numbers from 100 on are rounded to two significant digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueDepth>,

    /// The run that is under way, or else the one that ended last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<RunStatus>,

    /// The latest ten runs that have ended, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub recent_runs: Vec<RecentRun>,

    /// The sums over all runs since the forwarder was made.
    #[serde(default)]
    pub totals: RunTotals,

    /// When the last run that succeeded ended: one with the outcome Drained or LimitReached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success_time: Option<Time>,

    /// When the next run is due by the schedule, in UTC. Absent while none is: the forwarder is
    /// suspended, its runs are held back, or its schedule can't be read or matches no date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_run_time: Option<Time>,

    /// The value of the annotation `eventforwarder.io/run-now` that last started a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run_request: Option<String>,

    /// The number of runs that are under way.
    #[serde(default)]
    pub active: i32,
}

/// The depth of a queue, as SQS reports it: approximate, and behind by about a minute.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct QueueDepth {
    /// Messages that a receive could return now.
    pub visible: i64,
    /// Messages received and neither deleted nor visible again.
    pub in_flight: i64,
    /// Messages sent with a delay that has not passed.
    pub delayed: i64,
    /// Messages in the dead-letter queue. Absent when there is none, or it can't be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<i64>,
    /// When these numbers were last seen to differ.
    pub observed_at: Time,
}

/// One run: its Job, and its report once it has ended.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RunStatus {
    /// The run's Job.
    pub job_name: String,
    /// When the Job started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When the run ended. Absent while it is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// Pending before the run's container has started, Running while it is under way, or how the
    /// run ended: Drained, LimitReached, Interrupted, SinkDown, ApiKeyRejected, QueueDenied, QueueDown,
    /// BadConfiguration, Panicked, or Lost when it left no report.
    pub outcome: String,
    /// What became of the messages.
    #[serde(default)]
    pub messages: MessageCounts,
    /// What became of the events in them.
    #[serde(default)]
    pub events: EventCounts,
    /// Requests made.
    #[serde(default)]
    pub requests: RequestCounts,
    /// Why events were skipped, changed or rejected and messages left, the most frequent first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub reasons: Vec<ReasonCount>,
    /// What went wrong, when something did, or what the run waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A run that has ended, in short.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RecentRun {
    /// The run's Job.
    pub job_name: String,
    /// When the Job started.
    pub started_at: Time,
    /// When it ended.
    pub finished_at: Time,
    /// How the run ended; see `lastRun.outcome`.
    pub outcome: String,
    /// Events that Iterable accepted.
    #[serde(default)]
    pub forwarded: u64,
    /// Events refused, by the mapping or by Iterable.
    #[serde(default)]
    pub rejected: u64,
}

/// Sums over all runs since the forwarder was made.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct RunTotals {
    /// Runs that have ended.
    pub runs: u64,
    /// Of these, the ones that did not succeed.
    pub failed_runs: u64,
    /// Messages deleted from the queue, all their events settled.
    pub messages_deleted: u64,
    /// Events that Iterable accepted. A second send counts again.
    pub forwarded: u64,
    /// Events left out by a rule of the mapping.
    pub skipped: u64,
    /// Events refused, by the mapping or by Iterable.
    pub rejected: u64,
}

/// What became of a run's SQS messages. Each receive of a message counts once: `received` is the
/// sum of `deleted`, `released` and `duplicate`.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct MessageCounts {
    /// Received from the queue.
    pub received: u64,
    /// Deleted from the queue, all their events settled.
    pub deleted: u64,
    /// Given back to the queue, or left to come back by themselves.
    pub released: u64,
    /// Messages with events that were put into the dead-letter queue; most are among the deleted.
    pub dead_lettered: u64,
    /// Received again within the run, and not sent twice.
    pub duplicate: u64,
}

/// What became of a run's events.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct EventCounts {
    /// Accepted by Iterable.
    pub forwarded: u64,
    /// Left out by a rule of the mapping.
    pub skipped: u64,
    /// Refused, by the mapping or by Iterable.
    pub rejected: u64,
}

/// Requests that a run made.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct RequestCounts {
    /// To SQS, each of which is billed.
    pub sqs: u64,
    /// To Iterable.
    pub iterable: u64,
}

/// How often something happened.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ReasonCount {
    /// A PascalCase word, for example "NoUser".
    pub reason: String,
    /// How many events, or messages.
    pub count: u64,
}

/// Reasons with their counts, the most frequent first.
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
