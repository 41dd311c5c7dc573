use std::{fmt, time::Duration};

use serde_json::Value;

use super::FailedIdentifiers;
use crate::text::one_line;

/// The longest quote of a response.
const MAX_EXCERPT_CHARS: usize = 200;

/// What became of one request, in the classes that differ in who must act: nobody, the events,
/// the request's size, the key, the address, or the sink.
#[derive(Clone, Debug, PartialEq)]
pub enum ApiResponse {
    /// Taken, wholly or in part (HTTP 200).
    Accepted(BulkCounts),
    /// The whole request was refused for what stands in it: find the event that is at fault.
    Rejected(ApiError),
    /// The request is too large; no event of it is at fault, unless it was alone.
    TooLarge,
    /// The key was refused, or may not do this: no other request can succeed.
    Unauthorized(ApiError),
    /// Something answered that is not this endpoint of Iterable.
    WrongEndpoint(ApiError),
    /// Too many requests (HTTP 429): the same request again, later.
    RateLimited {
        /// How long to wait, if the answer says so.
        retry_after: Option<Duration>,
    },
    /// No usable answer: the same request again, later. It may have been taken already.
    Unavailable {
        /// What happened.
        kind: TransportFailure,
        /// How long to wait, if the answer says so.
        retry_after: Option<Duration>,
    },
}

/// The counts of an accepted request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BulkCounts {
    /// Events taken. None if the answer doesn't say.
    pub succeeded: Option<u64>,
    /// Events refused.
    pub failed: u64,
    /// What the answer names as refused.
    pub listed: FailedIdentifiers,
}

/// An error answer.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError {
    /// The HTTP status.
    pub status: u16,
    /// Iterable's code. None if the body is not in Iterable's form.
    pub code: Option<String>,
    /// What the answer said, cut to a line.
    pub message: String,
    /// Iterable's `params`, with the place or value at fault; null if there are none.
    pub params: Value,
}

/// Why there was no usable answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransportFailure {
    /// No connection came about.
    NotConnected {
        /// The host, and its port if that is not the scheme's own.
        host: String,
        /// Why, such as a name that does not exist or a certificate that nobody vouches for.
        detail: String,
    },
    /// The time limit passed.
    TimedOut,
    /// The connection broke.
    ConnectionLost,
    /// An error status of the server's own.
    Status(u16),
    /// Success by status, but without the counts that Iterable gives.
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
    /// One PascalCase word.
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
    /// Reads an answer: by its status first, since an error's body may be HTML, empty, or say
    /// `Success`.
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

    fn from_error(refusal: ApiError) -> Self {
        match refusal.code.as_deref() {
            Some("BatchTooLarge") => Self::TooLarge,
            Some("BadApiKey" | "BadAuthorizationHeader" | "InvalidJwtPayload" | "Unauthorized") => {
                Self::Unauthorized(refusal)
            }
            _ => Self::Rejected(refusal),
        }
    }
}

impl BulkCounts {
    /// None if the body is no object with at least one of the counts: then nothing proves that
    /// Iterable took the events.
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
        let said = match text("msg") {
            Some(msg) => excerpt(msg),
            None => excerpt(&String::from_utf8_lossy(body.get(..400).unwrap_or(body))),
        };
        Self {
            status,
            code,
            message: said,
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
