//! Every documented answer of Iterable, by section of `wire-facts.md`.

mod common;

use std::time::Duration;

use common::{BULK_UPDATE, Project, TRACK_BULK, send};
use event_forwarder_test_support::iterable::{
    Answers, Clock, History, KnownUsers, Limits, Lists, ManualClock, Options, ProjectType, TooLarge,
};
use jiff::Timestamp;
use serde_json::{Value, json};

const NO_USERS: KnownUsers = KnownUsers::None;

fn listed(users: &[&str]) -> KnownUsers {
    KnownUsers::Listed(users.iter().map(|user| (*user).to_owned()).collect())
}

fn without_rate() -> Options {
    Options {
        limits: Limits {
            track_bulk_rate: None,
            ..Limits::default()
        },
        ..Options::default()
    }
}

fn manual_clock() -> (ManualClock, Clock) {
    let clock = ManualClock::at(Timestamp::UNIX_EPOCH);
    (clock.clone(), Clock::Manual(clock))
}

fn event(email: &str, name: &str) -> Value {
    json!({ "email": email, "eventName": name })
}

// Section 1.1

#[tokio::test]
async fn bad_api_key_answer_contains_ip_and_endpoint() {
    let project = Project::start(Options::default()).await;
    let without = project.http.post(project.url(TRACK_BULK)).body("{}");
    let wrong = project
        .http
        .post(project.url(TRACK_BULK))
        .header("Api-Key", "wrong")
        .body("{}");
    for request in [without, wrong] {
        let answer = send(request).await.expect("an answer");
        assert_eq!(answer.status, 401);
        assert_eq!(
            answer.json(),
            json!({
                "msg": "Invalid API key",
                "code": "BadApiKey",
                "params": { "ip": "127.0.0.1", "endpoint": TRACK_BULK },
            })
        );
    }
}

