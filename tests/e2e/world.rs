//! Test fixtures: the shared operator and SQS server, and a namespace, a queue and a fake Iterable
//! server for each test.

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
    iterable::{FakeIterable, Options},
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
use crate::{names::Names, sharing, user_installation::Snapshot};

/// The Iterable key of every test. The system must never print it.
pub const API_KEY: &str = "planted-iterable-key-5f0c";
/// The AWS secret key of every test. The system must never print it.
pub const AWS_SECRET: &str = "planted-aws-secret-91be";
/// The controller's ambient AWS secret key. The system must never print it.
pub const AMBIENT_SECRET: &str = "planted-controller-secret-3c4d";
/// Maximum time that a test waits for a state of the cluster.
const STATE_TIMEOUT: Duration = Duration::from_secs(180);
/// Number of variants of [`Stage`].
const STAGES: usize = 6;

tokio::task_local! {
    /// The namespaces of the current test, for its diagnostics.
    static NAMESPACES: RefCell<Vec<String>>;
}

/// The cluster and servers that all tests share.
pub struct Shared {
    pub client: Client,
    sqs: SqsServer,
    pub host: IpAddr,
    /// The user's objects before the tests, if the suite created a user's installation.
    pub users: Option<Snapshot>,
    pending: watch::Sender<[usize; STAGES]>,
    exclusive: Mutex<()>,
}

/// When a test runs: after all tests of the previous stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// In parallel with others, with the operator that the chart installed.
    Operator,
    /// Exclusively, with an operator that the test installs and uninstalls.
    OwnInstallation,
    /// Exclusively, with the user's installation. Cleans the cluster up.
    Users,
    /// Like [`Self::OwnInstallation`]. In the suite's own cluster, no other installation exists.
    SoleInstallation,
    /// In parallel with others, with operators that run as processes of the test.
    OwnOperator,
    /// Exclusively, because the test stops parts of the cluster.
    OwnCluster,
}

/// A test that has not finished. Tests of later stages wait until it is dropped.
pub struct PendingTest {
    pending: watch::Sender<[usize; STAGES]>,
    stage: Stage,
}

impl Drop for PendingTest {
    fn drop(&mut self) {
        let stage = self.stage as usize;
        self.pending.send_modify(|pending| pending[stage] -= 1);
    }
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Returns the address at which pods reach this machine.
pub fn host() -> Result<IpAddr, AnyError> {
    let host = env::var("EVENT_FORWARDER_HOST_IP")
        .map_err(|_| "EVENT_FORWARDER_HOST_IP is not set: eval \"$(tests/cluster/cluster env)\"")?;
    Ok(host.parse()?)
}

/// Returns the repository and the tag of the image to test.
pub fn image() -> Result<(String, String), AnyError> {
    let image = env::var("EVENT_FORWARDER_IMAGE")
        .map_err(|_| "EVENT_FORWARDER_IMAGE is not set: build and import the image first")?;
    let (repository, tag) = image
        .rsplit_once(':')
        .ok_or("EVENT_FORWARDER_IMAGE needs a tag")?;
    Ok((repository.to_owned(), tag.to_owned()))
}

impl Shared {
    /// Starts the SQS server and installs the operator with its chart.
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
            pending: watch::Sender::new([0; STAGES]),
            exclusive: Mutex::default(),
        };
        shared.install().await?;
        Ok(shared)
    }

    /// Installs or upgrades the operator with its chart.
    pub async fn install(&self) -> Result<(), AnyError> {
        self.install_with(&[]).await
    }

    /// Like [`Self::install`], with additional arguments for helm.
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
            return Err(format!("{error}\n{}", diagnostics(&[SYSTEM.to_owned()]).await).into());
        }
        sharing::after_install(&self.client).await
    }

    /// Uninstalls the operator.
    pub async fn uninstall(&self) {
        sharing::uninstall().await;
    }

    /// Registers a test of a stage until the returned value is dropped.
    pub fn register(&self, stage: Stage) -> PendingTest {
        self.pending
            .send_modify(|pending| pending[stage as usize] += 1);
        PendingTest {
            pending: self.pending.clone(),
            stage,
        }
    }

    /// Waits until a test of this stage can run. Returns a guard if it must run exclusively.
    pub async fn wait_for_stage(&self, stage: Stage) -> Option<MutexGuard<'_, ()>> {
        let before =
            |pending: &[usize; STAGES]| pending[..stage as usize].iter().all(|count| *count == 0);
        let _ = self.pending.subscribe().wait_for(before).await;
        match stage {
            Stage::Operator | Stage::OwnOperator => None,
            _ => Some(self.exclusive.lock().await),
        }
    }
}

