use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Duration;

/// How a run empties the queue.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DrainSpec {
    /// How long a run may go on, in hours, minutes and seconds, from 1m to 24h. Near its end the
    /// run stops receiving, settles what it holds and ends; the rest waits for the next run.
    /// Default "50m". Example: "1h30m".
    #[serde(default = "default_max_duration")]
    pub max_duration: Duration,

    /// How many messages a run receives at most; the rest waits for the next run. Of several pods
    /// each takes an equal share, rounded up. Left out: no such limit. Example: 10000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_messages: Option<u64>,

    /// What happens to rejected events: those that the mapping can't send, or that Iterable will
    /// never take. A message of which nothing can be read is no matter of this: it stays in the
    /// queue, whose own redrive policy moves it to the dead-letter queue. DeadLetter: just the
    /// rejected events go to the dead-letter queue, with the reason, and the message is deleted. Leave: the message stays for the queue's own redrive policy. Drop:
    /// they are discarded, and counted. Without a dead-letter queue, or without the right to send
    /// to it, DeadLetter acts as Leave. Default DeadLetter. Example: Leave.
    #[serde(default)]
    pub rejected: RejectedEventPolicy,

    /// How many bytes of messages and events each pod of a run holds at most, roughly half of the
    /// memory that it takes. An answer of SQS for which there is no room waits on its connection.
    /// Default 67108864, 64 MiB. Example: 134217728, with a memory limit of 512Mi in
    /// `job.resources`.
    #[serde(default = "default_max_bytes_in_flight")]
    #[schemars(range(min = 4_194_304, max = 4_294_967_296u64))]
    pub max_bytes_in_flight: u64,

    /// How many requests to Iterable each pod of a run has under way at once, at most; for a FIFO
    /// queue it is one. Default 8. Example: 4.
    #[serde(default = "default_concurrency")]
    #[schemars(range(min = 1, max = 64))]
    pub concurrency: u32,

    /// How many pods drain the queue at once. They share Iterable's rate, so that more pods are
    /// faster only where a single one does not reach it: large events, or rules that take time.
    /// Default 1. Example: 3.
    #[serde(default = "default_parallelism")]
    #[schemars(range(min = 1, max = 32))]
    pub parallelism: u32,

    /// How long a received message stays invisible, in hours, minutes and seconds, from 10s to 12h;
    /// extended while the run holds it. Left out: the queue's own timeout. Example: "2m".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visibility_timeout: Option<Duration>,
}

/// What happens to rejected events.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RejectedEventPolicy {
    /// They go to the dead-letter queue.
    #[default]
    DeadLetter,
    /// Their message stays.
    Leave,
    /// They are discarded.
    Drop,
}

impl Default for DrainSpec {
    fn default() -> Self {
        Self {
            max_duration: default_max_duration(),
            max_messages: None,
            rejected: RejectedEventPolicy::default(),
            max_bytes_in_flight: default_max_bytes_in_flight(),
            concurrency: default_concurrency(),
            parallelism: default_parallelism(),
            visibility_timeout: None,
        }
    }
}

fn default_max_duration() -> Duration {
    Duration::from_secs(50 * 60)
}

fn default_max_bytes_in_flight() -> u64 {
    64 << 20
}

fn default_concurrency() -> u32 {
    8
}

fn default_parallelism() -> u32 {
    1
}
