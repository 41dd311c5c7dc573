use std::{fmt, time::Duration};

use serde_json::Value;

use super::FailedIdentifiers;
use crate::text::one_line;

/// Maximum length of a quoted response, in characters.
const MAX_EXCERPT_CHARS: usize = 200;

/// The result of one request, classified by what must change: nothing, the events, the request
/// size, the key, the endpoint, or the sink.
#[derive(Clone, Debug, PartialEq)]
pub enum ApiResponse {
    /// Accepted, completely or in part (HTTP 200).
    Accepted(BulkCounts),
    /// The complete request was rejected because of its content: find the offending event.
    Rejected(ApiError),
    /// The request is too large: split it, unless it contains only one event.
    TooLarge,
    /// The key was rejected or lacks permission, so no other request can succeed.
    Unauthorized(ApiError),
    /// The response is not from this Iterable endpoint.
    WrongEndpoint(ApiError),
    /// Too many requests (HTTP 429): retry the request later.
    RateLimited {
        /// The delay that the response requests, if any.
        retry_after: Option<Duration>,
    },
    /// No usable response: retry the request later. Iterable may have accepted it already.
    Unavailable {
        /// The cause.
        kind: TransportFailure,
        /// The delay that the response requests, if any.
        retry_after: Option<Duration>,
    },
}

/// The counts of an accepted request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BulkCounts {
    /// Number of accepted events. `None` if the response does not report it.
    pub succeeded: Option<u64>,
    /// Number of rejected events.
    pub failed: u64,
    /// The identifiers and event names that the response lists as rejected.
    pub listed: FailedIdentifiers,
}

/// An error response.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError {
    /// The HTTP status.
    pub status: u16,
    /// Iterable's error code. `None` if the body is not an Iterable error.
    pub code: Option<String>,
    /// The message, or an excerpt of the body, on one line.
    pub message: String,
    /// Iterable's `params`, with the offending position or value; null if there are none.
    pub params: Value,
}

/// Why there was no usable response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransportFailure {
    /// No connection could be established.
    NotConnected {
        /// The host, with its port if it is not the scheme's default.
        host: String,
        /// The cause, such as an unknown host name or an untrusted certificate.
        detail: String,
    },
    /// The request timed out.
    TimedOut,
    /// The connection was lost.
    ConnectionLost,
    /// A server error status.
    Status(u16),
    /// A success status without Iterable's counts.
    InvalidResponse,
}

impl fmt::Display for TransportFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotConnected { host, detail } => write!(f, "can't connect to {host}: {detail}"),
            Self::TimedOut => f.write_str("request timed out"),
            Self::ConnectionLost => f.write_str("connection lost"),
            Self::Status(status) => write!(f, "status {status}"),
            Self::InvalidResponse => {
                f.write_str("not an Iterable response: check spec.iterable.endpoint")
            }
        }
    }
}

impl TransportFailure {
    /// Returns the failure as one PascalCase word.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::NotConnected { .. } => "SinkNotConnected",
            Self::TimedOut => "SinkTimedOut",
            Self::ConnectionLost => "SinkConnectionLost",
            Self::Status(_) => "SinkServerError",
            Self::InvalidResponse => "SinkInvalidResponse",
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code.as_deref().unwrap_or("no code");
        write!(f, "status {}, {code}: {}", self.status, self.message)
    }
}

impl ApiResponse {
    /// Classifies a response by its status first, because an error's body may be HTML, empty, or
    /// contain the code `Success`.
    pub fn read(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Self {
        match status {
            200..=299 => BulkCounts::read(body).map_or(
                Self::Unavailable {
                    kind: TransportFailure::InvalidResponse,
                    retry_after,
                },
                Self::Accepted,
            ),
            400 | 409 | 422 => Self::from_error(ApiError::read(status, body)),
            401 | 403 => Self::Unauthorized(ApiError::read(status, body)),
            413 => Self::TooLarge,
            429 => Self::RateLimited { retry_after },
            408 | 425 | 500.. => Self::Unavailable {
                kind: TransportFailure::Status(status),
                retry_after,
            },
            _ => Self::WrongEndpoint(ApiError::read(status, body)),
        }
    }

    fn from_error(error: ApiError) -> Self {
        match error.code.as_deref() {
            Some("BatchTooLarge") => Self::TooLarge,
            Some("BadApiKey" | "BadAuthorizationHeader" | "InvalidJwtPayload" | "Unauthorized") => {
                Self::Unauthorized(error)
            }
            _ => Self::Rejected(error),
        }
    }
}

impl BulkCounts {
    /// Returns `None` if the body has neither count, because nothing then proves that Iterable
    /// accepted the events.
    fn read(body: &[u8]) -> Option<Self> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let count = |name| body.get(name).and_then(Value::as_u64);
        let (succeeded, failed) = (count("successCount"), count("failCount"));
        if succeeded.is_none() && failed.is_none() {
            return None;
        }
        Some(Self {
            succeeded,
            failed: failed.unwrap_or_default(),
            listed: FailedIdentifiers::read(&body),
        })
    }
}

impl ApiError {
    fn read(status: u16, body: &[u8]) -> Self {
        let value: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |name| value.get(name).and_then(Value::as_str);
        let code = text("code").map(str::to_owned);
        let message = match text("msg") {
            Some(msg) => excerpt(msg),
            None => excerpt(&String::from_utf8_lossy(body.get(..400).unwrap_or(body))),
        };
        Self {
            status,
            code,
            message,
            params: value.get("params").cloned().unwrap_or_default(),
        }
    }
}

/// Returns the start of a response on one line.
fn excerpt(text: &str) -> String {
    match one_line(text, MAX_EXCERPT_CHARS) {
        empty if empty.is_empty() => "empty body".to_owned(),
        excerpt => excerpt,
    }
}

#[cfg(test)]
mod tests;
