//! The result of a run for every known answer of Iterable. One of three events, Eve's, is invalid.

use event_forwarder::drain::report::Outcome;
use event_forwarder_test_support::{
    iterable::{Fault, Match},
    sqs::Kind,
};
use futures::{StreamExt, stream};
use serde_json::{Value, json};

use crate::world::{Setting, World, batch};

on_each_server!(
    every_answer_has_the_expected_result,
    every_user_id_list_has_the_expected_result,
);

/// The result for the three messages, and the outcome of the run if it ends early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TestResult {
    /// All three events are accepted.
    AllAccepted,
    /// Eve's event is in the dead-letter queue; the others are accepted.
    DeadLettered,
    /// Eve's message is still in the queue; the others are accepted.
    Released,
    /// No event is accepted, and all messages are visible in the queue.
    RunEnds(Outcome),
}
use TestResult::{AllAccepted, DeadLettered, Released, RunEnds};

const HTML: &str = "<html><body>Bad Gateway</body></html>";

fn code(code: &str) -> String {
    json!({"msg": "message", "code": code, "params": null}).to_string()
}

/// Returns an answer with Eve in a list of `failedUpdates`, in another case than sent.
fn listed(name: &str) -> String {
    json!({"successCount": 2, "failCount": 1, "failedUpdates": {name: ["Eve@Example.com"]}})
        .to_string()
}

/// Returns lists of userIds that contain Eve, each with the reason in the report and the result.
fn lists_of_user_ids() -> Vec<(Value, &'static str, TestResult)> {
    let failed_update = |name: &str| json!({"failedUpdates": {name: ["eve"]}});
    let deprecated = json!({
        "failedUpdates": {"forgottenUserIds": ["eve"]}, "invalidUserIds": ["eve"],
    });
    vec![
        (
            failed_update("invalidUserIds"),
            "InvalidUserId",
            DeadLettered,
        ),
        (failed_update("notFoundUserIds"), "UserNotFound", Released),
        (
            failed_update("forgottenUserIds"),
            "UserForgotten",
            DeadLettered,
        ),
        (
            failed_update("conflictUserIds"),
            "UserConflict",
            DeadLettered,
        ),
        (
            failed_update("invalidDataUserIds"),
            "InvalidUserData",
            DeadLettered,
        ),
        (
            failed_update("failedUserIds"),
            "RejectedByIterable",
            DeadLettered,
        ),
        (deprecated, "UserForgotten", DeadLettered),
        // Outside failedUpdates, the list contains users that were not found.
        (json!({"invalidUserIds": ["eve"]}), "UserNotFound", Released),
    ]
}

/// Returns answers to the first request only; retries are accepted.
fn answers_once() -> Vec<(u16, String, TestResult)> {
    let deprecated = json!({
        "successCount": 2, "failCount": 1, "invalidEmails": ["eve@example.com"],
        "failedUpdates": {"invalidEmails": ["eve@example.com"]},
    });
    let disallowed =
        json!({"successCount": 2, "failCount": 1, "disallowedEventNames": ["Offending"]});
    let fields = json!({
        "successCount": 3, "failCount": 0, "filteredOutFields": ["n"], "createdFields": ["m"],
        "failedUpdates": {"invalidEmails": []}, "somethingNew": {"a": [1, null]},
    });
    vec![
        (200, json!({"successCount": 3}).to_string(), AllAccepted),
        (200, fields.to_string(), AllAccepted),
        (200, listed("invalidEmails"), DeadLettered),
        (200, listed("notFoundEmails"), Released),
        (200, listed("forgottenEmails"), DeadLettered),
        (200, listed("conflictEmails"), DeadLettered),
        (200, listed("invalidDataEmails"), DeadLettered),
        (200, listed("failedEmails"), DeadLettered),
        (200, deprecated.to_string(), DeadLettered),
        (200, disallowed.to_string(), DeadLettered),
        // Counted but not listed: retried in halves.
        (
            200,
            json!({"successCount": 2, "failCount": 1}).to_string(),
            AllAccepted,
        ),
        (200, listed("notFoundUserIds"), AllAccepted),
        // No proof that Iterable accepted anything: retried.
        (200, code("Success"), AllAccepted),
        (200, HTML.to_owned(), AllAccepted),
        (200, String::new(), AllAccepted),
        (400, code("BatchTooLarge"), AllAccepted),
        (413, HTML.to_owned(), AllAccepted),
        (408, String::new(), AllAccepted),
        (429, code("RateLimitExceeded"), AllAccepted),
        (500, code("DatabaseError"), AllAccepted),
        (500, code("GenericError"), AllAccepted),
        (500, code("QueueEmailError"), AllAccepted),
        (500, code("Success"), AllAccepted),
        (502, HTML.to_owned(), AllAccepted),
        (503, HTML.to_owned(), AllAccepted),
        (504, String::new(), AllAccepted),
    ]
}

/// Returns answers to every request with Eve's event.
fn answers_to_eve() -> Vec<(u16, String, TestResult)> {
    let rejected = |status, name| (status, code(name), DeadLettered);
    let mut answers: Vec<_> = [
        "BadJsonBody",
        "BadParams",
        "InvalidEmailAddressError",
        "InvalidUserIdError",
        "RequestFieldsTypesMismatched",
        "UniqueFieldsLimitExceeded",
        "ForgottenUserError",
        "BatchTooLarge",
    ]
    .map(|name| rejected(400, name))
    .into();
    answers.extend(
        ["ExternalKeyConflict", "ForgottenUserError", "Conflict"].map(|name| rejected(409, name)),
    );
    answers.extend([
        (400, code("UnknownEmailError"), Released),
        (400, code("UnknownUserIdError"), Released),
        // A rejection without a code can come from a proxy.
        (400, HTML.to_owned(), Released),
        (400, String::new(), Released),
        (413, HTML.to_owned(), DeadLettered),
        (
            200,
            json!({"successCount": 0, "failCount": 1}).to_string(),
            DeadLettered,
        ),
        (
            200,
            json!({"successCount": 0, "failCount": 0}).to_string(),
            Released,
        ),
    ]);
    answers
}

