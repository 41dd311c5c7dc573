//! What is left when the operator goes.

use event_forwarder::api::EventForwarder;
use k8s_openapi::{
    api::{apps::v1::Deployment, batch::v1::CronJob, core::v1::Namespace},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{Api, api::DeleteParams};
use serde_json::json;

use crate::world::{SYSTEM, Shared, World, condition, gone, helm};

pub async fn uninstalling_keeps_the_definition_and_the_resources(shared: &Shared) {
    let world = World::new(shared, "uninstall").await;
    world.give_key().await;
    world.apply("mparticle", json!({})).await;
    world
        .status_until("mparticle", "ready", |status| {
            condition(status, "Ready").0 == "True"
        })
        .await;
    shared.alone().await;
    helm(&[
        "uninstall",
        "event-forwarder",
        "--namespace",
        SYSTEM,
        "--wait",
    ])
    .await;
    gone(
        &Api::<Deployment>::namespaced(world.client.clone(), SYSTEM),
        "event-forwarder",
    )
    .await;

    let definitions = Api::<CustomResourceDefinition>::all(world.client.clone());
    definitions
        .get("eventforwarders.eventforwarder.io")
        .await
        .expect("the definition is kept");
    world
        .api::<EventForwarder>()
        .get("mparticle")
        .await
        .expect("the forwarder is kept");
    // Runs go on without the operator: the CronJob is Kubernetes' own.
    world
        .api::<CronJob>()
        .get("mparticle")
        .await
        .expect("the CronJob is kept");
    // Nothing of it waits for an operator that is no more.
    let namespaces = Api::<Namespace>::all(world.client.clone());
    namespaces
        .delete(&world.namespace, &DeleteParams::default())
        .await
        .expect("deleting the namespace");
    gone(&namespaces, &world.namespace).await;
}
