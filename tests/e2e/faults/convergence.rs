//! Whether the world is as it should be after a fault: one check, used by all.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    time::Duration,
};

use event_forwarder::api::EventForwarder;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        batch::v1::{CronJob, Job},
        core::v1::{Namespace, Pod, Secret},
    },
};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::operator::Replica;
use crate::{
    sharing::{create_namespace, delete_namespace},
    world::{World, stories},
};

const APPLIED: &str = "eventforwarder.io/applied";
const RUN_NOW: &str = "eventforwarder.io/run-now";
const INSTANCE: &str = "app.kubernetes.io/instance";
/// How long the world may take after a fault: the longest pause after failures that the outage
/// of a minute leads to, and what comes on top.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long nothing may happen once all is done.
const REST: Duration = Duration::from_secs(8);

/// Waits until every forwarder of the world is what a controller makes of it that starts now, and
/// nothing else is left of any; then sees to it that the operator rests.
pub async fn assert_converges(world: &World, operator: &[&Replica]) {
    settles(&world.client, &world.namespace, operator).await;
    let twins = twins(&world.namespace);
    make_twins(world, &twins).await;
    settles(&world.client, &twins, operator).await;
    let differences = Snapshot::take(&world.client, &world.namespace)
        .await
        .differences(&Snapshot::take(&world.client, &twins).await);
    assert!(
        differences.is_empty(),
        "not what a fresh forwarder gets:\n{}",
        differences.join("\n")
    );
    rests(world, operator).await;
    let namespaces = Api::<Namespace>::all(world.client.clone());
    let _ = namespaces.delete(&twins, &DeleteParams::default()).await;
}

/// The namespace of a namespace's twins.
pub fn twins(namespace: &str) -> String {
    format!("{namespace}-twins")
}

