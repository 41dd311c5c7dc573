use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Duration;

/// Settings of the drain.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DrainSpec {
    /// Maximum duration of a run, in hours, minutes, and seconds, from 1m to 24h. Near its end, the
    /// run stops receiving, finishes its messages in flight, and ends. The next run continues.
    /// Default "50m". Example: "1h30m".
    #[serde(default = "default_max_duration")]
    pub max_duration: Duration,

    /// Maximum number of messages that a run receives. The next run continues. With several pods,
    /// each pod receives an equal share, rounded up. If unset, no limit. Example: 10000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_messages: Option<u64>,

    /// What happens to rejected events: those that the mapping can't send, or that Iterable
    /// permanently rejects. Does not apply to a message that can't be parsed: it stays in the queue
    /// until the redrive policy moves it. DeadLetter: sends only the rejected events to the
    /// dead-letter queue, with the reason, and deletes the message. Leave: leaves the message to
    /// the redrive policy. Drop: discards and counts the events. Without a dead-letter queue, or
    /// without permission to send to it, DeadLetter behaves like Leave. Default DeadLetter.
    /// Example: Leave.
    #[serde(default)]
    pub rejected: RejectedEventPolicy,

    /// Maximum bytes of messages and events that each pod buffers, about half of its memory use. An
    /// SQS response that does not fit is not read from its connection until memory is free. Default
    /// 67108864, 64 MiB. Example: 134217728, with a memory limit of 512Mi in `job.resources`.
    #[serde(default = "default_max_bytes_in_flight")]
    #[schemars(range(min = 4_194_304, max = 4_294_967_296u64))]
    pub max_bytes_in_flight: u64,

    /// Maximum number of concurrent requests to Iterable per pod. Always 1 for a FIFO queue.
    /// Default 8. Example: 4.
    #[serde(default = "default_concurrency")]
    #[schemars(range(min = 1, max = 64))]
    pub concurrency: u32,

    /// Number of pods that drain the queue in parallel. They share Iterable's rate limit, so more
    /// pods are faster only if one pod does not reach it, for example with large events or slow
    /// rules. Default 1. Example: 3.
    #[serde(default = "default_parallelism")]
    #[schemars(range(min = 1, max = 32))]
    pub parallelism: u32,

    /// Visibility timeout of received messages, in hours, minutes, and seconds, from 10s to 12h.
    /// The run extends it while it processes the message. If unset, the timeout of the queue.
    /// Example: "2m".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visibility_timeout: Option<Duration>,
}

/// What happens to rejected events.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RejectedEventPolicy {
    /// Sends the events to the dead-letter queue.
    #[default]
    DeadLetter,
    /// Leaves the message in the queue.
    Leave,
    /// Discards the events.
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
