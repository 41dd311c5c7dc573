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
pub const INITIAL_VISIBILITY: Duration = Duration::from_secs(120);

/// The longest that a letter is hidden by one call.
const MAX_VISIBILITY: Duration = Duration::from_secs(3600);

/// Long enough that every host of SQS is asked.
const RECEIVE_WAIT_TIME: Duration = Duration::from_secs(1);

/// So many receives in a row that show nothing new end a walk.
const MAX_EMPTY_RECEIVES: u32 = 3;

/// How many calls that hide or show letters are under way at once.
const CONCURRENT_CALLS: usize = 8;

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
pub struct Scan {
    queue: QueueClient,
    is_fifo: bool,
    /// The queue's depth at the start.
    depth: u64,
    hidden: Duration,
    seen: HashSet<String>,
    invisible: HashMap<String, InvisibleMessage>,
    deleted: u64,
    /// Groups of which letters were deleted since the last receive.
    moved: BTreeSet<String>,
}

/// A letter that the walk hides from others.
#[derive(Debug)]
struct InvisibleMessage {
    receipt_handle: String,
    group: Option<String>,
    since: Instant,
    visibility: Duration,
}

impl InvisibleMessage {
    /// Hides it for longer once half of its time has passed, and for twice as long: the calls that
    /// a letter costs grow with the logarithm of the walk's length, not with the length.
    fn extend_visibility(&mut self, now: Instant) -> bool {
        let is_due = now.duration_since(self.since) >= self.visibility / 2;
        if is_due {
            self.since = now;
            self.visibility = (self.visibility * 2).min(MAX_VISIBILITY);
        }
        is_due
    }
}

/// How much of a queue a walk has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanCoverage {
    /// The letters that it has seen.
    pub read: u64,
    /// The letters that were there to see, approximately, since SQS counts so.
    pub total: u64,
    /// Whether the queue is a FIFO queue.
    pub is_fifo: bool,
}

impl ScanCoverage {
    /// Of a walk that saw `seen` letters and deleted `deleted` of them, in a queue that held
    /// `before` at the start and holds `after` now. What others took meanwhile, or came later,
    /// was not there to see.
    fn new(seen: u64, deleted: u64, before: u64, after: u64, is_fifo: bool) -> Self {
        Self {
            read: seen,
            total: before.min(after.saturating_add(deleted)).max(seen),
            is_fifo,
        }
    }

    /// Whether no letter was missed.
    pub fn is_complete(self) -> bool {
        self.read == self.total
    }
}

impl Scan {
    /// A walk that begins. Each letter is hidden for `hidden` at first, and for longer the longer
    /// the walk takes. Needs `sqs:GetQueueAttributes`.
    pub async fn begin(queue: QueueClient, hidden: Duration) -> Result<Self, Error> {
        let depth = queue.depth_without_dlq().await?;
        Ok(Self {
            is_fifo: queue.is_fifo(),
            queue,
            depth: count(depth),
            hidden,
            seen: HashSet::new(),
            invisible: HashMap::new(),
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
        self.release(|held| held.group.as_ref().is_some_and(|it| moved.contains(it)))
            .await;
        let mut quiet = 0;
        while quiet < MAX_EMPTY_RECEIVES {
            self.extend_due().await;
            let received = self
                .queue
                .receive(MAX_ENTRIES, RECEIVE_WAIT_TIME, Some(self.hidden), None)
                .await?;
            let mut is_quiet = true;
            let mut new = Vec::new();
            for message in received {
                is_quiet &= self.insert(&message).is_some();
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
                    self.release(|_| true).await;
                }
            }
        }
        Ok(None)
    }

    /// Deletes letters, ten at most. One result per letter, in their order.
    pub async fn delete(
        &mut self,
        messages: &[DeadLetterMessage],
    ) -> Result<Vec<Result<(), BatchEntryError>>, Error> {
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        let receipts: Vec<_> = messages
            .iter()
            .map(|message| message.message.receipt_handle.clone())
            .collect();
        let results = self.queue.delete(&receipts).await?;
        for (message, result) in messages.iter().zip(&results) {
            if result.is_ok() {
                self.invisible.remove(&message.message.id);
                self.deleted += 1;
                if self.is_fifo {
                    self.moved.extend(message.message.group.clone());
                }
            }
        }
        Ok(results)
    }

    /// Ends the walk: shows the letters that stay to others again, at once, and says how much of
    /// the queue was seen.
    pub async fn end(mut self) -> Result<ScanCoverage, Error> {
        self.release(|_| true).await;
        let after = count(self.queue.depth_without_dlq().await?);
        let seen = self.seen.len() as u64;
        Ok(ScanCoverage::new(
            seen,
            self.deleted,
            self.depth,
            after,
            self.is_fifo,
        ))
    }

    /// Notes a letter that this receive has hidden; gives back what was known of it if it should
    /// have been hidden already.
    fn insert(&mut self, message: &Message) -> Option<InvisibleMessage> {
        let held = InvisibleMessage {
            receipt_handle: message.receipt_handle.clone(),
            group: message.group.clone(),
            since: Instant::now(),
            visibility: self.hidden,
        };
        self.invisible.insert(message.id.clone(), held)
    }

    /// Keeps hidden what is held.
    async fn extend_due(&mut self) {
        let now = Instant::now();
        let mut due: BTreeMap<Duration, Vec<String>> = BTreeMap::new();
        for held in self.invisible.values_mut() {
            if held.extend_visibility(now) {
                due.entry(held.visibility)
                    .or_default()
                    .push(held.receipt_handle.clone());
            }
        }
        for (hidden, receipts) in due {
            self.set_visibility(&receipts, hidden).await;
        }
    }

    /// Shows held letters to others again. Where that fails they come back by themselves.
    async fn release(&mut self, filter: impl Fn(&InvisibleMessage) -> bool) {
        let receipts: Vec<_> = self
            .invisible
            .extract_if(|_, held| filter(held))
            .map(|(_, held)| held.receipt_handle)
            .collect();
        self.set_visibility(&receipts, Duration::ZERO).await;
    }

    async fn set_visibility(&self, receipts: &[String], timeout: Duration) {
        let results: Vec<_> = stream::iter(receipts.chunks(MAX_ENTRIES))
            .map(|receipts| self.queue.change_visibility(receipts, timeout))
            .buffer_unordered(CONCURRENT_CALLS)
            .collect()
            .await;
        if let Some(error) = results.into_iter().find_map(Result::err) {
            tracing::warn!(
                %error,
                "could not release dead-lettered messages; they become visible when their \
                 visibility timeout ends"
            );
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
            receipt_handle: String::new(),
            group: None,
            since: start,
            visibility: INITIAL_VISIBILITY,
        };
        let renewed: Vec<_> = (0..=8_000)
            .filter(|&second| held.extend_visibility(at(second)))
            .collect();
        assert_eq!(renewed, [60, 180, 420, 900, 1860, 3660, 5460, 7260]);
        assert_eq!(held.visibility, MAX_VISIBILITY);
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
            let coverage = ScanCoverage::new(seen, deleted, before, after, false);
            assert_eq!(coverage.total, total, "{coverage:?}");
            assert_eq!(coverage.is_complete(), seen == total);
        }
    }
}
