//! The program as a pod runs it: exit codes, reports and termination.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use event_forwarder::drain::report::{Outcome, RunReport};
use event_forwarder_test_support::{
    iterable::{Fault, Options},
    sqs::Kind,
};
use serde_json::json;
use tokio::process::{Child, Command};

use crate::world::{Setting, World, batch, batches};

on_each_server!(
    drained_run_exits_with_0,
    invalid_configuration_is_reported_and_exits_with_30,
    run_exit_code_depends_on_outcome,
    missing_queue_exits_with_22,
    missing_credentials_exit_with_22,
    sigterm_settles_sent_messages_and_releases_the_rest,
    sigterm_ends_run_in_time_when_iterable_hangs,
    run_with_large_messages_stays_within_memory_limit,
);

pub struct Pod {
    pub dir: PathBuf,
}

impl Pod {
    pub fn new(name: &str) -> Self {
        static PODS: AtomicU32 = AtomicU32::new(0);
        let number = PODS.fetch_add(1, Ordering::Relaxed);
        let name = format!("event-forwarder-{name}-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        Self { dir }
    }

    fn file(&self, name: &str, text: &str) -> &Self {
        std::fs::write(self.dir.join(name), text).unwrap();
        self
    }

    pub fn all_files(&self, world: &World) -> &Self {
        let manifest = json!({
            "apiVersion": "eventforwarder.io/v1alpha1",
            "kind": "EventForwarder",
            "metadata": {"name": "test"},
            "spec": world.spec,
        });
        self.file("forwarder.yaml", &manifest.to_string())
            .file("api-key", "test-key\n")
            .file("accessKeyId", "test")
            .file("secretAccessKey", "test")
    }

    fn start(&self) -> Child {
        self.start_with([])
    }

    pub fn start_with<const N: usize>(&self, environment: [(&str, String); N]) -> Child {
        self.command()
            .args([Path::new("--aws-credentials-dir"), &self.dir])
            .envs(environment)
            .spawn()
            .unwrap()
    }

    /// Returns the command with ambient credentials, in an environment that only has the variables
    /// that the test adds. The file `log` contains its log.
    pub fn command(&self) -> Command {
        let path = |name: &str| self.dir.join(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_event-forwarder"));
        command
            .arg("drain")
            .args([Path::new("--forwarder"), &path("forwarder.yaml")])
            .args([Path::new("--api-key-file"), &path("api-key")])
            .args([Path::new("--report-file"), &path("report")])
            .env_clear()
            .stderr(std::fs::File::create(path("log")).unwrap())
            .kill_on_drop(true);
        command
    }

    /// Returns the environment variable with the CA certificate in the pod's folder.
    pub fn ca_file(&self) -> (&'static str, String) {
        let file = self.dir.join("ca.pem");
        ("EVENT_FORWARDER_CA_FILE", file.display().to_string())
    }

    /// Returns the log of the last run.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap()
    }

    pub async fn end(self, child: Child) -> (Option<i32>, RunReport) {
        let result = self.report_of(child).await;
        std::fs::remove_dir_all(&self.dir).unwrap();
        result
    }

    pub async fn report_of(&self, mut child: Child) -> (Option<i32>, RunReport) {
        let exit = tokio::time::timeout(Duration::from_secs(60), child.wait()).await;
        let text = std::fs::read_to_string(self.dir.join("report")).unwrap();
        assert!(text.len() <= 4096);
        (
            exit.unwrap().unwrap().code(),
            serde_json::from_str(&text).unwrap(),
        )
    }
}

fn terminate(child: &Child) {
    let id = child.id().unwrap().to_string();
    let killed = std::process::Command::new("kill")
        .args(["-TERM", &id])
        .status()
        .unwrap();
    assert!(killed.success());
}

async fn drained_run_exits_with_0(kind: Kind) {
    let world = World::new(Setting::on(kind)).await;
    world.queue.send(&batches(20, 1)).await.unwrap();
    let pod = Pod::new("drains");
    let child = pod.all_files(&world).start();
    let (code, report) = pod.end(child).await;
    assert_eq!((code, report.outcome), (Some(0), Outcome::Drained));
    assert_eq!(report.messages.deleted, 20);
    assert!(report.oldest_message_age_seconds.is_some());
}

async fn invalid_configuration_is_reported_and_exits_with_30(kind: Kind) {
    let pod = Pod::new("no-manifest");
    let child = pod.start();
    let (code, report) = pod.end(child).await;
    assert_eq!(
        (code, report.outcome),
        (Some(30), Outcome::BadConfiguration)
    );
    assert!(report.message.unwrap().contains("forwarder.yaml"));

    let pod = Pod::new("bad-manifest");
    let child = pod.file("forwarder.yaml", "spec: {schedule: 3}").start();
    let (code, report) = pod.end(child).await;
    assert_eq!(code, Some(30));
    assert!(report.message.unwrap().contains("kubectl explain"));

    let world = World::new(Setting::on(kind)).await;
    let pod = Pod::new("no-key");
    pod.all_files(&world);
    std::fs::remove_file(pod.dir.join("api-key")).unwrap();
    let child = pod.start();
    let (code, report) = pod.end(child).await;
    assert_eq!(code, Some(30));
    assert!(report.message.unwrap().contains("apiKeySecretRef"));
}

async fn run_exit_code_depends_on_outcome(kind: Kind) {
    for (expected, outcome, fault) in [
        (10, Outcome::LimitReached, None),
        (20, Outcome::SinkDown, Some(Fault::reset())),
        (21, Outcome::ApiKeyRejected, Some(Fault::answer(401, ""))),
    ] {
        let world = World::new(Setting {
            drain: json!({"maxMessages": 5}),
            ..Setting::on(kind)
        })
        .await;
        world.queue.send(&batches(20, 1)).await.unwrap();
        fault
            .into_iter()
            .for_each(|fault| world.iterable.handle.add_fault(fault));
        let pod = Pod::new("ends");
        let child = pod.all_files(&world).start();
        let (code, report) = pod.end(child).await;
        assert_eq!(
            (code, report.outcome),
            (Some(expected), outcome),
            "{report:?}"
        );
    }
}

async fn missing_queue_exits_with_22(kind: Kind) {
    let mut world = World::new(Setting::on(kind)).await;
    world.spec.queue.url.push_str("-nowhere");
    let pod = Pod::new("no-queue");
    let child = pod.all_files(&world).start();
    let (code, report) = pod.end(child).await;
    assert_eq!((code, report.outcome), (Some(22), Outcome::QueueDenied));
    assert!(report.message.unwrap().contains("does not exist"));
}

async fn missing_credentials_exit_with_22(kind: Kind) {
    let world = World::new(Setting::on(kind)).await;
    let pod = Pod::new("no-credentials");
    pod.all_files(&world);
    std::fs::remove_file(pod.dir.join("secretAccessKey")).unwrap();
    let child = pod.start();
    let (code, report) = pod.end(child).await;
    assert_eq!(code, Some(22), "{report:?}");
    assert!(report.message.unwrap().contains("secretAccessKey"));
}

async fn sigterm_settles_sent_messages_and_releases_the_rest(kind: Kind) {
    let world = World::new(Setting {
        project: json!({"maxEventsPerRequest": 5}),
        ..Setting::on(kind)
    })
    .await;
    world.queue.send(&batches(300, 1)).await.unwrap();
    let gate = world.iterable.handle.gate("held");
    world.iterable.handle.add_fault(Fault::hold("held"));
    let pod = Pod::new("sigterm");
    let child = pod.all_files(&world).start();
    gate.until_held(1).await;
    terminate(&child);
    let signaled_at = Instant::now();
    gate.open();
    let (code, report) = pod.end(child).await;
    assert!(
        signaled_at.elapsed() < Duration::from_secs(30),
        "{:?}",
        signaled_at.elapsed()
    );
    assert_eq!((code, report.outcome), (Some(11), Outcome::Interrupted));
    // The progress before the signal depends on the machine.
    let messages = &report.messages;
    assert!(messages.deleted >= 5 && messages.released > 0, "{report:?}");
    let settled = messages.deleted + messages.released + messages.duplicate;
    assert_eq!(messages.received, settled);
    let depth = world.queue.depth().await.unwrap();
    let left = 300 - messages.deleted;
    assert_eq!((depth.visible, depth.in_flight), (left, 0));
}

async fn sigterm_ends_run_in_time_when_iterable_hangs(kind: Kind) {
    let mut world = World::new(Setting::on(kind)).await;
    world.spec.job.termination_grace_period_seconds = 10;
    world.queue.send(&batches(30, 1)).await.unwrap();
    let gate = world.iterable.handle.gate("held");
    world.iterable.handle.add_fault(Fault::hold("held"));
    let pod = Pod::new("silent");
    let child = pod.all_files(&world).start();
    gate.until_held(1).await;
    terminate(&child);
    let signaled_at = Instant::now();
    let (code, report) = pod.end(child).await;
    assert!(
        signaled_at.elapsed() < Duration::from_secs(10),
        "{:?}",
        signaled_at.elapsed()
    );
    assert_eq!(code, Some(11));
    assert_eq!((report.messages.deleted, report.messages.released), (0, 10));
    assert_eq!(world.queue.depth().await.unwrap().visible, 30);
}

#[tokio::test]
async fn terminal_shows_depth_rate_and_time_left() {
    let world = World::new(Setting::default()).await;
    world.queue.send(&batches(60, 1)).await.unwrap();
    let pod = Pod::new("terminal");
    pod.all_files(&world);
    let dir = pod.dir.display();
    let drain = format!(
        "{} drain --forwarder {dir}/forwarder.yaml --api-key-file {dir}/api-key --aws-credentials-dir {dir}",
        env!("CARGO_BIN_EXE_event-forwarder")
    );
    // util-linux's `script` provides the terminal.
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command", &drain, "/dev/null"])
        .env("TERM", "xterm")
        .output()
        .await
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{stdout}");
    for part in ["of about 60 messages", "/s", "left", "60 events forwarded"] {
        assert!(stdout.contains(part), "{part} in {stdout}");
    }
    std::fs::remove_dir_all(&pod.dir).unwrap();
}

async fn run_with_large_messages_stays_within_memory_limit(kind: Kind) {
    let world = World::new(Setting {
        iterable: Options {
            latency: Duration::from_millis(500),
            ..Options::default()
        },
        ..Setting::on(kind)
    })
    .await;
    let text = "x".repeat(30_000);
    let large: Vec<_> = (0..100)
        .map(|user| {
            let events = (0..34).map(|n| ("Viewed", json!({"n": n.to_string(), "text": text})));
            batch(&format!("user{user}@example.com"), events)
        })
        .collect();
    world.queue.send(&batches(200, 1)).await.unwrap();
    world.queue.send(&large).await.unwrap();
    let pod = Pod::new("large");
    let mut child = pod.all_files(&world).start();
    let status = format!("/proc/{}/status", child.id().unwrap());
    let mut peak = 0;
    let watch = async {
        while child.try_wait().unwrap().is_none() {
            peak = peak_kibibytes(&status).unwrap_or(peak);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), watch)
        .await
        .expect("the run ends in time");
    let (code, report) = pod.end(child).await;
    assert_eq!(code, Some(0), "{report:?}");
    assert!(report.messages.deleted >= 250, "{report:?}");
    let rest = world.drain_until_empty().await.messages.deleted;
    assert_eq!(report.messages.deleted + rest, 300, "{report:?}");
    assert!(peak > 0);
    // The default memory limit of a run's container.
    assert!(peak < 256 << 10, "{peak} KiB");
}

/// Returns the peak memory of a process, from its file `status`.
fn peak_kibibytes(status: &str) -> Option<u64> {
    let text = std::fs::read_to_string(status).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}
