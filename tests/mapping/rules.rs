//! The mapping rules of every event: user, ID, time, name and fields.

use crate::support::{batch, everything, map_batch, map_for, map_one, sample, spec};
use event_forwarder::{
    api::{
        Coerce, ContextGroup, Dots, EventSelector, MappingSpec, MissingUserPolicy, ProjectType,
        RefusedNames, SkipOrForward,
    },
    mapping::{
        MappedBody, Mapper, MapperError, MappingWarning, RejectReason, SkipReason, User,
        check_email, check_user_id,
    },
};
use serde_json::{Value, json};

// User

fn body(identities: Value, more: Value) -> String {
    let mut batch = json!({
        "mpid": -7_636_538_281_262_557_123i64,
        "user_identities": identities,
        "events": [{"event_type": "screen_view", "data": {"event_id": 1, "timestamp_unixtime_ms": 1_764_057_600_000i64,
            "custom_attributes": {"email": "attribute@example.com", "userId": "attribute", "customer_id": "attribute"}}}]
    });
    for (name, value) in more.as_object().unwrap() {
        batch[name] = value.clone();
    }
    batch.to_string()
}

fn user_or_reason(mapped: &MappedBody) -> String {
    if let Some(event) = mapped.events.first() {
        return match event.user() {
            User::Email(email) => format!("email {email}"),
            User::UserId(id) => format!("userId {id}"),
        };
    }
    match (mapped.skipped.first(), mapped.rejected.first()) {
        (Some(skipped), _) => skipped.reason.as_str().to_owned(),
        (_, Some(rejected)) => rejected.reason.as_str().to_owned(),
        (None, None) => "nothing".to_owned(),
    }
}

#[test]
fn project_type_selects_the_user_key() {
    let both = json!({"email": "Ada@Example.COM", "customer_id": "cust-1"});
    let id_only = json!({"customer_id": "cust-1"});
    let email_only = json!({"email": "ada@example.com"});
    let bad_email = json!({"email": "nobody", "customer_id": "cust-1"});
    let bad_both = json!({"email": "nobody", "customer_id": "ü"});
    let bad_email_only = json!({"email": "nobody"});
    for (identities, email, user_id, hybrid) in [
        (
            &both,
            "email ada@example.com",
            "userId cust-1",
            "email ada@example.com",
        ),
        (&id_only, "NoUser", "userId cust-1", "userId cust-1"),
        (
            &email_only,
            "email ada@example.com",
            "NoUser",
            "email ada@example.com",
        ),
        (&bad_email, "InvalidEmail", "userId cust-1", "userId cust-1"),
        (&bad_both, "InvalidEmail", "InvalidUserId", "InvalidUserId"),
        (&bad_email_only, "InvalidEmail", "NoUser", "InvalidEmail"),
        (&json!({}), "NoUser", "NoUser", "NoUser"),
        (&json!(null), "NoUser", "NoUser", "NoUser"),
        (&json!("text"), "NoUser", "NoUser", "NoUser"),
    ] {
        let body = body(identities.clone(), json!({}));
        let found = [ProjectType::Email, ProjectType::UserId, ProjectType::Hybrid]
            .map(|project| user_or_reason(&map_for(&MappingSpec::default(), project, &body)));
        assert_eq!(found, [email, user_id, hybrid], "{identities}");
    }
}

#[test]
fn newest_identity_of_a_type_is_used() {
    let identity = |value: &str, time: Value| json!({"identity_type": "email", "identity": value, "timestamp_unixtime_ms": time});
    for (list, expected) in [
        (
            json!([
                identity("old@example.com", json!(1)),
                identity("new@example.com", json!(2))
            ]),
            "new",
        ),
        (
            json!([
                identity("new@example.com", json!("2")),
                identity("old@example.com", json!("1"))
            ]),
            "new",
        ),
        (
            json!([
                identity("old@example.com", json!(1)),
                identity("new@example.com", json!(1))
            ]),
            "new",
        ),
        (
            json!([
                identity("new@example.com", json!(1)),
                identity("", json!(2)),
                identity("", json!(null))
            ]),
            "new",
        ),
        (
            json!([null, 7, "x", {"identity_type": "email"}, identity("new@example.com", json!(null))]),
            "new",
        ),
    ] {
        let mapped = map_batch(&MappingSpec::default(), &body(list.clone(), json!({})));
        assert_eq!(
            user_or_reason(&mapped),
            format!("email {expected}@example.com"),
            "{list}"
        );
    }
}

#[test]
fn user_id_comes_from_configured_identity() {
    let identities = json!({"customer": "c-1", "other_id_2": "o-2", "Other_ID_3": 33});
    for (from, expected) in [
        ("customer_id", "userId c-1"),
        ("mpid", "userId -7636538281262557123"),
        ("other_id_2", "userId o-2"),
        ("other_id_3", "userId 33"),
        ("other_id_4", "NoUser"),
    ] {
        let spec = spec(|spec| spec.identity.user_id_from = from.to_owned());
        let body = body(identities.clone(), json!({}));
        assert_eq!(
            user_or_reason(&map_for(&spec, ProjectType::UserId, &body)),
            expected,
            "{from}"
        );
    }
}

