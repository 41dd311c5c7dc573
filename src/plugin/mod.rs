//! `kubectl forwarder`: what a person asks of the forwarders in a cluster.
//!
//! The program is the plugin when it is called `kubectl-forwarder`, the name under which kubectl
//! looks for it, and completes the plugin's commands when it is called
//! `kubectl_complete-forwarder`. [`status_page`], [`status_list`], [`runs`], [`health`], [`suggestions`] and
//! [`time`] are pure; [`cluster`] asks the API server.

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

/// How long a status page waits for the dead-letter queue, and how long it looks at letters.
const DEAD_LETTERS_TIMEOUT: Duration = Duration::from_secs(15);
const DEAD_LETTERS_SCAN_TIME: Duration = Duration::from_secs(5);

/// What the program is when it is called by a name of kubectl's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvokedAs {
    /// The plugin.
    Plugin,
    /// What kubectl asks for the words that may stand where the cursor is.
    Completion,
}

impl InvokedAs {
    /// By the first argument of the process; none for the operator itself.
    pub fn from_program_name(called: Option<&OsStr>) -> Option<Self> {
        match Path::new(called?).file_stem()?.to_str()? {
            "kubectl-forwarder" => Some(Self::Plugin),
            "kubectl_complete-forwarder" => Some(Self::Completion),
            _ => None,
        }
    }
}

/// Carries out a command and says on standard error why it can't be.
pub async fn command(cli: PluginCli) -> ExitCode {
    match execute(cli).await {
        Ok(code) => code,
        // Whoever reads us has seen enough, as in `status | head`.
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
            return Ok(preview::run_with(&rules(&cluster, &name).await?, &batches));
        }
        PluginCommand::Dlq {
            name,
            aws_credentials_dir,
            action,
        } => {
            let forwarder = cluster.forwarder(&name).await?;
            let given = aws_credentials_dir.map(Credentials::Dir);
            dlq::run_action(&queues(&cluster, &forwarder, given).await?, action).await?;
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
    Ok(status_list::overview(&forwarders, Timestamp::now()))
}

async fn status(cluster: &Cluster, name: &str) -> Result<String, PluginError> {
    let forwarder = cluster.forwarder(name).await?;
    let letters = dead_letter_summary(cluster, &forwarder).await;
    Ok(status_page::page(&forwarder, &letters, Timestamp::now()))
}

/// Reads why letters are dead, where there are some.
async fn dead_letter_summary(cluster: &Cluster, forwarder: &EventForwarder) -> DeadLetterSummary {
    let queue = forwarder.status.as_ref().and_then(|it| it.queue.as_ref());
    if queue.and_then(|queue| queue.dead_letters).unwrap_or(0) == 0 {
        return DeadLetterSummary::None;
    }
    let look = async {
        let queues = queues(cluster, forwarder, None).await?;
        Ok::<_, PluginError>(dlq::reasons(&queues, DEAD_LETTERS_SCAN_TIME).await?)
    };
    match tokio::time::timeout(DEAD_LETTERS_TIMEOUT, look).await {
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
    given: Option<Credentials>,
) -> Result<QueuePair, PluginError> {
    let queue = &forwarder.spec.queue;
    let credentials = match given {
        Some(given) => given,
        None => credentials(cluster.client.clone(), &cluster.namespace, queue).await?,
    };
    Ok(QueuePair::from_spec(queue, credentials).await?)
}

/// What a forwarder does to events, with the jq program that its ConfigMap holds.
async fn rules(cluster: &Cluster, name: &str) -> Result<MappingConfig, PluginError> {
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
            let found = cluster.call_api(call, api.get_opt(&reference.name)).await?;
            found.and_then(|config_map| config_map.data?.remove(&reference.key))
        }
    };
    Ok(MappingConfig::new(spec, transform))
}

/// Prints a text, in colour on a terminal alone.
fn print(text: &str) -> Result<(), PluginError> {
    writeln!(anstream::stdout(), "{text}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_under_which_it_is_called_decides_what_it_is() {
        for (called, role) in [
            ("/usr/local/bin/kubectl-forwarder", Some(InvokedAs::Plugin)),
            ("kubectl-forwarder.exe", Some(InvokedAs::Plugin)),
            (
                "/bin/kubectl_complete-forwarder",
                Some(InvokedAs::Completion),
            ),
            ("/usr/local/bin/event-forwarder", None),
        ] {
            assert_eq!(
                InvokedAs::from_program_name(Some(OsStr::new(called))),
                role,
                "{called}"
            );
        }
        assert_eq!(InvokedAs::from_program_name(None), None);
    }
}
