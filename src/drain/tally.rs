//! What a run has done so far, and the report made of it.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::report::{Outcome, RunReport};
use crate::api::{EventCounts, MessageCounts, RequestCounts, reason_counts};

/// Counts of a run under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// What became of the messages.
    pub messages: MessageCounts,
    /// What became of their events.
    pub events: EventCounts,
    /// Why events were skipped, changed or rejected, and messages left.
    pub reasons: BTreeMap<String, u64>,
    /// When the oldest message received was sent.
    pub oldest: Option<Timestamp>,
    /// The first thing that a person should know.
    pub notice: Option<String>,
}

impl Tally {
    /// Counts one occurrence of a reason.
    pub fn reason(&mut self, reason: &str) {
        self.reasons(reason, 1);
    }

    /// Counts so many occurrences of a reason.
    pub fn reasons(&mut self, reason: &str, times: u64) {
        match self.reasons.get_mut(reason) {
            Some(count) => *count += times,
            None => drop(self.reasons.insert(reason.to_owned(), times)),
        }
    }

    /// Notes what a person should know; the first note stays.
    pub fn notice(&mut self, text: impl Into<String>) {
        self.notice.get_or_insert_with(|| text.into());
    }

    /// Notes the age of a received message.
    pub fn sent_at(&mut self, at: Option<Timestamp>) {
        self.oldest = match (self.oldest, at) {
            (Some(oldest), Some(at)) => Some(oldest.min(at)),
            (oldest, at) => oldest.or(at),
        };
    }

    /// The report of a run that ends now.
    pub fn report(
        &self,
        outcome: Outcome,
        started_at: Timestamp,
        finished_at: Timestamp,
        requests: RequestCounts,
        bytes_sent: u64,
    ) -> RunReport {
        let age = self
            .oldest
            .map(|oldest| started_at.duration_since(oldest).as_secs());
        RunReport {
            outcome,
            started_at,
            finished_at,
            messages: self.messages,
            events: self.events,
            requests,
            reasons: reason_counts(&self.reasons),
            bytes_sent,
            oldest_message_age_seconds: age.map(|seconds| u64::try_from(seconds).unwrap_or(0)),
            message: self.notice.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_is_that_of_the_oldest_message_at_the_start_of_the_run() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let age = |sent: &[Option<Timestamp>]| {
            let mut tally = Tally::default();
            sent.iter().for_each(|one| tally.sent_at(*one));
            let requests = RequestCounts::default();
            let report = tally.report(Outcome::Drained, at(1_000), at(2_000), requests, 0);
            report.oldest_message_age_seconds
        };
        assert_eq!(age(&[]), None);
        assert_eq!(
            age(&[Some(at(900)), None, Some(at(400)), Some(at(950))]),
            Some(600)
        );
        assert_eq!(age(&[Some(at(1_500))]), Some(0), "sent during the run");
    }
}
