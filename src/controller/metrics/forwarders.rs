//! Metrics of each forwarder, encoded at each scrape.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

use super::ForwarderKey;
use crate::api::EventForwarderStatus;

/// The metrics of all forwarders.
#[derive(Debug, Default)]
pub struct Forwarders(Mutex<BTreeMap<ForwarderKey, ForwarderMetrics>>);

/// The metrics of one forwarder. Unknown values are omitted.
#[derive(Debug)]
struct ForwarderMetrics {
    gauges: [Option<i64>; GAUGES.len()],
    counters: [Option<u64>; COUNTERS.len()],
    outcome: Option<String>,
}

impl Forwarders {
    /// Sets the metrics of a forwarder from its status.
    pub fn show(&self, key: ForwarderKey, status: &EventForwarderStatus) {
        let metrics = ForwarderMetrics {
            gauges: GAUGES.map(|(_, _, read)| read(status)),
            counters: COUNTERS.map(|(_, _, read)| read(status)),
            outcome: status.last_run.as_ref().map(|run| run.outcome.clone()),
        };
        self.lock().insert(key, metrics);
    }

    /// Removes the metrics of a forwarder. Returns whether it had any.
    pub fn forget(&self, key: &ForwarderKey) -> bool {
        self.lock().remove(key).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ForwarderKey, ForwarderMetrics>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A name, the help text, and a function that reads the value from the status.
type MetricSource<N> = (
    &'static str,
    &'static str,
    fn(&EventForwarderStatus) -> Option<N>,
);

const GAUGES: [MetricSource<i64>; 13] = [
    (
        "ready",
        "1 if the condition Ready is True, 0 if it is False",
        |status| condition_value(status, "Ready"),
    ),
    (
        "last_run_succeeded",
        "1 if the condition LastRunSucceeded is True, 0 if it is False",
        |status| condition_value(status, "LastRunSucceeded"),
    ),
    (
        "last_run_finished_timestamp_seconds",
        "Unix time when the last finished run ended",
        |status| Some(status.recent_runs.first()?.finished_at.0.as_second()),
    ),
    (
        "last_run_duration_seconds",
        "Duration of the last finished run",
        |status| {
            let run = status.recent_runs.first()?;
            Some(run.finished_at.0.as_second() - run.started_at.0.as_second())
        },
    ),
    (
        "last_success_timestamp_seconds",
        "Unix time when the last successful run ended",
        |status| Some(status.last_success_time.as_ref()?.0.as_second()),
    ),
    (
        "failing_since_timestamp_seconds",
        "Unix time when the condition LastRunSucceeded became False; absent unless it is False",
        |status| {
            let last_run = condition(status, "LastRunSucceeded")?;
            (last_run.status == "False").then(|| last_run.last_transition_time.0.as_second())
        },
    ),
    (
        "next_run_timestamp_seconds",
        "Unix time of the next scheduled run",
        |status| Some(status.next_run_time.as_ref()?.0.as_second()),
    ),
    (
        "run_overdue",
        "1 if a scheduled run has not started and none has started since, else 0",
        |status| {
            let scheduled = condition(status, "Scheduled")?;
            Some((scheduled.reason == "RunOverdue").into())
        },
    ),
    ("runs_active", "Active runs", |status| {
        Some(status.active.into())
    }),
    (
        "queue_visible_messages",
        "Visible messages in the queue; from 100 on rounded to two significant digits",
        |status| Some(status.queue.as_ref()?.visible),
    ),
    (
        "queue_in_flight_messages",
        "Messages received and neither deleted nor visible again",
        |status| Some(status.queue.as_ref()?.in_flight),
    ),
    (
        "queue_delayed_messages",
        "Messages whose delivery delay has not ended",
        |status| Some(status.queue.as_ref()?.delayed),
    ),
    (
        "dead_letter_messages",
        "Messages in the dead-letter queue",
        |status| status.queue.as_ref()?.dead_letters,
    ),
];

/// Sums over all runs since the forwarder was created.
const COUNTERS: [MetricSource<u64>; 6] = [
    ("runs", "Finished runs", |status| Some(status.totals.runs)),
    (
        "runs_failed",
        "Finished runs that did not succeed",
        |status| Some(status.totals.failed_runs),
    ),
    (
        "messages_deleted",
        "Messages deleted after all their events were settled",
        |status| Some(status.totals.messages_deleted),
    ),
    (
        "events_forwarded",
        "Events that Iterable accepted",
        |status| Some(status.totals.forwarded),
    ),
    (
        "events_skipped",
        "Events skipped by the mapping",
        |status| Some(status.totals.skipped),
    ),
    (
        "events_rejected",
        "Events rejected by the mapping or by Iterable",
        |status| Some(status.totals.rejected),
    ),
];

/// Returns 1 if a condition is True, 0 if it is False, and `None` otherwise.
fn condition_value(status: &EventForwarderStatus, type_: &str) -> Option<i64> {
    match condition(status, type_)?.status.as_str() {
        "True" => Some(1),
        "False" => Some(0),
        _ => None,
    }
}

fn condition<'a>(status: &'a EventForwarderStatus, type_: &str) -> Option<&'a Condition> {
    status
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_)
}

impl Collector for Forwarders {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let forwarders = self.lock();
        for (index, (name, help, _)) in GAUGES.iter().enumerate() {
            let values = forwarders.iter().map(|(key, metrics)| {
                (
                    key,
                    None,
                    metrics
                        .gauges
                        .get(index)
                        .copied()
                        .flatten()
                        .map(ConstGauge::new),
                )
            });
            encode_family(&mut encoder, name, help, values)?;
        }
        let outcomes = forwarders.iter().map(|(key, metrics)| {
            let outcome = metrics.outcome.as_deref();
            (key, outcome, outcome.map(|_| ConstGauge::new(1)))
        });
        encode_family(
            &mut encoder,
            "last_run_outcome",
            "Always 1; the label is the outcome of the last run",
            outcomes,
        )?;
        for (index, (name, help, _)) in COUNTERS.iter().enumerate() {
            let values = forwarders.iter().map(|(key, metrics)| {
                (
                    key,
                    None,
                    metrics
                        .counters
                        .get(index)
                        .copied()
                        .flatten()
                        .map(ConstCounter::new),
                )
            });
            encode_family(&mut encoder, name, help, values)?;
        }
        Ok(())
    }
}

/// Encodes one metric of every forwarder that has a value, with an outcome label if there is one.
fn encode_family<'a, M: EncodeMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl Iterator<Item = (&'a ForwarderKey, Option<&'a str>, Option<M>)>,
) -> Result<(), fmt::Error> {
    let mut values = values
        .filter_map(|(key, outcome, value)| Some((key, outcome, value?)))
        .peekable();
    let Some((_, _, first)) = values.peek() else {
        return Ok(());
    };
    let mut family = encoder.encode_descriptor(name, help, None, first.metric_type())?;
    for ((namespace, forwarder), outcome, value) in values {
        let mut labels = vec![
            ("namespace", namespace.as_str()),
            ("name", forwarder.as_str()),
        ];
        labels.extend(outcome.map(|outcome| ("outcome", outcome)));
        value.encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
