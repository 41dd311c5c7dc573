//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::{
    api::Duration,
    controller::{AllowedHosts, AllowedRoles},
};

/// Ships analytics events from mParticle to Iterable through an SQS queue.
#[derive(Parser, Debug)]
#[command(name = "event-forwarder", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The modes of the binary.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Print the CustomResourceDefinition of EventForwarder as YAML.
    Crd,
    /// Reconcile EventForwarders into CronJobs and keep their status.
    Controller(ControllerArgs),
    /// Empty the queue of one EventForwarder into Iterable, once.
    Drain(DrainArgs),
    /// Show what mParticle batches become, without network, cluster or key.
    Map(MapArgs),
    /// List, show, redrive or purge the dead letters of one EventForwarder.
    ///
    /// Where not all of them could be seen, the command does its work on the others, says so, and
    /// ends with exit code 1.
    Dlq(DlqArgs),
    /// Print a script by which a shell completes this program's commands.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// How the controller runs.
#[derive(clap::Args, Debug, Clone)]
pub struct ControllerArgs {
    /// The image that runs use, unless a forwarder names its own.
    #[arg(long, env = "EVENT_FORWARDER_IMAGE")]
    pub image: String,
    /// Namespaces to watch, comma-separated. All, if none is given.
    #[arg(long, env = "EVENT_FORWARDER_WATCH_NAMESPACES", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,
    /// The namespace of the lease that keeps replicas apart. Left out: this is the only replica.
    #[arg(long, env = "EVENT_FORWARDER_LEASE_NAMESPACE")]
    pub lease_namespace: Option<String>,
    /// The name of that lease: one for all replicas of an installation, and for no other's.
    #[arg(
        long,
        env = "EVENT_FORWARDER_LEASE_NAME",
        default_value = "event-forwarder"
    )]
    pub lease_name: String,
    /// This replica's name in the lease, unlike any other's.
    #[arg(long, env = "POD_NAME", default_value = "event-forwarder")]
    pub identity: String,
    /// The hosts to which the controller shows its own AWS identity, comma-separated: "aws" for
    /// SQS of AWS itself by HTTPS, or addresses such as https://sqs.example.com, where
    /// https://*.example.com stands for every name below example.com. Empty: none. Queues
    /// elsewhere are read with the credentials that their forwarder brings.
    #[arg(
        long,
        env = "EVENT_FORWARDER_AMBIENT_CREDENTIALS_HOSTS",
        value_name = "HOSTS",
        default_value = "aws"
    )]
    pub ambient_credentials_hosts: AllowedHosts,
    /// The roles that the controller assumes with its own AWS identity for a forwarder that asks
    /// for it, comma-separated: "any", or ARNs, in which * stands for any text without : and /,
    /// and {namespace} for the forwarder's namespace. Empty: none.
    #[arg(
        long,
        env = "EVENT_FORWARDER_AMBIENT_CREDENTIALS_ROLES",
        value_name = "ROLES",
        default_value = "any"
    )]
    pub ambient_credentials_roles: AllowedRoles,
    /// Where /metrics, /healthz and /readyz are served. The default is every address of the
    /// machine: by IPv6 and IPv4, or by IPv4 alone where there is no IPv6.
    #[arg(long, default_value = "[::]:8080")]
    pub listen: std::net::SocketAddr,
}

/// What a drain needs besides the queue and Iterable.
#[derive(clap::Args, Debug, Clone)]
pub struct DrainArgs {
    /// The EventForwarder, as a manifest in YAML or JSON.
    #[arg(long)]
    pub forwarder: PathBuf,
    /// A file that holds Iterable's API key.
    #[arg(long)]
    pub api_key_file: PathBuf,
    /// A folder with the files accessKeyId, secretAccessKey and sessionToken. Left out: the
    /// ambient AWS identity.
    #[arg(long)]
    pub aws_credentials_dir: Option<PathBuf>,
    /// The jq program, where the forwarder refers to a ConfigMap for it.
    #[arg(long, value_name = "FILE")]
    pub transform: Option<PathBuf>,
    /// Where the report is written at the end of the run, as JSON of at most 4,096 bytes.
    #[arg(long)]
    pub report_file: Option<PathBuf>,
}

