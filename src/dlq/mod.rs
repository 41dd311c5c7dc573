//! Commands that list, show, redrive and purge the dead-lettered messages of one forwarder.
//!
//! SQS can't list messages, so [`scan`] receives each message, keeps it invisible during the
//! command, and then releases it. If the scan is incomplete, the command processes the messages
//! that it read and fails with [`DlqError::IncompleteScan`]. [`queues`] finds the queues.

pub mod queues;
pub mod scan;

mod list;

use std::{
    collections::BTreeMap,
    io::{self, BufRead, Write},
    time::{Duration, Instant},
};

use jiff::Timestamp;

use self::{
    list::Summary,
    queues::{QueuePair, QueuePairError},
    scan::{DeadLetterMessage, INITIAL_VISIBILITY, Scan, ScanCoverage},
};
use crate::{
    api::{ReasonCount, reason_counts},
    cli::{DlqAction, DlqArgs, DlqFilter},
    drain::letter::redriven,
    sqs::{BatchEntryError, Error as QueueError, MAX_MESSAGE_BYTES},
};

/// The error of a command on dead-lettered messages.
#[derive(Debug, thiserror::Error)]
pub enum DlqError {
    /// The queues can't be found.
    #[error(transparent)]
    Queues(#[from] QueuePairError),
    /// An SQS request failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The message was not found.
    #[error(
        "message {0} not found among the dead-lettered messages that could be read. Run `list` to see how many were read. A message held by another command becomes visible when that command ends"
    )]
    MessageNotFound(String),
    /// Some messages could not be read. The others were processed.
    #[error("read only {} of about {} dead-lettered messages: {}", .0.read, .0.total, incomplete_hint(*.0))]
    IncompleteScan(ScanCoverage),
    /// Some messages could not be sent or deleted.
    #[error(
        "{count} dead-lettered messages are still in the dead-letter queue; first error: {first}. Retry the command"
    )]
    NotProcessed {
        /// The number of messages.
        count: usize,
        /// The first error.
        first: BatchEntryError,
    },
    /// The user did not confirm.
    #[error("not confirmed; no messages were deleted")]
    NotConfirmed,
    /// Reading stdin or writing stdout failed.
    #[error("can't read the confirmation or write the output: {0}")]
    Output(#[from] io::Error),
}

/// Runs the command.
pub async fn command(args: DlqArgs) -> Result<(), DlqError> {
    run_action(&QueuePair::find(&args).await?, args.action).await
}

/// Runs one action and prints its result to stdout.
pub async fn run_action(queues: &QueuePair, action: DlqAction) -> Result<(), DlqError> {
    let mut out = io::stdout().lock();
    match action {
        DlqAction::List { filter, json } => list(queues, &filter, json, &mut out).await,
        DlqAction::Show { id } => show(queues, &id, &mut out).await,
        DlqAction::Redrive { filter, dry_run } => redrive(queues, &filter, dry_run, &mut out).await,
        DlqAction::Purge { filter, yes } => {
            if !yes && !confirm(queues, &filter, &mut out)? {
                return Err(DlqError::NotConfirmed);
            }
            purge(queues, &filter, &mut out).await
        }
    }
}

/// Counts messages by reason, the most frequent first, until `limit` has passed. Also returns
/// whether all messages were read.
pub async fn reasons(
    queues: &QueuePair,
    limit: Duration,
) -> Result<(Vec<ReasonCount>, bool), DlqError> {
    let started = Instant::now();
    let mut by_reason = BTreeMap::new();
    let mut scan = Scan::begin(queues.dead_letters.clone(), INITIAL_VISIBILITY).await?;
    let mut is_stopped = false;
    while let Some(messages) = scan.next().await? {
        for message in &messages {
            *by_reason.entry(message.label.reason.clone()).or_default() += 1;
        }
        if started.elapsed() > limit {
            is_stopped = true;
            break;
        }
    }
    let coverage = scan.end().await?;
    Ok((
        reason_counts(&by_reason),
        !is_stopped && coverage.is_complete(),
    ))
}

/// Counts the messages that match the filter, by reason.
pub async fn list(
    queues: &QueuePair,
    filter: &DlqFilter,
    json: bool,
    out: &mut impl Write,
) -> Result<(), DlqError> {
    let mut summary = Summary::default();
    let mut scan = Scan::begin(queues.dead_letters.clone(), INITIAL_VISIBILITY).await?;
    while let Some(messages) = scan.next().await? {
        for message in &messages {
            if matches(filter, message) {
                summary.add(message);
            }
        }
    }
    let coverage = scan.end().await?;
    let text = if json {
        summary.to_json()
    } else {
        summary.to_table(Timestamp::now(), coverage)
    };
    writeln!(out, "{text}")?;
    require_complete(coverage)
}

/// Prints one message.
pub async fn show(queues: &QueuePair, id: &str, out: &mut impl Write) -> Result<(), DlqError> {
    let mut scan = Scan::begin(queues.dead_letters.clone(), INITIAL_VISIBILITY).await?;
    let mut text = None;
    while let Some(messages) = scan.next().await? {
        text = messages
            .iter()
            .find(|message| message.message.id == id)
            .map(list::format_message);
        if text.is_some() {
            break;
        }
    }
    scan.end().await?;
    let text = text.ok_or_else(|| DlqError::MessageNotFound(id.to_owned()))?;
    writeln!(out, "{text}")?;
    Ok(())
}

