use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    BASE_URL, BASE_URL_MESSAGE, Duration, OBJECT_NAME, OBJECT_NAME_MESSAGE, QUEUE_URL,
    QUEUE_URL_MESSAGE, pattern_rule,
};

/// An SQS queue, its credentials, and its endpoints.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct QueueSpec {
    /// URL of the queue, as shown by SQS. Example:
    /// "https://sqs.us-east-1.amazonaws.com/123456789012/mparticle-events".
    #[schemars(
        extend("x-kubernetes-validations" = pattern_rule(QUEUE_URL, QUEUE_URL_MESSAGE)),
        length(max = 512)
    )]
    pub url: String,

    /// AWS region of the queue. If unset, taken from the host of `url`. Required if that host is
    /// not an AWS host. Example: "eu-central-1".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        extend("x-kubernetes-validations" = pattern_rule(r"^[a-z]{2}(-[a-z]+)+-[0-9]$", "must be an AWS region without the letter of an availability zone, for example eu-central-1")),
        length(max = 64)
    )]
    pub region: Option<String>,

    /// SQS endpoint, if it differs from the host of `url`: a VPC endpoint, a FIPS endpoint, or an
    /// SQS-compatible server. If unset, the host of `url`. Example:
    /// "https://vpce-0123.sqs.us-east-1.vpce.amazonaws.com".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(BASE_URL, BASE_URL_MESSAGE)), length(max = 512))]
    pub endpoint: Option<String>,

    /// A Secret in the same namespace with AWS credentials in the keys `accessKeyId`,
    /// `secretAccessKey`, and, if temporary, `sessionToken`. If unset, the ambient credentials of
    /// the pod (IRSA, EKS Pod Identity, or the instance role). Example: {name: aws-credentials}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretRef>,

    /// An IAM role to assume before the queue is used, with the credentials of
    /// `credentialsSecretRef` or the ambient credentials of the pod. If unset, none. Example: {arn:
    /// "arn:aws:iam::123456789012:role/event-forwarder"}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assume_role: Option<AssumeRole>,

    /// URL of the dead-letter queue. If unset, taken from the queue's redrive policy. Example:
    /// "https://sqs.us-east-1.amazonaws.com/123456789012/mparticle-events-dead".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        extend("x-kubernetes-validations" = pattern_rule(QUEUE_URL, QUEUE_URL_MESSAGE)),
        length(max = 512)
    )]
    pub dead_letter_url: Option<String>,

    /// Reads payloads from S3 if a message contains only a pointer, as the SQS extended client
    /// library sends for payloads too large for a message. If unset, such messages stay in the
    /// queue. Example: {buckets: ["large-payloads"]}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub large_payloads: Option<LargePayloads>,

    /// How often the controller reads the queue depth into `status.queue`, in hours, minutes, and
    /// seconds, from 1s to 24h. The numbers of SQS lag by about a minute. A failed read is retried
    /// after 30 seconds, or this interval if shorter, with exponential backoff up to 10 minutes.
    /// Default "1m". Example: "5m".
    #[serde(default = "default_poll_interval")]
    pub poll_interval: Duration,
}

/// Message payloads in S3.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LargePayloads {
    /// Buckets that payloads are read from. A message that points to another bucket stays in the
    /// queue. The run needs s3:GetObject, and s3:DeleteObject unless `keepObjects` is true. Example:
    /// ["large-payloads"].
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 3, max = 63)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub buckets: Vec<String>,

    /// Keeps the S3 object after its message is deleted, instead of deleting it. Default false.
    /// Example: true, if a lifecycle rule of the bucket deletes objects.
    #[serde(default)]
    pub keep_objects: bool,

    /// S3 endpoint, if it differs from the AWS endpoint of the queue's region: a VPC endpoint or
    /// an S3-compatible server. If unset, the AWS endpoint. Example:
    /// "https://bucket.vpce-0123.s3.us-east-1.vpce.amazonaws.com".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(BASE_URL, BASE_URL_MESSAGE)), length(max = 512))]
    pub endpoint: Option<String>,
}

/// An IAM role to assume.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AssumeRole {
    /// ARN of the role. Example: "arn:aws:iam::123456789012:role/event-forwarder".
    #[schemars(
        extend("x-kubernetes-validations" = pattern_rule(r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$", "must be an IAM role ARN, as shown in the IAM console, for example arn:aws:iam::123456789012:role/event-forwarder")),
        length(max = 2048)
    )]
    pub arn: String,

    /// External ID that the trust policy of the role requires. If unset, none. Example:
    /// "event-forwarder-marketing".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 1224))]
    pub external_id: Option<String>,
}

/// A Secret in the namespace of the EventForwarder.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the Secret. Example: "aws-credentials".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(OBJECT_NAME, OBJECT_NAME_MESSAGE)), length(min = 1, max = 253))]
    pub name: String,
}

fn default_poll_interval() -> Duration {
    Duration::from_secs(60)
}
