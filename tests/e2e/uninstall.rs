//! Objects that are kept when the operator is uninstalled.

use event_forwarder::api::EventForwarder;
use k8s_openapi::{
    api::{apps::v1::Deployment, batch::v1::CronJob, core::v1::Namespace},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{Api, api::DeleteParams};
use serde_json::json;

use crate::{
    sharing::{self, CRD},
    world::{RELEASE, SYSTEM, Shared, World, condition, wait_until_deleted},
};

pub async fn uninstall_keeps_crd_and_resources(shared: &Shared) {
    shared.install().await.expect("the operator");
    let world = World::new(shared, "uninstall").await;
    world.create_key_secret().await;
    world.apply("mparticle", json!({})).await;
    world
        .status_until("mparticle", "the forwarder is ready", |status| {
            condition(status, "Ready").0 == "True"
        })
        .await;
    // Objects that a killed run left behind must not block the next run of the suite.
    sharing::preflight(&shared.client, sharing::is_allowed())
        .await
        .expect("the preflight passes");
    shared.uninstall().await;
    wait_until_deleted(
        &Api::<Deployment>::namespaced(world.client.clone(), SYSTEM),
        RELEASE,
    )
    .await;

    let crds = Api::<CustomResourceDefinition>::all(world.client.clone());
    crds.get(CRD).await.expect("the CRD is kept");
    world
        .api::<EventForwarder>()
        .get("mparticle")
        .await
        .expect("the forwarder is kept");
    // Runs continue without the operator, because Kubernetes manages the CronJob.
    world
        .api::<CronJob>()
        .get("mparticle")
        .await
        .expect("the CronJob is kept");
    // The namespace can be deleted, because no object has a finalizer of the operator.
    let namespaces = Api::<Namespace>::all(world.client.clone());
    namespaces
        .delete(&world.namespace, &DeleteParams::default())
        .await
        .expect("deleting the namespace");
    wait_until_deleted(&namespaces, &world.namespace).await;
}
