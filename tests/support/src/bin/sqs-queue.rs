//! Creates a queue and its dead-letter queue on an SQS server for demos, and sends messages to it.

use std::{error::Error, fs, path::PathBuf, process::ExitCode};

use clap::Parser;
use event_forwarder_test_support::sqs::{self, Attributes, Queue};

/// Creates a queue and its dead-letter queue unless they exist, sends every file as one message,
/// and prints the queue's URL.
#[derive(Parser)]
#[command(name = "sqs-queue", version)]
struct Cli {
    /// Base URL of the server, as `sqs-server` prints it.
    #[arg(long, value_name = "URL")]
    endpoint: String,

    /// Name of the queue.
    #[arg(long)]
    name: String,

    /// Files to send, each as one message body.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    send: Vec<PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sqs-queue: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<(), Box<dyn Error>> {
    let mut bodies = Vec::new();
    for file in &cli.send {
        let body =
            fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        bodies.push(body);
    }
    let queue =
        Queue::create_with_dlq(sqs::client(&cli.endpoint), &cli.name, Attributes::default())
            .await?;
    queue.send(&bodies).await?;
    println!("{}", queue.url);
    Ok(())
}
