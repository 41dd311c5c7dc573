//! What a run does on each answer that Iterable is known to give: one bad event, of Eve's, among
//! three.

use event_forwarder::drain::report::Outcome;
use event_forwarder_test_support::{
    iterable::{Fault, Match},
    sqs::Kind,
};
use futures::{StreamExt, stream};
use serde_json::json;

use crate::world::{Setting, World, batch};

on_each_server!(every_answer_has_its_consequence);

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
    let refused = |status, body| (status, body, Ends(Outcome::KeyRefused));
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

async fn consequence(kind: Kind, fault: Fault) -> Consequence {
    let world = World::new(Setting::on(kind)).await;
    let bodies = [
        batch("ada@example.com", [("Viewed", json!({"n": 1}))]),
        batch("bob@example.com", [("Viewed", json!({"n": 2}))]),
        batch("eve@example.com", [("Culprit", json!({"n": 3}))]),
    ];
    world.queue.send(&bodies).await.unwrap();
    world.iterable.handle.add_fault(fault);
    let report = world.drain().await;
    let depth = world.queue.depth().await.unwrap();
    let dead = world.queue.dlq_depth().await.unwrap().visible;
    let (deleted, left) = (report.messages.deleted, depth.visible + depth.in_flight);
    match (report.outcome, deleted, left, dead) {
        (Outcome::Drained, 3, 0, 0) => AllTaken,
        (Outcome::Drained, 3, 0, 1) => DeadLetter,
        (Outcome::Drained, 2, 1, 0) => Stays,
        (outcome, 0, 3, 0) if depth.in_flight == 0 => Ends(outcome),
        _ => panic!("{report:?} {depth:?} {dead}"),
    }
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
            (status, body, expected, consequence(kind, fault).await)
        })
        .buffer_unordered(8)
        .collect()
        .await;
    for (status, body, expected, found) in found {
        assert_eq!(found, expected, "{status} {body}");
    }
}
