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

/// Serves until the process ends, on a thread of its own, so that it answers even when all other
/// work has come to a standstill.
///
/// # Errors
/// When the address can't be listened on.
pub fn serve(address: SocketAddr, metrics: Metrics, health: Health) -> Result<(), Error> {
    let failed = |source| Error::Listen { address, source };
    let listener = listen(address).map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    let served = ServerState { metrics, health };
    let work = move || {
        let served = runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            axum::serve(listener, routes(served)).await
        });
        if let Err(error) = served {
            tracing::error!(%error, "stopped serving metrics and health");
        }
    };
    thread::Builder::new()
        .name("http".to_owned())
        .spawn(work)
        .map_err(failed)?;
    Ok(())
}

/// Listens; on a machine without IPv6, `[::]` stands for all its IPv4 addresses.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address).or_else(|error| match fallback(address, &error) {
        Some(address) => TcpListener::bind(address),
        None => Err(error),
    })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Where to listen instead, if anywhere.
fn fallback(address: SocketAddr, error: &io::Error) -> Option<SocketAddr> {
    let all_of_ipv6 = address.is_ipv6() && address.ip().is_unspecified();
    (all_of_ipv6 && error.kind() != io::ErrorKind::AddrInUse)
        .then(|| (Ipv4Addr::UNSPECIFIED, address.port()).into())
}

fn routes(served: ServerState) -> Router {
    Router::new()
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(served)
}

async fn alive(State(served): State<ServerState>) -> Response {
    probe_response(served.health.alive())
}

async fn ready(State(served): State<ServerState>) -> Response {
    probe_response(served.health.ready())
}

fn probe_response(health: Result<(), String>) -> Response {
    match health {
        Ok(()) => "ok\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn metrics(State(served): State<ServerState>, headers: HeaderMap) -> Response {
    let accepted = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let format = Format::accepted(accepted);
    match served.metrics.encode(format) {
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

    /// The status, the media type and the text that a path answers.
    async fn get(served: &ServerState, path: &str, accept: &str) -> (u16, String, String) {
        let request = Request::get(path)
            .header(header::ACCEPT, accept)
            .body(Body::empty())
            .expect("a request");
        let answer = routes(served.clone())
            .oneshot(request)
            .await
            .expect("an answer");
        let status = answer.status().as_u16();
        let media_type = answer.headers()[header::CONTENT_TYPE].to_str();
        let media_type = media_type.expect("text").to_owned();
        let body = to_bytes(answer.into_body(), usize::MAX).await;
        let text = String::from_utf8(body.expect("a body").to_vec());
        (status, media_type, text.expect("text"))
    }

    #[tokio::test]
    async fn a_verdict_is_a_status_and_a_sentence() {
        let served = ServerState {
            metrics: Metrics::new(),
            health: Health::new(),
        };
        let (status, _, text) = get(&served, "/readyz", "*/*").await;
        assert_eq!(
            (status, text.as_str()),
            (503, "waiting for the API server\n")
        );
        let (status, _, text) = get(&served, "/healthz", "*/*").await;
        assert_eq!((status, text.as_str()), (200, "ok\n"));
        served.health.set_not_ready(None);
        let (status, _, text) = get(&served, "/readyz", "*/*").await;
        assert_eq!((status, text.as_str()), (200, "ok\n"));
    }

    #[tokio::test]
    async fn metrics_come_in_the_format_that_is_asked_for() {
        let served = ServerState {
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
            let (status, given, text) = get(&served, "/metrics", accept).await;
            assert_eq!((status, given.as_str()), (200, media_type));
            assert!(text.ends_with(end) && text.contains("event_forwarder_leader 0"));
        }
    }

    #[test]
    fn all_of_ipv6_falls_back_to_all_of_ipv4_unless_the_port_is_taken() {
        let unsupported = || io::Error::from(io::ErrorKind::Unsupported);
        let taken = || io::Error::from(io::ErrorKind::AddrInUse);
        for (address, error, expected) in [
            ("[::]:8080", unsupported(), Some("0.0.0.0:8080")),
            ("[::]:8080", taken(), None),
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
    fn the_default_serves_both_families_where_there_are_both() {
        let listener = listen((Ipv6Addr::UNSPECIFIED, 0).into()).expect("a listener");
        let port = listener.local_addr().expect("its address").port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("by IPv4");
        if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port)).expect("by IPv6");
        }
    }
}
