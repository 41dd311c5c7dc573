//! Logs: for people on a terminal, as JSON lines elsewhere. Traces, where a collector is named.

mod traces;

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

pub use traces::Traces;

/// What libraries warn of at length, and this program tells in an error of its own.
const SILENCED_TARGETS: [&str; 1] = ["aws_config::meta::credentials::chain=error"];

/// Sends logs to standard error, filtered by `RUST_LOG` (default `info`), and spans to the
/// collector that OpenTelemetry's variables name, if they do. To be called in the runtime that
/// is to send them.
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
    let exported = traces.as_ref().ok().and_then(Traces::layer);
    tracing_subscriber::registry()
        .with(logs.with_filter(filter))
        .with(exported)
        .init();
    traces.unwrap_or_else(|error| {
        tracing::warn!("{error}");
        Traces::disabled()
    })
}
