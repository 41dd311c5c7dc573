//! What a run does next. Pure: it is told what happened and says what to do; the time and a
//! seed for its dice are arguments. [`super::pipeline`] does the doing.

mod admission;
mod hold;
mod intake;
mod outflow;
mod reading;
mod settling;
mod strangers;

#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    num::NonZeroU32,
    time::{Duration, Instant},
};

pub use self::{
    admission::{Content, Held, Parcel},
    hold::Receipt,
    reading::{Opened, Unread},
    settling::{Deletion, Leaving},
};
use self::{reading::Reading, settling::Letters, strangers::Strangers};
use super::{
    ack::Ledger,
    batch::{Batcher, Group, RequestLimits},
    blame::Cause,
    letter::Letter,
    pace::{Limits, Pace},
    report::Outcome,
    tally::Tally,
};
use crate::{
    api::{RejectedEventPolicy, TypeConflictPolicy, UnknownUserPolicy},
    iterable::{ApiResponse, NewUser},
    mapping::EventPosition,
    sqs::{BatchEntryError, Error, PayloadError, Pointer},
};

/// What a run is bound by.
#[derive(Clone, Debug)]
pub struct Config {
    /// The pace's bounds.
    pub pace: Limits,
    /// The largest request to Iterable.
    pub request: RequestLimits,
    /// The most bytes of messages and events that are held.
    pub max_bytes: usize,
    /// The largest payload that is read, in bytes; none if no payloads are.
    pub max_payload_bytes: Option<usize>,
    /// The most messages that are received.
    pub max_messages: u64,
    /// How long a received message stays invisible.
    pub visibility: Duration,
    /// The largest message of the queue, in bytes.
    pub max_message_bytes: usize,
    /// Whether the queue is a FIFO queue.
    pub fifo: bool,
    /// Among how many pods the queue is shared.
    pub pods: NonZeroU32,
    /// How long the run may go on.
    pub max_duration: Duration,
    /// How long it may go on after it was told to stop.
    pub grace: Duration,
    /// What happens to rejected events.
    pub rejected: RejectedEventPolicy,
    /// The dead-letter queue's largest message in bytes; none if there is no such queue.
    pub dead_letter_bytes: Option<usize>,
    /// What happens to events of unknown users.
    pub unknown_users: UnknownUserPolicy,
    /// The time between two requests that make users known.
    pub users_interval: Duration,
    /// What happens to fields of another type.
    pub type_conflicts: TypeConflictPolicy,
    /// The run's name, for dead letters.
    pub run: String,
}

/// Something to do.
#[derive(Debug)]
pub enum Action {
    /// Read how many messages wait. A run begins without this knowledge, as it takes SQS servers
    /// longer than a receive.
    ReadDepth,
    /// Receive messages.
    Receive {
        /// Names the receive.
        receive: u64,
        /// How many messages to ask for.
        max: usize,
        /// How large the answer may be, in bytes, to be read without asking.
        bytes: usize,
    },
    /// Read a message's payload, if it has no more than so many bytes.
    Read(Unread, usize),
    /// Post a request.
    Post(Group),
    /// Delete messages, ten at most.
    Delete(Vec<Deletion>),
    /// Make messages invisible for longer, ten at most.
    Extend(Vec<Receipt>, Duration),
    /// Give messages back to the queue, ten at most: visible again after so long.
    GiveBack(Vec<String>, Duration),
    /// Send dead letters, ten at most.
    SendDeadLetters(Vec<Letter>),
    /// Make users known.
    CreateUsers(Vec<NewUser>),
    /// Delete the payload of a message that was deleted.
    DeletePayload(Pointer),
}

/// Something that was done.
#[derive(Debug)]
pub enum Done {
    /// So many messages wait for all pods, by the queue's own estimate, if it is known.
    Depth(Option<i64>),
    /// The answer to a receive is larger than what may be read without asking.
    Answered {
        /// The receive.
        receive: u64,
        /// The answer's size in bytes, if it is told.
        bytes: Option<u64>,
    },
    /// An answer that is read may be held up by those that wait to be read.
    Stalled,
    /// A receive that began at `began`.
    Received {
        /// The receive.
        receive: u64,
        /// When it began.
        began: Instant,
        /// The messages.
        result: Result<Vec<Parcel>, Error>,
    },
    /// A payload of at most `limit` bytes was read, or not.
    Read {
        /// Whose.
        unread: Unread,
        /// The most bytes that were to be read.
        limit: usize,
        /// The payload and what is in it.
        result: Result<Opened, PayloadError>,
    },
    /// A post that began at `began`.
    Posted {
        /// When it began.
        began: Instant,
        /// What was sent.
        group: Group,
        /// What came back.
        answer: ApiResponse,
    },
    /// A delete.
    Deleted {
        /// What was to be deleted.
        deletions: Vec<Deletion>,
        /// One result each.
        result: Result<Vec<Result<(), BatchEntryError>>, Error>,
    },
    /// A visibility change that began at `began`.
    Extended {
        /// When it began.
        began: Instant,
        /// Which messages.
        receipts: Vec<Receipt>,
        /// One result each.
        result: Result<Vec<Result<(), BatchEntryError>>, Error>,
    },
    /// Messages were given back, or will come back by themselves.
    GivenBack,
    /// A payload was deleted, or not.
    DeletedPayload(Result<(), PayloadError>),
    /// Users were made known, or not.
    CreatedUsers {
        /// Which.
        users: Vec<NewUser>,
        /// What came back.
        answer: ApiResponse,
    },
    /// Dead letters were sent.
    SentDeadLetters {
        /// Which.
        letters: Vec<Letter>,
        /// One result each.
        result: Result<Vec<Result<(), BatchEntryError>>, Error>,
    },
}

