//! The `dlq` command of the program. A redrive that is killed and repeated loses nothing.
//!
//! The test waits for two minutes: messages that a killed command received are invisible that long.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use event_forwarder::drain::report::Outcome;
use event_forwarder_test_support::sqs::{Attributes, Kind};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::world::{Setting, World, batch};

const REJECTED: usize = 400;
const FORGOTTEN: usize = 15;
/// Messages per request; a command that is killed before it deletes them sends as many twice.
const BATCH_SIZE: usize = 10;

/// The folder with the files that `event-forwarder dlq` needs for a world.
struct Dlq(PathBuf);

impl Dlq {
    fn new(world: &World) -> Self {
        let queue = world.queue.url.rsplit('/').next().unwrap();
        let name = format!("event-forwarder-dlq-{}-{queue}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).unwrap();
        let manifest = json!({
            "apiVersion": "eventforwarder.io/v1alpha1",
            "kind": "EventForwarder",
            "metadata": {"name": "test"},
            "spec": world.spec,
        });
        fs::write(dir.join("forwarder.yaml"), manifest.to_string()).unwrap();
        fs::write(dir.join("accessKeyId"), "test").unwrap();
        fs::write(dir.join("secretAccessKey"), "test").unwrap();
        Self(dir)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_event-forwarder"));
        command
            .args(["dlq", "--file"])
            .arg(self.0.join("forwarder.yaml"))
            .arg("--aws-credentials-dir")
            .arg(&self.0)
            .args(args);
        command
    }

    fn run_ok(&self, args: &[&str]) -> String {
        let (stdout, error) = self.run(args);
        assert_eq!(error, "", "{args:?}");
        stdout
    }

    /// Runs the command and returns its output and its error, which is empty on success.
    fn run(&self, args: &[&str]) -> (String, String) {
        let output = self.command(args).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.success(), error.is_empty(), "{error}");
        (String::from_utf8(output.stdout).unwrap(), error)
    }
}

const REDRIVE_ARGS: [&str; 3] = ["redrive", "--reason", "DisallowedEventName"];

async fn assert_redrive_loses_nothing(kind: Kind) {
    let world = World::new(Setting {
        queue: Attributes {
            max_receive_count: 1_000,
            ..Attributes::default()
        },
        ..Setting::on(kind)
    })
    .await;
    world.iterable.handle.disallow_event_name("Secret");
    world.iterable.handle.forget_user("forgotten@example.com");
    let mut bodies: Vec<_> = (0..REJECTED)
        .map(|n| batch("ada@example.com", [("Secret", json!({"n": n}))]))
        .collect();
    bodies.extend(
        (0..FORGOTTEN).map(|n| batch("forgotten@example.com", [("Fine", json!({"n": n}))])),
    );
    world.queue.send(&bodies).await.unwrap();
    let report = world.drain().await;
    assert_eq!(
        report.messages.dead_lettered as usize,
        REJECTED + FORGOTTEN,
        "{report:?}"
    );

    let dlq = Dlq::new(&world);
    let listed: Value = serde_json::from_str(&dlq.run_ok(&["list", "--json"])).unwrap();
    assert_eq!(
        (&listed[0]["reason"], &listed[0]["messages"]),
        (&json!("DisallowedEventName"), &json!(REJECTED))
    );
    assert_eq!(
        (&listed[1]["reason"], &listed[1]["messages"]),
        (&json!("UserForgotten"), &json!(FORGOTTEN))
    );
    let message = dlq.run_ok(&["show", listed[1]["sample"].as_str().unwrap()]);
    assert!(
        message.contains("UserForgotten") && message.contains("forgotten@example.com"),
        "{message}"
    );
    let stdout = dlq.run_ok(&[&REDRIVE_ARGS[..], &["--dry-run"]].concat());
    assert!(
        stdout.starts_with(&format!("{REJECTED} dead letters would be sent")),
        "{stdout}"
    );
    assert_eq!(world.queue.depth().await.unwrap().visible, 0);

    // The command is killed after it has started to send.
    let mut redrive = dlq
        .command(&REDRIVE_ARGS)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while world.queue.depth().await.unwrap().visible == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    redrive.kill().unwrap();
    redrive.wait().unwrap();
    let sent = world.queue.depth().await.unwrap().visible as usize;
    assert!(sent < REJECTED, "it finished before it was killed");

    let deadline = Instant::now() + Duration::from_secs(180);
    let mut redriven = 0;
    loop {
        let (stdout, error) = dlq.run(&REDRIVE_ARGS);
        redriven += stdout.split(' ').next().unwrap().parse::<usize>().unwrap();
        let left = world.queue.dlq_depth().await.unwrap();
        if (left.visible as usize, left.in_flight) == (FORGOTTEN, 0) {
            assert_eq!(error, "");
            break;
        }
        assert!(error.contains("could be seen: another command"), "{error}");
        assert!(
            Instant::now() < deadline,
            "messages of a killed command do not become visible: {left:?}"
        );
        sleep(Duration::from_secs(1)).await;
    }
    assert!(
        (REJECTED - sent..=REJECTED - sent + BATCH_SIZE).contains(&redriven),
        "it continues after the sent ones: {sent} sent, then {redriven}"
    );

    world.iterable.handle.reset();
    let report = world.drain().await;
    assert_eq!(report.outcome, Outcome::Drained, "{report:?}");
    let arrived: BTreeSet<_> = world
        .iterable
        .handle
        .events()
        .iter()
        .map(|event| event.event["dataFields"]["n"].as_u64().unwrap() as usize)
        .collect();
    assert_eq!(arrived, (0..REJECTED).collect(), "every event arrived");
    fs::remove_dir_all(&dlq.0).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_redrive_can_be_repeated_without_loss() {
    assert_redrive_loses_nothing(Kind::Fauxqs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn purge_requires_the_queue_name() {
    let world = World::new(Setting::on(Kind::Fauxqs)).await;
    world.iterable.handle.disallow_event_name("Secret");
    let body = batch("ada@example.com", [("Secret", json!({"n": 1}))]);
    world.queue.send(&[body]).await.unwrap();
    world.drain().await;
    let dlq = Dlq::new(&world);
    let name = world.queue.dlq_url.rsplit('/').next().unwrap();
    for (answer, left) in [("yes\n", 1), ("", 1), (&*format!("{name}\n"), 0)] {
        let mut purge = dlq
            .command(&["purge"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        purge
            .stdin
            .take()
            .unwrap()
            .write_all(answer.as_bytes())
            .unwrap();
        let output = purge.wait_with_output().unwrap();
        assert!(
            String::from_utf8_lossy(&output.stdout)
                .contains(&format!("ALL dead letters of {name}"))
        );
        assert_eq!(output.status.success(), left == 0, "{answer:?}");
        assert_eq!(
            world.queue.dlq_depth().await.unwrap().visible,
            left,
            "{answer:?}"
        );
    }
    fs::remove_dir_all(&dlq.0).unwrap();
}
