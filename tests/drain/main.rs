//! Runs against SQS servers that others wrote and the stand-in for Iterable.

#[macro_use]
mod each;

mod answers;
mod basics;
mod credentials;
mod fifo;
mod hosts;
mod http;
mod large;
mod process;
mod proxies;
#[allow(dead_code, reason = "other test files use the rest")]
mod proxy;
mod rejected;
mod stopping;
mod tap;
mod tls;
mod traces;
mod users;
mod visibility;
mod world;
