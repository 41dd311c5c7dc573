//! The kubectl plugin `kubectl forwarder`: shows and controls the forwarders of a cluster.
//!
//! The program runs as the plugin if its file name is `kubectl-forwarder`, the name that kubectl
//! searches for. If its file name is `kubectl_complete-forwarder`, it completes the plugin's
//! command line. [`status_page`], [`status_list`], [`runs`], [`health`], [`suggestions`] and
//! [`time`] are pure; [`cluster`] calls the API server.

mod cli;
mod cluster;
mod complete;
mod error;
mod health;
mod run;
mod runs;
mod status_list;
mod status_page;
mod suggestions;
mod suspend;
mod time;

use std::{
    ffi::OsStr,
    io::{self, Write},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;

pub use cli::{PluginCli, PluginCommand};
pub use complete::{complete, script};
pub use error::PluginError;

use crate::{
    api::EventForwarder,
    dlq::{self, queues::QueuePair, queues::credentials},
    preview::{self, MappingConfig},
    sqs::Credentials,
};
use cluster::Cluster;
use status_page::DeadLetterSummary;

/// Maximum time that a status page waits for the dead-letter queue.
const DEAD_LETTERS_TIMEOUT: Duration = Duration::from_secs(15);
/// Time after which a status page stops reading dead-lettered messages.
const DEAD_LETTERS_SCAN_TIME: Duration = Duration::from_secs(5);

/// The role of the program, by its file name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvokedAs {
    /// The plugin.
    Plugin,
    /// The completion program that kubectl runs.
    Completion,
}

impl InvokedAs {
    /// Returns the role by the first argument of the process. Returns `None` for the operator.
    pub fn from_program_name(program: Option<&OsStr>) -> Option<Self> {
        match Path::new(program?).file_stem()?.to_str()? {
            "kubectl-forwarder" => Some(Self::Plugin),
            "kubectl_complete-forwarder" => Some(Self::Completion),
            _ => None,
        }
    }
}

/// Runs a command and prints its error to stderr.
pub async fn command(cli: PluginCli) -> ExitCode {
    match execute(cli).await {
        Ok(code) => code,
        // The reader has closed the pipe, as in `status | head`.
        Err(PluginError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(
                io::stderr(),
                "error: {}",
                preview::printable(&error.to_string())
            );
            error.exit_code()
        }
    }
}

async fn execute(cli: PluginCli) -> Result<ExitCode, PluginError> {
    if let PluginCommand::Completion { shell } = cli.command {
        script::<PluginCli>(shell, "kubectl-forwarder")?;
        return Ok(ExitCode::SUCCESS);
    }
    let cluster = Cluster::connect(&cli.cluster).await?;
    match cli.command {
        PluginCommand::Completion { .. } => {}
        PluginCommand::Status { name: None } => print(&list(&cluster).await?)?,
        PluginCommand::Status { name: Some(name) } => print(&status(&cluster, &name).await?)?,
        PluginCommand::Run(args) => return run::run(&cluster, &args).await,
        PluginCommand::Suspend { name } => print(&suspend::suspend(&cluster, &name).await?)?,
        PluginCommand::Resume { name } => print(&suspend::resume(&cluster, &name).await?)?,
        PluginCommand::Map { name, batches } => {
            return Ok(preview::run_with(
                &mapping_config(&cluster, &name).await?,
                &batches,
            ));
        }
        PluginCommand::Dlq {
            name,
            aws_credentials_dir,
            action,
        } => {
            let forwarder = cluster.forwarder(&name).await?;
            let credentials = aws_credentials_dir.map(Credentials::Dir);
            dlq::run_action(&queues(&cluster, &forwarder, credentials).await?, action).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(cluster: &Cluster) -> Result<String, PluginError> {
    let forwarders = cluster.all().await?;
    if forwarders.is_empty() {
        return Ok(format!(
            "no EventForwarders found in namespace {}",
            cluster.namespace
        ));
    }
    Ok(status_list::render(&forwarders, Timestamp::now()))
}

async fn status(cluster: &Cluster, name: &str) -> Result<String, PluginError> {
    let forwarder = cluster.forwarder(name).await?;
    let summary = dead_letter_summary(cluster, &forwarder).await;
    Ok(status_page::page(&forwarder, &summary, Timestamp::now()))
}

/// Counts dead-lettered messages by reason, if the status reports any.
async fn dead_letter_summary(cluster: &Cluster, forwarder: &EventForwarder) -> DeadLetterSummary {
    let queue = forwarder.status.as_ref().and_then(|it| it.queue.as_ref());
    if queue.and_then(|queue| queue.dead_letters).unwrap_or(0) == 0 {
        return DeadLetterSummary::None;
    }
    let scan = async {
        let queues = queues(cluster, forwarder, None).await?;
        Ok::<_, PluginError>(dlq::reasons(&queues, DEAD_LETTERS_SCAN_TIME).await?)
    };
    match tokio::time::timeout(DEAD_LETTERS_TIMEOUT, scan).await {
        Ok(Ok((reasons, is_all))) => DeadLetterSummary::ByReason(reasons, is_all),
        Ok(Err(error)) => DeadLetterSummary::Unavailable(error.to_string()),
        Err(_) => DeadLetterSummary::Unavailable(format!(
            "the queue did not respond within {} s",
            DEAD_LETTERS_TIMEOUT.as_secs()
        )),
    }
}

async fn queues(
    cluster: &Cluster,
    forwarder: &EventForwarder,
    explicit: Option<Credentials>,
) -> Result<QueuePair, PluginError> {
    let queue = &forwarder.spec.queue;
    let credentials = match explicit {
        Some(explicit) => explicit,
        None => credentials(cluster.client.clone(), &cluster.namespace, queue).await?,
    };
    Ok(QueuePair::from_spec(queue, credentials).await?)
}

/// Returns a forwarder's mapping, with the jq program in its ConfigMap.
async fn mapping_config(cluster: &Cluster, name: &str) -> Result<MappingConfig, PluginError> {
    let spec = cluster.forwarder(name).await?.spec;
    let reference = spec
        .mapping
        .transform
        .as_ref()
        .and_then(|transform| transform.config_map_key_ref.as_ref());
    let transform = match reference {
        None => None,
        Some(reference) => {
            let api: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
            let call = format!("get ConfigMap {}/{}", cluster.namespace, reference.name);
            let config_map = cluster.call_api(call, api.get_opt(&reference.name)).await?;
            config_map.and_then(|config_map| config_map.data?.remove(&reference.key))
        }
    };
    Ok(MappingConfig::new(spec, transform))
}

/// Prints a text. Colors are only printed to a terminal.
fn print(text: &str) -> Result<(), PluginError> {
    writeln!(anstream::stdout(), "{text}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_depends_on_program_name() {
        for (program, role) in [
            ("/usr/local/bin/kubectl-forwarder", Some(InvokedAs::Plugin)),
            ("kubectl-forwarder.exe", Some(InvokedAs::Plugin)),
            (
                "/bin/kubectl_complete-forwarder",
                Some(InvokedAs::Completion),
            ),
            ("/usr/local/bin/event-forwarder", None),
        ] {
            assert_eq!(
                InvokedAs::from_program_name(Some(OsStr::new(program))),
                role,
                "{program}"
            );
        }
        assert_eq!(InvokedAs::from_program_name(None), None);
    }
}