/// A rejected event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Where it stands in its message's body.
    pub source: EventPosition,
    /// Why.
    pub cause: Cause,
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It receives.
    Running,
    /// It sends what it holds.
    Finishing(Outcome),
    /// It waits for what is under way and gives the rest back.
    Stopping(Outcome),
}

/// The state of a run.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    phase: Phase,
    finish_at: Instant,
    stop_at: Instant,
    give_up_at: Instant,
    gave_up: bool,
    is_over: bool,
    dice: fastrand::Rng,
    tally: Tally,
    ledger: Ledger<Held, Refused>,
    pace: Pace,
    intake: intake::Intake,
    reading: Reading,
    batcher: Batcher,
    again: VecDeque<Group>,
    deletions: VecDeque<Deletion>,
    deletions_since: Option<Instant>,
    give_back: Vec<String>,
    park: Vec<String>,
    away: Vec<String>,
    parked: Vec<String>,
    extend_at: Option<Instant>,
    letters: Letters,
    payloads: Vec<Pointer>,
    strangers: Strangers,
    posting: usize,
    unclear: u32,
    deleting: usize,
    deleting_messages: usize,
    others: usize,
    wake: Option<Instant>,
}

/// How long a run that has given up still waits for the answers to what it gave back.
const LAST_WORD: Duration = Duration::from_secs(2);

/// How long a run waits to fill a request or a delete, at most.
const LINGER: Duration = Duration::from_secs(2);

impl Engine {
    /// The state at the start of a run.
    pub fn new(config: Config, now: Instant, seed: u64) -> Self {
        let margin = (config.max_duration / 10).min(Duration::from_secs(60));
        let end = now + config.max_duration;
        Self {
            phase: Phase::Running,
            finish_at: end - margin,
            stop_at: end - margin / 4,
            give_up_at: end,
            gave_up: false,
            is_over: false,
            dice: fastrand::Rng::with_seed(seed),
            tally: Tally::default(),
            ledger: Ledger::new(config.fifo),
            pace: Pace::new(config.pace, now),
            intake: intake::Intake::default(),
            reading: Reading::default(),
            batcher: Batcher::new(config.request),
            again: VecDeque::new(),
            deletions: VecDeque::new(),
            deletions_since: None,
            give_back: Vec::new(),
            park: Vec::new(),
            away: Vec::new(),
            parked: Vec::new(),
            extend_at: None,
            letters: Letters::default(),
            payloads: Vec::new(),
            strangers: Strangers::default(),
            posting: 0,
            unclear: 0,
            deleting: 0,
            deleting_messages: 0,
            others: 0,
            wake: None,
            config,
        }
    }

    /// Takes in what was done.
    pub fn done(&mut self, done: Done, now: Instant) {
        match done {
            Done::Depth(visible) => self.depth_read(visible),
            Done::Answered { receive, bytes } => self.answered(receive, bytes),
            Done::Stalled => self.stalled(),
            Done::Received {
                receive,
                began,
                result,
            } => self.received(receive, began, result, now),
            Done::Read {
                unread,
                limit,
                result,
            } => self.read(unread, limit, result, now),
            Done::Posted {
                began,
                group,
                answer,
            } => self.posted(began, group, answer, now),
            Done::Deleted { deletions, result } => self.deleted(deletions, result, now),
            Done::Extended {
                began,
                receipts,
                result,
            } => self.extended(began, &receipts, result),
            Done::GivenBack => self.others -= 1,
            Done::DeletedPayload(result) => {
                self.others -= 1;
                if let Err(error) = result {
                    self.tally.reason("PayloadNotDeleted");
                    self.tally
                        .notice(format!("could not delete a payload: {error}"));
                }
            }
            Done::CreatedUsers { users, answer } => self.created_users(users, answer, now),
            Done::SentDeadLetters { letters, result } => {
                self.sent_dead_letters(letters, result, now)
            }
        }
        self.decide(now);
    }

