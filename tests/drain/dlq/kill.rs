//! Dead letters by hand, with the program itself: a redrive that is killed half-way and given again
//! loses nothing. It waits the two minutes for which a killed command hides what it has looked at.

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

const REFUSED: usize = 400;
const FORGOTTEN: usize = 15;
/// What one request sends: a command that is killed before it could delete them sends as many twice.
const REQUEST: usize = 10;

/// The command line of `event-forwarder dlq` for a world.
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

    fn says(&self, args: &[&str]) -> String {
        let (said, error) = self.tries(args);
        assert_eq!(error, "", "{args:?}");
        said
    }

    /// What it says, and why it did not do all: nothing if it did.
    fn tries(&self, args: &[&str]) -> (String, String) {
        let output = self.command(args).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.success(), error.is_empty(), "{error}");
        (String::from_utf8(output.stdout).unwrap(), error)
    }
}

const SELECTED: [&str; 3] = ["redrive", "--reason", "DisallowedEventName"];

async fn nothing_is_lost(kind: Kind) {
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
    let mut bodies: Vec<_> = (0..REFUSED)
        .map(|n| batch("ada@example.com", [("Secret", json!({"n": n}))]))
        .collect();
    bodies.extend((0..FORGOTTEN).map(|n| batch("gone@example.com", [("Fine", json!({"n": n}))])));
    world.queue.send(&bodies).await.unwrap();
    let report = world.drain().await;
    assert_eq!(
        report.messages.dead_lettered as usize,
        REFUSED + FORGOTTEN,
        "{report:?}"
    );

    let dlq = Dlq::new(&world);
    let listed: Value = serde_json::from_str(&dlq.says(&["list", "--json"])).unwrap();
    assert_eq!(
        (&listed[0]["reason"], &listed[0]["messages"]),
        (&json!("DisallowedEventName"), &json!(REFUSED))
    );
    assert_eq!(
        (&listed[1]["reason"], &listed[1]["messages"]),
        (&json!("UserForgotten"), &json!(FORGOTTEN))
    );
    let shown = dlq.says(&["show", listed[1]["sample"].as_str().unwrap()]);
    assert!(
        shown.contains("UserForgotten") && shown.contains("gone@example.com"),
        "{shown}"
    );
    let said = dlq.says(&[&SELECTED[..], &["--dry-run"]].concat());
    assert!(
        said.starts_with(&format!(
            "{REFUSED} dead-lettered messages would be redriven"
        )),
        "{said}"
    );
    assert_eq!(world.queue.depth().await.unwrap().visible, 0);

    // Killed once it has begun to send.
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
    assert!(sent < REFUSED, "it was over before it was killed");

    let deadline = Instant::now() + Duration::from_secs(180);
    let mut again = 0;
    loop {
        let (said, error) = dlq.tries(&SELECTED);
        again += said.split(' ').next().unwrap().parse::<usize>().unwrap();
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
            "what a killed command hides comes back: {left:?}"
        );
        sleep(Duration::from_secs(1)).await;
    }
    assert!(
        (REFUSED - sent..=REFUSED - sent + REQUEST).contains(&again),
        "it goes on where it was: {sent} sent, then {again}"
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
    assert_eq!(arrived, (0..REFUSED).collect(), "every event is there");
    fs::remove_dir_all(&dlq.0).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_redrive_on_fauxqs_is_given_again_and_loses_nothing() {
    nothing_is_lost(Kind::Fauxqs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_asks_for_the_queues_name_first() {
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
