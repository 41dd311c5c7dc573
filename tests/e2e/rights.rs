//! What the operator may do, as Kubernetes judges it.

use event_forwarder::api::EventForwarder;
use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
    rbac::v1::ClusterRoleBinding,
};
use kube::{
    Api, ResourceExt,
    api::{ListParams, PostParams},
};
use serde_json::json;

use crate::{
    tracking::{ended, start},
    world::{SYSTEM, Shared, World, condition, eventually, kubectl, sample},
};

const BATCH: &str = "01-session-and-screens-list-identities.json";

pub async fn with_roles_alone_the_operator_serves_its_namespaces_and_no_other(shared: &Shared) {
    let served = World::new(shared, "served").await;
    let other = World::new(shared, "not-served").await;
    served.queue.send(&[sample(BATCH)]).await.expect("sending");
    let namespaces = json!([served.namespace]);
    let watched = format!("watchNamespaces={namespaces}");
    shared
        .install_with(&["--set-json", &watched])
        .await
        .expect("the operator");
    other.apply("mparticle", json!({})).await;
    served.apply("mparticle", json!({})).await;
    eventually("what is wrong is an event", async || {
        let events = kubectl(&["get", "events", "--namespace", &served.namespace]).await;
        events.contains("SecretMissing")
    })
    .await;
    served.give_key().await;
    served
        .status_until("mparticle", "it is ready", |status| {
            condition(status, "Ready").0 == "True"
        })
        .await;
    start(&served, "mparticle", "now").await;
    let status = ended(&served, "mparticle", "now").await;
    assert_eq!(condition(&status, "Ready").0, "True", "{status:#?}");
    assert_eq!(condition(&status, "LastRunSucceeded").1, "Drained");

    let unseen = other.api::<EventForwarder>().get("mparticle").await;
    let status = unseen.expect("the forwarder").status.unwrap_or_default();
    assert!(status.conditions.is_empty(), "{status:#?}");
    let bindings = Api::<ClusterRoleBinding>::all(shared.client.clone());
    let bindings = bindings.list(&ListParams::default()).await;
    let for_the_whole_cluster: Vec<_> = bindings
        .expect("ClusterRoleBindings")
        .items
        .into_iter()
        .filter(|binding| {
            let mut subjects = binding.subjects.iter().flatten();
            subjects.any(|subject| subject.namespace.as_deref() == Some(SYSTEM))
        })
        .map(|binding| binding.name_any())
        .collect();
    assert_eq!(for_the_whole_cluster, Vec::<String>::new());

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
            may(shared, verb, resource, &world.namespace).await,
            allowed,
            "{verb} {resource:?} in {}",
            world.namespace
        );
    }
    shared.uninstall().await;
}

/// Whether the operator has a right, by the API server's own word.
async fn may(
    shared: &Shared,
    verb: &str,
    (group, resource): (&str, &str),
    namespace: &str,
) -> bool {
    let question = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(format!("system:serviceaccount:{SYSTEM}:event-forwarder")),
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
    let answer = Api::<SubjectAccessReview>::all(shared.client.clone())
        .create(&PostParams::default(), &question)
        .await
        .expect("a SubjectAccessReview");
    answer.status.is_some_and(|status| status.allowed)
}