/// The order of firehose-iterable's `getPlaceholderEmail`: on iOS and tvOS IDFV, then IDFA; on
/// Android the advertising ID, then the Android ID; then the customer ID; then the device
/// application stamp. If the userId is the mParticle ID, only this ID.
#[test]
fn placeholder_email_matches_mparticle_connection() {
    let placeholder = |from: &str| {
        spec(|spec| {
            spec.identity.without_user = MissingUserPolicy::PlaceholderEmail;
            spec.identity.user_id_from = from.to_owned();
        })
    };
    let none = "00000000-0000-0000-0000-000000000000";
    for (identities, more, expected) in [
        (
            json!({}),
            json!({"device_info": {"platform": "iOS", "ios_idfv": "IDFV-1", "ios_advertising_id": "IDFA-1"}}),
            "idfv-1",
        ),
        (
            json!({}),
            json!({"device_info": {"platform": "tvOS", "ios_idfv": null, "ios_advertising_id": "IDFA-1"}}),
            "idfa-1",
        ),
        (
            json!({}),
            json!({"device_info": {"platform": "Android", "android_advertising_id": "G-1", "android_uuid": "A-1"}}),
            "g-1",
        ),
        (
            json!({}),
            json!({"device_info": {"platform": "Android", "android_advertising_id": none, "android_uuid": "A-1"}}),
            "a-1",
        ),
        (
            json!({"customer_id": "c-1"}),
            json!({"device_info": {"platform": "web", "ios_idfv": "IDFV-1"}}),
            "c-1",
        ),
        (
            json!({"customer_id": "c-1"}),
            json!({"mp_deviceid": "D-1"}),
            "c-1",
        ),
        (json!({}), json!({"mp_deviceid": "D-1"}), "d-1"),
    ] {
        let mapped = map_batch(&placeholder("customer_id"), &body(identities, more));
        assert_eq!(
            user_or_reason(&mapped),
            format!("email {expected}@placeholder.email")
        );
    }
    assert_eq!(
        user_or_reason(&map_batch(
            &placeholder("customer_id"),
            &body(json!({}), json!({}))
        )),
        "NoUser"
    );
    let mapped = map_batch(
        &placeholder("mpid"),
        &body(json!({}), json!({"mp_deviceid": "D-1"})),
    );
    assert_eq!(
        user_or_reason(&mapped),
        "email -7636538281262557123@placeholder.email"
    );
    let with_space = body(json!({"customer_id": "a b"}), json!({}));
    assert_eq!(
        user_or_reason(&map_batch(&placeholder("customer_id"), &with_space)),
        "InvalidEmail"
    );
    assert_eq!(
        user_or_reason(&map_batch(&placeholder("customer_id"), &sample("10"))),
        "NoUser"
    );
    assert_eq!(
        Mapper::new(&placeholder("customer_id"), ProjectType::Hybrid, None).unwrap_err(),
        MapperError::PlaceholderNeedsEmailProject
    );
}

/// Addresses from Apache Commons' EmailValidator, which Iterable documents, and from its tests.
#[test]
fn emails_are_checked_by_iterable_rules() {
    for good in [
        "ada@example.com",
        "o'brien+tag@example.co.uk",
        "\"quoted user\"@example.com",
        "a.b.c@example.email",
        "joe!/blow@apache.org",
        "joe\\ blow@example.com",
        "ü@example.com",
        "a@münchen.de",
        "a@xn--mnchen-3ya.de",
        "a@[127.0.0.1]",
        "a@b-c.example.com",
        "_@example.com",
        "a@example.notatld",
        "1@2.example.com",
        "\"a@b\"@example.com",
        "x@1.2.3.org",
    ] {
        assert_eq!(check_email(good), Ok(()), "{good}");
    }
    for bad in [
        "",
        "ada",
        "@example.com",
        "ada@",
        ".dot@example.com",
        "dot.@example.com",
        "a..b@example.com",
        "a@localhost",
        "a@example",
        "a@example.com.",
        "a b@example.com",
        "a@exam ple.com",
        "a,b@example.com",
        "a@-b.com",
        "a@b-.com",
        "a@b_c.com",
        "a@.com",
        "a@example..com",
        "a@example.c0m ",
        " a@example.com",
        "a\t@example.com",
        "a<b@example.com",
        "\"a@example.com",
        "a@[1.2.3.400]",
        "a@example.123",
        "a@b@c.com",
        "a\u{7f}@example.com",
        "\\",
        "\"",
        "a\\@example.com",
    ] {
        assert!(check_email(bad).is_err(), "{bad}");
    }
    assert!(check_email(&format!("{}@example.com", "l".repeat(64))).is_ok());
    assert!(check_email(&format!("{}@example.com", "l".repeat(65))).is_err());
    assert!(check_email(&format!("a@{}.com", "l".repeat(63))).is_ok());
    assert!(check_email(&format!("a@{}.com", "l".repeat(64))).is_err());
    assert!(check_email(&format!("a@{}com", "l.".repeat(125))).is_ok());
    assert!(check_email(&format!("a@{}com", "l.".repeat(126))).is_err());
}

