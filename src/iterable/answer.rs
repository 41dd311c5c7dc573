use std::{fmt, time::Duration};

use serde_json::Value;

use super::Listed;
use crate::text::one_line;

/// The longest quote of a response.
const MAX_EXCERPT_CHARS: usize = 200;

/// What became of one request, in the classes that differ in who must act: nobody, the events,
/// the request's size, the key, the address, or the sink.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Taken, wholly or in part (HTTP 200).
    Counted(Counts),
    /// The whole request was refused for what stands in it: find the event that is at fault.
    Refused(Refusal),
    /// The request is too large; no event of it is at fault, unless it was alone.
    TooLarge,
    /// The key was refused, or may not do this: no other request can succeed.
    KeyRefused(Refusal),
    /// Something answered that is not this endpoint of Iterable.
    Misdirected(Refusal),
    /// Too many requests (HTTP 429): the same request again, later.
    SlowDown {
        /// How long to wait, if the answer says so.
        retry_after: Option<Duration>,
    },
    /// No usable answer: the same request again, later. It may have been taken already.
    Trouble {
        /// What happened.
        kind: Trouble,
        /// How long to wait, if the answer says so.
        retry_after: Option<Duration>,
    },
}

/// The counts of an accepted request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events taken. None if the answer doesn't say.
    pub succeeded: Option<u64>,
    /// Events refused.
    pub failed: u64,
    /// What the answer names as refused.
    pub listed: Listed,
}

/// An error answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// Iterable's code. None if the body is not in Iterable's form.
    pub code: Option<String>,
    /// What the answer said, cut to a line.
    pub said: String,
    /// Iterable's `params`, with the place or value at fault; null if there are none.
    pub params: Value,
}

/// Why there was no usable answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
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
    Broken,
    /// An error status of the server's own.
    Status(u16),
    /// Success by status, but without the counts that Iterable gives.
    NoCounts,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotConnected { host, detail } => write!(f, "no connection to {host}: {detail}"),
            Self::TimedOut => f.write_str("no answer within the time limit"),
            Self::Broken => f.write_str("the connection broke"),
            Self::Status(status) => write!(f, "status {status}"),
            Self::NoCounts => {
                f.write_str("an answer that is not Iterable's: is spec.iterable.endpoint right?")
            }
        }
    }
}

impl Trouble {
    /// One PascalCase word.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::NotConnected { .. } => "SinkNotConnected",
            Self::TimedOut => "SinkTimedOut",
            Self::Broken => "SinkBroken",
            Self::Status(_) => "SinkServerError",
            Self::NoCounts => "SinkGarbled",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code.as_deref().unwrap_or("no code");
        write!(f, "status {}, {code}: {}", self.status, self.said)
    }
}

impl Answer {
    /// Reads an answer: by its status first, since an error's body may be HTML, empty, or say
    /// `Success`.
    pub fn read(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Self {
        match status {
            200..=299 => Counts::read(body).map_or(
                Self::Trouble {
                    kind: Trouble::NoCounts,
                    retry_after,
                },
                Self::Counted,
            ),
            400 | 409 | 422 => Self::of_refusal(Refusal::read(status, body)),
            401 | 403 => Self::KeyRefused(Refusal::read(status, body)),
            413 => Self::TooLarge,
            429 => Self::SlowDown { retry_after },
            408 | 425 | 500.. => Self::Trouble {
                kind: Trouble::Status(status),
                retry_after,
            },
            _ => Self::Misdirected(Refusal::read(status, body)),
        }
    }

    fn of_refusal(refusal: Refusal) -> Self {
        match refusal.code.as_deref() {
            Some("BatchTooLarge") => Self::TooLarge,
            Some("BadApiKey" | "BadAuthorizationHeader" | "InvalidJwtPayload" | "Unauthorized") => {
                Self::KeyRefused(refusal)
            }
            _ => Self::Refused(refusal),
        }
    }
}

impl Counts {
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
            listed: Listed::read(&body),
        })
    }
}

impl Refusal {
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
            said,
            params: value.get("params").cloned().unwrap_or_default(),
        }
    }
}

/// Returns the start of a response on one line.
fn excerpt(text: &str) -> String {
    match one_line(text, MAX_EXCERPT_CHARS) {
        empty if empty.is_empty() => "an empty body".to_owned(),
        excerpt => excerpt,
    }
}

#[cfg(test)]
mod tests;
