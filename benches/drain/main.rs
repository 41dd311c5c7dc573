//! Measures how fast a queue is drained, compared with other programs on the same queue, messages
//! and fake Iterable server.
//!
//! The others are the loop of a timer-started Lambda, npm `sqs-consumer` (both on Node), and a bare
//! receive-and-delete loop, which is the SQS server's ceiling. The benchmark runs without added
//! latency, and as in production (10 ms to SQS; 100 ms and 10 requests per second at Iterable). It
//! then measures the memory of runs on a backlog and on one ten times as long, and prints whether
//! the targets are met.
//!
//! `cargo bench --bench drain`, with any of `-- --server elasticmq --messages 60000 --backlog
//! 100000`. Needs `npm ci` in `benches/drain/peers`.

mod proxy;
mod targets;
mod world;

use clap::Parser;
use event_forwarder_test_support::sqs::Kind;

use crate::{
    targets::Targets,
    world::{Measurement, NO_LATENCY, PRODUCTION, Setting, World},
};

/// Maximum messages for candidates that send small requests.
const MAX_SLOW_MESSAGES: usize = 10_000;

#[derive(Parser, Clone)]
struct Args {
    /// SQS servers. Default fauxqs and ElasticMQ.
    #[arg(long, value_enum)]
    server: Vec<Kind>,
    /// Messages in the queue. The candidates on Node get fewer if they would run for minutes.
    #[arg(long, default_value_t = 60_000)]
    messages: usize,
    /// Messages in the longer of the two backlogs of the memory measurement.
    #[arg(long, default_value_t = 100_000)]
    backlog: usize,
    /// Only this candidate, without targets.
    #[arg(long)]
    only: Option<String>,
    /// Only this setting, without targets.
    #[arg(long)]
    setting: Option<String>,
    /// Passed by cargo.
    #[arg(long)]
    bench: bool,
}

#[tokio::main]
async fn main() {
    let mut args = Args::parse();
    if !args.bench {
        // `cargo test --benches` only executes a short run.
        args.messages = 200;
        args.server = vec![Kind::Fauxqs];
        args.only.get_or_insert("event-forwarder".to_owned());
    }
    if args.server.is_empty() {
        args.server = vec![Kind::Fauxqs, Kind::ElasticMq];
    }
    println!("{}", Measurement::HEADER);
    for server in args.server.clone() {
        measure(server, &args).await;
    }
}

async fn measure(server: Kind, args: &Args) {
    let mut targets = Targets::default();
    for setting in [&NO_LATENCY, &PRODUCTION] {
        for candidate in [
            "timer loop",
            "sqs-consumer",
            "bare ceiling",
            "event-forwarder",
        ] {
            let is_selected =
                |only: &Option<String>, name| only.as_deref().is_none_or(|only| only == name);
            if !is_selected(&args.only, candidate) || !is_selected(&args.setting, setting.name) {
                continue;
            }
            let count = messages(args, setting, candidate);
            let measurement = measure_candidate(server, setting, candidate, count).await;
            println!("{}", measurement.row(server, setting.name, candidate));
            targets.add(setting.name, candidate, measurement);
        }
    }
    if args.only.is_some() || args.setting.is_some() {
        return;
    }
    for messages in [args.backlog / 10, args.backlog] {
        let measurement = measure_candidate(server, &NO_LATENCY, "event-forwarder", messages).await;
        println!("{}", measurement.row(server, "backlog", "event-forwarder"));
        targets.add("backlog", "event-forwarder", measurement);
    }
    println!("{targets}");
}

/// Returns the number of messages for a candidate.
///
/// Candidates that send ten messages per request get as many as they can process in half a minute.
fn messages(args: &Args, setting: &Setting, candidate: &str) -> usize {
    match (candidate, setting.sink_rate) {
        ("timer loop" | "sqs-consumer", Some(_)) => args.messages / 40,
        ("timer loop" | "sqs-consumer", None) => args.messages.min(MAX_SLOW_MESSAGES),
        _ => args.messages,
    }
}

async fn measure_candidate(
    server: Kind,
    setting: &Setting,
    candidate: &str,
    messages: usize,
) -> Measurement {
    let world = World::new(server, setting, messages).await;
    match candidate {
        "bare ceiling" => world.bare().await,
        "event-forwarder" => world.event_forwarder(setting).await,
        "timer loop" => world.node("timer-loop.mjs", messages, 1).await,
        _ => {
            world
                .node("consumer.mjs", messages, world::CONCURRENCY)
                .await
        }
    }
}
