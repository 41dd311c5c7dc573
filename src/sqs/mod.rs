//! The queue: one SQS queue, spoken to through the AWS SDK.
//!
//! [`QueueClient`] is the only type that makes requests. Each of its calls is one billed request
//! with a time limit of its own and no hidden repeats: whoever calls decides what to repeat.

mod connect;
mod credentials;
mod error;
mod message;
mod payload;
mod queue;
mod room;
mod settings;

pub use connect::{Connector, endpoint, region_of};
pub use credentials::Credentials;
pub use error::{BatchEntryError, Error};
pub use message::{Attribute, Message, OutgoingMessage};
pub use payload::{PayloadError, Payloads, Pointer, pointer};
pub use queue::{QueueAccess, QueueClient};
pub use room::{Room, Squeeze};
pub use settings::{Depth, QueueSettings, RedrivePolicy};

/// The most entries that one request to SQS takes or returns.
pub const MAX_ENTRIES: usize = 10;

/// The largest message that SQS carries, in bytes, its attributes included.
pub const MAX_MESSAGE_BYTES: usize = 1_048_576;
