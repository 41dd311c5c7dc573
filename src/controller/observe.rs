//! The cluster state that a forwarder depends on: its Secrets, runs and reports.

mod runs;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;

pub use runs::*;

use super::error::{Call, Error};
use crate::{
    api::{EventForwarderSpec, SecretRef},
    sqs::Credentials,
};

// The keys of a Secret with AWS credentials.
const ACCESS_KEY_ID: &str = "accessKeyId";
const SECRET_ACCESS_KEY: &str = "secretAccessKey";
const SESSION_TOKEN: &str = "sessionToken";

/// Why a referenced Secret can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretError {
    /// The Secret does not exist.
    Missing {
        /// Its name.
        name: String,
        /// A command that creates it.
        create_command: String,
    },
    /// The Secret has no key of that name, or its value is empty or not UTF-8.
    KeyMissing {
        /// The Secret's name.
        name: String,
        /// The key.
        key: String,
    },
}

/// The Secrets that a forwarder references, checked separately: the queue is polled even if
/// Iterable's key is missing.
#[derive(Debug)]
pub struct Secrets {
    /// Whether Iterable's API key exists.
    pub iterable: Result<(), SecretError>,
    /// The AWS credentials for the queue.
    pub queue: Result<Credentials, SecretError>,
}

impl Secrets {
    /// Checks that runs can use all Secrets.
    ///
    /// # Errors
    /// The first Secret that can't be used.
    pub fn check(&self) -> Result<(), &SecretError> {
        self.iterable.as_ref()?;
        self.queue.as_ref().map(|_| ())
    }
}

/// Reads the referenced Secrets by name, so that the controller needs no permission to list them.
///
/// # Errors
/// If the API server fails or does not respond.
pub async fn secrets(
    api: &Api<Secret>,
    namespace: &str,
    spec: &EventForwarderSpec,
) -> Result<Secrets, Error> {
    let key = &spec.iterable.api_key_secret_ref;
    let secret = get_secret(api, namespace, &key.name, &[&key.key]).await?;
    let iterable =
        secret.and_then(|secret| required_value(&secret, &key.name, &key.key).map(|_| ()));
    let queue = match &spec.queue.credentials_secret_ref {
        None => Ok(Credentials::Ambient),
        Some(SecretRef { name }) => {
            let keys = [ACCESS_KEY_ID, SECRET_ACCESS_KEY];
            let secret = get_secret(api, namespace, name, &keys).await?;
            secret.and_then(|secret| credentials(&secret, name))
        }
    };
    Ok(Secrets { iterable, queue })
}

fn credentials(secret: &Secret, name: &str) -> Result<Credentials, SecretError> {
    Ok(Credentials::Keys {
        access_key_id: required_value(secret, name, ACCESS_KEY_ID)?,
        secret_access_key: required_value(secret, name, SECRET_ACCESS_KEY)?,
        session_token: value(secret, SESSION_TOKEN),
    })
}

/// Reads the jq program from the referenced ConfigMap. Returns `None` without a reference, or if
/// the ConfigMap or its key does not exist.
///
/// # Errors
/// If the API server fails or does not respond.
pub async fn transform(
    api: &Api<ConfigMap>,
    namespace: &str,
    spec: &EventForwarderSpec,
) -> Result<Option<String>, Error> {
    let transform = spec.mapping.transform.as_ref();
    let Some(reference) = transform.and_then(|transform| transform.config_map_key_ref.as_ref())
    else {
        return Ok(None);
    };
    let name = &reference.name;
    let config_map = Call::new("get", format!("ConfigMap {namespace}/{name}"))
        .run(api.get_opt(name))
        .await?;
    Ok(config_map.and_then(|config_map| config_map.data?.remove(&reference.key)))
}

/// Reads a Secret. `keys` are the keys in the command that creates it.
async fn get_secret(
    api: &Api<Secret>,
    namespace: &str,
    name: &str,
    keys: &[&str],
) -> Result<Result<Secret, SecretError>, Error> {
    let secret = Call::new("get", format!("Secret {namespace}/{name}"))
        .run(api.get_opt(name))
        .await?;
    Ok(secret.ok_or_else(|| {
        let files: String = keys
            .iter()
            .map(|key| format!(" --from-file={key}=FILE-WITH-THE-KEY"))
            .collect();
        SecretError::Missing {
            name: name.to_owned(),
            create_command: format!(
                "kubectl create secret generic {name} --namespace {namespace}{files}"
            ),
        }
    }))
}

fn required_value(secret: &Secret, name: &str, key: &str) -> Result<String, SecretError> {
    value(secret, key).ok_or_else(|| SecretError::KeyMissing {
        name: name.to_owned(),
        key: key.to_owned(),
    })
}

/// Returns a key's trimmed value. Returns `None` if it is absent, empty or not UTF-8.
fn value(secret: &Secret, key: &str) -> Option<String> {
    let bytes = &secret.data.as_ref()?.get(key)?.0;
    let text = std::str::from_utf8(bytes).ok()?.trim();
    (!text.is_empty()).then(|| text.to_owned())
}
