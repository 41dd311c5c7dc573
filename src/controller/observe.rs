//! What the cluster holds of a forwarder's world: its Secrets, its runs and their reports.

mod runs;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;

pub use runs::*;

use super::error::{Call, Error};
use crate::{api::EventForwarderSpec, sqs::Credentials};

/// The keys of a Secret with AWS credentials.
const ACCESS_KEY_ID: &str = "accessKeyId";
const SECRET_ACCESS_KEY: &str = "secretAccessKey";
const SESSION_TOKEN: &str = "sessionToken";

/// A Secret that the forwarder refers to and that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretProblem {
    /// There is no such Secret.
    Missing {
        /// Its name.
        name: String,
        /// A command that makes it.
        mend: String,
    },
    /// The Secret lacks a key, or holds nothing under it.
    KeyMissing {
        /// The Secret's name.
        name: String,
        /// The key.
        key: String,
    },
}

/// Reads the Secrets that a forwarder refers to, by name alone. Yields the AWS credentials, if
/// the forwarder brings its own.
///
/// # Errors
/// When the API server fails or does not answer.
pub async fn secrets(
    api: &Api<Secret>,
    namespace: &str,
    spec: &EventForwarderSpec,
) -> Result<Result<Credentials, SecretProblem>, Error> {
    let key = &spec.iterable.api_key_secret_ref;
    let mend = format!(
        "kubectl create secret generic {} --namespace {namespace} --from-file={}=FILE-WITH-THE-KEY",
        key.name, key.key
    );
    match get_secret(api, namespace, &key.name).await? {
        None => {
            return Ok(Err(SecretProblem::Missing {
                name: key.name.clone(),
                mend,
            }));
        }
        Some(secret) if value(&secret, &key.key).is_none() => {
            return Ok(Err(SecretProblem::KeyMissing {
                name: key.name.clone(),
                key: key.key.clone(),
            }));
        }
        Some(_) => {}
    }
    let Some(reference) = &spec.queue.credentials_secret_ref else {
        return Ok(Ok(Credentials::Ambient));
    };
    let Some(secret) = get_secret(api, namespace, &reference.name).await? else {
        let mend = format!(
            "kubectl create secret generic {} --namespace {namespace} --from-file={ACCESS_KEY_ID}=FILE --from-file={SECRET_ACCESS_KEY}=FILE",
            reference.name
        );
        return Ok(Err(SecretProblem::Missing {
            name: reference.name.clone(),
            mend,
        }));
    };
    let part = |key: &str| {
        value(&secret, key).ok_or_else(|| SecretProblem::KeyMissing {
            name: reference.name.clone(),
            key: key.to_owned(),
        })
    };
    Ok(part(ACCESS_KEY_ID).and_then(|id| {
        Ok(Credentials::Keys {
            access_key_id: id,
            secret_access_key: part(SECRET_ACCESS_KEY)?,
            session_token: value(&secret, SESSION_TOKEN),
        })
    }))
}

/// Reads the user's rules, where the forwarder refers to a ConfigMap for them; none if there is
/// no such ConfigMap or key.
///
/// # Errors
/// When the API server fails or does not answer.
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

async fn get_secret(
    api: &Api<Secret>,
    namespace: &str,
    name: &str,
) -> Result<Option<Secret>, Error> {
    Call::new("get", format!("Secret {namespace}/{name}"))
        .run(api.get_opt(name))
        .await
}

/// A key's value as text, without white space around it; none if absent or blank.
fn value(secret: &Secret, key: &str) -> Option<String> {
    let bytes = &secret.data.as_ref()?.get(key)?.0;
    let text = std::str::from_utf8(bytes).ok()?.trim();
    (!text.is_empty()).then(|| text.to_owned())
}
