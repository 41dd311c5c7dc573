//! Which message may be deleted. Pure: no clock, no network, only what was settled.
//!
//! A message is held from its receive until a [`Decision`] on it. [`Settled`] can be made here
//! only, and only settled messages are deleted, so that no other part of a run can delete one
//! too early.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use sha2::{Digest, Sha256};

/// How many of the messages that a run is done with are remembered, so that a second copy is not
/// sent again. One that comes later is sent once more, which changes nothing in Iterable.
const REMEMBERED: usize = 28_000;

/// Names a message that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u64);

/// What became of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<R> {
    /// Nothing is left to do: Iterable took it, or the user's rules discard it.
    Done,
    /// It is for the dead-letter queue.
    Rejected(R),
    /// Its message has to stay in the queue.
    Left,
}

/// What is to be done with a message of which all events are settled.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision<M, R> {
    /// Delete it.
    Delete(Settled<M>),
    /// Put these events into the dead-letter queue, then call [`Ledger::dead_lettered`]. The
    /// message is held until then.
    DeadLetter(Ticket, Vec<R>),
    /// Leave it in the queue. It is no longer held.
    Leave(M),
}

/// A message that may be deleted: all its events are settled.
#[derive(Debug, PartialEq, Eq)]
pub struct Settled<M>(M);

impl<M> Settled<M> {
    /// The message.
    pub const fn message(&self) -> &M {
        &self.0
    }

    /// The same message with other data kept of it.
    pub fn map<N>(self, keep: impl FnOnce(M) -> N) -> Settled<N> {
        Settled(keep(self.0))
    }
}

/// What a received message is to the run.
#[derive(Debug, PartialEq, Eq)]
pub enum Admission<M> {
    /// Not seen before: it is held now.
    New(Ticket),
    /// It is held already. This is the newer copy, with the newer receipt.
    Held(Ticket, M),
    /// All its events were settled before: only the delete is missing.
    Settled(Settled<M>),
    /// As [`Admission::Settled`], and the delete of the copy before it was given up.
    Lost(Settled<M>),
    /// It was left in the queue by this run.
    Left(M),
}

/// The messages that a run holds. `M` is what is kept of a message, `R` of a refused event.
#[derive(Debug)]
pub struct Ledger<M, R> {
    fifo: bool,
    next: u64,
    held: HashMap<Ticket, Entry<M, R>>,
    by_id: HashMap<MessageId, Ticket>,
    groups: HashMap<Arc<str>, Line>,
    past: Past,
    decisions: Vec<Decision<M, R>>,
}

#[derive(Debug)]
struct Entry<M, R> {
    id: MessageId,
    message: M,
    group: Option<Arc<str>>,
    open: usize,
    refused: Vec<R>,
    left: bool,
    dead_letter: DeadLetter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DeadLetter {
    NotAsked,
    Asked,
    Sent,
}

/// The held messages of one group of a FIFO queue, in the order of their receive.
#[derive(Debug, Default)]
struct Line {
    tickets: VecDeque<Ticket>,
    /// One before them was left, so they are left too, and come again behind it.
    broken: bool,
}

/// An id that SQS gave, shortened to 128 bits of its digest.
type MessageId = [u8; 16];

impl<M, R> Ledger<M, R> {
    /// An empty ledger. On a `fifo` queue no message is deleted before, or in spite of, an
    /// earlier one of its group.
    pub fn new(fifo: bool) -> Self {
        Self {
            fifo,
            next: 0,
            held: HashMap::new(),
            by_id: HashMap::new(),
            groups: HashMap::new(),
            past: Past::default(),
            decisions: Vec::new(),
        }
    }

