//! Starts one mode of the binary and turns its error into an exit code.

use std::process::ExitCode;

use clap::Parser;
use event_forwarder::{
    api::EventForwarder,
    cli::{Cli, Command},
    map,
};
use kube::CustomResourceExt;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Crd => {
            print!(
                "{}",
                serde_saphyr::to_string(&EventForwarder::crd()).unwrap_or_default()
            );
            ExitCode::SUCCESS
        }
        Command::Map(args) => map::run(&args),
        _ => ExitCode::FAILURE,
    }
}
