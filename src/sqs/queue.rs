use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    BatchEntryError, Credentials, Depth, Error, Message, OutgoingMessage, QueueSettings,
    connect::{CALL_LIMIT, Connector, endpoint},
    room::{Room, WithRoom},
    settings::{Attributes, url_of_arn},
};
use crate::api::QueueSpec;
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

/// A client for one queue. Clones share connections, credentials, and the request counter.
#[derive(Clone, Debug)]
pub struct QueueClient {
    client: Client,
    url: Arc<str>,
    host: Arc<str>,
    dead_letter_url: Option<String>,
    requests: Arc<AtomicU64>,
}

/// The configuration of a [`QueueClient`], including cached credentials. Keep this instead of
/// clients for many queues: it needs a fraction of a client's memory, and creating one is cheap.
#[derive(Clone, Debug)]
pub struct QueueAccess {
    config: SdkConfig,
    url: Arc<str>,
    host: Arc<str>,
    dead_letter_url: Option<String>,
}

impl QueueAccess {
    /// Creates the configuration for `spec`'s queue with `connector`'s shared connections, without
    /// sending a request.
    pub async fn new(
        connector: &Connector,
        spec: &QueueSpec,
        credentials: Credentials,
    ) -> Result<Self, Error> {
        Ok(Self {
            config: connector.config(spec, credentials).await?,
            url: spec.url.as_str().into(),
            host: endpoint(spec)?.authority().into(),
            dead_letter_url: spec.dead_letter_url.clone(),
        })
    }

    /// Creates a client for the queue.
    pub fn client(&self) -> QueueClient {
        QueueClient {
            client: Client::from_conf(ConfigBuilder::from(&self.config).build()),
            url: Arc::clone(&self.url),
            host: Arc::clone(&self.host),
            dead_letter_url: self.dead_letter_url.clone(),
            requests: Arc::default(),
        }
    }
}

impl QueueClient {
    /// Creates a client for `spec`'s queue, without sending a request.
    pub async fn connect(spec: &QueueSpec, credentials: Credentials) -> Result<Self, Error> {
        let access = QueueAccess::new(&Connector::new()?, spec, credentials).await?;
        Ok(access.client())
    }

    /// Returns the queue's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the number of billed requests by this client and its clones.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Returns whether this is a FIFO queue, by the suffix of its name.
    pub fn is_fifo(&self) -> bool {
        self.url.ends_with(".fifo")
    }

    /// Reads the queue's settings. Needs `sqs:GetQueueAttributes`.
    pub async fn settings(&self) -> Result<QueueSettings, Error> {
        let attributes = self.attributes(QueueSettings::ATTRIBUTES.to_vec()).await?;
        Ok(QueueSettings::read(&attributes))
    }

    /// Reads the depth of only this queue, with one request.
    pub async fn depth_without_dlq(&self) -> Result<Depth, Error> {
        let attributes = self.attributes(Depth::ATTRIBUTES.to_vec()).await?;
        Ok(Depth::read(&attributes))
    }

    /// Reads the depth of the queue and of its dead-letter queue, with two requests. A transient
    /// error on the dead-letter queue fails the call; other errors there omit its depth.
    pub async fn depth(&self) -> Result<Depth, Error> {
        let names = [QueueSettings::ATTRIBUTES, Depth::ATTRIBUTES].concat();
        let attributes = self.attributes(names).await?;
        let dead_letters = match self.dead_letter_queue_of(&QueueSettings::read(&attributes)) {
            // Counts invisible messages too, because another command may be reading them.
            Some(queue) => match queue.depth_without_dlq().await {
                Ok(depth) => Some(depth.messages()),
                Err(error) if error.is_transient() => return Err(error),
                Err(_) => None,
            },
            None => None,
        };
        Ok(Depth {
            dead_letters,
            ..Depth::read(&attributes)
        })
    }

    async fn attributes(&self, names: Vec<QueueAttributeName>) -> Result<Attributes, Error> {
        self.count();
        let response = self
            .client
            .get_queue_attributes()
            .queue_url(&*self.url)
            .set_attribute_names(Some(names))
            .send()
            .await
            .map_err(|error| Error::from_sdk("GetQueueAttributes", &self.url, &self.host, error))?;
        Ok(response.attributes.unwrap_or_default())
    }

    /// Returns the dead-letter queue: the one in the spec, or else the one in the redrive policy.
    /// Returns `None` if there is neither.
    pub async fn dead_letter_queue(&self) -> Result<Option<Self>, Error> {
        if self.dead_letter_url.is_some() {
            return Ok(self.dead_letter_queue_of_url(self.dead_letter_url.clone()));
        }
        Ok(self.dead_letter_queue_of(&self.settings().await?))
    }

    /// Returns the same as [`Self::dead_letter_queue`], from settings that were read before.
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

