//! Dead letters: how a run writes the rejected events of a message, and how they are read again.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{ack::Ticket, engine::Refused};
use crate::{
    mapping::{BodyError, EventPosition, excerpt},
    sqs::{Attribute, Message, OutgoingMessage},
};

const REASON: &str = "EventForwarderReason";
const DETAIL: &str = "EventForwarderDetail";
const RUN: &str = "EventForwarderRun";
const MESSAGE_ID: &str = "EventForwarderMessageId";
const EVENTS: &str = "EventForwarderEvents";
const SENT_AT: &str = "EventForwarderSentAt";

/// What all attributes of a run's own begin with.
const PREFIX: &str = "EventForwarder";

/// The reason of a message that SQS itself moved, having been received too often.
pub const MOVED_BY_SQS: &str = "MaxReceivesExceeded";

/// The most attributes that SQS takes on a message.
const MAX_ATTRIBUTES: usize = 10;

/// How long a detail may be, in characters.
const MAX_DETAIL: usize = 500;

/// A dead letter to send.
#[derive(Clone, Debug)]
pub struct Letter {
    /// What is sent.
    pub outgoing: OutgoingMessage,
    /// The message that it was made of.
    pub ticket: Ticket,
    /// How often it was tried.
    pub tries: u32,
}

/// The message of which letters are made.
#[derive(Debug)]
pub struct Original<'a> {
    /// The run.
    pub run: &'a str,
    /// The id that SQS gave it.
    pub id: &'a str,
    /// The body.
    pub body: &'a str,
    /// When it was sent first.
    pub sent_at: Option<Timestamp>,
    /// Its group, on a FIFO queue.
    pub fifo_group: Option<&'a str>,
}

/// Writes one letter per reason, so that they can be redriven by reason. Its body holds just the
/// events of that reason, and a drain can read it again.
pub fn write(
    original: &Original<'_>,
    ticket: Ticket,
    refused: &[Refused],
) -> Result<Vec<Letter>, BodyError> {
    let mut by_reason: BTreeMap<&str, (Vec<EventPosition>, &str)> = BTreeMap::new();
    for one in refused {
        let entry = by_reason
            .entry(&one.cause.reason)
            .or_insert((Vec::new(), &one.cause.detail));
        entry.0.push(one.source);
    }
    by_reason
        .into_iter()
        .map(|(reason, (sources, detail))| {
            let excerpt = excerpt(original.body, &sources)?;
            let outgoing = OutgoingMessage {
                body: excerpt.body,
                attributes: [
                    (REASON, reason.to_owned()),
                    (DETAIL, sendable(detail)),
                    (RUN, original.run.to_owned()),
                    (MESSAGE_ID, original.id.to_owned()),
                    (EVENTS, excerpt.events.to_string()),
                ]
                .into_iter()
                .chain(sent_at_attribute(original.sent_at))
                .map(|(name, value)| (name.to_owned(), Attribute::text(value)))
                .collect(),
                fifo: original
                    .fifo_group
                    .map(|group| (group.to_owned(), format!("{}-{reason}", original.id))),
            };
            Ok(Letter {
                outgoing,
                ticket,
                tries: 0,
            })
        })
        .collect()
}

/// What a dead letter says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Why it is here, a PascalCase word.
    pub reason: String,
    /// More on it.
    pub detail: Option<String>,
    /// The run that put it here.
    pub run: Option<String>,
    /// The id of the message that it was made of.
    pub message_id: Option<String>,
    /// How many events it holds; none if no run has counted them.
    pub events: Option<u64>,
}

impl Label {
    /// Reads the label of a message of a dead-letter queue.
    pub fn read(message: &Message) -> Self {
        let text = |name: &str| {
            message
                .attributes
                .get(name)
                .map(|attribute| attribute.value.clone())
        };
        Self {
            reason: text(REASON).unwrap_or_else(|| MOVED_BY_SQS.to_owned()),
            detail: text(DETAIL),
            run: text(RUN),
            message_id: text(MESSAGE_ID),
            events: text(EVENTS).and_then(|count| count.parse().ok()),
        }
    }
}

