//! The connections and the encoding of requests to Iterable.

use std::time::Duration;

use event_forwarder::drain::report::Outcome;
use event_forwarder_test_support::{
    iterable::{Answers, Limits, Options, RequestRecord},
    sqs::Kind,
};
use serde_json::{Value, json};

use crate::{
    process::Pod,
    proxy::{ConnectionFault, Proxy},
    tls::{certificates, terminator},
    world::{Setting, World, batches},
};

/// Returns a setting with many small, concurrent requests to Iterable.
fn chatty(project: Value, answers: Answers) -> Setting {
    Setting {
        iterable: Options {
            limits: Limits {
                track_bulk_rate: None,
                ..Limits::default()
            },
            latency: Duration::from_millis(20),
            answers,
            ..Options::default()
        },
        project,
        ..Setting::on(Kind::Fauxqs)
    }
}

fn small() -> Value {
    json!({"requestsPerSecond": 1000, "maxEventsPerRequest": 5})
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_share_one_connection_with_http_2() {
    let mut world = World::new(chatty(small(), Answers::default())).await;
    world.queue.send(&batches(200, 1)).await.unwrap();
    let pod = Pod::new("http-2");
    certificates(&pod.dir, "DNS:localhost");
    let port = terminator(&pod.dir, world.iterable.url(), &["h2", "http/1.1"]).await;
    world.spec.iterable.endpoint = Some(format!("https://localhost:{port}"));
    let child = pod.all_files(&world).start_with([pod.ca_file()]);
    let (code, report) = pod.end(child).await;
    assert_eq!(
        (code, report.events.forwarded),
        (Some(0), 200),
        "{report:?}"
    );
    let requests = world.iterable.handle.requests();
    assert!(requests.len() >= 40, "{}", requests.len());
    assert!(requests.iter().all(|request| request.version == "HTTP/2.0"));
    assert_eq!(world.iterable.handle.summary().connections, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_reuse_connections_with_http_1() {
    let world = World::new(chatty(small(), Answers::default())).await;
    world.queue.send(&batches(200, 1)).await.unwrap();
    let report = world.drain().await;
    assert_eq!(report.events.forwarded, 200, "{report:?}");
    let requests = world.iterable.handle.requests();
    assert!(requests.len() >= 40, "{}", requests.len());
    assert!(requests.iter().all(|request| request.version == "HTTP/1.1"));
    let connections = world.iterable.handle.summary().connections;
    assert!(
        connections <= 12,
        "about one per concurrent request, of which there are at most eight: {connections}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_connection_is_replaced_when_it_stalls() {
    let mut world = World::new(chatty(small(), Answers::default())).await;
    world.queue.send(&batches(200, 1)).await.unwrap();
    let pod = Pod::new("silent-http-2");
    certificates(&pod.dir, "DNS:localhost");
    let port = terminator(&pod.dir, world.iterable.url(), &["h2"]).await;
    let relay = Proxy::start(([127, 0, 0, 1], port).into()).await;
    relay.set_faults(vec![ConnectionFault::Stall(20_000)]);
    let url = relay.url().replace("http://127.0.0.1", "https://localhost");
    world.spec.iterable.endpoint = Some(url);
    let child = pod.all_files(&world).start_with([pod.ca_file()]);
    let (code, report) = pod.end(child).await;
    assert_eq!(
        (code, report.outcome),
        (Some(0), Outcome::Drained),
        "{report:?}"
    );
    assert_eq!(world.iterable.handle.summary().events.stored, 200);
    assert_eq!(relay.fault_count(), 1);
    let took = report.finished_at.duration_since(report.started_at);
    assert!(
        took.as_secs() < 30,
        "detected before the request's timeout: {took}"
    );
}

fn encoding(request: &RequestRecord) -> Option<&str> {
    request.headers.get("content-encoding").map(String::as_str)
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_compressed_when_configured() {
    let world = World::new(chatty(json!({"compression": "Gzip"}), Answers::default())).await;
    world.queue.send(&batches(500, 2)).await.unwrap();
    let report = world.drain().await;
    assert_eq!(report.events.forwarded, 1_000, "{report:?}");
    assert_eq!(world.iterable.handle.summary().events.stored, 1_000);
    let requests = world.iterable.handle.requests();
    assert!(
        requests
            .iter()
            .all(|request| encoding(request) == Some("gzip"))
    );
    let decoded: usize = requests
        .iter()
        .map(|request| request.body.to_string().len())
        .sum();
    assert!(
        report.bytes_sent < decoded as u64 / 3,
        "{} of {decoded}",
        report.bytes_sent
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_sent_uncompressed_when_gzip_is_rejected() {
    let answers = Answers {
        reject_gzip: true,
        ..Answers::default()
    };
    let world = World::new(chatty(json!({"compression": "Gzip"}), answers)).await;
    world.queue.send(&batches(500, 2)).await.unwrap();
    let report = world.drain().await;
    assert_eq!(
        (report.outcome, report.events.forwarded),
        (Outcome::Drained, 1_000),
        "{report:?}"
    );
    assert_eq!(report.events.rejected, 0);
    let requests = world.iterable.handle.requests();
    let compressed = requests
        .iter()
        .filter(|request| encoding(request).is_some())
        .count();
    assert_eq!(compressed, 1, "only the first request is compressed");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_uncompressed_by_default() {
    let world = World::new(chatty(json!({}), Answers::default())).await;
    world.queue.send(&batches(20, 1)).await.unwrap();
    world.drain().await;
    let requests = world.iterable.handle.requests();
    assert!(!requests.is_empty() && requests.iter().all(|request| encoding(request).is_none()));
}
