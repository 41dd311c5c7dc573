//! The operator as processes of this machine in place of the Deployment, so that a test may kill
//! and stop them, set their clock and read what they said.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    net::SocketAddr,
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use event_forwarder_test_support::free_address;
use tokio::{
    process::{Child, Command},
    task::JoinHandle,
};

use super::convergence::twins;
use crate::world::{SYSTEM, eventually, kubectl};

/// How long a process that ended stays away, as if the kubelet started it again.
const RESTART_PAUSE: Duration = Duration::from_millis(200);

/// In place of the number of a process.
const NO_PROCESS: u32 = 0;
/// How long a process may take to start and to do what there is.
const IDLE: Duration = Duration::from_secs(3);

/// One replica of the controller, started again whenever it ends. Dropping it kills it.
pub struct Replica {
    identity: String,
    address: SocketAddr,
    log: PathBuf,
    process: Arc<AtomicU32>,
    supervisor: JoinHandle<()>,
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}

impl Replica {
    /// Starts it in place of the Deployment. `identity` is its name, in the log's too.
    pub async fn start(identity: &str, scope: Scope<'_>, clock: Clock) -> Self {
        without_deployment().await;
        let address = free_address().expect("an address");
        let log = env::temp_dir().join(format!(
            "event-forwarder-e2e-{}-{identity}.log",
            std::process::id()
        ));
        let mut command = Command::new(env!("CARGO_BIN_EXE_event-forwarder"));
        command
            .args(["controller", "--identity", identity, "--listen"])
            .arg(address.to_string())
            .args(scope.arguments())
            .envs(clock.environment(identity))
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("a log"))
            .kill_on_drop(true);
        let process = Arc::new(AtomicU32::new(NO_PROCESS));
        let mut child = spawn(&mut command, &process);
        let current = Arc::clone(&process);
        let supervisor = tokio::spawn(async move {
            loop {
                let _ = child.wait().await;
                current.store(NO_PROCESS, Ordering::Relaxed);
                tokio::time::sleep(RESTART_PAUSE).await;
                child = spawn(&mut command, &current);
            }
        });
        Self {
            identity: identity.to_owned(),
            address,
            log,
            process,
            supervisor,
        }
    }

    /// Its name in the lease.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Sends a signal, for example "KILL" or "STOP".
    pub async fn signal(&self, signal: &str) {
        let process = self.process.load(Ordering::Relaxed);
        if process == NO_PROCESS {
            return; // It has just ended by itself and is about to be started again.
        }
        let sent = Command::new("kill")
            .args(["-s", signal, &process.to_string()])
            .stderr(Stdio::null())
            .status()
            .await;
        sent.expect("kill");
    }

    /// Kills it as soon as it has ended that many reconciliations, or has nothing more to do; others
    /// are then under way.
    pub async fn kill_after(&self, reconciliations: u64) {
        let reached = async {
            while self.reconciliations().await.unwrap_or(0) < reconciliations {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let _ = tokio::time::timeout(IDLE, reached).await;
        self.signal("KILL").await;
    }

    /// Ends it for good.
    pub async fn end(self) {
        self.supervisor.abort();
        self.signal("KILL").await;
    }

    /// All that it has logged, over all its starts.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("the log")
    }

    /// Its name and the last lines of its log.
    pub fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        let end = &lines[lines.len().saturating_sub(50)..];
        format!("--- log of {}\n{}", self.identity, end.join("\n"))
    }

    /// How many reconciliations it has ended since it was last started; none if it doesn't answer.
    pub async fn reconciliations(&self) -> Option<u64> {
        let metrics = reqwest::get(format!("http://{}/metrics", self.address))
            .await
            .ok()?
            .text()
            .await
            .ok()?;
        let counts = metrics.lines().filter_map(|line| {
            let (name, count) = line.rsplit_once(' ')?;
            let of_reconciliations =
                name.starts_with("event_forwarder_reconcile_duration_seconds_count");
            of_reconciliations.then(|| count.parse::<u64>().ok())?
        });
        Some(counts.sum())
    }
}

/// What a replica looks after.
#[derive(Debug, Clone, Copy)]
pub enum Scope<'a> {
    /// All namespaces, as the only replica.
    Cluster,
    /// All namespaces, whenever it holds the lease of this name in this namespace.
    ClusterByLease(&'a str, &'a str),
    /// One namespace and its twins, as the only replica beside those of other tests.
    Namespace(&'a str),
    /// One namespace, whenever it holds the lease of this name there.
    NamespaceByLease(&'a str, &'a str),
}

impl Scope<'_> {
    fn arguments(self) -> Vec<String> {
        let watch = |namespace: &str| {
            let both = format!("{namespace},{}", twins(namespace));
            ["--watch-namespaces".to_owned(), both]
        };
        let lease = |namespace: &str, name: &str| {
            [
                format!("--lease-namespace={namespace}"),
                format!("--lease-name={name}"),
            ]
        };
        match self {
            Self::Cluster => Vec::new(),
            Self::ClusterByLease(namespace, name) => lease(namespace, name).into(),
            Self::Namespace(namespace) => watch(namespace).into(),
            Self::NamespaceByLease(namespace, name) => {
                [watch(namespace), lease(namespace, name)].concat()
            }
        }
    }
}

fn spawn(command: &mut Command, process: &AtomicU32) -> Child {
    let child = command.spawn().expect("the controller starts");
    process.store(child.id().unwrap_or(NO_PROCESS), Ordering::Relaxed);
    child
}

/// How far a process's clock is from this machine's.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    hours: i32,
}

impl Clock {
    /// The machine's own.
    pub const TRUE: Self = Self { hours: 0 };

    /// Ahead by that many hours, or behind.
    pub const fn off_by(hours: i32) -> Self {
        Self { hours }
    }

    /// By libfaketime, which moves the time of day and not the time that has passed.
    fn environment(self, test: &str) -> Vec<(&'static str, OsString)> {
        if self.hours == 0 {
            return Vec::new();
        }
        vec![
            ("LD_PRELOAD", libfaketime().into()),
            ("FAKETIME", format!("{:+}h", self.hours).into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
            ("KUBECONFIG", insecure_kubeconfig(test).into()),
        ]
    }
}

fn libfaketime() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").expect("/usr/lib");
    folders
        .filter_map(|folder| Some(folder.ok()?.path().join("faketime/libfaketime.so.1")))
        .find(|library| library.exists())
        .expect("libfaketime: tests/cluster/cluster build installs Debian's package faketime")
}

/// The cluster's certificates are younger than a clock that is behind.
fn insecure_kubeconfig(test: &str) -> PathBuf {
    let file = env::temp_dir().join(format!(
        "event-forwarder-e2e-{}-{test}.kubeconfig",
        std::process::id()
    ));
    let config = env::var("KUBECONFIG").expect("KUBECONFIG");
    let config = fs::read_to_string(config).expect("the kubeconfig");
    let lines = config.lines().map(|line| {
        match line.trim_start().starts_with("certificate-authority-data:") {
            true => "    insecure-skip-tls-verify: true",
            false => line,
        }
    });
    fs::write(&file, lines.collect::<Vec<_>>().join("\n")).expect("a kubeconfig");
    file
}

/// Removes the operator that the chart installed, if it is still there.
async fn without_deployment() {
    let deployments = ["--namespace", SYSTEM, "--all"];
    kubectl(&[&["delete", "deployments"], &deployments[..]].concat()).await;
    eventually("the operator's pods are gone", async || {
        let pods = kubectl(&["get", "pods", "--namespace", SYSTEM, "-o", "name"]).await;
        (pods.is_empty(), pods)
    })
    .await;
}
