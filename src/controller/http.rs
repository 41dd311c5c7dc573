//! Serves /metrics, /healthz and /readyz.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{net::TcpListener, sync::watch};

use super::{error::Error, metrics::Metrics};

/// What the controller waits for; `None` once it does its work. Shown by /readyz.
pub type Waiting = watch::Receiver<Option<&'static str>>;

#[derive(Clone)]
struct Served {
    metrics: Metrics,
    waiting: Arc<Waiting>,
}

/// Serves until the process ends.
///
/// # Errors
/// When the address can't be listened on.
pub async fn serve(address: SocketAddr, metrics: Metrics, waiting: Waiting) -> Result<(), Error> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| Error::Listen { address, source })?;
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics_text))
        .with_state(Served {
            metrics,
            waiting: Arc::new(waiting),
        });
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!(%error, "metrics and health are served no more");
        }
    });
    Ok(())
}

async fn ready(State(served): State<Served>) -> Response {
    match *served.waiting.borrow() {
        None => "ok\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn metrics_text(State(served): State<Served>) -> Response {
    match served.metrics.encode() {
        Ok(text) => {
            let open_metrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, open_metrics)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
