//! Logs, as text on a terminal and as JSON lines elsewhere, and traces, if a collector is set.

mod traces;

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

pub use traces::Traces;

/// Filter directives for verbose library warnings, which this program reports as errors.
const SILENCED_TARGETS: [&str; 1] = ["aws_config::meta::credentials::chain=error"];

/// Initializes logs to standard error, filtered by `RUST_LOG` (default `info`), and traces to the
/// collector of the `OTEL_EXPORTER_OTLP_…` variables, if set.
///
/// Must be called in the Tokio runtime that sends the traces.
pub fn init() -> Traces {
    let mut filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    filter = SILENCED_TARGETS
        .iter()
        .filter_map(|directive| directive.parse().ok())
        .fold(filter, EnvFilter::add_directive);
    let logs = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let logs = if std::io::stderr().is_terminal() {
        logs.with_target(false).boxed()
    } else {
        logs.json()
            .flatten_event(true)
            .with_span_list(false)
            .boxed()
    };
    let traces = Traces::start();
    let trace_layer = traces.as_ref().ok().and_then(Traces::layer);
    tracing_subscriber::registry()
        .with(logs.with_filter(filter))
        .with(trace_layer)
        .init();
    traces.unwrap_or_else(|error| {
        tracing::warn!("{error}");
        Traces::disabled()
    })
}
