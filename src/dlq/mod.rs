//! Dead letters: lists, shows, redrives and purges those of one forwarder.
//!
//! SQS has no way to look at a queue: [`walk`] receives each letter, keeps it hidden from others
//! meanwhile, and gives back what it leaves. Where it has not seen all, the command does what it can
//! and fails with [`DlqError::Unseen`]. [`place`] finds the queues.

pub mod place;
pub mod walk;

mod list;

use std::{
    collections::BTreeMap,
    io::{self, BufRead, Write},
    time::{Duration, Instant},
};

use jiff::Timestamp;

use self::{
    list::Summary,
    place::{QueuePair, QueuePairError},
    walk::{DeadLetterMessage, HIDDEN, Sight, Walk},
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
        "no dead letter {0} among those that could be seen: `list` says how many these are, and one that another command holds comes back after it"
    )]
    NoSuchLetter(String),
    /// Some letters could not be seen; what could be done with the others is done.
    #[error("only {} of about {} dead letters could be seen: {}", .0.seen, .0.total, hindrance(*.0))]
    Unseen(Sight),
    /// Some letters could not be sent or deleted.
    #[error(
        "{count} dead letters were left where they are, the first because of {first}; give the command again"
    )]
    Left {
        /// How many.
        count: usize,
        /// The first reason.
        first: BatchEntryError,
    },
    /// The answer was no.
    #[error("nothing was deleted")]
    NotConfirmed,
    /// The terminal or pipe failed.
    #[error("the output can't be written: {0}")]
    Output(#[from] io::Error),
}

/// Runs the command.
pub async fn command(args: DlqArgs) -> Result<(), DlqError> {
    act(&QueuePair::find(&args).await?, args.action).await
}

