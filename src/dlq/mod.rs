//! Dead letters: lists, shows, redrives and purges those of one forwarder.
//!
//! SQS has no way to look at a queue: [`scan`] receives each letter, keeps it hidden from others
//! meanwhile, and gives back what it leaves. Where it has not seen all, the command does what it can
//! and fails with [`DlqError::IncompleteScan`]. [`queues`] finds the queues.

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

/// Why a command on dead letters failed.
#[derive(Debug, thiserror::Error)]
pub enum DlqError {
    /// The queues can't be found.
    #[error(transparent)]
    Queues(#[from] QueuePairError),
    /// SQS failed or refused.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// There is no such letter.
    #[error(
        "message {0} not found among the dead-lettered messages that could be read. Run `list` to see how many were read. A message held by another command becomes visible when that command ends"
    )]
    MessageNotFound(String),
    /// Some letters could not be seen; what could be done with the others is done.
    #[error("read only {} of about {} dead-lettered messages: {}", .0.read, .0.total, incomplete_hint(*.0))]
    IncompleteScan(ScanCoverage),
    /// Some letters could not be sent or deleted.
    #[error(
        "{count} dead-lettered messages were not processed; first error: {first}. Retry the command"
    )]
    NotProcessed {
        /// How many.
        count: usize,
        /// The first reason.
        first: BatchEntryError,
    },
    /// The answer was no.
    #[error("not confirmed; no messages were deleted")]
    NotConfirmed,
    /// The terminal or pipe failed.
    #[error("can't write the output: {0}")]
    Output(#[from] io::Error),
}

/// Runs the command.
pub async fn command(args: DlqArgs) -> Result<(), DlqError> {
    run_action(&QueuePair::find(&args).await?, args.action).await
}

/// Does one thing to the letters of a place, and says on standard output what.
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

/// Counts letters by reason, the most frequent first, until `limit` has passed. Whether all could
/// be looked at is told beside them.
pub async fn reasons(
    queues: &QueuePair,
    limit: Duration,
) -> Result<(Vec<ReasonCount>, bool), DlqError> {
    let started = Instant::now();
    let mut by_reason = BTreeMap::new();
    let mut scan = Scan::begin(queues.dead_letters.clone(), INITIAL_VISIBILITY).await?;
    let mut is_cut = false;
    while let Some(found) = scan.next().await? {
        for message in &found {
            *by_reason.entry(message.label.reason.clone()).or_default() += 1;
        }
        if started.elapsed() > limit {
            is_cut = true;
            break;
        }
    }
    let coverage = scan.end().await?;
    Ok((reason_counts(&by_reason), !is_cut && coverage.is_complete()))
}

