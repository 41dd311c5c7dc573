//! Settled messages: dead letters for their rejected events, and deletes.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use super::{Action, Engine, Held, Receipt, Refused};
use crate::{
    api::RejectedEventPolicy,
    drain::{
        ack::{Decision, Settled, Ticket},
        letter::{self, Letter, Original},
        report::{DEAD_LETTER_QUEUE_DENIED, Outcome},
        retry::back_off,
    },
    sqs::{BatchEntryError, Error, MAX_ENTRIES, MAX_MESSAGE_BYTES, Pointer},
};

/// How often a delete, or the send of a dead letter, is tried.
const MAX_TRIES: u32 = 5;

/// How many deletes are under way at once.
const MAX_DELETING: usize = 8;

/// A message to delete.
#[derive(Debug)]
pub struct Deletion {
    /// The message.
    pub settled: Settled<Leaving>,
    /// Whether it is not a further copy of a message, which counts as a duplicate already.
    counts: bool,
    tries: u32,
    not_before: Option<Instant>,
}

/// What is kept of a settled message.
#[derive(Debug)]
pub struct Leaving {
    /// The id that SQS gave it.
    id: String,
    /// Its receipt.
    pub receipt: Receipt,
    /// What is deleted after it.
    payload: Option<Pointer>,
}

/// Dead letters that wait, and how many of a message's are still out.
#[derive(Debug, Default)]
pub struct Letters {
    waiting: VecDeque<Letter>,
    not_before: Option<Instant>,
    open: HashMap<Ticket, (usize, bool)>,
}

impl Engine {
    /// Acts on what the ledger has decided.
    pub(super) fn decide(&mut self, now: Instant) {
        loop {
            let decisions = self.ledger.decisions();
            if decisions.is_empty() {
                return;
            }
            for decision in decisions {
                match decision {
                    Decision::Delete(settled) => {
                        self.intake.freed(settled.message().bytes);
                        self.delete_later(settled, now);
                    }
                    Decision::DeadLetter(ticket, refused) => self.write_letters(ticket, &refused),
                    Decision::Leave(held) => {
                        self.intake.freed(held.bytes);
                        self.tally.messages.released += 1;
                        if self.is_stopping() {
                            self.give_back.push(held.receipt.handle);
                        } else if held.awaits_user {
                            self.away.push(held.receipt.handle);
                        }
                    }
                }
            }
        }
    }

    pub(super) fn delete_later(&mut self, settled: Settled<Held>, now: Instant) {
        self.deletions.push_back(Deletion::new(settled, true));
        self.deletions_since.get_or_insert(now);
    }

    /// Deletes a settled message that came again: by its newest handle if its delete still waits.
    pub(super) fn delete_copy(&mut self, settled: Settled<Held>, now: Instant) {
        let copy = Deletion::new(settled, false);
        let id = &copy.settled.message().id;
        let mut waiting = self.deletions.iter_mut();
        if let Some(first) = waiting.find(|one| one.settled.message().id == *id) {
            first.settled = copy.settled;
        } else {
            self.deletions.push_back(copy);
            self.deletions_since.get_or_insert(now);
        }
    }

    /// Deletes in tens; fewer only when nothing more is about to be settled.
    pub(super) fn delete(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.drop_expired(now);
        while self.deleting < MAX_DELETING {
            let ready = self
                .deletions
                .iter()
                .filter(|one| one.is_ready(now))
                .take(MAX_ENTRIES)
                .count();
            if ready == 0 || (ready < MAX_ENTRIES && !self.is_last_delete(now)) {
                break;
            }
            let mut batch = Vec::new();
            let mut early = Vec::new();
            while batch.len() < ready {
                let Some(one) = self.deletions.pop_front() else {
                    break;
                };
                if one.is_ready(now) {
                    batch.push(one);
                } else {
                    early.push(one);
                }
            }
            for one in early.into_iter().rev() {
                self.deletions.push_front(one);
            }
            self.deleting += 1;
            self.deleting_messages += batch.iter().filter(|one| one.counts).count();
            self.deletions_since = (!self.deletions.is_empty()).then_some(now);
            actions.push(Action::Delete(batch));
        }
        let next = self
            .deletions
            .iter()
            .filter_map(|one| one.not_before)
            .filter(|at| *at > now)
            .min();
        if let Some(next) = next {
            self.wake_by(next);
        }
    }

