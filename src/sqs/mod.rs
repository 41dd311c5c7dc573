//! The SQS client.
//!
//! Only [`QueueClient`] sends requests to SQS. Each request is billed and has a timeout. The client
//! never retries; callers do.

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

/// Maximum number of entries in one SQS request or response.
pub const MAX_ENTRIES: usize = 10;

/// Maximum size of an SQS message, in bytes, including its attributes.
pub const MAX_MESSAGE_BYTES: usize = 1_048_576;
