//! What a run leaves behind: a report small enough for a container's termination message.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    api::{EventCounts, MessageCounts, ReasonCount, RequestCounts},
    sqs::Error,
};

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
    /// SQS did not answer, or only with errors of its own.
    QueueDown,
    /// The forwarder or its files can't be used.
    BadConfiguration,
    /// A fault of the program itself.
    Panicked,
}

/// How much of [`RunReport::message`] is kept, in characters.
const MAX_MESSAGE: usize = 600;

/// How many reasons are kept, as many as the status of a forwarder takes with `Other`.
const MAX_REASONS: usize = 63;

/// How much of a reason's name is kept, in characters.
const MAX_REASON: usize = 64;

impl RunReport {
    /// The report as JSON of at most [`MAX_REPORT_BYTES`]. What is too much is cut so that the
    /// rest stays valid: long texts, then the rarest reasons, which are counted together as
    /// `Other`.
    pub fn encode(&self) -> String {
        let mut report = self.clone();
        report.message = report
            .message
            .map(|text| text.chars().take(MAX_MESSAGE).collect());
        for reason in &mut report.reasons {
            reason.reason = reason.reason.chars().take(MAX_REASON).collect();
        }
        let rare = report.reasons.split_off(report.reasons.len().min(MAX_REASONS));
        let mut other: u64 = rare.iter().map(|reason| reason.count).sum();
        if other > 0 {
            report.reasons.push(ReasonCount { reason: "Other".to_owned(), count: other });
        }
        loop {
            let text = serde_json::to_string(&report).unwrap_or_default();
            if text.len() <= MAX_REPORT_BYTES {
                return text;
            }
            if other > 0 {
                report.reasons.pop();
            }
            match report.reasons.pop() {
                Some(rarest) => {
                    other += rarest.count;
                    report.reasons.push(ReasonCount {
                        reason: "Other".to_owned(),
                        count: other,
                    });
                }
                None => report.message = None,
            }
        }
    }
}

impl Outcome {
    /// The outcome of a run that `error` of the queue ended.
    pub const fn of_queue(error: &Error) -> Self {
        match error {
            Error::NoRegion { .. } | Error::BadUrl { .. } | Error::Trust(_) => {
                Self::BadConfiguration
            }
            Error::QueueMissing { .. }
            | Error::AccessDenied { .. }
            | Error::NoCredentials { .. }
            | Error::Refused { .. } => Self::QueueDenied,
            Error::Throttled { .. } | Error::Unreachable { .. } | Error::Server { .. } => {
                Self::QueueDown
            }
        }
    }

    /// The process's exit code.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Drained => 0,
            Self::Deadline => 10,
            Self::Interrupted => 11,
            Self::SinkDown => 20,
            Self::KeyRefused => 21,
            Self::QueueDenied => 22,
            Self::QueueDown => 23,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn report(reasons: usize, message: &str) -> RunReport {
        RunReport {
            outcome: Outcome::Drained,
            started_at: Timestamp::UNIX_EPOCH,
            finished_at: Timestamp::UNIX_EPOCH,
            messages: MessageCounts::default(),
            events: EventCounts::default(),
            requests: RequestCounts::default(),
            reasons: (0..reasons)
                .map(|index| ReasonCount {
                    reason: format!("Reason{index}\u{1}é"),
                    count: (reasons - index) as u64,
                })
                .collect(),
            bytes_sent: 0,
            oldest_message_age_seconds: None,
            message: Some(message.to_owned()),
        }
    }

    #[test]
    fn a_report_of_many_reasons_is_cut_and_stays_valid_json_with_all_counts() {
        for reasons in [0, 1, 50, 120, 5_000] {
            let text = report(reasons, &"😀\u{0}".repeat(3_000)).encode();
            assert!(text.len() <= MAX_REPORT_BYTES, "{} bytes", text.len());
            let read: RunReport = serde_json::from_str(&text).unwrap();
            let counted: u64 = read.reasons.iter().map(|reason| reason.count).sum();
            assert_eq!(counted, (1..=reasons as u64).sum::<u64>());
        }
    }

    #[test]
    fn every_outcome_has_an_exit_code_of_its_own() {
        let codes = [
            Outcome::Drained,
            Outcome::Deadline,
            Outcome::Interrupted,
            Outcome::SinkDown,
            Outcome::KeyRefused,
            Outcome::QueueDenied,
            Outcome::QueueDown,
            Outcome::BadConfiguration,
            Outcome::Panicked,
        ]
        .map(Outcome::exit_code);
        let mut distinct = codes.to_vec();
        distinct.dedup();
        assert_eq!(distinct.len(), codes.len());
    }
}
