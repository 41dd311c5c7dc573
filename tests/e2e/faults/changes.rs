//! What users do to their forwarders, one thing after another.

use event_forwarder::api::EventForwarder;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use super::patiently;
use crate::world::{API_KEY, World};

/// Forwarders that random changes fall on.
const FORWARDERS: usize = 16;
/// Secrets that they share.
const KEYS: usize = 3;

/// The names of the first forwarders.
pub fn forwarder_names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("forwarder-{n}")).collect()
}

/// A user at work in one world.
pub struct Changes<'a> {
    world: &'a World,
    forwarders: Api<EventForwarder>,
    secrets: Api<Secret>,
    runs_asked_for: usize,
}

impl<'a> Changes<'a> {
    /// A user who has the keys in place.
    pub async fn new(world: &'a World) -> Self {
        let changes = Self {
            world,
            forwarders: world.api(),
            secrets: world.api(),
            runs_asked_for: 0,
        };
        changes.give_all_keys().await;
        changes
    }

    /// How many runs were asked for by annotation.
    pub const fn runs_asked_for(&self) -> usize {
        self.runs_asked_for
    }

    /// Any change, on any of the forwarders.
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
            6 | 7 => self.ask_for_a_run(&name).await,
            8 => self.give_key(fastrand::usize(..KEYS)).await,
            _ => self.take_key(fastrand::usize(..KEYS)).await,
        }
    }

    /// Creates the forwarder, or gives it another schedule.
    pub async fn apply(&mut self, name: &str, schedule: &str) {
        let number = name.rsplit('-').next().and_then(|n| n.parse().ok());
        let key = key_name(number.unwrap_or(0) % KEYS);
        let forwarder = Patch::Apply(self.world.manifest(
            name,
            json!({
                "schedule": schedule,
                // None but the first poll falls into a test.
                "queue": {"pollInterval": "10m"},
                "iterable": {"apiKeySecretRef": {"name": key}},
            }),
        ));
        let params = PatchParams::apply("user").force();
        patiently(async || self.forwarders.patch(name, &params, &forwarder).await).await;
    }

    /// Deletes the forwarder, if it is there.
    pub async fn delete(&mut self, name: &str) {
        let params = DeleteParams::default();
        patiently(async || unless_missing(self.forwarders.delete(name, &params).await)).await;
    }

    /// Asks for a run now, if the forwarder is there.
    pub async fn ask_for_a_run(&mut self, name: &str) {
        self.runs_asked_for += 1;
        let request = format!("request-{}", self.runs_asked_for);
        let annotation = json!({"eventforwarder.io/run-now": request});
        self.merge(name, json!({"metadata": {"annotations": annotation}}))
            .await;
    }

    /// Puts all keys in place, as forwarders need them to be ready.
    pub async fn give_all_keys(&self) {
        for number in 0..KEYS {
            self.give_key(number).await;
        }
    }

    async fn give_key(&self, number: usize) {
        let name = key_name(number);
        let secret = Patch::Apply(json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": name},
            "stringData": {"api-key": API_KEY},
        }));
        let params = PatchParams::apply("user").force();
        patiently(async || self.secrets.patch(&name, &params, &secret).await).await;
    }

    async fn take_key(&self, number: usize) {
        let (name, params) = (key_name(number), DeleteParams::default());
        patiently(async || unless_missing(self.secrets.delete(&name, &params).await)).await;
    }

    async fn merge(&self, name: &str, change: Value) {
        let (params, change) = (PatchParams::default(), Patch::Merge(change));
        patiently(async || unless_missing(self.forwarders.patch(name, &params, &change).await))
            .await;
    }
}

fn key_name(number: usize) -> String {
    format!("key-{number}")
}

fn unless_missing<T>(result: kube::Result<T>) -> kube::Result<()> {
    match result {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}
