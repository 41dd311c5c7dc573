//! A walk through a queue: each message once.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};

use crate::{
    drain::letter::Label,
    sqs::{BatchEntryError, Depth, Error, MAX_ENTRIES, Message, QueueClient},
};

/// How long a letter is hidden when a command first sees it.
pub const HIDDEN: Duration = Duration::from_secs(120);

/// The longest that a letter is hidden by one call.
const MAX_HIDDEN: Duration = Duration::from_secs(3600);

/// Long enough that every host of SQS is asked.
const WAIT: Duration = Duration::from_secs(1);

/// So many receives in a row that show nothing new end a walk.
const QUIET_ROUNDS: u32 = 3;

/// How many calls that hide or show letters are under way at once.
const CALLS: usize = 8;

/// A letter with what it says of itself.
#[derive(Clone, Debug)]
pub struct DeadLetterMessage {
    /// The message.
    pub message: Message,
    /// Its label.
    pub label: Label,
}

/// A walk under way. What it has received and not deleted it keeps hidden until it ends.
#[derive(Debug)]
pub struct Walk {
    queue: QueueClient,
    is_fifo: bool,
    /// The queue's depth at the start.
    depth: u64,
    hidden: Duration,
    seen: HashSet<String>,
    held: HashMap<String, InvisibleMessage>,
    deleted: u64,
    /// Groups of which letters were deleted since the last receive.
    moved: BTreeSet<String>,
}

/// A letter that the walk hides from others.
#[derive(Debug)]
struct InvisibleMessage {
    receipt: String,
    group: Option<String>,
    since: Instant,
    hidden: Duration,
}

impl InvisibleMessage {
    /// Hides it for longer once half of its time has passed, and for twice as long: the calls that
    /// a letter costs grow with the logarithm of the walk's length, not with the length.
    fn renew(&mut self, now: Instant) -> bool {
        let is_due = now.duration_since(self.since) >= self.hidden / 2;
        if is_due {
            self.since = now;
            self.hidden = (self.hidden * 2).min(MAX_HIDDEN);
        }
        is_due
    }
}

/// How much of a queue a walk has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    /// The letters that it has seen.
    pub seen: u64,
    /// The letters that were there to see, approximately, since SQS counts so.
    pub total: u64,
    /// Whether the queue is a FIFO queue.
    pub is_fifo: bool,
}

impl Sight {
    /// Of a walk that saw `seen` letters and deleted `deleted` of them, in a queue that held
    /// `before` at the start and holds `after` now. What others took meanwhile, or came later,
    /// was not there to see.
    fn new(seen: u64, deleted: u64, before: u64, after: u64, is_fifo: bool) -> Self {
        Self {
            seen,
            total: before.min(after.saturating_add(deleted)).max(seen),
            is_fifo,
        }
    }

    /// Whether no letter was missed.
    pub fn is_whole(self) -> bool {
        self.seen == self.total
    }
}

impl Walk {
    /// A walk that begins. Each letter is hidden for `hidden` at first, and for longer the longer
    /// the walk takes. Needs `sqs:GetQueueAttributes`.
    pub async fn begin(queue: QueueClient, hidden: Duration) -> Result<Self, Error> {
        let depth = queue.own_depth().await?;
        Ok(Self {
            is_fifo: queue.is_fifo(),
            queue,
            depth: count(depth),
            hidden,
            seen: HashSet::new(),
            held: HashMap::new(),
            deleted: 0,
            moved: BTreeSet::new(),
        })
    }

    /// The next letters, ten at most; none when several receives have shown nothing new. Those of
    /// a failed call come back by themselves.
    pub async fn next(&mut self) -> Result<Option<Vec<DeadLetterMessage>>, Error> {
        // A hidden letter locks its group. Where some of a group are gone, the others make room
        // for those behind: they are received again, as many more as were deleted with them.
        let moved = std::mem::take(&mut self.moved);
        self.show(|held| held.group.as_ref().is_some_and(|it| moved.contains(it)))
            .await;
        let mut quiet = 0;
        while quiet < QUIET_ROUNDS {
            self.renew().await;
            let received = self
                .queue
                .receive(MAX_ENTRIES, WAIT, Some(self.hidden), None)
                .await?;
            let mut is_quiet = true;
            let mut new = Vec::new();
            for message in received {
                is_quiet &= self.hold(&message).is_some();
                if self.seen.insert(message.id.clone()) {
                    new.push(DeadLetterMessage {
                        label: Label::read(&message),
                        message,
                    });
                }
            }
            if !new.is_empty() {
                return Ok(Some(new));
            }
            if is_quiet {
                quiet += 1;
                if self.is_fifo {
                    // A receive may have shown fewer of a group than the next one does.
                    self.show(|_| true).await;
                }
            }
        }
        Ok(None)
    }