/// When a message was sent first: what was put back from a dead-letter queue keeps that time, so that
/// an event without a readable time of its own keeps the one that it was given.
pub fn first_sent_at(message: &Message) -> Option<Timestamp> {
    let kept = message.attributes.get(SENT_AT);
    kept.and_then(|attribute| attribute.value.parse().ok())
        .or(message.sent_at)
}

fn sent_at_attribute(sent_at: Option<Timestamp>) -> Option<(&'static str, String)> {
    sent_at.map(|at| (SENT_AT, at.to_string()))
}

/// The message to send to the queue again: without the label, but for when it was sent first.
pub fn redriven(message: &Message, is_fifo: bool) -> OutgoingMessage {
    OutgoingMessage {
        body: message.body.clone(),
        attributes: message
            .attributes
            .iter()
            .filter(|(name, _)| !name.starts_with(PREFIX))
            .map(|(name, attribute)| (name.clone(), attribute.clone()))
            .chain(
                sent_at_attribute(first_sent_at(message))
                    .map(|(name, value)| (name.to_owned(), Attribute::text(value))),
            )
            .take(MAX_ATTRIBUTES)
            .collect(),
        fifo: is_fifo.then(|| {
            let group = message
                .group
                .clone()
                .unwrap_or_else(|| "default".to_owned());
            (group, format!("redriven-{}", message.id))
        }),
    }
}

/// A text that SQS takes as an attribute: cut, and without control characters.
fn sendable(text: &str) -> String {
    text.chars()
        .filter(|character| {
            !character.is_control() && !matches!(character, '\u{FFFE}' | '\u{FFFF}')
        })
        .take(MAX_DETAIL)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            ack::{Admission, Ledger},
            blame::Cause,
        },
        *,
    };

    #[test]
    fn a_letter_counts_all_events_that_one_refusal_stands_for() {
        let body = format!("{{\"events\":[{}]}}", vec!["0"; 300].join(","));
        let refused: Vec<_> = (0..101)
            .map(|event| Refused {
                source: EventPosition { batch: 0, event },
                cause: Cause {
                    reason: "EventNotAnObject".to_owned(),
                    detail: String::new(),
                },
            })
            .collect();
        let mut ledger = Ledger::<(), ()>::new(false);
        let Admission::New(ticket) = ledger.admit("m-1", None, 101, ()) else {
            panic!("a new message")
        };
        let original = Original {
            run: "run",
            id: "m-1",
            body: &body,
            sent_at: None,
            fifo_group: None,
        };
        let letters = write(&original, ticket, &refused).expect("the body is readable");
        let outgoing = &letters[0].outgoing;
        assert_eq!(outgoing.body, body);
        assert_eq!(outgoing.attributes[EVENTS].value, "300");
    }

    #[test]
    fn a_message_keeps_the_time_at_which_it_was_sent_first_through_letters_and_redrives() {
        let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        let first = at("2026-01-01T00:00:00.25Z");
        let message = |outgoing: OutgoingMessage, sent_at| Message {
            id: "m-2".to_owned(),
            receipt_handle: String::new(),
            body: outgoing.body,
            receive_count: Some(1),
            sent_at,
            group: None,
            attributes: outgoing.attributes,
        };
        let refused = Refused {
            source: EventPosition::default(),
            cause: Cause {
                reason: "InvalidEmail".to_owned(),
                detail: String::new(),
            },
        };
        let mut ledger = Ledger::<(), ()>::new(false);
        let Admission::New(ticket) = ledger.admit("m-1", None, 1, ()) else {
            panic!("a new message")
        };
        let original = Original {
            run: "run",
            id: "m-1",
            body: "{\"events\":[{}]}",
            sent_at: first,
            fifo_group: None,
        };
        let letters = write(&original, ticket, &[refused]).unwrap();
        let letter = message(letters[0].outgoing.clone(), at("2026-01-02T00:00:00Z"));
        let again = message(redriven(&letter, false), at("2026-01-03T00:00:00Z"));
        assert_eq!(first_sent_at(&again), first);
        assert_eq!(again.attributes.len(), 1, "the label is gone");

        // SQS itself leaves a message that it moves as it was sent.
        let moved = OutgoingMessage {
            body: String::new(),
            attributes: BTreeMap::new(),
            fifo: None,
        };
        let again = message(redriven(&message(moved, first), false), None);
        assert_eq!(first_sent_at(&again), first);
    }
}
