//! Message bodies as mParticle sends them, and as an incorrect setup between changes them.

use crate::support::{batch, everything, map_batch, sample, spec};
use event_forwarder::{
    api::{MappingSpec, ProjectType, SkipOrReject},
    mapping::{
        BodyError, EventPosition, MappedBody, Mapper, RejectReason, Rejected, SkipReason, excerpt,
    },
};
use serde_json::json;

fn outcome(body: &str) -> Result<MappedBody, BodyError> {
    Mapper::new(&everything(), ProjectType::Email, None)
        .unwrap()
        .map(body, None)
}

fn ids(mapped: &MappedBody) -> Vec<String> {
    mapped
        .events
        .iter()
        .map(|event| event.id().to_owned())
        .collect()
}

/// Returns a batch with text that every encoding must escape.
fn plain() -> String {
    batch(&[
        (
            "screen_view",
            json!({"screen_name": "Café + Tea & 50% off = \"é\" 😀 \\ ü"}),
        ),
        ("session_start", json!({})),
    ])
}

#[test]
fn every_wrapper_maps_to_the_same_events() {
    let plain = plain();
    let expected = ids(&outcome(&plain).unwrap());
    assert_eq!(expected.len(), 2);
    let percent = percent_encoding::utf8_percent_encode(&plain, percent_encoding::NON_ALPHANUMERIC)
        .to_string();
    let base64 =
        |text: &str| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text);
    let wrapped = [
        format!("\u{feff}\n  {plain}\n"),
        format!("[{plain}]"),
        percent.clone(),
        percent.replace("%20", "+"),
        format!("Action=SendMessage&MessageBody={percent}"),
        format!(
            "MessageBody={}&Action=SendMessage",
            percent.replace("%20", "+")
        ),
        base64(&plain),
        base64(&plain).trim_end_matches('=').to_owned(),
        json!(plain).to_string(),
        json!({"resource": "/", "body": plain, "isBase64Encoded": false}).to_string(),
        json!({"body": base64(&plain), "isBase64Encoded": true}).to_string(),
        json!({"Type": "Notification", "Message": plain, "TopicArn": "arn"}).to_string(),
        json!(json!({"Type": "Notification", "Message": json!(plain).to_string()}).to_string())
            .to_string(),
    ];
    for body in wrapped {
        let mapped = outcome(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
        assert_eq!(ids(&mapped), expected, "{body}");
        assert!(
            mapped.events[0]
                .json()
                .contains("Café + Tea & 50% off = \\\"é\\\" 😀 \\\\ ü")
        );
    }
}

#[test]
fn body_can_contain_several_batches() {
    let (one, two) = (plain(), plain().replace("A1A1A1A1", "B1B1B1B1"));
    let lines = outcome(&format!("{one}\n{two}\n")).unwrap();
    let list = outcome(&format!("[{one},{two}]")).unwrap();
    assert_eq!(ids(&lines), ids(&list));
    let sources: Vec<_> = list.events.iter().map(|event| event.source()).collect();
    let source = |batch, event| EventPosition { batch, event };
    assert_eq!(
        sources,
        [source(0, 0), source(0, 1), source(1, 0), source(1, 1)]
    );
}

#[test]
fn invalid_batch_does_not_affect_other_batches() {
    let mapped = outcome(&format!(
        "[{},null,{{\"events\":7}},5,{{\"a\":1}},{}]",
        plain(),
        plain()
    ))
    .unwrap();
    assert_eq!(mapped.events.len(), 4);
    let rejected: Vec<_> = mapped
        .rejected
        .iter()
        .map(|rejected| (rejected.source.batch, rejected.reason))
        .collect();
    assert_eq!(
        rejected,
        [
            (1, RejectReason::NotABatch),
            (2, RejectReason::EventsNotAList),
            (3, RejectReason::NotABatch),
            (4, RejectReason::NotABatch),
        ]
    );
    assert!(
        mapped.rejected[0].detail.contains("$[1]"),
        "{}",
        mapped.rejected[0].detail
    );
}

