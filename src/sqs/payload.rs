//! Payloads in S3 that were too large for a message, as SQS's extended client writes them.
//!
//! The message contains a pointer to the payload. Only pointers to buckets in the spec are
//! followed, because a message can name any bucket.

use std::time::Duration;

use aws_sdk_s3::{Client, config::Builder, error::DisplayErrorContext, error::SdkError};
use serde::Deserialize;
use tokio::time::timeout;

use super::{Credentials, Error, Message, connect::Connector};
use crate::api::{LargePayloads, QueueSpec};

/// Class names of the extended client's pointers, current and older.
const CLASSES: [&str; 2] = [
    "software.amazon.payloadoffloading.PayloadS3Pointer",
    "com.amazon.sqs.javamessaging.MessageS3Pointer",
];

/// Attributes that contain a payload's size, current and older.
const SIZES: [&str; 2] = ["ExtendedPayloadSize", "SQSLargePayloadSize"];

/// Timeout for reading a payload.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// The location of a payload.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Pointer {
    /// The bucket.
    #[serde(rename = "s3BucketName")]
    pub bucket: String,
    /// The object's key.
    #[serde(rename = "s3Key")]
    pub key: String,
    /// The object's size in bytes, if the message contains it.
    #[serde(skip)]
    pub bytes: Option<u64>,
}

/// Why a payload can't be read or deleted.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// The bucket is not listed in the spec.
    #[error(
        "a message points to S3 bucket {bucket}, which is not allowed: add it to spec.queue.largePayloads.buckets"
    )]
    BucketNotListed {
        /// The bucket.
        bucket: String,
    },
    /// The object is larger than a run accepts.
    #[error(
        "s3://{bucket}/{key} has {bytes} bytes, more than a run accepts: raise spec.drain.maxBytesInFlight"
    )]
    TooLarge {
        /// The bucket.
        bucket: String,
        /// The object's key.
        key: String,
        /// The object's size.
        bytes: u64,
    },
    /// The object does not exist.
    #[error("s3://{bucket}/{key} does not exist: the message's payload is lost")]
    Missing {
        /// The bucket.
        bucket: String,
        /// The object's key.
        key: String,
    },
    /// S3 rejected the request or did not respond.
    #[error("S3 request for s3://{bucket}/{key} failed: {detail}")]
    Unreadable {
        /// The bucket.
        bucket: String,
        /// The object's key.
        key: String,
        /// The cause.
        detail: String,
    },
}

impl PayloadError {
    /// Returns the reason as one PascalCase word.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::BucketNotListed { .. } => "BucketNotListed",
            Self::TooLarge { .. } => "PayloadTooLarge",
            Self::Missing { .. } => "PayloadMissing",
            Self::Unreadable { .. } => "PayloadUnreadable",
        }
    }
}

/// Returns the pointer in a message's body, if there is one.
pub fn pointer(message: &Message) -> Option<Pointer> {
    if !message.body.trim_start().starts_with('[') {
        return None;
    }
    let (class, pointer): (String, Pointer) = serde_json::from_str(&message.body).ok()?;
    let size = SIZES.iter().find_map(|name| message.attributes.get(*name));
    CLASSES.contains(&class.as_str()).then(|| Pointer {
        bytes: size.and_then(|size| size.value.parse().ok()),
        ..pointer
    })
}

/// A client that reads and deletes payloads in S3.
#[derive(Clone, Debug)]
pub struct Payloads {
    /// `None` if no bucket is listed.
    source: Option<(Client, LargePayloads)>,
}

impl Payloads {
    /// Creates a client for the listed buckets, without sending a request.
    pub async fn connect(spec: &QueueSpec, credentials: Credentials) -> Result<Self, Error> {
        let Some(large) = &spec.large_payloads else {
            return Ok(Self { source: None });
        };
        let config = Connector::new()?.config(spec, credentials).await?;
        let mut builder = Builder::from(&config);
        builder.set_endpoint_url(large.endpoint.clone());
        let client = Client::from_conf(builder.force_path_style(large.endpoint.is_some()).build());
        Ok(Self {
            source: Some((client, large.clone())),
        })
    }

