//! Dead letters: lists, shows, redrives and purges those of one forwarder.
//!
//! SQS has no way to look at a queue: [`walk`] receives each letter once, hidden from others for
//! a while, and gives back what it leaves. [`place`] finds the queues.

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
    place::{Place, PlaceError},
    walk::{Found, Walk},
};
use crate::{
    api::{ReasonCount, reason_counts},
    cli::{DlqAction, DlqArgs, DlqFilter},
    drain::letter::redriven,
    sqs::{EntryError, Error as QueueError, MAX_MESSAGE_BYTES, QueueClient},
};

/// Why a command on dead letters failed.
#[derive(Debug, thiserror::Error)]
pub enum DlqError {
    /// The queues can't be found.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// SQS failed or refused.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// There is no such letter.
    #[error(
        "no dead letter {0} among those that could be seen: `list` shows them, and one that another command holds comes back within two minutes"
    )]
    NoSuchLetter(String),
    /// Some letters could not be sent or deleted.
    #[error(
        "{count} dead letters were left where they are, the first because of {first}; give the command again"
    )]
    Left {
        /// How many.
        count: usize,
        /// The first reason.
        first: EntryError,
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
    act(&Place::find(&args).await?, args.action).await
}

/// Does one thing to the letters of a place, and says on standard output what.
pub async fn act(place: &Place, action: DlqAction) -> Result<(), DlqError> {
    let mut out = io::stdout().lock();
    match action {
        DlqAction::List { which, json } => list(place, &which, json, &mut out).await,
        DlqAction::Show { id } => show(place, &id, &mut out).await,
        DlqAction::Redrive { which, dry_run } => redrive(place, &which, dry_run, &mut out).await,
        DlqAction::Purge { which, yes } => {
            if !yes && !confirm(place, &which, &mut out)? {
                return Err(DlqError::NotConfirmed);
            }
            purge(place, &which, &mut out).await
        }
    }
}

/// Counts letters by reason, the most frequent first, until `limit` has passed. Whether all could
/// be looked at is told beside them.
pub async fn reasons(place: &Place, limit: Duration) -> Result<(Vec<ReasonCount>, bool), DlqError> {
    let started = Instant::now();
    let mut by_reason = BTreeMap::new();
    let mut walk = Walk::new(place.dead_letters.clone());
    let mut is_all = true;
    while let Some(found) = walk.next().await? {
        for letter in &found {
            *by_reason.entry(letter.label.reason.clone()).or_default() += 1;
        }
        walk.leave(found);
        if started.elapsed() > limit {
            is_all = false;
            break;
        }
    }
    walk.give_back().await;
    Ok((reason_counts(&by_reason), is_all))
}

/// Counts the letters that `which` selects, by reason.
pub async fn list(
    place: &Place,
    which: &DlqFilter,
    json: bool,
    out: &mut impl Write,
) -> Result<(), DlqError> {
    let mut summary = Summary::default();
    let mut walk = Walk::new(place.dead_letters.clone());
    while let Some(found) = walk.next().await? {
        for letter in &found {
            if selects(which, letter) {
                summary.add(letter);
            }
        }
        walk.leave(found);
    }
    walk.give_back().await;
    let depth = place.dead_letters.settings().await?.depth;
    let text = if json {
        summary.to_json()
    } else {
        summary.to_table(Timestamp::now(), depth)
    };
    writeln!(out, "{text}")?;
    Ok(())
}

/// Prints one letter.
pub async fn show(place: &Place, id: &str, out: &mut impl Write) -> Result<(), DlqError> {
    let mut walk = Walk::new(place.dead_letters.clone());
    let mut text = None;
    while let Some(found) = walk.next().await? {
        text = found
            .iter()
            .find(|letter| letter.message.id == id)
            .map(list::in_full);
        walk.leave(found);
        if text.is_some() {
            break;
        }
    }
    walk.give_back().await;
    let text = text.ok_or_else(|| DlqError::NoSuchLetter(id.to_owned()))?;
    writeln!(out, "{text}")?;
    Ok(())
}

