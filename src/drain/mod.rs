//! One run: empties one SQS queue into Iterable and reports what it did.
//!
//! [`plan`] reads what the user meant; [`engine`] decides, with [`ack`] on which message may be
//! deleted, [`pace`] on how fast to go, [`batch`] on what goes into a request and [`blame`] on
//! what an answer means; [`pipeline`] acts; [`report`] tells.

pub mod ack;
pub mod batch;
pub mod blame;
pub mod engine;
pub mod letter;
pub mod pace;
pub mod pipeline;
pub mod plan;
pub mod progress;
pub mod report;
pub mod retry;
pub mod tally;
#[cfg(test)]
mod testing;

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    path::Path,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::{select, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{
    Instrument,
    field::{Empty, display},
};

use self::{
    engine::Engine,
    pipeline::Hands,
    plan::{Plan, PlanError},
    report::{Outcome, RunReport},
    retry::back_off,
    tally::Tally,
};
use crate::{
    api::{RejectedEventPolicy, RequestCounts},
    cli::DrainArgs,
    iterable::{Client, ClientError},
    mapping::{Mapper, MapperError},
    sqs::{Error as QueueError, Payloads, QueueClient, QueueSettings},
};

/// Why a run did not begin.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Mapper(#[from] MapperError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(
        "queue {0} has a visibility timeout of 0, so every message would be sent repeatedly: \
         set the queue's VisibilityTimeout, 30 seconds for example, or spec.drain.visibilityTimeout"
    )]
    NoVisibility(String),
    #[error("received a termination signal before the run started")]
    Stopped,
}

impl StartError {
    const fn outcome(&self) -> Outcome {
        match self {
            Self::Plan(_) | Self::Mapper(_) | Self::Client(_) | Self::NoVisibility(_) => {
                Outcome::BadConfiguration
            }
            Self::Queue(error) => Outcome::of_queue(error),
            Self::Stopped => Outcome::Interrupted,
        }
    }
}

/// Runs the command: drains until the queue is empty, a limit is reached or `stop` is cancelled;
/// writes the report; answers how it ended.
pub async fn command(args: DrainArgs, stop: CancellationToken) -> Outcome {
    let began = Timestamp::now();
    let report_file = args.report_file.clone();
    let span = tracing::debug_span!(
        "run",
        outcome = Empty,
        received = Empty,
        deleted = Empty,
        forwarded = Empty,
        rejected = Empty,
    );
    let run = async move {
        match Plan::read(&args) {
            Ok(plan) => drain(plan, stop.cancelled()).await,
            Err(error) => not_begun(began, &error.into()),
        }
    }
    .instrument(span.clone());
    let report = reported(began, run).await;
    span.record("outcome", display(report.outcome))
        .record("received", report.messages.received)
        .record("deleted", report.messages.deleted)
        .record("forwarded", report.events.forwarded)
        .record("rejected", report.events.rejected);
    log(&report);
    if let Some(path) = report_file {
        write(&report, &path);
    }
    report.outcome
}

/// The report of a run, made a task of its own so that a panic in it leaves a report too.
async fn reported(
    began: Timestamp,
    run: impl Future<Output = RunReport> + Send + 'static,
) -> RunReport {
    tokio::spawn(run).await.unwrap_or_else(|error| {
        let tally = Tally {
            notice: Some(format!("internal error: {error}")),
            ..Tally::default()
        };
        tally.report(
            Outcome::Panicked,
            began,
            Timestamp::now(),
            RequestCounts::default(),
            0,
        )
    })
}

/// Drains the planned queue until it is empty, a limit is reached or `stop` is done.
pub async fn drain(plan: Plan, stop: impl Future<Output = ()>) -> RunReport {
    let began = Timestamp::now();
    let started = Instant::now();
    let mut stop = pin!(stop);
    let start = async {
        select! {
            started = start(&plan, started) => started,
            () = &mut stop => Err(StartError::Stopped),
        }
    };
    let (hands, engine) = match start.await {
        Ok(started) => started,
        Err(error) => return not_begun(began, &error),
    };
    let (queue, iterable) = (hands.queue.clone(), hands.iterable.clone());
    let (outcome, tally) = pipeline::run(hands, engine, stop).await;
    let requests = RequestCounts {
        sqs: queue.requests(),
        iterable: iterable.requests(),
    };
    tally.report(outcome, began, Timestamp::now(), requests, iterable.bytes())
}

