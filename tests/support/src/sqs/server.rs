use std::{
    ffi::OsString,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use aws_sdk_sqs::{
    Client,
    config::{BehaviorVersion, Credentials, Region, retry::RetryConfig, timeout::TimeoutConfig},
    error::DisplayErrorContext,
};

use super::{Attributes, Queue, process::ServerProcess};

/// The script that installs a server, relative to the repository's root.
const SETUP: &str = "tests/sqs/setup";

/// The region of every server.
const REGION: &str = "us-east-1";

/// ElasticMQ's JVM starts in one or two seconds on an idle machine, and much later on a busy one.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Errors of starting and using an SQS server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `tests/sqs/setup` failed and printed why.
    #[error("{} could not install {server}", script.display())]
    Setup {
        /// The server to install.
        server: Kind,
        /// The path of `tests/sqs/setup`.
        script: PathBuf,
    },
    /// A process, a file or a socket failed.
    #[error("{what}: {source}")]
    Io {
        /// The operation that failed.
        what: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The server ended before it listened, or did not listen in time.
    #[error("{server} did not start listening on {listen}; its log ends with:\n{log}")]
    NotListening {
        /// The server.
        server: Kind,
        /// The requested address.
        listen: SocketAddr,
        /// The last lines it printed.
        log: String,
    },
    /// The server ended unexpectedly.
    #[error("{server} ended; its log:\n{log}")]
    Ended {
        /// The server.
        server: Kind,
        /// Its complete output.
        log: String,
    },
    /// SQS rejected an operation, or did not answer.
    #[error("{operation}: {}", DisplayErrorContext(source))]
    Sqs {
        /// The operation's name in SQS.
        operation: &'static str,
        /// The SDK's error, with its causes.
        source: Box<aws_sdk_sqs::Error>,
    },
    /// `SendMessageBatch` accepted only a part of the batch.
    #[error("SendMessageBatch rejected {rejected} of {sent} messages, the first with: {reason}")]
    Rejected {
        /// Number of messages in the batch.
        sent: usize,
        /// Number of rejected messages.
        rejected: usize,
        /// The reason for the first rejected message.
        reason: String,
    },
}

impl Error {
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    pub(super) fn sqs<E: Into<aws_sdk_sqs::Error>>(
        operation: &'static str,
    ) -> impl FnOnce(E) -> Self {
        move |error| Self::Sqs {
            operation,
            source: Box::new(error.into()),
        }
    }
}

/// The SQS servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Kind {
    /// Python. Its answers are the most similar to SQS, but it is slow: keep its queues under a few
    /// hundred messages.
    Moto,
    /// Node.js.
    Fauxqs,
    /// Scala on Java.
    #[value(name = "elasticmq")]
    ElasticMq,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Moto => "moto",
            Self::Fauxqs => "fauxqs",
            Self::ElasticMq => "elasticmq",
        })
    }
}

impl Kind {
    /// All servers.
    pub const ALL: [Self; 3] = [Self::Moto, Self::Fauxqs, Self::ElasticMq];

    /// Returns the text that the server prints directly before its address when it listens.
    pub(super) fn listening_prefix(self) -> &'static str {
        match self {
            Self::Moto => "Running on http://",
            Self::Fauxqs => "listening on http://",
            Self::ElasticMq => "Started SQS rest server, bind address ",
        }
    }

    /// Returns the command that starts the server. With port 0, every server picks a free port and
    /// prints it.
    fn command(self, folder: &Path, listen: SocketAddr) -> Command {
        let (host, port) = (listen.ip().to_string(), listen.port().to_string());
        let mut command;
        match self {
            Self::Moto => {
                command = Command::new(folder.join("bin/python"));
                command
                    .args(["-u", "serve.py", "-H", &host, "-p", &port])
                    .current_dir(folder);
            }
            Self::Fauxqs => {
                command = Command::new("node");
                command.arg(folder.join("serve.mjs")).args([host, port]);
            }
            Self::ElasticMq => {
                command = Command::new("java");
                command
                    .arg(format!("-Drest-sqs.bind-hostname={host}"))
                    .arg(format!("-Drest-sqs.bind-port={port}"))
                    .arg("-Dgenerate-node-address=true")
                    .arg(format!("-Daws.region={REGION}"))
                    .arg("-cp")
                    .arg(OsString::from_iter([
                        folder.join("lib").as_os_str(),
                        "/*".as_ref(),
                    ]))
                    .arg("org.elasticmq.server.Main");
            }
        }
        command
    }
}

