//! The parts that a test is made of: the cluster with the operator in it, an SQS server, and
//! for each test a namespace, a queue and a stand-in for Iterable of its own.

use std::{
    cell::RefCell,
    env,
    fmt::Debug,
    net::{IpAddr, SocketAddr},
    path::Path,
    time::Duration,
};

use event_forwarder::api::{EventForwarder, EventForwarderStatus};
use event_forwarder_test_support::{
    iterable::{IterableStandIn, Options},
    sqs::{Attributes, Kind, Queue, SqsServer},
};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::{
    batch::v1::{CronJob, Job},
    core::v1::{Pod, ResourceQuota},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ListParams, Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::{
    process::Command,
    sync::{Mutex, MutexGuard, watch},
};

pub use crate::sharing::{RELEASE, SYSTEM};
use crate::{names::Names, scene::Snapshot, sharing};

/// The Iterable key of every test. It must stand in nothing that the system prints.
pub const API_KEY: &str = "planted-iterable-key-5f0c";
/// The AWS secret key of every test, likewise.
pub const AWS_SECRET: &str = "planted-aws-secret-91be";
/// The AWS secret key of the controller itself, likewise.
pub const AMBIENT_SECRET: &str = "planted-controller-secret-3c4d";
/// How long a test waits for the cluster to get to a state.
const PATIENCE: Duration = Duration::from_secs(180);
/// How many stages there are.
const STAGES: usize = 6;

tokio::task_local! {
    /// The namespaces of the test that runs, to be shown when it fails.
    static NAMESPACES: RefCell<Vec<String>>;
}

/// What all tests share.
pub struct Shared {
    pub client: Client,
    sqs: SqsServer,
    pub host: IpAddr,
    /// What the users of the cluster have, if the suite created it.
    pub users: Option<Snapshot>,
    turns: watch::Sender<[usize; STAGES]>,
    floor: Mutex<()>,
}

/// When a test runs: after all tests of the stages before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// With the operator that the chart installed; beside others.
    Operator,
    /// Alone, with an operator that it installs and takes away again.
    OwnInstallation,
    /// Alone, with what users have; cleans the cluster up.
    Users,
    /// As [`Self::OwnInstallation`], and nobody else has the product in the suite's own cluster.
    SoleInstallation,
    /// With operators that are processes of its own; beside others.
    OwnOperator,
    /// Alone, since it stops parts of the cluster.
    OwnCluster,
}

/// A test's place among those that others wait for.
pub struct Turn {
    turns: watch::Sender<[usize; STAGES]>,
    stage: Stage,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let stage = self.stage as usize;
        self.turns.send_modify(|turns| turns[stage] -= 1);
    }
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// The address of this machine that pods reach.
pub fn host() -> Result<IpAddr, AnyError> {
    let host = env::var("EVENT_FORWARDER_HOST_IP")
        .map_err(|_| "EVENT_FORWARDER_HOST_IP is not set: eval \"$(tests/cluster/cluster env)\"")?;
    Ok(host.parse()?)
}

/// The repository and the tag of the image to test.
pub fn image() -> Result<(String, String), AnyError> {
    let image = env::var("EVENT_FORWARDER_IMAGE")
        .map_err(|_| "EVENT_FORWARDER_IMAGE is not set: build and import the image first")?;
    let (repository, tag) = image
        .rsplit_once(':')
        .ok_or("EVENT_FORWARDER_IMAGE needs a tag")?;
    Ok((repository.to_owned(), tag.to_owned()))
}

impl Shared {
    /// Starts the SQS server and installs the operator by its chart.
    pub async fn start(
        client: Client,
        host: IpAddr,
        users: Option<Snapshot>,
    ) -> Result<Self, AnyError> {
        let sqs = SqsServer::start(Kind::Moto, SocketAddr::new(host, 0)).await?;
        let shared = Self {
            client,
            sqs,
            host,
            users,
            turns: watch::Sender::new([0; STAGES]),
            floor: Mutex::default(),
        };
        shared.install().await?;
        Ok(shared)
    }

    /// Installs the operator by its chart, if it is not there.
    pub async fn install(&self) -> Result<(), AnyError> {
        self.install_with(&[]).await
    }

