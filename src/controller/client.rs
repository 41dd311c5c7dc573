//! The client for the API server. It counts each call, records failed watches, and sends writes
//! only while this replica is the leader.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use axum::http::{Method, Request, Response};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
};
use tower::{BoxError, Service, layer::layer_fn};

use super::{error::Error, health::Health, lease::Leadership, metrics::Metrics};

/// Receivers of each call's metrics and health, and the leadership that allows writes.
#[derive(Clone)]
pub struct ClientHooks {
    /// Counts and durations of calls.
    pub metrics: Metrics,
    /// State of the watches.
    pub health: Health,
    /// Whether this replica is allowed to write.
    pub leadership: Leadership,
}

/// The error of a write that was not sent, because this replica is not the leader.
#[derive(Debug, thiserror::Error)]
#[error("write not sent: this replica does not hold the leader-election lease")]
struct NotLeading;

/// Creates a client that reports each call to `hooks`.
///
/// # Errors
/// Returns [`Error::NoCluster`] if the configuration can't be used.
pub fn connect(config: Config, hooks: ClientHooks) -> Result<Client, Error> {
    let builder =
        ClientBuilder::try_from(config).map_err(|error| Error::NoCluster(error.to_string()))?;
    let layer = layer_fn(|inner| HookedService {
        inner,
        hooks: hooks.clone(),
    });
    Ok(builder.with_layer(&layer).build())
}

struct HookedService<S> {
    inner: S,
    hooks: ClientHooks,
}

impl<S, B> Service<Request<Body>> for HookedService<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let uri = request.uri();
        let api_request = ApiRequest::new(
            request.method(),
            uri.path(),
            uri.query().unwrap_or_default(),
        );
        if api_request.is_write() && !self.hooks.leadership.is_leader() {
            return Box::pin(async { Err(NotLeading.into()) });
        }
        let started = Instant::now();
        let response = self.inner.call(request);
        let ClientHooks {
            metrics,
            health,
            leadership,
        } = self.hooks.clone();
        Box::pin(async move {
            let response = response.await.map_err(Into::into);
            let status = response.as_ref().map(|response| response.status());
            let code = status.as_ref().map_or(0, |status| status.as_u16());
            metrics.record_request(
                api_request.verb,
                &api_request.resource,
                code,
                started.elapsed(),
            );
            if let Some(resource) = api_request
                .watched_resource()
                .filter(|_| leadership.is_leader())
            {
                let problem = match &status {
                    Ok(status) if status.is_success() => None,
                    Ok(status) => Some(format!("the API server returned {status}")),
                    Err(error) => Some(format!("no response: {error}")),
                };
                health.record_watch(&resource, problem);
            }
            response
        })
    }
}

/// A request, in RBAC terms.
#[derive(Debug, PartialEq, Eq)]
struct ApiRequest {
    verb: &'static str,
    /// The plural resource name, with the subresource if there is one.
    resource: String,
    namespace: Option<String>,
}

impl ApiRequest {
    fn new(method: &Method, path: &str, query: &str) -> Self {
        let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
        let mut rest = match parts.as_slice() {
            ["api", _version, rest @ ..] | ["apis", _, _version, rest @ ..] => rest.to_vec(),
            _ => Vec::new(),
        };
        let namespace = match rest.as_slice() {
            ["namespaces", namespace, _, ..] => Some((*namespace).to_owned()),
            _ => None,
        };
        if namespace.is_some() {
            rest.drain(..2);
        }
        let (resource, named) = match rest.as_slice() {
            [] => (String::new(), false),
            [plural] => ((*plural).to_owned(), false),
            [plural, _] => ((*plural).to_owned(), true),
            [plural, _, subresource, ..] => (format!("{plural}/{subresource}"), true),
        };
        let watches = query
            .split('&')
            .any(|pair| matches!(pair, "watch=true" | "watch=1" | "watch=True"));
        let verb = match *method {
            Method::GET if watches => "watch",
            Method::GET if named || resource.is_empty() => "get",
            Method::GET => "list",
            Method::POST => "create",
            Method::PATCH => "patch",
            Method::PUT => "update",
            Method::DELETE => "delete",
            _ => "other",
        };
        Self {
            verb,
            resource,
            namespace,
        }
    }

    /// Returns whether the request changes the cluster.
    fn is_write(&self) -> bool {
        !matches!(self.verb, "get" | "list" | "watch") && self.resource != ACCESS_REVIEWS
    }

