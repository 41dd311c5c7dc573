//! What a received message is to the run: new, held already, or done with before.

use std::time::Instant;

use jiff::Timestamp;

use super::{Engine, Receipt, Refused, Unread};
use crate::{
    api::RejectedEventPolicy,
    drain::{
        ack::{Admission, Ticket, Verdict},
        batch::Owner,
        blame::Cause,
    },
    mapping::MappedBody,
    sqs::Pointer,
};

/// A received message with what the mapping made of its body.
#[derive(Debug)]
pub struct Parcel {
    /// The id that SQS gave it.
    pub id: String,
    /// The handle of this receive.
    pub handle: String,
    /// The body.
    pub body: String,
    /// When it was sent.
    pub sent_at: Option<Timestamp>,
    /// Its group.
    pub group: Option<String>,
    /// What is in it.
    pub content: Content,
}

/// What is in a message.
#[derive(Debug)]
pub enum Content {
    /// Events, or why it can't be read.
    Here(Result<MappedBody, Cause>),
    /// A pointer to a payload that is still to be read.
    Elsewhere(Pointer),
}

/// A message that the run holds.
#[derive(Debug)]
pub struct Held {
    /// The id that SQS gave it.
    pub id: String,
    /// The receipt, and until when it is good.
    pub receipt: Receipt,
    /// Where the body came from, if not from the message itself.
    pub payload: Option<Pointer>,
    /// The body, for dead letters.
    pub body: String,
    /// When it was sent first.
    pub sent_at: Option<Timestamp>,
    /// Its group.
    pub group: Option<String>,
    /// The memory that it and its events take, in bytes.
    pub bytes: usize,
    /// Whether it is to come again once its user was made.
    pub(super) awaits_user: bool,
}

impl Engine {
    pub(super) fn admit(&mut self, parcel: Parcel, began: Instant, now: Instant) {
        self.tally.messages.received += 1;
        if self.gave_up {
            self.tally.messages.released += 1;
            self.give_back.push(parcel.handle);
            return;
        }
        self.tally.sent_at(parcel.sent_at);
        if self.may_send_again(&parcel, now) {
            self.ledger.forget_left(&parcel.id);
        }
        let receipt = Receipt::new(parcel.handle, began, self.config.visibility);
        self.extend_by(receipt.extend_at());
        let payload = match &parcel.content {
            Content::Here(_) => None,
            Content::Elsewhere(pointer) => Some(pointer.clone()),
        };
        let (events, events_bytes) = match &parcel.content {
            Content::Here(mapped) => (event_count(mapped), mapped.as_ref().map_or(0, event_bytes)),
            Content::Elsewhere(_) => (1, 0),
        };
        let bytes = parcel.body.len() + events_bytes;
        self.intake.sizes.add(parcel.body.len(), events_bytes);
        let held = Held {
            sent_at: parcel.sent_at,
            id: parcel.id.clone(),
            receipt,
            payload,
            body: parcel.body,
            group: parcel.group.clone(),
            bytes,
            awaits_user: false,
        };
        match self
            .ledger
            .admit(&parcel.id, parcel.group.as_deref(), events, held)
        {
            Admission::New(ticket) => {
                self.intake.held_bytes += bytes;
                return match parcel.content {
                    Content::Here(mapped) => self.arrived(ticket, mapped, now),
                    Content::Elsewhere(_) if self.is_stopping() => {
                        self.ledger.settle(ticket, Verdict::Left);
                    }
                    Content::Elsewhere(pointer) => self.reading.wanted(Unread {
                        ticket,
                        id: parcel.id,
                        pointer,
                        sent_at: parcel.sent_at,
                    }),
                };
            }
            Admission::Held(ticket, newer) => {
                if let Some(held) = self.ledger.get_mut(ticket) {
                    held.receipt = newer.receipt;
                }
            }
            Admission::Settled(settled) => self.delete_copy(settled, now),
            Admission::Lost(settled) => return self.delete_later(settled, now),
            Admission::Left(held) => self.park.push(held.receipt.handle),
        }
        self.tally.messages.duplicate += 1;
    }

    /// Sends the events of a new message on their ways.
    pub(super) fn distribute(
        &mut self,
        ticket: Ticket,
        mapped: Result<MappedBody, Cause>,
        now: Instant,
    ) {
        let mapped = match mapped {
            Ok(mapped) => mapped,
            Err(cause) => {
                self.tally.reason(&cause.reason);
                self.tally
                    .notice(format!("could not parse a message: {}", cause.detail));
                self.ledger.settle(ticket, Verdict::Left);
                return;
            }
        };
        for (note, times) in mapped.warnings.iter() {
            self.tally.reasons(note.as_str(), times);
        }
        for skipped in &mapped.skipped {
            self.tally.events.skipped += 1;
            self.tally.reason(skipped.reason.as_str());
        }
        for rejected in mapped.rejected {
            let cause = Cause {
                reason: rejected.reason.as_str().to_owned(),
                detail: rejected.detail,
            };
            self.reject(
                Owner {
                    ticket,
                    source: rejected.source,
                },
                cause,
                rejected.count,
            );
        }
        for event in mapped.events {
            let owner = Owner {
                ticket,
                source: event.source(),
            };
            if self.is_stopping() {
                self.ledger.settle(ticket, Verdict::Left);
            } else {
                self.batcher.push(event, owner, now);
            }
        }
    }

    /// Settles a rejected event, or one that stands for so many, as the user wants it.
    pub(super) fn reject(&mut self, owner: Owner, cause: Cause, count: u32) {
        self.tally.events.rejected += u64::from(count);
        self.tally.reasons(&cause.reason, u64::from(count));
        let verdict = match self.config.rejected {
            RejectedEventPolicy::DeadLetter => {
                if self.config.dead_letter_bytes.is_some() {
                    Verdict::Rejected(Refused {
                        source: owner.source,
                        cause,
                    })
                } else {
                    self.tally.notice(
                        "no dead-letter queue found, so messages with rejected events stay in the \
                         queue: add a redrive policy to it, or set spec.drain.rejected to Drop",
                    );
                    Verdict::Left
                }
            }
            RejectedEventPolicy::Leave => Verdict::Left,
            RejectedEventPolicy::Drop => Verdict::Done,
        };
        self.ledger.settle(owner.ticket, verdict);
    }
}

/// The number of events that are to be settled: one for a message that can't be read.
pub(super) fn event_count(mapped: &Result<MappedBody, Cause>) -> usize {
    mapped
        .as_ref()
        .map_or(1, |mapped| mapped.events.len() + mapped.rejected.len())
}

/// The memory that the events of a message take, in bytes.
pub(super) fn event_bytes(mapped: &MappedBody) -> usize {
    mapped.events.iter().map(|event| event.json().len()).sum()
}
