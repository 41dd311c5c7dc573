//! Receives: how many at once, and when their answers are read.

use std::{collections::BTreeMap, time::Instant};

use super::{Action, Config, Engine, Parcel};
use crate::{
    drain::{
        report::Outcome,
        retry::{MAX_FAILURES, back_off},
    },
    sqs::{Error, MAX_ENTRIES},
};

/// How many requests' worth of events are gathered ahead of the posts.
const AHEAD: usize = 4;

/// How many receives in a row may bring less than they asked for, once the queue's backlog is
/// done. Then the run keeps up with what comes in, and ends.
const SHORT_RECEIVES: u32 = 10;

/// What is expected of a message in an answer of SQS besides its body, in bytes: the receipt
/// handle, the attributes, and what JSON adds to the body's text.
const ENVELOPE: usize = 4 << 10;

/// Of how many messages at most the sizes are kept in mind, the older ones with less weight.
const OF_LATE: usize = 200;

/// What the run knows of the queue's depth and of its own appetite.
#[derive(Debug, Default)]
pub struct Intake {
    asked_depth: bool,
    receives: u64,
    under_way: BTreeMap<u64, Receive>,
    received: u64,
    waiting: i64,
    short: u32,
    failures: u32,
    last_failure: Option<Instant>,
    not_before: Option<Instant>,
    pub(super) held_bytes: usize,
    pub(super) sizes: Sizes,
    is_stalled: bool,
    until_settled: bool,
}

/// A receive under way.
#[derive(Debug)]
struct Receive {
    asked: usize,
    answer: AnswerBody,
}

/// How far the body of an answer has come, with the memory that it takes with its events.
#[derive(Clone, Copy, Debug)]
enum AnswerBody {
    /// It is read once it comes, if it needs no more than this.
    Expected(usize),
    /// It needs more, and is not read until there is room for this.
    Waiting(usize),
    /// It is read.
    Reading(usize),
}

/// How large messages have been of late.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    messages: usize,
    bodies: usize,
    events: usize,
}

impl Sizes {
    pub(super) const fn add(&mut self, body: usize, events: usize) {
        if self.messages >= OF_LATE {
            self.messages /= 2;
            self.bodies /= 2;
            self.events /= 2;
        }
        self.messages += 1;
        self.bodies += body;
        self.events += events;
    }

    /// The mean size of a body in bytes; none before the first.
    fn body(&self) -> Option<usize> {
        self.bodies.checked_div(self.messages)
    }

    /// The memory that bodies of so many bytes take, with the events made of them.
    fn room(&self, bytes: usize) -> usize {
        let growth = self.events.div_ceil(self.bodies.max(1)).max(1);
        bytes.saturating_mul(1 + growth)
    }
}

impl Intake {
    pub(super) fn under_way(&self) -> usize {
        self.under_way.len()
    }

    pub(super) fn waiting(&self) -> u64 {
        u64::try_from(self.waiting).unwrap_or(0)
    }

    #[cfg(test)]
    pub(super) const fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// A message of so many bytes is held no longer.
    pub(super) const fn freed(&mut self, bytes: usize) {
        self.held_bytes = self.held_bytes.saturating_sub(bytes);
    }

    /// Whether messages are on their way that nothing has to be settled for.
    pub(super) fn is_coming(&self) -> bool {
        let mut answers = self.under_way.values().map(|receive| receive.answer);
        answers.any(|answer| !matches!(answer, AnswerBody::Waiting(_)))
    }

    fn is_answer_waiting(&self) -> bool {
        let mut answers = self.under_way.values().map(|receive| receive.answer);
        answers.any(|answer| matches!(answer, AnswerBody::Waiting(_)))
    }

    fn asked(&self) -> u64 {
        let asked = self.under_way.values().map(|receive| receive.asked as u64);
        asked.sum()
    }

    /// The memory set aside for answers.
    fn reserved(&self) -> usize {
        let answers = self.under_way.values().map(|receive| receive.answer);
        answers
            .map(|answer| match answer {
                AnswerBody::Expected(room) | AnswerBody::Reading(room) => room,
                AnswerBody::Waiting(_) => 0,
            })
            .sum()
    }