/// Sends the selected letters to the main queue, then deletes them here. Killed at any point, a
/// letter is in one of the queues, or for once in both, which changes nothing in Iterable.
pub async fn redrive(
    place: &Place,
    which: &DlqFilter,
    dry_run: bool,
    out: &mut impl Write,
) -> Result<(), DlqError> {
    let is_fifo = place.queue.url().ends_with(".fifo");
    let mut walk = Walk::new(place.dead_letters.clone());
    let mut sent = Summary::default();
    let mut left = Left::default();
    while let Some(found) = walk.next().await? {
        let (chosen, others): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|letter| selects(which, letter));
        walk.leave(others);
        if dry_run {
            chosen.iter().for_each(|letter| sent.add(letter));
            walk.leave(chosen);
            continue;
        }
        for batch in by_size(chosen) {
            let outgoing = batch
                .iter()
                .map(|letter| redriven(&letter.message, is_fifo))
                .collect();
            let results = place.queue.send(outgoing).await?;
            let (arrived, kept) = left.split(batch, results);
            walk.leave(kept);
            arrived.iter().for_each(|letter| sent.add(letter));
            delete(&place.dead_letters, arrived, &mut left).await?;
        }
    }
    walk.give_back().await;
    let verb = if dry_run { "would be sent" } else { "sent" };
    writeln!(
        out,
        "{} dead letters {verb} to {}",
        sent.letters(),
        place.queue.url()
    )?;
    for (reason, count) in sent.counts() {
        writeln!(out, "  {reason}: {count}")?;
    }
    left.into_result()
}

/// Deletes the selected letters.
pub async fn purge(place: &Place, which: &DlqFilter, out: &mut impl Write) -> Result<(), DlqError> {
    let mut walk = Walk::new(place.dead_letters.clone());
    let mut purged = 0;
    let mut left = Left::default();
    while let Some(found) = walk.next().await? {
        let (chosen, others): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|letter| selects(which, letter));
        walk.leave(others);
        purged += delete(&place.dead_letters, chosen, &mut left).await?;
    }
    walk.give_back().await;
    writeln!(
        out,
        "{purged} dead letters deleted from {}",
        place.dead_letters.url()
    )?;
    left.into_result()
}

async fn delete(
    queue: &QueueClient,
    letters: Vec<Found>,
    left: &mut Left,
) -> Result<usize, DlqError> {
    if letters.is_empty() {
        return Ok(0);
    }
    let handles: Vec<_> = letters
        .iter()
        .map(|letter| letter.message.receipt.clone())
        .collect();
    let results = queue.delete(&handles).await?;
    Ok(left.split(letters, results).0.len())
}

/// What could not be done, one by one.
#[derive(Default)]
struct Left {
    count: usize,
    first: Option<EntryError>,
}

impl Left {
    /// Those that went well, and the others.
    fn split(
        &mut self,
        letters: Vec<Found>,
        results: Vec<Result<(), EntryError>>,
    ) -> (Vec<Found>, Vec<Found>) {
        let (mut well, mut badly) = (Vec::new(), Vec::new());
        for (letter, result) in letters.into_iter().zip(results) {
            match result {
                Ok(()) => well.push(letter),
                Err(error) => {
                    self.count += 1;
                    self.first.get_or_insert(error);
                    badly.push(letter);
                }
            }
        }
        (well, badly)
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

fn selects(which: &DlqFilter, letter: &Found) -> bool {
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
fn by_size(letters: Vec<Found>) -> Vec<Vec<Found>> {
    let mut batches: Vec<Vec<Found>> = Vec::new();
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

fn confirm(place: &Place, which: &DlqFilter, out: &mut impl Write) -> Result<bool, DlqError> {
    let name = place
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
