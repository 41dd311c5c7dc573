//! How fast a queue is emptied, beside others on the same queue, messages and stand-in: the loop
//! of a timer-started Lambda and npm `sqs-consumer` (both on Node), and, as the SQS server's
//! ceiling, a bare receive-and-delete loop. Twice: without added latency, and as in production
//! (10 ms to SQS; 100 ms and 10 requests a second at Iterable).
//!
//! `cargo bench --bench drain`, with any of `-- --server elasticmq --messages 100000 --only
//! event-forwarder`. Needs `npm ci` in `benches/drain/peers`.

mod proxy;

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use clap::Parser;
use event_forwarder::{
    api::QueueSpec,
    drain::report::RunReport,
    sqs::{Credentials, QueueClient},
};
use event_forwarder_test_support::{
    iterable::{History, IterableStandIn, Limits, Options},
    sqs::{Attributes, Kind, Queue, SqsServer},
};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::proxy::Proxy;

/// How many receives are under way at once, for all but the timer's loop.
const CONCURRENCY: usize = 8;

#[derive(Parser, Clone)]
struct Args {
    /// The SQS server.
    #[arg(long, value_enum, default_value_t = Kind::Fauxqs)]
    server: Kind,
    /// Messages on the queue; the timer's loop gets a twentieth in production's setting.
    #[arg(long, default_value_t = 20_000)]
    messages: usize,
    /// Only this one.
    #[arg(long)]
    only: Option<String>,
    /// Only this setting.
    #[arg(long)]
    setting: Option<String>,
    /// Given by cargo.
    #[arg(long)]
    bench: bool,
}

struct Setting {
    name: &'static str,
    queue_latency: Duration,
    sink_latency: Duration,
    sink_rate: Option<u32>,
}

const SETTINGS: [Setting; 2] = [
    Setting {
        name: "no latency",
        queue_latency: Duration::ZERO,
        sink_latency: Duration::ZERO,
        sink_rate: None,
    },
    Setting {
        name: "production",
        queue_latency: Duration::from_millis(10),
        sink_latency: Duration::from_millis(100),
        sink_rate: Some(10),
    },
];

/// What one candidate did.
#[derive(Default)]
struct Result {
    messages: f64,
    seconds: f64,
    sqs: f64,
    iterable: f64,
    mebibytes: f64,
    first_receive: Option<Duration>,
}

struct World {
    server: SqsServer,
    queue: Queue,
    iterable: IterableStandIn,
    proxy: Proxy,
}

#[tokio::main]
async fn main() {
    let mut args = Args::parse();
    if !args.bench {
        // Under `cargo test --benches` a short run shows that it works.
        args.messages = 200;
        args.only.get_or_insert("event-forwarder".to_owned());
    }
    println!(
        "{:<12} {:<16} {:>9} {:>9} {:>10} {:>13} {:>9} {:>9} {:>13}",
        "setting",
        "who",
        "messages",
        "seconds",
        "messages/s",
        "SQS per 1,000",
        "Iterable",
        "peak MiB",
        "first receive"
    );
    for setting in &SETTINGS {
        if args
            .setting
            .as_ref()
            .is_some_and(|only| only != setting.name)
        {
            continue;
        }
        for who in [
            "timer loop",
            "sqs-consumer",
            "bare ceiling",
            "event-forwarder",
        ] {
            if args.only.as_ref().is_some_and(|only| only != who) {
                continue;
            }
            let few = who == "timer loop" && setting.sink_rate.is_some();
            let messages = if few {
                args.messages / 20
            } else {
                args.messages
            };
            let world = World::new(args.server, setting, messages).await;
            let result = match who {
                "bare ceiling" => world.bare().await,
                "event-forwarder" => world.event_forwarder(setting).await,
                "timer loop" => world.node("timer-loop.mjs", messages, 1).await,
                _ => world.node("consumer.mjs", messages, CONCURRENCY).await,
            };
            print(setting.name, who, &result);
        }
    }
}

fn print(setting: &str, who: &str, result: &Result) {
    let first = result.first_receive.map_or_else(String::new, |after| {
        format!("{:.0} ms", after.as_secs_f64() * 1e3)
    });
    println!(
        "{setting:<12} {who:<16} {:>9} {:>9.2} {:>10.0} {:>13.1} {:>9} {:>9.1} {first:>13}",
        result.messages,
        result.seconds,
        result.messages / result.seconds,
        result.sqs / result.messages * 1_000.0,
        result.iterable,
        result.mebibytes,
    );
}

impl World {
    async fn new(kind: Kind, setting: &Setting, messages: usize) -> Self {
        let server = SqsServer::start(kind, ([127, 0, 0, 1], 0).into())
            .await
            .unwrap();
        let attributes = Attributes {
            visibility_timeout: Duration::from_secs(300),
            ..Attributes::default()
        };
        let queue = server
            .create_queue_with_dlq("bench", attributes)
            .await
            .unwrap();
        for start in (0..messages).step_by(1_000) {
            let bodies: Vec<_> = (start..messages.min(start + 1_000)).map(body).collect();
            queue.send(&bodies).await.unwrap();
        }
        let iterable = IterableStandIn::start(Options {
            limits: Limits {
                track_bulk_rate: setting.sink_rate,
                ..Limits::default()
            },
            latency: setting.sink_latency,
            history: History::CountsOnly,
            ..Options::default()
        })
        .await
        .unwrap();
        let proxy = Proxy::start(&server.endpoint(), setting.queue_latency).await;
        Self {
            server,
            queue,
            iterable,
            proxy,
        }
    }

