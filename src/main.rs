//! The entry point: runs a command and converts its error to an exit code.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::todo,
        clippy::dbg_macro,
        clippy::indexing_slicing
    )
)]

use std::{future::Future, io::Write, process::ExitCode};

use clap::Parser;
use event_forwarder::{
    api::EventForwarder,
    cli::{Cli, Command},
    controller, dlq, drain,
    plugin::{self, InvokedAs, PluginCli},
    preview, telemetry,
};
use kube::CustomResourceExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    // Without exactly one crypto provider, the first TLS connection panics.
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        eprintln!(
            "error: another crypto provider is already installed; this is a bug in the build"
        );
        return ExitCode::FAILURE;
    }
    match InvokedAs::from_program_name(std::env::args_os().next().as_deref()) {
        None => operator(Cli::parse().command),
        Some(InvokedAs::Plugin) => {
            let cli = PluginCli::parse();
            run(async { Ok(plugin::command(cli).await) })
        }
        Some(InvokedAs::Completion) => plugin::complete(std::env::args_os().skip(1).collect()),
    }
}

fn operator(command: Command) -> ExitCode {
    match command {
        Command::Crd => print_crd(),
        Command::Controller(args) => run(async {
            let traces = telemetry::init();
            let result = controller::run(args, stop_on_signal()?).await;
            traces.shutdown().await;
            Ok(match result {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    tracing::error!("{error}");
                    ExitCode::FAILURE
                }
            })
        }),
        Command::Drain(args) => run(async {
            let traces = telemetry::init();
            let outcome = drain::command(args, stop_on_signal()?).await;
            traces.shutdown().await;
            Ok(ExitCode::from(outcome.exit_code()))
        }),
        Command::Map(args) => preview::run(&args),
        Command::Dlq(args) => run(async {
            dlq::command(args).await?;
            Ok(ExitCode::SUCCESS)
        }),
        Command::Completion { shell } => match plugin::script::<Cli>(shell, "event-forwarder") {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error.into()),
        },
    }
}

fn print_crd() -> ExitCode {
    let print = || -> Result<(), AnyError> {
        let yaml = serde_saphyr::to_string(&EventForwarder::crd())?;
        Ok(std::io::stdout().write_all(yaml.as_bytes())?)
    };
    match print() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

fn run(mode: impl Future<Output = Result<ExitCode, AnyError>>) -> ExitCode {
    tokio::runtime::Runtime::new()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(mode))
        .unwrap_or_else(|error| failed(&error))
}

fn failed(error: &AnyError) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

/// Returns a token that SIGTERM or SIGINT cancels.
fn stop_on_signal() -> std::io::Result<CancellationToken> {
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let stop = CancellationToken::new();
    let cancelled = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("received a termination signal; finishing work in progress");
        cancelled.cancel();
    });
    Ok(stop)
}
