//! The DLQ commands of the program. No message is lost if a redrive is killed and retried. The test
//! waits two minutes, because the messages of the killed command are invisible for that duration.

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

const DISALLOWED: usize = 400;
const FORGOTTEN: usize = 15;
/// The messages of one request. A killed command has not deleted the messages of its last request,
/// so a retry sends them again.
const BATCH: usize = 10;

/// Runs `event-forwarder dlq` on the queues of a world.
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

    fn succeeds(&self, args: &[&str]) -> String {
        let (out, error) = self.run(args);
        assert_eq!(error, "", "{args:?}");
        out
    }

    /// Returns the output and the error. The error is empty if the command succeeded.
    fn run(&self, args: &[&str]) -> (String, String) {
        let output = self.command(args).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.success(), error.is_empty(), "{error}");
        (String::from_utf8(output.stdout).unwrap(), error)
    }
}

const SELECTED: [&str; 3] = ["redrive", "--reason", "DisallowedEventName"];

async fn check_killed_redrive(kind: Kind) {
    let world = World::new(Setting {
        queue: Attributes {
            max_receive_count: 1_000,
            ..Attributes::default()
        },
        ..Setting::on(kind)
    })
    .await;
    world.iterable.handle.disallow_event_name("Secret");
    world.iterable.handle.forget_user("gone@example.com");
    let mut bodies: Vec<_> = (0..DISALLOWED)
        .map(|n| batch("ada@example.com", [("Secret", json!({"n": n}))]))
        .collect();
    bodies.extend((0..FORGOTTEN).map(|n| batch("gone@example.com", [("Fine", json!({"n": n}))])));
    world.queue.send(&bodies).await.unwrap();
    let report = world.drain().await;
    assert_eq!(
        report.messages.dead_lettered as usize,
        DISALLOWED + FORGOTTEN,
        "{report:?}"
    );

    let dlq = Dlq::new(&world);
    let listed: Value = serde_json::from_str(&dlq.succeeds(&["list", "--json"])).unwrap();
    assert_eq!(
        (&listed[0]["reason"], &listed[0]["messages"]),
        (&json!("DisallowedEventName"), &json!(DISALLOWED))
    );
    assert_eq!(
        (&listed[1]["reason"], &listed[1]["messages"]),
        (&json!("UserForgotten"), &json!(FORGOTTEN))
    );
    let shown = dlq.succeeds(&["show", listed[1]["sample"].as_str().unwrap()]);
    assert!(
        shown.contains("UserForgotten") && shown.contains("gone@example.com"),
        "{shown}"
    );
    let out = dlq.succeeds(&[&SELECTED[..], &["--dry-run"]].concat());
    assert!(
        out.starts_with(&format!(
            "{DISALLOWED} dead-lettered messages would be redriven"
        )),
        "{out}"
    );
    assert_eq!(world.queue.depth().await.unwrap().visible, 0);

    // Kill the command after it has started to send.
    let mut redrive = dlq
        .command(&SELECTED)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while world.queue.depth().await.unwrap().visible == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    redrive.kill().unwrap();
    redrive.wait().unwrap();
    let sent = world.queue.depth().await.unwrap().visible as usize;
    assert!(
        sent < DISALLOWED,
        "the command finished before it was killed"
    );

    let deadline = Instant::now() + Duration::from_secs(180);
    let mut retried = 0;
    loop {
        let (out, error) = dlq.run(&SELECTED);
        retried += out.split(' ').next().unwrap().parse::<usize>().unwrap();
        let left = world.queue.dlq_depth().await.unwrap();
        if (left.visible as usize, left.in_flight) == (FORGOTTEN, 0) {
            assert_eq!(error, "");
            break;
        }
        assert!(
            error.contains("dead-lettered messages: another command"),
            "{error}"
        );
        assert!(
            Instant::now() < deadline,
            "messages of the killed command become visible: {left:?}"
        );
        sleep(Duration::from_secs(1)).await;
    }
    assert!(
        (DISALLOWED - sent..=DISALLOWED - sent + BATCH).contains(&retried),
        "the retry continues: {sent} sent, then {retried}"
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
    assert_eq!(arrived, (0..DISALLOWED).collect(), "every event arrived");
    fs::remove_dir_all(&dlq.0).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_redrive_can_be_retried() {
    check_killed_redrive(Kind::Fauxqs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn purge_requires_queue_name() {
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
                .contains(&format!("ALL dead-lettered messages from {name}"))
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
