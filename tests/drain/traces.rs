//! The spans that a run sends to an OpenTelemetry collector.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, routing::post};
use event_forwarder::drain::report::Outcome;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use prost::Message;
use tokio::net::TcpListener;

use crate::{
    process::Pod,
    world::{Setting, World, batches},
};

type RecordedBodies = Arc<Mutex<Vec<Bytes>>>;
type Attributes = BTreeMap<String, String>;
type Spans = BTreeMap<String, Vec<(Span, Attributes)>>;

/// A collector that records OTLP requests.
struct Collector {
    address: SocketAddr,
    recorded: RecordedBodies,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let recorded = RecordedBodies::default();
        let record =
            async |State(recorded): State<RecordedBodies>, headers: HeaderMap, body: Bytes| {
                assert_eq!(headers["content-type"], "application/x-protobuf");
                assert_eq!(headers["x-team"], "marketing");
                recorded.lock().unwrap().push(body);
            };
        let routes = Router::new()
            .route("/v1/traces", post(record))
            .with_state(recorded.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { address, recorded }
    }

    fn requests(&self) -> Vec<ExportTraceServiceRequest> {
        let recorded = self.recorded.lock().unwrap();
        recorded
            .iter()
            .map(|body| ExportTraceServiceRequest::decode(body.clone()).unwrap())
            .collect()
    }

    /// Returns the spans by name, each with its attributes as strings.
    fn spans(&self) -> Spans {
        let mut spans = Spans::new();
        for request in self.requests() {
            for resource_spans in request.resource_spans {
                let resource = strings(&resource_spans.resource.unwrap().attributes);
                assert_eq!(resource["service.name"], "event-forwarder");
                for span in resource_spans
                    .scope_spans
                    .into_iter()
                    .flat_map(|scope| scope.spans)
                {
                    let attributes = strings(&span.attributes);
                    let name = span.name.clone();
                    spans.entry(name).or_default().push((span, attributes));
                }
            }
        }
        spans
    }
}

fn strings(attributes: &[KeyValue]) -> Attributes {
    let string = |attribute: &KeyValue| match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => Some(format!("{other:?}")),
    };
    attributes
        .iter()
        .map(|attribute| (attribute.key.clone(), string(attribute).unwrap_or_default()))
        .collect()
}

#[tokio::test]
async fn run_sends_spans_without_secrets() {
    let world = World::new(Setting::default()).await;
    world.queue.send(&batches(20, 1)).await.unwrap();
    let collector = Collector::start().await;
    let pod = Pod::new("traced");
    let child = pod.all_files(&world).start_with([
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            format!("http://{}", collector.address),
        ),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-team=marketing".to_owned()),
    ]);
    let (code, report) = pod.end(child).await;
    assert_eq!(code, Some(0));

    let spans = collector.spans();
    let names: Vec<_> = spans.keys().map(String::as_str).collect();
    assert_eq!(names, ["delete", "post", "receive", "run"]);
    let [(run, attributes)] = spans["run"].as_slice() else {
        panic!("one span for the run: {spans:#?}");
    };
    assert_eq!(run.parent_span_id, Vec::<u8>::new());
    assert_eq!(attributes["outcome"], "Drained");
    assert_eq!(attributes["received"], "20");
    assert_eq!(attributes["forwarded"], "20");
    for (name, parts) in spans.iter().filter(|(name, _)| *name != "run") {
        for (part, _) in parts {
            assert_eq!(part.trace_id, run.trace_id, "{name}");
            assert_eq!(part.parent_span_id, run.span_id, "{name}");
        }
    }
    let calls = spans["post"].len();
    assert_eq!(calls, usize::try_from(report.requests.iterable).unwrap());
    let deleted: usize = spans["delete"]
        .iter()
        .map(|(_, attributes)| attributes["messages"].parse::<usize>().unwrap())
        .sum();
    assert_eq!(deleted, 20);

    let sent = format!("{:?}", collector.requests());
    for secret in ["test-key", "user1@example.com", "Viewed"] {
        assert!(!sent.contains(secret), "{secret} was sent: {sent}");
    }
}

#[tokio::test]
async fn run_ends_in_time_when_collector_hangs() {
    let world = World::new(Setting::default()).await;
    world.queue.send(&batches(10, 1)).await.unwrap();
    // The OS accepts connections into the backlog, and nothing answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let pod = Pod::new("silent-collector");
    let started = Instant::now();
    let child = pod.all_files(&world).start_with([(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        format!("http://{}", silent.local_addr().unwrap()),
    )]);
    let (code, report) = pod.end(child).await;
    assert_eq!((code, report.outcome), (Some(0), Outcome::Drained));
    assert!(
        started.elapsed() < Duration::from_secs(30),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn run_drains_when_collector_address_is_invalid() {
    let world = World::new(Setting::default()).await;
    world.queue.send(&batches(10, 1)).await.unwrap();
    let pod = Pod::new("bad-collector");
    let invalid_endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "not an address".to_owned());
    let child = pod.all_files(&world).start_with([invalid_endpoint]);
    let (code, report) = pod.end(child).await;
    assert_eq!((code, report.outcome), (Some(0), Outcome::Drained));
}
