//! Servers that the tests, the benchmarks and the demo run against.
//!
//! [`iterable`] is a stand-in for Iterable, written from its documented limits and answers.
//! [`sqs`] starts SQS servers that others wrote, each an independent reading of SQS.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

pub mod iterable;
pub mod sqs;

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