#[test]
fn unreadable_body_reports_position_and_reason() {
    for (body, reason, expected) in [
        ("", "EmptyBody", "empty"),
        (" \n\t", "EmptyBody", "empty"),
        ("{\"events\":[", "TruncatedJson", "after 11 bytes"),
        ("{\"events\":[}", "InvalidJson", "byte 11"),
        ("{\"a\": tru}", "InvalidJson", "byte 9"),
        ("{\n \"a\":\n ?}", "InvalidJson", "byte 9"),
        (
            "{\"events\":[],\"events\":[]}",
            "InvalidJson",
            "duplicate field `events`",
        ),
        ("{} trailing", "InvalidJson", "byte 5"),
        (
            "{\"mpid\":1,\"a\u{1}b\":2}",
            "InvalidJson",
            "control character",
        ),
        (
            "{\"mpid\":1,\"\\n\u{1}b\":2}",
            "InvalidJson",
            "control character",
        ),
        ("hello world!", "NotJson", "hello world!"),
        ("%7B%22cut", "TruncatedJson", "$"),
        ("7", "NotJson", "\"7\""),
        ("{\"testEventData\":\"test\"}", "NotABatch", "object"),
        ("\"\\\"deep\\\"\"", "NotJson", "deep"),
        (
            "[\"software.amazon.payloadoffloading.PayloadS3Pointer\",{\"s3BucketName\":\"b\",\"s3Key\":\"k\"}]",
            "PayloadPointer",
            "S3",
        ),
        (
            "[\"com.amazon.sqs.javamessaging.MessageS3Pointer\",{\"s3BucketName\":\"b\",\"s3Key\":\"k\"}]",
            "PayloadPointer",
            "S3",
        ),
    ] {
        let error = outcome(body)
            .map(|mapped| format!("{mapped:?}"))
            .unwrap_err();
        assert_eq!(error.reason(), reason, "{body}: {error}");
        assert!(error.to_string().contains(expected), "{body}: {error}");
    }
    let mut nested = plain();
    for _ in 0..8 {
        nested = json!(nested).to_string();
    }
    assert_eq!(outcome(&nested).unwrap_err().reason(), "WrappedTooDeep");
}

#[test]
fn batch_without_events_maps_to_nothing() {
    for body in [
        "{\"mpid\":1,\"events\":[]}",
        "{\"mpid\":1,\"events\":null}",
        "{\"mpid\":1}",
        "{\"user_attributes\":{\"a\":\"b\"}}",
        "[]",
    ] {
        let mapped = outcome(body).unwrap();
        assert_eq!(
            (
                mapped.events.len(),
                mapped.skipped.len(),
                mapped.rejected.len()
            ),
            (0, 0, 0),
            "{body}"
        );
    }
}

#[test]
fn alias_request_is_skipped_or_rejected() {
    let body = sample("24");
    let mapped = map_batch(&MappingSpec::default(), &body);
    assert_eq!(mapped.skipped[0].reason, SkipReason::AliasRequest);
    let reject = spec(|spec| spec.alias_requests = SkipOrReject::Reject);
    assert_eq!(
        map_batch(&reject, &body).rejected[0].reason,
        RejectReason::AliasRequest
    );
}

#[test]
fn deep_nesting_does_not_overflow_the_stack() {
    let mapped = outcome(&sample("37")).unwrap();
    assert_eq!(mapped.events.len(), 1);
    assert!(
        mapped.events[0]
            .json()
            .contains("\"dataFields\":{\"custom_event_type\":\"other\"}")
    );
    for depth in [1_000, 200_000] {
        let body = plain().replacen(
            "\"Caf",
            &format!("{}{},\"x\":\"", "[".repeat(depth), "]".repeat(depth)),
            1,
        );
        let _ = outcome(&body);
        let _ = outcome(&"[".repeat(depth));
        let _ = outcome(&format!("{}{}", "[".repeat(depth), "]".repeat(depth)));
    }
}

