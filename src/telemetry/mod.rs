//! Logs: for people on a terminal, as JSON lines elsewhere. Traces, where a collector is named.

mod traces;

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

pub use traces::Traces;

/// Sends logs to standard error, filtered by `RUST_LOG` (default `info`), and spans to the
/// collector that OpenTelemetry's variables name, if they do. To be called in the runtime that
/// is to send them.
pub fn init() -> Traces {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
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
    let exported = traces.as_ref().ok().and_then(Traces::layer);
    tracing_subscriber::registry()
        .with(logs.with_filter(filter))
        .with(exported)
        .init();
    traces.unwrap_or_else(|error| {
        tracing::warn!("{error}");
        Traces::none()
    })
}
