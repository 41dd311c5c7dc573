//! Starts one mode of the binary and turns its error into an exit code.

use std::process::ExitCode;

use clap::Parser;
use event_forwarder::{
    api::EventForwarder,
    cli::{Cli, Command, DrainArgs},
    drain, telemetry,
};
use kube::CustomResourceExt;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Crd => {
            print!("{}", serde_saphyr::to_string(&EventForwarder::crd()).unwrap_or_default());
            ExitCode::SUCCESS
        }
        Command::Drain(args) => run_drain(args),
        _ => ExitCode::FAILURE,
    }
}

fn run_drain(args: DrainArgs) -> ExitCode {
    telemetry::init();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "no threads can be started");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(drain::command(args));
    runtime.shutdown_background();
    ExitCode::from(outcome.exit_code())
}
