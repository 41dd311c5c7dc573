//! What a run leaves behind: a report small enough for a container's termination message.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    api::{EventCounts, MessageCounts, ReasonCount, RequestCounts, reason_counts},
    sqs::Error,
};

/// The size that Kubernetes keeps of a termination message, in bytes.
pub const MAX_REPORT_BYTES: usize = 4096;

/// The reason that a run counts when it may not send to the dead-letter queue.
pub const DEAD_LETTER_QUEUE_DENIED: &str = "DeadLetterQueueDenied";

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
    /// Why events were skipped, changed or rejected and messages left, the most frequent first.
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
    LimitReached,
    /// The run was told to stop.
    Interrupted,
    /// Iterable did not answer, or only with errors of its own.
    SinkDown,
    /// Iterable refused the API key.
    ApiKeyRejected,
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
        let rare = report
            .reasons
            .split_off(report.reasons.len().min(MAX_REASONS));
        let mut other: u64 = rare.iter().map(|reason| reason.count).sum();
        if other > 0 {
            report.reasons.push(ReasonCount {
                reason: "Other".to_owned(),
                count: other,
            });
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

    /// This report and that of another pod of the same run, added up. The graver outcome counts,
    /// with its message.
    pub fn and(self, other: Self) -> Self {
        let (grave, light) = match self.outcome.exit_code() >= other.outcome.exit_code() {
            true => (self, other),
            false => (other, self),
        };
        let mut by_reason = BTreeMap::new();
        for reason in grave.reasons.iter().chain(&light.reasons) {
            *by_reason.entry(reason.reason.clone()).or_default() += reason.count;
        }
        Self {
            outcome: grave.outcome,
            started_at: grave.started_at.min(light.started_at),
            finished_at: grave.finished_at.max(light.finished_at),
            messages: MessageCounts {
                received: grave.messages.received + light.messages.received,
                deleted: grave.messages.deleted + light.messages.deleted,
                released: grave.messages.released + light.messages.released,
                dead_lettered: grave.messages.dead_lettered + light.messages.dead_lettered,
                duplicate: grave.messages.duplicate + light.messages.duplicate,
            },
            events: EventCounts {
                forwarded: grave.events.forwarded + light.events.forwarded,
                skipped: grave.events.skipped + light.events.skipped,
                rejected: grave.events.rejected + light.events.rejected,
            },
            requests: RequestCounts {
                sqs: grave.requests.sqs + light.requests.sqs,
                iterable: grave.requests.iterable + light.requests.iterable,
            },
            reasons: reason_counts(&by_reason),
            bytes_sent: grave.bytes_sent + light.bytes_sent,
            oldest_message_age_seconds: grave
                .oldest_message_age_seconds
                .max(light.oldest_message_age_seconds),
            message: grave.message.or(light.message),
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
            | Error::Rejected { .. } => Self::QueueDenied,
            Error::Throttled { .. } | Error::Unreachable { .. } | Error::Server { .. } => {
                Self::QueueDown
            }
        }
    }

    /// The process's exit code.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Drained => 0,
            Self::LimitReached => 10,
            Self::Interrupted => 11,
            Self::SinkDown => 20,
            Self::ApiKeyRejected => 21,
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
    fn the_reports_of_several_pods_add_up_under_the_graver_outcome() {
        let mut first = report(2, "all went well");
        first.events.forwarded = 7;
        let mut second = report(3, "told to stop");
        second.outcome = Outcome::Interrupted;
        second.events.forwarded = 5;
        let both = first.clone().and(second.clone());
        assert_eq!(both, second.and(first), "whichever is read first");
        assert_eq!(
            (both.outcome, both.events.forwarded),
            (Outcome::Interrupted, 12)
        );
        assert_eq!(both.message.as_deref(), Some("told to stop"));
        // 2 + 1 of the one, 3 + 2 + 1 of the other.
        assert_eq!(
            both.reasons.iter().map(|reason| reason.count).sum::<u64>(),
            9
        );
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
            Outcome::LimitReached,
            Outcome::Interrupted,
            Outcome::SinkDown,
            Outcome::ApiKeyRejected,
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
