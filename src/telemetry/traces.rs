//! Export of spans to a collector with OTLP over HTTP.

use std::{env, time::Duration};

use async_trait::async_trait;
use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tokio::runtime::Handle;
use tracing::{Level, Subscriber};
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};

use crate::ca_bundle;

/// Environment variables that each enable traces.
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
];
/// Timeout of a request to the collector.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout of sending the last spans at shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);
/// Service name in the resource of every span.
const SERVICE_NAME: &str = env!("CARGO_PKG_NAME");

/// The exporter of spans, or none if no collector is set.
#[must_use = "`shutdown` sends the last spans"]
pub struct Traces(Option<SdkTracerProvider>);

/// Error in the configuration of the exporter.
#[derive(Debug, thiserror::Error)]
#[error("traces are disabled: {0}; check the OTEL_EXPORTER_OTLP_… variables")]
pub struct TracesError(String);

impl Traces {
    /// Creates an instance that exports no spans.
    pub const fn disabled() -> Self {
        Self(None)
    }

    /// Creates an exporter from the OpenTelemetry environment variables. Exports no spans if they
    /// set no endpoint, or if `OTEL_SDK_DISABLED` is `true`.
    ///
    /// # Errors
    /// If a variable is invalid, or the HTTP client can't be created.
    pub fn start() -> Result<Self, TracesError> {
        let is_disabled = env::var("OTEL_SDK_DISABLED").is_ok_and(|value| value == "true");
        let has_endpoint = ENDPOINTS
            .iter()
            .any(|name| env::var(name).is_ok_and(|value| !value.is_empty()));
        if is_disabled || !has_endpoint {
            return Ok(Self::disabled());
        }
        let failed = |error: &dyn std::fmt::Display| TracesError(error.to_string());
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_http_client(Sender::new().map_err(|error| failed(&error))?)
            .build()
            .map_err(|error| failed(&error))?;
        let mut resource = Resource::builder()
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        if env::var_os("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name(SERVICE_NAME);
        }
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build())
            .build();
        Ok(Self(Some(provider)))
    }

    /// Returns a layer that exports the spans of this program up to level `DEBUG`, regardless of
    /// `RUST_LOG`. Returns `None` if traces are disabled.
    pub fn layer<S>(&self) -> Option<impl Layer<S> + use<S>>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let span_filter = Targets::new().with_target(env!("CARGO_CRATE_NAME"), Level::DEBUG);
        let provider = self.0.as_ref()?;
        let layer = tracing_opentelemetry::layer()
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_tracer(provider.tracer(SERVICE_NAME));
        Some(layer.with_filter(span_filter))
    }

    /// Sends the last spans. Waits at most three seconds.
    pub async fn shutdown(self) {
        let Some(provider) = self.0 else { return };
        let result =
            tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(SHUTDOWN_TIMEOUT))
                .await;
        if let Ok(Err(error)) = result {
            tracing::warn!(%error, "the last spans may not have been exported");
        }
    }
}

/// An HTTP client that sends requests on the Tokio runtime in which it was created, because the
/// exporter thread has none.
#[derive(Debug)]
struct Sender {
    client: reqwest::Client,
    runtime: Handle,
}

impl Sender {
    fn new() -> Result<Self, HttpError> {
        let client = reqwest::Client::builder()
            .timeout(SEND_TIMEOUT)
            .tls_certs_merge(ca_bundle::load()?.certificates)
            .build()?;
        Ok(Self {
            client,
            runtime: Handle::current(),
        })
    }
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let send = async move {
            let received = client.execute(request.try_into()?).await?;
            let mut response = Response::builder().status(received.status());
            if let Some(headers) = response.headers_mut() {
                headers.extend(received.headers().clone());
            }
            Ok(response.body(received.bytes().await?)?)
        };
        self.runtime.spawn(send).await?
    }
}
