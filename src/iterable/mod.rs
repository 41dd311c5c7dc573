//! The sink: one Iterable project, its limits, and its answers put into a few classes.

mod answer;
mod client;
mod compression;
mod key;
mod listed;
mod retry_after;

pub use answer::{Answer, Counts, Refusal, Trouble};
pub use client::{Client, ClientError, NewUser};
pub use key::{ApiKey, ApiKeyError};
pub use listed::{ListReason, Listed, ListedUser, UserKind};
