use std::{io, process::ExitCode};

use crate::dlq::{DlqError, queues::QueuePairError};

/// Why a command of the plugin could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// There is no usable kubeconfig.
    #[error(
        "can't connect to a cluster: {0}. Set KUBECONFIG, or see `kubectl config get-contexts` for the values of --context"
    )]
    NoKubeconfig(String),
    /// The API server does not answer.
    #[error(
        "can't reach the API server {server}: {cause}. Check the network, the VPN, and `kubectl config current-context`"
    )]
    Unreachable {
        /// Its address.
        server: String,
        /// What happened.
        cause: String,
    },
    /// The API server does not know who asks.
    #[error("authentication to API server {server} failed: {message}. Log in again")]
    Unauthenticated {
        /// Its address.
        server: String,
        /// Its words, or those of the program that logs in.
        message: String,
    },
    /// The person may not do this.
    #[error(
        "you are not allowed to {call}: {message}. Ask a cluster administrator for this permission"
    )]
    Forbidden {
        /// A verb and an object.
        call: String,
        /// The API server's words.
        message: String,
    },
    /// The cluster lacks the resource's definition.
    #[error(
        "EventForwarder CRD not found in the cluster at {server}: install the operator with its chart, or select another cluster with --context"
    )]
    CrdMissing {
        /// The API server's address.
        server: String,
    },
    /// There is no such forwarder.
    #[error("EventForwarder {name} not found in namespace {namespace}. {hint}")]
    NoSuchForwarder {
        /// The namespace.
        namespace: String,
        /// The name that was given.
        name: String,
        /// What may have been meant.
        hint: String,
    },
    /// The API server message no to something else.
    #[error("the API server rejected the request to {call}: {message}")]
    Rejected {
        /// A verb and an object.
        call: String,
        /// Its words.
        message: String,
    },
    /// The answer is not what this version expects.
    #[error(
        "failed to {call}: can't parse the response: {cause}. Install the same version of the plugin and the operator"
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
        "the controller did not start the run within {seconds} s. Check that it is running and watches this namespace: `kubectl get pods --all-namespaces -l app.kubernetes.io/name=event-forwarder`. To cancel the request, run `kubectl annotate eventforwarder {name} --namespace {namespace} {annotation}-`"
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
        "Job {job} did not finish within {timeout} and is still running. Check it with `kubectl forwarder status {name} --namespace {namespace}`"
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
    #[error("can't write the output: {0}")]
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