async fn start(plan: &Plan, now: Instant) -> Result<(Hands, Engine), StartError> {
    let spec = &plan.spec;
    let mapper = Mapper::new(
        &spec.mapping,
        spec.iterable.project_type,
        plan.transform.as_deref(),
    )?;
    let iterable = Client::new(&spec.iterable, &plan.key)?;
    let queue = QueueClient::connect(&spec.queue, plan.credentials.clone()).await?;
    let payloads = Payloads::connect(&spec.queue, plan.credentials.clone()).await?;
    let settings = settings(&queue).await?;
    if spec.drain.visibility_timeout.is_none() && settings.visibility_timeout.is_zero() {
        return Err(StartError::NoVisibility(queue.url().to_owned()));
    }
    let dead_letters = queue.dead_letter_queue_of(&settings);
    let dead_letter_bytes = match &dead_letters {
        Some(queue) if spec.drain.rejected == RejectedEventPolicy::DeadLetter => {
            Some(dead_letter_bytes(queue, &settings).await)
        }
        _ => None,
    };
    let engine = Engine::new(
        plan.bounds(&settings, queue.is_fifo(), dead_letter_bytes),
        now,
        RandomState::new().build_hasher().finish(),
    );
    let hands = Hands {
        queue,
        dead_letters,
        payloads,
        iterable,
        mapper: Arc::new(mapper),
        visibility: spec.drain.visibility_timeout.map(|timeout| timeout.get()),
    };
    Ok((hands, engine))
}

/// For how long the queue's settings are asked for again where the queue does not answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The queue's settings. A short gap of the queue does not end the run.
async fn settings(queue: &QueueClient) -> Result<QueueSettings, QueueError> {
    let began = Instant::now();
    let mut failures = 0;
    loop {
        match queue.settings().await {
            Err(error) if error.is_transient() && began.elapsed() < PATIENCE => {
                failures += 1;
                tracing::warn!(%error, "could not read the queue settings; retrying");
                sleep(back_off(failures, fastrand::f64())).await;
            }
            result => return result,
        }
    }
}

/// The largest message of a dead-letter queue. Where it can't be read, as the right to send there
/// is enough for all else, it is that of the queue, at most what each queue takes by default.
async fn dead_letter_bytes(dead_letters: &QueueClient, queue: &QueueSettings) -> usize {
    match dead_letters.settings().await {
        Ok(settings) => settings.max_message_bytes,
        Err(error) => {
            tracing::warn!(
                %error,
                "could not read the size limit of the dead-letter queue; using that of the source \
                 queue, 256 KiB at most"
            );
            queue.max_message_bytes.min(DEFAULT_MESSAGE_BYTES)
        }
    }
}

/// The size limit of a queue that nobody has raised, in bytes: that of SQS before 2025, which
/// some tools still set.
const DEFAULT_MESSAGE_BYTES: usize = 262_144;

fn not_begun(began: Timestamp, error: &StartError) -> RunReport {
    let tally = Tally {
        notice: Some(error.to_string()),
        ..Tally::default()
    };
    tally.report(
        error.outcome(),
        began,
        Timestamp::now(),
        RequestCounts::default(),
        0,
    )
}

fn log(report: &RunReport) {
    let RunReport {
        outcome,
        messages,
        events,
        requests,
        ..
    } = report;
    tracing::info!(
        %outcome,
        received = messages.received,
        deleted = messages.deleted,
        released = messages.released,
        dead_lettered = messages.dead_lettered,
        duplicate = messages.duplicate,
        forwarded = events.forwarded,
        skipped = events.skipped,
        rejected = events.rejected,
        sqs_requests = requests.sqs,
        iterable_requests = requests.iterable,
        "{}",
        report.message.as_deref().unwrap_or("run ended"),
    );
    for reason in &report.reasons {
        tracing::info!(
            reason = reason.reason,
            count = reason.count,
            "count by reason"
        );
    }
}

fn write(report: &RunReport, path: &Path) {
    if let Err(error) = std::fs::write(path, report.encode()) {
        tracing::error!(path = %path.display(), %error, "could not write the report");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_run_that_panics_leaves_a_report() {
        let report = reported(Timestamp::now(), async { panic!("a fault of ours") }).await;
        assert_eq!(report.outcome, Outcome::Panicked);
        assert!(report.encode().contains("a fault of ours"));
    }
}