/// Whose dead letters, and what to do with them.
#[derive(clap::Args, Debug, Clone)]
pub struct DlqArgs {
    /// The name of an EventForwarder in the cluster of the current kubeconfig: its queue and
    /// its credentials Secret are read from there.
    #[arg(
        long,
        value_name = "NAME",
        required_unless_present = "file",
        conflicts_with = "file"
    )]
    pub forwarder: Option<String>,
    /// The namespace of the forwarder. Left out: that of the current context.
    #[arg(short, long, requires = "forwarder")]
    pub namespace: Option<String>,
    /// An EventForwarder as a manifest in YAML or JSON, in place of the cluster.
    #[arg(short, long)]
    pub file: Option<PathBuf>,
    /// A folder with the files accessKeyId, secretAccessKey and sessionToken. Left out: the
    /// forwarder's own Secret, or the AWS identity of the surroundings.
    #[arg(long, value_name = "DIR")]
    pub aws_credentials_dir: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub action: DlqAction,
}

/// What to do with dead letters.
#[derive(Subcommand, Debug, Clone)]
pub enum DlqAction {
    /// Count the dead letters by reason, with their ages and a sample of each.
    List {
        /// Which ones.
        #[command(flatten)]
        filter: DlqFilter,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print one dead letter.
    Show {
        /// The id that SQS gave it, as `list` shows it.
        id: String,
    },
    /// Send dead letters back to the main queue. One that was sent is then deleted here, so a
    /// command that is interrupted can be given again.
    Redrive {
        /// Which ones.
        #[command(flatten)]
        filter: DlqFilter,
        /// Only say what would be sent.
        #[arg(long)]
        dry_run: bool,
    },
    /// Delete dead letters for good.
    Purge {
        /// Which ones.
        #[command(flatten)]
        filter: DlqFilter,
        /// Don't ask first.
        #[arg(long)]
        yes: bool,
    },
}

/// Which dead letters.
#[derive(clap::Args, Debug, Clone, Default)]
pub struct DlqFilter {
    /// Only those with this reason; may be given several times.
    #[arg(long)]
    pub reason: Vec<String>,
    /// Only those that were put here at least so long ago, for example 90m.
    #[arg(long, value_name = "AGE")]
    pub older_than: Option<Duration>,
    /// Only those that were put here at most so long ago, for example 24h.
    #[arg(long, value_name = "AGE")]
    pub newer_than: Option<Duration>,
}

/// What to map, and how to show it. The exit code is 0 if nothing was rejected, 3 if something
/// was, and 2 if the command can't be carried out.
#[derive(clap::Args, Debug, Clone)]
pub struct MapArgs {
    /// The EventForwarder whose mapping is used, as a manifest in YAML or JSON; a field that
    /// does not exist is refused. Left out: the defaults.
    #[arg(long, value_name = "FILE")]
    pub forwarder: Option<PathBuf>,
    /// The jq program, where the forwarder refers to a ConfigMap for it.
    #[arg(long, value_name = "FILE")]
    pub transform: Option<PathBuf>,
    /// The batches.
    #[command(flatten)]
    pub batches: BatchArgs,
}

/// Which batches are mapped, and how the result is shown.
#[derive(clap::Args, Debug, Clone)]
pub struct BatchArgs {
    /// When the queue is taken to have received the batches, by which absurd clocks are told.
    /// Example: 2025-11-25T08:00:00Z. Left out: each batch's own time.
    #[arg(long, value_name = "TIME")]
    pub sent_at: Option<jiff::Timestamp>,
    /// How the result is shown. Left out: table on a terminal, json elsewhere.
    #[arg(short, long, value_enum)]
    pub output: Option<MapOutput>,
    /// Files with mParticle batches, or directories of them; "-" or nothing for standard input.
    /// A file holds one message body, which may be several JSON values; in files named .jsonl
    /// and .ndjson each line is a body, and on standard input too where it holds JSON lines.
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
}

/// How `map` shows its result.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapOutput {
    /// One request body a line, as a drain would post it.
    Json,
    /// One JSON object a line for each event of the input: where it stands, its type, its
    /// outcome, the reason, and the event.
    Events,
    /// A readable line for each event of the input.
    Table,
}
