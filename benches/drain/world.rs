//! One candidate on a separate queue.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::LazyLock,
    time::{Duration, Instant},
};

use event_forwarder::{
    api::QueueSpec,
    drain::report::RunReport,
    sqs::{Credentials, QueueClient},
};
use event_forwarder_test_support::{
    iterable::{FakeIterable, History, Limits, Options},
    sqs::{Attributes, Kind, Queue, SqsServer},
};
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::proxy::Proxy;

/// Concurrent receives of all candidates, except the timer loop.
pub const CONCURRENCY: usize = 8;

/// Default maximum of events in a request to Iterable.
pub const MAX_EVENTS: f64 = 1_000.0;

/// Default maximum of bytes in a request to Iterable.
pub const MAX_BYTES: f64 = 4_000_000.0;

/// Latency and rate limit of the servers.
pub struct Setting {
    pub name: &'static str,
    queue_latency: Duration,
    sink_latency: Duration,
    /// Requests per second.
    pub sink_rate: Option<u32>,
}

pub const NO_LATENCY: Setting = Setting {
    name: "no latency",
    queue_latency: Duration::ZERO,
    sink_latency: Duration::ZERO,
    sink_rate: None,
};

pub const PRODUCTION: Setting = Setting {
    name: "production",
    queue_latency: Duration::from_millis(10),
    sink_latency: Duration::from_millis(100),
    sink_rate: Some(10),
};

/// The measurement of one candidate.
#[derive(Default)]
pub struct Measurement {
    pub messages: f64,
    pub seconds: f64,
    pub sqs: f64,
    pub iterable: f64,
    pub events: f64,
    pub sent_bytes: f64,
    pub mebibytes: f64,
    pub first_receive: Option<Duration>,
}

impl Measurement {
    pub const HEADER: &str = concat!(
        "server    setting    candidate        messages  seconds  messages/s  ",
        "SQS per 1,000  Iterable  peak MiB  first receive"
    );

    pub fn speed(&self) -> f64 {
        self.messages / self.seconds
    }

    pub fn sqs_per_thousand(&self) -> f64 {
        self.sqs / self.messages * 1_000.0
    }

    pub fn row(&self, server: Kind, setting: &str, candidate: &str) -> String {
        let first = self.first_receive.map_or_else(String::new, |after| {
            format!("{:.0} ms", after.as_secs_f64() * 1e3)
        });
        format!(
            "{:<9} {setting:<10} {candidate:<16} {:>8} {:>8.2} {:>11.0} {:>14.1} {:>9} {:>9.1} {first:>14}",
            server.to_string(),
            self.messages,
            self.seconds,
            self.speed(),
            self.sqs_per_thousand(),
            self.iterable,
            self.mebibytes,
        )
    }
}

/// A queue with messages, and the fake Iterable server.
pub struct World {
    // Runs until it is dropped.
    _server: SqsServer,
    queue: Queue,
    iterable: FakeIterable,
    proxy: Proxy,
}

impl World {
    pub async fn new(kind: Kind, setting: &Setting, messages: usize) -> Self {
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
        let filled = &queue;
        stream::iter((0..messages).step_by(500))
            .for_each_concurrent(4, async |start| {
                let bodies: Vec<_> = (start..messages.min(start + 500)).map(body).collect();
                filled.send(&bodies).await.unwrap();
            })
            .await;
        let iterable = FakeIterable::start(Options {
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
            _server: server,
            queue,
            iterable,
            proxy,
        }
    }

    /// Measures only receives and deletes. Like a run, every loop deletes while it receives the
    /// next messages.
    pub async fn bare(&self) -> Measurement {
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
                    let (received, ()) = tokio::join!(
                        queue.receive(10, Duration::from_secs(1), None, None),
                        delete
                    );
                    let received = received.unwrap();
                    if received.is_empty() {
                        return messages;
                    }
                    messages += received.len();
                    done = received
                        .into_iter()
                        .map(|message| message.receipt_handle)
                        .collect();
                }
            })
        });
        let mut messages = 0;
        for task in loops.collect::<Vec<_>>() {
            messages += task.await.unwrap();
        }
        Measurement {
            messages: messages as f64,
            seconds: started.elapsed().as_secs_f64(),
            sqs: queue.requests() as f64,
            ..Measurement::default()
        }
    }

    pub async fn event_forwarder(&self, setting: &Setting) -> Measurement {
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
        let mut interval = tokio::time::interval(Duration::from_millis(20));
        loop {
            tokio::select! {
                status = child.wait() => {
                    assert!(status.unwrap().success());
                    break;
                }
                _ = interval.tick() => peak = peak_mebibytes(&status).unwrap_or(peak),
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
        Measurement {
            messages: report.messages.deleted as f64,
            seconds,
            sqs: report.requests.sqs as f64,
            iterable: report.requests.iterable as f64,
            events: report.events.forwarded as f64,
            sent_bytes: report.bytes_sent as f64,
            mebibytes: peak,
            first_receive: self.proxy.first_receive().map(|at| at - started),
        }
    }

    pub async fn node(&self, script: &str, messages: usize, concurrency: usize) -> Measurement {
        let output = Command::new("node")
            .current_dir("benches/drain/peers")
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
            "{script} failed; run `npm ci` in benches/drain/peers first"
        );
        let result: Value = serde_json::from_slice(&output.stdout).unwrap();
        let number = |name: &str| result[name].as_f64().unwrap();
        Measurement {
            messages: number("messages"),
            seconds: number("seconds"),
            sqs: number("sqs"),
            iterable: number("iterable"),
            mebibytes: number("mebibytes"),
            ..Measurement::default()
        }
    }

    fn queue_spec(&self) -> Value {
        json!({"url": self.queue.url, "region": "us-east-1", "endpoint": self.proxy.url})
    }
}

/// Returns the peak resident memory, as the kernel counted it.
fn peak_mebibytes(status: &Path) -> Option<f64> {
    let text = std::fs::read_to_string(status).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: f64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kibibytes / 1024.0)
}

/// Time of the first event, in Unix milliseconds: one day before the run. It is relative because a
/// fixed time becomes implausible after a year.
static FIRST_EVENT_TIME_MS: LazyLock<i64> =
    LazyLock::new(|| jiff::Timestamp::now().as_millisecond() - 86_400_000);

/// Returns a batch of 7 KB as mParticle sends it: two screens and the user's attributes.
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
                "timestamp_unixtime_ms": *FIRST_EVENT_TIME_MS + index as i64,
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
