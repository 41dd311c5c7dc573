//! What a run does on each answer that Iterable is known to give: one bad event, of Eve's, among
//! three.

use event_forwarder::drain::report::Outcome;
use event_forwarder_test_support::{
    iterable::{Fault, Match},
    sqs::Kind,
};
use futures::{StreamExt, stream};
use serde_json::{Value, json};

use crate::world::{Setting, World, batch};

on_each_server!(
    every_answer_has_its_consequence,
    every_list_of_user_ids_has_its_consequence,
);

/// What becomes of the three messages, and how the run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Consequence {
    /// All three were taken.
    AllTaken,
    /// Eve's event is in the dead-letter queue, the others were taken.
    DeadLetter,
    /// Eve's message is still in the queue, the others were taken.
    Stays,
    /// Nothing was taken, and everything is back in the queue.
    Ends(Outcome),
}
use Consequence::{AllTaken, DeadLetter, Ends, Stays};

const HTML: &str = "<html><body>Bad Gateway</body></html>";

fn code(code: &str) -> String {
    json!({"msg": "said", "code": code, "params": null}).to_string()
}

/// A list of `failedUpdates` with Eve in it, in another case than she was sent.
fn listed(name: &str) -> String {
    json!({"successCount": 2, "failCount": 1, "failedUpdates": {name: ["Eve@Example.com"]}})
        .to_string()
}

/// Lists of userIds with Eve in them, the reason that the report has for each, and what follows.
fn lists_of_user_ids() -> Vec<(Value, &'static str, Consequence)> {
    let in_updates = |name: &str| json!({"failedUpdates": {name: ["eve"]}});
    let doubled = json!({
        "failedUpdates": {"forgottenUserIds": ["eve"]}, "invalidUserIds": ["eve"],
    });
    vec![
        (in_updates("invalidUserIds"), "InvalidUserId", DeadLetter),
        (in_updates("notFoundUserIds"), "UserNotFound", Stays),
        (in_updates("forgottenUserIds"), "UserForgotten", DeadLetter),
        (in_updates("conflictUserIds"), "UserConflict", DeadLetter),
        (
            in_updates("invalidDataUserIds"),
            "InvalidUserData",
            DeadLetter,
        ),
        (
            in_updates("failedUserIds"),
            "RejectedByIterable",
            DeadLetter,
        ),
        (doubled, "UserForgotten", DeadLetter),
        // Beside failedUpdates the list means users that aren't found.
        (json!({"invalidUserIds": ["eve"]}), "UserNotFound", Stays),
    ]
}

/// Answers to the first request alone: what is sent again is taken.
fn answers_once() -> Vec<(u16, String, Consequence)> {
    let doubles = json!({
        "successCount": 2, "failCount": 1, "invalidEmails": ["eve@example.com"],
        "failedUpdates": {"invalidEmails": ["eve@example.com"]},
    });
    let disallowed =
        json!({"successCount": 2, "failCount": 1, "disallowedEventNames": ["Culprit"]});
    let fields = json!({
        "successCount": 3, "failCount": 0, "filteredOutFields": ["n"], "createdFields": ["m"],
        "failedUpdates": {"invalidEmails": []}, "somethingNew": {"a": [1, null]},
    });
    vec![
        (200, json!({"successCount": 3}).to_string(), AllTaken),
        (200, fields.to_string(), AllTaken),
        (200, listed("invalidEmails"), DeadLetter),
        (200, listed("notFoundEmails"), Stays),
        (200, listed("forgottenEmails"), DeadLetter),
        (200, listed("conflictEmails"), DeadLetter),
        (200, listed("invalidDataEmails"), DeadLetter),
        (200, listed("failedEmails"), DeadLetter),
        (200, doubles.to_string(), DeadLetter),
        (200, disallowed.to_string(), DeadLetter),
        // Counted, and not named: sent again in halves.
        (
            200,
            json!({"successCount": 2, "failCount": 1}).to_string(),
            AllTaken,
        ),
        (200, listed("notFoundUserIds"), AllTaken),
        // No proof that anything was taken: sent again.
        (200, code("Success"), AllTaken),
        (200, HTML.to_owned(), AllTaken),
        (200, String::new(), AllTaken),
        (400, code("BatchTooLarge"), AllTaken),
        (413, HTML.to_owned(), AllTaken),
        (408, String::new(), AllTaken),
        (429, code("RateLimitExceeded"), AllTaken),
        (500, code("DatabaseError"), AllTaken),
        (500, code("GenericError"), AllTaken),
        (500, code("QueueEmailError"), AllTaken),
        (500, code("Success"), AllTaken),
        (502, HTML.to_owned(), AllTaken),
        (503, HTML.to_owned(), AllTaken),
        (504, String::new(), AllTaken),
    ]
}

