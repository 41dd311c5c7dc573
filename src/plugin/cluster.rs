//! Access to the API server. Every call has a timeout, and every error becomes a message for the
//! user.

use std::{future::Future, time::Duration};

use kube::{
    Api, Client, Config, ResourceExt,
    api::ListParams,
    config::{KubeConfigOptions, KubeconfigError},
};

use super::{cli::ClusterArgs, error::PluginError, suggestions};
use crate::api::{EventForwarder, GuardedForwarder};

/// Timeout of a connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout of a call.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// A cluster and a namespace.
#[derive(Clone)]
pub struct Cluster {
    /// The client.
    pub client: Client,
    /// The namespace.
    pub namespace: String,
    server: String,
}

impl Cluster {
    /// Creates a client from the kubeconfig. Sends no request.
    ///
    /// # Errors
    /// [`PluginError::NoKubeconfig`], or [`PluginError::Unauthenticated`] if the kubeconfig's
    /// credential plugin fails.
    pub async fn connect(args: &ClusterArgs) -> Result<Self, PluginError> {
        let options = KubeConfigOptions {
            context: args.context.clone(),
            ..KubeConfigOptions::default()
        };
        let no_kubeconfig = |error: KubeconfigError| PluginError::NoKubeconfig(error.to_string());
        let mut config = match Config::from_kubeconfig(&options).await {
            Ok(config) => config,
            // A pod has no kubeconfig. It uses its service account.
            Err(error) if args.context.is_none() => {
                Config::incluster().map_err(|_| no_kubeconfig(error))?
            }
            Err(error) => return Err(no_kubeconfig(error)),
        };
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.default_retry = false;
        let server = config.cluster_url.to_string();
        let namespace = args
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|error| match error {
            kube::Error::Auth(cause) => PluginError::Unauthenticated {
                server: server.clone(),
                message: cause.to_string(),
            },
            error => PluginError::NoKubeconfig(error.to_string()),
        })?;
        Ok(Self {
            client,
            namespace,
            server,
        })
    }

    /// Returns the API of the namespace's forwarders.
    pub fn forwarders(&self) -> Api<EventForwarder> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Waits for a call's response. `call` describes the call, for example
    /// `get EventForwarder marketing/mparticle`.
    ///
    /// # Errors
    /// If the API server returns an error, or does not respond in time.
    pub async fn call_api<T>(
        &self,
        call: impl Into<String>,
        response: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, PluginError> {
        match tokio::time::timeout(CALL_TIMEOUT, response).await {
            Ok(result) => result.map_err(|error| request_error(error, call.into(), &self.server)),
            Err(_) => Err(PluginError::Unreachable {
                server: self.server.clone(),
                cause: format!("no response within {} s", CALL_TIMEOUT.as_secs()),
            }),
        }
    }

    /// Returns one forwarder.
    ///
    /// # Errors
    /// [`PluginError::NoSuchForwarder`] with suggestions, or a failed call.
    pub async fn forwarder(&self, name: &str) -> Result<EventForwarder, PluginError> {
        let call = format!("get EventForwarder {}/{name}", self.namespace);
        match self.call_api(call, self.forwarders().get_opt(name)).await? {
            Some(forwarder) => Ok(forwarder),
            None => Err(self.no_such(name).await),
        }
    }

    /// Returns all forwarders of the namespace, including those that can't be parsed.
    ///
    /// # Errors
    /// A failed call.
    pub async fn all(&self) -> Result<Vec<GuardedForwarder>, PluginError> {
        let call = format!("list EventForwarders in namespace {}", self.namespace);
        let api: Api<GuardedForwarder> = Api::namespaced(self.client.clone(), &self.namespace);
        Ok(self
            .call_api(call, api.list(&ListParams::default()))
            .await?
            .items)
    }

    /// Returns the names of the namespace's forwarders.
    ///
    /// # Errors
    /// A failed call.
    pub async fn names(&self) -> Result<Vec<String>, PluginError> {
        let call = format!("list EventForwarders in namespace {}", self.namespace);
        let (api, params) = (self.forwarders(), ListParams::default());
        let list = self.call_api(call, api.list_metadata(&params)).await?;
        Ok(list.items.iter().map(ResourceExt::name_any).collect())
    }

    /// Returns the error for a missing forwarder, with suggestions. Returns
    /// [`PluginError::CrdMissing`] if the CRD is missing.
    async fn no_such(&self, name: &str) -> PluginError {
        let here = match self.names().await {
            Ok(names) => names,
            Err(error @ PluginError::CrdMissing { .. }) => return error,
            // The user may be allowed to get, but not to list.
            Err(_) => Vec::new(),
        };
        let everywhere: Api<EventForwarder> = Api::all(self.client.clone());
        let by_name = ListParams::default().fields(&format!("metadata.name={name}"));
        let elsewhere = self
            .call_api("list EventForwarders", everywhere.list_metadata(&by_name))
            .await
            .map(|list| list.items)
            .unwrap_or_default();
        let elsewhere: Vec<_> = elsewhere
            .iter()
            .filter_map(ResourceExt::namespace)
            .collect();
        PluginError::NoSuchForwarder {
            namespace: self.namespace.clone(),
            name: name.to_owned(),
            hint: suggestions::hint(name, &here, &elsewhere),
        }
    }
}