    /// Deletes the payloads of deleted messages. One that stays behind is of no harm; a message
    /// whose payload is gone would be.
    pub(super) fn delete_payloads(&mut self, actions: &mut Vec<Action>) {
        for payload in std::mem::take(&mut self.payloads) {
            self.others += 1;
            actions.push(Action::DeletePayload(payload));
        }
    }

    /// Whether a delete of fewer than ten should wait no longer.
    fn is_last_delete(&mut self, now: Instant) -> bool {
        let more_comes = self.posting > 0
            || !self.again.is_empty()
            || self.batcher.requests() > 0
            || self.intake.under_way() > 0
            || self.reading.under_way() > 0
            || self.letters.is_busy();
        if !more_comes {
            return true;
        }
        let Some(since) = self.deletions_since else {
            return false;
        };
        // Time enough to be joined by others, far from the end of their own.
        let until = since + self.config.visibility / 6;
        if now < until {
            self.wake_by(until);
        }
        now >= until
    }

    fn drop_expired(&mut self, now: Instant) {
        let (expired, good) = std::mem::take(&mut self.deletions)
            .into_iter()
            .partition::<VecDeque<_>, _>(|one| one.settled.message().receipt.is_expired(now));
        self.deletions = good;
        for one in &expired {
            self.lose(one, "HandleExpired");
        }
    }

    /// Counts the messages of which it is not known whether they were deleted.
    pub(super) fn lose_rest(&mut self) {
        for one in std::mem::take(&mut self.deletions) {
            self.lose(&one, "DeleteFailed");
        }
        self.tally.messages.released += self.deleting_messages as u64;
    }

    /// A settled message that can't be deleted: it will come again.
    fn lose(&mut self, deletion: &Deletion, reason: &str) {
        self.tally.reason(reason);
        if deletion.counts {
            self.tally.messages.released += 1;
            self.ledger.lost(&deletion.settled.message().id);
        }
    }

    pub(super) fn deleted(
        &mut self,
        deletions: Vec<Deletion>,
        result: Result<Vec<Result<(), BatchEntryError>>, Error>,
        now: Instant,
    ) {
        self.deleting -= 1;
        self.deleting_messages -= deletions.iter().filter(|one| one.counts).count();
        let results = match result {
            Ok(results) => results,
            Err(error) if error.is_transient() => {
                self.tally.reason(error.reason());
                Vec::new()
            }
            Err(error) => {
                self.tally.notice(error.to_string());
                for one in &deletions {
                    self.lose(one, "DeleteFailed");
                }
                self.stop(Outcome::of_queue(&error), now);
                return;
            }
        };
        for (index, mut deletion) in deletions.into_iter().enumerate() {
            match results.get(index) {
                Some(Ok(())) => {
                    self.tally.messages.deleted += u64::from(deletion.counts);
                    self.payloads
                        .extend(deletion.settled.message().payload.clone());
                }
                Some(Err(error)) if error.is_expired() => self.lose(&deletion, "HandleExpired"),
                Some(Err(error)) if error.sender_fault => {
                    self.tally
                        .notice(format!("could not delete a message: {error}"));
                    self.lose(&deletion, "DeleteFailed");
                }
                _ => {
                    deletion.tries += 1;
                    if deletion.tries < MAX_TRIES && !self.gave_up {
                        let wait =
                            Duration::from_millis(100 << deletion.tries).mul_f64(self.dice.f64());
                        deletion.not_before = Some(now + wait);
                        self.deletions.push_back(deletion);
                        self.deletions_since.get_or_insert(now);
                    } else {
                        self.lose(&deletion, "DeleteFailed");
                    }
                }
            }
        }
    }

