//! Does what [`Engine`] says, each action in a task of its own, and tells it what came of it.

use std::{
    collections::HashMap,
    future::Future,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::{
    select,
    sync::{mpsc, oneshot},
    task::JoinSet,
    time,
};
use tracing::{Instrument, Span, debug_span};

use super::{
    blame::Cause,
    engine::{Action, Content, Done, Engine, Opened, Parcel, Unread},
    letter::first_sent_at,
    progress::Progress,
    report::Outcome,
    tally::Tally,
};
use crate::{
    iterable::Client,
    mapping::{MappedBody, Mapper},
    sqs::{self, Message, PayloadError, Payloads, QueueClient, Room, Squeeze},
};

/// How long a receive waits for a message. A second makes SQS ask all its hosts, so that an empty
/// answer means an empty queue.
const WAIT: Duration = Duration::from_secs(1);

/// What actions are done with.
#[derive(Clone)]
pub struct Hands {
    /// The queue.
    pub queue: QueueClient,
    /// Its dead-letter queue.
    pub dead_letters: Option<QueueClient>,
    /// What messages point to.
    pub payloads: Payloads,
    /// The project.
    pub iterable: Client,
    /// The mapping.
    pub mapper: Arc<Mapper>,
    /// How long a received message stays invisible, if not for the queue's own timeout.
    pub visibility: Option<Duration>,
}

/// Runs to the end, or until `stop` is done.
pub async fn run(
    hands: Hands,
    mut engine: Engine,
    stop: impl Future<Output = ()>,
) -> (Outcome, Tally) {
    let mut stop = pin!(stop);
    let mut stopped = false;
    let mut tasks = JoinSet::new();
    let (ask, mut squeezes) = mpsc::unbounded_channel();
    let mut waiting: HashMap<u64, oneshot::Sender<()>> = HashMap::new();
    let progress = Progress::on_terminal();
    loop {
        for receive in engine.answers_to_read() {
            // Where the receive has failed in the meantime, that is told by itself.
            let _ = waiting.remove(&receive).map(|read| read.send(()));
        }
        for action in engine.actions(Instant::now()) {
            let span = span(&action);
            let task = hands.clone().perform(action, ask.clone());
            tasks.spawn(task.instrument(span));
        }
        progress.show(engine.tally(), engine.waiting());
        if let Some(outcome) = engine.ended() {
            return (outcome, engine.tally().clone());
        }
        let wake = engine.wake_at().map(time::Instant::from_std);
        select! {
            Some(done) = tasks.join_next() => match done {
                Ok(done) => engine.done(done, Instant::now()),
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(error) => tracing::error!(%error, "a task was cancelled"),
                },
            },
            Some(squeeze) = squeezes.recv() => {
                let done = match squeeze {
                    Squeeze::Larger { receive, bytes, read } => {
                        waiting.insert(receive, read);
                        Done::Answered { receive, bytes }
                    }
                    Squeeze::Stalled => Done::Stalled,
                };
                engine.done(done, Instant::now());
            }
            () = time::sleep_until(wake.unwrap_or_else(time::Instant::now)), if wake.is_some() => {}
            () = &mut stop, if !stopped => {
                stopped = true;
                engine.interrupt(Instant::now());
            }
        }
    }
}

/// What a trace shows of an action; none of those that only keep or give back messages.
fn span(action: &Action) -> Span {
    match action {
        Action::Receive { max, .. } => {
            debug_span!("receive", otel.kind = "client", asked = max)
        }
        Action::Read(_, limit) => debug_span!("read", otel.kind = "client", limit),
        Action::Post(group) => {
            debug_span!("post", otel.kind = "client", bytes = group.bytes())
        }
        Action::Delete(deletions) => {
            debug_span!("delete", otel.kind = "client", messages = deletions.len())
        }
        Action::CreateUsers(users) => {
            debug_span!("create users", otel.kind = "client", users = users.len())
        }
        Action::SendDeadLetters(letters) => {
            debug_span!(
                "send dead-lettered messages",
                otel.kind = "client",
                messages = letters.len()
            )
        }
        Action::ReadDepth
        | Action::Extend(..)
        | Action::GiveBack(..)
        | Action::DeletePayload(_) => Span::none(),
    }
}

