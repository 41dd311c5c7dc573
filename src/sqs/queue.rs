use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aws_config::SdkConfig;
use aws_sdk_sqs::{
    Client,
    config::{Builder as ConfigBuilder, timeout::TimeoutConfig},
    error::BuildError,
    types::{
        BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry,
        DeleteMessageBatchRequestEntry, MessageSystemAttributeName, QueueAttributeName,
    },
};
use serde::Deserialize;

use super::{
    Credentials, EntryError, Error, Message, Outgoing,
    connect::{CALL_LIMIT, Connector, parse},
};
use crate::api::QueueSpec;

/// One queue. Clones share connections, identity and the count of requests.
#[derive(Clone, Debug)]
pub struct QueueClient {
    client: Client,
    url: Arc<str>,
    dead_letter_url: Option<String>,
    requests: Arc<AtomicU64>,
}

/// A queue and how it is reached, with the identity's keys once they are known. To be kept where
/// there are many queues: a client is quickly made of it, and takes many times the memory.
#[derive(Clone, Debug)]
pub struct QueueAccess {
    config: SdkConfig,
    url: Arc<str>,
    dead_letter_url: Option<String>,
}

impl QueueAccess {
    /// The way to `spec`'s queue, over connections that `connector` shares. Makes no request.
    pub async fn new(
        connector: &Connector,
        spec: &QueueSpec,
        credentials: Credentials,
    ) -> Result<Self, Error> {
        Ok(Self {
            config: connector.config(spec, credentials).await?,
            url: spec.url.as_str().into(),
            dead_letter_url: spec.dead_letter_url.clone(),
        })
    }

    /// A client for the queue.
    pub fn client(&self) -> QueueClient {
        QueueClient {
            client: Client::from_conf(ConfigBuilder::from(&self.config).build()),
            url: Arc::clone(&self.url),
            dead_letter_url: self.dead_letter_url.clone(),
            requests: Arc::default(),
        }
    }
}

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

impl QueueClient {
    /// A client for `spec`'s queue. Makes no request yet.
    pub async fn connect(spec: &QueueSpec, credentials: Credentials) -> Result<Self, Error> {
        let access = QueueAccess::new(&Connector::new()?, spec, credentials).await?;
        Ok(access.client())
    }

    /// The queue's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The number of requests made by this client and its clones, each of which is billed.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Reads the queue's attributes. Needs `sqs:GetQueueAttributes`.
    pub async fn settings(&self) -> Result<QueueSettings, Error> {
        self.count();
        let answer = self
            .client
            .get_queue_attributes()
            .queue_url(&*self.url)
            .attribute_names(QueueAttributeName::All)
            .send()
            .await
            .map_err(|error| Error::from_sdk("GetQueueAttributes", &self.url, error))?;
        Ok(QueueSettings::read(
            &self.url,
            &answer.attributes.unwrap_or_default(),
        ))
    }

    /// The depth of the queue and of its dead-letter queue: two requests. A dead-letter queue that
    /// can't be read for now makes the reading fail; one that must not be read is left out.
    pub async fn depth(&self) -> Result<Depth, Error> {
        let settings = self.settings().await?;
        let dead_letters = match self.dead_letter_queue_of(&settings) {
            // A letter that somebody just looks at is hidden, and still there.
            Some(queue) => match queue.settings().await {
                Ok(QueueSettings { depth, .. }) => {
                    Some(depth.visible + depth.in_flight + depth.delayed)
                }
                Err(error) if error.is_transient() => return Err(error),
                Err(_) => None,
            },
            None => None,
        };
        Ok(Depth {
            dead_letters,
            ..settings.depth
        })
    }

    /// The queue's dead-letter queue: the one that the forwarder names, else that of the redrive
    /// policy. None if there is neither.
    pub async fn dead_letter_queue(&self) -> Result<Option<Self>, Error> {
        if self.dead_letter_url.is_some() {
            return Ok(self.dead_letter_queue_of_url(self.dead_letter_url.clone()));
        }
        Ok(self.dead_letter_queue_of(&self.settings().await?))
    }

