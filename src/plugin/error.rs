use std::{io, process::ExitCode};

use crate::dlq::{DlqError, queues::QueuePairError};

/// The error of a plugin command.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// No usable kubeconfig.
    #[error(
        "can't connect to a cluster: {0}. Set KUBECONFIG, or see `kubectl config get-contexts` for the values of --context"
    )]
    NoKubeconfig(String),
    /// The API server can't be reached.
    #[error(
        "can't reach the API server {server}: {cause}. Check the network, the VPN, and `kubectl config current-context`"
    )]
    Unreachable {
        /// The API server's address.
        server: String,
        /// The cause.
        cause: String,
    },
    /// Authentication failed.
    #[error("authentication to API server {server} failed: {message}. Log in again")]
    Unauthenticated {
        /// The API server's address.
        server: String,
        /// The message of the API server or of the credential plugin.
        message: String,
    },
    /// The user is not allowed to do this.
    #[error(
        "you are not allowed to {call}: {message}. Ask a cluster administrator for this permission"
    )]
    Forbidden {
        /// A verb and an object.
        call: String,
        /// The API server's message.
        message: String,
    },
    /// The cluster lacks the CRD.
    #[error(
        "EventForwarder CRD not found in the cluster at {server}: install the operator with its chart, or select another cluster with --context"
    )]
    CrdMissing {
        /// The API server's address.
        server: String,
    },
    /// The forwarder does not exist.
    #[error("EventForwarder {name} not found in namespace {namespace}. {hint}")]
    NoSuchForwarder {
        /// The namespace.
        namespace: String,
        /// The requested name.
        name: String,
        /// A suggestion.
        hint: String,
    },
    /// Another request failed.
    #[error("the API server rejected the request to {call}: {message}")]
    Rejected {
        /// A verb and an object.
        call: String,
        /// The API server's message.
        message: String,
    },
    /// The response can't be parsed by this version.
    #[error(
        "failed to {call}: can't parse the response: {cause}. Install the same version of the plugin and the operator"
    )]
    Unreadable {
        /// A verb and an object.
        call: String,
        /// The cause.
        cause: String,
    },
    /// A run can't start now.
    #[error("no run was started: {0}")]
    RunBlocked(String),
    /// The controller did not start the requested run.
    #[error(
        "the controller did not start the run within {seconds} s. Check that it is running and watches this namespace: `kubectl get pods --all-namespaces -l app.kubernetes.io/name=event-forwarder`. To cancel the request, run `kubectl annotate eventforwarder {name} --namespace {namespace} {annotation}-`"
    )]
    RunNotStarted {
        /// The forwarder's name.
        name: String,
        /// Its namespace.
        namespace: String,
        /// The annotation that holds the request.
        annotation: &'static str,
        /// The time waited, in seconds.
        seconds: u64,
    },
    /// The run did not finish within `--timeout`.
    #[error(
        "Job {job} has not finished within {timeout}, and continues. Check it with `kubectl forwarder status {name} --namespace {namespace}`"
    )]
    StillRunning {
        /// The run's Job.
        job: String,
        /// The value of `--timeout`.
        timeout: String,
        /// The forwarder's name.
        name: String,
        /// Its namespace.
        namespace: String,
    },
    /// The forwarder's queues can't be found.
    #[error(transparent)]
    Queues(#[from] QueuePairError),
    /// A command on the dead-letter queue failed.
    #[error(transparent)]
    Dlq(#[from] DlqError),
    /// The output can't be written.
    #[error("can't write the output: {0}")]
    Output(#[from] io::Error),
}

/// The exit code of a run that ended without a report.
pub const RUN_LOST_EXIT_CODE: u8 = 48;

impl PluginError {
    /// Returns the process's exit code, which differs from those of a run, `map` and bad usage.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Queues(_) | Self::Dlq(_) | Self::Output(_) => 1,
            Self::NoKubeconfig(_) => 40,
            Self::Unreachable { .. } => 41,
            Self::Unauthenticated { .. } => 42,
            Self::Forbidden { .. } => 43,
            Self::CrdMissing { .. } => 44,
            Self::NoSuchForwarder { .. } => 45,
            Self::Rejected { .. } | Self::Unreadable { .. } => 46,
            Self::RunBlocked(_) => 47,
            // 48 is `RUN_LOST_EXIT_CODE`.
            Self::RunNotStarted { .. } => 49,
            Self::StillRunning { .. } => 50,
        })
    }
}
