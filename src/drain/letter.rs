//! Dead letters: how a run writes the rejected events of a message, and how they are read again.

use std::collections::BTreeMap;

use super::{ack::Ticket, engine::Refused};
use crate::{
    mapping::{BodyError, Source, excerpt},
    sqs::{Attribute, Message, Outgoing},
};

const REASON: &str = "EventForwarderReason";
const DETAIL: &str = "EventForwarderDetail";
const RUN: &str = "EventForwarderRun";
const MESSAGE_ID: &str = "EventForwarderMessageId";
const EVENTS: &str = "EventForwarderEvents";

/// What all attributes of a run's own begin with.
const PREFIX: &str = "EventForwarder";

/// The reason of a message that SQS itself moved, having been received too often.
pub const MOVED_BY_SQS: &str = "MovedBySqs";

/// How long a detail may be, in characters.
const MAX_DETAIL: usize = 500;

/// A dead letter to send.
#[derive(Clone, Debug)]
pub struct Letter {
    /// What is sent.
    pub outgoing: Outgoing,
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
    let mut by_reason: BTreeMap<&str, (Vec<Source>, &str)> = BTreeMap::new();
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
            let outgoing = Outgoing {
                body: excerpt.body,
                attributes: [
                    (REASON, reason.to_owned()),
                    (DETAIL, sendable(detail)),
                    (RUN, original.run.to_owned()),
                    (MESSAGE_ID, original.id.to_owned()),
                    (EVENTS, excerpt.events.to_string()),
                ]
                .map(|(name, value)| (name.to_owned(), Attribute::text(value)))
                .into(),
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

/// The message to send to the queue again, without the label.
pub fn redriven(message: &Message, is_fifo: bool) -> Outgoing {
    Outgoing {
        body: message.body.clone(),
        attributes: message
            .attributes
            .iter()
            .filter(|(name, _)| !name.starts_with(PREFIX))
            .map(|(name, attribute)| (name.clone(), attribute.clone()))
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
                source: Source { batch: 0, event },
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
            fifo_group: None,
        };
        let letters = write(&original, ticket, &refused).expect("the body is readable");
        let outgoing = &letters[0].outgoing;
        assert_eq!(outgoing.body, body);
        assert_eq!(outgoing.attributes[EVENTS].value, "300");
    }
}