/// The namespace, queue and servers of one test.
pub struct World {
    pub namespace: String,
    pub client: Client,
    pub queue: Queue,
    pub iterable: FakeIterable,
    sqs: String,
    /// The URLs of both servers in manifests.
    names: Names,
}

impl World {
    /// Creates a namespace with the AWS credentials, a queue with a dead-letter queue, and a fake
    /// Iterable server. Does not create the Secret with Iterable's key.
    pub async fn new(shared: &Shared, name: &str) -> Self {
        let namespace = format!("{RELEASE}-{name}");
        // `faults::convergence::copy_namespace` appends a suffix.
        assert!(namespace.len() <= 56, "{namespace} is too long");
        let _ = NAMESPACES.try_with(|all| all.borrow_mut().push(namespace.clone()));
        sharing::delete_namespace(&shared.client, &namespace).await;
        let restricted = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        sharing::create_namespace(&shared.client, &namespace, restricted).await;
        // On a shared cluster, this is the operator's only permission to change objects.
        apply_json(&shared.client, json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": "operator", "namespace": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": RELEASE},
            "subjects": [{"kind": "ServiceAccount", "name": RELEASE, "namespace": SYSTEM}],
        }))
        .await;
        let iterable = FakeIterable::start(Options {
            listen: SocketAddr::new(shared.host, 0),
            api_keys: vec![API_KEY.to_owned()],
            ..Options::default()
        })
        .await
        .expect("a fake Iterable server");
        let queue = shared
            .sqs
            .create_queue_with_dlq(name, Attributes::default())
            .await
            .expect("a queue");
        let sqs = shared.sqs.endpoint();
        let names = Names::with_services(&shared.client, &namespace, &sqs, iterable.url()).await;
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

    /// Returns the SQS server's URL on this machine.
    pub fn sqs_address(&self) -> &str {
        &self.sqs
    }

    /// Uses the addresses of both servers in manifests, for programs that run on this machine.
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

    /// Limits the namespace with a ResourceQuota, and waits until it is in effect.
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
        self.until::<ResourceQuota>("quota", "the quota is in effect", |quota| {
            let status = quota.status.as_ref();
            status.is_some_and(|status| status.hard.is_some())
        })
        .await;
    }

    /// Creates the Secret with Iterable's key.
    pub async fn create_key_secret(&self) {
        self.secret("iterable", &[("api-key", API_KEY)]).await;
    }

    /// Returns a manifest for this test's queue and Iterable, merged with `spec`. By default, it
    /// runs once a year.
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

    /// Applies a forwarder with `kubectl apply`.
    pub async fn apply(&self, name: &str, spec: Value) {
        kubectl_apply(&self.manifest(name, spec))
            .await
            .expect("kubectl apply");
    }

    /// Returns the client for one kind in this test's namespace.
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

    /// Waits until the condition Scheduled has this reason, and returns its message.
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
            unreachable!("a watch never ends without an error")
        };
        match tokio::time::timeout(STATE_TIMEOUT, wait).await {
            Ok(object) => object,
            Err(_) => panic!(
                "{}/{name} did not reach within {} s: {what}\nlast seen: {last:#?}\n{}",
                self.namespace,
                STATE_TIMEOUT.as_secs(),
                test_diagnostics().await
            ),
        }
    }

    /// Starts a run with `kubectl create job --from`, and waits until it ends.
    pub async fn run_now(&self, name: &str, job: &str) -> EventForwarderStatus {
        self.until::<CronJob>(name, "the CronJob exists", |_| true)
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

    /// Returns the CronJobs, Jobs and pods of forwarders in the namespace.
    pub async fn remaining_objects(&self) -> Vec<String> {
        let (cronjobs, jobs) = (
            self.forwarder_objects::<CronJob>(),
            self.forwarder_objects::<Job>(),
        );
        [
            cronjobs.await,
            jobs.await,
            self.forwarder_objects::<Pod>().await,
        ]
        .concat()
    }

    /// Returns the objects of this kind in the namespace that belong to a forwarder.
    pub async fn forwarder_objects<K>(&self) -> Vec<String>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
        K::DynamicType: Default,
    {
        let labels = ListParams::default().labels("app.kubernetes.io/managed-by=event-forwarder");
        let listed = self.api::<K>().list_metadata(&labels).await;
        let types = K::DynamicType::default();
        let kind = K::kind(&types);
        let names = listed.expect("a list").items;
        let names = names.iter().map(|it| format!("{kind} {}", it.name_any()));
        names.collect()
    }
}

