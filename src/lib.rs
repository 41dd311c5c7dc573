//! Ships analytics events from mParticle to Iterable through an SQS queue.
//!
//! [`controller`] creates a CronJob for each [`api::EventForwarder`]. [`drain`] drains one queue
//! into Iterable with [`mapping`], [`sqs`], and [`iterable`].

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::todo,
        clippy::dbg_macro,
        clippy::indexing_slicing
    )
)]

pub mod api;
pub mod ca_bundle;
pub mod cli;
pub mod controller;
pub mod dlq;
pub mod drain;
pub mod iterable;
pub mod mapping;
pub mod plugin;
pub mod preview;
pub mod sqs;
pub mod telemetry;
mod text;
