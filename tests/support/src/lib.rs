//! Servers that the tests, the benchmarks and the demo run against.
//!
//! [`iterable`] is a stand-in for Iterable, written from its documented limits and answers.
//! [`sqs`] starts SQS servers that others wrote, each an independent reading of SQS.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

use tokio::signal::unix::{SignalKind, signal};

pub mod iterable;
pub mod sqs;

/// A free address for a server that can't choose one itself and tell which.
/// It isn't one of 127.0.0.1, since an outgoing connection could take the port from there before the server does.
pub fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::new(127, 0, 0, 3), 0))?.local_addr()
}

/// From now on SIGINT and SIGTERM don't end the process; the future that this returns ends at the first of them.
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