/// A running SQS server. It starts empty and ends when dropped.
///
/// It also ends when its parent process ends, even after SIGKILL.
#[derive(Debug)]
pub struct SqsServer {
    kind: Kind,
    process: ServerProcess,
}

impl SqsServer {
    /// Starts moto on a free port of the loopback address.
    pub async fn moto() -> Result<Self, Error> {
        Self::start(Kind::Moto, (Ipv4Addr::LOCALHOST, 0).into()).await
    }

    /// Starts fauxqs on a free port of the loopback address.
    pub async fn fauxqs() -> Result<Self, Error> {
        Self::start(Kind::Fauxqs, (Ipv4Addr::LOCALHOST, 0).into()).await
    }

    /// Starts ElasticMQ on a free port of the loopback address.
    pub async fn elasticmq() -> Result<Self, Error> {
        Self::start(Kind::ElasticMq, (Ipv4Addr::LOCALHOST, 0).into()).await
    }

    /// Starts a server, installing it first if necessary, and waits until it answers.
    ///
    /// Queue URLs contain `listen`, so it must be reachable by clients: `0.0.0.0` does not work.
    /// With port 0, the server picks a free port.
    pub async fn start(kind: Kind, listen: SocketAddr) -> Result<Self, Error> {
        let folder = set_up(kind).await?;
        let process =
            ServerProcess::start(kind, kind.command(&folder, listen), listen, START_TIMEOUT)
                .await?;
        let server = Self { kind, process };
        server
            .client()
            .list_queues()
            .send()
            .await
            .map_err(Error::sqs("ListQueues"))?;
        Ok(server)
    }

    /// Returns the kind of this server.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the base URL, such as `http://127.0.0.1:9324`, which is a client's endpoint.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.process.address())
    }

    /// Returns the output so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Waits until the server ends unexpectedly, and returns this error.
    pub async fn ended(&mut self) -> Error {
        self.process.ended().await;
        Error::Ended {
            server: self.kind,
            log: self.process.log(),
        }
    }

    /// Creates a [`client`] of this server.
    pub fn client(&self) -> Client {
        client(&self.endpoint())
    }

    /// Creates the queue `name` and its dead-letter queue `name-dlq`, with the suffix `.fifo` for
    /// FIFO queues.
    pub async fn create_queue_with_dlq(
        &self,
        name: &str,
        attributes: Attributes,
    ) -> Result<Queue, Error> {
        Queue::create_with_dlq(self.client(), name, attributes).await
    }
}

/// Runs `tests/sqs/setup` and returns the folder of the server that it prints.
///
/// Searches the script in the working directory and its parents. The compile-time folder can belong
/// to another checkout, because cargo shares builds between checkouts with one target folder.
pub async fn set_up(server: Kind) -> Result<PathBuf, Error> {
    let here = std::env::current_dir().map_err(Error::io("cannot get the working directory"))?;
    let script = here
        .ancestors()
        .map(|folder| folder.join(SETUP))
        .find(|script| script.exists())
        .unwrap_or_else(|| SETUP.into());
    let output = tokio::process::Command::new(&script)
        .arg(server.to_string())
        .stderr(std::process::Stdio::inherit())
        .output()
        .await
        .map_err(Error::io(format!("cannot run {}", script.display())))?;
    if !output.status.success() {
        return Err(Error::Setup { server, script });
    }
    Ok(PathBuf::from(
        String::from_utf8_lossy(&output.stdout).trim(),
    ))
}

/// Creates a client of an SQS server, with fake credentials, a timeout per call and no retries.
///
/// Create one per async runtime: its connections don't outlive the runtime that opened them.
pub fn client(endpoint: &str) -> Client {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(3))
        // Longer than the longest wait of a receive (20 s).
        .operation_attempt_timeout(Duration::from_secs(30))
        .build();
    Client::from_conf(
        aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static(REGION))
            .credentials_provider(Credentials::from_keys("test", "test", None))
            .endpoint_url(endpoint)
            .timeout_config(timeouts)
            .retry_config(RetryConfig::disabled())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build(),
    )
}
