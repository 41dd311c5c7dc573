//! Runs, and commands on the dead-letter queue, against SQS servers that others wrote and the stand-in for
//! Iterable.

#[macro_use]
mod each;

mod answers;
mod basics;
mod credentials;
mod dlq;
mod faults;
mod fifo;
mod hosts;
mod http;
mod kill;
mod large;
mod process;
mod proxies;
mod proxy;
mod rejected;
mod stopping;
mod tap;
mod tls;
#[path = "../tls_support/mod.rs"]
mod tls_support;
mod traces;
mod users;
mod visibility;
mod world;