/// Does one thing to the letters of a place, and says on standard output what.
pub async fn act(queues: &QueuePair, action: DlqAction) -> Result<(), DlqError> {
    let mut out = io::stdout().lock();
    match action {
        DlqAction::List { which, json } => list(queues, &which, json, &mut out).await,
        DlqAction::Show { id } => show(queues, &id, &mut out).await,
        DlqAction::Redrive { which, dry_run } => redrive(queues, &which, dry_run, &mut out).await,
        DlqAction::Purge { which, yes } => {
            if !yes && !confirm(queues, &which, &mut out)? {
                return Err(DlqError::NotConfirmed);
            }
            purge(queues, &which, &mut out).await
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
    let mut walk = Walk::begin(queues.dead_letters.clone(), HIDDEN).await?;
    let mut is_cut = false;
    while let Some(found) = walk.next().await? {
        for letter in &found {
            *by_reason.entry(letter.label.reason.clone()).or_default() += 1;
        }
        if started.elapsed() > limit {
            is_cut = true;
            break;
        }
    }
    let sight = walk.end().await?;
    Ok((reason_counts(&by_reason), !is_cut && sight.is_whole()))
}

/// Counts the letters that `which` selects, by reason.
pub async fn list(
    queues: &QueuePair,
    which: &DlqFilter,
    json: bool,
    out: &mut impl Write,
) -> Result<(), DlqError> {
    let mut summary = Summary::default();
    let mut walk = Walk::begin(queues.dead_letters.clone(), HIDDEN).await?;
    while let Some(found) = walk.next().await? {
        for letter in &found {
            if selects(which, letter) {
                summary.add(letter);
            }
        }
    }
    let sight = walk.end().await?;
    let text = if json {
        summary.to_json()
    } else {
        summary.to_table(Timestamp::now(), sight)
    };
    writeln!(out, "{text}")?;
    whole(sight)
}

/// Prints one letter.
pub async fn show(queues: &QueuePair, id: &str, out: &mut impl Write) -> Result<(), DlqError> {
    let mut walk = Walk::begin(queues.dead_letters.clone(), HIDDEN).await?;
    let mut text = None;
    while let Some(found) = walk.next().await? {
        text = found
            .iter()
            .find(|letter| letter.message.id == id)
            .map(list::in_full);
        if text.is_some() {
            break;
        }
    }
    walk.end().await?;
    let text = text.ok_or_else(|| DlqError::NoSuchLetter(id.to_owned()))?;
    writeln!(out, "{text}")?;
    Ok(())
}

/// Sends the selected letters to the main queue, then deletes them here. Killed at any point, a
/// letter is in one of the queues, or for once in both, which changes nothing in Iterable.
pub async fn redrive(
    queues: &QueuePair,
    which: &DlqFilter,
    dry_run: bool,
    out: &mut impl Write,
) -> Result<(), DlqError> {
    let is_fifo = queues.queue.is_fifo();
    let mut walk = Walk::begin(queues.dead_letters.clone(), HIDDEN).await?;
    let mut sent = Summary::default();
    let mut left = Left::default();
    while let Some(found) = walk.next().await? {
        let chosen = chosen(which, found);
        if dry_run {
            chosen.iter().for_each(|letter| sent.add(letter));
            continue;
        }
        for batch in by_size(chosen) {
            let outgoing = batch
                .iter()
                .map(|letter| redriven(&letter.message, is_fifo))
                .collect();
            let results = queues.queue.send(outgoing).await?;
            let arrived = left.without(batch, results);
            arrived.iter().for_each(|letter| sent.add(letter));
            let results = walk.delete(&arrived).await?;
            left.without(arrived, results);
        }
    }
    let sight = walk.end().await?;
    let verb = if dry_run { "would be sent" } else { "sent" };
    writeln!(
        out,
        "{} dead letters {verb} to {}",
        sent.letters(),
        queues.queue.url()
    )?;
    for (reason, count) in sent.counts() {
        writeln!(out, "  {reason}: {count}")?;
    }
    left.into_result()?;
    whole(sight)
}

/// Deletes the selected letters.
pub async fn purge(
    queues: &QueuePair,
    which: &DlqFilter,
    out: &mut impl Write,
) -> Result<(), DlqError> {
    let mut walk = Walk::begin(queues.dead_letters.clone(), HIDDEN).await?;
    let mut purged = 0;
    let mut left = Left::default();
    while let Some(found) = walk.next().await? {
        let chosen = chosen(which, found);
        let results = walk.delete(&chosen).await?;
        purged += left.without(chosen, results).len();
    }
    let sight = walk.end().await?;
    writeln!(
        out,
        "{purged} dead letters deleted from {}",
        queues.dead_letters.url()
    )?;
    left.into_result()?;
    whole(sight)
}

/// An error if letters were missed.
fn whole(sight: Sight) -> Result<(), DlqError> {
    if sight.is_whole() {
        Ok(())
    } else {
        Err(DlqError::Unseen(sight))
    }
}

/// Why letters may have been missed, and what to do.
fn hindrance(sight: Sight) -> &'static str {
    if sight.is_fifo {
        "a FIFO queue shows at most the first ten letters of a message group until some of these are gone. Redrive or purge the first ones, whatever their reason, or wait for another command that holds them, and give the command again"
    } else {
        "another command holds the others, or has just ended. Give the command again in a few minutes"
    }
}

/// What could not be done, one by one.
#[derive(Default)]
struct Left {
    count: usize,
    first: Option<BatchEntryError>,
}

impl Left {
    /// Those that went well.
    fn without(
        &mut self,
        letters: Vec<DeadLetterMessage>,
        results: Vec<Result<(), BatchEntryError>>,
    ) -> Vec<DeadLetterMessage> {
        let mut well = Vec::new();
        for (letter, result) in letters.into_iter().zip(results) {
            match result {
                Ok(()) => well.push(letter),
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
            Some(first) => Err(DlqError::Left {
                count: self.count,
                first,
            }),
            None => Ok(()),
        }
    }
}

fn chosen(which: &DlqFilter, found: Vec<DeadLetterMessage>) -> Vec<DeadLetterMessage> {
    found
        .into_iter()
        .filter(|letter| selects(which, letter))
        .collect()
}

fn selects(which: &DlqFilter, letter: &DeadLetterMessage) -> bool {
    let age = letter
        .message
        .sent_at
        .map(|at| Timestamp::now().duration_since(at).unsigned_abs());
    (which.reason.is_empty() || which.reason.contains(&letter.label.reason))
        && which
            .older_than
            .is_none_or(|least| age.is_some_and(|age| age >= least.get()))
        && which
            .newer_than
            .is_none_or(|most| age.is_some_and(|age| age <= most.get()))
}

/// Letters that fit into one send: together no larger than one message may be.
fn by_size(letters: Vec<DeadLetterMessage>) -> Vec<Vec<DeadLetterMessage>> {
    let mut batches: Vec<Vec<DeadLetterMessage>> = Vec::new();
    let mut bytes = usize::MAX;
    for letter in letters {
        let own = redriven(&letter.message, true).bytes();
        bytes = bytes.saturating_add(own);
        match batches.last_mut() {
            Some(batch) if bytes <= MAX_MESSAGE_BYTES => batch.push(letter),
            _ => {
                bytes = own;
                batches.push(vec![letter]);
            }
        }
    }
    batches
}

fn confirm(queues: &QueuePair, which: &DlqFilter, out: &mut impl Write) -> Result<bool, DlqError> {
    let name = queues
        .dead_letters
        .url()
        .rsplit('/')
        .next()
        .unwrap_or_default();
    let what =
        if which.reason.is_empty() && which.older_than.is_none() && which.newer_than.is_none() {
            "ALL dead letters".to_owned()
        } else {
            "the dead letters that these options select".to_owned()
        };
    write!(
        out,
        "This deletes {what} of {name} for good. Write the queue's name to go on: "
    )?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == name)
}
