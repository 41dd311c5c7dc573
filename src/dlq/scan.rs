//! A scan of a queue that returns each message once.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};

use crate::{
    drain::letter::Label,
    sqs::{BatchEntryError, Depth, Error, MAX_ENTRIES, Message, QueueClient},
};

/// The first visibility timeout of a message.
pub const INITIAL_VISIBILITY: Duration = Duration::from_secs(120);

/// The longest visibility timeout of a message.
const MAX_VISIBILITY: Duration = Duration::from_secs(3600);

/// Wait time of a receive. With long polling, SQS queries all of its servers.
const RECEIVE_WAIT_TIME: Duration = Duration::from_secs(1);

/// Number of consecutive receives without a new message after which the scan ends.
const MAX_EMPTY_RECEIVES: u32 = 3;

/// Maximum number of concurrent calls that change visibility timeouts.
const CONCURRENT_CALLS: usize = 8;

/// A dead-lettered message with its reason.
#[derive(Clone, Debug)]
pub struct DeadLetterMessage {
    /// The message.
    pub message: Message,
    /// The reason and other attributes.
    pub label: Label,
}

/// A scan in progress. Its messages stay invisible until they are deleted or the scan ends.
#[derive(Debug)]
pub struct Scan {
    queue: QueueClient,
    is_fifo: bool,
    /// The queue's depth at the start.
    depth: u64,
    /// The first visibility timeout of a message.
    initial_visibility: Duration,
    seen: HashSet<String>,
    invisible: HashMap<String, InvisibleMessage>,
    deleted: u64,
    /// The groups of messages that were deleted since the last receive.
    changed_groups: BTreeSet<String>,
}

/// A message that the scan keeps invisible.
#[derive(Debug)]
struct InvisibleMessage {
    receipt_handle: String,
    group: Option<String>,
    extended_at: Instant,
    visibility: Duration,
}

impl InvisibleMessage {
    /// Doubles the visibility timeout if half of it has passed, and returns whether it did. The
    /// number of calls grows with the logarithm of the scan's duration.
    fn extend_visibility(&mut self, now: Instant) -> bool {
        let is_due = now.duration_since(self.extended_at) >= self.visibility / 2;
        if is_due {
            self.extended_at = now;
            self.visibility = (self.visibility * 2).min(MAX_VISIBILITY);
        }
        is_due
    }
}

/// The share of a queue that a scan has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanCoverage {
    /// The number of messages that were read.
    pub read: u64,
    /// The number of messages that could have been read. SQS's counts are approximate.
    pub total: u64,
    /// Whether the queue is a FIFO queue.
    pub is_fifo: bool,
}

impl ScanCoverage {
    /// Returns the coverage of a scan that read `read` messages and deleted `deleted` of them. The
    /// queue's depth was `before` at the start and is `after` now. `total` excludes messages that
    /// others deleted or sent during the scan.
    fn new(read: u64, deleted: u64, before: u64, after: u64, is_fifo: bool) -> Self {
        Self {
            read,
            total: before.min(after.saturating_add(deleted)).max(read),
            is_fifo,
        }
    }

    /// Returns whether all messages were read.
    pub fn is_complete(self) -> bool {
        self.read == self.total
    }
}

impl Scan {
    /// Starts a scan. Each message is first invisible for `initial_visibility`, which is extended
    /// while the scan runs. Needs `sqs:GetQueueAttributes`.
    pub async fn begin(queue: QueueClient, initial_visibility: Duration) -> Result<Self, Error> {
        let depth = queue.depth_without_dlq().await?;
        Ok(Self {
            is_fifo: queue.is_fifo(),
            queue,
            depth: count(depth),
            initial_visibility,
            seen: HashSet::new(),
            invisible: HashMap::new(),
            deleted: 0,
            changed_groups: BTreeSet::new(),
        })
    }

