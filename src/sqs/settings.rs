//! What a queue says of itself: its attributes, and how deep it is.

use std::{collections::HashMap, time::Duration};

use aws_sdk_sqs::types::QueueAttributeName;
use serde::Deserialize;

use super::connect::parse;

/// What a queue says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// How long a received message stays invisible, unless a receive says otherwise.
    pub visibility_timeout: Duration,
    /// The largest message that it takes, in bytes.
    pub max_message_bytes: usize,
    /// Whether it is a FIFO queue.
    pub fifo: bool,
    /// What happens to a message that was received too often.
    pub redrive: Option<Redrive>,
    /// Its depth; `dead_letters` is not filled in.
    pub depth: Depth,
}

/// A queue's redrive policy.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Redrive {
    /// The ARN of the dead-letter queue.
    pub dead_letter_target_arn: String,
    /// After how many receives a message is moved there. Some servers write it as text.
    #[serde(deserialize_with = "count")]
    pub max_receive_count: u32,
}

/// The depth of a queue: approximate, and right at the earliest a minute after senders stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Messages that a receive could return now.
    pub visible: i64,
    /// Messages received and neither deleted nor visible again.
    pub in_flight: i64,
    /// Messages whose delay has not passed.
    pub delayed: i64,
    /// Messages in the dead-letter queue; none if there is no such queue or it can't be
    /// read.
    pub dead_letters: Option<i64>,
}

impl QueueSettings {
    /// Reads the attributes of the queue at `url`; what a server leaves out is SQS's default.
    pub(super) fn read(url: &str, attributes: &HashMap<QueueAttributeName, String>) -> Self {
        let number =
            |name: QueueAttributeName| attributes.get(&name).and_then(|text| text.parse().ok());
        let depth = |name| number(name).unwrap_or_default();
        Self {
            visibility_timeout: Duration::from_secs(
                number(QueueAttributeName::VisibilityTimeout)
                    .and_then(|seconds: i64| u64::try_from(seconds).ok())
                    .unwrap_or(30),
            ),
            max_message_bytes: number(QueueAttributeName::MaximumMessageSize)
                .and_then(|bytes: i64| usize::try_from(bytes).ok())
                .unwrap_or(super::MAX_MESSAGE_BYTES),
            fifo: url.ends_with(".fifo")
                || attributes
                    .get(&QueueAttributeName::FifoQueue)
                    .is_some_and(|text| text == "true"),
            redrive: attributes
                .get(&QueueAttributeName::RedrivePolicy)
                .and_then(|text| serde_json::from_str(text).ok()),
            depth: Depth {
                visible: depth(QueueAttributeName::ApproximateNumberOfMessages),
                in_flight: depth(QueueAttributeName::ApproximateNumberOfMessagesNotVisible),
                delayed: depth(QueueAttributeName::ApproximateNumberOfMessagesDelayed),
                dead_letters: None,
            },
        }
    }
}

/// The URL of the queue with this ARN, which lives where the queue at `beside` lives: SQS wants
/// a dead-letter queue in the region and account of its source.
pub(super) fn url_of_arn(beside: &str, arn: &str) -> Option<String> {
    let mut parts = arn.split(':').skip(4);
    let (account, name) = (parts.next()?, parts.next()?);
    let mut url = parse(beside).ok()?;
    url.set_path(&format!("/{account}/{name}"));
    Some(url.into())
}

fn count<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    number
        .and_then(|number| number.try_into().ok())
        .ok_or_else(|| serde::de::Error::custom("maxReceiveCount is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dead_letter_queue_lives_beside_its_source() {
        assert_eq!(
            url_of_arn(
                "https://sqs.eu-west-1.amazonaws.com/123456789012/events",
                "arn:aws:sqs:eu-west-1:123456789012:events-dead"
            ),
            Some("https://sqs.eu-west-1.amazonaws.com/123456789012/events-dead".to_owned())
        );
        assert_eq!(
            url_of_arn("https://sqs.eu-west-1.amazonaws.com/1/q", "no-arn"),
            None
        );
    }

    #[test]
    fn a_redrive_policy_is_read_with_its_count_as_number_or_text() {
        for policy in [
            r#"{"deadLetterTargetArn":"arn:aws:sqs:r:1:d","maxReceiveCount":3}"#,
            r#"{"deadLetterTargetArn":"arn:aws:sqs:r:1:d","maxReceiveCount":"3"}"#,
        ] {
            let attributes = HashMap::from([
                (QueueAttributeName::RedrivePolicy, policy.to_owned()),
                (QueueAttributeName::VisibilityTimeout, "45".to_owned()),
            ]);
            let settings = QueueSettings::read("https://h/1/q.fifo", &attributes);
            assert_eq!(settings.redrive.unwrap().max_receive_count, 3);
            assert_eq!(settings.visibility_timeout, Duration::from_secs(45));
            assert!(settings.fifo);
        }
    }
}
