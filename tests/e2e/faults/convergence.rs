//! The check that all fault tests end with: the cluster converges to the state of fresh forwarders.

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
    world::{World, test_diagnostics},
};

const APPLIED: &str = "eventforwarder.io/applied";
const RUN_NOW: &str = "eventforwarder.io/run-now";
const INSTANCE: &str = "app.kubernetes.io/instance";
/// Maximum time until convergence. It exceeds the longest retry delay after an outage of a minute.
const CONVERGENCE_TIMEOUT: Duration = Duration::from_secs(180);
/// Duration in which nothing may be written after convergence.
const IDLE_DURATION: Duration = Duration::from_secs(8);

/// Checks that the forwarders converge: their objects and conditions equal those of fresh copies of
/// these forwarders, no other object remains, and the operator is idle.
pub async fn assert_converges(world: &World, operator: &[&Replica]) {
    wait_until_settled(&world.client, &world.namespace, operator).await;
    let copies = copy_namespace(&world.namespace);
    create_copies(world, &copies).await;
    wait_until_settled(&world.client, &copies, operator).await;
    let differences = Snapshot::take(&world.client, &world.namespace)
        .await
        .differences(&Snapshot::take(&world.client, &copies).await);
    assert!(
        differences.is_empty(),
        "different from a fresh forwarder:\n{}",
        differences.join("\n")
    );
    assert_idle(world, operator).await;
    let namespaces = Api::<Namespace>::all(world.client.clone());
    let _ = namespaces.delete(&copies, &DeleteParams::default()).await;
}

/// Returns the name of the namespace for copies of this namespace's forwarders.
pub fn copy_namespace(namespace: &str) -> String {
    format!("{namespace}-copies")
}