/// Returns answers to every request.
fn answers_to_all() -> Vec<(u16, String, TestResult)> {
    let key_rejected = |status, body| (status, body, RunEnds(Outcome::ApiKeyRejected));
    vec![
        key_rejected(401, code("BadApiKey")),
        key_rejected(401, code("BadAuthorizationHeader")),
        key_rejected(401, code("Unauthorized")),
        key_rejected(401, code("InvalidJwtPayload")),
        key_rejected(400, code("InvalidJwtPayload")),
        key_rejected(401, HTML.to_owned()),
        key_rejected(403, code("Forbidden")),
        key_rejected(403, code("ForbiddenParamsError")),
        key_rejected(403, code("Success")),
        key_rejected(403, String::new()),
        (404, code("NotFound"), RunEnds(Outcome::BadConfiguration)),
        (301, String::new(), RunEnds(Outcome::BadConfiguration)),
        (405, HTML.to_owned(), RunEnds(Outcome::BadConfiguration)),
        (503, HTML.to_owned(), RunEnds(Outcome::SinkDown)),
        (200, HTML.to_owned(), RunEnds(Outcome::SinkDown)),
    ]
}

/// Runs with a fault, and returns the result and the first reason in the report. `eve` is the
/// identifier in Eve's batch.
async fn run_with_fault(setting: Setting, eve: &str, fault: Fault) -> (TestResult, Option<String>) {
    let world = World::new(setting).await;
    let bodies = [
        batch("ada@example.com", [("Viewed", json!({"n": 1}))]),
        batch("bob@example.com", [("Viewed", json!({"n": 2}))]),
        batch(eve, [("Offending", json!({"n": 3}))]),
    ];
    world.queue.send(&bodies).await.unwrap();
    world.iterable.handle.add_fault(fault);
    let report = world.drain().await;
    let depth = world.queue.depth().await.unwrap();
    let dead = world.queue.dlq_depth().await.unwrap().visible;
    let (deleted, left) = (report.messages.deleted, depth.visible + depth.in_flight);
    let reason = report.reasons.first().map(|reason| reason.reason.clone());
    let result = match (report.outcome, deleted, left, dead) {
        (Outcome::Drained, 3, 0, 0) => AllAccepted,
        (Outcome::Drained, 3, 0, 1) => DeadLettered,
        (Outcome::Drained, 2, 1, 0) => Released,
        (outcome, 0, 3, 0) if depth.in_flight == 0 => RunEnds(outcome),
        _ => panic!("{report:?} {depth:?} {dead}"),
    };
    (result, reason)
}

async fn every_answer_has_the_expected_result(kind: Kind) {
    let once = answers_once().into_iter().map(|(status, body, expected)| {
        (
            status,
            body.clone(),
            expected,
            Fault::answer(status, body).times(1),
        )
    });
    let to_eve = answers_to_eve()
        .into_iter()
        .map(|(status, body, expected)| {
            let fault = Fault::answer(status, body.clone()).when(Match::event_name("Offending"));
            (status, body, expected, fault)
        });
    let to_all = answers_to_all()
        .into_iter()
        .map(|(status, body, expected)| {
            (status, body.clone(), expected, Fault::answer(status, body))
        });
    let broken = [
        Fault::cut(),
        Fault::reset(),
        Fault::truncated(),
        Fault::cut().stored(),
    ]
    .map(|fault| (0, "no answer".to_owned(), AllAccepted, fault.times(1)));
    let results: Vec<_> = stream::iter(once.chain(to_eve).chain(to_all).chain(broken))
        .map(async |(status, body, expected, fault)| {
            let (result, _) = run_with_fault(Setting::on(kind), "eve@example.com", fault).await;
            (status, body, expected, result)
        })
        .buffer_unordered(8)
        .collect()
        .await;
    for (status, body, expected, result) in results {
        assert_eq!(result, expected, "{status} {body}");
    }
}

async fn every_user_id_list_has_the_expected_result(kind: Kind) {
    // In a hybrid project, a user has only a userId if the batch has no email.
    let projects = [("UserId", "eve@example.com"), ("Hybrid", "eve")];
    let cases = projects.into_iter().flat_map(|(project, eve)| {
        lists_of_user_ids()
            .into_iter()
            .map(move |(lists, reason, expected)| (project, eve, lists, reason, expected))
    });
    let results: Vec<_> = stream::iter(cases)
        .map(async |(project, eve, lists, reason, expected)| {
            let mut body = json!({"successCount": 2, "failCount": 1});
            body.as_object_mut()
                .unwrap()
                .extend(lists.as_object().unwrap().clone());
            let setting = Setting {
                project: json!({"projectType": project}),
                ..Setting::on(kind)
            };
            let fault = Fault::answer(200, body.to_string()).times(1);
            let result = run_with_fault(setting, eve, fault).await;
            (project, lists, (expected, Some(reason.to_owned())), result)
        })
        .buffer_unordered(8)
        .collect()
        .await;
    for (project, lists, expected, result) in results {
        assert_eq!(result, expected, "{project} {lists}");
    }
}
