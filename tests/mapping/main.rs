//! The mapping of mParticle's batches, by the library and by the `map` command.

mod bodies;
mod cli;
mod docs;
mod examples;
mod golden;
mod properties;
mod rules;
mod support;
mod transform;