    /// Deletes letters, ten at most. One result per letter, in their order.
    pub async fn delete(
        &mut self,
        letters: &[DeadLetterMessage],
    ) -> Result<Vec<Result<(), BatchEntryError>>, Error> {
        if letters.is_empty() {
            return Ok(Vec::new());
        }
        let receipts: Vec<_> = letters
            .iter()
            .map(|letter| letter.message.receipt.clone())
            .collect();
        let results = self.queue.delete(&receipts).await?;
        for (letter, result) in letters.iter().zip(&results) {
            if result.is_ok() {
                self.held.remove(&letter.message.id);
                self.deleted += 1;
                if self.is_fifo {
                    self.moved.extend(letter.message.group.clone());
                }
            }
        }
        Ok(results)
    }

    /// Ends the walk: shows the letters that stay to others again, at once, and says how much of
    /// the queue was seen.
    pub async fn end(mut self) -> Result<Sight, Error> {
        self.show(|_| true).await;
        let after = count(self.queue.own_depth().await?);
        let seen = self.seen.len() as u64;
        Ok(Sight::new(
            seen,
            self.deleted,
            self.depth,
            after,
            self.is_fifo,
        ))
    }

    /// Notes a letter that this receive has hidden; gives back what was known of it if it should
    /// have been hidden already.
    fn hold(&mut self, message: &Message) -> Option<InvisibleMessage> {
        let held = InvisibleMessage {
            receipt: message.receipt.clone(),
            group: message.group.clone(),
            since: Instant::now(),
            hidden: self.hidden,
        };
        self.held.insert(message.id.clone(), held)
    }

    /// Keeps hidden what is held.
    async fn renew(&mut self) {
        let now = Instant::now();
        let mut due: BTreeMap<Duration, Vec<String>> = BTreeMap::new();
        for held in self.held.values_mut() {
            if held.renew(now) {
                due.entry(held.hidden)
                    .or_default()
                    .push(held.receipt.clone());
            }
        }
        for (hidden, receipts) in due {
            self.hide(&receipts, hidden).await;
        }
    }

    /// Shows held letters to others again. Where that fails they come back by themselves.
    async fn show(&mut self, which: impl Fn(&InvisibleMessage) -> bool) {
        let receipts: Vec<_> = self
            .held
            .extract_if(|_, held| which(held))
            .map(|(_, held)| held.receipt)
            .collect();
        self.hide(&receipts, Duration::ZERO).await;
    }

    async fn hide(&self, receipts: &[String], timeout: Duration) {
        let results: Vec<_> = stream::iter(receipts.chunks(MAX_ENTRIES))
            .map(|receipts| self.queue.extend(receipts, timeout))
            .buffer_unordered(CALLS)
            .collect()
            .await;
        if let Some(error) = results.into_iter().find_map(Result::err) {
            tracing::warn!(%error, "dead letters come back when the time has passed for which they were hidden last");
        }
    }
}

fn count(depth: Depth) -> u64 {
    u64::try_from(depth.messages()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_hidden_for_twice_as_long_at_half_of_its_time() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut held = InvisibleMessage {
            receipt: String::new(),
            group: None,
            since: start,
            hidden: HIDDEN,
        };
        let renewed: Vec<_> = (0..=8_000)
            .filter(|&second| held.renew(at(second)))
            .collect();
        assert_eq!(renewed, [60, 180, 420, 900, 1860, 3660, 5460, 7260]);
        assert_eq!(held.hidden, MAX_HIDDEN);
    }

    #[test]
    fn what_others_took_or_sent_meanwhile_was_not_there_to_see() {
        for (seen, deleted, before, after, total) in [
            (17, 0, 17, 17, 17),
            (10, 0, 17, 17, 17),
            (10, 10, 17, 7, 17),
            // Another command took seven.
            (10, 10, 17, 0, 10),
            // Five came.
            (17, 17, 17, 5, 17),
            (20, 0, 17, 22, 20),
        ] {
            let sight = Sight::new(seen, deleted, before, after, false);
            assert_eq!(sight.total, total, "{sight:?}");
            assert_eq!(sight.is_whole(), seen == total);
        }
    }
}
