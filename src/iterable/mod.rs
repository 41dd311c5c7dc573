//! The client for Iterable's API, and the classification of its responses.

mod api_key;
mod client;
mod compression;
mod failed_identifiers;
mod response;
mod retry_after;

pub use api_key::{ApiKey, ApiKeyError};
pub use client::{Client, ClientError, NewUser};
pub use failed_identifiers::{FailedIdentifier, FailedIdentifiers, ListReason, UserKind};
pub use response::{ApiError, ApiResponse, BulkCounts, TransportFailure};
