//! A queue on a third-party SQS server, the fake Iterable server, and runs between them.

use std::{
    future::Future,
    num::NonZeroU32,
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use aws_sdk_sqs::types::MessageSystemAttributeName;
use event_forwarder::{
    api::EventForwarderSpec,
    drain::{self, plan::Plan, report::RunReport},
    iterable::ApiKey,
    sqs::Credentials,
};
use event_forwarder_test_support::{
    iterable::{FakeIterable, Options},
    sqs::{Attributes, Kind, Queue, SqsServer},
};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// The servers, the queue and the spec of a test.
pub struct World {
    pub sqs: &'static SqsServer,
    pub queue: Queue,
    pub iterable: FakeIterable,
    pub spec: EventForwarderSpec,
}

/// The options of a [`World`].
pub struct Setting {
    pub kind: Kind,
    pub queue: Attributes,
    pub iterable: Options,
    pub drain: Value,
    pub project: Value,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            kind: Kind::Fauxqs,
            queue: Attributes::default(),
            iterable: Options::default(),
            drain: json!({}),
            project: json!({}),
        }
    }
}

/// Returns the server of this kind, shared by all tests of a process. Every test has its own queue.
pub async fn server(kind: Kind) -> &'static SqsServer {
    static MOTO: OnceCell<SqsServer> = OnceCell::const_new();
    static FAUXQS: OnceCell<SqsServer> = OnceCell::const_new();
    static ELASTIC_MQ: OnceCell<SqsServer> = OnceCell::const_new();
    let server = match kind {
        Kind::Moto => &MOTO,
        Kind::Fauxqs => &FAUXQS,
        Kind::ElasticMq => &ELASTIC_MQ,
    };
    let start = || SqsServer::start(kind, ([127, 0, 0, 1], 0).into());
    server.get_or_try_init(start).await.unwrap()
}

impl Setting {
    /// Returns the default setting on this server.
    pub fn on(kind: Kind) -> Self {
        Self {
            kind,
            ..Self::default()
        }
    }
}

impl World {
    pub async fn new(setting: Setting) -> Self {
        static QUEUES: AtomicU32 = AtomicU32::new(0);
        let sqs = server(setting.kind).await;
        let name = format!("events-{}", QUEUES.fetch_add(1, Ordering::Relaxed));
        let queue = sqs
            .create_queue_with_dlq(&name, setting.queue)
            .await
            .unwrap();
        let iterable = FakeIterable::start(setting.iterable).await.unwrap();
        let mut project =
            json!({"apiKeySecretRef": {"name": "iterable"}, "endpoint": iterable.url()});
        merge(&mut project, setting.project);
        let spec = serde_json::from_value(json!({
            "schedule": "@hourly",
            "queue": {"url": queue.url, "region": "us-east-1", "endpoint": sqs.endpoint()},
            "iterable": project,
            "mapping": {"events": ["All"]},
            "drain": setting.drain,
        }))
        .unwrap();
        Self {
            sqs,
            queue,
            iterable,
            spec,
        }
    }

    /// Executes one run to its end.
    pub async fn drain(&self) -> RunReport {
        self.drain_until(std::future::pending()).await
    }

    /// Executes runs until the queue has no messages, and returns the sum of their reports.
    ///
    /// The first run can leave messages: if a server is too slow to return some, the receive times
    /// out, and SQS returns them again only after their visibility timeout.
    pub async fn drain_until_empty(&self) -> RunReport {
        let deadline = Instant::now() + Duration::from_secs(90);
        let mut sum = self.drain().await;
        loop {
            let depth = self.queue.depth().await.unwrap();
            if depth.visible + depth.in_flight == 0 {
                return sum;
            }
            assert!(Instant::now() < deadline, "{depth:?} after {sum:?}");
            tokio::time::sleep(Duration::from_secs(2)).await;
            sum = sum.and(self.drain().await);
        }
    }

    /// Executes one run, which receives a termination signal when `stop` completes.
    pub async fn drain_until(&self, stop: impl Future<Output = ()>) -> RunReport {
        tokio::time::timeout(
            Duration::from_secs(120),
            drain::drain(self.plan("test-key"), stop),
        )
        .await
        .expect("the run ends in time")
    }

    pub fn plan(&self, key: &str) -> Plan {
        Plan {
            spec: self.spec.clone(),
            key: ApiKey::new(key).unwrap(),
            transform: None,
            credentials: Credentials::Keys {
                access_key_id: "test".to_owned(),
                secret_access_key: "test".to_owned(),
                session_token: None,
            },
            run: "test".to_owned(),
            pods: NonZeroU32::MIN,
        }
    }

    /// Receives all dead-lettered messages, which stay invisible for their visibility timeout.
    pub async fn dead_letters(&self) -> Vec<aws_sdk_sqs::types::Message> {
        let client = self.sqs.client();
        let mut dead_letters = Vec::new();
        loop {
            let received = client
                .receive_message()
                .queue_url(&self.queue.dlq_url)
                .max_number_of_messages(10)
                .wait_time_seconds(1)
                .message_attribute_names("All")
                .message_system_attribute_names(MessageSystemAttributeName::All)
                .send()
                .await
                .unwrap()
                .messages
                .unwrap_or_default();
            if received.is_empty() {
                return dead_letters;
            }
            dead_letters.extend(received);
        }
    }
}

fn merge(target: &mut Value, other: Value) {
    if let (Some(target), Value::Object(other)) = (target.as_object_mut(), other) {
        target.extend(other);
    }
}

/// Time of the events of [`batch`], in Unix milliseconds: one hour before the test.
///
/// It is relative because a fixed time becomes implausible after a year. It is constant during a
/// test, so equal arguments of [`batch`] result in equal events.
pub static EVENT_TIME_MS: LazyLock<i64> =
    LazyLock::new(|| jiff::Timestamp::now().as_millisecond() - 3_600_000);

/// Returns the body of one user's batch with custom events of these names and fields.
///
/// If `user` is an email address, the user also has the part before the @ as userId. Otherwise, the
/// user has only the userId `user`.
pub fn batch<'a>(user: &str, events: impl IntoIterator<Item = (&'a str, Value)>) -> String {
    let events: Vec<_> = events
        .into_iter()
        .map(|(name, fields)| {
            json!({
                "event_type": "custom_event",
                "data": {
                    "event_name": name,
                    "custom_event_type": "other",
                    "timestamp_unixtime_ms": *EVENT_TIME_MS,
                    "custom_attributes": fields,
                },
            })
        })
        .collect();
    let user_id = json!({"identity_type": "customer_id", "identity": user.split('@').next()});
    let email = user
        .contains('@')
        .then(|| json!({"identity_type": "email", "identity": user}));
    let identities: Vec<_> = email.into_iter().chain([user_id]).collect();
    json!({
        "schema_version": 2,
        "environment": "production",
        "user_identities": identities,
        "events": events,
    })
    .to_string()
}

/// Returns `count` batches of different users, with `events` different events each.
pub fn batches(count: usize, events: usize) -> Vec<String> {
    (0..count)
        .map(|index| {
            let user = format!("user{index}@example.com");
            batch(
                &user,
                (0..events).map(|event| ("Viewed", json!({"n": format!("{index}-{event}")}))),
            )
        })
        .collect()
}
