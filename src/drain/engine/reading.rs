//! Payloads: which are read when, so that what is held stays within its bound, and in which order
//! their messages go on.
//!
//! A message is held from its receive, and so kept invisible while its payload waits for room.

use std::{collections::VecDeque, time::Instant};

use jiff::Timestamp;

use super::{
    Action, Engine,
    admission::{event_bytes, event_count},
};
use crate::{
    drain::{
        ack::{Ticket, Verdict},
        blame::Cause,
    },
    mapping::MappedBody,
    sqs::{PayloadError, Pointer},
};

/// A message whose payload is to be read.
#[derive(Debug)]
pub struct Unread {
    /// The message.
    pub ticket: Ticket,
    /// The id that SQS gave it.
    pub id: String,
    /// Where the payload lies.
    pub pointer: Pointer,
    /// When the message was sent.
    pub sent_at: Option<Timestamp>,
}

/// A payload that was read.
#[derive(Debug)]
pub struct Opened {
    /// Its text.
    pub body: String,
    /// The events in it, or why it can't be read.
    pub mapped: Result<MappedBody, Cause>,
}

/// Messages whose payloads are not read yet, and on a FIFO queue those behind them.
#[derive(Debug, Default)]
pub struct Reading {
    line: VecDeque<(Ticket, State)>,
    under_way: usize,
    reserved: usize,
}

#[derive(Debug)]
enum State {
    Wanted(Unread),
    UnderWay,
    Ready(Result<MappedBody, Cause>),
}

impl Reading {
    pub(super) const fn under_way(&self) -> usize {
        self.under_way
    }

    /// The memory set aside for payloads that are read.
    pub(super) const fn reserved_bytes(&self) -> usize {
        self.reserved
    }

    /// Whether a payload waits for room.
    pub(super) fn is_waiting(&self) -> bool {
        self.line
            .iter()
            .any(|(_, state)| matches!(state, State::Wanted(_)))
    }

    pub(super) fn wanted(&mut self, unread: Unread) {
        self.line.push_back((unread.ticket, State::Wanted(unread)));
    }

    fn put(&mut self, ticket: Ticket, state: State) {
        if let Some((_, old)) = self.line.iter_mut().find(|(other, _)| *other == ticket) {
            *old = state;
        }
    }
}

/// The memory that a payload of so many bytes takes, with the events made of it.
const fn room(bytes: usize) -> usize {
    bytes * 2
}

impl Engine {
    /// The memory that the largest payload may take.
    pub(super) fn largest_room(&self) -> usize {
        self.config.max_payload_bytes.map_or(0, room)
    }

    /// Reads payloads in the order of their messages, as many at once as there is room for.
    pub(super) fn read_payloads(&mut self, actions: &mut Vec<Action>) {
        let max = self.config.max_payload_bytes.unwrap_or(0);
        // On a FIFO queue all that is held may be waiting for one payload.
        let mut is_stuck = self.reading.under_way == 0
            && self.posting == 0
            && self.again.is_empty()
            && self.batcher.requests() == 0
            && !self.letters.is_busy();
        for (_, state) in &mut self.reading.line {
            let State::Wanted(unread) = state else {
                continue;
            };
            let told = unread.pointer.bytes.and_then(|told| told.try_into().ok());
            let limit = told.unwrap_or(max).min(max);
            let taken = self.intake.held_bytes + self.reading.reserved;
            if taken + room(limit) > self.config.max_bytes && !is_stuck {
                return;
            }
            is_stuck = false;
            self.reading.under_way += 1;
            self.reading.reserved += room(limit);
            if let State::Wanted(unread) = std::mem::replace(state, State::UnderWay) {
                actions.push(Action::Read(unread, limit));
            }
        }
    }

    pub(super) fn read(
        &mut self,
        mut unread: Unread,
        limit: usize,
        result: Result<Opened, PayloadError>,
        now: Instant,
    ) {
        let ticket = unread.ticket;
        self.reading.under_way -= 1;
        self.reading.reserved -= room(limit);
        let state = match result {
            Ok(Opened { body, mapped }) => {
                if let Some(held) = self.ledger.get_mut(ticket) {
                    let bytes = body.len() + mapped.as_ref().map_or(0, event_bytes);
                    self.intake.held_bytes += bytes.saturating_sub(held.bytes);
                    held.bytes = held.bytes.max(bytes);
                    held.body = body;
                }
                State::Ready(mapped)
            }
            Err(PayloadError::TooLarge { bytes, .. }) if self.is_allowed(bytes, limit) => {
                unread.pointer.bytes = Some(bytes);
                State::Wanted(unread)
            }
            Err(error) => State::Ready(Err(Cause {
                reason: error.reason().to_owned(),
                detail: error.to_string(),
            })),
        };
        self.reading.put(ticket, state);
        self.pass_on(now);
    }

    /// Whether a payload that is larger than its sender told may be read all the same.
    fn is_allowed(&self, bytes: u64, limit: usize) -> bool {
        usize::try_from(bytes)
            .is_ok_and(|bytes| bytes > limit && bytes <= self.config.max_payload_bytes.unwrap_or(0))
    }

    /// Takes in a message that was read. On a FIFO queue it stays behind those before it.
    pub(super) fn arrived(
        &mut self,
        ticket: Ticket,
        mapped: Result<MappedBody, Cause>,
        now: Instant,
    ) {
        if self.config.fifo && !self.reading.line.is_empty() {
            self.reading.line.push_back((ticket, State::Ready(mapped)));
        } else {
            self.distribute(ticket, mapped, now);
        }
    }

    fn pass_on(&mut self, now: Instant) {
        let mut rest = VecDeque::new();
        while let Some((ticket, state)) = self.reading.line.pop_front() {
            match state {
                State::Ready(mapped) if !self.config.fifo || rest.is_empty() => {
                    self.ledger.expect(ticket, event_count(&mapped));
                    self.distribute(ticket, mapped, now);
                }
                state => rest.push_back((ticket, state)),
            }
        }
        self.reading.line = rest;
    }

    /// Leaves what is not read yet.
    pub(super) fn leave_unread(&mut self) {
        for (ticket, _) in std::mem::take(&mut self.reading.line) {
            self.ledger.expect(ticket, 1);
            self.ledger.settle(ticket, Verdict::Left);
        }
    }
}
