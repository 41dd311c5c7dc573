//! Visibility: what is held is kept invisible to others, and what is not wanted is given back.

use std::time::{Duration, Instant};

use super::{Action, Engine};
use crate::{
    drain::ack::Ticket,
    sqs::{BatchEntryError, Error, MAX_ENTRIES},
};

/// The longest time that SQS keeps a message invisible, counted from its receive.
const MAX_VISIBILITY: Duration = Duration::from_secs(12 * 3600);

/// How many messages that are kept away for the rest of a run are given back at its end. Further
/// ones come back by themselves.
const MAX_PARKED: usize = 10_000;

/// A receipt handle, and until when it is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The handle.
    pub handle: String,
    /// The held message, once it is extended.
    pub(super) ticket: Option<Ticket>,
    received_at: Instant,
    expires_at: Instant,
    extend_at: Option<Instant>,
}

impl Receipt {
    /// A receipt of a receive that began at `began`: the earliest time at which SQS can have
    /// started its clock.
    pub(super) fn new(handle: String, began: Instant, visibility: Duration) -> Self {
        Self {
            handle,
            ticket: None,
            received_at: began,
            expires_at: began + visibility,
            extend_at: Some(began + visibility / 3),
        }
    }

    pub(super) const fn extend_at(&self) -> Option<Instant> {
        self.extend_at
    }

    /// Whether the message may be in other hands.
    pub(super) fn is_expired(&self, now: Instant) -> bool {
        now >= self.expires_at
    }
}

impl Engine {
    /// Extends what has been held for a third of its time, in tens.
    pub(super) fn extend(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Some(first) = self.extend_at.filter(|_| !self.gave_up) else {
            return;
        };
        // A little later than the first, so that several come due together.
        let visibility = self.config.visibility;
        let at = first + visibility / 24;
        if now < at {
            return self.wake_by(at);
        }
        self.extend_at = None;
        let mut due = Vec::new();
        let mut next: Option<Instant> = None;
        for (ticket, held) in self.ledger.iter_mut() {
            let Some(at) = held.receipt.extend_at else {
                continue;
            };
            if at <= now {
                held.receipt.extend_at = None;
                due.push(Receipt {
                    ticket: Some(ticket),
                    ..held.receipt.clone()
                });
            } else {
                next = Some(next.map_or(at, |earlier| earlier.min(at)));
            }
        }
        for chunk in due.chunks(MAX_ENTRIES) {
            self.others += 1;
            actions.push(Action::Extend(chunk.to_vec(), visibility));
        }
        if let Some(next) = next {
            self.extend_by(Some(next));
            self.wake_by(next + visibility / 24);
        }
    }

    /// Notes when a message is to be extended.
    pub(super) fn extend_by(&mut self, at: Option<Instant>) {
        self.extend_at = match (self.extend_at, at) {
            (Some(earlier), Some(at)) => Some(earlier.min(at)),
            (earlier, at) => earlier.or(at),
        };
    }

    pub(super) fn extended(
        &mut self,
        began: Instant,
        receipts: &[Receipt],
        result: Result<Vec<Result<(), BatchEntryError>>, Error>,
    ) {
        self.others -= 1;
        let visibility = self.config.visibility;
        let results = match result {
            Ok(results) => results,
            Err(error) => {
                self.tally.reason(error.reason());
                if !error.is_transient() {
                    self.tally.notice(error.to_string());
                }
                Vec::new()
            }
        };
        for (index, receipt) in receipts.iter().enumerate() {
            let Some(held) = receipt
                .ticket
                .and_then(|ticket| self.ledger.get_mut(ticket))
            else {
                continue;
            };
            if held.receipt.handle != receipt.handle {
                continue;
            }
            match results.get(index) {
                Some(Ok(())) => {
                    let end = held.receipt.received_at + MAX_VISIBILITY;
                    held.receipt.expires_at = (began + visibility).min(end);
                    held.receipt.extend_at =
                        Some(began + visibility / 3).filter(|at| *at + visibility < end);
                }
                // In other hands, or past its time: no further beat.
                Some(Err(error)) if error.is_expired() || error.sender_fault => {}
                Some(Err(_)) | None => held.receipt.extend_at = Some(began + visibility / 6),
            }
            let next = held.receipt.extend_at;
            self.extend_by(next);
        }
    }

    /// Gives back what the run is done with, and keeps what it left once already from coming
    /// again before the run is over.
    pub(super) fn give_back(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let rest = self
            .give_up_at
            .saturating_duration_since(now)
            .min(MAX_VISIBILITY - Duration::from_secs(60));
        for chunk in std::mem::take(&mut self.away).chunks(MAX_ENTRIES) {
            self.others += 1;
            actions.push(Action::GiveBack(chunk.to_vec(), self.away()));
        }
        let park = std::mem::take(&mut self.park);
        for chunk in park.chunks(MAX_ENTRIES) {
            self.others += 1;
            actions.push(Action::GiveBack(
                chunk.to_vec(),
                rest.max(self.config.visibility),
            ));
        }
        let room = MAX_PARKED - self.parked.len();
        self.parked.extend(park.into_iter().take(room));
        if !self.is_running() && (self.is_settled() || self.gave_up) && self.others == 0 {
            self.give_back.append(&mut self.parked);
        }
        for chunk in std::mem::take(&mut self.give_back).chunks(MAX_ENTRIES) {
            self.others += 1;
            actions.push(Action::GiveBack(chunk.to_vec(), Duration::ZERO));
        }
    }
}
