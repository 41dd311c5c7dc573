use std::{
    error::Error as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use reqwest::{
    StatusCode, Url,
    header::{
        CONTENT_ENCODING, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
    },
    redirect::Policy,
};
use rustls::crypto::{CryptoProvider, ring};
use serde::Serialize;

use super::{ApiKey, ApiResponse, TransportFailure, compression::Gzip, retry_after::retry_after};
use crate::{
    api::IterableSpec,
    ca_bundle::{self, CaBundleError},
};

/// Timeout for establishing a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Interval of HTTP/2 pings on a silent connection while a response is pending. All requests share
/// one connection, so without pings a dead connection would make each of them time out.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// Timeout for the reply to a ping; see [`PING_INTERVAL`].
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum bytes read of a response. The lists for one request's events are far smaller.
const MAX_RESPONSE_BYTES: usize = 4 << 20;

/// Maximum length of a connection error's detail, in characters.
const MAX_DETAIL_CHARS: usize = 200;

/// A client for one Iterable project. Clones share connections and counters.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    track_bulk: String,
    bulk_update: String,
    gzip: Gzip,
    requests: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
}

/// A user to create.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum NewUser {
    /// Identified by email.
    Email(String),
    /// Identified by userId.
    UserId(String),
}

/// Why a client can't be created.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The additional CA certificates can't be used.
    #[error(transparent)]
    Trust(#[from] CaBundleError),
    /// The HTTP client rejected its settings.
    #[error(
        "can't create the HTTP client for Iterable: {0}; check the pod's proxy and certificate settings"
    )]
    Http(#[from] reqwest::Error),
}

impl Client {
    /// Creates a client for `spec`'s project, without sending a request.
    pub fn new(spec: &IterableSpec, key: &ApiKey) -> Result<Self, ClientError> {
        if CryptoProvider::get_default().is_none() {
            // Fails if another thread just installed the same provider.
            let _ = ring::default_provider().install_default();
        }
        let mut headers = HeaderMap::new();
        headers.insert("Api-Key", key.header());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let http = reqwest::Client::builder()
            .user_agent(concat!("event-forwarder/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(spec.request_timeout.get())
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .http2_keep_alive_while_idle(false)
            .tls_certs_merge(ca_bundle::load()?.certificates)
            .build()?;
        Ok(Self {
            http,
            track_bulk: format!("{}/api/events/trackBulk", spec.base_url()),
            bulk_update: format!("{}/api/users/bulkUpdate", spec.base_url()),
            gzip: Gzip::new(spec.compression),
            requests: Arc::default(),
            bytes: Arc::default(),
        })
    }

    /// Sends one `events/trackBulk` request. Failures are [`ApiResponse`]s too.
    pub async fn track_bulk(&self, body: Vec<u8>) -> ApiResponse {
        self.send_request(&self.track_bulk, body).await
    }

    /// Creates users with one `users/bulkUpdate` request.
    pub async fn create_users(&self, users: &[NewUser]) -> ApiResponse {
        let body = serde_json::json!({"users": users}).to_string();
        self.send_request(&self.bulk_update, body.into_bytes())
            .await
    }

    async fn send_request(&self, url: &str, body: Vec<u8>) -> ApiResponse {
        if let Some(compressed) = self.gzip.compress(&body) {
            let response = self.send_once(url, compressed, Some("gzip")).await;
            if self.gzip.is_usable(&response) {
                return response;
            }
            tracing::warn!(
                "Iterable may not support compressed requests; sending uncompressed for the rest of the run"
            );
        }
        self.send_once(url, body, None).await
    }

    async fn send_once(
        &self,
        url: &str,
        body: Vec<u8>,
        encoding: Option<&'static str>,
    ) -> ApiResponse {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
        match self.post(url, body, encoding).await {
            Ok((status, retry_after, body)) => {
                ApiResponse::read(status.as_u16(), retry_after, &body)
            }
            Err(error) => ApiResponse::Unavailable {
                kind: transport_failure(&error),
                retry_after: None,
            },
        }
    }

    /// Returns the number of requests sent.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Returns the number of request body bytes sent.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    async fn post(
        &self,
        url: &str,
        body: Vec<u8>,
        encoding: Option<&'static str>,
    ) -> Result<(StatusCode, Option<Duration>, Vec<u8>), reqwest::Error> {
        let mut request = self.http.post(url).body(body);
        if let Some(encoding) = encoding {
            request = request.header(CONTENT_ENCODING, encoding);
        }
        let mut response = request.send().await?;
        let status = response.status();
        let header = |name: HeaderName| response.headers().get(name)?.to_str().ok();
        let retry_after =
            header(RETRY_AFTER).and_then(|text| retry_after(text, header(DATE), Timestamp::now()));
        let mut read = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if read.len() + chunk.len() > MAX_RESPONSE_BYTES {
                break;
            }
            read.extend_from_slice(&chunk);
        }
        Ok((status, retry_after, read))
    }
}

fn transport_failure(error: &reqwest::Error) -> TransportFailure {
    if error.is_connect() {
        TransportFailure::NotConnected {
            host: error.url().map_or("Iterable", Url::authority).to_owned(),
            detail: causes(error),
        }
    } else if error.is_timeout() {
        TransportFailure::TimedOut
    } else {
        TransportFailure::ConnectionLost
    }
}

/// Returns an error's causes on one line, without its own text, because that repeats the URL.
fn causes(error: &reqwest::Error) -> String {
    let mut causes: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !causes.iter().any(|other| other.ends_with(&text)) {
            causes.push(text);
        }
        next = cause.source();
    }
    let text = causes.join(": ");
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(" ").chars().take(MAX_DETAIL_CHARS).collect()
}
