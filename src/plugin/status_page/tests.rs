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

fn page_text(forwarder: &EventForwarder, summary: &DeadLetterSummary) -> String {
    let page = page(forwarder, summary, NOW.parse().expect("a time"));
    anstream::adapter::strip_str(&page).to_string()
}

#[test]
fn page_shows_healthy_forwarder() {
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
        page_text(&healthy, &DeadLetterSummary::None),
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
fn page_shows_unhealthy_conditions_with_fix() {
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
    let page = page_text(&broken, &DeadLetterSummary::None);
    assert!(
        page.starts_with("✖ marketing/mparticle is not ready: SecretMissing\n"),
        "{page}"
    );
    let expected = "\n  ✖ SecretsAvailable  SecretMissing  for 2h\n      Secret iterable not found. Create it with: kubectl create secret\n";
    assert!(page.contains(expected), "{page}");
    assert_eq!(page.matches("answered 503").count(), 1, "{page}");
    assert!(page.contains("Next run      none: see above"), "{page}");
}

#[test]
fn page_shows_message_of_ready_without_other_condition() {
    let unreadable = forwarder(
        json!({}),
        json!({
            "observedGeneration": 2,
            "conditions": [condition("Ready", "False", "Unreadable", "correct the field")],
        }),
    );
    assert!(page_text(&unreadable, &DeadLetterSummary::None).contains("\n  correct the field\n"));
}

#[test]
fn page_shows_how_to_resume_suspended_forwarder() {
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
    let page = page_text(&suspended, &DeadLetterSummary::None);
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
fn page_shows_dlq_messages_by_reason() {
    let with_dead_letters = forwarder(
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
    for (summary, expected) in [
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
        let page = page_text(&with_dead_letters, &summary);
        assert!(page.contains(expected), "{page}");
    }
}

#[test]
fn page_shows_missing_or_outdated_status() {
    let without_status = page_text(&forwarder(json!({}), json!(null)), &DeadLetterSummary::None);
    assert!(
        without_status.starts_with("● marketing/mparticle has not been reconciled."),
        "{without_status}"
    );
    let outdated = forwarder(
        json!({}),
        json!({
            "observedGeneration": 1,
            "conditions": [condition("Ready", "True", "Ready", "EventForwarder is ready")],
        }),
    );
    let page = page_text(&outdated, &DeadLetterSummary::None);
    assert!(
        page.contains("has not observed the latest change"),
        "{page}"
    );
}