/// Iterable: 1 to 52 printable ASCII characters, no trailing space.
#[test]
fn user_ids_are_checked_by_iterable_rules() {
    for good in ["a", " a", "a b", "~!@#$%^&*()", &"x".repeat(52)] {
        assert_eq!(check_user_id(good), Ok(()), "{good}");
    }
    for bad in [
        "",
        "a ",
        " ",
        "naïve",
        "a\tb",
        "a\u{0}",
        "a\u{7f}",
        &"x".repeat(53),
    ] {
        assert!(check_user_id(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn invalid_identities_are_not_forwarded() {
    let by_email = map_batch(&MappingSpec::default(), &sample("12"));
    let batches: Vec<_> = by_email
        .events
        .iter()
        .map(|event| event.source().batch + 1)
        .collect();
    // 8 has a top-level domain that is not in Iterable's list. The list grows, so Iterable decides.
    assert_eq!(batches, [8, 9, 11, 12]);
    let by_id = map_for(&MappingSpec::default(), ProjectType::UserId, &sample("12"));
    let batches: Vec<_> = by_id
        .events
        .iter()
        .map(|event| event.source().batch + 1)
        .collect();
    assert_eq!(batches, [1]);
}

#[test]
fn development_data_and_replays_are_configurable() {
    assert_eq!(
        map_batch(&everything(), &sample("19")).skipped[0].reason,
        SkipReason::Development
    );
    let forward = spec(|spec| {
        spec.events = vec![EventSelector::All];
        spec.development = SkipOrForward::Forward;
    });
    assert!(!map_batch(&forward, &sample("19")).events.is_empty());
    assert_eq!(map_batch(&everything(), &sample("22")).events.len(), 1);
    let skip = spec(|spec| spec.replays = SkipOrForward::Skip);
    assert_eq!(
        map_batch(&skip, &sample("22")).skipped[0].reason,
        SkipReason::Replay
    );
    let historical = body(
        json!({"email": "a@example.com"}),
        json!({"source_info": {"is_historical": true}}),
    );
    assert_eq!(
        map_batch(&skip, &historical).skipped[0].reason,
        SkipReason::Replay
    );
}

// ID

fn id_of(event_type: &str, data: Value, envelope: Value) -> String {
    let mut batch = json!({"user_identities": {"email": "ada@example.com"}, "events": [{"event_type": event_type, "data": data}]});
    for (name, value) in envelope.as_object().unwrap() {
        batch[name] = value.clone();
    }
    let mapped = map_batch(&everything(), &batch.to_string());
    mapped
        .events
        .first()
        .unwrap_or_else(|| panic!("{mapped:?}"))
        .id()
        .to_owned()
}

const UUID: &str = "A1A1A1A1-0000-4000-8000-00000000000A";

#[test]
fn id_is_stable_across_deliveries() {
    let data = json!({"source_message_id": UUID, "event_id": 1, "timestamp_unixtime_ms": 1_764_057_600_000i64});
    let first = id_of(
        "screen_view",
        data.clone(),
        json!({"mpid": 5, "batch_id": 1}),
    );
    assert!(first.starts_with("mp-") && first.len() == 35, "{first}");
    assert_eq!(
        first,
        id_of(
            "screen_view",
            data.clone(),
            json!({"mpid": 6, "batch_id": 2, "timestamp_unixtime_ms": 9})
        )
    );
    let mut received_again = data.clone();
    received_again["event_id"] = json!(2);
    assert_eq!(
        first,
        id_of("screen_view", received_again, json!({"mpid": 5}))
    );
    let mut other_case = data;
    other_case["source_message_id"] = json!(UUID.to_lowercase());
    assert_eq!(first, id_of("screen_view", other_case, json!({"mpid": 5})));
}

#[test]
fn ids_differ_by_type_message_and_user() {
    let data = |id: Value| json!({"source_message_id": id, "event_id": -5, "timestamp_unixtime_ms": 1_764_057_600_000i64});
    let user = |mpid: i64| json!({"mpid": mpid});
    // The message ID of a session_start is its session's UUID.
    assert_ne!(
        id_of("session_start", data(json!(UUID)), user(1)),
        id_of("session_end", data(json!(UUID)), user(1))
    );
    assert_eq!(
        id_of("screen_view", data(json!(UUID)), user(1)),
        id_of("screen_view", data(json!(UUID)), user(2))
    );
    let invoice = json!("invoice-1");
    assert_ne!(
        id_of("screen_view", data(invoice.clone()), user(1)),
        id_of("screen_view", data(invoice.clone()), user(2))
    );
    assert_eq!(
        id_of("screen_view", data(invoice.clone()), user(1)),
        id_of("screen_view", data(invoice), json!({"mpid": "1"}))
    );
    // Without a message ID, the event ID is used: a number or a string, never a double.
    let by_event_id = |id: Value| id_of("screen_view", json!({"event_id": id}), user(1));
    assert_eq!(
        by_event_id(json!(9_007_199_254_740_993i64)),
        by_event_id(json!("9007199254740993"))
    );
    assert_ne!(
        by_event_id(json!(9_007_199_254_740_993i64)),
        by_event_id(json!(9_007_199_254_740_992i64))
    );
}

/// The user's identity distinguishes IDs that a server chose, even if not every batch has this
/// identity.
#[test]
fn custom_message_ids_differ_by_user_identity() {
    let id = |spec: &MappingSpec, project: ProjectType, envelope: Value| {
        let mut batch = json!({"events": [{"event_type": "screen_view",
            "data": {"source_message_id": "invoice-1", "timestamp_unixtime_ms": 1_764_057_600_000i64}}]});
        for (name, value) in envelope.as_object().unwrap() {
            batch[name] = value.clone();
        }
        let mapped = map_for(spec, project, &batch.to_string());
        mapped.events[0].id().to_owned()
    };
    let by_other = spec(|spec| spec.identity.user_id_from = "other_id_2".to_owned());
    let other = |value: &str| {
        let envelope = json!({"user_identities": {"other_id_2": value}});
        id(&by_other, ProjectType::UserId, envelope)
    };
    assert_eq!(other("a"), other("a"));
    assert_ne!(other("a"), other("b"));
    let by_device = spec(|spec| spec.identity.without_user = MissingUserPolicy::PlaceholderEmail);
    let device = |idfv: &str| {
        let envelope = json!({"device_info": {"platform": "iOS", "ios_idfv": idfv}});
        id(&by_device, ProjectType::Email, envelope)
    };
    assert_eq!(device("d-1"), device("d-1"));
    assert_ne!(device("d-1"), device("d-2"));
}

/// mParticle sends zeros for a missing ID.
#[test]
fn zero_uuid_is_not_a_message_id() {
    let nil = "00000000-0000-0000-0000-000000000000";
    let zeros = |event_id: i64| {
        let data = json!({"source_message_id": nil, "event_id": event_id});
        id_of("screen_view", data, json!({"mpid": 1}))
    };
    assert_ne!(zeros(1), zeros(2));
    assert_eq!(
        zeros(1),
        id_of("screen_view", json!({"event_id": 1}), json!({"mpid": 1}))
    );
    let nothing = json!({"user_identities": {"email": "a@b.com"}, "events": [
        {"event_type": "screen_view", "data": {"source_message_id": nil}}]});
    assert_eq!(
        map_batch(&everything(), &nothing.to_string()).rejected[0].reason,
        RejectReason::NoIdOrTime
    );
}

#[test]
fn id_is_derived_from_content_without_event_id() {
    let id = |data: &str| {
        let body = format!(
            "{{\"mpid\":1,\"user_identities\":{{\"email\":\"a@b.com\"}},\"events\":[{{\"event_type\":\"breadcrumb\",\"data\":{data}}}]}}"
        );
        map_batch(&everything(), &body).events[0].id().to_owned()
    };
    let one = id(
        r#"{"timestamp_unixtime_ms":1764057600000,"label":"x","custom_attributes":{"a":[1,{"b":2,"c":3}],"d":"\u00e9"}}"#,
    );
    let same = id(
        r#"{"custom_attributes": {"d": "é", "a": [1, {"c": 3, "b": 2}]}, "label": "x", "timestamp_unixtime_ms": 1764057600000, "session_number": null}"#,
    );
    let other = id(
        r#"{"timestamp_unixtime_ms":1764057600000,"label":"x","custom_attributes":{"a":[{"b":2,"c":3},1],"d":"é"}}"#,
    );
    assert_eq!(one, same);
    assert_ne!(one, other);
}

// Time

#[test]
fn created_at_uses_event_time_or_fallback() {
    let batch_time = 1_764_057_660_000i64;
    let sent = "2025-11-25T08:01:10Z".parse::<jiff::Timestamp>().unwrap();
    let mapper = Mapper::new(&MappingSpec::default(), ProjectType::Email, None).unwrap();
    let year = 365 * 86_400_000i64;
    for (time, expected, warning) in [
        (json!(1_764_057_600_999i64), Some(1_764_057_600), None),
        (json!("1764057600000"), Some(1_764_057_600), None),
        (json!(" 1764057600000 "), Some(1_764_057_600), None),
        (json!(1_764_057_600_000.75), Some(1_764_057_600), None),
        // Seconds instead of milliseconds.
        (json!(1_764_057_600), Some(1_764_057_600), None),
        (
            json!(0),
            Some(1_764_057_660),
            Some(MappingWarning::MissingTime),
        ),
        (
            json!(null),
            Some(1_764_057_660),
            Some(MappingWarning::MissingTime),
        ),
        (
            json!(""),
            Some(1_764_057_660),
            Some(MappingWarning::MissingTime),
        ),
        (
            json!("soon"),
            Some(1_764_057_660),
            Some(MappingWarning::MissingTime),
        ),
        (
            json!([1]),
            Some(1_764_057_660),
            Some(MappingWarning::MissingTime),
        ),
        // A double, as some languages serialize integers.
        (json!(1_764_057_600_000.0), Some(1_764_057_600), None),
        (
            json!(-5),
            Some(1_764_057_660),
            Some(MappingWarning::ImplausibleTime),
        ),
        (
            json!(i64::MAX),
            Some(1_764_057_660),
            Some(MappingWarning::ImplausibleTime),
        ),
        (
            json!(u64::MAX),
            Some(1_764_057_660),
            Some(MappingWarning::MissingTime),
        ),
        // A clock that was never set, one that is days ahead, and one that is years behind.
        (
            json!(946_684_800_000i64),
            Some(1_764_057_660),
            Some(MappingWarning::ImplausibleTime),
        ),
        (
            json!(batch_time + 2 * 86_400_000),
            Some(1_764_057_660),
            Some(MappingWarning::ImplausibleTime),
        ),
        (json!(batch_time + 3_600_000), Some(1_764_061_260), None),
        (
            json!(batch_time - 2 * year),
            Some(1_764_057_660),
            Some(MappingWarning::ImplausibleTime),
        ),
        (
            json!(batch_time - 30 * 86_400_000),
            Some(1_761_465_660),
            Some(MappingWarning::OlderThanADay),
        ),
        (
            json!(batch_time - 86_400_000 + 20_000),
            Some(1_763_971_280),
            None,
        ),
    ] {
        let data = json!({"timestamp_unixtime_ms": time, "event_id": 1});
        let mapped = mapper
            .map(&batch(&[("screen_view", data)]), Some(sent))
            .unwrap();
        let event: Value = serde_json::from_str(mapped.events[0].json()).unwrap();
        assert_eq!(
            event.get("createdAt").and_then(Value::as_i64),
            expected,
            "{time}"
        );
        let warnings: Vec<_> = mapped.warnings.iter().map(|(warning, _)| warning).collect();
        assert_eq!(warnings, warning.into_iter().collect::<Vec<_>>(), "{time}");
    }
}

#[test]
fn created_at_is_omitted_without_any_time() {
    let body = json!({"user_identities": {"email": "a@b.com"}, "events": [
        {"event_type": "screen_view", "data": {"event_id": 1, "timestamp_unixtime_ms": 0}}]})
    .to_string();
    let mapped = map_batch(&MappingSpec::default(), &body);
    assert!(!mapped.events[0].json().contains("createdAt"));
    let mapper = Mapper::new(&MappingSpec::default(), ProjectType::Email, None).unwrap();
    let sent = "2025-11-25T08:01:10Z".parse().ok();
    assert!(
        mapper.map(&body, sent).unwrap().events[0]
            .json()
            .contains("\"createdAt\":1764057670")
    );
}

#[test]
fn replay_and_server_events_can_be_old() {
    let created_at_2020 = |key: &str, value: &str| {
        let mut old: Value = serde_json::from_str(&batch(&[(
            "screen_view",
            json!({"timestamp_unixtime_ms": 1_600_000_000_000i64}),
        )]))
        .unwrap();
        old["source_info"][key] = json!(value);
        map_batch(&MappingSpec::default(), &old.to_string()).events[0]
            .json()
            .contains("\"createdAt\":1600000000")
    };
    assert!(created_at_2020("replay_job_id", "r-1"));
    assert!(created_at_2020("channel", "server_to_server"));
    assert!(!created_at_2020("channel", "native"));
}

#[test]
fn milliseconds_are_kept_in_configured_field() {
    let spec = spec(|spec| {
        spec.data_fields.context = vec![];
        spec.data_fields.milliseconds_field = Some("event_time_ms".to_owned());
    });
    let event = map_one(
        &spec,
        "screen_view",
        json!({"timestamp_unixtime_ms": 1_764_057_600_123i64}),
    );
    assert_eq!(
        event["dataFields"],
        json!({"event_time_ms": 1_764_057_600_123i64})
    );
}

// Event name

fn map_event(change: impl FnOnce(&mut MappingSpec), event_type: &str, data: Value) -> MappedBody {
    let spec = spec(|spec| {
        spec.events = vec![EventSelector::All];
        change(spec);
    });
    map_batch(&spec, &batch(&[(event_type, data)]))
}

#[test]
fn event_names_follow_templates_per_type() {
    let screen = |template: &'static str, data: Value| {
        let mapped = map_event(
            |spec| spec.event_name.screen_view = template.to_owned(),
            "screen_view",
            data,
        );
        mapped
            .events
            .first()
            .map(|event| event.event_name().to_owned())
    };
    let home = json!({"screen_name": "Home"});
    assert_eq!(
        screen("Viewed {screen_name}", home.clone()).as_deref(),
        Some("Viewed Home")
    );
    assert_eq!(
        screen("{screen_name} ({event_type})", home).as_deref(),
        Some("Home (screen_view)")
    );
    assert_eq!(
        screen("Viewed {screen_name}", json!({"screen_name": null})).as_deref(),
        Some("Viewed Unknown")
    );
    assert_eq!(screen("{screen_name}", json!({})), None);
    let commerce = map_event(
        |spec| spec.event_name.commerce = "{action} {transaction_id} {currency_code}".to_owned(),
        "commerce_event",
        json!({"product_action": {"action": "refund", "transaction_id": "T-1"}, "currency_code": "GBP"}),
    );
    assert_eq!(commerce.events[0].event_name(), "Refund T-1 GBP");
}

#[test]
fn event_without_name_is_rejected() {
    for data in [
        json!({}),
        json!({"event_name": ""}),
        json!({"event_name": "  "}),
        json!({"event_name": null}),
        json!({"event_name": {}}),
    ] {
        let mapped = map_event(|_| {}, "custom_event", data);
        assert_eq!(mapped.rejected[0].reason, RejectReason::NoEventName);
    }
}

#[test]
fn long_name_is_truncated_with_warning() {
    let mapped = map_event(
        |_| {},
        "custom_event",
        json!({"event_name": "ü".repeat(300)}),
    );
    assert_eq!(mapped.events[0].event_name(), "ü".repeat(256));
    assert_eq!(mapped.warnings.count(MappingWarning::NameCut), 1);
}

#[test]
fn invalid_template_is_rejected_with_allowed_fields() {
    let error = |template: &str| {
        let spec = spec(|spec| spec.event_name.screen_view = template.to_owned());
        Mapper::new(&spec, ProjectType::Email, None)
            .unwrap_err()
            .to_string()
    };
    assert!(
        error("{screenname}").contains("spec.mapping.eventName.screenView: {screenname}"),
        "{}",
        error("{screenname}")
    );
    assert!(error("{screenname}").contains("{event_type}, {screen_name}"));
    for broken in ["{screen_name", "screen_name}", "{{screen_name}}", "{", "}{"] {
        assert!(error(broken).contains("unmatched brace"), "{broken}");
    }
    assert!(error("  ").contains("whitespace"));
}

// Fields

fn fields(change: impl FnOnce(&mut MappingSpec), attributes: &str) -> (Value, MappedBody) {
    let spec = spec(|spec| {
        spec.events = vec![EventSelector::All];
        spec.data_fields.context = vec![];
        change(spec);
    });
    let body = format!(
        "{{\"user_identities\":{{\"email\":\"a@b.com\"}},\"events\":[{{\"event_type\":\"session_start\",\"data\":{{\"event_id\":1,\"timestamp_unixtime_ms\":1764057600000,\"custom_attributes\":{attributes}}}}}]}}"
    );
    let mapped = map_batch(&spec, &body);
    let event: Value = serde_json::from_str(mapped.events[0].json()).unwrap();
    (event["dataFields"].clone(), mapped)
}

/// Iterable's schema rejects names that have only digits, a leading underscore, a comma or a hash.
/// It reads a dot as a path separator.
#[test]
fn invalid_field_names_are_renamed_or_dropped() {
    let attributes = r##"{"123":1,"_x":2,"__":3,"a,b":4,"c#d":5,"e.f":6,"":7," ":8,"ok":9,"_7":10,"Ünï cödé":11}"##;
    let (renamed, mapped) = fields(|_| {}, attributes);
    assert_eq!(
        renamed,
        json!({"field_123": 1, "x": 2, "a_b": 4, "c_d": 5, "e_f": 6, "ok": 9, "field_7": 10, "Ünï cödé": 11})
    );
    assert_eq!(mapped.warnings.count(MappingWarning::FieldRenamed), 6);
    assert_eq!(mapped.warnings.count(MappingWarning::FieldNameRejected), 3);
    let (dropped, mapped) = fields(
        |spec| spec.data_fields.refused_names = RefusedNames::Drop,
        attributes,
    );
    assert_eq!(dropped, json!({"e_f": 6, "ok": 9, "Ünï cödé": 11}));
    assert_eq!(mapped.warnings.count(MappingWarning::FieldNameRejected), 8);
    let (dotted, _) = fields(
        |spec| spec.data_fields.dots = Dots::Keep,
        "{\"e.f\":6,\"g.h,i\":7}",
    );
    assert_eq!(dotted, json!({"e.f": 6, "g.h_i": 7}));
}

#[test]
fn first_of_duplicate_fields_is_kept() {
    let (kept, mapped) = fields(|_| {}, r#"{"a_b":1,"a.b":2,"a,b":3,"c":4,"c":5}"#);
    assert_eq!(kept, json!({"a_b": 1, "c": 4}));
    assert_eq!(mapped.warnings.count(MappingWarning::FieldDuplicate), 3);
    let (nested, _) = fields(|_| {}, r#"{"o":{"_a":1,"b.c":2,"7":3}}"#);
    assert_eq!(nested, json!({"o": {"a": 1, "b_c": 2, "field_7": 3}}));
}

#[test]
fn first_of_duplicate_nested_members_is_kept() {
    let spec = spec(|spec| {
        spec.events = vec![EventSelector::All];
        spec.data_fields.context = vec![];
    });
    let body = r#"{"user_identities":{"email":"a@b.com"},"events":[{"event_type":"commerce_event","data":{
        "event_id":1,"timestamp_unixtime_ms":1764057600000,
        "custom_attributes":{"o":{"a.b":1,"a_b":2,"p":[{"c":3,"_c":4}]}},
        "product_action":{"action":"click","products":[{"custom_attributes":{"d":5,"d":6}}]}}}]}"#;
    let mapped = map_batch(&spec, body);
    let json = mapped.events[0].json();
    assert!(
        json.ends_with(
            r#""dataFields":{"o":{"a_b":1,"p":[{"c":3}]},"action":"click","products":[{"custom_attributes":{"d":5}}]}}"#
        ),
        "{json}"
    );
    assert_eq!(mapped.warnings.count(MappingWarning::FieldDuplicate), 3);
}

#[test]
fn invalid_value_drops_only_its_field() {
    let deep = format!("{}1{}", "[".repeat(17), "]".repeat(17));
    let long = "L".repeat(32_001);
    let attributes = format!(
        "{{\"ok\":1,\"deep\":{deep},\"long\":\"{long}\",\"fits\":\"{}\",\"huge\":1e999,\"big\":9223372036854775808,\"lone\":\"\\ud800\",\"list\":[1,\"\\ud800\"]}}",
        "L".repeat(32_000)
    );
    let (kept, mapped) = fields(|_| {}, &attributes);
    assert_eq!(kept, json!({"ok": 1, "fits": "L".repeat(32_000)}));
    assert_eq!(mapped.warnings.count(MappingWarning::FieldTooDeep), 1);
    assert_eq!(mapped.warnings.count(MappingWarning::FieldTooLong), 1);
    assert_eq!(mapped.warnings.count(MappingWarning::FieldUnreadable), 4);
}

#[test]
fn event_has_at_most_1000_fields() {
    let many: Vec<String> = (0..1_200).map(|index| format!("\"a{index}\":1")).collect();
    let (kept, mapped) = fields(|_| {}, &format!("{{{}}}", many.join(",")));
    assert_eq!(kept.as_object().unwrap().len(), 1_000);
    assert_eq!(mapped.warnings.count(MappingWarning::FieldsTooMany), 200);
    let attributes: Value =
        serde_json::from_str(&format!("{{{}}}", many[..1_000].join(","))).unwrap();
    let body = batch(&[("session_start", json!({"custom_attributes": attributes}))]);
    let mapped = map_batch(&MappingSpec::default(), &body);
    let event: Value = serde_json::from_str(mapped.events[0].json()).unwrap();
    assert_eq!(event["dataFields"].as_object().unwrap().len(), 1_000);
    // The five context fields of the application and the device exceed the limit.
    assert_eq!(mapped.warnings.count(MappingWarning::FieldsTooMany), 5);
}

#[test]
fn strings_and_escapes_are_preserved() {
    let (kept, _) = fields(
        |_| {},
        r#"{"schlüssel":"größe","\u00e9":"\u0000\u001f\"\\\/\n","emoji":"👍🏽","pair":"\ud83d\ude00"}"#,
    );
    assert_eq!(
        kept,
        json!({"schlüssel": "größe", "é": "\u{0}\u{1f}\"\\/\n", "emoji": "👍🏽", "pair": "😀"})
    );
    let mapped = map_batch(&everything(), &sample("15"));
    assert!(
        mapped
            .events
            .iter()
            .all(|event| !event.json().contains('\n')),
        "one line per event"
    );
}

#[test]
fn lone_surrogate_in_name_is_replaced() {
    let (kept, _) = fields(
        |_| {},
        r#"{"\ud800":1,"after":2,"nested":{"\udc00x":3,"y":4}}"#,
    );
    assert_eq!(
        kept,
        json!({"\u{fffd}\u{fffd}\u{fffd}": 1, "after": 2, "nested": {"\u{fffd}\u{fffd}\u{fffd}x": 3, "y": 4}}),
        "one replacement character per byte"
    );
}

#[test]
fn known_field_of_wrong_type_is_dropped() {
    let spec = spec(|spec| {
        spec.events = vec![EventSelector::All];
        spec.data_fields.context = vec![];
    });
    let body = batch(&[
        (
            "session_end",
            json!({"session_duration_ms": "long", "custom_attributes": "none"}),
        ),
        (
            "commerce_event",
            json!({"product_action": {"action": "click", "products": [7, {"price": "x"}]}}),
        ),
    ]);
    let mapped = map_batch(&spec, &body);
    let event: Value = serde_json::from_str(mapped.events[0].json()).unwrap();
    assert_eq!(event["dataFields"], json!({}));
    let event: Value = serde_json::from_str(mapped.events[1].json()).unwrap();
    assert_eq!(
        event["dataFields"],
        json!({"action": "click", "products": [{}]})
    );
    assert_eq!(mapped.warnings.count(MappingWarning::FieldWrongType), 4);
}

#[test]
fn non_object_values_cause_type_warnings() {
    let spec = spec(|spec| {
        spec.events = vec![EventSelector::All];
        spec.data_fields.context = vec![
            ContextGroup::Application,
            ContextGroup::Device,
            ContextGroup::Location,
            ContextGroup::Source,
        ];
    });
    let mapped = |event_type: &str, wrong: &Value| {
        let data = json!({"product_action": wrong, "promotion_action": wrong, "shopping_cart": wrong,
            "new": wrong, "old": wrong, "location": wrong, "custom_attributes": wrong});
        let mut batch: Value = serde_json::from_str(&batch(&[(event_type, data)])).unwrap();
        for name in ["application_info", "device_info", "source_info"] {
            batch[name] = wrong.clone();
        }
        map_batch(&spec, &batch.to_string())
    };
    for wrong in [json!("x"), json!(7), json!([1]), json!(true)] {
        let warnings = |event_type| {
            mapped(event_type, &wrong)
                .warnings
                .count(MappingWarning::FieldWrongType)
        };
        // Three of commerce, custom_attributes, location, and three of the batch.
        assert_eq!(warnings("commerce_event"), 8, "{wrong}");
    }
    for nothing in [json!(null), json!(""), json!({})] {
        for event_type in ["commerce_event", "user_identity_change"] {
            let mapped = mapped(event_type, &nothing);
            assert_eq!(mapped.events.len(), 1);
            assert_eq!(mapped.warnings.iter().count(), 0, "{event_type} {nothing}");
        }
    }
}

#[test]
fn invalid_context_value_causes_a_warning() {
    let warnings = |value: &str| {
        let data = json!({});
        let mut batch: Value = serde_json::from_str(&batch(&[
            ("screen_view", data.clone()),
            ("screen_view", data),
        ]))
        .unwrap();
        batch["device_info"]["device_model"] = json!("MODEL");
        let body = batch.to_string().replace("\"MODEL\"", value);
        let mapped = map_batch(&MappingSpec::default(), &body);
        assert_eq!(mapped.events.len(), 2);
        let warnings: Vec<_> = mapped.warnings.iter().collect();
        (warnings, mapped.events[0].json().contains("device_model"))
    };
    assert_eq!(warnings("7"), (vec![], true));
    assert_eq!(warnings("null"), (vec![], false));
    assert_eq!(warnings("\"\""), (vec![], false));
    // One warning per event without the value.
    let long = format!("\"{}\"", "L".repeat(32_001));
    assert_eq!(
        warnings(&long),
        (vec![(MappingWarning::FieldTooLong, 2)], false)
    );
    assert_eq!(
        warnings("[1]"),
        (vec![(MappingWarning::FieldWrongType, 2)], false)
    );
    assert_eq!(
        warnings("{}"),
        (vec![(MappingWarning::FieldWrongType, 2)], false)
    );
    assert_eq!(
        warnings("\"\\ud800\""),
        (vec![(MappingWarning::FieldUnreadable, 2)], false)
    );
}

#[test]
fn attribute_length_includes_nested_values() {
    let long: Vec<_> = (0..9).map(|_| "L".repeat(4_000)).collect();
    let fits = &long[..7];
    let attributes = json!({"list": long, "object": {"a": long}, "fits": fits, "ok": 1});
    let (kept, mapped) = fields(|_| {}, &attributes.to_string());
    assert_eq!(kept, json!({"fits": fits, "ok": 1}));
    assert_eq!(mapped.warnings.count(MappingWarning::FieldTooLong), 2);
    // A cart can be longer, because each of its products is a separate value.
    let product = json!({"name": "N".repeat(4_000), "custom_attributes": {"list": long}});
    let cart = json!({"product_action": {"action": "click", "products": vec![product; 9]}});
    let mapped = map_batch(&everything(), &batch(&[("commerce_event", cart)]));
    let event: Value = serde_json::from_str(mapped.events[0].json()).unwrap();
    let products = event["dataFields"]["products"].as_array().unwrap();
    assert_eq!(products.len(), 9);
    assert_eq!(products[0], json!({"name": "N".repeat(4_000)}));
    assert_eq!(mapped.warnings.count(MappingWarning::FieldTooLong), 9);
}

#[test]
fn field_can_be_removed_from_an_event() {
    let mapped = map_batch(
        &everything(),
        &batch(&[(
            "screen_view",
            json!({"screen_name": "Home \"é\"", "custom_attributes": {"a": 1, "b": {"c": [1]}}}),
        )]),
    );
    let event = &mapped.events[0];
    let without = event.without_field("a").unwrap();
    let (before, after): (Value, Value) = (
        serde_json::from_str(event.json()).unwrap(),
        serde_json::from_str(without.json()).unwrap(),
    );
    let mut expected = before;
    expected["dataFields"].as_object_mut().unwrap().remove("a");
    assert_eq!(after, expected);
    assert_eq!(without.id(), event.id());
    let without = without
        .without_field("b")
        .unwrap()
        .without_field("screen_name")
        .unwrap();
    assert!(without.without_field("a").is_none());
}

#[test]
fn coercion_applies_to_nested_values() {
    let (kept, _) = fields(
        |spec| spec.data_fields.coerce = Coerce::LikeMParticle,
        r#"{"a":["1",{"b":"TRUE"}],"c":"-0","d":"00.50","e":"1.","f":"."}"#,
    );
    assert_eq!(
        kept,
        json!({"a": [1, {"b": true}], "c": 0, "d": 0.50, "e": "1.", "f": "."})
    );
}
