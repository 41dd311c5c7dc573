//! Runs that are killed at any point lose no event.
//!
//! `EVENT_FORWARDER_KILLS` sets the number of killed runs. Default 200.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use event_forwarder_test_support::{
    iterable::{Limits, Options},
    sqs::Attributes,
};
use serde_json::json;

use crate::world::{Setting, World, batches};

const EVENTS: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn killed_runs_lose_no_event() {
    let kills = std::env::var("EVENT_FORWARDER_KILLS").map_or(200, |text| text.parse().unwrap());
    let world = World::new(Setting {
        queue: Attributes {
            visibility_timeout: Duration::from_secs(2),
            max_receive_count: 1_000,
            ..Attributes::default()
        },
        iterable: Options {
            limits: Limits {
                track_bulk_rate: None,
                ..Limits::default()
            },
            latency: Duration::from_millis(10),
            ..Options::default()
        },
        project: json!({"requestsPerSecond": 1000, "maxEventsPerRequest": 90}),
        ..Setting::default()
    })
    .await;
    let dir = tempdir();
    let bodies = batches(kills * 40, EVENTS);
    let mut sent = 0;
    let mut finished = 0;
    let mut random = 88_172_645_463_325_252_u64;
    for _ in 0..kills {
        if world.queue.depth().await.unwrap().visible < 200 && sent < bodies.len() {
            let next = (sent + 400).min(bodies.len());
            world.queue.send(&bodies[sent..next]).await.unwrap();
            sent = next;
        }
        let mut run = world.spawn(&dir).stderr(Stdio::null()).spawn().unwrap();
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // The delay varies the point of the kill; it does not wait for a condition.
        tokio::time::sleep(Duration::from_millis(10 + random % 250)).await;
        finished += usize::from(run.try_wait().unwrap().is_some());
        run.kill().unwrap();
        run.wait().unwrap();
    }
    assert!(
        finished < kills / 4,
        "{finished} runs finished before they were killed"
    );
    world.queue.send(&bodies[sent..]).await.unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(120);
    loop {
        let depth = world.queue.depth().await.unwrap();
        if depth.visible + depth.in_flight == 0 {
            break;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "the queue is not empty in time: {depth:?}"
        );
        world.drain().await;
    }
    assert_eq!(world.queue.dlq_depth().await.unwrap().visible, 0);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for event in world.iterable.handle.events() {
        *counts
            .entry(event.event["dataFields"]["n"].as_str().unwrap().to_owned())
            .or_default() += 1;
    }
    assert_eq!(counts.len(), bodies.len() * EVENTS, "every event arrived");
    assert!(
        counts.values().all(|count| *count == 1),
        "every event has one ID"
    );
    fs::remove_dir_all(dir).unwrap();
}

impl World {
    /// Returns the command of the program, as a pod runs it.
    fn spawn(&self, dir: &Path) -> Command {
        let forwarder = dir.join("forwarder.json");
        let manifest = json!({
            "apiVersion": "eventforwarder.io/v1alpha1",
            "kind": "EventForwarder",
            "metadata": {"name": "test"},
            "spec": self.spec,
        });
        fs::write(&forwarder, manifest.to_string()).unwrap();
        fs::write(dir.join("api-key"), "test-key").unwrap();
        fs::write(dir.join("accessKeyId"), "test").unwrap();
        fs::write(dir.join("secretAccessKey"), "test").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_event-forwarder"));
        command
            .arg("drain")
            .arg("--forwarder")
            .arg(forwarder)
            .arg("--api-key-file")
            .arg(dir.join("api-key"))
            .arg("--aws-credentials-dir")
            .arg(dir);
        command
    }
}

fn tempdir() -> std::path::PathBuf {
    let dir = std::env::temp_dir().join(format!("event-forwarder-kill-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    dir
}
