//! The condition on the dead-letter queue: its messages, and whether runs can send to it.

use super::conditions::{ConditionDraft, DEAD_LETTERS_EMPTY, previous_condition};
use crate::{
    api::{EventForwarder, EventForwarderStatus, RejectedEventPolicy},
    drain::report::DEAD_LETTER_QUEUE_DENIED,
};

/// The reason if a run could not send to the dead-letter queue.
const DENIED: &str = "DeadLetterQueueDenied";

/// Returns the condition DeadLettersEmpty for `status`.
pub fn dead_letters_empty(
    forwarder: &EventForwarder,
    previous: &EventForwarderStatus,
    status: &EventForwarderStatus,
) -> ConditionDraft {
    let draft = |status, reason, message: String| {
        ConditionDraft::new(DEAD_LETTERS_EMPTY, status, reason, message)
    };
    let uses_dlq = forwarder.spec.drain.rejected == RejectedEventPolicy::DeadLetter;
    if uses_dlq && let Some(denied) = denied(previous, status) {
        return denied;
    }
    match status.queue.as_ref().map(|queue| queue.dead_letters) {
        None => draft(
            "Unknown",
            "DepthUnknown",
            "Queue depth has not been polled yet".to_owned(),
        ),
        Some(None) => {
            let effect = match uses_dlq {
                true => {
                    "messages with rejected events stay in the queue, as with spec.drain.rejected: Leave, and are retried until they expire"
                }
                false => "a message that can never be forwarded is retried until it expires",
            };
            draft(
                "Unknown",
                "NoDeadLetterQueue",
                format!(
                    "No readable dead-letter queue found. Without one, {effect}. Add a redrive policy to the queue, set spec.queue.deadLetterUrl, or grant sqs:GetQueueAttributes on the dead-letter queue"
                ),
            )
        }
        Some(Some(0)) => draft("True", "Empty", "Dead-letter queue is empty".to_owned()),
        Some(Some(count)) => {
            let metadata = &forwarder.metadata;
            let command = |action: &str| {
                format!(
                    "kubectl forwarder dlq {} {action} -n {}",
                    metadata.name.as_deref().unwrap_or_default(),
                    metadata.namespace.as_deref().unwrap_or_default(),
                )
            };
            draft(
                "False",
                "DeadLettersPresent",
                format!(
                    "About {count} messages are in the dead-letter queue. List the reasons with `{}`, fix the cause, and redrive with `{}` before the retention period ends",
                    command("list"),
                    command("redrive"),
                ),
            )
        }
    }
}

/// Returns the condition if the last run was denied access to the dead-letter queue. Keeps the
/// previous one while a run is in progress.
fn denied(
    previous: &EventForwarderStatus,
    status: &EventForwarderStatus,
) -> Option<ConditionDraft> {
    let run = status.last_run.as_ref()?;
    if run.finished_at.is_none() {
        return previous_condition(previous, DEAD_LETTERS_EMPTY)
            .filter(|before| before.has_reason(DENIED));
    }
    let denied = run
        .reasons
        .iter()
        .any(|count| count.reason == DEAD_LETTER_QUEUE_DENIED);
    denied.then(|| {
        ConditionDraft::new(
            DEAD_LETTERS_EMPTY,
            "False",
            DENIED,
            format!(
                "Job {} could not send to the dead-letter queue, so messages with rejected events stay in the queue, as with spec.drain.rejected: Leave. Grant sqs:SendMessage on the dead-letter queue to the run's role, or correct spec.queue.deadLetterUrl. Run message: {}",
                run.job_name,
                run.message.as_deref().unwrap_or("none")
            ),
        )
    })
}
