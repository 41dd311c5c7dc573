//! Every fault of the fake Iterable server, and its admin API.

mod common;

use std::time::{Duration, Instant};

use common::{BULK_UPDATE, Project, TRACK_BULK, send};
use event_forwarder_test_support::iterable::{Answer, Fault, Match, Options};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

async fn project() -> Project {
    Project::start(Options::default()).await
}

fn one_event(name: &str, id: &str) -> Value {
    json!([{ "email": "a@example.com", "eventName": name, "id": id, "dataFields": { format!("of {name}"): 1 } }])
}

/// Posts one event on a new connection, and reads until the connection ends.
async fn post_raw(project: &Project) -> std::io::Result<String> {
    let body = json!({ "events": one_event("e", "x") }).to_string();
    let address = project.url("");
    let mut stream = TcpStream::connect(address.trim_start_matches("http://")).await?;
    let head = format!(
        "POST {TRACK_BULK} HTTP/1.1\r\nhost: test\r\napi-key: test-key\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn canned_answer_repeats_as_configured_and_stores_nothing() {
    let project = project().await;
    project.handle().add_fault(
        Fault::answer(503, "<html>busy</html>")
            .header("Retry-After", "7")
            .times(2),
    );
    for _ in 0..2 {
        let answer = project.track(one_event("e", "x")).await;
        assert_eq!(
            (answer.status, answer.text.as_str()),
            (503, "<html>busy</html>")
        );
        assert_eq!(answer.retry_after.as_deref(), Some("7"));
    }
    assert_eq!(project.handle().summary().events.stored, 0);
    assert_eq!(project.track(one_event("e", "x")).await.status, 200);
    assert_eq!(project.handle().summary().faults, 0);
}

#[tokio::test]
async fn canned_answer_can_be_empty_or_contradictory() {
    let project = project().await;
    let success = json!({ "msg": "", "code": "Success", "params": null });
    project.handle().add_fault(Fault::answer(500, "").times(1));
    project
        .handle()
        .add_fault(Fault::answer(400, success.to_string()).times(1));
    let empty = project.track(one_event("e", "x")).await;
    assert_eq!((empty.status, empty.text.as_str()), (500, ""));
    let answer = project.track(one_event("e", "x")).await;
    assert_eq!((answer.status, answer.json()), (400, success));
}

#[tokio::test]
async fn stored_request_takes_effect_regardless_of_answer() {
    let project = project().await;
    project
        .handle()
        .add_fault(Fault::answer(504, "").stored().times(1));
    assert_eq!(project.track(one_event("e", "x")).await.status, 504);
    assert_eq!(project.handle().event("x").expect("stored").writes, 1);
    assert_eq!(project.handle().requests()[0].status, Some(504));
}

#[tokio::test]
async fn faults_without_count_last_until_cleared() {
    let project = project().await;
    project.handle().add_fault(Fault::answer(500, ""));
    for _ in 0..5 {
        assert_eq!(project.track(json!([])).await.status, 500);
    }
    project.handle().clear_faults();
    assert_eq!(project.track(json!([])).await.status, 200);
}

#[tokio::test]
async fn fault_applies_only_to_matching_requests() {
    for (when, hit, missed) in [
        (
            Match::event_name("bad"),
            one_event("bad", "x"),
            one_event("good", "x"),
        ),
        (Match::id("y"), one_event("e", "y"), one_event("e", "x")),
        (
            Match::data_field("of bad"),
            one_event("bad", "x"),
            one_event("good", "x"),
        ),
        (
            Match::user("b@example.com"),
            json!([{ "email": "b@example.com", "eventName": "e" }]),
            one_event("e", "x"),
        ),
    ] {
        let project = project().await;
        project
            .handle()
            .add_fault(Fault::answer(400, "").when(when.clone()));
        assert_eq!(project.track(missed).await.status, 200, "{when:?}");
        assert_eq!(project.track(hit).await.status, 400, "{when:?}");
    }
    let project = project().await;
    project
        .handle()
        .add_fault(Fault::answer(400, "").when(Match::path(BULK_UPDATE)));
    assert_eq!(project.track(json!([])).await.status, 200);
    assert_eq!(project.update(json!([])).await.status, 400);
}

#[tokio::test]
async fn cut_closes_and_reset_aborts_the_connection() {
    let project = project().await;
    project.handle().add_fault(Fault::cut().times(1));
    assert_eq!(post_raw(&project).await.expect("an orderly end"), "");
    assert_eq!(project.handle().summary().events.stored, 0);

    project.handle().add_fault(Fault::cut().stored().times(1));
    assert_eq!(post_raw(&project).await.expect("an orderly end"), "");
    assert_eq!(project.handle().summary().events.stored, 1);

    project.handle().add_fault(Fault::reset().times(1));
    let error = post_raw(&project).await.expect_err("a reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let by_status = project.handle().summary().requests.by_status;
    assert_eq!(by_status, [("none".into(), 3)].into());
}

#[tokio::test]
async fn unanswered_request_can_be_stored() {
    let project = project().await;
    project.handle().add_fault(Fault::never().stored().times(1));
    let request = send(project.request(
        TRACK_BULK,
        json!({ "events": one_event("e", "x") }).to_string(),
    ));
    tokio::select! {
        answer = request => panic!("{answer:?}"),
        summary = project.handle().until(|summary| summary.requests.total == 1) => {
            assert_eq!(summary.events.stored, 1);
        }
    }
}

#[tokio::test]
async fn delay_postpones_the_answer() {
    let project = project().await;
    project
        .handle()
        .add_fault(Fault::delay(Duration::from_millis(50)).times(1));
    let started = Instant::now();
    assert_eq!(project.track(one_event("e", "x")).await.status, 200);
    assert!(started.elapsed() >= Duration::from_millis(50));
}

#[tokio::test]
async fn latency_delays_every_answer() {
    let project = Project::start(Options {
        latency: Duration::from_millis(30),
        ..Options::default()
    })
    .await;
    let started = Instant::now();
    project.track(json!([])).await;
    assert!(started.elapsed() >= Duration::from_millis(30));
}

#[tokio::test]
async fn slow_answer_is_complete() {
    let project = project().await;
    project
        .handle()
        .add_fault(Fault::slow(100, Duration::from_millis(5)).times(1));
    let answer = project.track(one_event("e", "x")).await;
    assert_eq!(
        (answer.status, &answer.json()["successCount"]),
        (200, &json!(1))
    );
}

#[tokio::test]
async fn truncated_answer_is_shorter_than_its_content_length() {
    let project = project().await;
    project.handle().add_fault(Fault::truncated().times(2));
    let request = project.request(
        TRACK_BULK,
        json!({ "events": one_event("e", "x") }).to_string(),
    );
    let response = request.send().await.expect("a head");
    assert_eq!(response.status(), 200);
    assert!(response.text().await.is_err());
    let answer = post_raw(&project).await.expect("an orderly end");
    assert!(
        answer.contains("createdFields") && !answer.ends_with('}'),
        "{answer}"
    );
    assert_eq!(project.handle().event("x").expect("stored").writes, 2);
}

#[tokio::test]
async fn gate_holds_requests_until_it_opens() {
    let project = project().await;
    let gate = project.handle().gate("door");
    project.handle().add_fault(Fault::hold("door"));
    let requests = futures::future::join_all([
        project.track(one_event("e", "x")),
        project.track(one_event("e", "y")),
    ]);
    tokio::pin!(requests);
    tokio::select! {
        answers = &mut requests => panic!("{answers:?}"),
        () = gate.until_held(2) => {}
    }
    assert_eq!(project.handle().summary().events.stored, 0);
    gate.open();
    for answer in requests.await {
        assert_eq!(answer.status, 200);
    }
    assert_eq!(
        (gate.held(), project.handle().summary().events.stored),
        (0, 2)
    );
    assert_eq!(project.track(json!([])).await.status, 200);
}

#[tokio::test]
async fn gate_forgets_request_when_client_disconnects() {
    let project = project().await;
    let gate = project.handle().gate("door");
    project.handle().add_fault(Fault::hold("door"));
    let request = project.track(json!([]));
    tokio::select! {
        answer = request => panic!("{answer:?}"),
        () = gate.until_held(1) => {}
    }
    timeout(Duration::from_secs(10), async {
        while gate.held() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the gate holds no request");
}

#[tokio::test]
async fn connections_are_counted() {
    let project = project().await;
    project.track(json!([])).await;
    project.track(json!([])).await;
    assert_eq!(project.handle().summary().connections, 1);
}

// Admin API

async fn admin(
    project: &Project,
    method: reqwest::Method,
    path: &str,
    body: Value,
) -> (u16, Value) {
    let request = project.http.request(method, project.url(path)).json(&body);
    let answer = send(request).await.expect("an answer");
    (
        answer.status,
        serde_json::from_str(&answer.text).unwrap_or(Value::Null),
    )
}

#[tokio::test]
async fn admin_api_returns_events_and_requests() {
    let project = project().await;
    project.track(one_event("a", "1")).await;
    project.track(one_event("b", "2")).await;
    let get = |path: &'static str| admin(&project, reqwest::Method::GET, path, Value::Null);

    let (_, events) = get("/_admin/events?name=b").await;
    assert_eq!(
        events,
        json!([{ "id": "2", "writes": 1, "event": one_event("b", "2")[0] }])
    );
    for (path, count) in [
        ("/_admin/events", 2),
        ("/_admin/events?limit=1", 1),
        ("/_admin/events?id=1", 1),
        ("/_admin/events?user=a@example.com", 2),
        ("/_admin/events?user=nobody", 0),
        ("/_admin/requests", 2),
        ("/_admin/requests?limit=1", 1),
    ] {
        let (_, list) = get(path).await;
        assert_eq!(list.as_array().map(Vec::len), Some(count), "{path}");
    }
    let (_, latest) = get("/_admin/requests?limit=1").await;
    assert_eq!(latest[0]["body"], json!({ "events": one_event("b", "2") }));
    let (_, summary) = get("/_admin/summary").await;
    assert_eq!(summary["events"], json!({ "stored": 2, "writes": 2 }));
    assert_eq!(summary["requests"]["byStatus"], json!({ "200": 2 }));
}

#[tokio::test]
async fn admin_api_adds_and_clears_faults() {
    let project = project().await;
    let fault = json!({
        "when": { "eventName": "bad" },
        "times": 3,
        "stored": true,
        "delayMs": 1,
        "answer": { "canned": { "status": 502, "body": "<html>" } },
    });
    assert_eq!(
        admin(&project, reqwest::Method::POST, "/_admin/faults", fault)
            .await
            .0,
        204
    );
    assert_eq!(
        project.handle().faults(),
        [Fault::answer(502, "<html>")
            .when(Match::event_name("bad"))
            .times(3)
            .stored()
            .delayed(Duration::from_millis(1))]
    );
    assert_eq!(project.track(one_event("bad", "x")).await.status, 502);
    assert_eq!(
        admin(
            &project,
            reqwest::Method::DELETE,
            "/_admin/faults",
            Value::Null
        )
        .await
        .0,
        204
    );
    assert_eq!(project.track(one_event("bad", "x")).await.status, 200);

    for (answer, expected) in [
        (json!("cut"), Answer::Cut),
        (json!("reset"), Answer::Reset),
        (json!("never"), Answer::Never),
        (json!("truncated"), Answer::Truncated),
        (
            json!({ "slow": { "pieceBytes": 1, "pauseMs": 2 } }),
            Answer::Slow {
                piece_bytes: 1,
                pause_ms: 2,
            },
        ),
    ] {
        assert_eq!(
            serde_json::from_value::<Answer>(answer).expect("an answer"),
            expected
        );
    }
    let (status, _) = admin(
        &project,
        reqwest::Method::POST,
        "/_admin/faults",
        json!({ "whne": {} }),
    )
    .await;
    assert_eq!(status, 422);
}

#[tokio::test]
async fn admin_api_opens_gates() {
    let project = project().await;
    let gate = project.handle().gate("door");
    let fault = json!({ "gate": "door", "times": 1 });
    admin(&project, reqwest::Method::POST, "/_admin/faults", fault).await;
    let opened = async {
        gate.until_held(1).await;
        admin(
            &project,
            reqwest::Method::POST,
            "/_admin/gates/door",
            Value::Null,
        )
        .await
    };
    let (answer, (status, _)) = tokio::join!(project.track(json!([])), opened);
    assert_eq!((answer.status, status), (200, 204));
}

#[tokio::test]
async fn admin_api_changes_users_and_resets() {
    let project = Project::start(Options {
        known_users: event_forwarder_test_support::iterable::KnownUsers::None,
        ..Options::default()
    })
    .await;
    let changes = json!({ "known": ["a@example.com"], "forgotten": ["b@example.com"], "disallowedEventNames": ["off"] });
    admin(&project, reqwest::Method::POST, "/_admin/users", changes).await;
    let (_, users) = admin(&project, reqwest::Method::GET, "/_admin/users", Value::Null).await;
    assert_eq!(users, json!(["a@example.com"]));
    let event = |email: &str, name: &str| json!({ "email": email, "eventName": name });
    let events = json!([
        event("a@example.com", "e"),
        event("b@example.com", "e"),
        event("a@example.com", "off")
    ]);
    let answer = project.track(events).await.json();
    assert_eq!(answer["successCount"], 1);
    assert_eq!(
        answer["failedUpdates"]["forgottenEmails"],
        json!(["b@example.com"])
    );
    assert_eq!(answer["disallowedEventNames"], json!(["off"]));

    admin(
        &project,
        reqwest::Method::POST,
        "/_admin/reset",
        Value::Null,
    )
    .await;
    let summary = project.handle().summary();
    assert_eq!((summary.events.stored, summary.requests.total), (0, 0));
    assert_eq!(project.handle().users(), Vec::<String>::new());
}
