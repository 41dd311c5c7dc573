use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    BASE_URL, BASE_URL_MESSAGE, Duration, OBJECT_NAME, OBJECT_NAME_MESSAGE, QUEUE_URL,
    QUEUE_URL_MESSAGE, pattern_rule,
};

/// An SQS queue and how to reach it.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct QueueSpec {
    /// The queue's URL, as SQS shows it. Example:
    /// "https://sqs.us-east-1.amazonaws.com/123456789012/mparticle-events".
    #[schemars(
        extend("x-kubernetes-validations" = pattern_rule(QUEUE_URL, QUEUE_URL_MESSAGE)),
        length(max = 512)
    )]
    pub url: String,

    /// The AWS region of the queue. Left out: taken from the host of `url`; needed when that host
    /// is not one of AWS's own. Example: "eu-central-1".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        extend("x-kubernetes-validations" = pattern_rule(r"^[a-z]{2}(-[a-z]+)+-[0-9]$", "this is no AWS region: write one such as eu-central-1, without the zone's letter")),
        length(max = 64)
    )]
    pub region: Option<String>,

    /// Where SQS answers, if not at the host of `url`: a VPC endpoint, a FIPS endpoint or an
    /// SQS-compatible server. Left out: at that host. Example:
    /// "https://vpce-0123.sqs.us-east-1.vpce.amazonaws.com".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(BASE_URL, BASE_URL_MESSAGE)), length(max = 512))]
    pub endpoint: Option<String>,

    /// A Secret in the same namespace with AWS credentials under the keys `accessKeyId`,
    /// `secretAccessKey` and, if temporary, `sessionToken`. Left out: the pod's own identity (IRSA,
    /// EKS Pod Identity or the instance's role). Example: {name: aws-credentials}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretRef>,

    /// An IAM role that is assumed before the queue is used, by the identity of
    /// `credentialsSecretRef` or else the pod's own. Left out: none. Example: {arn:
    /// "arn:aws:iam::123456789012:role/event-forwarder"}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assume_role: Option<AssumeRole>,

    /// The URL of the dead-letter queue. Left out: found through the queue's redrive policy.
    /// Example: "https://sqs.us-east-1.amazonaws.com/123456789012/mparticle-events-dead".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        extend("x-kubernetes-validations" = pattern_rule(QUEUE_URL, QUEUE_URL_MESSAGE)),
        length(max = 512)
    )]
    pub dead_letter_url: Option<String>,

    /// Follows the pointers that SQS's extended client leaves in place of payloads too large for a
    /// message. Left out: such messages stay in the queue. Example: {buckets: ["large-payloads"]}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub large_payloads: Option<LargePayloads>,

    /// How often the controller reads the queue's depth into `status.queue`, in hours, minutes and
    /// seconds, from 1s to 24h; SQS's own numbers lag by about a minute. A read that fails is made
    /// again after 30 seconds, or this interval if shorter, then ever later, after 10 minutes at
    /// the latest. Default "1m". Example: "5m".
    #[serde(default = "default_poll_interval")]
    pub poll_interval: Duration,
}

/// Payloads in S3.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LargePayloads {
    /// The buckets into which pointers are followed; a message that points elsewhere stays in the
    /// queue. The run needs s3:GetObject and s3:DeleteObject there. Example: ["large-payloads"].
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 3, max = 63)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub buckets: Vec<String>,

    /// Leaves the object in its bucket when its message is deleted. Default false: it is deleted
    /// after its message. Example: true, where a lifecycle rule of the bucket removes it.
    #[serde(default)]
    pub keep_objects: bool,

    /// Where S3 answers, if not at AWS's own address of the queue's region: a VPC endpoint or an
    /// S3-compatible server. Left out: at that address. Example:
    /// "https://bucket.vpce-0123.s3.us-east-1.vpce.amazonaws.com".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(BASE_URL, BASE_URL_MESSAGE)), length(max = 512))]
    pub endpoint: Option<String>,
}

/// An IAM role to assume.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AssumeRole {
    /// The role's ARN. Example: "arn:aws:iam::123456789012:role/event-forwarder".
    #[schemars(
        extend("x-kubernetes-validations" = pattern_rule(r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$", "this is no role's ARN: copy it from the role's page in the IAM console, for example arn:aws:iam::123456789012:role/event-forwarder")),
        length(max = 2048)
    )]
    pub arn: String,

    /// The external id that the role's trust policy asks for. Left out: none. Example:
    /// "event-forwarder-marketing".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 1224))]
    pub external_id: Option<String>,
}

/// A Secret in the forwarder's own namespace.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// The Secret's name. Example: "aws-credentials".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(OBJECT_NAME, OBJECT_NAME_MESSAGE)), length(min = 1, max = 253))]
    pub name: String,
}

fn default_poll_interval() -> Duration {
    Duration::from_secs(60)
}
