//! Network faults between a run and its servers cause no loss and no hanging run.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use event_forwarder::drain::report::Outcome;
use event_forwarder_test_support::{
    iterable::{Limits, Options},
    sqs::Attributes,
};
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::json;

use crate::{
    proxy::{ConnectionFault, Proxy},
    world::{Setting, World, batches},
};

async fn with_proxies() -> (World, Proxy, Proxy) {
    let mut world = World::new(Setting {
        queue: Attributes {
            visibility_timeout: Duration::from_secs(6),
            max_receive_count: 1_000,
            ..Attributes::default()
        },
        iterable: Options {
            limits: Limits {
                track_bulk_rate: None,
                ..Limits::default()
            },
            ..Options::default()
        },
        project: json!({"requestsPerSecond": 1000, "maxEventsPerRequest": 50, "requestTimeout": "2s"}),
        ..Setting::default()
    })
    .await;
    let address = |url: &str| url.trim_start_matches("http://").parse().unwrap();
    let sqs = Proxy::start(address(&world.sqs.endpoint())).await;
    let iterable = Proxy::start(address(world.iterable.url())).await;
    world.spec.queue.endpoint = Some(sqs.url());
    world.spec.iterable.endpoint = Some(iterable.url());
    (world, sqs, iterable)
}

fn connection_fault() -> impl Strategy<Value = ConnectionFault> {
    prop_oneof![
        3 => Just(ConnectionFault::None),
        2 => (0usize..40_000).prop_map(ConnectionFault::Close),
        2 => (0usize..40_000).prop_map(ConnectionFault::Reset),
        1 => (0usize..40_000).prop_map(ConnectionFault::Stall),
        1 => Just(ConnectionFault::Slow),
        1 => Just(ConnectionFault::NeverAnswer),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn unreliable_network_loses_no_event() {
    let (world, sqs, iterable) = with_proxies().await;
    let bodies = batches(600, 3);
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]),
    );
    let mut draw = |count: usize| {
        let strategy = proptest::collection::vec(connection_fault(), count);
        strategy.new_tree(&mut runner).unwrap().current()
    };
    for part in bodies.chunks(50) {
        world.queue.send(part).await.unwrap();
        sqs.set_faults(draw(12));
        iterable.set_faults(draw(12));
        let report = world.drain().await;
        assert!(
            matches!(
                report.outcome,
                Outcome::Drained | Outcome::SinkDown | Outcome::QueueDown
            ),
            "{report:?}"
        );
    }
    assert!(
        sqs.fault_count() >= 10 && iterable.fault_count() >= 10,
        "{} and {} faults",
        sqs.fault_count(),
        iterable.fault_count()
    );
    sqs.set_faults(Vec::new());
    iterable.set_faults(Vec::new());
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let depth = world.queue.depth().await.unwrap();
        if depth.visible + depth.in_flight == 0 {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "the queue is not empty in time: {depth:?}"
        );
        world.drain().await;
    }
    let events = world.iterable.handle.events();
    let received: BTreeSet<_> = events
        .iter()
        .map(|event| event.event["dataFields"]["n"].as_str())
        .collect();
    assert_eq!((received.len(), events.len()), (1_800, 1_800));
}

#[tokio::test(flavor = "multi_thread")]
async fn run_fails_within_seconds_when_sqs_hangs() {
    let (world, sqs, _iterable) = with_proxies().await;
    sqs.set_faults(vec![ConnectionFault::NeverAnswer; 100]);
    let started = Instant::now();
    let report = world.drain().await;
    assert_eq!(report.outcome, Outcome::QueueDown);
    assert!(
        started.elapsed() < Duration::from_secs(30),
        "{:?}",
        started.elapsed()
    );
    assert!(report.message.unwrap().contains("no usable response from "));
}

#[tokio::test(flavor = "multi_thread")]
async fn run_continues_after_resets_at_its_start() {
    let (world, sqs, _iterable) = with_proxies().await;
    world.queue.send(&batches(20, 1)).await.unwrap();
    sqs.set_faults(vec![ConnectionFault::Reset(0); 2]);
    let report = world.drain().await;
    assert_eq!(report.outcome, Outcome::Drained, "{report:?}");
    assert_eq!(report.messages.deleted, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn run_releases_messages_when_iterable_hangs() {
    let (world, _sqs, iterable) = with_proxies().await;
    world.queue.send(&batches(50, 1)).await.unwrap();
    iterable.set_faults(vec![ConnectionFault::Stall(100); 100]);
    let started = Instant::now();
    let report = world.drain().await;
    assert_eq!(report.outcome, Outcome::SinkDown);
    assert!(
        started.elapsed() < Duration::from_secs(40),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(report.messages.released, 10);
    let depth = world.queue.depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight), (50, 0));
}
