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

/// Installs a server, from the repository's root.
const SETUP: &str = "tests/sqs/setup";

/// The region that every server here believes to be in.
const REGION: &str = "us-east-1";

/// ElasticMQ's Java machine takes a second or two on an idle machine, and many on a busy one.
const START_WITHIN: Duration = Duration::from_secs(60);

/// What can go wrong with an SQS server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `tests/sqs/setup` failed; its own output says why.
    #[error("{} could not install {server}", script.display())]
    Setup {
        /// The server it was asked for.
        server: Kind,
        /// The script.
        script: PathBuf,
    },
    /// A process, a file or a socket of this machine could not be used.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The server ended, or said nothing, before it listened.
    #[error("{server} did not start listening on {listen}; its log ends with:\n{log}")]
    NotListening {
        /// The server.
        server: Kind,
        /// Where it was to listen.
        listen: SocketAddr,
        /// The last lines it printed.
        log: String,
    },
    /// The server ended by itself.
    #[error("{server} ended; its log:\n{log}")]
    Ended {
        /// The server.
        server: Kind,
        /// All that it printed.
        log: String,
    },
    /// SQS refused an operation, or did not answer it.
    #[error("{operation}: {}", DisplayErrorContext(source))]
    Sqs {
        /// SQS' name of the operation.
        operation: &'static str,
        /// The SDK's error, with its causes.
        source: Box<aws_sdk_sqs::Error>,
    },
    /// `SendMessageBatch` took only a part of the batch.
    #[error("SendMessageBatch refused {refused} of {sent} messages, the first with: {reason}")]
    Refused {
        /// How many messages the batch held.
        sent: usize,
        /// How many of them were refused.
        refused: usize,
        /// Why the first of those was refused.
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
    /// Python; the nearest to SQS in its answers, and slow: keep its queues under a few hundred messages.
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
    /// Every server, for tests that run on each.
    pub const ALL: [Self; 3] = [Self::Moto, Self::Fauxqs, Self::ElasticMq];

    /// What the server prints right before the address, once it listens there.
    pub(super) fn says_before_address(self) -> &'static str {
        match self {
            Self::Moto => "Running on http://",
            Self::Fauxqs => "listening on http://",
            Self::ElasticMq => "Started SQS rest server, bind address ",
        }
    }

    /// Port 0 makes each of the three pick a free port and print it.
    fn command(self, folder: &Path, listen: SocketAddr) -> Command {
        let (host, port) = (listen.ip().to_string(), listen.port().to_string());
        let mut command;
        match self {
            Self::Moto => {
                command = Command::new(folder.join("bin/python"));
                command
                    .args(["-u", "-m", "moto.server", "-H", &host, "-p", &port])
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

/// A running SQS server, empty at its start and gone when dropped, with all that it held.
///
/// It also ends when the process that started it ends in any way.
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

    /// Starts a server, installing it first if need be, and waits until it answers.
    ///
    /// `listen` is an address that clients reach too, since queue URLs carry it: `0.0.0.0` won't do.
    /// With port 0 the server picks a free one.
    pub async fn start(kind: Kind, listen: SocketAddr) -> Result<Self, Error> {
        let folder = set_up(kind).await?;
        let process =
            ServerProcess::start(kind, kind.command(&folder, listen), listen, START_WITHIN).await?;
        let server = Self { kind, process };
        server
            .client()
            .list_queues()
            .send()
            .await
            .map_err(Error::sqs("ListQueues"))?;
        Ok(server)
    }

    /// Which server this is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The server's base URL, such as `http://127.0.0.1:9324`: what a client takes as its endpoint.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.process.address())
    }

    /// What the server has printed so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Waits until the server ends by itself, which it does only by a fault of its own.
    pub async fn ended(&mut self) -> Error {
        self.process.ended().await;
        Error::Ended {
            server: self.kind,
            log: self.process.log(),
        }
    }

    /// A [`client`] of this server.
    pub fn client(&self) -> Client {
        client(&self.endpoint())
    }

    /// Creates the queue `name` and its dead-letter queue `name-dlq` (`.fifo` is added to both for FIFO queues).
    pub async fn create_queue_with_dlq(
        &self,
        name: &str,
        attributes: Attributes,
    ) -> Result<Queue, Error> {
        Queue::create_with_dlq(self.client(), name, attributes).await
    }
}

/// Runs `tests/sqs/setup`, which prints the folder that holds the server.
///
/// It is looked for from the working directory upwards. The folder in which this was compiled may
/// be another checkout's: cargo takes what it has built for one as built for all that share a
/// target folder.
async fn set_up(server: Kind) -> Result<PathBuf, Error> {
    let here = std::env::current_dir().map_err(Error::io("cannot tell the working directory"))?;
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

/// A client of an SQS server, with made-up credentials, a time limit on each call and no retries.
///
/// Make one in each async runtime: its connections don't outlive the runtime that opened them.
pub fn client(endpoint: &str) -> Client {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(3))
        // Longer than the longest wait of a receive, 20 s.
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
