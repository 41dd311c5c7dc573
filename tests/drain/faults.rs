//! Whatever the network does between a run and its servers, nothing is lost and nothing hangs.

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
    proxy::{Proxy, Weather},
    world::{Setting, World, batches},
};

async fn behind_proxies() -> (World, Proxy, Proxy) {
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

fn weather() -> impl Strategy<Value = Weather> {
    prop_oneof![
        3 => Just(Weather::Fair),
        2 => (0usize..40_000).prop_map(Weather::Cut),
        2 => (0usize..40_000).prop_map(Weather::Reset),
        1 => (0usize..40_000).prop_map(Weather::Stall),
        1 => Just(Weather::Slow),
        1 => Just(Weather::HalfOpen),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_network_loses_no_event() {
    let (world, sqs, iterable) = behind_proxies().await;
    let bodies = batches(600, 3);
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]),
    );
    let mut draw = |count: usize| {
        let strategy = proptest::collection::vec(weather(), count);
        strategy.new_tree(&mut runner).unwrap().current()
    };
    for part in bodies.chunks(50) {
        world.queue.send(part).await.unwrap();
        sqs.forecast(draw(12));
        iterable.forecast(draw(12));
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
        sqs.met() >= 10 && iterable.met() >= 10,
        "{} and {} faults",
        sqs.met(),
        iterable.met()
    );
    sqs.forecast(Vec::new());
    iterable.forecast(Vec::new());
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let depth = world.queue.depth().await.unwrap();
        if depth.visible + depth.in_flight == 0 {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "the queue is never empty: {depth:?}"
        );
        world.drain().await;
    }
    let events = world.iterable.handle.events();
    let seen: BTreeSet<_> = events
        .iter()
        .map(|event| event.event["dataFields"]["n"].as_str())
        .collect();
    assert_eq!((seen.len(), events.len()), (1_800, 1_800));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_black_holed_queue_is_an_error_within_seconds() {
    let (world, sqs, _iterable) = behind_proxies().await;
    sqs.forecast(vec![Weather::HalfOpen; 100]);
    let started = Instant::now();
    let report = world.drain().await;
    assert_eq!(report.outcome, Outcome::QueueDown);
    assert!(
        started.elapsed() < Duration::from_secs(30),
        "{:?}",
        started.elapsed()
    );
    assert!(report.message.unwrap().contains("did not answer"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_at_the_start_of_a_run_does_not_end_it() {
    let (world, sqs, _iterable) = behind_proxies().await;
    world.queue.send(&batches(20, 1)).await.unwrap();
    sqs.forecast(vec![Weather::Reset(0); 2]);
    let report = world.drain().await;
    assert_eq!(report.outcome, Outcome::Drained, "{report:?}");
    assert_eq!(report.messages.deleted, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_black_holed_sink_ends_the_run_and_gives_everything_back() {
    let (world, _sqs, iterable) = behind_proxies().await;
    world.queue.send(&batches(50, 1)).await.unwrap();
    iterable.forecast(vec![Weather::Stall(100); 100]);
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
