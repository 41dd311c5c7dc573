//! The command-line interface.

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
    /// The command to execute.
    #[command(subcommand)]
    pub command: Command,
}

/// Commands of the binary.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Print the EventForwarder CustomResourceDefinition (CRD) as YAML.
    Crd,
    /// Reconcile EventForwarders into CronJobs and update their status.
    Controller(ControllerArgs),
    /// Drain the queue of one EventForwarder into Iterable, once.
    Drain(DrainArgs),
    /// Preview the mapping of mParticle batches, without a network, a cluster, or an API key.
    ///
    /// The exit code is 0 if nothing was rejected, 3 if something was rejected, and 2 if the
    /// command failed.
    Map(MapArgs),
    /// List, show, redrive, or purge the dead-lettered messages of one EventForwarder.
    ///
    /// If some messages could not be read, the command processes the others, reports it, and exits
    /// with code 1.
    Dlq(DlqArgs),
    /// Print a shell completion script.
    Completion {
        /// Shell to complete commands in.
        shell: clap_complete::Shell,
    },
}

/// Arguments of the controller.
#[derive(clap::Args, Debug, Clone)]
pub struct ControllerArgs {
    /// Image of the runs, unless an EventForwarder sets another one.
    #[arg(long, env = "EVENT_FORWARDER_IMAGE")]
    pub image: String,
    /// Namespaces to watch, comma-separated. If unset, watches all.
    #[arg(long, env = "EVENT_FORWARDER_WATCH_NAMESPACES", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,
    /// Namespace of the leader-election lease. If unset, the controller runs without leader
    /// election, as a single replica.
    #[arg(long, env = "EVENT_FORWARDER_LEASE_NAMESPACE")]
    pub lease_namespace: Option<String>,
    /// Name of the leader-election lease, shared by all replicas of one installation only.
    #[arg(
        long,
        env = "EVENT_FORWARDER_LEASE_NAME",
        default_value = "event-forwarder"
    )]
    pub lease_name: String,
    /// Unique name of this replica in the lease.
    #[arg(long, env = "POD_NAME", default_value = "event-forwarder")]
    pub identity: String,
    /// Hosts that receive requests signed with the controller's ambient AWS credentials,
    /// comma-separated: "aws" for SQS endpoints of AWS over HTTPS, or addresses such as
    /// https://sqs.example.com. https://*.example.com matches all names below example.com. If
    /// empty, none. Queues on other hosts need credentials from their EventForwarder.
    #[arg(
        long,
        env = "EVENT_FORWARDER_AMBIENT_CREDENTIALS_HOSTS",
        value_name = "HOSTS",
        default_value = "aws"
    )]
    pub ambient_credentials_hosts: AllowedHosts,
    /// Roles that the controller can assume with its ambient AWS credentials for an EventForwarder,
    /// comma-separated: "any", or ARNs. In an ARN, * matches any characters except : and /, and
    /// {namespace} matches the namespace of the EventForwarder. If empty, none.
    #[arg(
        long,
        env = "EVENT_FORWARDER_AMBIENT_CREDENTIALS_ROLES",
        value_name = "ROLES",
        default_value = "any"
    )]
    pub ambient_credentials_roles: AllowedRoles,
    /// Address of /metrics, /healthz, and /readyz. The default is all addresses of the machine:
    /// IPv6 and IPv4, or only IPv4 if the machine has no IPv6.
    #[arg(long, default_value = "[::]:8080")]
    pub listen: std::net::SocketAddr,
}

/// Arguments of a drain.
#[derive(clap::Args, Debug, Clone)]
pub struct DrainArgs {
    /// Manifest of the EventForwarder, in YAML or JSON.
    #[arg(long)]
    pub forwarder: PathBuf,
    /// File that contains the Iterable API key.
    #[arg(long)]
    pub api_key_file: PathBuf,
    /// Directory with the files accessKeyId, secretAccessKey, and, if temporary, sessionToken. If
    /// unset, uses the default AWS credential chain.
    #[arg(long)]
    pub aws_credentials_dir: Option<PathBuf>,
    /// File with the jq program, if the EventForwarder references a ConfigMap.
    #[arg(long, value_name = "FILE")]
    pub transform: Option<PathBuf>,
    /// File to write the report to when the run ends, as JSON of at most 4,096 bytes.
    #[arg(long)]
    pub report_file: Option<PathBuf>,
}

