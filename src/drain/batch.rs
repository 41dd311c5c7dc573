//! Puts the events of many messages together into requests. Pure.

use std::{
    collections::{HashMap, VecDeque},
    ops::RangeInclusive,
    time::Instant,
};

use super::ack::Ticket;
use crate::mapping::{EventPosition, MappedEvent};

const HEAD: &str = r#"{"events":["#;
const TAIL: &str = "]}";

/// Which event of which message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The message.
    pub ticket: Ticket,
    /// The event in its body.
    pub source: EventPosition,
}

/// An event to send, and whose it is.
#[derive(Clone, Debug)]
pub struct Item {
    /// The event.
    pub event: MappedEvent,
    /// The message that it came with.
    pub owner: Owner,
    /// Further messages that hold the very same event.
    pub twins: Vec<Owner>,
}

impl Item {
    /// Every message that waits for this event.
    pub fn owners(&self) -> impl Iterator<Item = Owner> {
        std::iter::once(self.owner).chain(self.twins.iter().copied())
    }
}

/// The events of one request.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// The events, in order.
    pub items: Vec<Item>,
    /// How often just these were sent without a usable answer.
    pub attempts: u32,
    /// How often a guess at the culprit has split this request off.
    pub guesses: u32,
}

impl Group {
    /// The encoded request body.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.bytes());
        body.extend_from_slice(HEAD.as_bytes());
        for (index, item) in self.items.iter().enumerate() {
            if index > 0 {
                body.push(b',');
            }
            body.extend_from_slice(item.event.json().as_bytes());
        }
        body.extend_from_slice(TAIL.as_bytes());
        body
    }

    /// The size of the encoded request body.
    pub fn bytes(&self) -> usize {
        let events: usize = self.items.iter().map(|item| item.event.json().len()).sum();
        HEAD.len() + events + self.items.len().saturating_sub(1) + TAIL.len()
    }

    /// The two halves, in order, of a group of more than one event.
    pub fn halves(mut self) -> [Self; 2] {
        let right = self.items.split_off(self.items.len().div_ceil(2));
        let guesses = self.guesses;
        [
            Self {
                attempts: 0,
                ..self
            },
            Self {
                items: right,
                attempts: 0,
                guesses,
            },
        ]
    }

    /// Splits off the events at these positions (ascending): those, and the rest.
    pub fn split(self, positions: &[usize]) -> [Self; 2] {
        self.parts(|index| usize::from(positions.binary_search(&index).is_err()))
    }

    /// The events before a range of positions, those in it, and those after it.
    pub fn cut(self, range: &RangeInclusive<usize>) -> [Self; 3] {
        self.parts(|index| usize::from(index >= *range.start()) + usize::from(index > *range.end()))
    }

    fn parts<const N: usize>(self, part_of: impl Fn(usize) -> usize) -> [Self; N] {
        let mut parts = std::array::from_fn(|_| Self {
            guesses: self.guesses + 1,
            ..Self::default()
        });
        for (index, item) in self.items.into_iter().enumerate() {
            #[expect(
                clippy::indexing_slicing,
                reason = "split and cut number the parts from 0 to N - 1, and no event may be lost"
            )]
            parts[part_of(index)].items.push(item);
        }
        parts
    }
}

/// The largest request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// Events.
    pub events: usize,
    /// Bytes of the whole encoded body.
    pub bytes: usize,
}

/// Gathers events into requests of the largest size allowed.
#[derive(Debug)]
pub struct Batcher {
    allowed: RequestLimits,
    limits: RequestLimits,
    taken: RequestLimits,
    forming: Group,
    bytes: usize,
    ids: HashMap<String, usize>,
    since: Option<Instant>,
    full: VecDeque<Group>,
}

impl Batcher {
    /// An empty batcher.
    pub fn new(limits: RequestLimits) -> Self {
        Self {
            allowed: limits,
            limits,
            taken: RequestLimits {
                events: 1,
                bytes: 1,
            },
            forming: Group::default(),
            bytes: 0,
            ids: HashMap::new(),
            since: None,
            full: VecDeque::new(),
        }
    }

    /// Adds an event. One that is in the forming request already is not sent twice in it, as
    /// Iterable doesn't say how it counts two events of one id.
    pub fn push(&mut self, event: MappedEvent, owner: Owner, now: Instant) {
        let position = self.ids.get(event.id()).copied();
        if let Some(first) = position.and_then(|position| self.forming.items.get_mut(position)) {
            if first.event.json() == event.json() {
                first.twins.push(owner);
                return;
            }
            self.close();
        }
        let grown = self.bytes + event.json().len() + 1;
        if self.forming.items.len() >= self.limits.events
            || (!self.forming.items.is_empty()
                && HEAD.len() + grown + TAIL.len() - 1 > self.limits.bytes)
        {
            self.close();
        }
        self.since.get_or_insert(now);
        self.bytes += event.json().len() + 1;
        self.ids
            .insert(event.id().to_owned(), self.forming.items.len());
        self.forming.items.push(Item {
            event,
            owner,
            twins: Vec::new(),
        });
    }

    /// The next full request.
    pub fn take_full(&mut self) -> Option<Group> {
        if self.full.is_empty() && self.forming.items.len() >= self.limits.events {
            self.close();
        }
        self.full.pop_front()
    }

    /// The next request, full or not.
    pub fn take_any(&mut self) -> Option<Group> {
        self.take_full().or_else(|| {
            self.close();
            self.full.pop_front()
        })
    }

    /// When the first event of the forming request came.
    pub const fn forming_since(&self) -> Option<Instant> {
        self.since
    }

    /// The number of full requests.
    pub fn full_requests(&self) -> usize {
        self.full.len() + usize::from(self.forming.items.len() >= self.limits.events)
    }

    /// The number of requests that what is gathered will take.
    pub fn requests(&self) -> usize {
        self.full.len() + usize::from(!self.forming.items.is_empty())
    }

    /// Iterable took a request as large as this.
    pub fn confirm(&mut self, group: &Group) {
        self.taken.events = self.taken.events.max(group.items.len());
        self.taken.bytes = self.taken.bytes.max(group.bytes());
    }

    /// A request was too large. Later ones are no larger than half of it, or than the largest
    /// that was taken. If it was one event alone, that is the culprit, and tells nothing about
    /// requests of others: they may be as large as allowed again.
    pub fn shrink(&mut self, group: &Group) {
        if group.items.len() == 1 {
            self.limits = self.allowed;
            return;
        }
        let events = group.items.len().div_ceil(2).max(self.taken.events);
        let bytes = group.bytes().div_ceil(2).max(self.taken.bytes);
        self.limits.events = self.limits.events.min(events);
        self.limits.bytes = self.limits.bytes.min(bytes);
    }

    fn close(&mut self) {
        if !self.forming.items.is_empty() {
            self.full.push_back(std::mem::take(&mut self.forming));
        }
        self.bytes = 0;
        self.ids.clear();
        self.since = None;
    }
}
