//! Third-party SQS servers, started as child processes: moto, fauxqs and ElasticMQ.
//!
//! `tests/sqs/setup` installs a server on its first use.
//!
//! ```no_run
//! # use event_forwarder_test_support::sqs::{Attributes, Error, SqsServer};
//! # async fn example() -> Result<(), Error> {
//! let server = SqsServer::fauxqs().await?;
//! let queue = server.create_queue_with_dlq("mparticle", Attributes::default()).await?;
//! queue.send(&["{}".to_owned()]).await?;
//! # Ok(())
//! # }
//! ```

mod process;
mod queue;
mod server;

pub use queue::{Attributes, Depth, Queue};
pub use server::{Error, Kind, SqsServer, client, set_up};
