//! Runs the fake Iterable server until a termination signal.

use std::{fs, io, net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use event_forwarder_test_support::{
    iterable::{
        Answers, FakeIterable, History, KnownUsers, Limits, Options, ProjectType, TooLarge,
    },
    until_stopped,
};

/// Runs a fake Iterable server for tests and demos, and prints its base URL when it listens.
///
/// It answers POST /api/events/trackBulk and /api/users/bulkUpdate as Iterable documents them.
/// GET /_admin/summary, /_admin/events?name=&user=&id=&limit= and /_admin/requests?limit= return
/// what it received. POST /_admin/faults adds a fault, DELETE /_admin/faults removes all faults,
/// and POST /_admin/reset restores the initial state.
#[derive(Parser)]
#[command(name = "fake-iterable", version)]
struct Cli {
    /// Address to listen on; port 0 picks a free port.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,

    /// API key to accept; can be repeated. Default test-key, if no file is given either.
    #[arg(long, value_name = "KEY")]
    api_key: Vec<String>,

    /// File with API keys to accept, one per line.
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,

    /// How the project identifies its users.
    #[arg(long, value_enum, default_value = "email")]
    project_type: ProjectType,

    /// Users that exist in the project: all, none, or comma-separated emails and userIds.
    #[arg(long, value_name = "all|none|LIST", default_value = "all")]
    known_users: KnownUsers,

    /// How long a user created by users/bulkUpdate stays unknown, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    user_visible_after_ms: u64,

    /// Event name to reject; can be repeated.
    #[arg(long, value_name = "NAME")]
    disallow_event_name: Vec<String>,

    /// Requests per second that events/trackBulk accepts; 0 for no limit.
    #[arg(long, value_name = "N", default_value_t = 10)]
    rate: u32,

    /// Retry-After header of a 429, in seconds. If unset, a 429 has no such header.
    #[arg(long, value_name = "S")]
    retry_after: Option<u32>,

    /// Maximum number of events in one events/trackBulk.
    #[arg(long, value_name = "N", default_value_t = Limits::default().events_per_request)]
    max_events: usize,

    /// Maximum bytes of one events/trackBulk.
    #[arg(long, value_name = "N", default_value_t = Limits::default().track_bulk_bytes)]
    max_bytes: usize,

    /// Answer requests over these limits with 413 instead of BatchTooLarge.
    #[arg(long)]
    answer_413: bool,

    /// Delay of every answer, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    latency_ms: u64,

    /// Keep only IDs and counts, for large runs.
    #[arg(long)]
    counts_only: bool,
}

impl Cli {
    fn options(self) -> io::Result<Options> {
        let mut api_keys = self.api_key;
        if let Some(file) = self.api_key_file {
            api_keys.extend(fs::read_to_string(file)?.lines().map(str::to_owned));
        }
        if api_keys.is_empty() {
            api_keys = Options::default().api_keys;
        }
        Ok(Options {
            listen: self.listen,
            api_keys,
            project_type: self.project_type,
            known_users: self.known_users,
            user_visible_after: Duration::from_millis(self.user_visible_after_ms),
            disallowed_event_names: self.disallow_event_name,
            limits: Limits {
                track_bulk_rate: (self.rate > 0).then_some(self.rate),
                events_per_request: self.max_events,
                track_bulk_bytes: self.max_bytes,
                ..Limits::default()
            },
            answers: Answers {
                too_large: if self.answer_413 {
                    TooLarge::PayloadTooLarge
                } else {
                    TooLarge::BatchTooLarge
                },
                retry_after: self.retry_after,
                ..Answers::default()
            },
            latency: Duration::from_millis(self.latency_ms),
            history: if self.counts_only {
                History::CountsOnly
            } else {
                History::Full
            },
            ..Options::default()
        })
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fake-iterable: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> io::Result<()> {
    let stop = until_stopped()?;
    let iterable = FakeIterable::start(cli.options()?).await?;
    println!("{}", iterable.url());
    stop.await;
    Ok(())
}