    /// As [`Self::dead_letter_queue`], from settings that are known already.
    pub fn dead_letter_queue_of(&self, settings: &QueueSettings) -> Option<Self> {
        let from_policy = || {
            url_of_arn(
                &self.url,
                &settings.redrive.as_ref()?.dead_letter_target_arn,
            )
        };
        self.dead_letter_queue_of_url(self.dead_letter_url.clone().or_else(from_policy))
    }

    fn dead_letter_queue_of_url(&self, url: Option<String>) -> Option<Self> {
        Some(Self {
            url: url?.into(),
            dead_letter_url: None,
            ..self.clone()
        })
    }

    /// Receives up to `max` messages (ten at most), waiting up to `wait` for the first. With a
    /// wait of a second or more every host of SQS is asked, so that nothing means empty.
    /// `visibility` replaces the queue's own timeout for these messages.
    pub async fn receive(
        &self,
        max: usize,
        wait: Duration,
        visibility: Option<Duration>,
    ) -> Result<Vec<Message>, Error> {
        self.count();
        let limit = TimeoutConfig::builder()
            .operation_attempt_timeout(wait + CALL_LIMIT)
            .build();
        let answer = self
            .client
            .receive_message()
            .queue_url(&*self.url)
            .max_number_of_messages(i32::try_from(max.clamp(1, super::MAX_ENTRIES)).unwrap_or(1))
            .wait_time_seconds(seconds(wait))
            .set_visibility_timeout(visibility.map(seconds))
            .message_system_attribute_names(MessageSystemAttributeName::All)
            .message_attribute_names("All")
            .customize()
            .config_override(ConfigBuilder::default().timeout_config(limit))
            .send()
            .await
            .map_err(|error| Error::from_sdk("ReceiveMessage", &self.url, error))?;
        Ok(answer
            .messages
            .unwrap_or_default()
            .into_iter()
            .filter_map(Message::from_sdk)
            .collect())
    }

    /// Deletes messages by their receipts, ten at most. The answer has one result per receipt,
    /// in their order: SQS accepts a request of which single entries fail.
    pub async fn delete(&self, receipts: &[String]) -> Result<Vec<Result<(), EntryError>>, Error> {
        let entries = self.entries("DeleteMessage", receipts, |index, receipt| {
            DeleteMessageBatchRequestEntry::builder()
                .id(index)
                .receipt_handle(receipt)
                .build()
        })?;
        let answer = self
            .client
            .delete_message_batch()
            .queue_url(&*self.url)
            .set_entries(Some(entries))
            .send()
            .await
            .map_err(|error| Error::from_sdk("DeleteMessage", &self.url, error))?;
        let done = answer.successful.iter().map(|entry| entry.id.as_str());
        Ok(by_position(receipts.len(), done, answer.failed))
    }

    /// Makes messages invisible for `timeout` from now, ten at most; zero gives them back at
    /// once. The answer has one result per receipt, in their order.
    pub async fn extend(
        &self,
        receipts: &[String],
        timeout: Duration,
    ) -> Result<Vec<Result<(), EntryError>>, Error> {
        let entries = self.entries("ChangeMessageVisibility", receipts, |index, receipt| {
            ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(index)
                .receipt_handle(receipt)
                .visibility_timeout(seconds(timeout))
                .build()
        })?;
        let answer = self
            .client
            .change_message_visibility_batch()
            .queue_url(&*self.url)
            .set_entries(Some(entries))
            .send()
            .await
            .map_err(|error| Error::from_sdk("ChangeMessageVisibility", &self.url, error))?;
        let done = answer.successful.iter().map(|entry| entry.id.as_str());
        Ok(by_position(receipts.len(), done, answer.failed))
    }