    /// Receives up to `max` messages (ten at most), waiting up to `wait` for the first.
    ///
    /// With a wait of one second or more, SQS queries all its hosts, so an empty response means an
    /// empty queue. `visibility` overrides the queue's visibility timeout. If `room` is set, a
    /// response that does not fit, or whose size is unknown, is not read until memory is free.
    pub async fn receive(
        &self,
        max: usize,
        wait: Duration,
        visibility: Option<Duration>,
        room: Option<Room>,
    ) -> Result<Vec<Message>, Error> {
        self.count();
        let limit = wait + CALL_LIMIT;
        let config = ConfigBuilder::default();
        let config = match (room, self.client.config().http_client()) {
            (Some(room), Some(inner)) => config
                .timeout_config(
                    TimeoutConfig::builder()
                        .disable_operation_attempt_timeout()
                        .build(),
                )
                .http_client(WithRoom {
                    inner,
                    room,
                    head_limit: limit,
                    body_limit: CALL_LIMIT,
                }),
            _ => config.timeout_config(
                TimeoutConfig::builder()
                    .operation_attempt_timeout(limit)
                    .build(),
            ),
        };
        let response = self
            .client
            .receive_message()
            .queue_url(&*self.url)
            .max_number_of_messages(i32::try_from(max.clamp(1, super::MAX_ENTRIES)).unwrap_or(1))
            .wait_time_seconds(seconds(wait))
            .set_visibility_timeout(visibility.map(seconds))
            .message_system_attribute_names(MessageSystemAttributeName::All)
            .message_attribute_names("All")
            .customize()
            .config_override(config)
            .send()
            .await
            .map_err(|error| Error::from_sdk("ReceiveMessage", &self.url, &self.host, error))?;
        Ok(response
            .messages
            .unwrap_or_default()
            .into_iter()
            .filter_map(Message::from_sdk)
            .collect())
    }

    /// Deletes at most ten messages by their receipt handles. Returns one result per handle, in
    /// order, because SQS can fail single entries of a request.
    pub async fn delete(
        &self,
        handles: &[String],
    ) -> Result<Vec<Result<(), BatchEntryError>>, Error> {
        let entries = self.entries("DeleteMessage", handles, |index, handle| {
            DeleteMessageBatchRequestEntry::builder()
                .id(index)
                .receipt_handle(handle)
                .build()
        })?;
        let response = self
            .client
            .delete_message_batch()
            .queue_url(&*self.url)
            .set_entries(Some(entries))
            .send()
            .await
            .map_err(|error| Error::from_sdk("DeleteMessage", &self.url, &self.host, error))?;
        let successful = response.successful.iter().map(|entry| entry.id.as_str());
        Ok(by_position(handles.len(), successful, response.failed))
    }

    /// Makes at most ten messages invisible for `timeout` from now; zero makes them visible
    /// immediately. Returns one result per receipt handle, in order.
    pub async fn change_visibility(
        &self,
        handles: &[String],
        timeout: Duration,
    ) -> Result<Vec<Result<(), BatchEntryError>>, Error> {
        let entries = self.entries("ChangeMessageVisibility", handles, |index, handle| {
            ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(index)
                .receipt_handle(handle)
                .visibility_timeout(seconds(timeout))
                .build()
        })?;
        let response = self
            .client
            .change_message_visibility_batch()
            .queue_url(&*self.url)
            .set_entries(Some(entries))
            .send()
            .await
            .map_err(|error| {
                Error::from_sdk("ChangeMessageVisibility", &self.url, &self.host, error)
            })?;
        let successful = response.successful.iter().map(|entry| entry.id.as_str());
        Ok(by_position(handles.len(), successful, response.failed))
    }

    /// Sends at most ten messages, whose total size is limited to that of one message. Returns one
    /// result per message, in order.
    pub async fn send(
        &self,
        messages: Vec<OutgoingMessage>,
    ) -> Result<Vec<Result<(), BatchEntryError>>, Error> {
        self.count();
        let count = messages.len();
        let entries = messages
            .into_iter()
            .enumerate()
            .map(|(index, message)| message.into_entry(index))
            .collect::<Result<Vec<_>, BuildError>>()
            .map_err(|error| self.build_error("SendMessage", &error))?;
        let response = self
            .client
            .send_message_batch()
            .queue_url(&*self.url)
            .set_entries(Some(entries))
            .send()
            .await
            .map_err(|error| Error::from_sdk("SendMessage", &self.url, &self.host, error))?;
        let successful = response.successful.iter().map(|entry| entry.id.as_str());
        Ok(by_position(count, successful, response.failed))
    }

    fn entries<T>(
        &self,
        action: &'static str,
        handles: &[String],
        build: impl Fn(String, &str) -> Result<T, BuildError>,
    ) -> Result<Vec<T>, Error> {
        self.count();
        handles
            .iter()
            .enumerate()
            .map(|(index, handle)| build(index.to_string(), handle))
            .collect::<Result<_, _>>()
            .map_err(|error| self.build_error(action, &error))
    }

    fn build_error(&self, action: &'static str, error: &BuildError) -> Error {
        Error::Rejected {
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

/// Returns one result per entry. An entry without a result in the response has failed.
fn by_position<'a>(
    count: usize,
    successful: impl Iterator<Item = &'a str>,
    failed: Vec<BatchResultErrorEntry>,
) -> Vec<Result<(), BatchEntryError>> {
    let mut results = vec![
        Err(BatchEntryError {
            code: "MissingResult".to_owned(),
            sender_fault: false,
            detail: "the response has no result for this entry".to_owned(),
        });
        count
    ];
    for id in successful {
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
            *result = Err(BatchEntryError {
                code: entry.code,
                sender_fault: entry.sender_fault,
                detail: entry.message.unwrap_or_default(),
            });
        }
    }
    results
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
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
    fn results_are_in_entry_order() {
        let results = by_position(4, ["0", "3"].into_iter(), vec![failed("1", false)]);
        assert!(results[0].is_ok() && results[3].is_ok());
        assert_eq!(results[1].as_ref().unwrap_err().code, "InternalError");
        assert_eq!(results[2].as_ref().unwrap_err().code, "MissingResult");
    }

    #[test]
    fn response_with_unknown_ids_confirms_nothing() {
        let results = by_position(1, ["7", "x"].into_iter(), vec![failed("12", true)]);
        assert!(results[0].is_err());
    }
}