/// Sends the selected messages to the main queue, then deletes them from the DLQ. If the command is
/// killed at any point, each message is in at least one of the queues. The duplicate delivery of a
/// message that is in both is idempotent by event ID.
pub async fn redrive(
    queues: &QueuePair,
    filter: &DlqFilter,
    dry_run: bool,
    out: &mut impl Write,
) -> Result<(), DlqError> {
    let is_fifo = queues.queue.is_fifo();
    let mut scan = Scan::begin(queues.dead_letters.clone(), INITIAL_VISIBILITY).await?;
    let mut sent = Summary::default();
    let mut failed = FailedEntries::default();
    while let Some(messages) = scan.next().await? {
        let selected = select(filter, messages);
        if dry_run {
            selected.iter().for_each(|message| sent.add(message));
            continue;
        }
        for batch in by_size(selected) {
            let outgoing = batch
                .iter()
                .map(|message| redriven(&message.message, is_fifo))
                .collect();
            let results = queues.queue.send(outgoing).await?;
            let accepted = failed.count_failed(batch, results);
            accepted.iter().for_each(|message| sent.add(message));
            let results = scan.delete(&accepted).await?;
            failed.count_failed(accepted, results);
        }
    }
    let coverage = scan.end().await?;
    let verb = if dry_run {
        "would be redriven"
    } else {
        "redriven"
    };
    writeln!(
        out,
        "{} dead-lettered messages {verb} to {}",
        sent.messages(),
        queues.queue.url()
    )?;
    for (reason, count) in sent.counts() {
        writeln!(out, "  {reason}: {count}")?;
    }
    failed.into_result()?;
    require_complete(coverage)
}

/// Deletes the selected messages.
pub async fn purge(
    queues: &QueuePair,
    filter: &DlqFilter,
    out: &mut impl Write,
) -> Result<(), DlqError> {
    let mut scan = Scan::begin(queues.dead_letters.clone(), INITIAL_VISIBILITY).await?;
    let mut purged = 0;
    let mut failed = FailedEntries::default();
    while let Some(messages) = scan.next().await? {
        let selected = select(filter, messages);
        let results = scan.delete(&selected).await?;
        purged += failed.count_failed(selected, results).len();
    }
    let coverage = scan.end().await?;
    writeln!(
        out,
        "{purged} dead-lettered messages deleted from {}",
        queues.dead_letters.url()
    )?;
    failed.into_result()?;
    require_complete(coverage)
}

/// Returns an error if the scan is incomplete.
fn require_complete(coverage: ScanCoverage) -> Result<(), DlqError> {
    if coverage.is_complete() {
        Ok(())
    } else {
        Err(DlqError::IncompleteScan(coverage))
    }
}

/// Returns why the scan is incomplete, and what to do.
fn incomplete_hint(coverage: ScanCoverage) -> &'static str {
    if coverage.is_fifo {
        "a FIFO queue returns at most the first ten messages of a message group until some of them are deleted. Redrive or purge the first ones regardless of reason, or wait for the command that holds them, then retry"
    } else {
        "another command holds the rest, or has just ended. Retry in a few minutes"
    }
}

/// The messages whose requests failed.
#[derive(Default)]
struct FailedEntries {
    count: usize,
    first: Option<BatchEntryError>,
}

impl FailedEntries {
    /// Counts the failed messages and returns the others.
    fn count_failed(
        &mut self,
        messages: Vec<DeadLetterMessage>,
        results: Vec<Result<(), BatchEntryError>>,
    ) -> Vec<DeadLetterMessage> {
        let mut succeeded = Vec::new();
        for (message, result) in messages.into_iter().zip(results) {
            match result {
                Ok(()) => succeeded.push(message),
                Err(error) => {
                    self.count += 1;
                    self.first.get_or_insert(error);
                }
            }
        }
        succeeded
    }

    fn into_result(self) -> Result<(), DlqError> {
        match self.first {
            Some(first) => Err(DlqError::NotProcessed {
                count: self.count,
                first,
            }),
            None => Ok(()),
        }
    }
}

fn select(filter: &DlqFilter, messages: Vec<DeadLetterMessage>) -> Vec<DeadLetterMessage> {
    messages
        .into_iter()
        .filter(|message| matches(filter, message))
        .collect()
}

fn matches(filter: &DlqFilter, message: &DeadLetterMessage) -> bool {
    let age = message
        .message
        .sent_at
        .map(|at| Timestamp::now().duration_since(at).unsigned_abs());
    (filter.reason.is_empty() || filter.reason.contains(&message.label.reason))
        && filter
            .older_than
            .is_none_or(|min| age.is_some_and(|age| age >= min.get()))
        && filter
            .newer_than
            .is_none_or(|max| age.is_some_and(|age| age <= max.get()))
}

/// Splits messages into batches. A batch must not be larger than the limit of a single message.
fn by_size(messages: Vec<DeadLetterMessage>) -> Vec<Vec<DeadLetterMessage>> {
    let mut batches: Vec<Vec<DeadLetterMessage>> = Vec::new();
    let mut bytes = usize::MAX;
    for message in messages {
        let size = redriven(&message.message, true).bytes();
        bytes = bytes.saturating_add(size);
        match batches.last_mut() {
            Some(batch) if bytes <= MAX_MESSAGE_BYTES => batch.push(message),
            _ => {
                bytes = size;
                batches.push(vec![message]);
            }
        }
    }
    batches
}

fn confirm(queues: &QueuePair, filter: &DlqFilter, out: &mut impl Write) -> Result<bool, DlqError> {
    let name = queues
        .dead_letters
        .url()
        .rsplit('/')
        .next()
        .unwrap_or_default();
    let what =
        if filter.reason.is_empty() && filter.older_than.is_none() && filter.newer_than.is_none() {
            "ALL dead-lettered messages".to_owned()
        } else {
            "the dead-lettered messages that match the filter".to_owned()
        };
    write!(
        out,
        "This permanently deletes {what} from {name}. Type the queue name to confirm: "
    )?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == name)
}