    /// What to do now. Call it after each [`Engine::done`] and when [`Engine::wake_at`] has come.
    pub fn actions(&mut self, now: Instant) -> Vec<Action> {
        self.wake = None;
        self.follow_the_clock(now);
        let mut actions = Vec::new();
        self.extend(now, &mut actions);
        self.read_depth(&mut actions);
        self.receive(now, &mut actions);
        self.read_payloads(&mut actions);
        self.post(now, &mut actions);
        self.create_users(now, &mut actions);
        self.decide(now);
        self.send_dead_letters(now, &mut actions);
        self.delete(now, &mut actions);
        self.delete_payloads(&mut actions);
        self.give_back(now, &mut actions);
        actions
    }

    /// When to ask for actions again though nothing was done.
    pub const fn wake_at(&self) -> Option<Instant> {
        self.wake
    }

    /// Tells the run to stop: receive no more, settle what is under way, give the rest back.
    pub fn interrupt(&mut self, now: Instant) {
        self.give_up_at = self.give_up_at.min(now + self.config.grace);
        self.stop(Outcome::Interrupted, now);
    }

    /// How the run has ended, once nothing is left to do.
    pub fn ended(&self) -> Option<Outcome> {
        let (Phase::Finishing(outcome) | Phase::Stopping(outcome)) = self.phase else {
            return None;
        };
        if self.is_over {
            return Some(outcome);
        }
        let idle = self.others == 0 && self.deletions.is_empty() && self.deleting == 0;
        let told = self.give_back.is_empty()
            && self.payloads.is_empty()
            && self.away.is_empty()
            && self.park.is_empty()
            && self.parked.is_empty();
        let made = self.strangers.is_idle() || self.gave_up;
        // What a receive still brings is given back too.
        let given_up = self.gave_up && self.intake.under_way() == 0;
        (idle && told && made && (self.is_settled() || given_up)).then_some(outcome)
    }

    /// Whether nothing is held, and nothing under way that could change that.
    fn is_settled(&self) -> bool {
        self.ledger.is_empty() && self.posting == 0 && self.intake.under_way() == 0
    }

    /// Whether what is still under way is waited for no longer.
    pub const fn gave_up(&self) -> bool {
        self.gave_up
    }

    /// The counts so far.
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Messages that the queue's estimate says are still waiting.
    pub fn waiting(&self) -> u64 {
        self.intake.waiting()
    }

    fn follow_the_clock(&mut self, now: Instant) {
        if now >= self.finish_at {
            self.finish(Outcome::LimitReached);
        }
        if now >= self.stop_at {
            self.stop(Outcome::LimitReached, now);
        }
        if now >= self.give_up_at && !self.gave_up {
            self.gave_up = true;
            self.letters = Letters::default();
            for held in self.ledger.release() {
                self.intake.freed(held.bytes);
                self.tally.messages.released += 1;
                self.give_back.push(held.receipt.handle);
            }
        }
        if now >= self.give_up_at + LAST_WORD && !self.is_over {
            self.is_over = true;
            self.lose_rest();
        }
        if matches!(self.phase, Phase::Running | Phase::Finishing(_)) {
            let next = if self.phase == Phase::Running {
                self.finish_at
            } else {
                self.stop_at
            };
            self.wake_by(next);
        } else if !self.gave_up {
            self.wake_by(self.give_up_at);
        } else if !self.is_over {
            self.wake_by(self.give_up_at + LAST_WORD);
        }
    }

    /// No more is received; what is held is sent.
    fn finish(&mut self, outcome: Outcome) {
        if self.phase == Phase::Running {
            self.phase = Phase::Finishing(outcome);
        }
    }

    /// No more is sent; what is under way is waited for.
    fn stop(&mut self, outcome: Outcome, now: Instant) {
        if matches!(self.phase, Phase::Stopping(_)) {
            return;
        }
        // What a run was to end by is what it has ended by when its time is up; but a queue of
        // which messages are still held is not drained.
        let outcome = match self.phase {
            Phase::Finishing(earlier)
                if outcome == Outcome::LimitReached
                    && (earlier != Outcome::Drained || self.is_settled()) =>
            {
                earlier
            }
            _ => outcome,
        };
        self.phase = Phase::Stopping(outcome);
        self.leave_unsent();
        self.decide(now);
    }

    const fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running)
    }

    const fn is_stopping(&self) -> bool {
        matches!(self.phase, Phase::Stopping(_))
    }

    fn wake_by(&mut self, at: Instant) {
        self.wake = Some(self.wake.map_or(at, |earlier| earlier.min(at)));
    }

    /// How long something may linger while a message is held: never near its timeout.
    fn linger(&self) -> Duration {
        LINGER.min(self.config.visibility / 8)
    }
}
