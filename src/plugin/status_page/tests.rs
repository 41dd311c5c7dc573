use serde_json::{Value, json};

use super::*;

const NOW: &str = "2026-01-05T10:00:00Z";

fn forwarder(spec: Value, status: Value) -> EventForwarder {
    let mut all = json!({
        "schedule": "30 6 * * *",
        "timeZone": "Europe/Berlin",
        "queue": {"url": "https://sqs.us-east-1.amazonaws.com/1/q"},
        "iterable": {"apiKeySecretRef": {"name": "iterable"}},
    });
    for (key, value) in spec.as_object().expect("an object") {
        all[key] = value.clone();
    }
    serde_json::from_value(json!({
        "apiVersion": "eventforwarder.io/v1alpha1", "kind": "EventForwarder",
        "metadata": {"name": "mparticle", "namespace": "marketing", "generation": 2},
        "spec": all, "status": status,
    }))
    .expect("a forwarder")
}

fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({
        "type": type_, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": "2026-01-05T08:00:00Z",
    })
}

fn shown(forwarder: &EventForwarder, letters: &DeadLetterSummary) -> String {
    let page = page(forwarder, letters, NOW.parse().expect("a time"));
    anstream::adapter::strip_str(&page).to_string()
}

#[test]
fn a_healthy_forwarder_is_told_in_one_page() {
    let healthy = forwarder(
        json!({}),
        json!({
            "observedGeneration": 2,
            "conditions": [
                condition("Ready", "True", "Ready", "EventForwarder is ready"),
                condition("SecretsAvailable", "True", "SecretsFound", "All referenced Secrets and keys exist"),
                condition("LastRunSucceeded", "True", "Drained", "Job m-1: 2000 events forwarded"),
            ],
            "queue": {"visible": 1200, "inFlight": 3, "delayed": 0, "deadLetters": 0, "observedAt": "2026-01-05T09:58:00Z"},
            "lastRun": {
                "jobName": "m-1", "outcome": "Drained",
                "startedAt": "2026-01-05T09:00:00Z", "finishedAt": "2026-01-05T09:00:14Z",
                "messages": {"received": 300, "deleted": 300},
                "events": {"forwarded": 2000, "skipped": 3},
                "requests": {"sqs": 64, "iterable": 2},
            },
            "recentRuns": [{
                "jobName": "m-1", "outcome": "Drained", "forwarded": 2000,
                "startedAt": "2026-01-05T09:00:00Z", "finishedAt": "2026-01-05T09:00:14Z",
            }],
            "totals": {"runs": 12, "failedRuns": 1, "messagesDeleted": 3000, "forwarded": 21000, "skipped": 40, "rejected": 2},
            "nextRunTime": "2026-01-06T05:30:00Z",
        }),
    );
    assert_eq!(
        shown(&healthy, &DeadLetterSummary::None),
        "\
✔ marketing/mparticle is ready

  ✔ SecretsAvailable  SecretsFound  for 2h
  ✔ LastRunSucceeded  Drained       for 2h

Schedule      30 6 * * * in Europe/Berlin
Next run      in 19h30m, 2026-01-06 06:30 CET (05:30 UTC)
Queue         https://sqs.us-east-1.amazonaws.com/1/q
Depth         1,200 visible, 3 in flight, 0 delayed (unchanged for 2m)
DLQ messages  0
Last run      ✔ m-1 Drained 59m46s ago, took 14s
              messages  300 received, 300 deleted
              events    2,000 forwarded, 3 skipped, 0 rejected
              requests  64 to SQS, 2 to Iterable
Runs          ✔ 59m46s ago  Drained  2,000 ████████████████████
Totals        runs: 12 (1 failed); messages: 3,000 deleted; events: 21,000 forwarded, 40 skipped, 2 rejected"
    );
}

