//! Servers for the tests, the benchmarks and the demo.
//!
//! [`iterable`] is a fake Iterable server that follows the documented limits and answers.
//! [`sqs`] starts third-party SQS servers, which implement SQS independently of each other.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

use tokio::signal::unix::{SignalKind, signal};

pub mod iterable;
pub mod sqs;

/// Returns a free address for a server that can't pick a free port and report it.
///
/// The host is not 127.0.0.1, because an outgoing connection could take the port there before the
/// server does.
pub fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::new(127, 0, 0, 3), 0))?.local_addr()
}

/// Replaces the default handling of SIGINT and SIGTERM, which ends the process.
///
/// The returned future completes at the first of these signals.
pub fn until_stopped() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
