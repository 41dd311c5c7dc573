//! A walk through a queue: each message once.

use std::{collections::HashSet, time::Duration};

use crate::{
    drain::letter::Label,
    sqs::{Error, MAX_ENTRIES, Message, QueueClient},
};

/// How long a letter stays hidden while a command looks at the others.
const HIDDEN: Duration = Duration::from_secs(120);

/// Long enough that every host of SQS is asked.
const WAIT: Duration = Duration::from_secs(1);

/// A letter with what it says of itself.
#[derive(Clone, Debug)]
pub struct Found {
    /// The message.
    pub message: Message,
    /// Its label.
    pub label: Label,
}

/// A walk under way.
#[derive(Debug)]
pub struct Walk {
    queue: QueueClient,
    seen: HashSet<String>,
    left: Vec<String>,
}

impl Walk {
    /// A walk that begins.
    pub fn new(queue: QueueClient) -> Self {
        Self {
            queue,
            seen: HashSet::new(),
            left: Vec::new(),
        }
    }

    /// The next letters, ten at most; none when all were seen. Those of a failed call come back
    /// by themselves.
    pub async fn next(&mut self) -> Result<Option<Vec<Found>>, Error> {
        let received = self.queue.receive(MAX_ENTRIES, WAIT, Some(HIDDEN)).await?;
        let count = received.len();
        let (mut new, mut again) = (Vec::new(), Vec::new());
        for message in received {
            if self.seen.insert(message.id.clone()) {
                new.push(Found {
                    label: Label::read(&message),
                    message,
                });
            } else {
                again.push(message.receipt);
            }
        }
        // What is shown a second time was hidden long enough: the walk has come round.
        let is_round = new.is_empty() && count > 0;
        self.left.extend(again);
        Ok((count > 0 && !is_round).then_some(new))
    }

    /// Notes letters that stay.
    pub fn leave(&mut self, letters: Vec<Found>) {
        self.left
            .extend(letters.into_iter().map(|letter| letter.message.receipt));
    }

    /// Shows the letters that stay to others again, at once. Where that fails they come back by
    /// themselves.
    pub async fn give_back(self) {
        for handles in self.left.chunks(MAX_ENTRIES) {
            if let Err(error) = self.queue.extend(handles, Duration::ZERO).await {
                tracing::warn!(%error, "dead letters stay hidden for two minutes");
                return;
            }
        }
    }
}
