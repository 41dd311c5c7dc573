//! A queue's settings and depth, read from its attributes.

use std::{collections::HashMap, time::Duration};

use aws_sdk_sqs::types::QueueAttributeName;
use serde::Deserialize;

use super::connect::parse;

/// A queue's attributes.
pub(super) type Attributes = HashMap<QueueAttributeName, String>;

/// A queue's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// How long a received message stays invisible, unless the receive overrides it.
    pub visibility_timeout: Duration,
    /// Maximum size of a message, in bytes.
    pub max_message_bytes: usize,
    /// Where SQS moves messages that were received too often.
    pub redrive: Option<RedrivePolicy>,
}

/// A queue's redrive policy.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RedrivePolicy {
    /// The ARN of the dead-letter queue.
    pub dead_letter_target_arn: String,
    /// The number of receives after which a message is moved. Some servers write it as a string.
    #[serde(deserialize_with = "deserialize_count")]
    pub max_receive_count: u32,
}

/// The depth of a queue: approximate, and consistent one minute after senders stop at the
/// earliest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Messages that a receive could return now.
    pub visible: i64,
    /// Messages received and neither deleted nor visible again.
    pub in_flight: i64,
    /// Messages whose delay has not passed.
    pub delayed: i64,
    /// Messages in the dead-letter queue. `None` if there is no such queue or it can't be read.
    pub dead_letters: Option<i64>,
}

impl QueueSettings {
    /// The attributes to request.
    pub(super) const ATTRIBUTES: [QueueAttributeName; 3] = [
        QueueAttributeName::VisibilityTimeout,
        QueueAttributeName::MaximumMessageSize,
        QueueAttributeName::RedrivePolicy,
    ];

    /// Reads the settings from a queue's attributes. Missing ones get SQS's defaults.
    pub(super) fn read(attributes: &Attributes) -> Self {
        let number = |name| attributes.get(&name).and_then(|text| text.parse().ok());
        Self {
            visibility_timeout: Duration::from_secs(
                number(QueueAttributeName::VisibilityTimeout)
                    .and_then(|seconds: i64| u64::try_from(seconds).ok())
                    .unwrap_or(30),
            ),
            max_message_bytes: number(QueueAttributeName::MaximumMessageSize)
                .and_then(|bytes: i64| usize::try_from(bytes).ok())
                .unwrap_or(super::MAX_MESSAGE_BYTES),
            redrive: attributes
                .get(&QueueAttributeName::RedrivePolicy)
                .and_then(|text| serde_json::from_str(text).ok()),
        }
    }
}

impl Depth {
    /// The attributes to request. Some servers count all messages to compute them.
    pub(super) const ATTRIBUTES: [QueueAttributeName; 3] = [
        QueueAttributeName::ApproximateNumberOfMessages,
        QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        QueueAttributeName::ApproximateNumberOfMessagesDelayed,
    ];

    /// Reads the depth from a queue's attributes, which do not cover its dead-letter queue.
    pub(super) fn read(attributes: &Attributes) -> Self {
        let number = |name| {
            let text = attributes.get(&name);
            text.and_then(|text| text.parse().ok()).unwrap_or_default()
        };
        let [visible, in_flight, delayed] = Self::ATTRIBUTES.map(number);
        Self {
            visible,
            in_flight,
            delayed,
            dead_letters: None,
        }
    }

    /// Returns the number of all messages, including invisible ones.
    pub const fn messages(&self) -> i64 {
        self.visible + self.in_flight + self.delayed
    }
}

/// Returns the URL of the queue with this ARN, at the same endpoint as the queue at `sibling`,
/// because SQS requires a dead-letter queue in its source's region and account.
pub(super) fn url_of_arn(sibling: &str, arn: &str) -> Option<String> {
    let mut parts = arn.split(':').skip(4);
    let (account, name) = (parts.next()?, parts.next()?);
    let mut url = parse(sibling).ok()?;
    url.set_path(&format!("/{account}/{name}"));
    Some(url.into())
}

fn deserialize_count<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    number
        .and_then(|number| number.try_into().ok())
        .ok_or_else(|| serde::de::Error::custom("maxReceiveCount is not a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_letter_queue_url_uses_source_endpoint() {
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
    fn max_receive_count_is_number_or_string() {
        for policy in [
            r#"{"deadLetterTargetArn":"arn:aws:sqs:r:1:d","maxReceiveCount":3}"#,
            r#"{"deadLetterTargetArn":"arn:aws:sqs:r:1:d","maxReceiveCount":"3"}"#,
        ] {
            let attributes = HashMap::from([
                (QueueAttributeName::RedrivePolicy, policy.to_owned()),
                (QueueAttributeName::VisibilityTimeout, "45".to_owned()),
            ]);
            let settings = QueueSettings::read(&attributes);
            assert_eq!(settings.redrive.unwrap().max_receive_count, 3);
            assert_eq!(settings.visibility_timeout, Duration::from_secs(45));
        }
    }
}
