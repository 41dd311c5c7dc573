//! Ships analytics events from mParticle to Iterable through an SQS queue.
//!
//! Rooms, each with one job; arrows run downward only:
//! [`controller`] turns each [`api::EventForwarder`] into a CronJob; [`drain`] empties one
//! queue into Iterable, through [`mapping`], [`sqs`] and [`iterable`].

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
