//! Whose keys sign the requests to SQS: moto is the token service.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use event_forwarder::drain::report::{Outcome, RunReport};
use event_forwarder_test_support::{iterable::Options, sqs::Kind};
use jiff::Timestamp;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
};

use crate::{
    process::Pod,
    tap::Tap,
    world::{Setting, World, batches, server},
};

const ROLE: &str = "arn:aws:iam::123456789012:role/drains";

/// A world of which all requests to SQS are seen.
struct Seen {
    world: World,
    pod: Pod,
    sqs: Tap,
}

impl Seen {
    async fn new(setting: Setting) -> Self {
        let mut world = World::new(setting).await;
        let sqs = Tap::start(&world.sqs.endpoint()).await;
        world.spec.queue.endpoint = Some(sqs.url.clone());
        world.queue.send(&batches(12, 1)).await.unwrap();
        Self {
            world,
            pod: Pod::new("credentials"),
            sqs,
        }
    }

    async fn run(&self, environment: &[(&str, &str)]) -> RunReport {
        let child = self
            .pod
            .all_files(&self.world)
            .command()
            .envs(environment.iter().copied())
            .spawn()
            .unwrap();
        self.pod.report_of(child).await.1
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.pod.dir.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// The access keys that signed, in the order of their first request.
    fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = Vec::new();
        for request in self.sqs.requests() {
            if !keys.iter().any(|key| key == request.access_key()) {
                keys.push(request.access_key().to_owned());
            }
        }
        keys
    }

    fn tokens(&self) -> Vec<Option<String>> {
        let requests = self.sqs.requests();
        requests
            .into_iter()
            .map(|mut request| request.headers.remove("x-amz-security-token"))
            .collect()
    }
}

async fn token_service() -> Tap {
    Tap::start(&server(Kind::Moto).await.endpoint()).await
}

fn assert_drained(report: &RunReport) {
    assert_eq!(
        (report.outcome, report.messages.deleted),
        (Outcome::Drained, 12),
        "{report:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_assumed_with_its_external_id_from_the_keys_of_a_secret() {
    let mut seen = Seen::new(Setting::on(Kind::Moto)).await;
    let sts = token_service().await;
    seen.world.spec.queue.assume_role =
        serde_json::from_value(json!({"arn": ROLE, "externalId": "between-us"})).unwrap();
    let child = seen
        .pod
        .all_files(&seen.world)
        .start_with([("AWS_ENDPOINT_URL_STS", sts.url.clone())]);
    let (_, report) = seen.pod.report_of(child).await;
    assert_drained(&report);
    let asked = sts.requests();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].access_key(), "test");
    for part in [
        "Action=AssumeRole&",
        "ExternalId=between-us",
        "RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fdrains",
    ] {
        assert!(asked[0].body.contains(part), "{part} in {}", asked[0].body);
    }
    let keys = seen.keys();
    assert!(keys.len() == 1 && keys[0].starts_with("ASIA"), "{keys:?}");
    assert!(seen.tokens().iter().all(Option::is_some));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_accounts_token_is_exchanged_for_its_role() {
    let seen = Seen::new(Setting::on(Kind::Moto)).await;
    let sts = token_service().await;
    let token = seen.write("token", "the-service-accounts-token");
    let report = seen
        .run(&[
            ("AWS_WEB_IDENTITY_TOKEN_FILE", &token),
            ("AWS_ROLE_ARN", ROLE),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL_STS", &sts.url),
        ])
        .await;
    assert_drained(&report);
    let asked = sts.requests();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].body.contains("Action=AssumeRoleWithWebIdentity"));
    assert!(
        asked[0]
            .body
            .contains("WebIdentityToken=the-service-accounts-token")
    );
    assert!(
        !asked[0].headers.contains_key("authorization"),
        "the token is all that is known"
    );
    let keys = seen.keys();
    assert!(keys.len() == 1 && keys[0].starts_with("ASIA"), "{keys:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_assumed_from_the_role_of_a_service_account() {
    let mut seen = Seen::new(Setting::on(Kind::Moto)).await;
    let sts = token_service().await;
    seen.world.spec.queue.assume_role = serde_json::from_value(json!({"arn": ROLE})).unwrap();
    let token = seen.write("token", "the-service-accounts-token");
    let report = seen
        .run(&[
            ("AWS_WEB_IDENTITY_TOKEN_FILE", &token),
            ("AWS_ROLE_ARN", "arn:aws:iam::210987654321:role/pods"),
            ("AWS_ENDPOINT_URL_STS", &sts.url),
        ])
        .await;
    assert_drained(&report);
    let asked = sts.requests();
    let (first, second) = (&asked[0], &asked[1]);
    assert!(
        first.body.contains("Action=AssumeRoleWithWebIdentity")
            && first.body.contains("210987654321")
    );
    assert!(second.body.contains("Action=AssumeRole&") && second.body.contains("123456789012"));
    let keys = seen.keys();
    assert!(
        keys.len() == 1 && keys[0] != second.access_key(),
        "{keys:?}"
    );
}