#[test]
fn excerpt_has_selected_events_with_same_ids() {
    let (one, two) = (plain(), plain().replace("A1A1A1A1", "B1B1B1B1"));
    let list = format!("[{one},{two}]");
    let all = outcome(&list).unwrap();
    for kept in [vec![0], vec![1, 2], vec![3], vec![0, 1, 2, 3]] {
        let sources: Vec<_> = kept
            .iter()
            .map(|index: &usize| all.events[*index].source())
            .collect();
        let body = excerpt(&list, &sources).unwrap().body;
        let expected: Vec<_> = kept.iter().map(|index| ids(&all)[*index].clone()).collect();
        assert_eq!(ids(&outcome(&body).unwrap()), expected);
    }
    let broken = "[null,{\"events\":[7,{\"event_type\":\"screen_view\",\"data\":null}]}]";
    let rejected = outcome(broken).unwrap().rejected;
    let sources: Vec<_> = rejected.iter().map(|rejected| rejected.source).collect();
    let remapped = outcome(&excerpt(broken, &sources).unwrap().body)
        .unwrap()
        .rejected;
    let reasons = |list: &[Rejected]| {
        list.iter()
            .map(|rejected| rejected.reason)
            .collect::<Vec<_>>()
    };
    assert_eq!(reasons(&rejected), reasons(&remapped));
}

/// The first 100 entries per reason are listed one by one, and the next represents all others.
/// Excerpts keep the counts.
#[test]
fn malformed_entries_are_summarized_with_full_counts() {
    let good = |id: u32| format!("{{\"event_type\":\"first_run\",\"data\":{{\"event_id\":{id}}}}}");
    let mut entries: Vec<String> = Vec::new();
    for id in 0..300 {
        entries.push("0".to_owned());
        entries.push("{}".to_owned());
        entries.push("null".to_owned());
        if id % 100 == 0 {
            entries.push(good(id));
        }
    }
    let body = format!(
        "{{\"user_identities\":{{\"email\":\"a@b.com\"}},\"events\":[{}]}}",
        entries.join(",")
    );
    let mapped = outcome(&body).unwrap();
    let events: Vec<_> = mapped
        .events
        .iter()
        .map(|event| event.source().event)
        .collect();
    assert_eq!(events, [3, 304, 605]);
    for (reason, all) in [
        (RejectReason::EventNotAnObject, 600),
        (RejectReason::NoEventType, 300),
    ] {
        let with_reason = |mapped: &MappedBody| {
            let rejected = mapped.rejected.iter();
            let with_reason = rejected.filter(|rejected| rejected.reason == reason);
            with_reason.cloned().collect::<Vec<_>>()
        };
        let counts =
            |rejected: &[Rejected]| rejected.iter().map(|one| one.count).collect::<Vec<_>>();
        let rejected = with_reason(&mapped);
        let expected = [vec![1; 100], vec![all - 100]].concat();
        assert_eq!(counts(&rejected), expected, "{reason:?}");
        let last = &rejected[100].detail;
        assert!(
            last.contains(&format!("in {} later entries", all - 101)),
            "{last}"
        );
        let sources: Vec<_> = rejected.iter().map(|rejected| rejected.source).collect();
        let part = excerpt(&body, &sources).unwrap();
        assert_eq!(part.events, all as usize);
        let remapped = outcome(&part.body).unwrap();
        assert_eq!(counts(&remapped.rejected), expected);
        assert_eq!(counts(&with_reason(&remapped)), expected);
        // Without the source that represents the others, the excerpt omits them.
        let part = excerpt(&body, &sources[..100]).unwrap();
        assert_eq!(part.events, 100);
    }
    let sources: Vec<_> = mapped.events.iter().map(|event| event.source()).collect();
    let part = excerpt(&body, &sources).unwrap();
    assert_eq!(part.events, 3);
    assert_eq!(ids(&outcome(&part.body).unwrap()), ids(&mapped));
}