/// Waits until nothing of the namespace is under way, and all that belongs together does.
pub async fn settles(client: &kube::Client, namespace: &str, operator: &[&Replica]) {
    let mut complaints = Vec::new();
    let settled = async {
        loop {
            complaints = Snapshot::take(client, namespace).await.complaints();
            if complaints.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, settled).await.is_err() {
        let logs: Vec<_> = operator.iter().map(|replica| replica.log_end()).collect();
        panic!(
            "{namespace} did not converge:\n{}\n{}\n{}",
            complaints.join("\n"),
            logs.join("\n"),
            stories().await
        );
    }
}

/// Gives each forwarder a twin in a fresh namespace: all that a user gave the first, and none of
/// its history.
async fn make_twins(world: &World, namespace: &str) {
    let client = &world.client;
    delete_namespace(client, namespace).await;
    create_namespace(client, namespace, json!({})).await;
    let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
    for secret in list::<Secret>(client, &world.namespace).await {
        create(
            &secrets,
            json!({"metadata": {"name": secret.name_any()}, "data": secret.data}),
        )
        .await;
    }
    let forwarders = Api::<EventForwarder>::namespaced(client.clone(), namespace);
    for forwarder in list::<EventForwarder>(client, &world.namespace).await {
        create(
            &forwarders,
            json!({
                "apiVersion": EventForwarder::api_version(&()),
                "kind": EventForwarder::kind(&()),
                "metadata": {"name": forwarder.name_any()},
                "spec": forwarder.spec,
            }),
        )
        .await;
    }
}

async fn create<K>(api: &Api<K>, object: Value)
where
    K: Clone + DeserializeOwned + serde::Serialize + Debug,
{
    let object: K = serde_json::from_value(object).expect("an object");
    api.create(&PostParams::default(), &object)
        .await
        .expect("a create");
}

/// Waits a while in which nothing may be written, and no forwarder looked at again and again.
async fn rests(world: &World, operator: &[&Replica]) {
    let before = Snapshot::take(&world.client, &world.namespace).await;
    let counts_before = reconciliations(operator).await;
    tokio::time::sleep(REST).await;
    let after = Snapshot::take(&world.client, &world.namespace).await;
    assert_eq!(before.versions(), after.versions(), "written at rest");
    let more = reconciliations(operator).await - counts_before;
    // One look each, for its own twins too: the pauses between looks are longer than this.
    let bound = 2 * after.forwarders.len() as u64;
    assert!(
        more <= bound,
        "{more} reconciliations in {} s at rest",
        REST.as_secs()
    );
}

async fn reconciliations(operator: &[&Replica]) -> u64 {
    let mut sum = 0;
    for replica in operator {
        sum += replica.reconciliations().await.expect("the metrics");
    }
    sum
}

/// What one namespace holds of forwarders and of what stems from them.
struct Snapshot {
    namespace: String,
    forwarders: Vec<EventForwarder>,
    cronjobs: Vec<CronJob>,
    jobs: Vec<Job>,
    pods: Vec<Pod>,
    secrets: BTreeSet<String>,
}

impl Snapshot {
    async fn take(client: &kube::Client, namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            forwarders: list(client, namespace).await,
            cronjobs: list(client, namespace).await,
            jobs: list(client, namespace).await,
            pods: list(client, namespace).await,
            secrets: list::<Secret>(client, namespace)
                .await
                .iter()
                .map(ResourceExt::name_any)
                .collect(),
        }
    }

    /// What is not yet, or no longer, as it should be.
    fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        let uids: BTreeMap<_, _> = self
            .forwarders
            .iter()
            .map(|forwarder| (forwarder.name_any(), forwarder.uid()))
            .collect();
        for cronjob in &self.cronjobs {
            let name = cronjob.name_any();
            let owner = controller_of(cronjob);
            if owner.is_none() || uids.get(&name) != Some(&owner) {
                complaints.push(format!("CronJob {name} has no forwarder (owner {owner:?})"));
            }
        }
        for forwarder in &self.forwarders {
            self.complain_of(forwarder, &mut complaints);
        }
        let cronjobs: BTreeSet<_> = self.cronjobs.iter().map(ResourceExt::uid).collect();
        for job in &self.jobs {
            let name = job.name_any();
            let owner = job.owner_references().first();
            if !cronjobs.contains(&owner.map(|owner| owner.uid.clone())) {
                complaints.push(format!("Job {name} has no CronJob"));
            }
            if !ended(job) {
                complaints.push(format!("Job {name} has not ended"));
            }
            let pods = self.pods.iter();
            let pods = pods.filter(|pod| controller_of(*pod) == job.uid()).count();
            if pods > 1 {
                complaints.push(format!("Job {name} had {pods} pods"));
            }
        }
        complaints
    }

    fn complain_of(&self, forwarder: &EventForwarder, complaints: &mut Vec<String>) {
        let name = forwarder.name_any();
        let mut complain = |what: String| complaints.push(format!("EventForwarder {name}: {what}"));
        let cronjobs = self.cronjobs.iter();
        let own: Vec<_> = cronjobs
            .filter(|cronjob| controller_of(*cronjob) == forwarder.uid())
            .collect();
        if own.len() != 1 {
            complain(format!("it has {} CronJobs", own.len()));
        }
        let Some(status) = &forwarder.status else {
            return complain("it has no status".to_owned());
        };
        let generation = forwarder.metadata.generation;
        if status.observed_generation != generation {
            complain(format!(
                "generation {generation:?} and only {:?} observed",
                status.observed_generation
            ));
        }
        for condition in &status.conditions {
            if condition.observed_generation != generation {
                complain(format!("{} is of another generation", condition.type_));
            }
            // Before the first poll.
            if condition.type_ == "QueueReachable" && condition.status == "Unknown" {
                complain("its queue was not looked at".to_owned());
            }
            // A Secret is no event: it is looked for again and again.
            let secret = &forwarder.spec.iterable.api_key_secret_ref.name;
            let is_there = self.secrets.contains(secret);
            if condition.type_ == "SecretsAvailable" && is_there != (condition.status == "True") {
                complain(format!(
                    "that Secret {secret} is there ({is_there}) was not seen"
                ));
            }
        }
        let asked = forwarder.annotations().get(RUN_NOW);
        let can_run = status
            .conditions
            .iter()
            .any(|condition| condition.type_ == "SecretsAvailable" && condition.status == "True");
        if can_run && asked != status.last_run_request.as_ref() {
            complain(format!("the run asked for by {asked:?} was not started"));
        }
        let jobs = self.jobs.iter();
        let runs = jobs
            .filter(|job| job.labels().get(INSTANCE) == Some(&name) && ended(job))
            .count() as u64;
        if status.totals.runs != runs {
            complain(format!(
                "{runs} runs have ended and {} are counted",
                status.totals.runs
            ));
        }
    }

    /// Where this differs from what forwarders of the same names and specs have elsewhere.
    fn differences(&self, twins: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        differ("", &self.essence(), &twins.essence(), &mut differences);
        differences
    }

    /// What the controller decides of each forwarder, without time, place and history.
    fn essence(&self) -> Value {
        let conditions: BTreeMap<_, _> = self.forwarders.iter().map(conditions_of).collect();
        let cronjobs: BTreeMap<_, _> = self
            .cronjobs
            .iter()
            .map(|cronjob| {
                let owners: Vec<_> = cronjob
                    .owner_references()
                    .iter()
                    .map(|owner| (&owner.kind, &owner.name, owner.controller))
                    .collect();
                // It stands for all else, the place among it.
                let mut annotations = cronjob.annotations().clone();
                annotations.remove(APPLIED);
                let essence = json!({
                    "labels": cronjob.labels(),
                    "annotations": annotations,
                    "owners": owners,
                    "spec": cronjob.spec,
                });
                (cronjob.name_any(), essence)
            })
            .collect();
        let text = json!({"conditions": conditions, "cronjobs": cronjobs}).to_string();
        serde_json::from_str(&text.replace(&self.namespace, "NAMESPACE")).expect("JSON")
    }

    fn versions(&self) -> Vec<(String, Option<String>)> {
        let forwarders = self.forwarders.iter();
        let cronjobs = self.cronjobs.iter();
        forwarders
            .map(|object| (object.name_any(), object.resource_version()))
            .chain(cronjobs.map(|object| (object.name_any(), object.resource_version())))
            .collect()
    }
}