#[test]
fn what_is_wrong_stands_first_with_its_mend() {
    let broken = forwarder(
        json!({}),
        json!({
            "observedGeneration": 2,
            "conditions": [
                condition("Ready", "False", "SecretMissing", "Secret iterable not found"),
                condition("SecretsAvailable", "False", "SecretMissing", "Secret iterable not found. Create it with: kubectl create secret"),
                condition("LastRunSucceeded", "False", "SinkDown", "Job m-1: Iterable answered 503"),
            ],
            "lastRun": {"jobName": "m-1", "outcome": "SinkDown", "message": "Iterable answered 503"},
        }),
    );
    let page = shown(&broken, &DeadLetterSummary::None);
    assert!(
        page.starts_with("✖ marketing/mparticle is not ready: SecretMissing\n"),
        "{page}"
    );
    let wrong = "\n  ✖ SecretsAvailable  SecretMissing  for 2h\n      Secret iterable not found. Create it with: kubectl create secret\n";
    assert!(page.contains(wrong), "{page}");
    assert_eq!(page.matches("answered 503").count(), 1, "{page}");
    assert!(page.contains("Next run      none: see above"), "{page}");
}

#[test]
fn what_only_ready_says_is_shown() {
    let unreadable = forwarder(
        json!({}),
        json!({
            "observedGeneration": 2,
            "conditions": [condition("Ready", "False", "Unreadable", "correct the field")],
        }),
    );
    assert!(shown(&unreadable, &DeadLetterSummary::None).contains("\n  correct the field\n"));
}

#[test]
fn a_suspended_forwarder_says_how_to_resume_and_is_no_alarm() {
    let suspended = forwarder(
        json!({"suspend": true}),
        json!({
            "observedGeneration": 2,
            "conditions": [
                condition("Ready", "True", "Suspended", "EventForwarder is ready"),
                condition("Scheduled", "False", "Suspended", "Scheduled runs are suspended"),
            ],
        }),
    );
    let page = shown(&suspended, &DeadLetterSummary::None);
    assert!(
        page.starts_with("● marketing/mparticle is suspended\n"),
        "{page}"
    );
    assert!(
        page.contains("kubectl forwarder resume mparticle --namespace marketing"),
        "{page}"
    );
    assert!(page.contains("Next run      none: suspended"), "{page}");
    assert!(!page.contains('✖'), "{page}");
}

#[test]
fn dead_letters_are_told_by_reason_or_why_not() {
    let with_letters = forwarder(
        json!({}),
        json!({
            "observedGeneration": 2,
            "conditions": [condition("Ready", "True", "Ready", "EventForwarder is ready")],
            "queue": {"visible": 0, "inFlight": 0, "delayed": 0, "deadLetters": 4, "observedAt": NOW},
        }),
    );
    let reason = |reason: &str, count| ReasonCount {
        reason: reason.to_owned(),
        count,
    };
    let all = vec![reason("EventRejected", 3), reason("NoUser", 1)];
    for (letters, told) in [
        (
            DeadLetterSummary::ByReason(all, true),
            "DLQ messages  4\n              3 EventRejected\n              1 NoUser\n",
        ),
        (
            DeadLetterSummary::ByReason(vec![reason("NoUser", 1)], false),
            "1 NoUser\n              incomplete: the short scan did not read all of them\n",
        ),
        (
            DeadLetterSummary::ByReason(Vec::new(), true),
            "another command holds them",
        ),
        (
            DeadLetterSummary::Unavailable("no route".to_owned()),
            "DLQ messages  4\n              reasons unavailable from this machine: no route\n",
        ),
    ] {
        let page = shown(&with_letters, &letters);
        assert!(page.contains(told), "{page}");
    }
}

#[test]
fn a_controller_that_has_not_looked_is_suspected() {
    let unseen = shown(&forwarder(json!({}), json!(null)), &DeadLetterSummary::None);
    assert!(
        unseen.starts_with("● marketing/mparticle has not been reconciled."),
        "{unseen}"
    );
    let behind = forwarder(
        json!({}),
        json!({
            "observedGeneration": 1,
            "conditions": [condition("Ready", "True", "Ready", "EventForwarder is ready")],
        }),
    );
    let page = shown(&behind, &DeadLetterSummary::None);
    assert!(
        page.contains("has not observed the latest change"),
        "{page}"
    );
}