/// Waits until [`Snapshot::problems`] is empty.
pub async fn wait_until_settled(client: &kube::Client, namespace: &str, operator: &[&Replica]) {
    let mut problems = Vec::new();
    let poll = async {
        loop {
            problems = Snapshot::take(client, namespace).await.problems();
            if problems.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    if tokio::time::timeout(CONVERGENCE_TIMEOUT, poll)
        .await
        .is_err()
    {
        let logs: Vec<_> = operator.iter().map(|replica| replica.log_tail()).collect();
        panic!(
            "{namespace} did not converge:\n{}\n{}\n{}",
            problems.join("\n"),
            logs.join("\n"),
            test_diagnostics().await
        );
    }
}

/// Copies the Secrets and forwarders to a new namespace: only names, data and specs, without
/// annotations and status.
async fn create_copies(world: &World, namespace: &str) {
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

/// Checks that the operator writes nothing and does not reconcile repeatedly during
/// [`IDLE_DURATION`].
async fn assert_idle(world: &World, operator: &[&Replica]) {
    let before = Snapshot::take(&world.client, &world.namespace).await;
    let counts_before = reconciliations(operator).await;
    tokio::time::sleep(IDLE_DURATION).await;
    let after = Snapshot::take(&world.client, &world.namespace).await;
    assert_eq!(
        before.resource_versions(),
        after.resource_versions(),
        "written while idle"
    );
    let more = reconciliations(operator).await - counts_before;
    // At most one reconciliation of each forwarder and copy, because the requeue interval is longer
    // than this check.
    let bound = 2 * after.forwarders.len() as u64;
    assert!(
        more <= bound,
        "{more} reconciliations in {} s while idle",
        IDLE_DURATION.as_secs()
    );
}

async fn reconciliations(operator: &[&Replica]) -> u64 {
    let mut sum = 0;
    for replica in operator {
        sum += replica.reconciliations().await.expect("the metrics");
    }
    sum
}

/// The forwarders of one namespace and the objects that belong to them.
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

    /// Returns a description of each object that has not converged.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let uids: BTreeMap<_, _> = self
            .forwarders
            .iter()
            .map(|forwarder| (forwarder.name_any(), forwarder.uid()))
            .collect();
        for cronjob in &self.cronjobs {
            let name = cronjob.name_any();
            let owner = controller_of(cronjob);
            if owner.is_none() || uids.get(&name) != Some(&owner) {
                problems.push(format!("CronJob {name} has no forwarder (owner {owner:?})"));
            }
        }
        for forwarder in &self.forwarders {
            self.check_forwarder(forwarder, &mut problems);
        }
        let cronjobs: BTreeSet<_> = self.cronjobs.iter().map(ResourceExt::uid).collect();
        for job in &self.jobs {
            let name = job.name_any();
            let owner = job.owner_references().first();
            if !cronjobs.contains(&owner.map(|owner| owner.uid.clone())) {
                problems.push(format!("Job {name} has no CronJob"));
            }
            if !has_ended(job) {
                problems.push(format!("Job {name} has not ended"));
            }
            let pods = self.pods.iter();
            let pods = pods.filter(|pod| controller_of(*pod) == job.uid()).count();
            if pods > 1 {
                problems.push(format!("Job {name} had {pods} pods"));
            }
        }
        problems
    }

    fn check_forwarder(&self, forwarder: &EventForwarder, problems: &mut Vec<String>) {
        let name = forwarder.name_any();
        let mut report = |what: String| problems.push(format!("EventForwarder {name}: {what}"));
        let cronjobs = self.cronjobs.iter();
        let owned: Vec<_> = cronjobs
            .filter(|cronjob| controller_of(*cronjob) == forwarder.uid())
            .collect();
        if owned.len() != 1 {
            report(format!("it has {} CronJobs", owned.len()));
        }
        let Some(status) = &forwarder.status else {
            return report("it has no status".to_owned());
        };
        let generation = forwarder.metadata.generation;
        if status.observed_generation != generation {
            report(format!(
                "its generation is {generation:?}, its observed generation {:?}",
                status.observed_generation
            ));
        }
        for condition in &status.conditions {
            if condition.observed_generation != generation {
                report(format!(
                    "{} has another observed generation",
                    condition.type_
                ));
            }
            // Before the first poll.
            if condition.type_ == "QueueReachable" && condition.status == "Unknown" {
                report("its queue was not polled".to_owned());
            }
            // The controller does not watch Secrets, so it may not have read this one yet.
            let secret = &forwarder.spec.iterable.api_key_secret_ref.name;
            let exists = self.secrets.contains(secret);
            if condition.type_ == "SecretsAvailable" && exists != (condition.status == "True") {
                report(format!(
                    "SecretsAvailable is {}, but Secret {secret} exists: {exists}",
                    condition.status
                ));
            }
        }
        let requested = forwarder.annotations().get(RUN_NOW);
        let can_run = status
            .conditions
            .iter()
            .any(|condition| condition.type_ == "SecretsAvailable" && condition.status == "True");
        if can_run && requested != status.last_run_request.as_ref() {
            report(format!(
                "the run requested by {requested:?} was not started"
            ));
        }
        let jobs = self.jobs.iter();
        let runs = jobs
            .filter(|job| job.labels().get(INSTANCE) == Some(&name) && has_ended(job))
            .count() as u64;
        if status.totals.runs != runs {
            report(format!(
                "{runs} runs have ended, but {} are counted",
                status.totals.runs
            ));
        }
    }

    /// Returns the differences between these forwarders and their copies.
    fn differences(&self, copies: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        add_differences(
            "",
            &self.comparable_state(),
            &copies.comparable_state(),
            &mut differences,
        );
        differences
    }

    /// Returns the conditions and CronJobs, without times, namespaces and the history of runs.
    fn comparable_state(&self) -> Value {
        let conditions: BTreeMap<_, _> =
            self.forwarders.iter().map(comparable_conditions).collect();
        let cronjobs: BTreeMap<_, _> = self
            .cronjobs
            .iter()
            .map(|cronjob| {
                let owners: Vec<_> = cronjob
                    .owner_references()
                    .iter()
                    .map(|owner| (&owner.kind, &owner.name, owner.controller))
                    .collect();
                // The hash also covers the namespace.
                let mut annotations = cronjob.annotations().clone();
                annotations.remove(APPLIED);
                let comparable_state = json!({
                    "labels": cronjob.labels(),
                    "annotations": annotations,
                    "owners": owners,
                    "spec": cronjob.spec,
                });
                (cronjob.name_any(), comparable_state)
            })
            .collect();
        let text = json!({"conditions": conditions, "cronjobs": cronjobs}).to_string();
        serde_json::from_str(&text.replace(&self.namespace, "NAMESPACE")).expect("JSON")
    }

    fn resource_versions(&self) -> Vec<(String, Option<String>)> {
        let forwarders = self.forwarders.iter();
        let cronjobs = self.cronjobs.iter();
        forwarders
            .map(|object| (object.name_any(), object.resource_version()))
            .chain(cronjobs.map(|object| (object.name_any(), object.resource_version())))
            .collect()
    }
}

/// Returns a forwarder's name and its conditions, except the one that depends on past runs.
fn comparable_conditions(forwarder: &EventForwarder) -> (String, Vec<(String, String, String)>) {
    let status = forwarder.status.iter();
    let conditions = status
        .flat_map(|status| status.conditions.iter().cloned())
        .filter(|condition| condition.type_ != "LastRunSucceeded")
        .map(|condition| (condition.type_, condition.status, condition.reason));
    (forwarder.name_any(), conditions.collect())
}

/// Adds each path at which two values differ to `differences`.
fn add_differences(path: &str, one: &Value, other: &Value, differences: &mut Vec<String>) {
    match (one, other) {
        (Value::Object(fields), Value::Object(others)) => {
            let names: BTreeSet<_> = fields.keys().chain(others.keys()).collect();
            for name in names {
                let (one, other) = (&one[name], &other[name]);
                add_differences(&format!("{path}.{name}"), one, other, differences);
            }
        }
        _ if one == other => {}
        _ => differences.push(format!("{path}: {one}; in its copy: {other}")),
    }
}

/// Returns the UID of the owner that is marked as the object's controller.
fn controller_of(object: &impl Resource) -> Option<String> {
    let owners = object.meta().owner_references.iter().flatten();
    owners
        .filter(|owner| owner.controller == Some(true))
        .map(|owner| owner.uid.clone())
        .next()
}

fn has_ended(job: &Job) -> bool {
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
    let listed = crate::faults::retry(async || api.list(&ListParams::default()).await);
    listed.await.items
}