    /// As [`Self::install`], with further arguments for helm.
    pub async fn install_with(&self, more: &[&str]) -> Result<(), AnyError> {
        let (repository, tag) = image()?;
        let hosts = json!(["aws", self.sqs.endpoint()]);
        let watches_all = !more.iter().any(|it| it.starts_with("watchNamespaces="));
        let shared = sharing::before_install(&self.client, watches_all).await?;
        let shared: Vec<_> = shared.iter().map(String::as_str).collect();
        let all = [
            "upgrade",
            "--install",
            RELEASE,
            CHART,
            "--namespace",
            SYSTEM,
            "--set",
            &format!("image.repository={repository}"),
            "--set",
            &format!("image.tag={tag}"),
            "--set-json",
            &format!("ambientCredentials.hosts={hosts}"),
            "--set-json",
            &format!("extraEnv={}", ambient_identity()),
            "--wait",
            "--timeout",
            "120s",
        ];
        if let Err(error) = attempt("helm", &[&all[..], &shared, more].concat()).await {
            return Err(format!("{error}\n{}", story(&[SYSTEM.to_owned()]).await).into());
        }
        sharing::after_install(&self.client).await
    }

    /// Removes the operator.
    pub async fn uninstall(&self) {
        sharing::uninstall().await;
    }

    /// Counts a test in, until the turn is dropped.
    pub fn turn(&self, stage: Stage) -> Turn {
        self.turns.send_modify(|turns| turns[stage as usize] += 1);
        Turn {
            turns: self.turns.clone(),
            stage,
        }
    }

    /// Returns once a test of this stage may run, with the floor if it is to run alone.
    pub async fn stage(&self, stage: Stage) -> Option<MutexGuard<'_, ()>> {
        let before =
            |turns: &[usize; STAGES]| turns[..stage as usize].iter().all(|left| *left == 0);
        let _ = self.turns.subscribe().wait_for(before).await;
        match stage {
            Stage::Operator | Stage::OwnOperator => None,
            _ => Some(self.floor.lock().await),
        }
    }
}

/// One test's own part of the world.
pub struct World {
    pub namespace: String,
    pub client: Client,
    pub queue: Queue,
    pub iterable: IterableStandIn,
    sqs: String,
    /// How the manifest names them.
    names: Names,
}