    /// Sends messages, ten at most and together no larger than one message may be. The answer
    /// has one result per message, in their order.
    pub async fn send(
        &self,
        messages: Vec<Outgoing>,
    ) -> Result<Vec<Result<(), EntryError>>, Error> {
        self.count();
        let count = messages.len();
        let entries = messages
            .into_iter()
            .enumerate()
            .map(|(index, message)| message.into_entry(index))
            .collect::<Result<Vec<_>, BuildError>>()
            .map_err(|error| self.refused("SendMessage", &error))?;
        let answer = self
            .client
            .send_message_batch()
            .queue_url(&*self.url)
            .set_entries(Some(entries))
            .send()
            .await
            .map_err(|error| Error::from_sdk("SendMessage", &self.url, error))?;
        let done = answer.successful.iter().map(|entry| entry.id.as_str());
        Ok(by_position(count, done, answer.failed))
    }

    fn entries<T>(
        &self,
        action: &'static str,
        receipts: &[String],
        build: impl Fn(String, &str) -> Result<T, BuildError>,
    ) -> Result<Vec<T>, Error> {
        self.count();
        receipts
            .iter()
            .enumerate()
            .map(|(index, receipt)| build(index.to_string(), receipt))
            .collect::<Result<_, _>>()
            .map_err(|error| self.refused(action, &error))
    }

    fn refused(&self, action: &'static str, error: &BuildError) -> Error {
        Error::Refused {
            action,
            queue: self.url.to_string(),
            code: "NotSent".to_owned(),
            detail: error.to_string(),
        }
    }

    fn count(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }
}

impl QueueSettings {
    /// Reads the attributes of the queue at `url`; what a server leaves out is SQS's default.
    fn read(url: &str, attributes: &HashMap<QueueAttributeName, String>) -> Self {
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

/// One result per entry: an entry of which the answer says nothing has failed.
fn by_position<'a>(
    count: usize,
    done: impl Iterator<Item = &'a str>,
    failed: Vec<BatchResultErrorEntry>,
) -> Vec<Result<(), EntryError>> {
    let mut results = vec![
        Err(EntryError {
            code: "NoWord".to_owned(),
            sender_fault: false,
            detail: "the answer does not name this entry".to_owned(),
        });
        count
    ];
    for id in done {
        if let Some(result) = id
            .parse()
            .ok()
            .and_then(|index: usize| results.get_mut(index))
        {
            *result = Ok(());
        }
    }
    for entry in failed {
        if let Some(result) = entry
            .id
            .parse()
            .ok()
            .and_then(|index: usize| results.get_mut(index))
        {
            *result = Err(EntryError {
                code: entry.code,
                sender_fault: entry.sender_fault,
                detail: entry.message.unwrap_or_default(),
            });
        }
    }
    results
}

/// The URL of the queue with this ARN, which lives where the queue at `beside` lives: SQS wants
/// a dead-letter queue in the region and account of its source.
fn url_of_arn(beside: &str, arn: &str) -> Option<String> {
    let mut parts = arn.split(':').skip(4);
    let (account, name) = (parts.next()?, parts.next()?);
    let mut url = parse(beside).ok()?;
    url.set_path(&format!("/{account}/{name}"));
    Some(url.into())
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
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

    fn failed(id: &str, sender_fault: bool) -> BatchResultErrorEntry {
        BatchResultErrorEntry::builder()
            .id(id)
            .code("InternalError")
            .sender_fault(sender_fault)
            .build()
            .unwrap()
    }

    #[test]
    fn results_stand_at_the_position_of_their_entry() {
        let results = by_position(4, ["0", "3"].into_iter(), vec![failed("1", false)]);
        assert!(results[0].is_ok() && results[3].is_ok());
        assert_eq!(results[1].as_ref().unwrap_err().code, "InternalError");
        assert_eq!(results[2].as_ref().unwrap_err().code, "NoWord");
    }

    #[test]
    fn an_answer_with_foreign_ids_settles_nothing() {
        let results = by_position(1, ["7", "x"].into_iter(), vec![failed("12", true)]);
        assert!(results[0].is_err());
    }

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
