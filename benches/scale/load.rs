//! Creates, watches and compares the EventForwarders.

use std::{
    collections::{BTreeMap, HashSet},
    pin::Pin,
    time::{Duration, Instant},
};

use event_forwarder::api::{EventForwarder, EventForwarderStatus};
use event_forwarder_test_support::sqs::{Attributes, SqsServer};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use k8s_openapi::{
    api::{
        batch::v1::CronJob,
        core::v1::{Namespace, Secret},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, CustomResourceExt, Resource, ResourceExt,
    api::{ApiResource, ListParams, Patch, PatchParams, PostParams},
    core::{NotUsed, Object, PartialObjectMeta},
    runtime::{WatchStreamExt, conditions, wait::await_condition, watcher},
};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::AnyError;

/// Number of namespaces with forwarders.
const NAMESPACES: usize = 20;
/// Namespace of the forwarders that are applied one by one.
const APPLIED: &str = "scale-applied";
/// Number of concurrent creates.
const CONCURRENCY: usize = 16;

/// A forwarder in the watch stream.
type WatchedForwarder = Object<NotUsed, EventForwarderStatus>;

/// Versions of objects by namespace and name.
pub type Fingerprint = BTreeMap<(String, String), String>;

/// The forwarders of a measurement.
pub struct Load {
    client: Client,
    spec: serde_json::Value,
}

impl Load {
    /// Installs the CRD and creates the namespaces with their Secrets.
    pub async fn new(
        client: Client,
        sqs: &SqsServer,
        poll_interval: String,
        own_credentials: bool,
    ) -> Result<Self, AnyError> {
        let crds = Api::<CustomResourceDefinition>::all(client.clone());
        let crd = EventForwarder::crd();
        let params = PatchParams::apply("scale").force();
        crds.patch(&crd.name_any(), &params, &Patch::Apply(&crd))
            .await?;
        let established = conditions::is_crd_established();
        await_condition(crds, &crd.name_any(), established).await?;
        for namespace in (0..NAMESPACES).map(namespace).chain([APPLIED.to_owned()]) {
            create::<Namespace>(
                &Api::all(client.clone()),
                json!({"metadata": {"name": namespace}}),
            )
            .await
            .map_err(|error| format!("{error}; start with a fresh cluster"))?;
            let secrets = Api::<Secret>::namespaced(client.clone(), &namespace);
            for secret in [
                json!({"metadata": {"name": "iterable"}, "stringData": {"api-key": "none"}}),
                json!({
                    "metadata": {"name": "aws"},
                    "stringData": {"accessKeyId": "own", "secretAccessKey": "own"},
                }),
            ] {
                create(&secrets, secret).await?;
            }
        }
        let queue = sqs
            .create_queue_with_dlq("scale", Attributes::default())
            .await?;
        let mut spec = json!({
            // Once a year, so that no run starts during the measurement.
            "schedule": "0 0 1 1 *",
            "queue": {
                "url": queue.url,
                "region": "us-east-1",
                "pollInterval": poll_interval,
            },
            "iterable": {"apiKeySecretRef": {"name": "iterable", "key": "api-key"}},
        });
        if own_credentials {
            spec["queue"]["credentialsSecretRef"] = json!({"name": "aws"});
        }
        Ok(Self { client, spec })
    }

    /// Creates the forwarders.
    pub async fn create(&self, count: usize) -> Result<(), AnyError> {
        stream::iter((0..count).map(Ok::<_, AnyError>))
            .try_for_each_concurrent(CONCURRENCY, |index| async move {
                self.create_one(
                    &namespace(index % NAMESPACES),
                    &format!("forwarder-{index}"),
                )
                .await
            })
            .await
    }

    async fn create_one(&self, namespace: &str, name: &str) -> Result<(), AnyError> {
        let api = Api::<EventForwarder>::namespaced(self.client.clone(), namespace);
        create(&api, json!({"metadata": {"name": name}, "spec": self.spec})).await
    }

    /// Starts to watch the forwarders' status.
    pub async fn watch(&self) -> Result<ReadyForwarders, AnyError> {
        let resource = ApiResource::erase::<EventForwarder>(&());
        let api = Api::<WatchedForwarder>::all_with(self.client.clone(), &resource);
        let mut ready = ReadyForwarders {
            stream: Box::pin(watcher(api, watcher::Config::default()).default_backoff()),
            names: HashSet::new(),
        };
        while !matches!(ready.next().await?, watcher::Event::InitDone) {}
        Ok(ready)
    }

    /// Applies forwarders one by one, and returns the time from every apply to its CronJob.
    pub async fn apply_one_by_one(&self, count: usize) -> Result<Vec<Duration>, AnyError> {
        let api = Api::<PartialObjectMeta<CronJob>>::namespaced(self.client.clone(), APPLIED);
        let mut cronjobs = watcher(api, watcher::Config::default())
            .default_backoff()
            .boxed();
        while !matches!(
            cronjobs.try_next().await?.ok_or("the watch has ended")?,
            watcher::Event::InitDone
        ) {}
        let mut latencies = Vec::new();
        for index in 0..count {
            let name = format!("applied-{index}");
            let started = Instant::now();
            self.create_one(APPLIED, &name).await?;
            loop {
                let event = cronjobs.try_next().await?.ok_or("the watch has ended")?;
                if matches!(event, watcher::Event::Apply(cronjob) if cronjob.name_any() == name) {
                    break;
                }
            }
            latencies.push(started.elapsed());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(latencies)
    }

    /// Returns the versions of all forwarders and CronJobs.
    pub async fn fingerprint(&self) -> Result<Fingerprint, AnyError> {
        let mut all = versions::<EventForwarder>(&self.client).await?;
        all.extend(versions::<CronJob>(&self.client).await?);
        Ok(all)
    }

    /// Returns the number of objects that changed, and of all objects.
    pub async fn changed_since(&self, before: &Fingerprint) -> Result<String, AnyError> {
        let now = self.fingerprint().await?;
        let changed = now
            .iter()
            .filter(|(key, version)| before.get(*key) != Some(version));
        Ok(format!("{} of {}", changed.count(), now.len()))
    }
}

/// The forwarders that are Ready.
pub struct ReadyForwarders {
    stream: Pin<Box<dyn Stream<Item = watcher::Result<watcher::Event<WatchedForwarder>>> + Send>>,
    names: HashSet<(Option<String>, String)>,
}

impl ReadyForwarders {
    async fn next(&mut self) -> Result<watcher::Event<WatchedForwarder>, AnyError> {
        Ok(self.stream.try_next().await?.ok_or("the watch has ended")?)
    }

    /// Waits until `count` forwarders are Ready: their CronJob exists, and their queue was polled.
    pub async fn wait(&mut self, count: usize) -> Result<(), AnyError> {
        while self.names.len() < count {
            let watcher::Event::Apply(forwarder) = self.next().await? else {
                continue;
            };
            let conditions = forwarder
                .status
                .iter()
                .flat_map(|status| &status.conditions);
            let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
            if ready.any(|condition| condition.status == "True") {
                self.names
                    .insert((forwarder.namespace(), forwarder.name_any()));
            }
        }
        Ok(())
    }
}

fn namespace(index: usize) -> String {
    format!("scale-{index}")
}

async fn create<K>(api: &Api<K>, object: serde_json::Value) -> Result<(), AnyError>
where
    K: Resource + Clone + DeserializeOwned + serde::Serialize + std::fmt::Debug,
{
    let object: K = serde_json::from_value(object)?;
    api.create(&PostParams::default(), &object).await?;
    Ok(())
}

async fn versions<K>(client: &Client) -> Result<Fingerprint, AnyError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let api = Api::<K>::all(client.clone());
    let mut page = ListParams::default().limit(2000);
    let mut all = Fingerprint::new();
    loop {
        let list = api.list_metadata(&page).await?;
        let version = |object: PartialObjectMeta<K>| {
            let kind = K::kind(&());
            let name = format!("{kind}/{}", object.name_any());
            let version = object.resource_version().unwrap_or_default();
            ((object.namespace().unwrap_or_default(), name), version)
        };
        all.extend(list.items.into_iter().map(version));
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(all),
        }
    }
}