/// A small HTTP server: `answer` makes of a request's head, in lower case, a status, a header and
/// a body. Answers its URL.
async fn serve(
    answer: impl Fn(&str) -> (u16, &'static str, String) + Send + Sync + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let answer = Arc::clone(&answer);
            tokio::spawn(async move {
                let mut client = BufReader::new(client);
                let (mut head, mut line) = (String::new(), String::new());
                while client.read_line(&mut line).await.ok()? > 2 {
                    head += &std::mem::take(&mut line).to_lowercase();
                }
                let (status, header, body) = answer(&head);
                let answer = format!(
                    "HTTP/1.1 {status} Said\r\n{header}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                client.write_all(answer.as_bytes()).await.ok()
            });
        }
    });
    url
}

const JSON: &str = "Content-Type: application/json";

fn temporary(key: &str, valid: Duration) -> String {
    let expiration = (Timestamp::now() + valid).to_string();
    json!({
        "Code": "Success", "AccessKeyId": key, "SecretAccessKey": "s", "Token": "t",
        "Expiration": expiration,
    })
    .to_string()
}

/// The agent of EKS Pod Identity: gives one set of keys after the other to whoever brings the
/// token, the last one for ever.
async fn agent(token: &'static str, keys: Vec<(&'static str, Duration)>) -> String {
    let keys = Mutex::new(VecDeque::from(keys));
    let url = serve(move |head| {
        if !head.contains(&format!("authorization: {token}\r\n")) {
            return (401, JSON, "{}".to_owned());
        }
        let mut keys = keys.lock().unwrap();
        let (key, valid) = keys[0];
        if keys.len() > 1 {
            keys.pop_front();
        }
        (200, JSON, temporary(key, valid))
    })
    .await;
    format!("{url}/v1/credentials")
}

/// An instance's metadata service of the second version, which wants a session's token.
async fn metadata_service() -> String {
    serve(|head| {
        let path = head.split(' ').nth(1).unwrap_or_default();
        let role = "/latest/meta-data/iam/security-credentials/drains";
        match path {
            "/latest/api/token" if head.starts_with("put ") => (
                200,
                "X-Aws-Ec2-Metadata-Token-Ttl-Seconds: 21600",
                "session".to_owned(),
            ),
            _ if !head.contains("x-aws-ec2-metadata-token: session\r\n") => {
                (401, JSON, String::new())
            }
            "/latest/meta-data/iam/security-credentials/" => (200, "X: y", "drains".to_owned()),
            _ if path == role => (200, JSON, temporary("ROLEKEY", HOUR)),
            _ => (404, JSON, String::new()),
        }
    })
    .await
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_of_pod_identity_is_asked_with_the_pods_token() {
    let seen = Seen::new(Setting::on(Kind::Fauxqs)).await;
    let url = agent("the-pods-token", vec![("AGENTKEY", HOUR)]).await;
    let right = seen.write("right", "the-pods-token");
    let wrong = seen.write("wrong", "another-token");
    let report = seen
        .run(&[
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &wrong),
        ])
        .await;
    assert_eq!(report.outcome, Outcome::QueueDenied, "{report:?}");
    assert!(seen.keys().is_empty());
    let report = seen
        .run(&[
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &right),
        ])
        .await;
    assert_drained(&report);
    assert_eq!(seen.keys(), ["AGENTKEY"]);
}

/// Keeps a run going until its keys have changed.
fn long() -> Setting {
    Setting {
        iterable: Options {
            latency: Duration::from_millis(500),
            ..Options::default()
        },
        project: json!({"maxEventsPerRequest": 1, "requestsPerSecond": 2}),
        ..Setting::on(Kind::Fauxqs)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_expire_during_a_run_are_replaced() {
    let seen = Seen::new(long()).await;
    // The SDK takes keys for expired up to ten seconds before they are.
    let keys = vec![("FIRSTKEY", Duration::from_secs(2)), ("SECONDKEY", HOUR)];
    let url = agent("the-pods-token", keys).await;
    let token = seen.write("token", "the-pods-token");
    let report = seen
        .run(&[
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &token),
        ])
        .await;
    assert_drained(&report);
    assert_eq!(seen.keys(), ["FIRSTKEY", "SECONDKEY"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instances_role_is_asked_for_with_a_session_token() {
    let seen = Seen::new(Setting::on(Kind::Fauxqs)).await;
    let url = metadata_service().await;
    let report = seen
        .run(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)])
        .await;
    assert_drained(&report);
    assert_eq!(seen.keys(), ["ROLEKEY"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_metadata_service_that_is_silent_is_an_error_within_seconds() {
    let seen = Seen::new(Setting::on(Kind::Fauxqs)).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let started = Instant::now();
    let report = seen
        .run(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)])
        .await;
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(report.outcome, Outcome::QueueDenied, "{report:?}");
    let message = report.message.unwrap();
    assert!(message.contains("credentials"), "{message}");
    assert_eq!(seen.world.queue.depth().await.unwrap().visible, 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_the_environment_sign_where_there_are_some() {
    let seen = Seen::new(Setting::on(Kind::Fauxqs)).await;
    let report = seen
        .run(&[
            ("AWS_ACCESS_KEY_ID", "ENVKEY"),
            ("AWS_SECRET_ACCESS_KEY", "s"),
        ])
        .await;
    assert_drained(&report);
    assert_eq!(seen.keys(), ["ENVKEY"]);
    let child = seen.pod.start_with([
        ("AWS_ACCESS_KEY_ID", "ENVKEY".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "s".to_owned()),
    ]);
    seen.pod.report_of(child).await;
    assert_eq!(
        seen.keys(),
        ["ENVKEY", "test"],
        "those of the forwarder's own Secret go first"
    );
}