/// Runs a test and records its namespaces for [`test_diagnostics`].
pub async fn in_test<T>(test: impl Future<Output = T>) -> T {
    let namespaces = RefCell::new(vec![SYSTEM.to_owned()]);
    NAMESPACES.scope(namespaces, test).await
}

/// Returns the [`diagnostics`] of the current test's namespaces.
pub async fn test_diagnostics() -> String {
    let namespaces = NAMESPACES.try_with(|all| all.borrow().clone());
    diagnostics(&namespaces.unwrap_or_default()).await
}

/// Returns the forwarders, events, Jobs, pods and pod logs of these namespaces.
async fn diagnostics(namespaces: &[String]) -> String {
    let mut report = String::new();
    for namespace in namespaces {
        let of = ["--namespace", namespace];
        for kinds in ["eventforwarders", "events,jobs,pods"] {
            let get = ["get", kinds, "--output", "wide"];
            let table = attempt("kubectl", &[&get[..], &of].concat()).await;
            let table = table.unwrap_or_else(|error| error);
            report.push_str(&format!("--- {kinds} in {namespace}\n{table}\n"));
        }
        let names = ["get", "pods", "--output", "name"];
        let pods = attempt("kubectl", &[&names[..], &of].concat()).await;
        for pod in pods.unwrap_or_default().lines() {
            let logs = ["logs", pod, "--tail", "100"];
            let log = attempt("kubectl", &[&logs[..], &of].concat()).await;
            let log = log.unwrap_or_else(|error| error);
            report.push_str(&format!("--- log of {pod} in {namespace}\n{log}\n"));
        }
    }
    report
}

/// Returns a condition as (status, reason, message), or empty strings if it does not exist.
pub fn condition<'a>(status: &'a EventForwarderStatus, type_: &str) -> (&'a str, &'a str, &'a str) {
    status
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_)
        .map_or(("", "", ""), |found| {
            (&found.status, &found.reason, &found.message)
        })
}

