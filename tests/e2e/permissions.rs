//! The operator's permissions, checked by the API server.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Bytes, extract::State, routing::post};
use event_forwarder::api::EventForwarder;
use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
    rbac::v1::{ClusterRoleBinding, PolicyRule, Role},
};
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::net::TcpListener;

use crate::{
    tracking::{start, wait_for_run_end},
    world::{
        API_KEY, AWS_SECRET, RELEASE, SYSTEM, Shared, World, condition, eventually, kubectl, sample,
    },
};

const BATCH: &str = "01-session-and-screens-list-identities.json";

pub async fn namespaced_roles_limit_operator_to_watched_namespaces(shared: &Shared) {
    let served = World::new(shared, "served").await;
    let other = World::new(shared, "not-served").await;
    served.queue.send(&[sample(BATCH)]).await.expect("sending");
    let namespaces = json!([served.namespace]);
    let watched = format!("watchNamespaces={namespaces}");
    let collector = Collector::start(shared).await;
    let tracing = format!("tracing.endpoint=http://{}", collector.address);
    shared
        .install_with(&["--set-json", &watched, "--set", &tracing])
        .await
        .expect("the operator");
    other.apply("mparticle", json!({})).await;
    served.apply("mparticle", json!({})).await;
    eventually("the missing Secret is an event", async || {
        let events = kubectl(&["get", "events", "--namespace", &served.namespace]).await;
        (events.contains("SecretMissing"), events)
    })
    .await;
    served.create_key_secret().await;
    served
        .status_until("mparticle", "the forwarder is ready", |status| {
            condition(status, "Ready").0 == "True"
        })
        .await;
    start(&served, "mparticle", "now").await;
    let status = wait_for_run_end(&served, "mparticle", "now").await;
    assert_eq!(condition(&status, "Ready").0, "True", "{status:#?}");
    assert_eq!(condition(&status, "LastRunSucceeded").1, "Drained");

    let forwarder = other.api::<EventForwarder>().get("mparticle").await;
    let status = forwarder.expect("the forwarder").status.unwrap_or_default();
    assert!(status.conditions.is_empty(), "{status:#?}");
    let bindings = Api::<ClusterRoleBinding>::all(shared.client.clone());
    let bindings = bindings.list(&ListParams::default()).await;
    let bound_to_operator: Vec<_> = bindings
        .expect("ClusterRoleBindings")
        .items
        .into_iter()
        .filter(|binding| {
            let mut subjects = binding.subjects.iter().flatten();
            subjects.any(|subject| subject.namespace.as_deref() == Some(SYSTEM))
        })
        .map(|binding| binding.name_any())
        .collect();
    assert_eq!(bound_to_operator, Vec::<String>::new());

    let (secrets, cronjobs) = (("", "secrets"), ("batch", "cronjobs"));
    let forwarders = ("eventforwarder.io", "eventforwarders");
    for (verb, resource, world, allowed) in [
        ("get", secrets, &served, true),
        ("list", secrets, &served, false),
        ("watch", secrets, &served, false),
        ("delete", cronjobs, &served, false),
        ("patch", forwarders, &served, false),
        ("get", secrets, &other, false),
        ("list", forwarders, &other, false),
        ("create", cronjobs, &other, false),
    ] {
        assert_eq!(
            is_allowed(shared, verb, resource, &world.namespace).await,
            allowed,
            "{verb} {resource:?} in {}",
            world.namespace
        );
    }
    check_revoked_permission(&served).await;
    shared.uninstall().await;

    let traces = collector.received();
    for part in ["reconcile", "event-forwarder", &served.namespace] {
        assert!(traces.contains(part), "no trace contains {part}");
    }
    for secret in [API_KEY, AWS_SECRET] {
        assert!(!traces.contains(secret), "{secret} was sent");
    }
}

/// Checks that a revoked permission is reported until it is granted again.
async fn check_revoked_permission(world: &World) {
    let roles = world.api::<Role>();
    let role = roles.get(RELEASE).await.expect("the Role");
    let rules = |role: &Role| role.rules.clone().unwrap_or_default();
    let is_for_secrets = |rule: &PolicyRule| {
        let resources = rule.resources.as_ref();
        resources.is_some_and(|resources| resources.iter().any(|it| it == "secrets"))
    };
    let mut others = rules(&role);
    others.retain(|rule| !is_for_secrets(rule));
    let grant = async |rules: &[PolicyRule], schedule: &str| {
        let patch = Patch::Merge(json!({"rules": rules}));
        roles
            .patch(RELEASE, &PatchParams::default(), &patch)
            .await
            .expect("the Role");
        // The controller does not watch Roles, so a changed schedule triggers the reconciliation.
        world
            .apply("mparticle", json!({"schedule": schedule}))
            .await;
    };
    grant(&others, "0 0 2 2 *").await;
    let status = world
        .status_until(
            "mparticle",
            "the missing permission is reported",
            |status| condition(status, "Ready").1 == "ReconcileFailed",
        )
        .await;
    let message = condition(&status, "Ready").2;
    assert!(message.contains("secrets"), "{message}");
    assert_eq!(condition(&status, "LastRunSucceeded").1, "Drained");
    grant(&rules(&role), "0 0 3 3 *").await;
    world
        .status_until("mparticle", "the forwarder is ready again", |status| {
            condition(status, "Ready").0 == "True"
        })
        .await;
}

/// An OTLP collector that records all request bodies.
struct Collector {
    address: SocketAddr,
    bodies: Arc<Mutex<Vec<u8>>>,
}

impl Collector {
    async fn start(shared: &Shared) -> Self {
        let listener = TcpListener::bind((shared.host, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let bodies = Arc::<Mutex<Vec<u8>>>::default();
        let record = async |State(bodies): State<Arc<Mutex<Vec<u8>>>>, body: Bytes| {
            bodies.lock().expect("the bodies").extend(body);
        };
        let routes = Router::new()
            .route("/v1/traces", post(record))
            .with_state(Arc::clone(&bodies));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { address, bodies }
    }

    /// Returns all request bodies. Protobuf contains strings unencoded, so they can be searched.
    fn received(&self) -> String {
        String::from_utf8_lossy(&self.bodies.lock().expect("the bodies")).into_owned()
    }
}

/// Returns whether the operator has a permission, by a SubjectAccessReview.
async fn is_allowed(
    shared: &Shared,
    verb: &str,
    (group, resource): (&str, &str),
    namespace: &str,
) -> bool {
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(format!("system:serviceaccount:{SYSTEM}:{RELEASE}")),
            resource_attributes: Some(ResourceAttributes {
                group: Some(group.to_owned()),
                resource: Some(resource.to_owned()),
                verb: Some(verb.to_owned()),
                namespace: Some(namespace.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let review = Api::<SubjectAccessReview>::all(shared.client.clone())
        .create(&PostParams::default(), &review)
        .await
        .expect("a SubjectAccessReview");
    review.status.is_some_and(|status| status.allowed)
}
