use std::{fmt, future::Future, time::Duration};

use tokio::time::timeout;
use tracing::{Instrument, Span, field::Empty};

use super::{health::RECONCILE_TIMEOUT, installation::APPLY};
use crate::ca_bundle::CaBundleError;

/// Timeout of one call to the API server, including the client's retries.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// Errors of a reconciliation or of the controller.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server rejected the call, or it failed.
    #[error("failed to {call}: {source}")]
    Api {
        /// The call.
        call: Call,
        /// The cause.
        #[source]
        source: Box<kube::Error>,
    },

    /// The API server did not respond in time.
    #[error("failed to {call}: no response within {} s", limit.as_secs())]
    Timeout {
        /// The call.
        call: Call,
        /// The timeout.
        limit: Duration,
    },

    /// All calls of a reconciliation together took too long.
    #[error(
        "reconciliation did not finish within {} s", RECONCILE_TIMEOUT.as_secs()
    )]
    ReconcileTimeout,

    /// The EventForwarder CRD is not installed.
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

    /// This replica is no longer the leader.
    #[error(
        "lost the leader-election lease: another replica holds it, or it was not renewed in time. This replica exits so that only one is active, and restarts on standby"
    )]
    LeaseLost,

    /// The additional CA certificates for AWS can't be used.
    #[error(transparent)]
    Trust(#[from] CaBundleError),

    /// The address for metrics and health can't be used.
    #[error("failed to listen on {address}: {source}. Choose another address with --listen")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// The cause.
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
    /// Creates a call, for example `Call::new("apply", "CronJob marketing/mparticle")`.
    pub fn new(verb: &'static str, object: impl Into<String>) -> Self {
        Self {
            verb,
            object: object.into(),
        }
    }

    /// Makes the call, with the timeout `CALL_TIMEOUT`.
    ///
    /// # Errors
    /// Returns [`Error::Api`] or [`Error::Timeout`].
    pub async fn run<T>(self, call: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
        self.with_timeout(CALL_TIMEOUT, call).await
    }

    /// Makes the call, with the timeout `limit`.
    ///
    /// # Errors
    /// Returns [`Error::Api`] or [`Error::Timeout`].
    pub async fn with_timeout<T>(
        self,
        limit: Duration,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Error> {
        // Calls outside a reconciliation, such as lease renewals, are not traced.
        let span = match Span::current().is_none() {
            true => Span::none(),
            false => tracing::debug_span!(
                "call",
                otel.kind = "client",
                otel.name = %self,
                otel.status_code = Empty,
            ),
        };
        let result = timeout(limit, call).instrument(span.clone()).await;
        if !matches!(result, Ok(Ok(_))) {
            span.record("otel.status_code", "ERROR");
        }
        match result {
            Ok(Ok(value)) => Ok(value),
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
    /// Returns the HTTP status and message of the API server's error response, if there is one.
    pub fn response(&self) -> Option<(u16, &str)> {
        match self {
            Self::Api { source, .. } => match &**source {
                kube::Error::Api(status) => Some((status.code, &status.message)),
                _ => None,
            },
            _ => None,
        }
    }

    /// Returns the label for metrics.
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