/// Converts a failed call to an error for the user.
fn request_error(error: kube::Error, call: String, server: &str) -> PluginError {
    let server = server.to_owned();
    match error {
        kube::Error::Api(status) => {
            let status = *status;
            let names_an_object = status
                .details
                .as_ref()
                .is_some_and(|details| !details.name.is_empty());
            let message = status.message;
            match status.code {
                401 => PluginError::Unauthenticated { server, message },
                403 => PluginError::Forbidden { call, message },
                404 if !names_an_object => PluginError::CrdMissing { server },
                _ => PluginError::Rejected { call, message },
            }
        }
        kube::Error::Auth(cause) => PluginError::Unauthenticated {
            server,
            message: cause.to_string(),
        },
        kube::Error::SerdeError(cause) => PluginError::Unreadable {
            call,
            cause: cause.to_string(),
        },
        error => PluginError::Unreachable {
            server,
            cause: innermost(&error),
        },
    }
}

/// Returns the innermost cause, which is the most specific: "connection refused", "certificate
/// has expired".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use serde_json::json;

    use super::*;

    fn error_from(status: serde_json::Value) -> PluginError {
        let status: Status = serde_json::from_value(status).expect("a status");
        let call = "get EventForwarder marketing/mparticle".to_owned();
        request_error(
            kube::Error::Api(Box::new(status)),
            call,
            "https://api:6443/",
        )
    }

    #[test]
    fn request_errors_are_distinguished() {
        let missing = error_from(json!({
            "code": 404, "reason": "NotFound", "message": "the server could not find the requested resource",
        }));
        assert!(
            matches!(missing, PluginError::CrdMissing { .. }),
            "{missing}"
        );
        let denied = error_from(json!({
            "code": 403, "reason": "Forbidden", "message": "eventforwarders is forbidden: User \"ann\" cannot get",
        }));
        assert!(matches!(denied, PluginError::Forbidden { .. }), "{denied}");
        assert!(
            denied
                .to_string()
                .contains("get EventForwarder marketing/mparticle"),
            "{denied}"
        );
        let unknown =
            error_from(json!({"code": 401, "reason": "Unauthorized", "message": "Unauthorized"}));
        assert!(
            matches!(unknown, PluginError::Unauthenticated { .. }),
            "{unknown}"
        );
        let conflict = error_from(json!({
            "code": 409, "reason": "Conflict", "message": "modified", "details": {"name": "mparticle"},
        }));
        assert!(
            matches!(conflict, PluginError::Rejected { .. }),
            "{conflict}"
        );
    }
}
