//! Prerequisites of the controller: the CRD, and the permissions to list and watch.

use std::{fmt, time::Duration};

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        authorization::v1::{
            ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
        },
        batch::v1::{CronJob, Job},
        core::v1::Pod,
    },
};
use kube::{
    Api, Client, Resource,
    api::{ListParams, PostParams},
};

use super::{
    error::{Call, Error},
    health::Health,
};
use crate::api::{EventForwarder, GuardedForwarder};

/// Interval between checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// The namespaces to watch.
#[derive(Debug, Clone)]
pub enum Scope {
    /// All namespaces.
    Cluster,
    /// One namespace.
    Namespace(String),
}

impl Scope {
    /// Returns the API for the objects of one kind in this scope.
    pub fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        match self {
            Self::Cluster => Api::all(client.clone()),
            Self::Namespace(namespace) => Api::namespaced(client.clone(), namespace),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("in all namespaces"),
            Self::Namespace(namespace) => write!(f, "in namespace {namespace}"),
        }
    }
}

/// Waits until the prerequisites are met. Until then, sets what is missing as the reason for not
/// being ready, and logs each change.
pub async fn wait_until_met(client: &Client, scopes: &[Scope], health: &Health) {
    let mut last_logged = None;
    loop {
        let missing = match missing(client, scopes).await {
            Ok(None) => return,
            Ok(Some(missing)) => missing,
            Err(error) => error.to_string(),
        };
        if last_logged.as_ref() != Some(&missing) {
            tracing::warn!("not ready: {missing}");
            health.set_not_ready(Some(missing.clone()));
            last_logged = Some(missing);
        }
        tokio::time::sleep(CHECK_INTERVAL).await;
    }
}

/// Returns what is missing and how to fix it, or `None` if nothing is missing.
async fn missing(client: &Client, scopes: &[Scope]) -> Result<Option<String>, Error> {
    let mut denied = Vec::new();
    for scope in scopes {
        for (group, plural) in [
            kind::<EventForwarder>(),
            kind::<CronJob>(),
            kind::<Job>(),
            kind::<Pod>(),
        ] {
            for verb in ["list", "watch"] {
                if !is_allowed(client, scope, verb, &group, &plural).await? {
                    let dot = if group.is_empty() { "" } else { "." };
                    denied.push(format!("{verb} {plural}{dot}{group} {scope}"));
                }
            }
        }
    }
    if !denied.is_empty() {
        return Ok(Some(format!(
            "the controller's service account is not allowed to {}; grant it, as the chart's Role or ClusterRole does",
            denied.join(", or to ")
        )));
    }
    for scope in scopes {
        let api: Api<GuardedForwarder> = scope.api(client);
        let one = ListParams::default().limit(1);
        match Call::new("list", "EventForwarders")
            .run(api.list(&one))
            .await
        {
            Ok(_) => {}
            Err(Error::Api { source, .. }) if matches!(&*source, kube::Error::Api(status) if status.code == 404) =>
            {
                return Ok(Some(Error::CrdMissing.to_string()));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn kind<K: Resource<DynamicType = ()>>() -> (String, String) {
    (K::group(&()).into_owned(), K::plural(&()).into_owned())
}

async fn is_allowed(
    client: &Client,
    scope: &Scope,
    verb: &str,
    group: &str,
    plural: &str,
) -> Result<bool, Error> {
    let namespace = match scope {
        Scope::Cluster => None,
        Scope::Namespace(namespace) => Some(namespace.clone()),
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                verb: Some(verb.to_owned()),
                group: Some(group.to_owned()),
                resource: Some(plural.to_owned()),
                namespace,
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let review = Call::new("check the permission to", format!("{verb} {plural}"))
        .run(Api::all(client.clone()).create(&PostParams::default(), &review))
        .await?;
    Ok(review.status.is_some_and(|status| status.allowed))
}
