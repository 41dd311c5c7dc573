//! Serves /metrics, /healthz and /readyz.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    thread,
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

use super::{
    error::Error,
    health::Health,
    metrics::{Format, Metrics},
};

#[derive(Clone)]
struct ServerState {
    metrics: Metrics,
    health: Health,
}

/// Serves until the process ends, on a separate thread, so it responds even if all other tasks are
/// stuck.
///
/// # Errors
/// Returns [`Error::Listen`] if it can't listen on the address, or can't start the thread.
pub fn serve(address: SocketAddr, metrics: Metrics, health: Health) -> Result<(), Error> {
    let failed = |source| Error::Listen { address, source };
    let listener = listen(address).map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    let state = ServerState { metrics, health };
    let run = move || {
        let result = runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            axum::serve(listener, routes(state)).await
        });
        if let Err(error) = result {
            tracing::error!(%error, "stopped serving metrics and health");
        }
    };
    thread::Builder::new()
        .name("http".to_owned())
        .spawn(run)
        .map_err(failed)?;
    Ok(())
}

/// Listens on `address`. On a machine without IPv6, `[::]` means all IPv4 addresses.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address).or_else(|error| match fallback(address, &error) {
        Some(address) => TcpListener::bind(address),
        None => Err(error),
    })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Returns the address to use after `error`, if there is one.
fn fallback(address: SocketAddr, error: &io::Error) -> Option<SocketAddr> {
    let is_any_ipv6 = address.is_ipv6() && address.ip().is_unspecified();
    (is_any_ipv6 && error.kind() != io::ErrorKind::AddrInUse)
        .then(|| (Ipv4Addr::UNSPECIFIED, address.port()).into())
}

fn routes(state: ServerState) -> Router {
    Router::new()
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(state)
}

async fn alive(State(state): State<ServerState>) -> Response {
    probe_response(state.health.alive())
}

async fn ready(State(state): State<ServerState>) -> Response {
    probe_response(state.health.ready())
}

fn probe_response(health: Result<(), String>) -> Response {
    match health {
        Ok(()) => "ok\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn metrics(State(state): State<ServerState>, headers: HeaderMap) -> Response {
    let accepted = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let format = Format::accepted(accepted);
    match state.metrics.encode(format) {
        Ok(text) => ([(header::CONTENT_TYPE, format.content_type())], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, TcpStream};

    use axum::{
        body::{Body, to_bytes},
        http::Request,
    };
    use tower::ServiceExt;

    use super::*;

    /// Returns the status, media type and body of the response to a GET.
    async fn get(state: &ServerState, path: &str, accept: &str) -> (u16, String, String) {
        let request = Request::get(path)
            .header(header::ACCEPT, accept)
            .body(Body::empty())
            .expect("a request");
        let response = routes(state.clone())
            .oneshot(request)
            .await
            .expect("a response");
        let status = response.status().as_u16();
        let media_type = response.headers()[header::CONTENT_TYPE].to_str();
        let media_type = media_type.expect("text").to_owned();
        let body = to_bytes(response.into_body(), usize::MAX).await;
        let text = String::from_utf8(body.expect("a body").to_vec());
        (status, media_type, text.expect("text"))
    }

    #[tokio::test]
    async fn probes_return_status_and_reason() {
        let state = ServerState {
            metrics: Metrics::new(),
            health: Health::new(),
        };
        let (status, _, text) = get(&state, "/readyz", "*/*").await;
        assert_eq!(
            (status, text.as_str()),
            (503, "waiting for the API server\n")
        );
        let (status, _, text) = get(&state, "/healthz", "*/*").await;
        assert_eq!((status, text.as_str()), (200, "ok\n"));
        state.health.set_not_ready(None);
        let (status, _, text) = get(&state, "/readyz", "*/*").await;
        assert_eq!((status, text.as_str()), (200, "ok\n"));
    }

    #[tokio::test]
    async fn metrics_use_the_requested_format() {
        let state = ServerState {
            metrics: Metrics::new(),
            health: Health::new(),
        };
        for (accept, media_type, end) in [
            ("*/*", "text/plain; version=0.0.4; charset=utf-8", "\n"),
            (
                "application/openmetrics-text;version=1.0.0",
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                "# EOF\n",
            ),
        ] {
            let (status, actual, text) = get(&state, "/metrics", accept).await;
            assert_eq!((status, actual.as_str()), (200, media_type));
            assert!(text.ends_with(end) && text.contains("event_forwarder_leader 0"));
        }
    }

    #[test]
    fn unspecified_ipv6_address_falls_back_to_ipv4() {
        let unsupported = || io::Error::from(io::ErrorKind::Unsupported);
        let in_use = || io::Error::from(io::ErrorKind::AddrInUse);
        for (address, error, expected) in [
            ("[::]:8080", unsupported(), Some("0.0.0.0:8080")),
            ("[::]:8080", in_use(), None),
            ("[::1]:8080", unsupported(), None),
            ("0.0.0.0:8080", unsupported(), None),
            ("10.0.0.1:8080", unsupported(), None),
        ] {
            let address: SocketAddr = address.parse().expect("an address");
            let expected = expected.map(|text| text.parse().expect("an address"));
            assert_eq!(fallback(address, &error), expected, "{address} {error}");
        }
    }

    #[test]
    fn default_address_serves_ipv4_and_ipv6() {
        let listener = listen((Ipv6Addr::UNSPECIFIED, 0).into()).expect("a listener");
        let port = listener.local_addr().expect("its address").port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("by IPv4");
        if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port)).expect("by IPv6");
        }
    }
}