    /// Takes in a received message with the number of its events that are to be settled.
    pub fn admit(
        &mut self,
        id: &str,
        group: Option<&str>,
        events: usize,
        message: M,
    ) -> Admission<M> {
        let id = message_id(id);
        if let Some(ticket) = self.by_id.get(&id) {
            return Admission::Held(*ticket, message);
        }
        match self.past.fate(id) {
            Some(Fate::Settled) => return Admission::Settled(Settled(message)),
            Some(Fate::Lost) => {
                self.past.remember(id, Fate::Settled);
                return Admission::Lost(Settled(message));
            }
            Some(Fate::Left) => return Admission::Left(message),
            None => {}
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        let group = group.filter(|_| self.fifo).map(Arc::from);
        if let Some(group) = &group {
            self.groups
                .entry(Arc::clone(group))
                .or_default()
                .tickets
                .push_back(ticket);
        }
        self.by_id.insert(id, ticket);
        self.held.insert(
            ticket,
            Entry {
                id,
                message,
                group,
                open: events,
                refused: Vec::new(),
                left: false,
                dead_letter: DeadLetter::NotAsked,
            },
        );
        self.advance(ticket);
        Admission::New(ticket)
    }

    /// Notes that a settled message could not be deleted, and will come again.
    pub fn lost(&mut self, id: &str) {
        self.past.remember(message_id(id), Fate::Lost);
    }

    /// Forgets that a message was left, so that it is new when it comes again.
    pub fn forget_left(&mut self, id: &str) {
        self.past.forget_left(message_id(id));
    }

    /// Says how many events a held message turned out to have, which was admitted with one.
    pub fn expect(&mut self, ticket: Ticket, events: usize) {
        if let Some(entry) = self.held.get_mut(&ticket) {
            entry.open = events;
            self.advance(ticket);
        }
    }

    /// Settles one event of a held message.
    pub fn settle(&mut self, ticket: Ticket, verdict: Verdict<R>) {
        let Some(entry) = self.held.get_mut(&ticket) else {
            return;
        };
        entry.open = entry.open.saturating_sub(1);
        match verdict {
            Verdict::Done => {}
            Verdict::Rejected(refused) => entry.refused.push(refused),
            Verdict::Left => entry.left = true,
        }
        self.advance(ticket);
    }

    /// Says whether the dead letters of a message were sent. If not, the message is left.
    pub fn dead_lettered(&mut self, ticket: Ticket, sent: bool) {
        let Some(entry) = self.held.get_mut(&ticket) else {
            return;
        };
        entry.dead_letter = DeadLetter::Sent;
        entry.left |= !sent;
        self.advance(ticket);
    }

    /// What has been decided since the last call.
    pub fn decisions(&mut self) -> Vec<Decision<M, R>> {
        std::mem::take(&mut self.decisions)
    }

    /// Lets go of all messages that are held, undecided as they are.
    pub fn release(&mut self) -> Vec<M> {
        self.groups.clear();
        self.by_id.clear();
        let past = &mut self.past;
        self.held
            .drain()
            .map(|(_, entry)| {
                past.remember(entry.id, Fate::Left);
                entry.message
            })
            .collect()
    }

    /// Whether a message will be left whatever becomes of its other events, since an earlier
    /// one of its group is left.
    pub fn is_lost(&self, ticket: Ticket) -> bool {
        let line = self
            .held
            .get(&ticket)
            .and_then(|entry| self.groups.get(entry.group.as_ref()?));
        let Some(line) = line else { return false };
        let earlier = line.tickets.iter().take_while(|other| **other != ticket);
        line.broken
            || earlier
                .filter_map(|other| self.held.get(other))
                .any(|entry| entry.left)
    }

    /// A held message.
    pub fn get_mut(&mut self, ticket: Ticket) -> Option<&mut M> {
        self.held.get_mut(&ticket).map(|entry| &mut entry.message)
    }

    /// All held messages.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Ticket, &mut M)> {
        self.held
            .iter_mut()
            .map(|(ticket, entry)| (*ticket, &mut entry.message))
    }

    /// The number of messages that are held.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Decides on the message, and on a FIFO queue on those behind it, as far as possible.
    fn advance(&mut self, ticket: Ticket) {
        let Some(group) = self.held.get(&ticket).and_then(|entry| entry.group.clone()) else {
            self.decide(ticket, false);
            return;
        };
        while let Some(line) = self.groups.get(&group) {
            let (Some(first), broken) = (line.tickets.front().copied(), line.broken) else {
                break;
            };
            let Some(kept) = self.decide(first, broken) else {
                return;
            };
            let Some(line) = self.groups.get_mut(&group) else {
                return;
            };
            line.tickets.pop_front();
            line.broken |= !kept;
        }
        self.groups.remove(&group);
    }

    /// Decides on a message if all its events are settled. Answers whether it may be deleted;
    /// none if it is still held.
    fn decide(&mut self, ticket: Ticket, broken: bool) -> Option<bool> {
        let entry = self.held.get_mut(&ticket)?;
        if entry.open > 0 || entry.dead_letter == DeadLetter::Asked {
            return None;
        }
        let leave = entry.left || broken;
        if !leave && !entry.refused.is_empty() && entry.dead_letter == DeadLetter::NotAsked {
            entry.dead_letter = DeadLetter::Asked;
            let refused = std::mem::take(&mut entry.refused);
            self.decisions.push(Decision::DeadLetter(ticket, refused));
            return None;
        }
        let entry = self.held.remove(&ticket)?;
        self.by_id.remove(&entry.id);
        let fate = if leave { Fate::Left } else { Fate::Settled };
        self.past.remember(entry.id, fate);
        self.decisions.push(if leave {
            Decision::Leave(entry.message)
        } else {
            Decision::Delete(Settled(entry.message))
        });
        Some(!leave)
    }
}

/// What the run has made of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It stayed in the queue.
    Left,
    /// It is deleted, or about to be.
    Settled,
    /// It was to be deleted, which failed.
    Lost,
}

/// The messages that the run is done with, and what became of each: the newest
/// [`REMEMBERED`], and up to as many before them.
#[derive(Debug, Default)]
struct Past {
    newer: HashMap<MessageId, Fate>,
    older: HashMap<MessageId, Fate>,
}

impl Past {
    fn fate(&self, id: MessageId) -> Option<Fate> {
        self.newer.get(&id).or_else(|| self.older.get(&id)).copied()
    }

    fn forget_left(&mut self, id: MessageId) {
        for part in [&mut self.newer, &mut self.older] {
            if part.get(&id) == Some(&Fate::Left) {
                part.remove(&id);
            }
        }
    }

    fn remember(&mut self, id: MessageId, fate: Fate) {
        if self.newer.len() >= REMEMBERED {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(id, fate);
    }
}

fn message_id(id: &str) -> MessageId {
    let mut bytes = [0; 16];
    for (byte, of_digest) in bytes.iter_mut().zip(Sha256::digest(id)) {
        *byte = of_digest;
    }
    bytes
}

#[cfg(test)]
mod tests;
