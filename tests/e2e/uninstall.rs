//! What is left when the operator goes.

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
        .status_until("mparticle", "ready", |status| {
            condition(status, "Ready").0 == "True"
        })
        .await;
    // What a run of this suite leaves when it is killed needs no permission of the next.
    sharing::preflight(&shared.client, sharing::is_allowed())
        .await
        .expect("a permission");
    shared.uninstall().await;
    wait_until_deleted(
        &Api::<Deployment>::namespaced(world.client.clone(), SYSTEM),
        RELEASE,
    )
    .await;

    let definitions = Api::<CustomResourceDefinition>::all(world.client.clone());
    definitions.get(CRD).await.expect("the definition is kept");
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
    wait_until_deleted(&namespaces, &world.namespace).await;
}
