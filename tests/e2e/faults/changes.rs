//! A simulated user who changes forwarders and Secrets.

use event_forwarder::api::EventForwarder;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use super::retry;
use crate::world::{API_KEY, World};

/// Number of forwarders that [`Changes::any`] changes.
const FORWARDERS: usize = 16;
/// Number of Secrets that the forwarders share.
const KEYS: usize = 3;

/// Returns the names of the first `count` forwarders.
pub fn forwarder_names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("forwarder-{n}")).collect()
}

/// A user of one namespace.
pub struct Changes<'a> {
    world: &'a World,
    forwarders: Api<EventForwarder>,
    secrets: Api<Secret>,
    requested_runs: usize,
}

impl<'a> Changes<'a> {
    /// Creates all keys.
    pub async fn new(world: &'a World) -> Self {
        let changes = Self {
            world,
            forwarders: world.api(),
            secrets: world.api(),
            requested_runs: 0,
        };
        changes.create_all_keys().await;
        changes
    }

    /// Returns the number of runs that were requested with the annotation.
    pub const fn requested_runs(&self) -> usize {
        self.requested_runs
    }

    /// Applies a random change to a random forwarder or Secret.
    pub async fn any(&mut self) {
        let name = format!("forwarder-{}", fastrand::usize(..FORWARDERS));
        match fastrand::u8(..10) {
            0..4 => {
                let minute = fastrand::u8(..60);
                self.apply(&name, &format!("{minute} 0 1 1 *")).await;
            }
            4 => self.delete(&name).await,
            5 => {
                self.merge(&name, json!({"spec": {"suspend": fastrand::bool()}}))
                    .await;
            }
            6 | 7 => self.request_run(&name).await,
            8 => self.create_key(fastrand::usize(..KEYS)).await,
            _ => self.delete_key(fastrand::usize(..KEYS)).await,
        }
    }

    /// Creates the forwarder, or changes its schedule.
    pub async fn apply(&mut self, name: &str, schedule: &str) {
        let number = name.rsplit('-').next().and_then(|n| n.parse().ok());
        let key = key_name(number.unwrap_or(0) % KEYS);
        let forwarder = Patch::Apply(self.world.manifest(
            name,
            json!({
                "schedule": schedule,
                // Longer than a test, so the queue is polled only once.
                "queue": {"pollInterval": "10m"},
                "iterable": {"apiKeySecretRef": {"name": key}},
            }),
        ));
        let params = PatchParams::apply("user").force();
        retry(async || self.forwarders.patch(name, &params, &forwarder).await).await;
    }

    /// Deletes the forwarder, if it exists.
    pub async fn delete(&mut self, name: &str) {
        let params = DeleteParams::default();
        retry(async || ignore_not_found(self.forwarders.delete(name, &params).await)).await;
    }

    /// Requests a run with the annotation, if the forwarder exists.
    pub async fn request_run(&mut self, name: &str) {
        self.requested_runs += 1;
        let request = format!("request-{}", self.requested_runs);
        let annotation = json!({"eventforwarder.io/run-now": request});
        self.merge(name, json!({"metadata": {"annotations": annotation}}))
            .await;
    }

    /// Creates all keys. Forwarders need them to be ready.
    pub async fn create_all_keys(&self) {
        for number in 0..KEYS {
            self.create_key(number).await;
        }
    }

    async fn create_key(&self, number: usize) {
        let name = key_name(number);
        let secret = Patch::Apply(json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": name},
            "stringData": {"api-key": API_KEY},
        }));
        let params = PatchParams::apply("user").force();
        retry(async || self.secrets.patch(&name, &params, &secret).await).await;
    }

    async fn delete_key(&self, number: usize) {
        let (name, params) = (key_name(number), DeleteParams::default());
        retry(async || ignore_not_found(self.secrets.delete(&name, &params).await)).await;
    }

    async fn merge(&self, name: &str, change: Value) {
        let (params, change) = (PatchParams::default(), Patch::Merge(change));
        retry(async || ignore_not_found(self.forwarders.patch(name, &params, &change).await)).await;
    }
}

fn key_name(number: usize) -> String {
    format!("key-{number}")
}

fn ignore_not_found<T>(result: kube::Result<T>) -> kube::Result<()> {
    match result {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}
