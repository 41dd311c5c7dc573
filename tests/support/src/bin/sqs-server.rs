//! Runs a third-party SQS server until a termination signal.

use std::{error::Error, net::SocketAddr, process::ExitCode};

use clap::Parser;
use event_forwarder_test_support::{
    sqs::{self, Kind, SqsServer},
    until_stopped,
};

/// Runs an SQS server for tests and demos, and prints its endpoint when it answers.
///
/// It accepts any credentials. Its queues are lost when it stops.
#[derive(Parser)]
#[command(name = "sqs-server", version)]
struct Cli {
    /// Server to run; installed first if necessary.
    #[arg(long, value_enum, default_value = "fauxqs")]
    server: Kind,

    /// Address to listen on; port 0 picks a free port. Queue URLs contain this address, so it must
    /// be reachable by clients.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:9324")]
    listen: SocketAddr,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let stop = match until_stopped() {
        Ok(stop) => stop,
        Err(error) => return failed(&error),
    };
    tokio::select! {
        () = stop => ExitCode::SUCCESS,
        Err(error) = serve(cli) => failed(&error),
    }
}

async fn serve(cli: Cli) -> Result<(), sqs::Error> {
    let mut server = SqsServer::start(cli.server, cli.listen).await?;
    println!("{}", server.endpoint());
    Err(server.ended().await)
}

fn failed(error: &dyn Error) -> ExitCode {
    eprintln!("sqs-server: {error}");
    ExitCode::FAILURE
}