/// Arguments of the DLQ commands.
#[derive(clap::Args, Debug, Clone)]
pub struct DlqArgs {
    /// Name of an EventForwarder in the cluster of the current kubeconfig context. Its queue and
    /// its credentials Secret are read from the cluster.
    #[arg(
        long,
        value_name = "NAME",
        required_unless_present = "file",
        conflicts_with = "file"
    )]
    pub forwarder: Option<String>,
    /// Namespace of the EventForwarder. If unset, the namespace of the current context.
    #[arg(short, long, requires = "forwarder")]
    pub namespace: Option<String>,
    /// Manifest of an EventForwarder, in YAML or JSON, instead of one in a cluster.
    #[arg(short, long)]
    pub file: Option<PathBuf>,
    /// Directory with the files accessKeyId, secretAccessKey, and, if temporary, sessionToken. If
    /// unset, uses the forwarder's Secret, or the default AWS credential chain.
    #[arg(long, value_name = "DIR")]
    pub aws_credentials_dir: Option<PathBuf>,
    /// The command to execute.
    #[command(subcommand)]
    pub action: DlqAction,
}

/// Commands for dead-lettered messages.
#[derive(Subcommand, Debug, Clone)]
pub enum DlqAction {
    /// Count the dead-lettered messages by reason, with their ages and a sample for each reason.
    List {
        /// Messages to select.
        #[command(flatten)]
        filter: DlqFilter,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print one dead-lettered message.
    Show {
        /// Message ID in SQS, as shown by `list`.
        id: String,
    },
    /// Send dead-lettered messages back to the main queue. Each message is deleted from the DLQ
    /// after it was sent, so you can repeat an interrupted command.
    Redrive {
        /// Messages to select.
        #[command(flatten)]
        filter: DlqFilter,
        /// Only print what would be sent.
        #[arg(long)]
        dry_run: bool,
    },
    /// Permanently delete dead-lettered messages.
    Purge {
        /// Messages to select.
        #[command(flatten)]
        filter: DlqFilter,
        /// Skip the confirmation prompt.
        #[arg(long)]
        yes: bool,
    },
}

/// Selection of dead-lettered messages.
#[derive(clap::Args, Debug, Clone, Default)]
pub struct DlqFilter {
    /// Only messages with this reason. Can be repeated.
    #[arg(long)]
    pub reason: Vec<String>,
    /// Only messages sent at least this long ago, for example 90m. The age of a message that SQS
    /// moved from a standard queue counts from its first send.
    #[arg(long, value_name = "AGE")]
    pub older_than: Option<Duration>,
    /// Only messages sent at most this long ago, for example 24h.
    #[arg(long, value_name = "AGE")]
    pub newer_than: Option<Duration>,
}

/// Arguments of the mapping preview.
#[derive(clap::Args, Debug, Clone)]
pub struct MapArgs {
    /// Manifest of the EventForwarder whose mapping is used, in YAML or JSON. Unknown fields are
    /// errors. If unset, uses the default mapping.
    #[arg(long, value_name = "FILE")]
    pub forwarder: Option<PathBuf>,
    /// File with the jq program, if the EventForwarder references a ConfigMap.
    #[arg(long, value_name = "FILE")]
    pub transform: Option<PathBuf>,
    /// Batches to map.
    #[command(flatten)]
    pub batches: BatchArgs,
}

/// Batches to map, and the output format.
#[derive(clap::Args, Debug, Clone)]
pub struct BatchArgs {
    /// The time to assume that the queue received the batches, used to detect implausible event
    /// times. Example: 2025-11-25T08:00:00Z. If unset, uses each batch's time.
    #[arg(long, value_name = "TIME")]
    pub sent_at: Option<jiff::Timestamp>,
    /// Output format. If unset, table on a terminal, otherwise json.
    #[arg(short, long, value_enum)]
    pub output: Option<MapOutput>,
    /// Files or directories with mParticle batches. If unset or "-", reads standard input. A file
    /// is one message body, which can contain several JSON values. In files named .jsonl or
    /// .ndjson, and in standard input that contains JSON lines, each line is a message body.
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
}

/// Output format of the mapping preview.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapOutput {
    /// One request body per line, as a drain would send it.
    Json,
    /// One JSON object per line for each input event: its position, type, outcome, reason, and the
    /// mapped event.
    Events,
    /// One readable line per input event.
    Table,
}