    /// How large the answer to a receive may become without being asked about: by the messages
    /// so far, with room to grow, and before the first by what the queue allows.
    fn expected(&self, config: &Config) -> usize {
        let most = config.max_message_bytes;
        let each = self.sizes.body().map_or(most, |body| (body * 2).min(most));
        (each + ENVELOPE) * config.entries()
    }
}

impl Config {
    /// How many messages a receive asks for: ten, unless so many may be more than may be held.
    fn entries(&self) -> usize {
        let largest = self.max_message_bytes * 2;
        (self.max_bytes / largest.max(1)).clamp(1, MAX_ENTRIES)
    }
}

impl Engine {
    pub(super) fn receive(&mut self, now: Instant, actions: &mut Vec<Action>) {
        while self.may_receive(now) {
            let left = self.config.max_messages - self.intake.received - self.intake.asked();
            let entries = self.config.entries();
            let max = usize::try_from(left).unwrap_or(entries).min(entries);
            let bytes = self.intake.expected(&self.config);
            let receive = self.intake.receives;
            self.intake.receives += 1;
            let answer = AnswerBody::Expected(self.intake.sizes.room(bytes));
            let under_way = Receive { asked: max, answer };
            self.intake.under_way.insert(receive, under_way);
            actions.push(Action::Receive {
                receive,
                max,
                bytes,
            });
        }
    }

    pub(super) fn may_receive(&mut self, now: Instant) -> bool {
        if !self.is_running() {
            return false;
        }
        if let Some(until) = self.intake.not_before.filter(|until| *until > now) {
            self.wake_by(until);
            return false;
        }
        let intake = &self.intake;
        let under_way = intake.under_way();
        let settled = self.ledger.is_empty() && self.deletions.is_empty() && self.deleting == 0;
        let ahead = self.batcher.full_requests() + self.again.len();
        let within = self.pace.requests_within(self.config.visibility);
        let bytes = intake.held_bytes
            + intake.reserved()
            + intake.sizes.room(intake.expected(&self.config))
            + self.largest_room();
        intake.received + intake.asked() < self.config.max_messages
            && (!intake.until_settled || settled)
            && (under_way == 0
                || (!self.config.fifo && intake.waiting > (under_way * MAX_ENTRIES) as i64))
            && !intake.is_answer_waiting()
            && !self.reading.is_waiting()
            && ahead < AHEAD
            && ahead + self.posting < within
            && (bytes <= self.config.max_bytes || (under_way == 0 && self.ledger.is_empty()))
            && self.pace.may_receive(now, under_way, self.ledger.len())
    }

    /// An answer of so many bytes has begun to come, and is larger than was expected.
    pub(super) fn answered(&mut self, receive: u64, bytes: Option<u64>) {
        let Some(under_way) = self.intake.under_way.get_mut(&receive) else {
            return;
        };
        let most = (self.config.max_message_bytes + ENVELOPE) * under_way.asked;
        let told = bytes.and_then(|bytes| usize::try_from(bytes).ok());
        under_way.answer = AnswerBody::Waiting(self.intake.sizes.room(told.unwrap_or(most)));
    }

    /// An answer that is read comes no further: those that wait may hold it up.
    pub(super) const fn stalled(&mut self) {
        self.intake.is_stalled = true;
    }

    /// The receives whose answers, larger than was expected, may be read now: in their order, as
    /// far as there is room. One that is larger than all the room there is goes alone, and all go
    /// where they may hold another up. Call it before [`Engine::actions`], as it uses room up.
    pub fn answers_to_read(&mut self) -> Vec<u64> {
        let mut taken =
            self.intake.held_bytes + self.intake.reserved() + self.reading.reserved_bytes();
        let mut is_alone = self.ledger.is_empty() && !self.intake.is_coming();
        let is_stalled = std::mem::take(&mut self.intake.is_stalled);
        let mut to_read = Vec::new();
        for (receive, under_way) in &mut self.intake.under_way {
            let AnswerBody::Waiting(room) = under_way.answer else {
                continue;
            };
            taken += room;
            if taken > self.config.max_bytes && !is_alone && !is_stalled {
                break;
            }
            is_alone = false;
            under_way.answer = AnswerBody::Reading(room);
            to_read.push(*receive);
        }
        to_read
    }

