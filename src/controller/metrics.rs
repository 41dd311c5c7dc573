//! Prometheus metrics of the controller, documented in `docs/metrics.md`.

mod forwarders;
mod process;

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, prometheus_text, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
        info::Info,
    },
    registry::{Registry, Unit},
};

use self::{forwarders::Forwarders, process::Process};
use crate::api::EventForwarderStatus;

/// The metrics. Clones share the values.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    reconciles: Family<ResultLabel, Counter>,
    errors: Family<ReasonLabel, Counter>,
    duration: Histogram,
    in_progress: Gauge,
    waiting: Arc<Waiting>,
    polls: Family<ResultLabel, Counter>,
    poll_errors: Family<ReasonLabel, Counter>,
    requests: Family<RequestLabels, Counter>,
    request_duration: Family<VerbLabel, Histogram>,
    leader: Gauge,
    missing_fields: Gauge,
    forwarders: Arc<Forwarders>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

impl ResultLabel {
    fn from_error<E>(error: Option<E>) -> Self {
        Self {
            result: if error.is_none() { "success" } else { "error" },
        }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct VerbLabel {
    verb: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    verb: &'static str,
    resource: String,
    code: u16,
}

/// The output format of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The Prometheus text format.
    Prometheus,
    /// The OpenMetrics text format.
    OpenMetrics,
}

impl Format {
    /// Returns the format for an Accept header.
    pub fn accepted(accept: &str) -> Self {
        match accept.contains("application/openmetrics-text") {
            true => Self::OpenMetrics,
            false => Self::Prometheus,
        }
    }

    /// Returns the media type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// A reconciliation in progress, until dropped.
#[must_use]
pub struct InProgressGuard(Gauge);

impl Drop for InProgressGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// Creates a registry with every metric at zero.
    pub fn new() -> Self {
        let mut root = Registry::default();
        root.register_collector(Box::new(Process::new()));
        let registry = root.sub_registry_with_prefix("event_forwarder");
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "The controller's version", Info::new(version));
        let leader = Gauge::default();
        registry.register(
            "leader",
            "1 in the leader, 0 in a replica on standby",
            leader.clone(),
        );
        let missing_fields = Gauge::default();
        registry.register(
            "crd_missing_fields",
            "Fields missing from the installed EventForwarder CRD; the API server drops them",
            missing_fields.clone(),
        );
        let reconciles = Family::default();
        registry.register(
            "reconciles",
            "Finished reconciliations, by result",
            reconciles.clone(),
        );
        let errors = Family::default();
        registry.register(
            "reconcile_errors",
            "Failed reconciliations, by reason",
            errors.clone(),
        );
        let duration = Histogram::new([0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0]);
        registry.register_with_unit(
            "reconcile_duration",
            "Duration of reconciliations",
            Unit::Seconds,
            duration.clone(),
        );
        let in_progress = Gauge::default();
        registry.register(
            "reconciles_in_flight",
            "Reconciliations in progress",
            in_progress.clone(),
        );
        let waiting = Arc::new(Waiting::default());
        registry.register_collector(Box::new(Arc::clone(&waiting)));
        let polls = Family::default();
        registry.register(
            "queue_polls",
            "Polls of a queue's depth, by result",
            polls.clone(),
        );
        let poll_errors = Family::default();
        registry.register(
            "queue_poll_errors",
            "Failed polls of a queue's depth, by reason",
            poll_errors.clone(),
        );
        let requests = Family::default();
        registry.register(
            "kubernetes_requests",
            "Requests to the API server, by HTTP status; 0 if there was no response",
            requests.clone(),
        );
        let request_duration: Family<VerbLabel, Histogram> =
            Family::new_with_constructor(|| Histogram::new([0.005, 0.02, 0.1, 0.5, 2.0, 10.0]));
        registry.register_with_unit(
            "kubernetes_request_duration",
            "Time until the API server started its response",
            Unit::Seconds,
            request_duration.clone(),
        );
        let forwarders = Arc::new(Forwarders::default());
        registry.register_collector(Box::new(Arc::clone(&forwarders)));
        Self {
            registry: Arc::new(root),
            reconciles,
            errors,
            duration,
            in_progress,
            waiting,
            polls,
            poll_errors,
            requests,
            request_duration,
            leader,
            missing_fields,
            forwarders,
        }
    }