    /// Reads a payload of at most `max_bytes` bytes.
    pub async fn read(&self, pointer: &Pointer, max_bytes: u64) -> Result<String, PayloadError> {
        let Pointer { bucket, key, .. } = pointer.clone();
        let listed = self
            .source
            .as_ref()
            .filter(|(_, large)| large.buckets.contains(&bucket));
        let Some((client, _)) = listed else {
            return Err(PayloadError::BucketNotListed { bucket });
        };
        let read = async {
            let object = client
                .get_object()
                .bucket(&bucket)
                .key(&key)
                .send()
                .await
                .map_err(|error| match &error {
                    SdkError::ServiceError(service) if service.err().is_no_such_key() => {
                        PayloadError::Missing {
                            bucket: bucket.clone(),
                            key: key.clone(),
                        }
                    }
                    _ => unreadable(pointer, DisplayErrorContext(&error)),
                })?;
            let bytes = object
                .content_length()
                .and_then(|bytes| u64::try_from(bytes).ok())
                .unwrap_or(u64::MAX);
            if bytes > max_bytes {
                return Err(PayloadError::TooLarge {
                    bucket: bucket.clone(),
                    key: key.clone(),
                    bytes,
                });
            }
            let body = object
                .body
                .collect()
                .await
                .map_err(|error| unreadable(pointer, error))?;
            String::from_utf8(body.to_vec()).map_err(|error| unreadable(pointer, error))
        };
        timeout(READ_TIMEOUT, read)
            .await
            .unwrap_or_else(|_| Err(unreadable(pointer, "request timed out")))
    }

    /// Deletes a payload, unless `keepObjects` is set. Call it after deleting the message.
    pub async fn delete(&self, pointer: &Pointer) -> Result<(), PayloadError> {
        let Some((client, large)) = &self.source else {
            return Ok(());
        };
        if large.keep_objects {
            return Ok(());
        }
        let delete = client
            .delete_object()
            .bucket(&pointer.bucket)
            .key(&pointer.key)
            .send();
        delete
            .await
            .map(|_| ())
            .map_err(|error| unreadable(pointer, DisplayErrorContext(error)))
    }
}

fn unreadable(pointer: &Pointer, detail: impl ToString) -> PayloadError {
    PayloadError::Unreadable {
        bucket: pointer.bucket.clone(),
        key: pointer.key.clone(),
        detail: detail.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::sqs::Attribute;

    fn message(body: &str) -> Message {
        Message {
            id: "id".to_owned(),
            receipt_handle: "receipt".to_owned(),
            body: body.to_owned(),
            sent_at: None,
            receive_count: None,
            group: None,
            attributes: BTreeMap::new(),
        }
    }

    #[test]
    fn only_extended_client_pointers_are_recognized() {
        let object = r#"{"s3BucketName":"b","s3Key":"p/k","more":1}"#;
        for class in CLASSES {
            let found = pointer(&message(&format!(r#" ["{class}", {object}]"#))).unwrap();
            assert_eq!((found.bucket.as_str(), found.key.as_str()), ("b", "p/k"));
            assert_eq!(found.bytes, None);
        }
        for name in SIZES {
            let mut sized = message(&format!(r#"["{}", {object}]"#, CLASSES[0]));
            let size = Attribute {
                kind: "Number".to_owned(),
                value: "300000".to_owned(),
            };
            sized.attributes.insert(name.to_owned(), size);
            assert_eq!(pointer(&sized).unwrap().bytes, Some(300_000));
        }
        for body in [
            format!(r#"["java.lang.Object", {object}]"#),
            format!("[{object}]"),
            object.to_owned(),
            r#"{"events":[]}"#.to_owned(),
            r#"[{"events":[]},{"events":[]}]"#.to_owned(),
            String::new(),
        ] {
            assert_eq!(pointer(&message(&body)), None, "{body}");
        }
    }
}
