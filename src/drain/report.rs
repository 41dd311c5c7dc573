//! What a run leaves behind: a report small enough for a container's termination message.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::api::{EventCounts, MessageCounts, ReasonCount, RequestCounts};

/// The size that Kubernetes keeps of a termination message, in bytes.
pub const MAX_REPORT_BYTES: usize = 4096;

/// The report of one run.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RunReport {
    /// How the run ended.
    pub outcome: Outcome,
    /// When the run started.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// What became of the messages.
    pub messages: MessageCounts,
    /// What became of the events in them.
    pub events: EventCounts,
    /// Requests made.
    pub requests: RequestCounts,
    /// Why events were skipped or rejected and messages left, the most frequent first.
    pub reasons: Vec<ReasonCount>,
    /// Bytes of request bodies sent to Iterable.
    pub bytes_sent: u64,
    /// The age of the oldest message received, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_message_age_seconds: Option<u64>,
    /// What went wrong and what mends it, when something did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How a run ended. Each has an exit code of its own.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The queue was empty.
    Drained,
    /// `drain.maxDuration` or `drain.maxMessages` was reached; messages are left.
    Deadline,
    /// The run was told to stop.
    Interrupted,
    /// Iterable did not answer, or only with errors of its own.
    SinkDown,
    /// Iterable refused the API key.
    KeyRefused,
    /// SQS refused access, or the queue does not exist.
    QueueDenied,
    /// The forwarder or its files can't be used.
    BadConfiguration,
    /// A fault of the program itself.
    Panicked,
}

impl Outcome {
    /// The process's exit code.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Drained => 0,
            Self::Deadline => 10,
            Self::Interrupted => 11,
            Self::SinkDown => 20,
            Self::KeyRefused => 21,
            Self::QueueDenied => 22,
            Self::BadConfiguration => 30,
            Self::Panicked => 101,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
