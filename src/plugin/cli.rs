use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::complete::forwarders;
use crate::{
    api::Duration,
    cli::{BatchArgs, DlqAction},
};

/// Shows and steers the EventForwarders of a cluster.
#[derive(Parser, Debug)]
#[command(name = "kubectl-forwarder", bin_name = "kubectl forwarder", version)]
pub struct PluginCli {
    /// Where the forwarders are.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: PluginCommand,
}

/// Which cluster, and which of its namespaces.
#[derive(Args, Debug, Clone, Default)]
pub struct ClusterArgs {
    /// The namespace. Left out: that of the context.
    #[arg(short, long, global = true)]
    pub namespace: Option<String>,
    /// The context of the kubeconfig. Left out: the current one.
    #[arg(long, global = true)]
    pub context: Option<String>,
}

/// The commands of the plugin.
#[derive(Subcommand, Debug)]
pub enum PluginCommand {
    /// Show how a forwarder fares and what mends what is wrong; without a name, a line for each.
    Status {
        /// The forwarder.
        #[arg(add = forwarders())]
        name: Option<String>,
    },
    /// Start a run now.
    Run(RunArgs),
    /// Let no more runs start. One that is under way goes on to its end.
    Suspend {
        /// The forwarder.
        #[arg(add = forwarders())]
        name: String,
    },
    /// Let runs start by the schedule again.
    Resume {
        /// The forwarder.
        #[arg(add = forwarders())]
        name: String,
    },
    /// Show what the forwarder's mapping makes of mParticle batches. Nothing is sent.
    Map {
        /// The forwarder.
        #[arg(add = forwarders())]
        name: String,
        /// The batches.
        #[command(flatten)]
        batches: BatchArgs,
    },
    /// List, show, redrive or purge the forwarder's dead letters.
    ///
    /// Where not all of them could be seen, the command does its work on the others, says so, and
    /// ends with exit code 1.
    Dlq {
        /// The forwarder.
        #[arg(add = forwarders())]
        name: String,
        /// A folder with the files accessKeyId, secretAccessKey and sessionToken. Left out: the
        /// forwarder's own Secret, or the AWS identity of the surroundings.
        #[arg(long, value_name = "DIR")]
        aws_credentials_dir: Option<PathBuf>,
        /// What to do with them.
        #[command(subcommand)]
        action: DlqAction,
    },
    /// Print a script by which a shell completes `kubectl-forwarder`. For `kubectl forwarder`,
    /// link this program as kubectl_complete-forwarder beside it instead.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Which run, and how it is followed.
#[derive(Args, Debug, Clone)]
pub struct RunArgs {
    /// The forwarder.
    #[arg(add = forwarders())]
    pub name: String,
    /// Stay until the run has ended and print its report. The exit code is then the run's own.
    #[arg(short, long)]
    pub follow: bool,
    /// How long to stay at most, for example 90s or 2h. The run goes on all the same.
    #[arg(long, value_name = "DURATION", default_value = "2h")]
    pub timeout: Duration,
}