#[tokio::test]
async fn key_header_has_two_spellings() {
    let project = Project::start(Options::default()).await;
    let request = project
        .http
        .post(project.url(TRACK_BULK))
        .header("Api_Key", "test-key");
    let answer = send(request.body(r#"{"events":[]}"#))
        .await
        .expect("an answer");
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn unknown_endpoint_returns_404() {
    let project = Project::start(Options::default()).await;
    let answer = project.post("/api/events/trackbulk", "{}").await;
    assert_eq!(
        (answer.status, &answer.json()["code"]),
        (404, &json!("NotFound"))
    );
}

// Section 1.3

#[tokio::test]
async fn track_bulk_rejects_eleventh_request_per_second() {
    let (time, clock) = manual_clock();
    let project = Project::start(Options {
        clock,
        ..Options::default()
    })
    .await;
    for _ in 0..10 {
        assert_eq!(project.track(json!([])).await.status, 200);
    }
    let answer = project.track(json!([])).await;
    assert_eq!((answer.status, answer.retry_after.as_deref()), (429, None));
    assert_eq!(
        answer.json(),
        json!({
            "msg": "Exceeded rate limit for endpoint: /api/events/trackBulk, project: 1 ",
            "code": "RateLimitExceeded",
            "params": {},
        })
    );
    time.advance(Duration::from_millis(100));
    assert_eq!(project.track(json!([])).await.status, 200);
    assert_eq!(project.track(json!([])).await.status, 429);
}

#[tokio::test]
async fn bulk_update_has_a_separate_lower_rate() {
    let (_, clock) = manual_clock();
    let project = Project::start(Options {
        clock,
        ..Options::default()
    })
    .await;
    for _ in 0..5 {
        assert_eq!(project.update(json!([])).await.status, 200);
    }
    assert_eq!(project.update(json!([])).await.status, 429);
    assert_eq!(project.track(json!([])).await.status, 200);
}

#[tokio::test]
async fn retry_after_is_sent_when_configured() {
    let (_, clock) = manual_clock();
    let project = Project::start(Options {
        clock,
        limits: Limits {
            track_bulk_rate: Some(1),
            ..Limits::default()
        },
        answers: Answers {
            retry_after: Some(3),
            ..Answers::default()
        },
        ..Options::default()
    })
    .await;
    project.track(json!([])).await;
    assert_eq!(
        project.track(json!([])).await.retry_after.as_deref(),
        Some("3")
    );
}

#[tokio::test]
async fn too_many_events_return_batch_too_large() {
    let project = Project::start(Options::default()).await;
    let events = |count| Value::Array(vec![event("a@example.com", "e"); count]);
    assert_eq!(
        project.track(events(1_000)).await.json()["successCount"],
        1_000
    );
    let answer = project.track(events(1_001)).await;
    assert_eq!(
        (answer.status, &answer.json()["code"]),
        (400, &json!("BatchTooLarge"))
    );
    assert_eq!(project.handle().summary().events.writes, 1_000);
}

#[tokio::test]
async fn too_many_bytes_return_batch_too_large() {
    let project = Project::start(Options::default()).await;
    for (path, list) in [(TRACK_BULK, "events"), (BULK_UPDATE, "users")] {
        let body = |bytes: usize| {
            let empty = format!(r#"{{"{list}":[]}}"#);
            let spaces = " ".repeat(bytes - empty.len());
            empty + &spaces
        };
        assert_eq!(project.post(path, body(4_000_000)).await.status, 200);
        let answer = project.post(path, body(4_000_001)).await;
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (400, &json!("BatchTooLarge"))
        );
    }
}

#[tokio::test]
async fn batch_too_large_is_html_413_when_configured() {
    let project = Project::start(Options {
        limits: Limits {
            events_per_request: 1,
            ..Limits::default()
        },
        answers: Answers {
            too_large: TooLarge::PayloadTooLarge,
            ..Answers::default()
        },
        ..Options::default()
    })
    .await;
    let answer = project
        .track(json!([
            event("a@example.com", "e"),
            event("b@example.com", "e")
        ]))
        .await;
    assert_eq!(answer.status, 413);
    assert!(answer.text.starts_with("<html>"));
}

#[tokio::test]
async fn too_many_unique_fields_are_rejected() {
    let project = Project::start(Options {
        limits: Limits {
            unique_fields: 2,
            ..Limits::default()
        },
        ..Options::default()
    })
    .await;
    let with = |fields: Value| json!([{ "email": "a@example.com", "eventName": "e", "dataFields": fields }]);
    assert_eq!(
        project.track(with(json!({ "a": 1, "b": 1 }))).await.status,
        200
    );
    let answer = project.track(with(json!({ "c": 1 }))).await;
    assert_eq!(
        (answer.status, &answer.json()["code"]),
        (400, &json!("UniqueFieldsLimitExceeded"))
    );
    assert_eq!(project.track(with(json!({ "a": 2 }))).await.status, 200);
}

// Section 1.4

#[tokio::test]
async fn success_answer_has_every_documented_key() {
    let project = Project::start(Options::default()).await;
    let answer = project
        .track(json!([{ "email": "a@example.com", "eventName": "e", "dataFields": { "n": 1 } }]))
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.json(),
        json!({
            "successCount": 1,
            "failCount": 0,
            "invalidEmails": [],
            "invalidUserIds": [],
            "filteredOutFields": [],
            "createdFields": ["n"],
            "disallowedEventNames": [],
            "failedUpdates": {
                "invalidEmails": [],
                "invalidUserIds": [],
                "notFoundEmails": [],
                "notFoundUserIds": [],
                "forgottenEmails": [],
                "forgottenUserIds": [],
            },
        })
    );
}

#[tokio::test]
async fn rejected_events_are_listed_by_user_or_name() {
    let project = Project::start(Options {
        project_type: ProjectType::Hybrid,
        known_users: listed(&["known@example.com"]),
        forgotten_users: vec!["forgotten@example.com".into(), "forgotten".into()],
        disallowed_event_names: vec!["off".into()],
        ..Options::default()
    })
    .await;
    let answer = project
        .track(json!([
            event("Known@example.com", "e"),
            event("000", "e"),
            event("new@example.com", "e"),
            event("new@example.com", "e"),
            event("Forgotten@example.com", "e"),
            { "userId": "é", "eventName": "e" },
            { "userId": "new", "eventName": "e" },
            { "userId": "forgotten", "eventName": "e" },
            event("known@example.com", "off"),
        ]))
        .await
        .json();
    assert_eq!(
        (&answer["successCount"], &answer["failCount"]),
        (&json!(1), &json!(8))
    );
    assert_eq!(
        answer["failedUpdates"],
        json!({
            "invalidEmails": ["000"],
            "invalidUserIds": ["é"],
            "notFoundEmails": ["new@example.com", "new@example.com"],
            "notFoundUserIds": ["new"],
            "forgottenEmails": ["Forgotten@example.com"],
            "forgottenUserIds": ["forgotten"],
        })
    );
    assert_eq!(answer["disallowedEventNames"], json!(["off"]));
    assert_eq!(
        (&answer["invalidEmails"], &answer["invalidUserIds"]),
        (&json!([]), &json!([]))
    );
    assert_eq!(project.handle().events().len(), 1);
}

#[tokio::test]
async fn deprecated_lists_and_lowercase_emails_appear_when_configured() {
    let project = Project::start(Options {
        project_type: ProjectType::Hybrid,
        known_users: NO_USERS,
        answers: Answers {
            deprecated_lists: true,
            lower_case_emails: true,
            ..Answers::default()
        },
        ..Options::default()
    })
    .await;
    let answer = project
        .track(json!([
            event("Not An Email", "e"),
            event("New@Example.com", "e"),
            { "userId": "é", "eventName": "e" },
            { "userId": "New", "eventName": "e" },
        ]))
        .await
        .json();
    assert_eq!(answer["invalidEmails"], json!(["not an email"]));
    assert_eq!(
        answer["failedUpdates"]["invalidEmails"],
        json!(["not an email"])
    );
    assert_eq!(answer["invalidUserIds"], json!(["é", "New"]));
    assert_eq!(
        answer["failedUpdates"]["notFoundEmails"],
        json!(["new@example.com"])
    );
    assert_eq!(answer["failedUpdates"]["notFoundUserIds"], json!(["New"]));
}

#[tokio::test]
async fn lists_are_omitted_when_configured() {
    for (lists, expected) in [
        (Lists::Omitted, json!({ "successCount": 1, "failCount": 1 })),
        (Lists::SuccessCountOnly, json!({ "successCount": 1 })),
    ] {
        let project = Project::start(Options {
            answers: Answers {
                lists,
                ..Answers::default()
            },
            ..Options::default()
        })
        .await;
        let answer = project
            .track(json!([event("a@example.com", "e"), event("000", "e")]))
            .await;
        assert_eq!(answer.json(), expected);
    }
}

// Sections 1.2, 1.5 and 1.9

#[tokio::test]
async fn malformed_json_returns_bad_json_body() {
    let project = Project::start(Options::default()).await;
    for body in ["", "{", "\u{feff}{}", "[1,]"] {
        let answer = project.post(TRACK_BULK, body).await;
        assert_eq!(answer.status, 400, "{body:?}");
        assert_eq!(
            answer.json(),
            json!({ "msg": "[/api/events/trackBulk] Invalid JSON body", "code": "BadJsonBody", "params": null })
        );
    }
}

#[tokio::test]
async fn wrong_type_returns_bad_json_body_with_path() {
    let project = Project::start(without_rate()).await;
    let good = event("a@example.com", "e");
    for (field, value, expected) in [
        ("createdAt", json!("2020-01-01"), "Number value expected"),
        ("createdAt", json!(1.5), "Number value expected"),
        ("eventName", json!(1), "String value expected"),
        ("eventName", Value::Null, "String value expected"),
        ("email", json!(1), "String value expected"),
        ("userId", json!(1), "String value expected"),
        ("id", json!(1), "String value expected"),
        ("dataFields", json!([]), "Object value expected"),
        ("campaignId", json!("1"), "Number value expected"),
        ("createNewFields", json!("yes"), "Boolean value expected"),
    ] {
        let mut bad = good.clone();
        bad[field] = value;
        let answer = project.track(json!([good, bad])).await;
        assert_eq!(answer.status, 400, "{field}");
        assert_eq!(
            answer.json(),
            json!({
                "msg": "[/api/events/trackBulk] Invalid JSON body",
                "code": "BadJsonBody",
                "params": { format!("obj.events[1].{field}"): expected },
            })
        );
    }
    assert_eq!(project.handle().events(), []);
}

#[tokio::test]
async fn bad_json_body_has_next_index_when_configured() {
    let project = Project::start(Options {
        answers: Answers {
            index_off_by_one: true,
            ..Answers::default()
        },
        ..Options::default()
    })
    .await;
    let answer = project.track(json!([{ "email": "a@example.com" }])).await;
    assert_eq!(
        answer.json()["params"],
        json!({ "obj.events[1].eventName": "String value expected" })
    );
}

#[tokio::test]
async fn body_without_events_is_rejected() {
    let project = Project::start(Options::default()).await;
    let answer = project.post(TRACK_BULK, "{}").await;
    assert_eq!(
        answer.json()["params"],
        json!({ "obj.events": "Array value expected" })
    );
}

#[tokio::test]
async fn event_without_user_rejects_the_request() {
    let project = Project::start(Options::default()).await;
    let answer = project.track(json!([{ "eventName": "e" }])).await;
    assert_eq!(
        (answer.status, &answer.json()["code"]),
        (400, &json!("BadParams"))
    );
}

// Section 1.6

#[tokio::test]
async fn invalid_event_ids_are_rejected() {
    let project = Project::start(without_rate()).await;
    let longest = "x".repeat(512);
    let too_long = "x".repeat(513);
    for (id, status) in [
        ("-6518616552181726857", 200),
        ("7F9C0A52-8A4B-4E0C-9A65-1B0B4B1F2A3C", 200),
        (longest.as_str(), 200),
        (too_long.as_str(), 400),
        ("", 400),
        ("a:b", 400),
        ("a_b", 400),
        ("a.b", 400),
        ("a/b", 400),
        ("é", 400),
    ] {
        let answer = project
            .track(json!([{ "email": "a@example.com", "eventName": "e", "id": id }]))
            .await;
        assert_eq!(answer.status, status, "{id}");
        if status == 400 {
            assert_eq!(answer.json()["code"], "BadParams");
        }
    }
}

#[tokio::test]
async fn repeated_id_overwrites_event_of_another_user() {
    let project = Project::start(Options::default()).await;
    let first = json!({ "email": "a@example.com", "eventName": "one", "id": "x" });
    let second = json!({ "email": "b@example.com", "eventName": "two", "id": "x" });
    project
        .track(json!([first, event("c@example.com", "without id")]))
        .await;
    project.track(json!([second])).await;

    let stored = project.handle().event("x").expect("stored");
    assert_eq!((stored.writes, stored.event), (2, second));
    assert_eq!(project.handle().events().len(), 2);
    let summary = project.handle().summary();
    assert_eq!((summary.events.stored, summary.events.writes), (2, 3));
}

// Section 1.7

#[tokio::test]
async fn user_identifier_depends_on_project_type() {
    let both = json!({ "email": "known@example.com", "userId": "unknown", "eventName": "e" });
    let only_user_id = json!({ "userId": "known", "eventName": "e" });
    let only_email = json!({ "email": "known@example.com", "eventName": "e" });
    for (project_type, event, rejection) in [
        (ProjectType::Email, &both, None),
        (ProjectType::Hybrid, &both, None),
        (
            ProjectType::UserId,
            &both,
            Some(("notFoundUserIds", "unknown")),
        ),
        (ProjectType::Email, &only_user_id, None),
        (ProjectType::UserId, &only_user_id, None),
        (
            ProjectType::UserId,
            &only_email,
            Some(("notFoundEmails", "known@example.com")),
        ),
    ] {
        let project = Project::start(Options {
            project_type,
            known_users: listed(&["known@example.com", "known"]),
            ..Options::default()
        })
        .await;
        let answer = project.track(json!([event])).await.json();
        match rejection {
            None => assert_eq!(answer["successCount"], 1, "{project_type:?} {event}"),
            Some((list, user)) => assert_eq!(
                answer["failedUpdates"][list],
                json!([user]),
                "{project_type:?} {event}"
            ),
        }
    }
}

#[tokio::test]
async fn created_user_becomes_visible_after_delay() {
    let (time, clock) = manual_clock();
    let project = Project::start(Options {
        known_users: NO_USERS,
        user_visible_after: Duration::from_secs(60),
        clock,
        ..Options::default()
    })
    .await;
    let track = || project.track(json!([event("new@example.com", "e")]));
    assert_eq!(track().await.json()["failCount"], 1);
    let created = project
        .update(json!([{ "email": "New@example.com" }]))
        .await;
    assert_eq!(
        (created.status, &created.json()["successCount"]),
        (200, &json!(1))
    );
    assert_eq!(track().await.json()["failCount"], 1);
    time.advance(Duration::from_secs(60));
    assert_eq!(track().await.json()["successCount"], 1);
    assert_eq!(project.handle().users(), ["new@example.com"]);
}

#[tokio::test]
async fn bulk_update_lists_rejected_users() {
    let project = Project::start(Options {
        known_users: NO_USERS,
        forgotten_users: vec!["forgotten@example.com".into()],
        ..Options::default()
    })
    .await;
    let answer = project
        .update(json!([
            { "email": "a@example.com", "dataFields": { "n": 1 } },
            { "email": "000" },
            { "email": "forgotten@example.com" },
            { "userId": "unknown" },
            { "userId": "placeholder", "preferUserId": true },
        ]))
        .await;
    assert_eq!(
        answer.json(),
        json!({
            "successCount": 2,
            "failCount": 3,
            "filteredOutFields": [],
            "createdFields": [],
            "failedUpdates": {
                "invalidEmails": ["000"],
                "invalidUserIds": [],
                "notFoundEmails": [],
                "notFoundUserIds": ["unknown"],
                "forgottenEmails": ["forgotten@example.com"],
                "forgottenUserIds": [],
                "conflictEmails": [],
                "conflictUserIds": [],
                "invalidDataEmails": [],
                "invalidDataUserIds": [],
            },
        })
    );
    assert_eq!(project.handle().users(), ["a@example.com", "placeholder"]);
}

// Section 1.8

#[tokio::test]
async fn type_mismatch_rejects_request_in_recorded_form() {
    let project = Project::start(Options::default()).await;
    let with = |value: Value| json!({ "email": "a@example.com", "eventName": "e", "dataFields": { "signupDate": value } });
    project
        .track(json!([with(json!("2020-02-02 10:00:00 +00:00"))]))
        .await;
    let answer = project
        .track(json!([event("b@example.com", "e"), with(json!("GGG"))]))
        .await;
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.json(),
        json!({
            "msg": "Project 1: The request does not have the same data types as the data previously submitted. \
                    Field 'signupDate' already exists for type 'event' and has a data type of 'date' but possible \
                    types 'string, keyword' in the request.",
            "code": "RequestFieldsTypesMismatched",
            "params": { "validationErrors": { "signupDate": {
                "incomingTypes": ["string", "keyword"],
                "expectedType": "date",
                "category": "event",
                "offendingValue": "GGG",
                "_type": "UnexpectedType",
            } } },
        })
    );
    assert_eq!(project.handle().events().len(), 1);
}

#[tokio::test]
async fn first_value_sets_field_type_per_event_name() {
    let number = json!(1);
    let fraction = json!(1.5);
    let text = json!("1");
    let date = json!("2020-02-02 10:00:00 +00:00");
    let object = json!({ "a": 1 });
    for (first, then, status) in [
        (&number, &number, 200),
        (&number, &fraction, 400),
        (&fraction, &number, 200),
        (&number, &text, 400),
        (&text, &number, 400),
        (&text, &date, 200),
        (&text, &json!(true), 400),
        (&number, &json!([2, 3]), 200),
        (&object, &number, 400),
        (&object, &json!({ "a": "text" }), 400),
        (&object, &json!({ "b": "text" }), 200),
        (&number, &Value::Null, 200),
        (&Value::Null, &text, 200),
        (&json!({ "lat": 1, "lon": 2 }), &object, 400),
    ] {
        let project = Project::start(Options::default()).await;
        let with = |name: &str, value: &Value| json!([{ "email": "a@example.com", "eventName": name, "dataFields": { "field": value } }]);
        project.track(with("e", first)).await;
        assert_eq!(
            project.track(with("e", then)).await.status,
            status,
            "{first} then {then}"
        );
        assert_eq!(
            project.track(with("E", then)).await.status,
            200,
            "{then} in another event"
        );
    }
}

#[tokio::test]
async fn array_elements_have_one_type() {
    let project = Project::start(Options::default()).await;
    let with = |value: Value| json!([{ "email": "a@example.com", "eventName": "e", "dataFields": { "list": value } }]);
    assert_eq!(project.track(with(json!([1, "2"]))).await.status, 400);
    assert_eq!(project.track(with(json!([1, 2]))).await.status, 200);
    assert_eq!(project.track(with(json!(["1"]))).await.status, 400);
}

#[tokio::test]
async fn rejected_request_adds_no_types() {
    let project = Project::start(Options::default()).await;
    let with = |value: Value| json!({ "email": "a@example.com", "eventName": "e", "dataFields": { "new": value } });
    assert_eq!(
        project
            .track(json!([with(json!(1)), with(json!("text"))]))
            .await
            .status,
        400
    );
    assert_eq!(
        project.track(json!([with(json!("text"))])).await.status,
        200
    );
}

#[tokio::test]
async fn new_fields_are_filtered_out_when_not_allowed() {
    let project = Project::start(Options::default()).await;
    let with = |fields: Value| json!([{ "email": "a@example.com", "eventName": "e", "id": "x", "dataFields": fields, "createNewFields": false }]);
    project
        .track(json!([{ "email": "a@example.com", "eventName": "e", "dataFields": { "old": 1 } }]))
        .await;
    let answer = project
        .track(with(json!({ "old": 2, "new": 3 })))
        .await
        .json();
    assert_eq!(
        (&answer["successCount"], &answer["filteredOutFields"]),
        (&json!(1), &json!(["new"]))
    );
    let stored = project.handle().event("x").expect("stored");
    assert_eq!(stored.event["dataFields"], json!({ "old": 2 }));
}

// History

#[tokio::test]
async fn history_has_every_request_without_key() {
    let project = Project::start(Options::default()).await;
    let sent = json!({ "events": [event("a@example.com", "e")] });
    project.post(TRACK_BULK, sent.to_string()).await;
    project.post(TRACK_BULK, "{").await;

    let requests = project.handle().requests();
    let [good, bad] = requests.as_slice() else {
        panic!("two requests, not {requests:?}")
    };
    assert_eq!(
        (good.status, good.entries, &good.body),
        (Some(200), 1, &sent)
    );
    assert_eq!(good.bytes, sent.to_string().len());
    assert_eq!(good.headers["content-type"], "application/json");
    assert!(!good.headers.contains_key("api-key"));
    assert_eq!(
        (bad.status, bad.entries, &bad.body),
        (Some(400), 0, &Value::Null)
    );

    let counts = project.handle().summary().requests;
    assert_eq!(
        (counts.total, counts.bytes),
        (2, sent.to_string().len() as u64 + 1)
    );
    assert_eq!(
        counts.by_status,
        [("200".into(), 1), ("400".into(), 1)].into()
    );
    assert_eq!(counts.by_path, [(TRACK_BULK.into(), 2)].into());
}

#[tokio::test]
async fn counts_only_keeps_ids_and_counts() {
    let project = Project::start(Options {
        history: History::CountsOnly,
        ..Options::default()
    })
    .await;
    let sent = json!([{ "email": "a@example.com", "eventName": "e", "id": "x" }]);
    project.track(sent.clone()).await;
    project.track(sent).await;
    let stored = project.handle().event("x").expect("stored");
    assert_eq!((stored.writes, stored.event), (2, Value::Null));
    let request = &project.handle().requests()[0];
    assert_eq!(
        (request.entries, &request.body, request.headers.len()),
        (1, &Value::Null, 0)
    );
}

#[tokio::test]
async fn concurrent_clients_lose_no_event() {
    let project = Project::start(without_rate()).await;
    let posts = (0..50).map(|client| {
        let events: Vec<_> = (0..100)
            .map(|n| json!({ "email": "a@example.com", "eventName": "e", "id": format!("{client}-{n}") }))
            .collect();
        project.track(events.into())
    });
    for answer in futures::future::join_all(posts).await {
        assert_eq!(answer.json()["successCount"], 100);
    }
    let events = project.handle().summary().events;
    assert_eq!((events.stored, events.writes), (5_000, 5_000));
}
