use std::{collections::HashMap, time::Duration};

use aws_sdk_sqs::{
    Client,
    operation::get_queue_attributes::GetQueueAttributesOutput,
    types::{QueueAttributeName, SendMessageBatchRequestEntry},
};

use super::Error;

/// Maximum entries in one `SendMessageBatch`.
const MAX_BATCH_ENTRIES: usize = 10;

/// Maximum bytes of one message, and of all messages in one `SendMessageBatch`: 1 MiB.
const MAX_BATCH_BYTES: usize = 1_048_576;

/// The attributes of a new queue. The defaults are SQS' defaults, except `max_receive_count`.
#[derive(Clone, Debug)]
pub struct Attributes {
    /// Visibility timeout, in full seconds. Default 30 s.
    pub visibility_timeout: Duration,
    /// Receive count above which a message moves to the dead-letter queue. Default 3.
    pub max_receive_count: u32,
    /// Retention period of the queue, in full seconds. Default 4 days. The dead-letter queue's is
    /// 14 days.
    pub message_retention_period: Duration,
    /// Whether the queue is a FIFO queue, with the suffix `.fifo` and content-based deduplication.
    /// Default `false`.
    pub fifo: bool,
}

impl Default for Attributes {
    fn default() -> Self {
        Self {
            visibility_timeout: Duration::from_secs(30),
            max_receive_count: 3,
            message_retention_period: Duration::from_secs(4 * 24 * 3600),
            fifo: false,
        }
    }
}

/// The message counts of a queue, from `GetQueueAttributes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// `ApproximateNumberOfMessages`: the backlog.
    pub visible: u64,
    /// `ApproximateNumberOfMessagesNotVisible`: received, and neither deleted nor visible again.
    pub in_flight: u64,
    /// `ApproximateNumberOfMessagesDelayed`: sent with a delay that has not passed.
    pub delayed: u64,
}

/// A queue with its dead-letter queue.
#[derive(Clone, Debug)]
pub struct Queue {
    /// The queue's URL, as returned by the server.
    pub url: String,
    /// The dead-letter queue's URL.
    pub dlq_url: String,
    fifo: bool,
    client: Client,
}

impl Queue {
    /// Creates the queue `name` and its dead-letter queue `name-dlq`, with the suffix `.fifo` for
    /// FIFO queues. Reuses an existing queue with the same attributes.
    pub async fn create_with_dlq(
        client: Client,
        name: &str,
        attributes: Attributes,
    ) -> Result<Self, Error> {
        let suffix = if attributes.fifo { ".fifo" } else { "" };
        let fifo = attributes.fifo.then(|| {
            [
                (QueueAttributeName::FifoQueue, "true".to_owned()),
                (
                    QueueAttributeName::ContentBasedDeduplication,
                    "true".to_owned(),
                ),
            ]
        });
        let fifo: HashMap<_, _> = fifo.into_iter().flatten().collect();
        let create = |name: String, attributes: HashMap<_, _>| {
            let request = client
                .create_queue()
                .queue_name(name)
                .set_attributes(Some(attributes));
            async { request.send().await.map_err(Error::sqs("CreateQueue")) }
        };

        let mut dlq = fifo.clone();
        dlq.insert(
            QueueAttributeName::MessageRetentionPeriod,
            (14 * 24 * 3600).to_string(),
        );
        let dlq_url = create(format!("{name}-dlq{suffix}"), dlq)
            .await?
            .queue_url
            .unwrap_or_default();
        let dlq_arn = attribute(
            &queue_attributes(&client, &dlq_url).await?,
            &QueueAttributeName::QueueArn,
        );

        let mut main = fifo;
        main.extend([
            (
                QueueAttributeName::VisibilityTimeout,
                attributes.visibility_timeout.as_secs().to_string(),
            ),
            (
                QueueAttributeName::MessageRetentionPeriod,
                attributes.message_retention_period.as_secs().to_string(),
            ),
            (
                QueueAttributeName::RedrivePolicy,
                serde_json::json!({
                    "deadLetterTargetArn": dlq_arn,
                    "maxReceiveCount": attributes.max_receive_count,
                })
                .to_string(),
            ),
        ]);
        let url = create(format!("{name}{suffix}"), main)
            .await?
            .queue_url
            .unwrap_or_default();
        Ok(Self {
            url,
            dlq_url,
            fifo: attributes.fifo,
            client,
        })
    }

