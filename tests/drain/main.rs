//! Runs against SQS servers that others wrote and the stand-in for Iterable.

mod basics;
mod fifo;
mod large;
mod process;
mod tls;
mod traces;
mod users;
mod world;
