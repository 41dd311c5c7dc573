//! The operator as processes of this machine instead of a Deployment, so that tests can kill and
//! stop them, set their clocks and read their logs.

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

use super::convergence::copy_namespace;
use crate::world::{SYSTEM, eventually, kubectl};

/// Delay until an ended process is restarted, like the kubelet's.
const RESTART_DELAY: Duration = Duration::from_millis(200);

/// The value for the process ID while no process runs.
const NO_PROCESS: u32 = 0;
/// Maximum time that [`Replica::kill_after`] waits for reconciliations.
const RECONCILE_TIMEOUT: Duration = Duration::from_secs(3);

/// One replica of the controller, restarted whenever its process ends. Dropping it kills it.
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
    /// Starts the replica after deleting the Deployment. `identity` is also part of the log's name.
    pub async fn start(identity: &str, scope: Scope<'_>, clock: Clock) -> Self {
        delete_deployments().await;
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
                tokio::time::sleep(RESTART_DELAY).await;
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

    /// Returns its name in the lease.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Sends a signal, for example "KILL" or "STOP", unless no process is running.
    pub async fn signal(&self, signal: &str) {
        let process = self.process.load(Ordering::Relaxed);
        if process == NO_PROCESS {
            return; // The process has ended and will be restarted.
        }
        let sent = Command::new("kill")
            .args(["-s", signal, &process.to_string()])
            .stderr(Stdio::null())
            .status()
            .await;
        sent.expect("kill");
    }

    /// Kills it after that many reconciliations, or after [`RECONCILE_TIMEOUT`]. Other
    /// reconciliations may be in progress.
    pub async fn kill_after(&self, reconciliations: u64) {
        let reached = async {
            while self.reconciliations().await.unwrap_or(0) < reconciliations {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let _ = tokio::time::timeout(RECONCILE_TIMEOUT, reached).await;
        self.signal("KILL").await;
    }

    /// Kills it without a restart.
    pub async fn end(self) {
        self.supervisor.abort();
        self.signal("KILL").await;
    }

    /// Returns the log of all its processes.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("the log")
    }

    /// Returns its name and the last 50 lines of its log.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        let end = &lines[lines.len().saturating_sub(50)..];
        format!("--- log of {}\n{}", self.identity, end.join("\n"))
    }

    /// Returns the number of completed reconciliations of the current process. Returns `None` if
    /// the metrics can't be read.
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

/// The namespaces and the lease of a replica.
#[derive(Debug, Clone, Copy)]
pub enum Scope<'a> {
    /// All namespaces, as a single replica without a lease.
    Cluster,
    /// All namespaces, while it holds the lease. The fields are the lease's namespace and name.
    ClusterByLease(&'a str, &'a str),
    /// One namespace and its [`copy_namespace`], as a single replica without a lease.
    Namespace(&'a str),
    /// One namespace and its [`copy_namespace`], while it holds the lease of this name there.
    NamespaceByLease(&'a str, &'a str),
}

impl Scope<'_> {
    fn arguments(self) -> Vec<String> {
        let watch = |namespace: &str| {
            let both = format!("{namespace},{}", copy_namespace(namespace));
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

/// The difference between a process's clock and this machine's.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    hours: i32,
}

impl Clock {
    /// The machine's clock.
    pub const ACCURATE: Self = Self { hours: 0 };

    /// Creates a clock that is ahead by this number of hours, or behind if it is negative.
    pub const fn off_by(hours: i32) -> Self {
        Self { hours }
    }

    /// Returns variables for libfaketime, which changes the wall clock but not the monotonic clock.
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

/// Creates a kubeconfig that skips certificate validation, because the cluster's certificates are
/// not yet valid by a clock that is behind.
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

/// Deletes the Deployment that the chart installed, if it exists.
async fn delete_deployments() {
    let deployments = ["--namespace", SYSTEM, "--all"];
    kubectl(&[&["delete", "deployments"], &deployments[..]].concat()).await;
    eventually("the operator's pods are deleted", async || {
        let pods = kubectl(&["get", "pods", "--namespace", SYSTEM, "-o", "name"]).await;
        (pods.is_empty(), pods)
    })
    .await;
}