    fn write_letters(&mut self, ticket: Ticket, refused: &[Refused]) {
        let Some(held) = self.ledger.get_mut(ticket) else {
            return;
        };
        let original = Original {
            run: &self.config.run,
            id: &held.id,
            body: &held.body,
            sent_at: held.sent_at,
            fifo_group: self
                .config
                .fifo
                .then(|| held.group.as_deref().unwrap_or("default")),
        };
        let limit = self
            .config
            .dead_letter_bytes
            .unwrap_or(0)
            .min(MAX_MESSAGE_BYTES);
        let letters = letter::write(&original, ticket, refused)
            .ok()
            .filter(|letters| {
                letters
                    .iter()
                    .all(|letter| letter.outgoing.bytes() <= limit)
            });
        match letters {
            Some(letters) if self.config.rejected == RejectedEventPolicy::DeadLetter => {
                self.letters.open.insert(ticket, (letters.len(), true));
                self.letters.waiting.extend(letters);
            }
            Some(_) => self.ledger.dead_lettered(ticket, false),
            None => {
                self.tally.reason("DeadLetterTooLarge");
                self.ledger.dead_lettered(ticket, false);
            }
        }
    }

    pub(super) fn send_dead_letters(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if let Some(at) = self.letters.not_before.filter(|at| *at > now) {
            if !self.letters.waiting.is_empty() {
                self.wake_by(at);
            }
            return;
        }
        while !self.letters.waiting.is_empty() {
            let mut batch: Vec<Letter> = Vec::new();
            let mut bytes = 0;
            while let Some(letter) = self.letters.waiting.front() {
                bytes += letter.outgoing.bytes();
                if batch.len() >= MAX_ENTRIES || (!batch.is_empty() && bytes > MAX_MESSAGE_BYTES) {
                    break;
                }
                batch.extend(self.letters.waiting.pop_front());
            }
            self.others += 1;
            actions.push(Action::SendDeadLetters(batch));
        }
    }

    pub(super) fn sent_dead_letters(
        &mut self,
        letters: Vec<Letter>,
        result: Result<Vec<Result<(), BatchEntryError>>, Error>,
        now: Instant,
    ) {
        self.others -= 1;
        let results = match result {
            Ok(results) => results,
            Err(error) => {
                if !error.is_transient() {
                    // Messages with rejected events stay, from here on.
                    self.tally.reason(DEAD_LETTER_QUEUE_DENIED);
                    self.tally.notice(error.to_string());
                    self.config.rejected = RejectedEventPolicy::Leave;
                    letters
                        .iter()
                        .for_each(|letter| self.letter_settled(letter.ticket, false));
                    return;
                }
                Vec::new()
            }
        };
        for (index, mut letter) in letters.into_iter().enumerate() {
            match results.get(index) {
                Some(Ok(())) => self.letter_settled(letter.ticket, true),
                Some(Err(error)) if error.sender_fault => {
                    self.tally.reason("DeadLetterRejected");
                    self.tally
                        .notice(format!("the dead-letter queue rejected a message: {error}"));
                    self.letter_settled(letter.ticket, false);
                }
                _ => {
                    letter.tries += 1;
                    if letter.tries < MAX_TRIES && !self.gave_up {
                        let wait = back_off(letter.tries, self.dice.f64());
                        self.letters.not_before = self.letters.not_before.max(Some(now + wait));
                        self.letters.waiting.push_back(letter);
                    } else {
                        self.tally.reason("DeadLetterNotSent");
                        self.letter_settled(letter.ticket, false);
                    }
                }
            }
        }
    }

    fn letter_settled(&mut self, ticket: Ticket, sent: bool) {
        let Some((open, all_sent)) = self.letters.open.get_mut(&ticket) else {
            return;
        };
        *open -= 1;
        *all_sent &= sent;
        let (open, all_sent) = (*open, *all_sent);
        if open == 0 {
            self.letters.open.remove(&ticket);
            self.tally.messages.dead_lettered += u64::from(all_sent);
            self.ledger.dead_lettered(ticket, all_sent);
        }
    }
}

impl Deletion {
    fn new(settled: Settled<Held>, counts: bool) -> Self {
        let settled = settled.map(|held| Leaving {
            id: held.id,
            receipt: held.receipt,
            payload: held.payload,
        });
        Self {
            settled,
            counts,
            tries: 0,
            not_before: None,
        }
    }

    fn is_ready(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|at| at <= now)
    }
}

impl Letters {
    pub(super) fn is_busy(&self) -> bool {
        !self.open.is_empty()
    }
}
