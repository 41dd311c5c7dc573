//! A queue on an SQS server that others wrote, the stand-in for Iterable, and runs between them.

use std::{
    future::Future,
    num::NonZeroU32,
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
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

/// The parts of a test.
pub struct World {
    pub sqs: &'static SqsServer,
    pub queue: Queue,
    pub iterable: FakeIterable,
    pub spec: EventForwarderSpec,
}

/// What a test's world is like.
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

/// The server of that kind, one for all tests of a process: each has queues of its own.
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
    /// The usual one, on this server.
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

    /// One run to its end.
    pub async fn drain(&self) -> RunReport {
        self.drain_until(std::future::pending()).await
    }

    /// One run, told to stop when `stop` is done.
    pub async fn drain_until(&self, stop: impl Future<Output = ()>) -> RunReport {
        tokio::time::timeout(
            Duration::from_secs(120),
            drain::drain(self.plan("test-key"), stop),
        )
        .await
        .expect("a run never hangs")
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

    /// The dead letters, by a receive that hides them for a while.
    pub async fn dead_letters(&self) -> Vec<aws_sdk_sqs::types::Message> {
        let client = self.sqs.client();
        let mut letters = Vec::new();
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
                return letters;
            }
            letters.extend(received);
        }
    }
}

fn merge(target: &mut Value, other: Value) {
    if let (Some(target), Value::Object(other)) = (target.as_object_mut(), other) {
        target.extend(other);
    }
}

/// When the events of [`batch`] happened, in milliseconds: an hour before the test, since an event
/// of a fixed day becomes one of a broken clock when a year has passed. The same for the whole of a
/// test, so that a batch made twice has the same events.
pub static HAPPENED: LazyLock<i64> =
    LazyLock::new(|| jiff::Timestamp::now().as_millisecond() - 3_600_000);

/// The body of a batch of one user with custom events of these names and fields: of a user with an
/// address and a userId, which is what stands before the @, or of one with a userId alone.
pub fn batch<'a>(user: &str, events: impl IntoIterator<Item = (&'a str, Value)>) -> String {
    let events: Vec<_> = events
        .into_iter()
        .map(|(name, fields)| {
            json!({
                "event_type": "custom_event",
                "data": {
                    "event_name": name,
                    "custom_event_type": "other",
                    "timestamp_unixtime_ms": *HAPPENED,
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

/// So many batches of one user each, with so many events each, all different.
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
