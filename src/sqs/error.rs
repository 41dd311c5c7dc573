use std::error::Error as StdError;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use crate::{ca_bundle::CaBundleError, text::one_line};

/// Maximum length of an error's detail, in characters.
const MAX_DETAIL_CHARS: usize = 300;

/// Why a request to SQS failed: the action, the queue, and the next step.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The region for signing requests is unknown.
    #[error("can't determine the region of queue {queue} from its URL: set spec.queue.region")]
    NoRegion {
        /// The queue's URL.
        queue: String,
    },
    /// A URL in the EventForwarder is invalid.
    #[error(
        "{queue} is not a queue URL ({detail}): copy it from the queue's page in the SQS console"
    )]
    BadUrl {
        /// The invalid URL.
        queue: String,
        /// Why the URL is invalid.
        detail: String,
    },
    /// The additional CA certificates can't be used.
    #[error(transparent)]
    Trust(#[from] CaBundleError),
    /// No usable AWS credentials were found.
    #[error(
        "no AWS credentials for sqs:{action} on {queue}: {detail}; set spec.queue.credentialsSecretRef, \
         bind the ServiceAccount of this pod to a role, or outside a cluster set AWS credentials in the environment"
    )]
    NoCredentials {
        /// The SQS action.
        action: &'static str,
        /// The queue's URL.
        queue: String,
        /// The message of the credentials provider.
        detail: String,
    },
    /// The queue does not exist, for this identity.
    #[error("queue {queue} does not exist: check spec.queue.url, its account, and its region")]
    QueueMissing {
        /// The queue's URL.
        queue: String,
    },
    /// The identity lacks the permission.
    #[error(
        "sqs:{action} on {queue} was denied ({code}): {detail}; grant the permission to the identity in use, or correct its credentials"
    )]
    AccessDenied {
        /// The SQS action.
        action: &'static str,
        /// The queue's URL.
        queue: String,
        /// The error code from SQS.
        code: String,
        /// The message from SQS.
        detail: String,
    },
    /// Too many requests, or too many messages in flight.
    #[error("sqs:{action} on {queue} was throttled ({code})")]
    Throttled {
        /// The SQS action.
        action: &'static str,
        /// The queue's URL.
        queue: String,
        /// The error code from SQS.
        code: String,
    },
    /// No usable response, because of the network, a proxy, or a timeout.
    #[error(
        "no usable response from {host} to sqs:{action} on {queue}: {detail}; check the network and spec.queue.endpoint"
    )]
    Unreachable {
        /// The requested host, with its port if it is not the scheme's default.
        host: String,
        /// The SQS action.
        action: &'static str,
        /// The queue's URL.
        queue: String,
        /// The cause.
        detail: String,
    },
    /// SQS returned a server error.
    #[error("sqs:{action} on {queue} failed with an SQS server error (status {status})")]
    Server {
        /// The SQS action.
        action: &'static str,
        /// The queue's URL.
        queue: String,
        /// The HTTP status.
        status: u16,
    },
    /// SQS rejected the request for another reason.
    #[error("SQS rejected sqs:{action} on {queue} ({code}): {detail}")]
    Rejected {
        /// The SQS action.
        action: &'static str,
        /// The queue's URL.
        queue: String,
        /// The error code from SQS.
        code: String,
        /// The message from SQS.
        detail: String,
    },
}

impl Error {
    /// Returns whether a retry of the same request can succeed.
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Throttled { .. } | Self::Unreachable { .. } | Self::Server { .. }
        )
    }

    /// Returns the reason in PascalCase, as in conditions, metrics, and reports.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoRegion { .. } => "NoRegion",
            Self::BadUrl { .. } => "BadQueueUrl",
            Self::Trust(_) => "BadCertificates",
            Self::NoCredentials { .. } => "NoCredentials",
            Self::QueueMissing { .. } => "QueueMissing",
            Self::AccessDenied { .. } => "AccessDenied",
            Self::Throttled { .. } => "Throttled",
            Self::Unreachable { .. } => "Unreachable",
            Self::Server { .. } => "QueueServerError",
            Self::Rejected { .. } => "QueueRejected",
        }
    }

    /// Converts the SDK's error for `action` on `queue`, which it sent to `host`.
    pub(super) fn from_sdk<E>(
        action: &'static str,
        queue: &str,
        host: &str,
        error: SdkError<E, HttpResponse>,
    ) -> Self
    where
        E: StdError + ProvideErrorMetadata + Send + Sync + 'static,
    {
        let queue = queue.to_owned();
        let status = error
            .raw_response()
            .map(|response| response.status().as_u16());
        if let Some(service) = error.as_service_error() {
            let status = status.unwrap_or_default();
            let code = service
                .code()
                .map_or_else(|| format!("status {status}"), str::to_owned);
            let detail = service.message().map_or_else(
                || error.raw_response().map_or_else(String::new, body),
                str::to_owned,
            );
            return Self::from_code(action, queue, code, detail, status);
        }
        if let (Some(status), true) = (status, matches!(error, SdkError::ResponseError(_))) {
            return Self::from_status(action, queue, host, status, chain(&error));
        }
        match find::<CredentialsError>(&error) {
            Some(cause) => Self::NoCredentials {
                action,
                queue,
                detail: chain(cause),
            },
            None => Self::Unreachable {
                host: host.to_owned(),
                action,
                queue,
                detail: chain(&error),
            },
        }
    }

    fn from_status(
        action: &'static str,
        queue: String,
        host: &str,
        status: u16,
        detail: String,
    ) -> Self {
        match status {
            403 => Self::AccessDenied {
                action,
                queue,
                code: "Forbidden".to_owned(),
                detail,
            },
            500.. => Self::Server {
                action,
                queue,
                status,
            },
            _ => Self::Unreachable {
                host: host.to_owned(),
                action,
                queue,
                detail,
            },
        }
    }

    fn from_code(
        action: &'static str,
        queue: String,
        code: String,
        detail: String,
        status: u16,
    ) -> Self {
        // Some servers still use the names of the older protocol: AWS.SimpleQueueService.X.
        let name = code.rsplit(['.', '#']).next().unwrap_or(&code);
        match name {
            "QueueDoesNotExist" | "NonExistentQueue" => Self::QueueMissing { queue },
            "AccessDenied"
            | "AccessDeniedException"
            | "AuthorizationError"
            | "ExpiredToken"
            | "ExpiredTokenException"
            | "IncompleteSignature"
            | "InvalidAccessKeyId"
            | "InvalidClientTokenId"
            | "InvalidSecurity"
            | "InvalidSecurityToken"
            | "KmsAccessDenied"
            | "KmsDisabled"
            | "KmsNotFound"
            | "MissingAuthenticationToken"
            | "OptInRequired"
            | "SignatureDoesNotMatch"
            | "UnrecognizedClientException" => Self::AccessDenied {
                action,
                queue,
                code,
                detail,
            },
            "RequestThrottled"
            | "ThrottlingException"
            | "Throttling"
            | "TooManyRequestsException"
            | "RequestLimitExceeded"
            | "KmsThrottled"
            | "OverLimit" => Self::Throttled {
                action,
                queue,
                code,
            },
            _ if status >= 500 => Self::Server {
                action,
                queue,
                status,
            },
            _ if status == 403 => Self::AccessDenied {
                action,
                queue,
                code,
                detail,
            },
            _ if status == 429 => Self::Throttled {
                action,
                queue,
                code,
            },
            _ => Self::Rejected {
                action,
                queue,
                code,
                detail,
            },
        }
    }
}

