use std::{collections::BTreeMap, fmt};

use aws_sdk_sqs::{
    error::BuildError,
    types::{
        Message as SdkMessage, MessageAttributeValue, MessageSystemAttributeName as Name,
        SendMessageBatchRequestEntry,
    },
};
use jiff::Timestamp;

/// A message as received from the queue, before its body is parsed.
#[derive(Clone)]
pub struct Message {
    /// The message ID from SQS. A redriven message has a new one.
    pub id: String,
    /// The receipt handle: new at each receive, and needed to delete the message.
    pub receipt_handle: String,
    /// The message body.
    pub body: String,
    /// When it was sent to the queue.
    pub sent_at: Option<Timestamp>,
    /// How often it was received, including this time.
    pub receive_count: Option<u32>,
    /// The message group: the unit of ordering on a FIFO queue, a tenant ID on a standard queue.
    pub group: Option<String>,
    /// The string and number attributes, without the binary ones.
    pub attributes: BTreeMap<String, Attribute>,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("id", &self.id)
            .field("bytes", &self.body.len())
            .field("receive_count", &self.receive_count)
            .finish_non_exhaustive()
    }
}

impl Message {
    /// Returns `None` if the ID, receipt handle, or body is missing, which SQS never does.
    pub(super) fn from_sdk(message: SdkMessage) -> Option<Self> {
        let system = message.attributes.unwrap_or_default();
        let number = |name: Name| system.get(&name).and_then(|text| text.parse::<i64>().ok());
        Some(Self {
            id: message.message_id?,
            receipt_handle: message.receipt_handle?,
            body: message.body?,
            sent_at: number(Name::SentTimestamp)
                .and_then(|ms| Timestamp::from_millisecond(ms).ok()),
            receive_count: number(Name::ApproximateReceiveCount)
                .and_then(|count| count.try_into().ok()),
            group: system.get(&Name::MessageGroupId).cloned(),
            attributes: message
                .message_attributes
                .unwrap_or_default()
                .into_iter()
                .filter_map(|(name, value)| {
                    let attribute = Attribute {
                        kind: value.data_type,
                        value: value.string_value?,
                    };
                    Some((name, attribute))
                })
                .collect(),
        })
    }
}

/// An attribute of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// The data type: String or Number, with an optional suffix such as `.custom`.
    pub kind: String,
    /// The value.
    pub value: String,
}

impl Attribute {
    /// Creates a string attribute.
    pub fn text(value: impl Into<String>) -> Self {
        Self {
            kind: "String".to_owned(),
            value: value.into(),
        }
    }
}

/// A message to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingMessage {
    /// The message body.
    pub body: String,
    /// Attributes, ten at most. Empty values are omitted, because SQS rejects them.
    pub attributes: BTreeMap<String, Attribute>,
    /// The message group and the deduplication ID, required on a FIFO queue.
    pub fifo: Option<(String, String)>,
}

impl OutgoingMessage {
    /// Returns the size that SQS counts: the body and each attribute's name, type, and value.
    pub fn bytes(&self) -> usize {
        let attributes: usize = self
            .attributes
            .iter()
            .map(|(name, attribute)| name.len() + attribute.kind.len() + attribute.value.len())
            .sum();
        self.body.len() + attributes
    }

    pub(super) fn into_entry(
        self,
        index: usize,
    ) -> Result<SendMessageBatchRequestEntry, BuildError> {
        let attributes = self
            .attributes
            .into_iter()
            .filter(|(_, attribute)| !attribute.value.is_empty())
            .map(|(name, attribute)| {
                let value = MessageAttributeValue::builder()
                    .data_type(attribute.kind)
                    .string_value(attribute.value)
                    .build()?;
                Ok((name, value))
            })
            .collect::<Result<_, BuildError>>()?;
        let (group, deduplication) = self.fifo.unzip();
        SendMessageBatchRequestEntry::builder()
            .id(index.to_string())
            .message_body(self.body)
            .set_message_attributes(Some(attributes))
            .set_message_group_id(group)
            .set_message_deduplication_id(deduplication)
            .build()
    }
}