/// A forwarder's name and its conditions, but for that which tells of history.
fn conditions_of(forwarder: &EventForwarder) -> (String, Vec<(String, String, String)>) {
    let status = forwarder.status.iter();
    let conditions = status
        .flat_map(|status| status.conditions.iter().cloned())
        .filter(|condition| condition.type_ != "LastRunSucceeded")
        .map(|condition| (condition.type_, condition.status, condition.reason));
    (forwarder.name_any(), conditions.collect())
}

/// Adds to `differences` each place where two values differ.
fn differ(place: &str, one: &Value, other: &Value, differences: &mut Vec<String>) {
    match (one, other) {
        (Value::Object(fields), Value::Object(others)) => {
            let names: BTreeSet<_> = fields.keys().chain(others.keys()).collect();
            for name in names {
                let (one, other) = (&one[name], &other[name]);
                differ(&format!("{place}.{name}"), one, other, differences);
            }
        }
        _ if one == other => {}
        _ => differences.push(format!("{place}: {one}, and of its twin: {other}")),
    }
}

/// The uid of the object's controller.
fn controller_of(object: &impl Resource) -> Option<String> {
    let owners = object.meta().owner_references.iter().flatten();
    owners
        .filter(|owner| owner.controller == Some(true))
        .map(|owner| owner.uid.clone())
        .next()
}

fn ended(job: &Job) -> bool {
    let conditions = job.status.iter().flat_map(|status| &status.conditions);
    conditions.flatten().any(|condition| {
        condition.status == "True" && matches!(condition.type_.as_str(), "Complete" | "Failed")
    })
}

async fn list<K>(client: &kube::Client, namespace: &str) -> Vec<K>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    K::DynamicType: Default,
{
    let api = Api::<K>::namespaced(client.clone(), namespace);
    let listed = crate::faults::patiently(async || api.list(&ListParams::default()).await);
    listed.await.items
}
