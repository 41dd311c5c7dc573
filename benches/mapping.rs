//! Measures the speed and the allocations of parsing and mapping, compared with
//! `serde_json::Value`. It uses one core; megabytes refer to the input.
//!
//! `cargo bench --bench mapping`

use std::{
    alloc::System,
    hint::black_box,
    time::{Duration, Instant},
};

use event_forwarder::{
    api::{EventSelector, MappingSpec, ProjectType, TransformSpec},
    mapping::Mapper,
};
use serde_json::{Value, json};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Duration of each candidate in each round; the best round counts.
const ROUND: Duration = Duration::from_millis(800);
const ROUNDS: usize = 5;

/// A function that processes a body and returns its number of events.
type Candidate<'c> = &'c dyn Fn(&str) -> usize;

fn main() {
    // Cargo passes `--bench`. `cargo test --benches` only runs one short round.
    let is_bench = std::env::args().any(|arg| arg == "--bench");
    let (rounds, round) = if is_bench {
        (ROUNDS, ROUND)
    } else {
        (1, Duration::from_millis(1))
    };

    let by_default = mapper(&MappingSpec::default());
    let everything = mapper(&MappingSpec {
        events: vec![EventSelector::All],
        ..MappingSpec::default()
    });
    let with_rule = mapper(&MappingSpec {
        events: vec![EventSelector::All],
        transform: Some(TransformSpec {
            jq: Some("del(.dataFields.referrer) | .dataFields.type = $event.event_type".to_owned()),
            config_map_key_ref: None,
        }),
        ..MappingSpec::default()
    });
    let corpora = [
        ("single events, 2 kB each", single_events()),
        ("batches of 10 events", batches(10)),
        ("batches of 100 events", batches(100)),
        ("the samples, every type", samples()),
    ];
    println!(
        "{:<26} {:<34} {:>7} {:>10} {:>12}",
        "corpus", "candidate", "MB/s", "allocs/ev", "bytes/ev"
    );
    for (corpus, bodies) in &corpora {
        let candidates: [(&str, Candidate<'_>); 5] = [
            ("Mapper, defaults", &|body| map(&by_default, body)),
            ("Mapper, every event", &|body| map(&everything, body)),
            ("Mapper, every event, a jq rule", &|body| {
                map(&with_rule, body)
            }),
            ("serde_json::Value, parsed only", &|body| parse_value(body)),
            ("serde_json::Value, mapped", &|body| map_value(body)),
        ];
        for (name, candidate) in candidates {
            let speed = (0..rounds)
                .map(|_| megabytes_per_second(bodies, round, candidate))
                .fold(0.0, f64::max);
            let (allocations, bytes) = allocations_per_event(bodies, candidate);
            println!("{corpus:<26} {name:<34} {speed:>7.0} {allocations:>10.1} {bytes:>12.0}");
        }
    }
}

fn mapper(spec: &MappingSpec) -> Mapper {
    Mapper::new(spec, ProjectType::Email, None).expect("the mapping is usable")
}

fn map(mapper: &Mapper, body: &str) -> usize {
    let mapped = black_box(mapper.map(body, None).expect("the body is readable"));
    mapped.events.len() + mapped.skipped.len() + mapped.rejected.len()
}

fn parse_value(body: &str) -> usize {
    let value: Value = black_box(serde_json::from_str(body).expect("the body is JSON"));
    value["events"].as_array().map_or(0, Vec::len)
}

/// Maps a body with `Value`: the same members, names and context, but without the checks of names,
/// types and lengths.
fn map_value(body: &str) -> usize {
    let batch: Value = serde_json::from_str(body).expect("the body is JSON");
    let email = match &batch["user_identities"] {
        Value::Array(list) => list
            .iter()
            .find(|identity| identity["identity_type"] == "email")
            .and_then(|identity| identity["identity"].as_str()),
        object => object["email"].as_str(),
    };
    let email = email.unwrap_or_default().to_lowercase();
    let events = batch["events"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    for event in events {
        let data = &event["data"];
        let mut fields = data["custom_attributes"]
            .as_object()
            .cloned()
            .unwrap_or_default();
        for member in [
            "screen_name",
            "session_duration_ms",
            "application_transition_type",
            "product_action",
            "session_uuid",
        ] {
            if !data[member].is_null() {
                fields.insert(member.to_owned(), data[member].clone());
            }
        }
        for (from, name) in [
            ("application_info", "application_name"),
            ("application_info", "application_version"),
            ("device_info", "platform"),
            ("device_info", "os_version"),
            ("device_info", "device_model"),
        ] {
            fields.insert(name.to_owned(), batch[from][name].clone());
        }
        let request = json!({
            "eventName": event["event_type"],
            "email": email,
            "id": data["source_message_id"],
            "createdAt": data["timestamp_unixtime_ms"].as_i64().map(|millis| millis / 1000),
            "dataFields": fields,
        });
        black_box(request.to_string());
    }
    events.len()
}

fn megabytes_per_second(bodies: &[String], round: Duration, candidate: Candidate<'_>) -> f64 {
    let start = Instant::now();
    let busy = time_on_core();
    let mut bytes = 0;
    while start.elapsed() < round {
        for body in bodies {
            black_box(candidate(black_box(body)));
            bytes += body.len();
        }
    }
    let elapsed = match (busy, time_on_core()) {
        (Some(before), Some(after)) if after > before => after - before,
        _ => start.elapsed(),
    };
    bytes as f64 / elapsed.as_secs_f64() / 1e6
}

/// Returns the CPU time of this process, which does not depend on the load of the machine.
///
/// Its unit is a tick of 10 ms. It includes all threads, because a jq program runs on a separate
/// thread.
fn time_on_core() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let ticks = after_name.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks
        .map(|field| field.parse::<u64>().ok())
        .sum::<Option<u64>>()?;
    Some(Duration::from_millis(ticks * 10))
}

fn allocations_per_event(bodies: &[String], candidate: Candidate<'_>) -> (f64, f64) {
    let region = Region::new(ALLOCATOR);
    let events: usize = bodies.iter().map(|body| candidate(body)).sum();
    let change = region.change();
    let allocations = change.allocations + change.reallocations;
    (
        allocations as f64 / events as f64,
        change.bytes_allocated as f64 / events as f64,
    )
}

/// Returns one batch per event of the sessions-and-screens sample, as mParticle sends by default.
fn single_events() -> Vec<String> {
    let mut batch = sample("01-session-and-screens-list-identities.json");
    let events = batch["events"].take();
    let events = events.as_array().expect("a list").clone();
    events
        .into_iter()
        .map(|event| {
            batch["events"] = json!([event]);
            batch.to_string()
        })
        .collect()
}

/// Returns a batch that repeats the events of the same sample.
fn batches(events: usize) -> Vec<String> {
    let mut batch = sample("01-session-and-screens-list-identities.json");
    let all = batch["events"].take();
    let all = all.as_array().expect("a list").iter().cloned().cycle();
    batch["events"] = Value::Array(all.take(events).collect());
    vec![batch.to_string()]
}

/// Returns the samples with one batch of valid events.
fn samples() -> Vec<String> {
    let names = [
        "01-session-and-screens-list-identities.json",
        "02-custom-event-value-types.json",
        "03-commerce-every-action.json",
        "04-commerce-promotions-and-impressions.json",
        "05-lifecycle-android-object-identities.json",
        "06-push-optout-registration.json",
        "07-diagnostics-crash-network-breadcrumb.json",
        "08-profile-attribute-identity-changes.json",
        "20-media-event-numbers-as-text.json",
        "21-server-to-server-minimal.json",
    ];
    names.iter().map(|name| sample(name).to_string()).collect()
}

fn sample(name: &str) -> Value {
    let path = format!("tests/samples/{name}");
    serde_json::from_str(&std::fs::read_to_string(path).expect("the sample exists")).expect("JSON")
}