/// Counts the letters that `which` selects, by reason.
pub async fn list(
    queues: &QueuePair,
    filter: &DlqFilter,
    json: bool,
    out: &mut impl Write,
) -> Result<(), DlqError> {
    let mut summary = Summary::default();
    let mut scan = Scan::begin(queues.dead_letters.clone(), INITIAL_VISIBILITY).await?;
    while let Some(found) = scan.next().await? {
        for message in &found {
            if selects(filter, message) {
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

/// Prints one letter.
pub async fn show(queues: &QueuePair, id: &str, out: &mut impl Write) -> Result<(), DlqError> {
    let mut scan = Scan::begin(queues.dead_letters.clone(), INITIAL_VISIBILITY).await?;
    let mut text = None;
    while let Some(found) = scan.next().await? {
        text = found
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

/// Sends the selected letters to the main queue, then deletes them here. Killed at any point, a
/// letter is in one of the queues, or for once in both, which changes nothing in Iterable.
pub async fn redrive(
    queues: &QueuePair,
    filter: &DlqFilter,
    dry_run: bool,
    out: &mut impl Write,
) -> Result<(), DlqError> {
    let is_fifo = queues.queue.is_fifo();
    let mut scan = Scan::begin(queues.dead_letters.clone(), INITIAL_VISIBILITY).await?;
    let mut sent = Summary::default();
    let mut left = FailedEntries::default();
    while let Some(found) = scan.next().await? {
        let chosen = chosen(filter, found);
        if dry_run {
            chosen.iter().for_each(|message| sent.add(message));
            continue;
        }
        for batch in by_size(chosen) {
            let outgoing = batch
                .iter()
                .map(|message| redriven(&message.message, is_fifo))
                .collect();
            let results = queues.queue.send(outgoing).await?;
            let arrived = left.partition_failed(batch, results);
            arrived.iter().for_each(|message| sent.add(message));
            let results = scan.delete(&arrived).await?;
            left.partition_failed(arrived, results);
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
    left.into_result()?;
    require_complete(coverage)
}

/// Deletes the selected letters.
pub async fn purge(
    queues: &QueuePair,
    filter: &DlqFilter,
    out: &mut impl Write,
) -> Result<(), DlqError> {
    let mut scan = Scan::begin(queues.dead_letters.clone(), INITIAL_VISIBILITY).await?;
    let mut purged = 0;
    let mut left = FailedEntries::default();
    while let Some(found) = scan.next().await? {
        let chosen = chosen(filter, found);
        let results = scan.delete(&chosen).await?;
        purged += left.partition_failed(chosen, results).len();
    }
    let coverage = scan.end().await?;
    writeln!(
        out,
        "{purged} dead-lettered messages deleted from {}",
        queues.dead_letters.url()
    )?;
    left.into_result()?;
    require_complete(coverage)
}

/// An error if letters were missed.
fn require_complete(coverage: ScanCoverage) -> Result<(), DlqError> {
    if coverage.is_complete() {
        Ok(())
    } else {
        Err(DlqError::IncompleteScan(coverage))
    }
}

/// Why letters may have been missed, and what to do.
fn incomplete_hint(coverage: ScanCoverage) -> &'static str {
    if coverage.is_fifo {
        "a FIFO queue returns at most the first ten messages of a message group until some of them are deleted. Redrive or purge the first ones regardless of reason, or wait for the command that holds them, then retry"
    } else {
        "another command holds the rest, or has just ended. Retry in a few minutes"
    }
}

/// What could not be done, one by one.
#[derive(Default)]
struct FailedEntries {
    count: usize,
    first: Option<BatchEntryError>,
}

impl FailedEntries {
    /// Those that went well.
    fn partition_failed(
        &mut self,
        messages: Vec<DeadLetterMessage>,
        results: Vec<Result<(), BatchEntryError>>,
    ) -> Vec<DeadLetterMessage> {
        let mut well = Vec::new();
        for (message, result) in messages.into_iter().zip(results) {
            match result {
                Ok(()) => well.push(message),
                Err(error) => {
                    self.count += 1;
                    self.first.get_or_insert(error);
                }
            }
        }
        well
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

fn chosen(filter: &DlqFilter, found: Vec<DeadLetterMessage>) -> Vec<DeadLetterMessage> {
    found
        .into_iter()
        .filter(|message| selects(filter, message))
        .collect()
}

fn selects(filter: &DlqFilter, message: &DeadLetterMessage) -> bool {
    let age = message
        .message
        .sent_at
        .map(|at| Timestamp::now().duration_since(at).unsigned_abs());
    (filter.reason.is_empty() || filter.reason.contains(&message.label.reason))
        && filter
            .older_than
            .is_none_or(|least| age.is_some_and(|age| age >= least.get()))
        && filter
            .newer_than
            .is_none_or(|most| age.is_some_and(|age| age <= most.get()))
}

/// Letters that fit into one send: together no larger than one message may be.
fn by_size(messages: Vec<DeadLetterMessage>) -> Vec<Vec<DeadLetterMessage>> {
    let mut batches: Vec<Vec<DeadLetterMessage>> = Vec::new();
    let mut bytes = usize::MAX;
    for message in messages {
        let own = redriven(&message.message, true).bytes();
        bytes = bytes.saturating_add(own);
        match batches.last_mut() {
            Some(batch) if bytes <= MAX_MESSAGE_BYTES => batch.push(message),
            _ => {
                bytes = own;
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
