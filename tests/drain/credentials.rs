//! The keys that sign requests to SQS. Moto is the token service.

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

/// A world that records all requests to SQS.
struct RecordedWorld {
    world: World,
    pod: Pod,
    sqs: Tap,
}

impl RecordedWorld {
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

    /// Returns the access keys of the signatures, in the order of their first request.
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
async fn role_is_assumed_with_keys_and_external_id() {
    let mut recorded = RecordedWorld::new(Setting::on(Kind::Moto)).await;
    let sts = token_service().await;
    recorded.world.spec.queue.assume_role =
        serde_json::from_value(json!({"arn": ROLE, "externalId": "between-us"})).unwrap();
    let child = recorded
        .pod
        .all_files(&recorded.world)
        .start_with([("AWS_ENDPOINT_URL_STS", sts.url.clone())]);
    let (_, report) = recorded.pod.report_of(child).await;
    assert_drained(&report);
    let requests = sts.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].access_key(), "test");
    for part in [
        "Action=AssumeRole&",
        "ExternalId=between-us",
        "RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fdrains",
    ] {
        assert!(
            requests[0].body.contains(part),
            "{part} in {}",
            requests[0].body
        );
    }
    let keys = recorded.keys();
    assert!(keys.len() == 1 && keys[0].starts_with("ASIA"), "{keys:?}");
    assert!(recorded.tokens().iter().all(Option::is_some));
}

#[tokio::test(flavor = "multi_thread")]
async fn service_account_token_is_exchanged_for_role_keys() {
    let recorded = RecordedWorld::new(Setting::on(Kind::Moto)).await;
    let sts = token_service().await;
    let token = recorded.write("token", "the-service-accounts-token");
    let report = recorded
        .run(&[
            ("AWS_WEB_IDENTITY_TOKEN_FILE", &token),
            ("AWS_ROLE_ARN", ROLE),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL_STS", &sts.url),
        ])
        .await;
    assert_drained(&report);
    let requests = sts.requests();
    assert_eq!(requests.len(), 1);
    assert!(
        requests[0]
            .body
            .contains("Action=AssumeRoleWithWebIdentity")
    );
    assert!(
        requests[0]
            .body
            .contains("WebIdentityToken=the-service-accounts-token")
    );
    assert!(
        !requests[0].headers.contains_key("authorization"),
        "the request is not signed"
    );
    let keys = recorded.keys();
    assert!(keys.len() == 1 && keys[0].starts_with("ASIA"), "{keys:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn role_is_assumed_from_service_account_role() {
    let mut recorded = RecordedWorld::new(Setting::on(Kind::Moto)).await;
    let sts = token_service().await;
    recorded.world.spec.queue.assume_role = serde_json::from_value(json!({"arn": ROLE})).unwrap();
    let token = recorded.write("token", "the-service-accounts-token");
    let report = recorded
        .run(&[
            ("AWS_WEB_IDENTITY_TOKEN_FILE", &token),
            ("AWS_ROLE_ARN", "arn:aws:iam::210987654321:role/pods"),
            ("AWS_ENDPOINT_URL_STS", &sts.url),
        ])
        .await;
    assert_drained(&report);
    let requests = sts.requests();
    let (first, second) = (&requests[0], &requests[1]);
    assert!(
        first.body.contains("Action=AssumeRoleWithWebIdentity")
            && first.body.contains("210987654321")
    );
    assert!(second.body.contains("Action=AssumeRole&") && second.body.contains("123456789012"));
    let keys = recorded.keys();
    assert!(
        keys.len() == 1 && keys[0] != second.access_key(),
        "{keys:?}"
    );
}

/// Starts an HTTP server and returns its URL. `answer` returns a status, a header and a body for a
/// request's head in lower case.
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
                    "HTTP/1.1 {status} Status\r\n{header}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                client.write_all(answer.as_bytes()).await.ok()
            });
        }
    });
    url
}