    /// Returns the resource and namespace of a watch, or of the list before it. Pods are also
    /// listed for reports, so a list of pods does not count.
    fn watched_resource(&self) -> Option<String> {
        let watches = self.verb == "watch"
            || self.verb == "list"
                && ["eventforwarders", "cronjobs", "jobs"].contains(&self.resource.as_str());
        watches.then(|| match &self.namespace {
            Some(namespace) => format!("{} in namespace {namespace}", self.resource),
            None => format!("{} in all namespaces", self.resource),
        })
    }
}

/// The resource of permission checks. It is created, but the API server does not store it.
const ACCESS_REVIEWS: &str = "selfsubjectaccessreviews";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_is_parsed_from_method_and_path() {
        let batch = "/apis/batch/v1";
        for (method, path, query, verb, resource, namespace, writes) in [
            (
                Method::GET,
                "/api/v1/pods".to_owned(),
                "",
                "list",
                "pods",
                None,
                false,
            ),
            (
                Method::GET,
                "/api/v1/namespaces/a/secrets/b".to_owned(),
                "",
                "get",
                "secrets",
                Some("a"),
                false,
            ),
            (
                Method::GET,
                "/api/v1/namespaces/a".to_owned(),
                "",
                "get",
                "namespaces",
                None,
                false,
            ),
            (
                Method::GET,
                format!("{batch}/cronjobs"),
                "",
                "list",
                "cronjobs",
                None,
                false,
            ),
            (
                Method::GET,
                format!("{batch}/cronjobs"),
                "limit=5&watch=true",
                "watch",
                "cronjobs",
                None,
                false,
            ),
            (
                Method::GET,
                format!("{batch}/namespaces/a/jobs"),
                "watch=true",
                "watch",
                "jobs",
                Some("a"),
                false,
            ),
            (
                Method::POST,
                format!("{batch}/namespaces/a/jobs"),
                "",
                "create",
                "jobs",
                Some("a"),
                true,
            ),
            (
                Method::PATCH,
                format!("{batch}/namespaces/a/cronjobs/b"),
                "force=true",
                "patch",
                "cronjobs",
                Some("a"),
                true,
            ),
            (
                Method::PATCH,
                "/apis/eventforwarder.io/v1alpha1/namespaces/a/eventforwarders/b/status".to_owned(),
                "",
                "patch",
                "eventforwarders/status",
                Some("a"),
                true,
            ),
            (
                Method::DELETE,
                format!("{batch}/namespaces/a/jobs/b"),
                "",
                "delete",
                "jobs",
                Some("a"),
                true,
            ),
            (
                Method::POST,
                "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews".to_owned(),
                "",
                "create",
                "selfsubjectaccessreviews",
                None,
                false,
            ),
            (
                Method::GET,
                "/openapi/v3/apis/eventforwarder.io/v1alpha1".to_owned(),
                "",
                "get",
                "",
                None,
                false,
            ),
        ] {
            let request = ApiRequest::new(&method, &path, query);
            let expected = ApiRequest {
                verb,
                resource: resource.to_owned(),
                namespace: namespace.map(str::to_owned),
            };
            assert_eq!(request, expected, "{method} {path}?{query}");
            assert_eq!(request.is_write(), writes, "{method} {path}?{query}");
        }
    }

    #[test]
    fn list_counts_as_watch_except_for_pods() {
        for (path, watched) in [
            ("/apis/batch/v1/jobs", Some("jobs in all namespaces")),
            (
                "/apis/batch/v1/namespaces/a/jobs",
                Some("jobs in namespace a"),
            ),
            ("/api/v1/namespaces/a/pods", None),
            ("/apis/batch/v1/namespaces/a/jobs/b", None),
        ] {
            let request = ApiRequest::new(&Method::GET, path, "");
            assert_eq!(request.watched_resource().as_deref(), watched, "{path}");
        }
    }

    #[tokio::test]
    async fn only_reads_are_sent_without_the_lease() {
        let inner =
            tower::service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(())));
        for (method, leadership, sent) in [
            (Method::GET, Leadership::default(), true),
            (Method::PATCH, Leadership::default(), false),
            (Method::PATCH, Leadership::sole_replica(), true),
        ] {
            let mut service = HookedService {
                inner,
                hooks: ClientHooks {
                    metrics: Metrics::new(),
                    health: Health::new(),
                    leadership,
                },
            };
            let request = Request::builder()
                .method(method.clone())
                .uri("/apis/batch/v1/namespaces/a/cronjobs/b")
                .body(Body::empty())
                .expect("a request");
            assert_eq!(service.call(request).await.is_ok(), sent, "{method}");
        }
    }
}
