//! What the controller counts and knows, for Prometheus.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text::encode},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::ConstGauge,
        histogram::Histogram,
    },
    registry::{Registry, Unit},
};

use crate::api::EventForwarderStatus;

/// The counts, shared by all who add to them.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    duration: Histogram,
    errors: Family<ErrorLabels, Counter>,
    forwarders: Arc<Forwarders>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ErrorLabels {
    reason: &'static str,
}

impl Metrics {
    /// All counts at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("event_forwarder");
        let duration = Histogram::new([0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0]);
        registry.register_with_unit(
            "reconcile_duration",
            "How long reconciliations took",
            Unit::Seconds,
            duration.clone(),
        );
        let errors = Family::default();
        registry.register(
            "reconcile_errors",
            "Reconciliations that failed, by reason",
            errors.clone(),
        );
        let forwarders = Arc::new(Forwarders::default());
        registry.register_collector(Box::new(Arc::clone(&forwarders)));
        Self {
            registry: Arc::new(registry),
            duration,
            errors,
            forwarders,
        }
    }

    /// Counts one reconciliation.
    pub fn reconciled(&self, took: Duration, error: Option<&'static str>) {
        self.duration.observe(took.as_secs_f64());
        if let Some(reason) = error {
            self.errors.get_or_create(&ErrorLabels { reason }).inc();
        }
    }

    /// Shows a forwarder's status from now on.
    pub fn show(&self, namespace: &str, name: &str, status: &EventForwarderStatus) {
        let key = (namespace.to_owned(), name.to_owned());
        self.forwarders.lock().insert(key, shown(status));
    }

    /// Shows a forwarder that is gone no longer.
    pub fn forget(&self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        self.forwarders.lock().remove(&key);
    }

    /// All counts in the OpenMetrics text format.
    ///
    /// # Errors
    /// When they can't be written as text, which a `String` never refuses.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// The status of each forwarder, written out at each scrape.
#[derive(Debug, Default)]
struct Forwarders(Mutex<BTreeMap<(String, String), EventForwarderStatus>>);

impl Forwarders {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, String), EventForwarderStatus>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is shown of a status, without the texts that are not.
fn shown(status: &EventForwarderStatus) -> EventForwarderStatus {
    let verdicts = status
        .conditions
        .iter()
        .filter(|condition| SHOWN_CONDITIONS.contains(&condition.type_.as_str()))
        .map(|condition| Condition {
            message: String::new(),
            ..condition.clone()
        });
    EventForwarderStatus {
        conditions: verdicts.collect(),
        queue: status.queue.clone(),
        totals: status.totals,
        last_success_time: status.last_success_time.clone(),
        active: status.active,
        ..EventForwarderStatus::default()
    }
}

/// The conditions that are shown.
const SHOWN_CONDITIONS: [&str; 2] = ["Ready", "LastRunSucceeded"];

/// A name, what it means, and where it stands in the status.
type Shown<N> = (
    &'static str,
    &'static str,
    fn(&EventForwarderStatus) -> Option<N>,
);

/// What goes up and down.
const GAUGES: [Shown<i64>; 8] = [
    ("ready", "1 if the forwarder is ready", |status| {
        holds(status, "Ready")
    }),
    (
        "last_run_succeeded",
        "1 if the last run that ended succeeded",
        |status| holds(status, "LastRunSucceeded"),
    ),
    (
        "last_success_timestamp_seconds",
        "When the last run that succeeded ended, in seconds since 1970",
        |status| Some(status.last_success_time.as_ref()?.0.as_second()),
    ),
    ("runs_active", "Runs under way", |status| {
        Some(status.active.into())
    }),
    (
        "queue_visible_messages",
        "Messages that wait in the queue, from 100 on to two digits",
        |status| Some(status.queue.as_ref()?.visible),
    ),
    (
        "queue_in_flight_messages",
        "Messages received and neither deleted nor visible again",
        |status| Some(status.queue.as_ref()?.in_flight),
    ),
    (
        "queue_delayed_messages",
        "Messages whose delay has not passed",
        |status| Some(status.queue.as_ref()?.delayed),
    ),
    (
        "dead_letter_messages",
        "Messages in the dead-letter queue",
        |status| status.queue.as_ref()?.dead_letters,
    ),
];