    /// Records that a forwarder needs a reconciliation, because of a change.
    pub fn record_change(&self, namespace: &str, name: &str) {
        self.waiting.lock().insert(key(namespace, name));
    }

    /// Counts a forwarder's reconciliation as in progress.
    pub fn start_reconcile(&self, namespace: &str, name: &str) -> InProgressGuard {
        self.waiting.lock().remove(&key(namespace, name));
        self.in_progress.inc();
        InProgressGuard(self.in_progress.clone())
    }

    /// Counts one finished reconciliation.
    pub fn record_reconcile(&self, duration: Duration, error: Option<&'static str>) {
        self.duration.observe(duration.as_secs_f64());
        self.reconciles
            .get_or_create(&ResultLabel::from_error(error))
            .inc();
        if let Some(reason) = error {
            self.errors.get_or_create(&ReasonLabel { reason }).inc();
        }
    }

    /// Counts one poll of a queue's depth.
    pub fn record_poll(&self, error: Option<&'static str>) {
        self.polls
            .get_or_create(&ResultLabel::from_error(error))
            .inc();
        if let Some(reason) = error {
            self.poll_errors
                .get_or_create(&ReasonLabel { reason })
                .inc();
        }
    }

    /// Counts one request to the API server. `code` is the HTTP status, 0 if there was no response.
    pub fn record_request(
        &self,
        verb: &'static str,
        resource: &str,
        code: u16,
        duration: Duration,
    ) {
        let labels = RequestLabels {
            verb,
            resource: resource.to_owned(),
            code,
        };
        self.requests.get_or_create(&labels).inc();
        self.request_duration
            .get_or_create(&VerbLabel { verb })
            .observe(duration.as_secs_f64());
    }

    /// Sets whether this replica is the leader.
    pub fn set_leader(&self, is_leader: bool) {
        self.leader.set(is_leader.into());
    }

    /// Sets how many fields the installed CRD lacks.
    pub fn set_missing_fields(&self, fields: usize) {
        self.missing_fields
            .set(i64::try_from(fields).unwrap_or(i64::MAX));
    }

    /// Sets the metrics of a forwarder from its status.
    pub fn show(&self, namespace: &str, name: &str, status: &EventForwarderStatus) {
        self.forwarders.show(key(namespace, name), status);
    }

    /// Removes the metrics of a deleted forwarder. Returns whether it had any.
    pub fn forget(&self, namespace: &str, name: &str) -> bool {
        let key = key(namespace, name);
        self.waiting.lock().remove(&key);
        self.forwarders.forget(&key)
    }

    /// Returns all metrics as text.
    ///
    /// # Errors
    /// Returns an error if writing the text fails, which never happens with a `String`.
    pub fn encode(&self, format: Format) -> Result<String, fmt::Error> {
        let mut page = String::new();
        match format {
            Format::Prometheus => prometheus_text::encode(&mut page, &self.registry)?,
            Format::OpenMetrics => text::encode(&mut page, &self.registry)?,
        }
        Ok(page)
    }
}

/// A forwarder's namespace and name.
type ForwarderKey = (String, String);

fn key(namespace: &str, name: &str) -> ForwarderKey {
    (namespace.to_owned(), name.to_owned())
}

/// Changed forwarders whose reconciliation has not started.
#[derive(Debug, Default)]
struct Waiting(Mutex<HashSet<ForwarderKey>>);

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, HashSet<ForwarderKey>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for Waiting {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let waiting = ConstGauge::new(i64::try_from(self.lock().len()).unwrap_or(i64::MAX));
        waiting.encode(encoder.encode_descriptor(
            "reconciles_waiting",
            "Changed forwarders whose reconciliation has not started",
            None,
            waiting.metric_type(),
        )?)
    }
}

#[cfg(test)]
mod tests;
