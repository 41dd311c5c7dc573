//! A fake of Iterable's API: one project, its documented limits and answers, and configured faults.
//!
//! Section numbers in comments refer to `wire-facts.md`, this project's notes on Iterable's API.
//! Behavior that these notes call unconfirmed is an option here, in [`Limits`] or [`Answers`].
//!
//! ```no_run
//! # use event_forwarder_test_support::iterable::{Fault, FakeIterable, Options};
//! # async fn example() -> std::io::Result<()> {
//! let iterable = FakeIterable::start(Options::default()).await?;
//! iterable.handle.add_fault(Fault::answer(503, "<html>").times(2));
//! // … let something post to iterable.url() …
//! assert_eq!(iterable.handle.summary().events.stored, 10);
//! # Ok(())
//! # }
//! ```

mod admin;
mod clock;
mod connection;
mod email;
mod events;
mod faults;
mod history;
mod options;
mod project;
mod rate;
mod rejection;
mod request;
mod schema;
mod server;
mod users;

pub use clock::{Clock, ManualClock};
pub use events::StoredEvent;
pub use faults::{Answer, Fault, Gate, Match};
pub use history::{EventCounts, RequestCounts, RequestRecord, Summary};
pub use options::{Answers, History, KnownUsers, Limits, Lists, Options, ProjectType, TooLarge};
pub use server::{FakeIterable, Handle};
