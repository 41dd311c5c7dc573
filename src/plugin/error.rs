use std::{io, process::ExitCode};

use crate::dlq::{DlqError, queues::QueuePairError};

/// Why a command of the plugin could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// There is no usable kubeconfig.
    #[error(
        "no way to a cluster: {0}. Set KUBECONFIG, or see `kubectl config get-contexts` for what --context can name"
    )]
    NoKubeconfig(String),
    /// The API server does not answer.
    #[error(
        "the API server {server} does not answer: {cause}. Check the network, a VPN, and `kubectl config current-context`"
    )]
    Unreachable {
        /// Its address.
        server: String,
        /// What happened.
        cause: String,
    },
    /// The API server does not know who asks.
    #[error("the API server {server} does not know you: {message}. Log in again")]
    Unauthenticated {
        /// Its address.
        server: String,
        /// Its words, or those of the program that logs in.
        message: String,
    },
    /// The person may not do this.
    #[error("you may not {call}: {message}. Ask whoever grants rights in the cluster for this one")]
    Forbidden {
        /// A verb and an object.
        call: String,
        /// The API server's words.
        message: String,
    },
    /// The cluster lacks the resource's definition.
    #[error(
        "the cluster at {server} does not know EventForwarders: install the operator by its chart, or choose another cluster with --context"
    )]
    CrdMissing {
        /// The API server's address.
        server: String,
    },
    /// There is no such forwarder.
    #[error("namespace {namespace} has no EventForwarder {name}. {hint}")]
    NoSuchForwarder {
        /// The namespace.
        namespace: String,
        /// The name that was given.
        name: String,
        /// What may have been meant.
        hint: String,
    },
    /// The API server message no to something else.
    #[error("the API server refused to {call}: {message}")]
    Rejected {
        /// A verb and an object.
        call: String,
        /// Its words.
        message: String,
    },
    /// The answer is not what this version expects.
    #[error(
        "the answer can't be read when asked to {call}: {cause}. Bring the plugin and the operator to one version"
    )]
    Unreadable {
        /// A verb and an object.
        call: String,
        /// What is wrong with it.
        cause: String,
    },
    /// No run can start now.
    #[error("no run was started: {0}")]
    RunBlocked(String),
    /// The controller did not start the run that was asked for.
    #[error(
        "the controller has not taken up the request within {seconds} s. Is it running, and does it watch this namespace? See `kubectl get pods --all-namespaces -l app.kubernetes.io/name=event-forwarder`. The request stands until `kubectl annotate eventforwarder {name} --namespace {namespace} {annotation}-` takes it back"
    )]
    RunNotStarted {
        /// The forwarder.
        name: String,
        /// Its namespace.
        namespace: String,
        /// The annotation that holds the request.
        annotation: &'static str,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The run took longer than the person wanted to wait.
    #[error(
        "Job {job} has not ended within {timeout}; it goes on. Look again with `kubectl forwarder status {name} --namespace {namespace}`"
    )]
    StillRunning {
        /// The run's Job.
        job: String,
        /// How long it was waited for.
        timeout: String,
        /// The forwarder.
        name: String,
        /// Its namespace.
        namespace: String,
    },
    /// The forwarder's queues can't be found.
    #[error(transparent)]
    Queues(#[from] QueuePairError),
    /// A command on dead letters failed.
    #[error(transparent)]
    Dlq(#[from] DlqError),
    /// The output can't be written.
    #[error("the output can't be written: {0}")]
    Output(#[from] io::Error),
}

/// The exit code of a run that left no report.
pub const RUN_LOST_EXIT_CODE: u8 = 48;

impl PluginError {
    /// The process's exit code: none that a run, `map` or bad usage ends with.
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
            // 48 is LOST.
            Self::RunNotStarted { .. } => 49,
            Self::StillRunning { .. } => 50,
        })
    }
}