impl World {
    /// A fresh namespace with the AWS credentials in it, a queue with a dead-letter queue, and a
    /// stand-in for Iterable. The Secret with Iterable's key is the test's to give.
    pub async fn new(shared: &Shared, name: &str) -> Self {
        let namespace = format!("{RELEASE}-{name}");
        // Fault tests append a word.
        assert!(namespace.len() <= 56, "{namespace} is too long");
        let _ = NAMESPACES.try_with(|all| all.borrow_mut().push(namespace.clone()));
        sharing::delete_namespace(&shared.client, &namespace).await;
        let restricted = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        sharing::create_namespace(&shared.client, &namespace, restricted).await;
        // On a shared cluster, the operator may change objects only by this.
        apply_json(&shared.client, json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": "operator", "namespace": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": RELEASE},
            "subjects": [{"kind": "ServiceAccount", "name": RELEASE, "namespace": SYSTEM}],
        }))
        .await;
        let iterable = IterableStandIn::start(Options {
            listen: SocketAddr::new(shared.host, 0),
            api_keys: vec![API_KEY.to_owned()],
            ..Options::default()
        })
        .await
        .expect("a stand-in for Iterable");
        let queue = shared
            .sqs
            .create_queue_with_dlq(name, Attributes::default())
            .await
            .expect("a queue");
        let sqs = shared.sqs.endpoint();
        let names = Names::of_services(&shared.client, &namespace, &sqs, iterable.url()).await;
        let world = Self {
            namespace,
            client: shared.client.clone(),
            queue,
            iterable,
            sqs,
            names,
        };
        world
            .secret(
                "aws",
                &[
                    ("accessKeyId", "AKIAEXAMPLE"),
                    ("secretAccessKey", AWS_SECRET),
                ],
            )
            .await;
        world
    }

    /// The SQS server's URL on this machine.
    pub fn sqs_address(&self) -> &str {
        &self.sqs
    }

    /// Names both servers by address in manifests, for tests of programs that run on this machine.
    #[must_use]
    pub fn by_address(mut self) -> Self {
        self.names = Names {
            sqs: self.sqs.clone(),
            iterable: self.iterable.url().to_owned(),
        };
        self
    }

    /// Creates or replaces a Secret.
    pub async fn secret(&self, name: &str, entries: &[(&str, &str)]) {
        let data: serde_json::Map<_, _> = entries
            .iter()
            .map(|(key, value)| ((*key).to_owned(), json!(value)))
            .collect();
        apply_json(
            &self.client,
            json!({
                "apiVersion": "v1", "kind": "Secret",
                "metadata": {"name": name, "namespace": self.namespace},
                "stringData": data,
            }),
        )
        .await;
    }

    /// Lets the namespace hold no more than `hard` says; returns once that counts.
    pub async fn quota(&self, hard: Value) {
        apply_json(
            &self.client,
            json!({
                "apiVersion": "v1", "kind": "ResourceQuota",
                "metadata": {"name": "quota", "namespace": self.namespace},
                "spec": {"hard": hard},
            }),
        )
        .await;
        self.until::<ResourceQuota>("quota", "the quota counts", |quota| {
            let status = quota.status.as_ref();
            status.is_some_and(|status| status.hard.is_some())
        })
        .await;
    }

    /// Creates the Secret with Iterable's key.
    pub async fn give_key(&self) {
        self.secret("iterable", &[("api-key", API_KEY)]).await;
    }

    /// A manifest that names this test's queue and Iterable, once a year unless `spec` says else.
    pub fn manifest(&self, name: &str, spec: Value) -> Value {
        let mut all = json!({
            "schedule": "0 0 1 1 *",
            "queue": {
                "url": self.queue.url.replace(&self.sqs, &self.names.sqs),
                "endpoint": self.names.sqs,
                "region": "us-east-1",
                "credentialsSecretRef": {"name": "aws"},
                "pollInterval": "2s",
            },
            "iterable": {
                "endpoint": self.names.iterable,
                "apiKeySecretRef": {"name": "iterable"},
            },
            "drain": {"maxDuration": "5m"},
        });
        merge(&mut all, spec);
        json!({
            "apiVersion": "eventforwarder.io/v1alpha1",
            "kind": "EventForwarder",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": all,
        })
    }

    /// Applies a forwarder with `kubectl`, as a user would.
    pub async fn apply(&self, name: &str, spec: Value) {
        kubectl_apply(&self.manifest(name, spec))
            .await
            .expect("kubectl apply");
    }

    /// The objects of one kind in this test's namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Waits until the forwarder's status satisfies `met`.
    pub async fn status_until(
        &self,
        name: &str,
        what: &str,
        met: impl Fn(&EventForwarderStatus) -> bool,
    ) -> EventForwarderStatus {
        let met = |forwarder: &EventForwarder| forwarder.status.as_ref().is_some_and(&met);
        let forwarder = self.until::<EventForwarder>(name, what, met).await;
        forwarder.status.unwrap_or_default()
    }

    /// Waits until the condition Scheduled has this reason; its message.
    pub async fn scheduled_until(&self, name: &str, reason: &str) -> String {
        let met = |status: &EventForwarderStatus| condition(status, "Scheduled").1 == reason;
        let status = self.status_until(name, reason, met).await;
        condition(&status, "Scheduled").2.to_owned()
    }

    /// Waits until the object satisfies `met`.
    pub async fn until<K>(&self, name: &str, what: &str, met: impl Fn(&K) -> bool) -> K
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug
            + Send
            + 'static,
        K::DynamicType: Default,
    {
        let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut last = None;
        let wait = async {
            let mut objects = watcher(self.api::<K>(), only)
                .default_backoff()
                .applied_objects()
                .boxed();
            while let Some(object) = objects.try_next().await.expect("a watch") {
                if met(&object) {
                    return object;
                }
                last = Some(object);
            }
            unreachable!("a watch does not end by itself")
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(object) => object,
            Err(_) => panic!(
                "{}/{name} did not get to: {what}\nlast seen: {last:#?}\n{}",
                self.namespace,
                stories().await
            ),
        }
    }

    /// Starts a run now, as `kubectl create job --from` does, and waits for its end.
    pub async fn run_now(&self, name: &str, job: &str) -> EventForwarderStatus {
        self.until::<CronJob>(name, "a CronJob is there", |_| true)
            .await;
        kubectl(&[
            "create",
            "job",
            job,
            "--namespace",
            &self.namespace,
            &format!("--from=cronjob/{name}"),
        ])
        .await;
        self.status_until(name, "the run has ended", |status| {
            status
                .last_run
                .as_ref()
                .is_some_and(|run| run.job_name == job && run.finished_at.is_some())
        })
        .await
    }

    /// The CronJobs, Jobs and pods of forwarders in the namespace.
    pub async fn left(&self) -> Vec<String> {
        let (cronjobs, jobs) = (self.of_forwarders::<CronJob>(), self.of_forwarders::<Job>());
        [
            cronjobs.await,
            jobs.await,
            self.of_forwarders::<Pod>().await,
        ]
        .concat()
    }

    /// The objects of this kind in the namespace that stem from a forwarder.
    pub async fn of_forwarders<K>(&self) -> Vec<String>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
        K::DynamicType: Default,
    {
        let ours = ListParams::default().labels("app.kubernetes.io/managed-by=event-forwarder");
        let listed = self.api::<K>().list_metadata(&ours).await;
        let types = K::DynamicType::default();
        let kind = K::kind(&types);
        let names = listed.expect("a list").items;
        let names = names.iter().map(|it| format!("{kind} {}", it.name_any()));
        names.collect()
    }
}

