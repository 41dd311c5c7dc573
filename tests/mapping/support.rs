//! Helpers of the mapping's tests.

use std::path::PathBuf;

use event_forwarder::{
    api::{EventSelector, MappingSpec, ProjectType},
    mapping::{MappedBody, Mapper},
};
use serde_json::{Value, json};

/// Returns the default mapping with a change.
pub fn spec(change: impl FnOnce(&mut MappingSpec)) -> MappingSpec {
    let mut spec = MappingSpec::default();
    change(&mut spec);
    spec
}

/// Returns the default mapping, but with all events selected.
pub fn everything() -> MappingSpec {
    spec(|spec| spec.events = vec![EventSelector::All])
}

/// Returns a batch of one iOS user with these events. Adds a time and an ID to events without them.
pub fn batch(events: &[(&str, Value)]) -> String {
    let events: Vec<_> = (0..)
        .zip(events)
        .map(|(index, (event_type, data))| {
            let mut data = data.clone();
            let members = data.as_object_mut().expect("data is an object");
            members
                .entry("timestamp_unixtime_ms")
                .or_insert(json!(1_764_057_600_000i64));
            members
                .entry("source_message_id")
                .or_insert(json!(format!("A1A1A1A1-0000-4000-8000-{index:012}")));
            json!({"event_type": event_type, "data": data})
        })
        .collect();
    json!({
        "schema_version": 2,
        "environment": "production",
        "timestamp_unixtime_ms": 1_764_057_660_000i64,
        "mpid": -7_636_538_281_262_557_123i64,
        "user_identities": [
            {"identity_type": "customer_id", "identity": "cust-1001", "timestamp_unixtime_ms": 1},
            {"identity_type": "email", "identity": "ada@example.com", "timestamp_unixtime_ms": 1}
        ],
        "device_info": {"platform": "iOS", "os_version": "18.1", "device_model": "iPhone15,2",
                        "locale_language": "en", "locale_country": "GB", "timezone_offset": 0},
        "application_info": {"application_name": "Sample Shop", "application_version": "4.2.0"},
        "source_info": {"channel": "native", "partner": null},
        "events": events
    })
    .to_string()
}

/// Maps a body for an Email project.
pub fn map_batch(spec: &MappingSpec, body: &str) -> MappedBody {
    map_for(spec, ProjectType::Email, body)
}

/// Maps a body.
pub fn map_for(spec: &MappingSpec, project: ProjectType, body: &str) -> MappedBody {
    let mapper = Mapper::new(spec, project, None).expect("the mapping is usable");
    mapper.map(body, None).expect("the body is readable")
}

/// Maps one event and returns the JSON for Iterable.
pub fn map_one(spec: &MappingSpec, event_type: &str, data: Value) -> Value {
    let mapped = map_batch(spec, &batch(&[(event_type, data)]));
    let event = mapped
        .events
        .first()
        .unwrap_or_else(|| panic!("not forwarded: {mapped:?}"));
    serde_json::from_str(event.json()).expect("the event is JSON")
}

/// Returns the path of the sample whose file name starts with `name`.
pub fn sample_path(name: &str) -> PathBuf {
    let file = std::fs::read_dir("tests/samples")
        .expect("the samples exist")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| {
            path.file_name()
                .is_some_and(|file| file.to_string_lossy().starts_with(name))
        });
    file.unwrap_or_else(|| panic!("no sample {name}"))
}

/// Returns the text of a sample.
pub fn sample(name: &str) -> String {
    std::fs::read_to_string(sample_path(name)).expect("the sample is text")
}