    /// Returns up to ten new messages. Returns `None` after several receives without a new message.
    /// Messages of a failed call become visible when their visibility timeout ends.
    pub async fn next(&mut self) -> Result<Option<Vec<DeadLetterMessage>>, Error> {
        // An invisible message blocks its group. After deletions, release the rest of the group:
        // the next receive returns it again, with one further message per deleted message.
        let groups = std::mem::take(&mut self.changed_groups);
        self.release(|message| {
            let group = message.group.as_ref();
            group.is_some_and(|group| groups.contains(group))
        })
        .await;
        let mut empty_receives = 0;
        while empty_receives < MAX_EMPTY_RECEIVES {
            self.extend_due().await;
            let received = self
                .queue
                .receive(
                    MAX_ENTRIES,
                    RECEIVE_WAIT_TIME,
                    Some(self.initial_visibility),
                    None,
                )
                .await?;
            let mut is_empty = true;
            let mut new = Vec::new();
            for message in received {
                is_empty &= self.insert(&message).is_some();
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
            if is_empty {
                empty_receives += 1;
                if self.is_fifo {
                    // The next receive may return more messages of a group.
                    self.release(|_| true).await;
                }
            }
        }
        Ok(None)
    }

    /// Deletes up to ten messages. Returns one result per message, in order.
    pub async fn delete(
        &mut self,
        messages: &[DeadLetterMessage],
    ) -> Result<Vec<Result<(), BatchEntryError>>, Error> {
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        let receipt_handles: Vec<_> = messages
            .iter()
            .map(|message| message.message.receipt_handle.clone())
            .collect();
        let results = self.queue.delete(&receipt_handles).await?;
        for (message, result) in messages.iter().zip(&results) {
            if result.is_ok() {
                self.invisible.remove(&message.message.id);
                self.deleted += 1;
                if self.is_fifo {
                    self.changed_groups.extend(message.message.group.clone());
                }
            }
        }
        Ok(results)
    }

    /// Ends the scan: releases the messages that were not deleted, and returns the coverage.
    pub async fn end(mut self) -> Result<ScanCoverage, Error> {
        self.release(|_| true).await;
        let after = count(self.queue.depth_without_dlq().await?);
        let read = self.seen.len() as u64;
        Ok(ScanCoverage::new(
            read,
            self.deleted,
            self.depth,
            after,
            self.is_fifo,
        ))
    }

    /// Records a received message. Returns its previous record if it should still be invisible.
    fn insert(&mut self, message: &Message) -> Option<InvisibleMessage> {
        let record = InvisibleMessage {
            receipt_handle: message.receipt_handle.clone(),
            group: message.group.clone(),
            extended_at: Instant::now(),
            visibility: self.initial_visibility,
        };
        self.invisible.insert(message.id.clone(), record)
    }

    /// Extends the visibility timeouts that are due.
    async fn extend_due(&mut self) {
        let now = Instant::now();
        let mut due: BTreeMap<Duration, Vec<String>> = BTreeMap::new();
        for message in self.invisible.values_mut() {
            if message.extend_visibility(now) {
                due.entry(message.visibility)
                    .or_default()
                    .push(message.receipt_handle.clone());
            }
        }
        for (timeout, receipt_handles) in due {
            self.set_visibility(&receipt_handles, timeout).await;
        }
    }

    /// Makes the selected messages visible. If a call fails, they become visible when their
    /// visibility timeout ends.
    async fn release(&mut self, filter: impl Fn(&InvisibleMessage) -> bool) {
        let receipt_handles: Vec<_> = self
            .invisible
            .extract_if(|_, message| filter(message))
            .map(|(_, message)| message.receipt_handle)
            .collect();
        self.set_visibility(&receipt_handles, Duration::ZERO).await;
    }

    async fn set_visibility(&self, receipt_handles: &[String], timeout: Duration) {
        let results: Vec<_> = stream::iter(receipt_handles.chunks(MAX_ENTRIES))
            .map(|chunk| self.queue.change_visibility(chunk, timeout))
            .buffer_unordered(CONCURRENT_CALLS)
            .collect()
            .await;
        if let Some(error) = results.into_iter().find_map(Result::err) {
            tracing::warn!(%error, "could not change the visibility timeout of dead-lettered messages; they become visible when their current timeout ends");
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
    fn visibility_timeout_doubles_at_half_time() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut message = InvisibleMessage {
            receipt_handle: String::new(),
            group: None,
            extended_at: start,
            visibility: INITIAL_VISIBILITY,
        };
        let extended: Vec<_> = (0..=8_000)
            .filter(|&second| message.extend_visibility(at(second)))
            .collect();
        assert_eq!(extended, [60, 180, 420, 900, 1860, 3660, 5460, 7260]);
        assert_eq!(message.visibility, MAX_VISIBILITY);
    }

    #[test]
    fn coverage_excludes_messages_of_others() {
        for (read, deleted, before, after, total) in [
            (17, 0, 17, 17, 17),
            (10, 0, 17, 17, 17),
            (10, 10, 17, 7, 17),
            // Another command deleted seven.
            (10, 10, 17, 0, 10),
            // Five were added.
            (17, 17, 17, 5, 17),
            (20, 0, 17, 22, 20),
        ] {
            let coverage = ScanCoverage::new(read, deleted, before, after, false);
            assert_eq!(coverage.total, total, "{coverage:?}");
            assert_eq!(coverage.is_complete(), read == total);
        }
    }
}
