//! Where dead letters lie: the two queues of a forwarder, from the cluster or from a manifest.

use std::{fs, io, path::PathBuf};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use crate::{
    api::{EventForwarder, QueueSpec},
    cli::DlqArgs,
    sqs::{Credentials, Error as QueueError, QueueClient},
};

/// A forwarder's queues.
#[derive(Clone, Debug)]
pub struct Place {
    /// The queue that runs drain.
    pub queue: QueueClient,
    /// Its dead-letter queue.
    pub dead_letters: QueueClient,
}

/// Why the queues can't be found.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The manifest can't be read.
    #[error("{} can't be read: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The manifest is no EventForwarder.
    #[error("{} is no EventForwarder: {detail}", path.display())]
    NoForwarder {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The cluster can't be asked.
    #[error("{what} can't be read from the cluster: {cause}")]
    Cluster {
        /// What was asked for.
        what: String,
        /// What happened.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The Secret lacks a key.
    #[error("Secret {secret} has no {key}: give --aws-credentials-dir, or mend the Secret")]
    NoKey {
        /// The Secret's name.
        secret: String,
        /// The key.
        key: &'static str,
    },
    /// There is no dead-letter queue.
    #[error(
        "queue {0} has no dead-letter queue: give it a redrive policy, or set spec.queue.deadLetterUrl"
    )]
    NoDeadLetterQueue(String),
    /// SQS failed or refused.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl Place {
    /// Finds the queues that the command line names.
    pub async fn find(args: &DlqArgs) -> Result<Self, PlaceError> {
        let given = args.aws_credentials_dir.clone().map(Credentials::Dir);
        let (spec, credentials) = match (&args.file, &args.forwarder) {
            (Some(path), _) => (read(path)?, given.unwrap_or(Credentials::Ambient)),
            (None, name) => {
                let name = name.as_deref().unwrap_or_default();
                from_cluster(name, args.namespace.as_deref(), given).await?
            }
        };
        Self::of(&spec, credentials).await
    }

    /// The queues of a forwarder.
    pub async fn of(spec: &QueueSpec, credentials: Credentials) -> Result<Self, PlaceError> {
        let queue = QueueClient::connect(spec, credentials).await?;
        let dead_letters = queue
            .dead_letter_queue()
            .await?
            .ok_or_else(|| PlaceError::NoDeadLetterQueue(spec.url.clone()))?;
        Ok(Self {
            queue,
            dead_letters,
        })
    }
}

fn read(path: &PathBuf) -> Result<QueueSpec, PlaceError> {
    let text = fs::read_to_string(path).map_err(|cause| PlaceError::Unreadable {
        path: path.clone(),
        cause,
    })?;
    serde_saphyr::from_str::<EventForwarder>(&text)
        .map(|forwarder| forwarder.spec.queue)
        .map_err(|error| PlaceError::NoForwarder {
            path: path.clone(),
            detail: error.to_string(),
        })
}

async fn from_cluster(
    name: &str,
    namespace: Option<&str>,
    given: Option<Credentials>,
) -> Result<(QueueSpec, Credentials), PlaceError> {
    let failed = |what: String| {
        move |cause: kube::Error| PlaceError::Cluster {
            what,
            cause: Box::new(cause),
        }
    };
    let client = Client::try_default()
        .await
        .map_err(failed(format!("EventForwarder {name}")))?;
    let namespace = namespace.unwrap_or(client.default_namespace()).to_owned();
    let forwarders: Api<EventForwarder> = Api::namespaced(client.clone(), &namespace);
    let forwarder = forwarders
        .get(name)
        .await
        .map_err(failed(format!("EventForwarder {namespace}/{name}")))?;
    let queue = forwarder.spec.queue;
    let credentials = match (given, &queue.credentials_secret_ref) {
        (Some(given), _) => given,
        (None, None) => Credentials::Ambient,
        (None, Some(reference)) => {
            let secrets: Api<Secret> = Api::namespaced(client, &namespace);
            let secret = secrets
                .get(&reference.name)
                .await
                .map_err(failed(format!("Secret {namespace}/{}", reference.name)))?;
            keys(&reference.name, &secret)?
        }
    };
    Ok((queue, credentials))
}

fn keys(name: &str, secret: &Secret) -> Result<Credentials, PlaceError> {
    let value = |key: &'static str| {
        let bytes = secret.data.as_ref()?.get(key)?;
        let text = std::str::from_utf8(&bytes.0).ok()?.trim();
        (!text.is_empty()).then(|| text.to_owned())
    };
    let required = |key| {
        value(key).ok_or_else(|| PlaceError::NoKey {
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