/// What only goes up: sums over all runs since the forwarder was made.
const COUNTERS: [Shown<u64>; 6] = [
    ("runs", "Runs that have ended", |status| {
        Some(status.totals.runs)
    }),
    ("runs_failed", "Runs that ended without success", |status| {
        Some(status.totals.failed_runs)
    }),
    (
        "messages_deleted",
        "Messages deleted, all their events settled",
        |status| Some(status.totals.messages_deleted),
    ),
    (
        "events_forwarded",
        "Events that Iterable accepted",
        |status| Some(status.totals.forwarded),
    ),
    (
        "events_skipped",
        "Events left out by the mapping",
        |status| Some(status.totals.skipped),
    ),
    (
        "events_rejected",
        "Events refused by the mapping or by Iterable",
        |status| Some(status.totals.rejected),
    ),
];

/// Whether a condition is True; none while it is Unknown.
fn holds(status: &EventForwarderStatus, type_: &str) -> Option<i64> {
    let condition = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_)?;
    match condition.status.as_str() {
        "True" => Some(1),
        "False" => Some(0),
        _ => None,
    }
}

impl Collector for Forwarders {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let forwarders = self.lock();
        for (name, help, read) in GAUGES {
            let values = forwarders
                .iter()
                .map(|(key, status)| (key, read(status).map(ConstGauge::new)));
            encode_family(&mut encoder, name, help, values)?;
        }
        for (name, help, read) in COUNTERS {
            let values = forwarders
                .iter()
                .map(|(key, status)| (key, read(status).map(ConstCounter::new)));
            encode_family(&mut encoder, name, help, values)?;
        }
        Ok(())
    }
}

/// Writes one metric of all forwarders that have a value for it.
fn encode_family<'a, M: EncodeMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl Iterator<Item = (&'a (String, String), Option<M>)>,
) -> Result<(), fmt::Error> {
    let mut values = values
        .filter_map(|(key, value)| Some((key, value?)))
        .peekable();
    let Some((_, first)) = values.peek() else {
        return Ok(());
    };
    let mut family = encoder.encode_descriptor(name, help, None, first.metric_type())?;
    for ((namespace, forwarder), value) in values {
        let labels = [
            ("namespace", namespace.as_str()),
            ("name", forwarder.as_str()),
        ];
        value.encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{QueueDepth, Totals};

    #[test]
    fn a_forwarder_is_shown_until_it_is_forgotten() {
        let metrics = Metrics::new();
        let status = EventForwarderStatus {
            queue: Some(QueueDepth {
                visible: 7,
                in_flight: 0,
                delayed: 0,
                dead_letters: None,
                observed_at: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
                    jiff::Timestamp::UNIX_EPOCH,
                ),
            }),
            totals: Totals {
                forwarded: 21,
                ..Totals::default()
            },
            ..EventForwarderStatus::default()
        };
        metrics.show("marketing", "mparticle", &status);
        let text = metrics.encode().expect("text");
        let labels = r#"{namespace="marketing",name="mparticle"}"#;
        for line in [
            format!("event_forwarder_queue_visible_messages{labels} 7"),
            format!("event_forwarder_events_forwarded_total{labels} 21"),
        ] {
            assert!(
                text.lines().any(|other| other == line),
                "no {line} in\n{text}"
            );
        }
        assert!(
            !text.contains("dead_letter"),
            "what is not known is not shown\n{text}"
        );
        metrics.forget("marketing", "mparticle");
        assert!(!metrics.encode().expect("text").contains("marketing"));
    }
}