    /// Receives and deletes, and nothing else: each loop deletes while it receives the next.
    async fn bare(&self) -> Result {
        let spec: QueueSpec = serde_json::from_value(self.queue_spec()).unwrap();
        let credentials = Credentials::Keys {
            access_key_id: "test".to_owned(),
            secret_access_key: "test".to_owned(),
            session_token: None,
        };
        let queue = QueueClient::connect(&spec, credentials).await.unwrap();
        let started = Instant::now();
        let loops = (0..CONCURRENCY).map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move {
                let mut messages = 0;
                let mut done: Vec<String> = Vec::new();
                loop {
                    let delete = async {
                        if !done.is_empty() {
                            queue.delete(&done).await.unwrap();
                        }
                    };
                    let (received, ()) =
                        tokio::join!(queue.receive(10, Duration::ZERO, None), delete);
                    let received = received.unwrap();
                    if received.is_empty() {
                        return messages;
                    }
                    messages += received.len();
                    done = received
                        .into_iter()
                        .map(|message| message.receipt)
                        .collect();
                }
            })
        });
        let mut messages = 0;
        for one in loops.collect::<Vec<_>>() {
            messages += one.await.unwrap();
        }
        Result {
            messages: messages as f64,
            seconds: started.elapsed().as_secs_f64(),
            sqs: queue.requests() as f64,
            ..Result::default()
        }
    }

    async fn event_forwarder(&self, setting: &Setting) -> Result {
        let dir =
            std::env::temp_dir().join(format!("event-forwarder-bench-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = |name: &str| dir.join(name);
        let manifest = json!({
            "apiVersion": "eventforwarder.io/v1alpha1",
            "kind": "EventForwarder",
            "metadata": {"name": "bench"},
            "spec": {
                "schedule": "@hourly",
                "queue": self.queue_spec(),
                "iterable": {
                    "apiKeySecretRef": {"name": "iterable"},
                    "endpoint": self.iterable.url(),
                    "requestsPerSecond": setting.sink_rate.unwrap_or(1_000),
                },
            },
        });
        std::fs::write(file("forwarder.json"), manifest.to_string()).unwrap();
        std::fs::write(file("key"), "test-key").unwrap();
        std::fs::write(file("accessKeyId"), "test").unwrap();
        std::fs::write(file("secretAccessKey"), "test").unwrap();
        let started = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_event-forwarder"))
            .arg("drain")
            .args([Path::new("--forwarder"), &file("forwarder.json")])
            .args([Path::new("--api-key-file"), &file("key")])
            .args([Path::new("--aws-credentials-dir"), &dir])
            .args([Path::new("--report-file"), &file("report")])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let status = PathBuf::from(format!("/proc/{}/status", child.id().unwrap()));
        let mut peak = 0.0;
        let mut look = tokio::time::interval(Duration::from_millis(20));
        loop {
            tokio::select! {
                ended = child.wait() => {
                    assert!(ended.unwrap().success());
                    break;
                }
                _ = look.tick() => peak = peak_mebibytes(&status).unwrap_or(peak),
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        let report: RunReport =
            serde_json::from_str(&std::fs::read_to_string(file("report")).unwrap()).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(
            report.messages.deleted, report.messages.received,
            "{report:?}"
        );
        Result {
            messages: report.messages.deleted as f64,
            seconds,
            sqs: report.requests.sqs as f64,
            iterable: report.requests.iterable as f64,
            mebibytes: peak,
            first_receive: self.proxy.first_receive().map(|at| at - started),
        }
    }

    async fn node(&self, script: &str, messages: usize, concurrency: usize) -> Result {
        let output = Command::new("node")
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/drain/peers"))
            .args([
                script,
                &self.proxy.url,
                &self.queue.url,
                self.iterable.url(),
            ])
            .args([messages.to_string(), concurrency.to_string()])
            .stderr(Stdio::inherit())
            .output()
            .await
            .unwrap();
        assert!(
            output.status.success(),
            "{script} failed: is `npm ci` done in benches/drain/peers?"
        );
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        let number = |name: &str| said[name].as_f64().unwrap();
        Result {
            messages: number("messages"),
            seconds: number("seconds"),
            sqs: number("sqs"),
            iterable: number("iterable"),
            mebibytes: number("mebibytes"),
            first_receive: None,
        }
    }

    fn queue_spec(&self) -> Value {
        let _ = &self.server;
        json!({"url": self.queue.url, "region": "us-east-1", "endpoint": self.proxy.url})
    }
}

/// The peak of resident memory, as the kernel counted it.
fn peak_mebibytes(status: &Path) -> Option<f64> {
    let text = std::fs::read_to_string(status).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: f64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kibibytes / 1024.0)
}

/// A batch of 7 KB as mParticle sends them: two screens, and the user's attributes around them.
fn body(index: usize) -> String {
    let attributes: serde_json::Map<String, Value> = (0..70)
        .map(|n| {
            (
                format!("attribute_{n:02}"),
                json!(format!("value {n} of user {index}, {:>40}", n * index)),
            )
        })
        .collect();
    let event = |n: usize| {
        json!({
            "event_type": "screen_view",
            "data": {
                "timestamp_unixtime_ms": 1_764_057_600_000_i64 + index as i64,
                "event_id": index * 2 + n,
                "source_message_id": format!("{index:08x}-0000-4000-8000-{n:012x}"),
                "screen_name": "Product",
                "custom_attributes": {"product": format!("sku-{index}-{n}"), "position": n, "list": "search results"},
            },
        })
    };
    json!({
        "schema_version": 2,
        "environment": "production",
        "mpid": index,
        "user_identities": [{"identity_type": "email", "identity": format!("user{index}@example.com")}],
        "user_attributes": attributes,
        "events": [event(0), event(1)],
    })
    .to_string()
}
