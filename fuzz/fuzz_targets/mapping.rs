//! Checks the mapping with any body: it does not panic, and every event has one outcome.
//!
//! Every output is one line of JSON with one user key and an ID that Iterable accepts, and an
//! excerpt maps to the same IDs.
//!
//! `cargo +nightly fuzz run mapping -- -max_len=8192 -max_total_time=600`

#![no_main]

use std::{collections::BTreeSet, sync::LazyLock};

use event_forwarder::{
    api::{
        Coerce, ContextGroup, Dates, Dots, EventSelector, MappingSpec, MissingUserPolicy,
        ProjectType, SkipOrForward, SkipOrReject, TransformSpec,
    },
    mapping::{EventPosition, MappedBody, Mapper, excerpt},
};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

static MAPPERS: LazyLock<Vec<Mapper>> = LazyLock::new(|| {
    let defaults = MappingSpec::default();
    let mut everything = MappingSpec {
        events: vec![EventSelector::All],
        ..MappingSpec::default()
    };
    everything.development = SkipOrForward::Forward;
    everything.alias_requests = SkipOrReject::Reject;
    everything.identity.without_user = MissingUserPolicy::PlaceholderEmail;
    everything.data_fields.coerce = Coerce::LikeMParticle;
    everything.data_fields.dates = Dates::Iterable;
    everything.data_fields.dots = Dots::Keep;
    everything.data_fields.milliseconds_field = Some("ms".to_owned());
    everything.data_fields.context = vec![
        ContextGroup::Session,
        ContextGroup::Application,
        ContextGroup::Device,
        ContextGroup::Location,
        ContextGroup::Locale,
        ContextGroup::Source,
    ];
    everything.event_name.screen_view = "{screen_name}".to_owned();
    let mut ruled = MappingSpec {
        events: vec![EventSelector::All],
        ..MappingSpec::default()
    };
    ruled.transform = Some(TransformSpec {
        jq: Some(
            ".dataFields |= with_entries(select(.value != null)) | .dataFields.type = $event.event_type \
             | if $batch.mpid == 0 then empty else . end"
                .to_owned(),
        ),
        config_map_key_ref: None,
    });
    [
        (defaults, ProjectType::Email),
        (everything, ProjectType::Email),
        (ruled, ProjectType::Hybrid),
    ]
    .iter()
    .map(|(spec, project)| Mapper::new(spec, *project, None).expect("the mapping is usable"))
    .collect()
});

fuzz_target!(|bytes: &[u8]| {
    let Ok(body) = std::str::from_utf8(bytes) else {
        return;
    };
    let sent_at = "2025-11-25T08:00:00Z".parse().ok();
    for mapper in MAPPERS.iter() {
        let Ok(mapped) = mapper.map(body, sent_at) else {
            continue;
        };
        let sources = unique_sources(&mapped);
        for event in &mapped.events {
            let json: Value = serde_json::from_str(event.json()).expect("JSON");
            assert!(!event.json().contains('\n'));
            assert!(json["email"].is_string() != json["userId"].is_string());
            let id = event.id();
            assert_eq!(json["id"], id);
            assert!((1..=512).contains(&id.len()));
            assert!(
                id.bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            );
            assert!(json["createdAt"].is_null() || json["createdAt"].is_i64());
            assert!(json["dataFields"].is_object());
            assert_eq!(json["eventName"], event.event_name());
        }
        let excerpt = excerpt(body, &sources).expect("the body is readable");
        let ids = |mapped: &MappedBody| -> Vec<String> {
            mapped
                .events
                .iter()
                .map(|event| event.id().to_owned())
                .collect()
        };
        match mapper.map(&excerpt.body, sent_at) {
            Ok(remapped) => assert_eq!(ids(&remapped), ids(&mapped)),
            // The excerpt is a single value that is not a batch.
            Err(error) => assert!(mapped.events.is_empty(), "{error}"),
        }
    }
});

/// Returns the sources of all outcomes, and panics if an event has several.
fn unique_sources(mapped: &MappedBody) -> Vec<EventPosition> {
    let sources: Vec<_> = mapped
        .events
        .iter()
        .map(|event| event.source())
        .chain(mapped.skipped.iter().map(|skipped| skipped.source))
        .chain(mapped.rejected.iter().map(|rejected| rejected.source))
        .collect();
    assert_eq!(
        sources.iter().collect::<BTreeSet<_>>().len(),
        sources.len(),
        "every event has one outcome"
    );
    sources
}
