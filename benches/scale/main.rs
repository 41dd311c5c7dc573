//! Measures the cost of ten thousand EventForwarders: the controller with a real API server and a
//! queue that answers.
//!
//! The benchmark measures the cold start, the memory, the time from apply to CronJob, and the CPU
//! time and writes when idle and after a restart.
//!
//! On a fresh cluster: `tests/cluster/cluster up; eval "$(tests/cluster/cluster env)"; cargo
//! bench --bench scale`, with any of `-- --forwarders 300 --rest 60 --own-credentials`.

mod controller;
mod load;
mod server;

use std::{
    env,
    time::{Duration, Instant},
};

use clap::Parser;
use event_forwarder_test_support::sqs::SqsServer;
use kube::Client;

use crate::{controller::Controller, load::Load, server::Server};

#[derive(Parser)]
struct Args {
    /// EventForwarders in the cluster.
    #[arg(long, default_value_t = 10_000)]
    forwarders: usize,
    /// Additional forwarders, applied one by one to measure the time to their CronJobs.
    #[arg(long, default_value_t = 60)]
    applies: usize,
    /// Duration of the measurement of the idle controller, in seconds.
    #[arg(long, default_value_t = 180)]
    rest: u64,
    /// Interval of depth polls, as in spec.queue.pollInterval. The default excludes polls from the
    /// idle measurement.
    #[arg(long, default_value = "24h")]
    poll_interval: String,
    /// Use AWS credentials from each forwarder's Secret instead of the controller's.
    #[arg(long)]
    own_credentials: bool,
    /// Passed by cargo.
    #[arg(long)]
    bench: bool,
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let args = Args::parse();
    if !args.bench || env::var_os("KUBECONFIG").is_none() {
        eprintln!("scale: run with `cargo bench` and with KUBECONFIG set to a fresh cluster");
        return Ok(());
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::try_default().await?;
    let server = Server::new(client.clone());
    let sqs = SqsServer::fauxqs().await?;
    let load = Load::new(client, &sqs, args.poll_interval, args.own_credentials).await?;
    println!(
        "{} forwarders, Kubernetes {}, {} cores\n",
        args.forwarders,
        server.version().await?,
        std::thread::available_parallelism()?
    );
    let started = Instant::now();
    load.create(args.forwarders).await?;
    row("creation", seconds(started.elapsed()), "");

    let mut ready = load.watch().await?;
    let before = (server.writes().await?, server.cpu());
    let started = Instant::now();
    let controller = Controller::start(&sqs)?;
    ready.wait(args.forwarders).await?;
    let duration = started.elapsed();
    row(
        "cold start until all are reconciled",
        seconds(duration),
        "< 300 s",
    );
    row("  CPU of the controller", seconds(controller.cpu()?), "");
    for (program, cpu) in server.cpu_since(&before.1) {
        row(&format!("  CPU of {program}"), seconds(cpu), "");
    }
    row("  writes", server.writes().await?.since(&before.0), "");
    row("  peak memory", mebibytes(controller.peak()?), "< 200 MiB");

    let mut latencies = load.apply_one_by_one(args.applies).await?;
    latencies.sort();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    row(
        "apply to CronJob, median",
        milliseconds(at(0.5)),
        "< 200 ms",
    );
    row("  95th percentile", milliseconds(at(0.95)), "");

    controller.settle().await?;
    let before = (server.writes().await?, load.fingerprint().await?);
    let from = (
        controller.cpu()?,
        controller.reconciliations().await?,
        Instant::now(),
    );
    tokio::time::sleep(Duration::from_secs(args.rest)).await;
    let share = (controller.cpu()? - from.0).as_secs_f64() / from.2.elapsed().as_secs_f64();
    row(
        "idle CPU, share of a core",
        format!("{:.2} %", share * 100.0),
        "< 2 %",
    );
    let reconciled = controller.reconciliations().await? - from.1;
    row("  reconciliations", reconciled.to_string(), "");
    row("  writes", server.writes().await?.since(&before.0), "0");
    row(
        "  changed objects",
        load.changed_since(&before.1).await?,
        "0",
    );
    row("idle memory", mebibytes(controller.memory()?), "");
    row("  peak", mebibytes(controller.peak()?), "< 200 MiB");

    controller.stop().await?;
    let before = (server.writes().await?, load.fingerprint().await?);
    let started = Instant::now();
    let controller = Controller::start(&sqs)?;
    controller
        .until_reconciled(args.forwarders + args.applies)
        .await?;
    row(
        "restart until all are reconciled",
        seconds(started.elapsed()),
        "",
    );
    row("  CPU of the controller", seconds(controller.cpu()?), "");
    controller.settle().await?;
    row("  writes", server.writes().await?.since(&before.0), "0");
    row(
        "  changed objects",
        load.changed_since(&before.1).await?,
        "0",
    );
    row("  peak memory", mebibytes(controller.peak()?), "< 200 MiB");
    controller.stop().await
}

fn row(name: &str, measured: impl std::fmt::Display, target: &str) {
    println!("| {name:<38} | {measured:>40} | {target:>9} |");
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

fn milliseconds(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}

fn mebibytes(kibibytes: u64) -> String {
    format!("{} MiB", kibibytes / 1024)
}