impl Hands {
    async fn perform(self, action: Action, ask: mpsc::UnboundedSender<Squeeze>) -> Done {
        let began = Instant::now();
        match action {
            Action::ReadDepth => {
                let depth = self.queue.depth_without_dlq().await.inspect_err(|error| {
                    tracing::warn!(%error, "could not read the queue depth");
                });
                Done::Depth(depth.ok().map(|depth| depth.visible))
            }
            Action::Receive {
                receive,
                max,
                bytes,
            } => {
                let room = Room {
                    receive,
                    bytes,
                    ask,
                };
                let received = self.queue.receive(max, WAIT, self.visibility, Some(room));
                let open = |message| self.open(message);
                let result = received.await;
                let result = result.map(|messages| messages.into_iter().map(open).collect());
                Done::Received {
                    receive,
                    began,
                    result,
                }
            }
            Action::Read(unread, limit) => {
                let result = self.read(&unread, limit).await;
                Done::Read {
                    unread,
                    limit,
                    result,
                }
            }
            Action::Post(group) => {
                let answer = self.iterable.track_bulk(group.encode()).await;
                Done::Posted {
                    began,
                    group,
                    answer,
                }
            }
            Action::Delete(deletions) => {
                let handles: Vec<_> = deletions
                    .iter()
                    .map(|one| one.settled.message().receipt.handle.clone())
                    .collect();
                let result = self.queue.delete(&handles).await;
                Done::Deleted { deletions, result }
            }
            Action::Extend(receipts, timeout) => {
                let handles: Vec<_> = receipts
                    .iter()
                    .map(|receipt| receipt.handle.clone())
                    .collect();
                let result = self.queue.change_visibility(&handles, timeout).await;
                Done::Extended {
                    began,
                    receipts,
                    result,
                }
            }
            Action::GiveBack(handles, after) => {
                if let Err(error) = self.queue.change_visibility(&handles, after).await {
                    tracing::warn!(
                        %error,
                        "could not release messages; they become visible when their visibility \
                         timeout ends"
                    );
                }
                Done::GivenBack
            }
            Action::CreateUsers(users) => {
                let answer = self.iterable.create_users(&users).await;
                Done::CreatedUsers { users, answer }
            }
            Action::DeletePayload(payload) => {
                Done::DeletedPayload(self.payloads.delete(&payload).await)
            }
            Action::SendDeadLetters(letters) => {
                let outgoing = letters
                    .iter()
                    .map(|letter| letter.outgoing.clone())
                    .collect();
                let result = match &self.dead_letters {
                    Some(queue) => queue.send(outgoing).await,
                    None => Ok(Vec::new()),
                };
                Done::SentDeadLetters { letters, result }
            }
        }
    }

    /// Maps a message's body, here so that it runs on all threads.
    fn open(&self, message: Message) -> Parcel {
        let sent_at = first_sent_at(&message);
        let content = match sqs::pointer(&message) {
            Some(pointer) => Content::Elsewhere(pointer),
            None => Content::Here(self.map(&message.id, &message.body, sent_at)),
        };
        Parcel {
            id: message.id,
            handle: message.receipt_handle,
            body: message.body,
            sent_at,
            group: message.group,
            content,
        }
    }

    /// Reads and maps a message's payload.
    async fn read(&self, unread: &Unread, limit: usize) -> Result<Opened, PayloadError> {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        let read = self.payloads.read(&unread.pointer, limit).await;
        let body = read.inspect_err(|error| {
            tracing::warn!(message = unread.id, %error, "could not read a payload");
        })?;
        let mapped = self.map(&unread.id, &body, unread.sent_at);
        Ok(Opened { body, mapped })
    }

    fn map(&self, id: &str, body: &str, sent_at: Option<Timestamp>) -> Result<MappedBody, Cause> {
        self.mapper.map(body, sent_at).map_err(|error| {
            let (reason, detail) = (error.reason(), error.to_string());
            tracing::warn!(
                message = id,
                reason,
                detail,
                "could not parse a message; it stays in the queue"
            );
            Cause {
                reason: reason.to_owned(),
                detail,
            }
        })
    }
}
