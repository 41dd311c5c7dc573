//! The two queues of a forwarder, from the cluster or from a manifest.

use std::{fs, io, path::PathBuf, time::Duration};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tokio::time::timeout;

use crate::{
    api::{EventForwarder, QueueSpec},
    cli::DlqArgs,
    sqs::{Credentials, Error as QueueError, QueueClient},
};

/// Timeout of reads from the API server, because the client retries for minutes.
const CLUSTER_TIMEOUT: Duration = Duration::from_secs(15);

/// A forwarder's queues.
#[derive(Clone, Debug)]
pub struct QueuePair {
    /// The main queue.
    pub queue: QueueClient,
    /// The dead-letter queue.
    pub dead_letters: QueueClient,
}

/// The error of finding the queues.
#[derive(Debug, thiserror::Error)]
pub enum QueuePairError {
    /// The manifest can't be read.
    #[error("can't read {}: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: io::Error,
    },
    /// The manifest is not a valid EventForwarder.
    #[error("{} is not a valid EventForwarder: {detail}; for its fields, see `kubectl explain eventforwarder.spec`", path.display())]
    NoForwarder {
        /// The file.
        path: PathBuf,
        /// The cause.
        detail: String,
    },
    /// The forwarder can't be read.
    #[error("can't read EventForwarder {name} from the cluster: {cause}")]
    Forwarder {
        /// Its name.
        name: String,
        /// The cause.
        cause: String,
    },
    /// The API server does not respond.
    #[error(
        "the API server did not return EventForwarder {name} within {} s: check the network and the kubeconfig context, or use --file",
        CLUSTER_TIMEOUT.as_secs()
    )]
    NoAnswer {
        /// The forwarder's name.
        name: String,
    },
    /// The Secret can't be read.
    #[error(
        "can't read Secret {secret} from the cluster: {cause}. Ask for permission to get it, or use --aws-credentials-dir"
    )]
    Secret {
        /// Its name.
        secret: String,
        /// The cause.
        cause: String,
    },
    /// The Secret has no value for a key.
    #[error("Secret {secret} has no value for key {key}: add it, or use --aws-credentials-dir")]
    NoKey {
        /// The Secret's name.
        secret: String,
        /// The key.
        key: &'static str,
    },
    /// The queue has no dead-letter queue.
    #[error(
        "queue {0} has no dead-letter queue: add a redrive policy to it, or set spec.queue.deadLetterUrl"
    )]
    NoDeadLetterQueue(String),
    /// An SQS request failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl QueuePair {
    /// Finds the queues of the forwarder on the command line.
    pub async fn find(args: &DlqArgs) -> Result<Self, QueuePairError> {
        let explicit = args.aws_credentials_dir.clone().map(Credentials::Dir);
        let (spec, credentials) = match (&args.file, &args.forwarder) {
            (Some(path), _) => (read(path)?, explicit.unwrap_or(Credentials::Ambient)),
            (None, name) => {
                let name = name.as_deref().unwrap_or_default();
                let read = from_cluster(name, args.namespace.as_deref(), explicit);
                match timeout(CLUSTER_TIMEOUT, read).await {
                    Ok(found) => found?,
                    Err(_) => {
                        return Err(QueuePairError::NoAnswer {
                            name: name.to_owned(),
                        });
                    }
                }
            }
        };
        Self::from_spec(&spec, credentials).await
    }

    /// Returns the queues of a forwarder.
    pub async fn from_spec(
        spec: &QueueSpec,
        credentials: Credentials,
    ) -> Result<Self, QueuePairError> {
        let queue = QueueClient::connect(spec, credentials).await?;
        let dead_letters = queue
            .dead_letter_queue()
            .await?
            .ok_or_else(|| QueuePairError::NoDeadLetterQueue(spec.url.clone()))?;
        Ok(Self {
            queue,
            dead_letters,
        })
    }
}

fn read(path: &PathBuf) -> Result<QueueSpec, QueuePairError> {
    let text = fs::read_to_string(path).map_err(|cause| QueuePairError::Unreadable {
        path: path.clone(),
        cause,
    })?;
    serde_saphyr::from_str::<EventForwarder>(&text)
        .map(|forwarder| forwarder.spec.queue)
        .map_err(|error| QueuePairError::NoForwarder {
            path: path.clone(),
            detail: error.to_string(),
        })
}

async fn from_cluster(
    name: &str,
    namespace: Option<&str>,
    explicit: Option<Credentials>,
) -> Result<(QueueSpec, Credentials), QueuePairError> {
    let read_error = |error| QueuePairError::Forwarder {
        name: name.to_owned(),
        cause: api_message(error),
    };
    let client = Client::try_default().await.map_err(read_error)?;
    let namespace = namespace.unwrap_or(client.default_namespace()).to_owned();
    let forwarders: Api<EventForwarder> = Api::namespaced(client.clone(), &namespace);
    let queue = forwarders.get(name).await.map_err(read_error)?.spec.queue;
    let credentials = match explicit {
        Some(explicit) => explicit,
        None => credentials(client, &namespace, &queue).await?,
    };
    Ok((queue, credentials))
}

/// Returns the credentials in a forwarder's Secret. Returns the ambient credentials if it
/// references none.
pub async fn credentials(
    client: Client,
    namespace: &str,
    queue: &QueueSpec,
) -> Result<Credentials, QueuePairError> {
    let Some(reference) = &queue.credentials_secret_ref else {
        return Ok(Credentials::Ambient);
    };
    let secret = Api::<Secret>::namespaced(client, namespace)
        .get(&reference.name)
        .await
        .map_err(|error| QueuePairError::Secret {
            secret: format!("{namespace}/{}", reference.name),
            cause: api_message(error),
        })?;
    keys(&reference.name, &secret)
}

/// Returns the message of an API error, because its `Display` repeats all fields of the response.
fn api_message(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message,
        error => error.to_string(),
    }
}

fn keys(name: &str, secret: &Secret) -> Result<Credentials, QueuePairError> {
    let value = |key: &'static str| {
        let bytes = secret.data.as_ref()?.get(key)?;
        let text = std::str::from_utf8(&bytes.0).ok()?.trim();
        (!text.is_empty()).then(|| text.to_owned())
    };
    let required = |key| {
        value(key).ok_or_else(|| QueuePairError::NoKey {
            secret: name.to_owned(),
            key,
        })
    };
    Ok(Credentials::Keys {
        access_key_id: required("accessKeyId")?,
        secret_access_key: required("secretAccessKey")?,
        session_token: value("sessionToken"),
    })
}