/// Runs a test, so that waits know its namespaces.
pub async fn in_test<T>(test: impl Future<Output = T>) -> T {
    let namespaces = RefCell::new(vec![SYSTEM.to_owned()]);
    NAMESPACES.scope(namespaces, test).await
}

/// The state of the namespaces of the test that runs.
pub async fn stories() -> String {
    let namespaces = NAMESPACES.try_with(|all| all.borrow().clone());
    story(&namespaces.unwrap_or_default()).await
}

/// The state that explains why a test fails: forwarders, events, jobs, pods and their logs.
async fn story(namespaces: &[String]) -> String {
    let mut story = String::new();
    for namespace in namespaces {
        let of = ["--namespace", namespace];
        for kinds in ["eventforwarders", "events,jobs,pods"] {
            let get = ["get", kinds, "--output", "wide"];
            let got = attempt("kubectl", &[&get[..], &of].concat()).await;
            let got = got.unwrap_or_else(|error| error);
            story.push_str(&format!("--- {kinds} in {namespace}\n{got}\n"));
        }
        let names = ["get", "pods", "--output", "name"];
        let pods = attempt("kubectl", &[&names[..], &of].concat()).await;
        for pod in pods.unwrap_or_default().lines() {
            let logs = ["logs", pod, "--tail", "100"];
            let log = attempt("kubectl", &[&logs[..], &of].concat()).await;
            let log = log.unwrap_or_else(|error| error);
            story.push_str(&format!("--- log of {pod} in {namespace}\n{log}\n"));
        }
    }
    story
}

/// The condition of a type, as (status, reason, message).
pub fn condition<'a>(status: &'a EventForwarderStatus, type_: &str) -> (&'a str, &'a str, &'a str) {
    status
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_)
        .map_or(("", "", ""), |found| {
            (&found.status, &found.reason, &found.message)
        })
}

/// Waits until `look` returns true; it also returns what it saw, to be shown if it never does.
pub async fn eventually<T: Debug>(what: &str, look: impl AsyncFn() -> (bool, T)) {
    let mut last = None;
    let looked = async {
        loop {
            let (met, seen) = look().await;
            if met {
                return;
            }
            last = Some(seen);
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, looked).await.is_err() {
        let seconds = PATIENCE.as_secs();
        let stories = stories().await;
        panic!("not within {seconds} s: {what}\nlast seen: {last:#?}\n{stories}");
    }
}

/// Waits until `event` has happened.
pub async fn within<T>(what: &str, event: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, event).await {
        Ok(value) => value,
        Err(_) => panic!(
            "not within {} s: {what}\n{}",
            PATIENCE.as_secs(),
            stories().await
        ),
    }
}

