//! Runs, and commands on the dead-letter queue, against third-party SQS servers and the fake
//! Iterable server.

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
