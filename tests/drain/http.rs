//! How requests travel to Iterable.

use std::time::Duration;

use event_forwarder::drain::report::Outcome;
use event_forwarder_test_support::{
    iterable::{Answers, Limits, Options, RequestRecord},
    sqs::Kind,
};
use serde_json::{Value, json};

use crate::{
    process::Pod,
    proxy::{Proxy, Weather},
    tls::{certificates, terminator},
    world::{Setting, World, batches},
};

/// Many small requests to Iterable, several at a time.
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
async fn requests_share_one_connection_of_http_2_where_it_is_offered() {
    let mut world = World::new(chatty(small(), Answers::default())).await;
    world.queue.send(&batches(200, 1)).await.unwrap();
    let pod = Pod::new("http-2");
    certificates(&pod.dir, "DNS:localhost");
    let port = terminator(&pod.dir, world.iterable.url(), &["h2", "http/1.1"]).await;
    world.spec.iterable.endpoint = Some(format!("https://localhost:{port}"));
    let child = pod.all_files(&world).start_with([pod.authority()]);
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
async fn requests_use_connections_again_where_http_2_is_not_offered() {
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
        "about one for each of eight that may be under way: {connections}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_connection_that_dies_in_silence_is_replaced() {
    let mut world = World::new(chatty(small(), Answers::default())).await;
    world.queue.send(&batches(200, 1)).await.unwrap();
    let pod = Pod::new("silent-http-2");
    certificates(&pod.dir, "DNS:localhost");
    let port = terminator(&pod.dir, world.iterable.url(), &["h2"]).await;
    let relay = Proxy::start(([127, 0, 0, 1], port).into()).await;
    relay.forecast(vec![Weather::Stall(20_000)]);
    let url = relay.url().replace("http://127.0.0.1", "https://localhost");
    world.spec.iterable.endpoint = Some(url);
    let child = pod.all_files(&world).start_with([pod.authority()]);
    let (code, report) = pod.end(child).await;
    assert_eq!(
        (code, report.outcome),
        (Some(0), Outcome::Drained),
        "{report:?}"
    );
    assert_eq!(world.iterable.handle.summary().events.stored, 200);
    assert_eq!(relay.met(), 1);
    let took = report.finished_at.duration_since(report.started_at);
    assert!(
        took.as_secs() < 30,
        "known before the time limit of the request: {took}"
    );
}

fn encoding(request: &RequestRecord) -> Option<&str> {
    request.headers.get("content-encoding").map(String::as_str)
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_compressed_where_the_forwarder_wants_it() {
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
async fn bodies_are_sent_as_they_are_to_a_sink_that_reads_no_gzip() {
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
    assert_eq!(compressed, 1, "the first shows it");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_compressed_by_default() {
    let world = World::new(chatty(json!({}), Answers::default())).await;
    world.queue.send(&batches(20, 1)).await.unwrap();
    world.drain().await;
    let requests = world.iterable.handle.requests();
    assert!(!requests.is_empty() && requests.iter().all(|request| encoding(request).is_none()));
}
