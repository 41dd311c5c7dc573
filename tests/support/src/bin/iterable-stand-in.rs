//! Runs the Iterable stand-in until it is told to stop.

use std::{fs, io, net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use event_forwarder_test_support::{
    iterable::{
        Answers, History, IterableStandIn, KnownUsers, Limits, Options, ProjectType, TooLarge,
    },
    until_stopped,
};

/// Runs a stand-in for Iterable for tests and demos, and prints its base URL once it listens.
///
/// It answers POST /api/events/trackBulk and /api/users/bulkUpdate as Iterable documents it, and shows what it got
/// under GET /_admin/summary, /_admin/events?name=&user=&id=&limit= and /_admin/requests?limit=. POST /_admin/faults
/// makes it fail, DELETE /_admin/faults ends that, and POST /_admin/reset empties it.
#[derive(Parser)]
#[command(name = "iterable-stand-in", version)]
struct Cli {
    /// Where to listen; port 0 picks a free port.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,

    /// A key to accept; may be given several times. Without one and without a file: test-key.
    #[arg(long, value_name = "KEY")]
    api_key: Vec<String>,

    /// A file with keys to accept, one a line.
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,

    /// How the project names its users.
    #[arg(long, value_enum, default_value = "email")]
    project_type: ProjectType,

    /// Whom the project knows: all, none, or emails and userIds with commas between.
    #[arg(long, value_name = "all|none|LIST", default_value = "all")]
    known_users: KnownUsers,

    /// How long a user that users/bulkUpdate made stays unknown, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    user_visible_after_ms: u64,

    /// An event name to refuse; may be given several times.
    #[arg(long, value_name = "NAME")]
    disallow_event_name: Vec<String>,

    /// Requests a second that events/trackBulk takes; 0 for no limit.
    #[arg(long, value_name = "N", default_value_t = 10)]
    rate: u32,

    /// The Retry-After of a 429, in seconds; none if left out.
    #[arg(long, value_name = "S")]
    retry_after: Option<u32>,

    /// Events that one events/trackBulk may hold.
    #[arg(long, value_name = "N", default_value_t = Limits::default().events_per_request)]
    max_events: usize,

    /// Bytes that one events/trackBulk may have.
    #[arg(long, value_name = "N", default_value_t = Limits::default().track_bulk_bytes)]
    max_bytes: usize,

    /// Answer 413 and not BatchTooLarge past these.
    #[arg(long)]
    answer_413: bool,

    /// How long every answer is held back, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    latency_ms: u64,

    /// Keep only ids and counts, for large runs.
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
            eprintln!("iterable-stand-in: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> io::Result<()> {
    let stop = until_stopped()?;
    let iterable = IterableStandIn::start(cli.options()?).await?;
    println!("{}", iterable.url());
    stop.await;
    Ok(())
}