/// Answers to every request that holds Eve's event.
fn answers_to_eve() -> Vec<(u16, String, Consequence)> {
    let whole = |status, name| (status, code(name), DeadLetter);
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
    .map(|name| whole(400, name))
    .into();
    answers.extend(
        ["ExternalKeyConflict", "ForgottenUserError", "Conflict"].map(|name| whole(409, name)),
    );
    answers.extend([
        (400, code("UnknownEmailError"), Stays),
        (400, code("UnknownUserIdError"), Stays),
        // Who refuses without a code may be a proxy.
        (400, HTML.to_owned(), Stays),
        (400, String::new(), Stays),
        (413, HTML.to_owned(), DeadLetter),
        (
            200,
            json!({"successCount": 0, "failCount": 1}).to_string(),
            DeadLetter,
        ),
        (
            200,
            json!({"successCount": 0, "failCount": 0}).to_string(),
            Stays,
        ),
    ]);
    answers
}

/// Answers to every request.
fn answers_to_all() -> Vec<(u16, String, Consequence)> {
    let refused = |status, body| (status, body, Ends(Outcome::ApiKeyRejected));
    vec![
        refused(401, code("BadApiKey")),
        refused(401, code("BadAuthorizationHeader")),
        refused(401, code("Unauthorized")),
        refused(401, code("InvalidJwtPayload")),
        refused(400, code("InvalidJwtPayload")),
        refused(401, HTML.to_owned()),
        refused(403, code("Forbidden")),
        refused(403, code("ForbiddenParamsError")),
        refused(403, code("Success")),
        refused(403, String::new()),
        (404, code("NotFound"), Ends(Outcome::BadConfiguration)),
        (301, String::new(), Ends(Outcome::BadConfiguration)),
        (405, HTML.to_owned(), Ends(Outcome::BadConfiguration)),
        (503, HTML.to_owned(), Ends(Outcome::SinkDown)),
        (200, HTML.to_owned(), Ends(Outcome::SinkDown)),
    ]
}

/// What follows from an answer, and the first reason in the report. `eve` is how her batch names
/// her.
async fn consequence(setting: Setting, eve: &str, fault: Fault) -> (Consequence, Option<String>) {
    let world = World::new(setting).await;
    let bodies = [
        batch("ada@example.com", [("Viewed", json!({"n": 1}))]),
        batch("bob@example.com", [("Viewed", json!({"n": 2}))]),
        batch(eve, [("Culprit", json!({"n": 3}))]),
    ];
    world.queue.send(&bodies).await.unwrap();
    world.iterable.handle.add_fault(fault);
    let report = world.drain().await;
    let depth = world.queue.depth().await.unwrap();
    let dead = world.queue.dlq_depth().await.unwrap().visible;
    let (deleted, left) = (report.messages.deleted, depth.visible + depth.in_flight);
    let reason = report.reasons.first().map(|one| one.reason.clone());
    let consequence = match (report.outcome, deleted, left, dead) {
        (Outcome::Drained, 3, 0, 0) => AllTaken,
        (Outcome::Drained, 3, 0, 1) => DeadLetter,
        (Outcome::Drained, 2, 1, 0) => Stays,
        (outcome, 0, 3, 0) if depth.in_flight == 0 => Ends(outcome),
        _ => panic!("{report:?} {depth:?} {dead}"),
    };
    (consequence, reason)
}

async fn every_answer_has_its_consequence(kind: Kind) {
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
            let fault = Fault::answer(status, body.clone()).when(Match::event_name("Culprit"));
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
    .map(|fault| (0, "no answer".to_owned(), AllTaken, fault.times(1)));
    let found: Vec<_> = stream::iter(once.chain(to_eve).chain(to_all).chain(broken))
        .map(async |(status, body, expected, fault)| {
            let (found, _) = consequence(Setting::on(kind), "eve@example.com", fault).await;
            (status, body, expected, found)
        })
        .buffer_unordered(8)
        .collect()
        .await;
    for (status, body, expected, found) in found {
        assert_eq!(found, expected, "{status} {body}");
    }
}

async fn every_list_of_user_ids_has_its_consequence(kind: Kind) {
    // In a hybrid project a user has a userId alone if the batch has no address.
    let projects = [("UserId", "eve@example.com"), ("Hybrid", "eve")];
    let cases = projects.into_iter().flat_map(|(project, eve)| {
        lists_of_user_ids()
            .into_iter()
            .map(move |(lists, reason, expected)| (project, eve, lists, reason, expected))
    });
    let found: Vec<_> = stream::iter(cases)
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
            let found = consequence(setting, eve, fault).await;
            (project, lists, (expected, Some(reason.to_owned())), found)
        })
        .buffer_unordered(8)
        .collect()
        .await;
    for (project, lists, expected, found) in found {
        assert_eq!(found, expected, "{project} {lists}");
    }
}