/// Waits until `check` returns true. Its second result is printed if the wait times out.
///
/// # Panics
/// If the condition is not met within [`STATE_TIMEOUT`].
pub async fn eventually<T: Debug>(what: &str, check: impl AsyncFn() -> (bool, T)) {
    let mut last = None;
    let poll = async {
        loop {
            let (met, state) = check().await;
            if met {
                return;
            }
            last = Some(state);
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    };
    if tokio::time::timeout(STATE_TIMEOUT, poll).await.is_err() {
        let seconds = STATE_TIMEOUT.as_secs();
        let diagnostics = test_diagnostics().await;
        panic!("not within {seconds} s: {what}\nlast seen: {last:#?}\n{diagnostics}");
    }
}

/// Awaits `event`, at most [`STATE_TIMEOUT`].
pub async fn within<T>(what: &str, event: impl Future<Output = T>) -> T {
    match tokio::time::timeout(STATE_TIMEOUT, event).await {
        Ok(value) => value,
        Err(_) => panic!(
            "not within {} s: {what}\n{}",
            STATE_TIMEOUT.as_secs(),
            test_diagnostics().await
        ),
    }
}

/// Waits until the rollout of the operator's Deployment is complete.
pub async fn wait_for_rollout() {
    let rollout = ["rollout", "status", &format!("deployment/{RELEASE}")];
    let options = ["--namespace", SYSTEM, "--timeout", "180s"];
    if let Err(error) = attempt("kubectl", &[&rollout[..], &options].concat()).await {
        panic!("{error}\n{}", test_diagnostics().await);
    }
}

/// Waits until the object is deleted.
pub async fn wait_until_deleted<K>(api: &Api<K>, name: &str)
where
    K: Clone + DeserializeOwned + Debug,
{
    eventually(&format!("{name} is deleted"), async || {
        let object = api.get_metadata_opt(name).await.expect("a get");
        (object.is_none(), object.map(|object| object.metadata))
    })
    .await;
}

/// Applies an object of any kind, server-side.
pub async fn apply_json(client: &Client, object: Value) {
    let text = object.to_string();
    let object: kube::api::DynamicObject = serde_json::from_value(object).expect("an object");
    let types = object.types.clone().expect("a kind");
    let gvk = kube::core::GroupVersionKind::try_from(types).expect("a kind");
    let (resource, _) = kube::discovery::pinned_kind(client, &gvk)
        .await
        .expect("a kind of this cluster");
    let api: Api<kube::api::DynamicObject> = match object.namespace() {
        Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let params = PatchParams::apply(RELEASE).force();
    api.patch(&object.name_any(), &params, &Patch::Apply(&object))
        .await
        .unwrap_or_else(|error| panic!("failed to apply {text}: {error}"));
}

/// Runs `kubectl apply -f` on a manifest. Returns its standard output, or its standard error.
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

/// Returns a name that is unique among all test processes of this machine.
fn uuid() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(
        "{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// Runs kubectl and returns its standard output.
pub async fn kubectl(arguments: &[&str]) -> String {
    command("kubectl", arguments).await
}

/// Runs helm and returns its standard output.
pub async fn helm(arguments: &[&str]) -> String {
    command("helm", arguments).await
}

async fn command(program: &str, arguments: &[&str]) -> String {
    attempt(program, arguments)
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Runs a program and returns its standard output, or an error that contains its standard error.
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

/// Returns environment variables with the controller's ambient AWS credentials.
fn ambient_identity() -> Value {
    json!([
        {"name": "AWS_ACCESS_KEY_ID", "value": "AKIACONTROLLER"},
        {"name": "AWS_SECRET_ACCESS_KEY", "value": AMBIENT_SECRET},
    ])
}

/// The chart's folder. Cargo runs tests in the package's folder.
pub const CHART: &str = "charts/event-forwarder";

/// Returns a sample body whose times are moved from 2025-11-25T08:00:00Z, a multiple of 1,000 s, to
/// the last multiple before now. The event times would otherwise be implausibly old.
pub fn sample(name: &str) -> String {
    let body = std::fs::read_to_string(Path::new("tests/samples").join(name)).expect(name);
    body.replace("1764057", &recent_kiloseconds().to_string())
}

/// Returns the thousands of seconds since 1970. [`sample`] replaces 1764057 with it.
pub fn recent_kiloseconds() -> i64 {
    jiff::Timestamp::now().as_second() / 1000
}

/// Merges `over` into `base` recursively.
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

/// Returns the Jobs in this test's namespace.
pub async fn jobs(world: &World) -> Vec<Job> {
    world
        .api::<Job>()
        .list(&ListParams::default())
        .await
        .expect("jobs")
        .items
}