/// Waits until the operator's pods are those of its Deployment, and ready.
pub async fn rolled_out() {
    let rollout = ["rollout", "status", &format!("deployment/{RELEASE}")];
    let patience = ["--namespace", SYSTEM, "--timeout", "180s"];
    if let Err(error) = attempt("kubectl", &[&rollout[..], &patience].concat()).await {
        panic!("{error}\n{}", stories().await);
    }
}

/// Waits until the object is gone.
pub async fn gone<K>(api: &Api<K>, name: &str)
where
    K: Clone + DeserializeOwned + Debug,
{
    eventually(&format!("{name} is gone"), async || {
        let object = api.get_metadata_opt(name).await.expect("a get");
        (object.is_none(), object.map(|object| object.metadata))
    })
    .await;
}

/// Applies any object, server-side.
pub async fn apply_json(client: &Client, object: Value) {
    let text = object.to_string();
    let object: kube::api::DynamicObject = serde_json::from_value(object).expect("an object");
    let types = object.types.clone().expect("a kind");
    let gvk = kube::core::GroupVersionKind::try_from(types).expect("a kind");
    let (resource, _) = kube::discovery::pinned_kind(client, &gvk)
        .await
        .expect("a known kind");
    let api: Api<kube::api::DynamicObject> = match object.namespace() {
        Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let params = PatchParams::apply(RELEASE).force();
    api.patch(&object.name_any(), &params, &Patch::Apply(&object))
        .await
        .unwrap_or_else(|error| panic!("could not apply {text}: {error}"));
}

/// Runs `kubectl apply -f` on a manifest; yields what it printed, or its complaint.
pub async fn kubectl_apply(manifest: &Value) -> Result<String, String> {
    let file = env::temp_dir().join(format!("event-forwarder-e2e-{}.json", uuid()));
    std::fs::write(&file, manifest.to_string()).expect("a file");
    let output = Command::new("kubectl")
        .arg("apply")
        .arg("-f")
        .arg(&file)
        .output()
        .await
        .expect("kubectl");
    let _ = std::fs::remove_file(&file);
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// A name that no other call in this process was given.
fn uuid() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(
        "{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// Runs kubectl; yields what it printed.
pub async fn kubectl(arguments: &[&str]) -> String {
    command("kubectl", arguments).await
}

/// Runs helm; yields what it printed.
pub async fn helm(arguments: &[&str]) -> String {
    command("helm", arguments).await
}

async fn command(program: &str, arguments: &[&str]) -> String {
    attempt(program, arguments)
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Runs a program, and returns what it printed, or why it failed.
pub async fn attempt(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .await
        .map_err(|error| format!("{program}: {error}; is it on the PATH?"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!(
            "{program} {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}

/// The AWS identity of the controller itself, as its environment.
fn ambient_identity() -> Value {
    json!([
        {"name": "AWS_ACCESS_KEY_ID", "value": "AKIACONTROLLER"},
        {"name": "AWS_SECRET_ACCESS_KEY", "value": AMBIENT_SECRET},
    ])
}

/// The chart's folder, of the package's, in which cargo runs a test.
pub const CHART: &str = "charts/event-forwarder";

/// A sample body, with the times in it moved from 2025-11-25T08:00:00Z, a multiple of 1,000 s, to
/// the last such multiple before now: an event that is a year old would be taken for one of a
/// broken clock.
pub fn sample(name: &str) -> String {
    let body = std::fs::read_to_string(Path::new("tests/samples").join(name)).expect(name);
    body.replace("1764057", &recent_kiloseconds().to_string())
}

/// The thousands of seconds since 1970 that [`sample`] puts in place of 1764057.
pub fn recent_kiloseconds() -> i64 {
    jiff::Timestamp::now().as_second() / 1000
}

/// Lays `over` on `base`, object by object.
pub fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}

/// Jobs of this test's forwarder.
pub async fn jobs(world: &World) -> Vec<Job> {
    world
        .api::<Job>()
        .list(&ListParams::default())
        .await
        .expect("jobs")
        .items
}
