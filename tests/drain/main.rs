//! Runs against SQS servers that others wrote and the stand-in for Iterable.

mod basics;
mod world;