/// Why one entry of a batch request failed while the others did not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct BatchEntryError {
    /// The error code from SQS.
    pub code: String,
    /// Whether the request caused the error, so that a retry can't succeed.
    pub sender_fault: bool,
    /// The message from SQS.
    pub detail: String,
}

impl BatchEntryError {
    /// Returns whether another consumer may have received the message, because its receipt handle
    /// is no longer the newest or its visibility timeout has passed.
    pub fn is_expired(&self) -> bool {
        self.code.ends_with("ReceiptHandleIsInvalid")
            || self.code.ends_with("MessageNotInflight")
            || self.detail.contains("expired")
    }
}

/// Returns an error and its causes on one line.
fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    one_line(&text, MAX_DETAIL_CHARS)
}

/// Returns the body of a response in another format, such as a proxy's page or an older protocol's
/// document.
fn body(response: &HttpResponse) -> String {
    let text = String::from_utf8_lossy(response.body().bytes().unwrap_or_default());
    match one_line(&text, MAX_DETAIL_CHARS) {
        empty if empty.is_empty() => "no message".to_owned(),
        text => text,
    }
}

fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref::<T>() {
            return Some(found);
        }
        next = cause.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use aws_sdk_sqs::operation::receive_message::ReceiveMessageError;
    use aws_smithy_runtime_api::http::StatusCode;

    use super::*;

    fn reason(code: &str, status: u16) -> &'static str {
        Error::from_code(
            "ReceiveMessage",
            "q".to_owned(),
            code.to_owned(),
            String::new(),
            status,
        )
        .reason()
    }

    #[test]
    fn error_codes_of_both_protocols_are_equivalent() {
        assert_eq!(
            reason("AWS.SimpleQueueService.NonExistentQueue", 400),
            "QueueMissing"
        );
        assert_eq!(
            reason("com.amazonaws.sqs#QueueDoesNotExist", 400),
            "QueueMissing"
        );
        assert_eq!(reason("AccessDeniedException", 400), "AccessDenied");
        assert_eq!(reason("RequestThrottled", 400), "Throttled");
        assert_eq!(reason("InternalError", 500), "QueueServerError");
        assert_eq!(reason("SomethingNew", 403), "AccessDenied");
        assert_eq!(reason("SomethingNew", 400), "QueueRejected");
    }

    #[test]
    fn foreign_error_body_is_quoted() {
        let error_for = |body: &'static str| {
            let status = StatusCode::try_from(403).expect("a status");
            let response = HttpResponse::new(status, body.into());
            let error = ReceiveMessageError::unhandled("no JSON");
            Error::from_sdk(
                "ReceiveMessage",
                "q",
                "sqs.example",
                SdkError::service_error(error, response),
            )
        };
        let error = error_for("<Error>\n  <Message>User: x may not</Message>\n</Error>");
        assert_eq!(error.reason(), "AccessDenied");
        assert_eq!(
            error.to_string(),
            "sqs:ReceiveMessage on q was denied (status 403): <Error> <Message>User: x may not</Message> </Error>; grant the permission to the identity in use, or correct its credentials"
        );
        assert!(error_for("").to_string().contains("no message"));
    }

    #[test]
    fn fifo_error_text_identifies_expired_handle() {
        let entry = BatchEntryError {
            code: "InvalidParameterValue".to_owned(),
            sender_fault: true,
            detail: "Value AQEB for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired."
                .to_owned(),
        };
        assert!(entry.is_expired());
    }
}
