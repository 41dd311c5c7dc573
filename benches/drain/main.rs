//! How fast a queue is emptied, beside others on the same queue, messages and stand-in: the loop
//! of a timer-started Lambda and npm `sqs-consumer` (both on Node), and, as the SQS server's
//! ceiling, a bare receive-and-delete loop. Twice: without added latency, and as in production
//! (10 ms to SQS; 100 ms and 10 requests a second at Iterable). Then the memory that a run takes
//! on a backlog and on one ten times as long; then the bars, and whether they were met.
//!
//! `cargo bench --bench drain`, with any of `-- --server elasticmq --messages 60000 --backlog
//! 100000`. Needs `npm ci` in `benches/drain/peers`.

mod bars;
mod proxy;
mod world;

use clap::Parser;
use event_forwarder_test_support::sqs::Kind;

use crate::{
    bars::Bars,
    world::{NO_LATENCY, PRODUCTION, Setting, Tried, World},
};

/// The most messages for those who take one small request after the other.
const FEW: usize = 10_000;

#[derive(Parser, Clone)]
struct Args {
    /// The SQS servers. Left out: fauxqs and ElasticMQ.
    #[arg(long, value_enum)]
    server: Vec<Kind>,
    /// Messages on the queue. The others but the bare loop get fewer where they would take
    /// minutes.
    #[arg(long, default_value_t = 60_000)]
    messages: usize,
    /// The longer of the two backlogs by which memory is measured.
    #[arg(long, default_value_t = 100_000)]
    backlog: usize,
    /// Only this one, without bars.
    #[arg(long)]
    only: Option<String>,
    /// Only this setting, without bars.
    #[arg(long)]
    setting: Option<String>,
    /// Given by cargo.
    #[arg(long)]
    bench: bool,
}

#[tokio::main]
async fn main() {
    let mut args = Args::parse();
    if !args.bench {
        // Under `cargo test --benches` a short run shows that it works.
        args.messages = 200;
        args.server = vec![Kind::Fauxqs];
        args.only.get_or_insert("event-forwarder".to_owned());
    }
    if args.server.is_empty() {
        args.server = vec![Kind::Fauxqs, Kind::ElasticMq];
    }
    println!("{}", Tried::HEAD);
    for server in args.server.clone() {
        measure(server, &args).await;
    }
}

async fn measure(server: Kind, args: &Args) {
    let mut bars = Bars::default();
    for setting in [&NO_LATENCY, &PRODUCTION] {
        for who in [
            "timer loop",
            "sqs-consumer",
            "bare ceiling",
            "event-forwarder",
        ] {
            let wanted =
                |only: &Option<String>, name| only.as_deref().is_none_or(|one| one == name);
            if !wanted(&args.only, who) || !wanted(&args.setting, setting.name) {
                continue;
            }
            let tried = one(server, setting, who, messages(args, setting, who)).await;
            println!("{}", tried.row(server, setting.name, who));
            bars.add(setting.name, who, tried);
        }
    }
    if args.only.is_some() || args.setting.is_some() {
        return;
    }
    for messages in [args.backlog / 10, args.backlog] {
        let tried = one(server, &NO_LATENCY, "event-forwarder", messages).await;
        println!("{}", tried.row(server, "backlog", "event-forwarder"));
        bars.add("backlog", "event-forwarder", tried);
    }
    println!("{bars}");
}

/// Those who send ten messages a request get as many as they can do in half a minute.
fn messages(args: &Args, setting: &Setting, who: &str) -> usize {
    match (who, setting.sink_rate) {
        ("timer loop" | "sqs-consumer", Some(_)) => args.messages / 40,
        ("timer loop" | "sqs-consumer", None) => args.messages.min(FEW),
        _ => args.messages,
    }
}

async fn one(server: Kind, setting: &Setting, who: &str, messages: usize) -> Tried {
    let world = World::new(server, setting, messages).await;
    match who {
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