const JSON: &str = "Content-Type: application/json";

fn temporary_keys(key: &str, valid: Duration) -> String {
    let expiration = (Timestamp::now() + valid).to_string();
    json!({
        "Code": "Success", "AccessKeyId": key, "SecretAccessKey": "s", "Token": "t",
        "Expiration": expiration,
    })
    .to_string()
}

/// Starts a fake EKS Pod Identity agent, which returns the keys one by one to requests with the
/// token. It returns the last ones repeatedly.
async fn pod_identity_agent(token: &'static str, keys: Vec<(&'static str, Duration)>) -> String {
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
        (200, JSON, temporary_keys(key, valid))
    })
    .await;
    format!("{url}/v1/credentials")
}

/// Starts a fake instance metadata service, version 2, which requires a session token.
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
            _ if path == role => (200, JSON, temporary_keys("ROLEKEY", HOUR)),
            _ => (404, JSON, String::new()),
        }
    })
    .await
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread")]
async fn pod_identity_agent_receives_the_pod_token() {
    let recorded = RecordedWorld::new(Setting::on(Kind::Fauxqs)).await;
    let url = pod_identity_agent("the-pods-token", vec![("AGENTKEY", HOUR)]).await;
    let valid_token = recorded.write("valid-token", "the-pods-token");
    let invalid_token = recorded.write("invalid-token", "another-token");
    let report = recorded
        .run(&[
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &invalid_token),
        ])
        .await;
    assert_eq!(report.outcome, Outcome::QueueDenied, "{report:?}");
    assert!(recorded.keys().is_empty());
    let report = recorded
        .run(&[
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &valid_token),
        ])
        .await;
    assert_drained(&report);
    assert_eq!(recorded.keys(), ["AGENTKEY"]);
}

/// Returns a setting whose runs last until their keys have changed.
fn slow_run() -> Setting {
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
async fn keys_are_replaced_when_they_expire() {
    let recorded = RecordedWorld::new(slow_run()).await;
    // The SDK treats keys as expired up to ten seconds early.
    let keys = vec![("FIRSTKEY", Duration::from_secs(2)), ("SECONDKEY", HOUR)];
    let url = pod_identity_agent("the-pods-token", keys).await;
    let token = recorded.write("token", "the-pods-token");
    let report = recorded
        .run(&[
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &token),
        ])
        .await;
    assert_drained(&report);
    assert_eq!(recorded.keys(), ["FIRSTKEY", "SECONDKEY"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn instance_role_is_requested_with_session_token() {
    let recorded = RecordedWorld::new(Setting::on(Kind::Fauxqs)).await;
    let url = metadata_service().await;
    let report = recorded
        .run(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)])
        .await;
    assert_drained(&report);
    assert_eq!(recorded.keys(), ["ROLEKEY"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn run_fails_within_seconds_when_metadata_service_hangs() {
    let recorded = RecordedWorld::new(Setting::on(Kind::Fauxqs)).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let started = Instant::now();
    let report = recorded
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
    assert_eq!(recorded.world.queue.depth().await.unwrap().visible, 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn environment_keys_sign_requests_without_a_secret() {
    let recorded = RecordedWorld::new(Setting::on(Kind::Fauxqs)).await;
    let report = recorded
        .run(&[
            ("AWS_ACCESS_KEY_ID", "ENVKEY"),
            ("AWS_SECRET_ACCESS_KEY", "s"),
        ])
        .await;
    assert_drained(&report);
    assert_eq!(recorded.keys(), ["ENVKEY"]);
    let child = recorded.pod.start_with([
        ("AWS_ACCESS_KEY_ID", "ENVKEY".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "s".to_owned()),
    ]);
    recorded.pod.report_of(child).await;
    assert_eq!(
        recorded.keys(),
        ["ENVKEY", "test"],
        "the keys of the forwarder's Secret take precedence"
    );
}
