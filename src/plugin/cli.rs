use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::complete::forwarders;
use crate::{
    api::Duration,
    cli::{BatchArgs, DlqAction},
};

/// Manage the EventForwarders of a cluster.
#[derive(Parser, Debug)]
#[command(name = "kubectl-forwarder", bin_name = "kubectl forwarder", version)]
pub struct PluginCli {
    /// Cluster and namespace of the EventForwarders.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// The command to execute.
    #[command(subcommand)]
    pub command: PluginCommand,
}

/// The cluster and namespace to use.
#[derive(Args, Debug, Clone, Default)]
pub struct ClusterArgs {
    /// Namespace. If unset, the namespace of the context.
    #[arg(short, long, global = true)]
    pub namespace: Option<String>,
    /// Context of the kubeconfig. If unset, the current context.
    #[arg(long, global = true)]
    pub context: Option<String>,
}

/// Commands of the plugin.
#[derive(Subcommand, Debug)]
pub enum PluginCommand {
    /// Show a forwarder's status and how to fix problems; without a name, list all.
    Status {
        /// Name of the EventForwarder.
        #[arg(add = forwarders())]
        name: Option<String>,
    },
    /// Start a run now.
    Run(RunArgs),
    /// Stop scheduling runs. A running one continues.
    Suspend {
        /// Name of the EventForwarder.
        #[arg(add = forwarders())]
        name: String,
    },
    /// Resume scheduling runs.
    Resume {
        /// Name of the EventForwarder.
        #[arg(add = forwarders())]
        name: String,
    },
    /// Preview the forwarder's mapping of mParticle batches. Sends nothing.
    Map {
        /// Name of the EventForwarder.
        #[arg(add = forwarders())]
        name: String,
        /// Batches to map.
        #[command(flatten)]
        batches: BatchArgs,
    },
    /// List, show, redrive, or purge the forwarder's dead-lettered messages.
    ///
    /// If some messages could not be read, the command processes the others, reports it, and exits
    /// with code 1.
    Dlq {
        /// Name of the EventForwarder.
        #[arg(add = forwarders())]
        name: String,
        /// Directory with the files accessKeyId, secretAccessKey, and, if temporary, sessionToken.
        /// If unset, uses the forwarder's Secret, or the default AWS credential chain.
        #[arg(long, value_name = "DIR")]
        aws_credentials_dir: Option<PathBuf>,
        /// The command to execute.
        #[command(subcommand)]
        action: DlqAction,
    },
    /// Print a shell completion script for `kubectl-forwarder`. For `kubectl forwarder`, instead
    /// create a link to this program, named kubectl_complete-forwarder, in a directory on the PATH.
    Completion {
        /// Shell to complete commands in.
        shell: clap_complete::Shell,
    },
}

/// Arguments of `run`.
#[derive(Args, Debug, Clone)]
pub struct RunArgs {
    /// Name of the EventForwarder.
    #[arg(add = forwarders())]
    pub name: String,
    /// Wait until the run ends, print its report, and exit with 0 if it succeeded, or else with its
    /// exit code.
    #[arg(short, long)]
    pub follow: bool,
    /// Maximum time to wait, for example 90s or 2h. The run continues after it.
    #[arg(long, value_name = "DURATION", default_value = "2h")]
    pub timeout: Duration,
}