#[test]
fn invalid_batches_are_summarized_with_full_counts() {
    let mut values = vec!["0"; 150];
    values.extend(["{}"; 150]);
    let one = plain();
    values.push(&one);
    values.extend(["{\"events\":[],\"events\":[]}"; 10]);
    let body = format!("[{}]", values.join(","));
    let mapped = outcome(&body).unwrap();
    assert_eq!(mapped.events.len(), 2);
    assert!(
        mapped
            .rejected
            .iter()
            .all(|one| one.reason == RejectReason::NotABatch)
    );
    let counts = |mapped: &MappedBody| {
        mapped
            .rejected
            .iter()
            .map(|one| one.count)
            .collect::<Vec<_>>()
    };
    assert_eq!(counts(&mapped), [vec![1; 100], vec![210]].concat());
    let detail = &mapped.rejected[100].detail;
    assert!(
        detail.contains("$[100]") && detail.contains("in 209 later entries"),
        "{detail}"
    );
    let sources: Vec<_> = mapped.rejected.iter().map(|one| one.source).collect();
    let part = excerpt(&body, &sources).unwrap();
    assert_eq!(part.events, 310);
    assert_eq!(counts(&outcome(&part.body).unwrap()), counts(&mapped));
    let rest = excerpt(&body, &sources[100..]).unwrap();
    assert_eq!(rest.events, 210);
    let event_sources: Vec<_> = mapped.events.iter().map(|event| event.source()).collect();
    let part = excerpt(&body, &event_sources).unwrap();
    assert_eq!(part.events, 2);
    assert_eq!(ids(&outcome(&part.body).unwrap()), ids(&mapped));
}

/// Every sample is mapped, or rejected with the reason in its description.
#[test]
fn samples_have_their_described_outcome() {
    let counts = |name: &str| {
        let mapped = outcome(&sample(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        (
            mapped.events.len(),
            mapped.skipped.len(),
            mapped.rejected.len(),
        )
    };
    assert_eq!(counts("01"), (4, 0, 0));
    assert_eq!(counts("02"), (5, 0, 0));
    assert_eq!(counts("03"), (10, 0, 0));
    assert_eq!(counts("04"), (5, 0, 0));
    assert_eq!(counts("06"), (5, 0, 0));
    assert_eq!(counts("07"), (4, 0, 0));
    assert_eq!(counts("08"), (6, 0, 0));
    assert_eq!(counts("09"), (0, 2, 0));
    assert_eq!(counts("10").1, 1);
    assert_eq!(counts("14"), (0, 0, 0));
    assert_eq!(counts("15"), (3, 0, 0));
    assert_eq!(counts("17"), (4, 0, 0));
    assert_eq!(counts("19").0, 0);
    assert_eq!(counts("20"), (1, 0, 0));
    assert_eq!(
        counts("21"),
        (0, 1, 0),
        "the only identity is a customer ID, which an Email project does not use"
    );
    assert_eq!(counts("22"), (1, 0, 0));
    assert_eq!(counts("23").2, 2);
    assert_eq!(counts("24"), (0, 1, 0));
    for wrapped in ["26", "27", "30", "31", "32"] {
        assert!(counts(wrapped).0 > 0, "{wrapped}");
    }
    assert!(counts("35").0 >= 2);
    assert_eq!(outcome(&sample("25")).unwrap_err().reason(), "NotABatch");
    assert_eq!(
        outcome(&sample("28")).unwrap_err().reason(),
        "PayloadPointer"
    );
    assert_eq!(
        outcome(&sample("33")).unwrap_err().reason(),
        "TruncatedJson"
    );
    let events = outcome(&sample("31")).unwrap().events;
    assert!(
        events
            .iter()
            .any(|event| event.json().contains("Café + Tea & 50% off"))
    );
}