    pub(super) fn received(
        &mut self,
        receive: u64,
        began: Instant,
        result: Result<Vec<Parcel>, Error>,
        now: Instant,
    ) {
        let under_way = self.intake.under_way.remove(&receive);
        match result {
            Ok(parcels) => {
                self.intake.failures = 0;
                self.note_depth(&parcels, under_way.map_or(0, |receive| receive.asked));
                for parcel in parcels {
                    self.admit(parcel, began, now);
                }
            }
            Err(error) => self.receive_failed(&error, began, now),
        }
    }

    fn receive_failed(&mut self, error: &Error, began: Instant, now: Instant) {
        self.tally.reason(error.reason());
        // Receives that were under way together fail for one cause.
        let known = self.intake.last_failure.is_some_and(|last| began <= last);
        if !known {
            self.intake.failures += 1;
            self.intake.last_failure = Some(now);
            let wait = back_off(self.intake.failures, self.dice.f64());
            self.intake.not_before = Some(now + wait);
        }
        if !error.is_transient() || self.intake.failures >= MAX_FAILURES {
            self.tally.notice(error.to_string());
            self.finish(Outcome::of_queue(error));
        }
    }

    /// Has the depth read, once.
    pub(super) fn read_depth(&mut self, actions: &mut Vec<Action>) {
        if !std::mem::replace(&mut self.intake.asked_depth, true) {
            self.others += 1;
            actions.push(Action::ReadDepth);
        }
    }

    /// Learns how much there was at the start. Whether the messages of the first receive count is
    /// a matter of chance; to count too many of them costs no receive, too few costs one.
    pub(super) fn depth_read(&mut self, visible: Option<i64>) {
        self.others -= 1;
        if let Some(visible) = visible {
            let pods = i64::from(self.config.pods.get());
            let share = (visible + pods - 1) / pods;
            let received = i64::try_from(self.intake.received).unwrap_or(i64::MAX);
            let waiting = share + MAX_ENTRIES as i64 - received;
            self.intake.waiting = self.intake.waiting.max(waiting);
        }
    }

    /// Learns from a receive how much is left.
    fn note_depth(&mut self, parcels: &[Parcel], asked: usize) {
        let count = parcels.len();
        let intake = &mut self.intake;
        intake.received += count as u64;
        intake.waiting -= i64::try_from(count).unwrap_or(0);
        if count == 0 {
            intake.waiting = 0;
            let settled = self.ledger.is_empty() && self.deletions.is_empty() && self.deleting == 0;
            if self.config.fifo && !settled {
                // What is held keeps the rest of its groups from coming.
                intake.until_settled = true;
            } else if intake.under_way() == 0 {
                self.finish(Outcome::Drained);
            }
            return;
        }
        intake.until_settled = self.config.fifo
            && parcels
                .windows(2)
                .all(|pair| matches!(pair, [one, next] if one.group == next.group));
        if count == asked {
            intake.short = 0;
            if intake.waiting < 0 {
                // The estimate was too low: where all that was asked for came, others may be.
                intake.waiting = ((intake.under_way() + 2) * MAX_ENTRIES) as i64;
            }
        } else if intake.waiting <= 0 {
            intake.short += 1;
        }
        if intake.short >= SHORT_RECEIVES {
            self.finish(Outcome::Drained);
        } else if intake.received >= self.config.max_messages {
            self.finish(Outcome::LimitReached);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sizes_of_late_count() {
        let mut sizes = Sizes::default();
        (0..10_000).for_each(|_| sizes.add(1_000, 500));
        assert_eq!((sizes.body(), sizes.room(1_000)), (Some(1_000), 2_000));
        (0..2 * OF_LATE).for_each(|_| sizes.add(1_000_000, 3_000_000));
        assert!(sizes.body().unwrap() > 500_000);
        assert_eq!(sizes.room(1_000), 4_000);
    }
}
