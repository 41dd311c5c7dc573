use std::{fmt, future::Future, time::Duration};

use tokio::time::timeout;
use tracing::{Instrument, Span, field::Empty};

use super::{health::RECONCILE_TIMEOUT, installation::APPLY};
use crate::ca_bundle::CaBundleError;

/// How long one call to the API server may take. The client retries by itself inside it.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// Why a reconciliation, or the controller itself, could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or failed.
    #[error("failed to {call}: {source}; retrying with exponential backoff")]
    Api {
        /// What was asked.
        call: Call,
        /// What came back.
        #[source]
        source: Box<kube::Error>,
    },

    /// The API server did not answer in time.
    #[error("failed to {call}: no response within {} s; retrying with exponential backoff", limit.as_secs())]
    Timeout {
        /// What was asked.
        call: Call,
        /// How long it was waited for.
        limit: Duration,
    },

    /// All calls of a reconciliation together took too long.
    #[error(
        "reconciliation did not finish within {} s; retrying with exponential backoff", RECONCILE_TIMEOUT.as_secs()
    )]
    ReconcileTimeout,

    /// The cluster lacks the resource's definition.
    #[error(
        "EventForwarder CRD not found. Install it as you installed the controller: `helm upgrade RELEASE charts/event-forwarder --namespace RELEASE-NAMESPACE --reset-then-reuse-values --set crds.install=true`, or without Helm `{}`. The controller then continues automatically",
        APPLY
    )]
    CrdMissing,

    /// The client's configuration can't be used.
    #[error(
        "can't configure the API server client: {0}. Run inside a pod with a service account, or set KUBECONFIG"
    )]
    NoCluster(String),

    /// This replica may not be at work any more.
    #[error(
        "lost the leader-election lease: another replica holds it, or it was not renewed in time. This replica exits so that only one is active, and restarts on standby"
    )]
    LeaseLost,

    /// Further authorities that connections to AWS should trust can't be used.
    #[error(transparent)]
    Trust(#[from] CaBundleError),

    /// The port for metrics and health is taken.
    #[error("failed to listen on {address}: {source}. Choose another address with --listen")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// One call to the API server: a verb and an object.
#[derive(Debug, Clone)]
pub struct Call {
    verb: &'static str,
    object: String,
}

impl Call {
    /// A call, for example `Call::new("apply", "CronJob marketing/mparticle")`.
    pub fn new(verb: &'static str, object: impl Into<String>) -> Self {
        Self {
            verb,
            object: object.into(),
        }
    }

    /// Makes the call, within a time limit.
    ///
    /// # Errors
    /// [`Error::Api`] or [`Error::Timeout`].
    pub async fn run<T>(self, call: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
        self.with_timeout(CALL_TIMEOUT, call).await
    }

    /// Makes the call, within a time limit of its own.
    ///
    /// # Errors
    /// [`Error::Api`] or [`Error::Timeout`].
    pub async fn with_timeout<T>(
        self,
        limit: Duration,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Error> {
        // Part of a reconciliation's trace. Calls outside of any, to renew the lease, make none.
        let span = match Span::current().is_none() {
            true => Span::none(),
            false => tracing::debug_span!(
                "call",
                otel.kind = "client",
                otel.name = %self,
                otel.status_code = Empty,
            ),
        };
        let answer = timeout(limit, call).instrument(span.clone()).await;
        if !matches!(answer, Ok(Ok(_))) {
            span.record("otel.status_code", "ERROR");
        }
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(source)) => Err(Error::Api {
                call: self,
                source: Box::new(source),
            }),
            Err(_) => Err(Error::Timeout { call: self, limit }),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.object)
    }
}

impl Error {
    /// What the API server answered, if this is an answer of it: HTTP status and words.
    pub fn response(&self) -> Option<(u16, &str)> {
        match self {
            Self::Api { source, .. } => match &**source {
                kube::Error::Api(status) => Some((status.code, &status.message)),
                _ => None,
            },
            _ => None,
        }
    }

    /// A label for metrics.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Api { .. } => "Api",
            Self::Timeout { .. } => "Timeout",
            Self::ReconcileTimeout => "ReconcileTimeout",
            Self::CrdMissing => "CrdMissing",
            Self::NoCluster(_) => "NoCluster",
            Self::LeaseLost => "LeaseLost",
            Self::Trust(_) => "Trust",
            Self::Listen { .. } => "Listen",
        }
    }
}
