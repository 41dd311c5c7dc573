use std::error::Error as StdError;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use crate::{ca_bundle::CaBundleError, text::one_line};

/// The longest account of what happened, in characters.
const MAX_DETAIL_CHARS: usize = 300;

/// Why a request to SQS failed: what was asked, of which queue, and what to do next.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No region is known to sign requests for.
    #[error("can't determine the region of queue {queue} from its URL: set spec.queue.region")]
    NoRegion {
        /// The queue's URL.
        queue: String,
    },
    /// A URL in the forwarder can't be read.
    #[error(
        "{queue} is not a queue URL ({detail}): copy it from the queue's page in the SQS console"
    )]
    BadUrl {
        /// The text in the URL's place.
        queue: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The certificates of further authorities can't be used.
    #[error(transparent)]
    Trust(#[from] CaBundleError),
    /// No AWS identity was found, or the one found can't be used.
    #[error(
        "no AWS credentials for {action} on {queue}: {detail}; set spec.queue.credentialsSecretRef, \
         or bind the ServiceAccount of the reporting pod to a role"
    )]
    NoCredentials {
        /// The call.
        action: &'static str,
        /// The queue's URL.
        queue: String,
        /// What the identity's source said.
        detail: String,
    },
    /// The queue does not exist, for this identity.
    #[error("queue {queue} does not exist: check spec.queue.url, its account, and its region")]
    QueueMissing {
        /// The queue's URL.
        queue: String,
    },
    /// The identity may not do this.
    #[error("sqs:{action} on {queue} was denied ({code}): {detail}; grant it to that identity")]
    AccessDenied {
        /// The call.
        action: &'static str,
        /// The queue's URL.
        queue: String,
        /// The code that SQS gave.
        code: String,
        /// What SQS said.
        detail: String,
    },
    /// Too many requests, or too many messages in flight.
    #[error("sqs:{action} on {queue} was throttled ({code}); retrying more slowly")]
    Throttled {
        /// The call.
        action: &'static str,
        /// The queue's URL.
        queue: String,
        /// The code that SQS gave.
        code: String,
    },
    /// No answer: the network, a proxy, a time limit.
    #[error(
        "{host} did not respond to sqs:{action} on {queue}: {detail}; check the network and spec.queue.endpoint"
    )]
    Unreachable {
        /// The host that the request was for, and its port if that is not the scheme's own.
        host: String,
        /// The call.
        action: &'static str,
        /// The queue's URL.
        queue: String,
        /// What happened.
        detail: String,
    },
    /// SQS failed by itself.
    #[error("SQS failed sqs:{action} on {queue} (status {status}); retrying")]
    Server {
        /// The call.
        action: &'static str,
        /// The queue's URL.
        queue: String,
        /// The HTTP status.
        status: u16,
    },
    /// SQS refused the request as such.
    #[error("SQS rejected sqs:{action} on {queue} ({code}): {detail}")]
    Refused {
        /// The call.
        action: &'static str,
        /// The queue's URL.
        queue: String,
        /// The code that SQS gave.
        code: String,
        /// What SQS said.
        detail: String,
    },
}

impl Error {
    /// Whether the same request may succeed when it is made again.
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Throttled { .. } | Self::Unreachable { .. } | Self::Server { .. }
        )
    }

    /// One PascalCase word, the same in conditions, metrics and reports.
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
            Self::Refused { .. } => "QueueRejected",
        }
    }

    /// Reads what the SDK reports of `action` on `queue`, which it asked `host` for.
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
        // Some servers still say the names of the older protocol: AWS.SimpleQueueService.X.
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
            _ => Self::Refused {
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
    /// The code that SQS gave.
    pub code: String,
    /// Whether the request is at fault, so that a repeat can't succeed.
    pub sender_fault: bool,
    /// What SQS said.
    pub detail: String,
}

impl BatchEntryError {
    /// Whether the message may be in other hands by now: its handle is no longer the newest, or
    /// its visibility timeout has passed.
    pub fn is_expired(&self) -> bool {
        self.code.ends_with("ReceiptHandleIsInvalid")
            || self.code.ends_with("MessageNotInflight")
            || self.detail.contains("expired")
    }
}

/// An error with its causes, as one sentence.
fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    one_line(&text, MAX_DETAIL_CHARS)
}

/// What stands in an answer that is not SQS's own: a proxy's page, an older protocol's document.
fn body(answer: &HttpResponse) -> String {
    let text = String::from_utf8_lossy(answer.body().bytes().unwrap_or_default());
    match one_line(&text, MAX_DETAIL_CHARS) {
        nothing if nothing.is_empty() => "no message".to_owned(),
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
    fn codes_of_both_protocols_mean_the_same() {
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
    fn an_answer_in_a_form_that_sqs_does_not_use_is_quoted() {
        let told = |body: &'static str| {
            let status = StatusCode::try_from(403).expect("a status");
            let answer = HttpResponse::new(status, body.into());
            let error = ReceiveMessageError::unhandled("no JSON");
            Error::from_sdk(
                "ReceiveMessage",
                "q",
                "sqs.example",
                SdkError::service_error(error, answer),
            )
        };
        let error = told("<Error>\n  <Message>User: x may not</Message>\n</Error>");
        assert_eq!(error.reason(), "AccessDenied");
        assert_eq!(
            error.to_string(),
            "sqs:ReceiveMessage on q was denied (status 403): <Error> <Message>User: x may not</Message> </Error>; grant it to that identity"
        );
        assert!(told("").to_string().contains("no message"));
    }

    #[test]
    fn a_fifo_queue_says_in_words_that_a_handle_has_expired() {
        let entry = BatchEntryError {
            code: "InvalidParameterValue".to_owned(),
            sender_fault: true,
            detail: "Value AQEB for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired."
                .to_owned(),
        };
        assert!(entry.is_expired());
    }
}