    /// Sends the bodies in as few `SendMessageBatch` requests as its limits allow.
    ///
    /// On a FIFO queue, all are in one message group, and equal bodies within five minutes are one
    /// message.
    pub async fn send<B: AsRef<str>>(&self, bodies: &[B]) -> Result<(), Error> {
        let mut rest = bodies;
        while !rest.is_empty() {
            let (batch, after) = rest.split_at(batch_len(rest));
            self.send_batch(batch).await?;
            rest = after;
        }
        Ok(())
    }

    /// Returns the depth of the queue.
    pub async fn depth(&self) -> Result<Depth, Error> {
        depth(&self.client, &self.url).await
    }

    /// Returns the depth of the dead-letter queue.
    pub async fn dlq_depth(&self) -> Result<Depth, Error> {
        depth(&self.client, &self.dlq_url).await
    }

    async fn send_batch<B: AsRef<str>>(&self, bodies: &[B]) -> Result<(), Error> {
        let entries = bodies
            .iter()
            .enumerate()
            .map(|(index, body)| {
                SendMessageBatchRequestEntry::builder()
                    .id(index.to_string())
                    .message_body(body.as_ref())
                    .set_message_group_id(self.fifo.then(|| "test".to_owned()))
                    .build()
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(Error::sqs("SendMessageBatch"))?;
        let answer = self
            .client
            .send_message_batch()
            .queue_url(&self.url)
            .set_entries(Some(entries))
            .send()
            .await
            .map_err(Error::sqs("SendMessageBatch"))?;
        match answer.failed() {
            [] => Ok(()),
            failed @ [first, ..] => Err(Error::Rejected {
                sent: bodies.len(),
                rejected: failed.len(),
                reason: first.message().unwrap_or(first.code()).to_owned(),
            }),
        }
    }
}

/// Returns how many of the bodies fit into one batch.
///
/// Returns at least 1, so that SQS rejects a body that is too large.
fn batch_len<B: AsRef<str>>(bodies: &[B]) -> usize {
    let mut bytes = 0;
    bodies
        .iter()
        .take(MAX_BATCH_ENTRIES)
        .take_while(|body| {
            bytes += body.as_ref().len();
            bytes <= MAX_BATCH_BYTES
        })
        .count()
        .max(1)
}

async fn depth(client: &Client, url: &str) -> Result<Depth, Error> {
    let attributes = queue_attributes(client, url).await?;
    let count = |name| attribute(&attributes, &name).parse().unwrap_or_default();
    Ok(Depth {
        visible: count(QueueAttributeName::ApproximateNumberOfMessages),
        in_flight: count(QueueAttributeName::ApproximateNumberOfMessagesNotVisible),
        delayed: count(QueueAttributeName::ApproximateNumberOfMessagesDelayed),
    })
}

async fn queue_attributes(client: &Client, url: &str) -> Result<GetQueueAttributesOutput, Error> {
    client
        .get_queue_attributes()
        .queue_url(url)
        .attribute_names(QueueAttributeName::All)
        .send()
        .await
        .map_err(Error::sqs("GetQueueAttributes"))
}

fn attribute(attributes: &GetQueueAttributesOutput, name: &QueueAttributeName) -> String {
    attributes
        .attributes()
        .and_then(|attributes| attributes.get(name))
        .cloned()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_limits_are_ten_entries_and_one_mebibyte() {
        let small = vec!["x".to_owned(); 25];
        let half = vec!["x".repeat(MAX_BATCH_BYTES / 2); 3];
        let large = vec!["x".repeat(MAX_BATCH_BYTES + 1); 2];
        assert_eq!(batch_len(&small), 10);
        assert_eq!(batch_len(&half), 2);
        assert_eq!(batch_len(&large), 1);
    }
}
