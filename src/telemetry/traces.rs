//! Spans, sent to a collector by OTLP over HTTP.

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

/// Either of these turns traces on.
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
];
/// How long one request to the collector may take.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the end of the process waits for the last spans to be sent.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);
/// The name of the program, in each span's resource.
const NAME: &str = env!("CARGO_PKG_NAME");

/// The way of spans to the collector, if one is named.
#[must_use = "the last spans are sent by `end`"]
pub struct Traces(Option<SdkTracerProvider>);

/// Why no spans are sent, although a collector is named.
#[derive(Debug, thiserror::Error)]
#[error("no traces are sent: {0}; check the variables OTEL_EXPORTER_OTLP_…")]
pub struct TracesError(String);

impl Traces {
    /// Sends no spans.
    pub const fn disabled() -> Self {
        Self(None)
    }

    /// Sends spans to where OpenTelemetry's variables say.
    ///
    /// # Errors
    /// When they can't be used.
    pub fn start() -> Result<Self, TracesError> {
        let off = env::var("OTEL_SDK_DISABLED").is_ok_and(|value| value == "true");
        let named = ENDPOINTS
            .iter()
            .any(|name| env::var(name).is_ok_and(|value| !value.is_empty()));
        if off || !named {
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
            resource = resource.with_service_name(NAME);
        }
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build())
            .build();
        Ok(Self(Some(provider)))
    }

    /// What takes up the spans of this program: all of them, whatever `RUST_LOG` says.
    pub fn layer<S>(&self) -> Option<impl Layer<S> + use<S>>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let ours = Targets::new().with_target(env!("CARGO_CRATE_NAME"), Level::DEBUG);
        let provider = self.0.as_ref()?;
        let layer = tracing_opentelemetry::layer()
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_tracer(provider.tracer(NAME));
        Some(layer.with_filter(ours))
    }

    /// Sends the last spans.
    pub async fn shutdown(self) {
        let Some(provider) = self.0 else { return };
        let ended =
            tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(SHUTDOWN_TIMEOUT))
                .await;
        if let Ok(Err(error)) = ended {
            tracing::warn!(%error, "the last spans may not have been sent");
        }
    }
}

/// Sends on the runtime that it was made in: the exporter has a thread of its own, without one.
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
            let answer = client.execute(request.try_into()?).await?;
            let mut response = Response::builder().status(answer.status());
            if let Some(headers) = response.headers_mut() {
                headers.extend(answer.headers().clone());
            }
            Ok(response.body(answer.bytes().await?)?)
        };
        self.runtime.spawn(send).await?
    }
}
