use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use reqwest::{
    StatusCode,
    header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER},
    redirect::Policy,
};
use rustls::crypto::{CryptoProvider, ring};
use serde::Serialize;

use super::{Answer, ApiKey, Trouble};
use crate::{
    api::IterableSpec,
    trust::{TrustError, authorities},
};

/// How long a connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// The most that is read of an answer, in bytes. The lists of one request's events are far
/// smaller.
const MAX_ANSWER_BYTES: usize = 4 << 20;

/// One Iterable project. Clones share connections and counts.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    track_bulk: String,
    bulk_update: String,
    requests: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
}

/// A user to make known.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum NewUser {
    /// By email.
    Email(String),
    /// By userId.
    UserId(String),
}

/// A client that can't be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The certificates of further authorities can't be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The HTTP client refuses its settings.
    #[error(
        "the HTTP client for Iterable can't be made: {0}; check the proxy and certificate settings of the pod"
    )]
    Http(#[from] reqwest::Error),
}

impl Client {
    /// A client for `spec`'s project. Makes no request yet.
    pub fn new(spec: &IterableSpec, key: &ApiKey) -> Result<Self, ClientError> {
        if CryptoProvider::get_default().is_none() {
            // Another thread may have been faster, with the same provider.
            let _ = ring::default_provider().install_default();
        }
        let mut headers = HeaderMap::new();
        headers.insert("Api-Key", key.header());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let http = reqwest::Client::builder()
            .user_agent(concat!("event-forwarder/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .redirect(Policy::none())
            .connect_timeout(CONNECT_LIMIT)
            .timeout(spec.request_timeout.get())
            .tcp_nodelay(true)
            .tls_certs_merge(authorities()?.certificates)
            .build()?;
        Ok(Self {
            http,
            track_bulk: format!("{}/api/events/trackBulk", spec.base_url()),
            bulk_update: format!("{}/api/users/bulkUpdate", spec.base_url()),
            requests: Arc::default(),
            bytes: Arc::default(),
        })
    }

    /// Sends one `events/trackBulk` request. Every failure is an [`Answer`] too.
    pub async fn track_bulk(&self, body: Vec<u8>) -> Answer {
        self.ask(&self.track_bulk, body).await
    }

    /// Makes users known by one `users/bulkUpdate` request.
    pub async fn create_users(&self, users: &[NewUser]) -> Answer {
        let body = serde_json::json!({"users": users}).to_string();
        self.ask(&self.bulk_update, body.into_bytes()).await
    }

    async fn ask(&self, url: &str, body: Vec<u8>) -> Answer {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
        match self.post(url, body).await {
            Ok((status, retry_after, body)) => {
                Answer::read(status.as_u16(), retry_after.as_deref(), &body)
            }
            Err(error) => Answer::Trouble {
                kind: trouble(&error),
                retry_after: None,
            },
        }
    }

    /// The number of requests made.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// The bytes of request bodies sent.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    async fn post(
        &self,
        url: &str,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Option<String>, Vec<u8>), reqwest::Error> {
        let mut response = self.http.post(url).body(body).send().await?;
        let status = response.status();
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let mut read = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if read.len() + chunk.len() > MAX_ANSWER_BYTES {
                break;
            }
            read.extend_from_slice(&chunk);
        }
        Ok((status, retry_after, read))
    }
}

fn trouble(error: &reqwest::Error) -> Trouble {
    if error.is_connect() {
        Trouble::NotConnected
    } else if error.is_timeout() {
        Trouble::TimedOut
    } else {
        Trouble::Broken
    }
}
