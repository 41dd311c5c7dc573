use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde_json::{Value, json};

/// The reason why a complete request is rejected, displayed as `msg`.
///
/// Status, `code` and `params` follow section 1.9.
#[derive(Debug, thiserror::Error)]
pub(super) enum Rejection {
    #[error("Invalid API key")]
    BadApiKey { ip: String, endpoint: String },
    /// Iterable's message also ends with a space (section 1.3).
    #[error("Exceeded rate limit for endpoint: {endpoint}, project: {PROJECT} ")]
    RateLimitExceeded { endpoint: String },
    #[error("[{endpoint}] Batch too large")]
    BatchTooLarge { endpoint: String },
    /// The message of a proxy in front of Iterable (section 1.9).
    #[error("Request Entity Too Large")]
    PayloadTooLarge,
    #[error("[{endpoint}] Invalid JSON body")]
    BadJsonBody {
        endpoint: String,
        /// The expected type by path; empty if the body is not valid JSON.
        expected: BTreeMap<String, &'static str>,
    },
    #[error("[{endpoint}] {reason}")]
    BadParams { endpoint: String, reason: String },
    #[error(
        "Project {PROJECT}: The request does not have the same data types as the data previously submitted. {}",
        first_mismatch(.0)
    )]
    RequestFieldsTypesMismatched(BTreeMap<String, Value>),
    #[error("Project {PROJECT} has reached its limit of {limit} unique fields")]
    UniqueFieldsLimitExceeded { limit: usize },
    #[error("No such endpoint: {endpoint}")]
    NotFound { endpoint: String },
}

/// The project number in messages.
const PROJECT: u32 = 1;

impl Rejection {
    pub(super) fn status(&self) -> StatusCode {
        self.status_and_code().0
    }

    /// Returns the media type and the body.
    pub(super) fn body(&self) -> (&'static str, String) {
        if matches!(self, Self::PayloadTooLarge) {
            return (
                "text/html",
                format!("<html><body><h1>413 {self}</h1></body></html>"),
            );
        }
        let (_, code) = self.status_and_code();
        let body = json!({ "msg": self.to_string(), "code": code, "params": self.params() });
        ("application/json", body.to_string())
    }

    fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::BadApiKey { .. } => (StatusCode::UNAUTHORIZED, "BadApiKey"),
            Self::RateLimitExceeded { .. } => (StatusCode::TOO_MANY_REQUESTS, "RateLimitExceeded"),
            Self::BatchTooLarge { .. } => (StatusCode::BAD_REQUEST, "BatchTooLarge"),
            Self::PayloadTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "PayloadTooLarge"),
            Self::BadJsonBody { .. } => (StatusCode::BAD_REQUEST, "BadJsonBody"),
            Self::BadParams { .. } => (StatusCode::BAD_REQUEST, "BadParams"),
            Self::RequestFieldsTypesMismatched(_) => {
                (StatusCode::BAD_REQUEST, "RequestFieldsTypesMismatched")
            }
            Self::UniqueFieldsLimitExceeded { .. } => {
                (StatusCode::BAD_REQUEST, "UniqueFieldsLimitExceeded")
            }
            Self::NotFound { .. } => (StatusCode::NOT_FOUND, "NotFound"),
        }
    }

    fn params(&self) -> Value {
        match self {
            Self::BadApiKey { ip, endpoint } => json!({ "ip": ip, "endpoint": endpoint }),
            Self::RateLimitExceeded { .. } => json!({}),
            Self::BadJsonBody { expected, .. } if !expected.is_empty() => json!(expected),
            Self::RequestFieldsTypesMismatched(errors) => json!({ "validationErrors": errors }),
            _ => Value::Null,
        }
    }
}

fn first_mismatch(errors: &BTreeMap<String, Value>) -> String {
    errors.first_key_value().map_or_else(String::new, |(field, error)| {
        let text = |key: &str| error[key].as_str().unwrap_or_default();
        let incoming: Vec<_> = error["incomingTypes"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        format!(
            "Field '{field}' already exists for type '{}' and has a data type of '{}' but possible types '{}' in the request.",
            text("category"),
            text("expectedType"),
            incoming.join(", ")
        )
    })
}
