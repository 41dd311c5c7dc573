use jiff::SignedDuration;
use serde_json::json;

use super::*;
use crate::{
    api::{EventCounts, MessageCounts, ReasonCount, RequestCounts},
    controller::{
        depth::DepthError,
        error::Error,
        observe::{AwaitedStep, JobEnd},
        validate::check_mapping,
    },
    drain::report::{Outcome, RunReport},
    sqs::Depth,
};

const NOW: &str = "2026-03-01T12:30:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn forwarder(spec: serde_json::Value, status: Option<EventForwarderStatus>) -> EventForwarder {
    let mut all = json!({
        "schedule": "0 * * * *",
        "queue": {"url": "https://sqs.us-east-1.amazonaws.com/123456789012/q"},
        "iterable": {"apiKeySecretRef": {"name": "iterable"}},
    });
    let fields = spec.as_object().expect("an object").clone();
    all.as_object_mut().expect("an object").extend(fields);
    let mut forwarder: EventForwarder = serde_json::from_value(json!({
        "apiVersion": "eventforwarder.io/v1alpha1",
        "kind": "EventForwarder",
        "metadata": {"name": "mparticle", "namespace": "marketing", "generation": 3},
        "spec": all,
    }))
    .expect("a forwarder");
    forwarder.status = status;
    forwarder
}

/// The state of a healthy forwarder before its first run. Tests change what they need.
struct World {
    forwarder: EventForwarder,
    secrets: Result<(), SecretError>,
    applied: Option<CronJobResult>,
    cronjob_exists: bool,
    started: Option<RunStart>,
    runs: Vec<Run>,
    report: Option<Report>,
    pending: Option<RunWait>,
    /// Whether a pod of a deleted Job is still running.
    pod_running: bool,
    last_scheduled: Option<&'static str>,
    depth: Option<DepthResult>,
    now: &'static str,
}

impl World {
    fn healthy() -> Self {
        Self {
            forwarder: forwarder(json!({}), None),
            secrets: Ok(()),
            applied: Some(CronJobResult::UpToDate),
            cronjob_exists: false,
            started: None,
            runs: Vec::new(),
            report: None,
            pending: None,
            pod_running: false,
            last_scheduled: None,
            depth: Some(Ok(depth(5, Some(0)))),
            now: NOW,
        }
    }

    fn status(&self) -> EventForwarderStatus {
        let spec = ValidatedSpec::new("mparticle", &self.forwarder.spec);
        let mapping = check_mapping(&self.forwarder.spec, None);
        let before = self.forwarder.status.as_ref();
        let without_job =
            run_without_job(before, &self.runs, at(self.now)).filter(|_| !self.pod_running);
        let reports: Vec<_> = unrecorded(before, &self.runs)
            .into_iter()
            .chain(without_job)
            .map(|run| {
                let missing = || Report::Missing {
                    why: "its pod no longer exists".to_owned(),
                };
                (run, self.report.clone().unwrap_or_else(missing))
            })
            .collect();
        let observation = Observation {
            spec: spec.as_ref(),
            secrets: self.secrets.as_ref().copied(),
            mapping: mapping.as_ref().copied(),
            cronjob_result: self.applied.as_ref(),
            cronjob_exists: self.cronjob_exists,
            run_start: self.started.as_ref(),
            runs: &self.runs,
            reports: &reports,
            run_request: None,
            run_wait: self.pending.as_ref(),
            last_scheduled: self.last_scheduled.map(at),
            depth: self.depth.as_ref(),
        };
        build_status(&self.forwarder, &observation, at(self.now))
    }

    /// Returns the same world with its status written, at another time.
    fn then(mut self, now: &'static str) -> Self {
        self.forwarder.status = Some(self.status());
        self.now = now;
        self
    }
}

fn depth(visible: i64, dead_letters: Option<i64>) -> Depth {
    Depth {
        visible,
        in_flight: 0,
        delayed: 0,
        dead_letters,
    }
}

fn run(job_name: &str, end: Option<JobEnd>) -> Run {
    Run {
        job_name: job_name.to_owned(),
        created_at: at("2026-03-01T12:00:00Z"),
        started_at: Some(at("2026-03-01T12:00:01Z")),
        container_started: true,
        failing_since: None,
        pods: 1,
        end,
    }
}

fn ended(failure: Option<&str>) -> Option<JobEnd> {
    Some(JobEnd {
        at: at("2026-03-01T12:00:09Z"),
        failure: failure.map(str::to_owned),
    })
}

fn report(outcome: Outcome) -> Report {
    Report::Read(Box::new(RunReport {
        outcome,
        started_at: at("2026-03-01T12:00:02Z"),
        finished_at: at("2026-03-01T12:00:08Z"),
        messages: MessageCounts {
            received: 4,
            deleted: 4,
            ..MessageCounts::default()
        },
        events: EventCounts {
            forwarded: 11,
            skipped: 2,
            rejected: 1,
        },
        requests: RequestCounts {
            sqs: 5,
            iterable: 1,
        },
        reasons: Vec::new(),
        bytes_sent: 4096,
        oldest_message_age_seconds: Some(60),
        message: (outcome != Outcome::Drained).then(|| "Iterable rejected the key".to_owned()),
    }))
}

#[track_caller]
fn assert_condition(
    status: &EventForwarderStatus,
    type_: &str,
    expected: &str,
    reason: &str,
) -> String {
    let condition = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_)
        .unwrap_or_else(|| panic!("no condition {type_}"));
    assert_eq!(
        (condition.status.as_str(), condition.reason.as_str()),
        (expected, reason),
        "{}",
        condition.message
    );
    assert_eq!(condition.observed_generation, Some(3));
    condition.message.clone()
}

#[test]
fn new_forwarder_is_ready_before_first_run() {
    let status = World::healthy().status();
    assert_condition(&status, "Ready", "True", "Ready");
    assert_condition(&status, "SecretsAvailable", "True", "SecretsFound");
    assert_condition(&status, "QueueReachable", "True", "Reachable");
    assert_condition(&status, "Scheduled", "True", "CronJobUpToDate");
    assert_condition(&status, "LastRunSucceeded", "Unknown", "NoRunYet");
    assert_eq!(status.observed_generation, Some(3));
    assert_eq!(status.next_run_time, Some(Time(at("2026-03-01T13:00:00Z"))));
    assert_eq!(status.queue.map(|queue| queue.visible), Some(5));
}

#[test]
fn missing_secret_pauses_runs_and_names_fix() {
    let mut world = World::healthy();
    world.secrets = Err(SecretError::Missing {
        name: "iterable".into(),
        create_command: "kubectl create secret …".into(),
    });
    let status = world.status();
    let message = assert_condition(&status, "SecretsAvailable", "False", "SecretMissing");
    assert!(
        message.contains("Secret iterable") && message.contains("kubectl create secret"),
        "{message}"
    );
    assert_condition(&status, "Ready", "False", "SecretMissing");
    assert_condition(&status, "Scheduled", "False", "WaitingForSecrets");
}

#[test]
fn suspended_forwarder_is_ready_without_next_run() {
    let mut world = World::healthy();
    world.forwarder = forwarder(json!({"suspend": true}), None);
    let status = world.status();
    assert_condition(&status, "Ready", "True", "Suspended");
    assert_condition(&status, "Scheduled", "False", "Suspended");
    assert_eq!(status.next_run_time, None);
}

#[test]
fn scheduling_problems_set_scheduled_to_false() {
    let cases: [(serde_json::Value, Option<CronJobResult>, &str); 9] = [
        (
            json!({"mapping": {"transform": {"jq": "del(.dataFields"}}}),
            Some(CronJobResult::UpToDate),
            "InvalidTransform",
        ),
        (
            json!({"mapping": {"transform": {"configMapKeyRef": {"name": "rules"}}}}),
            Some(CronJobResult::UpToDate),
            "TransformMissing",
        ),
        (
            json!({"mapping": {"eventName": {"screenView": "{no_such_field"}}}),
            Some(CronJobResult::UpToDate),
            "InvalidMapping",
        ),
        (json!({"schedule": "5-3 * * * *"}), None, "InvalidSchedule"),
        (json!({"timeZone": "Mars/Base"}), None, "InvalidTimeZone"),
        (
            json!({"schedule": "0 0 31 2 *"}),
            Some(CronJobResult::UpToDate),
            "NeverFires",
        ),
        (
            json!({}),
            Some(CronJobResult::NameConflict {
                name: "mparticle".into(),
            }),
            "CronJobNameConflict",
        ),
        (
            json!({}),
            Some(CronJobResult::Rejected {
                message: "spec.x: Invalid".into(),
            }),
            "CronJobRejected",
        ),
        (
            json!({}),
            Some(CronJobResult::Forbidden {
                message: "exceeded quota: few".into(),
            }),
            "CronJobForbidden",
        ),
    ];
    for (spec, applied, reason) in cases {
        let mut world = World::healthy();
        world.forwarder = forwarder(spec, None);
        world.applied = applied;
        let status = world.status();
        assert_condition(&status, "Scheduled", "False", reason);
        assert_condition(&status, "Ready", "False", reason);
        assert_eq!(status.next_run_time, None, "{reason}");
    }
}

#[test]
fn unreachable_queue_keeps_last_depth() {
    let mut world = World::healthy().then("2026-03-01T12:31:00Z");
    world.depth = Some(Err(DepthError {
        reason: "AccessDenied",
        message: "grant sqs:GetQueueAttributes".into(),
    }));
    let status = world.status();
    assert_condition(&status, "QueueReachable", "False", "AccessDenied");
    assert_condition(&status, "Ready", "False", "AccessDenied");
    assert_eq!(status.queue.map(|queue| queue.visible), Some(5));
}

#[test]
fn depth_keeps_time_of_last_change() {
    let mut world = World::healthy().then("2026-03-01T12:31:00Z");
    let observed = |status: EventForwarderStatus| status.queue.map(|queue| queue.observed_at);
    assert_eq!(observed(world.status()), Some(Time(at(NOW))));
    world.depth = Some(Ok(depth(6, Some(0))));
    assert_eq!(
        observed(world.status()),
        Some(Time(at("2026-03-01T12:31:00Z")))
    );
}

#[test]
fn run_is_tracked_until_its_report() {
    let mut world = World::healthy();
    world.runs = vec![run("mparticle-1", None)];
    let running = world.status();
    let last = running.last_run.as_ref().expect("a run");
    assert_eq!(
        (last.outcome.as_str(), last.finished_at.clone()),
        ("Running", None)
    );
    assert_eq!(running.active, 1);
    assert_condition(&running, "LastRunSucceeded", "Unknown", "NoRunYet");

    let mut world = world.then("2026-03-01T12:31:00Z");
    world.runs = vec![run("mparticle-1", ended(None))];
    world.report = Some(report(Outcome::Drained));
    let done = world.status();
    let last = done.last_run.as_ref().expect("a run");
    assert_eq!(
        (last.outcome.as_str(), last.events.forwarded),
        ("Drained", 11)
    );
    assert_eq!(last.finished_at, Some(Time(at("2026-03-01T12:00:09Z"))));
    assert_eq!(done.last_success_time, last.finished_at);
    assert_eq!(done.active, 0);
    assert_condition(&done, "LastRunSucceeded", "True", "Drained");

    let mut later = world.then("2026-03-01T13:31:00Z");
    later.report = None;
    assert_eq!(
        later.status().last_run,
        done.last_run,
        "a recorded run is not read again"
    );
}

#[test]
fn last_run_condition_is_kept_during_next_run() {
    let mut world = World::healthy();
    world.runs = vec![run("mparticle-1", ended(Some("BackoffLimitExceeded")))];
    world.report = Some(report(Outcome::ApiKeyRejected));
    let failed = world.status();
    assert_condition(&failed, "LastRunSucceeded", "False", "ApiKeyRejected");
    assert_condition(&failed, "Ready", "False", "ApiKeyRejected");

    let mut world = world.then("2026-03-01T13:00:05Z");
    world.runs.insert(0, run("mparticle-2", None));
    world.report = None;
    let status = world.status();
    assert_eq!(
        status.last_run.as_ref().map(|run| run.outcome.as_str()),
        Some("Running")
    );
    assert_condition(&status, "LastRunSucceeded", "False", "ApiKeyRejected");
}

#[test]
fn run_without_report_is_lost_with_reason() {
    let mut world = World::healthy();
    world.runs = vec![run(
        "mparticle-1",
        ended(Some(
            "DeadlineExceeded: Job was active longer than specified deadline",
        )),
    )];
    world.report = Some(Report::Missing {
        why: "the container of pod p ended with exit code 137 (OOMKilled)".into(),
    });
    let status = world.status();
    let message = assert_condition(&status, "LastRunSucceeded", "False", "Lost");
    assert!(
        message.contains("OOMKilled") && message.contains("DeadlineExceeded"),
        "{message}"
    );
    assert_eq!(status.last_success_time, None);
}

#[test]
fn partial_report_is_lost_but_counted() {
    let mut world = World::healthy();
    world.runs = vec![run("mparticle-1", ended(Some("FailedIndexes")))];
    let Report::Read(report) = report(Outcome::Drained) else {
        panic!("no report")
    };
    world.report = Some(Report::Partial {
        report,
        why: "the container of pod p ended with exit code 137 (OOMKilled)".into(),
    });
    let status = world.status();
    let message = assert_condition(&status, "LastRunSucceeded", "False", "Lost");
    assert!(message.contains("OOMKilled"), "{message}");
    assert_eq!(
        (status.totals.forwarded, status.totals.failed_runs),
        (11, 1)
    );
}

#[test]
fn deleted_job_is_counted_when_its_pod_ends() {
    let mut world = World::healthy();
    world.runs = vec![run("mparticle-1", None)];
    let mut world = world.then("2026-03-01T12:31:00Z");
    world.runs.clear();
    world.pod_running = true;
    let status = world.status();
    assert_eq!(
        status.last_run.as_ref().map(|run| run.outcome.as_str()),
        Some("Running")
    );
    assert_eq!((status.active, status.totals.runs), (1, 0));

    world.pod_running = false;
    let lost = world.status();
    assert_condition(&lost, "LastRunSucceeded", "False", "Lost");
    assert_eq!((lost.active, lost.totals.failed_runs), (0, 1));

    world.report = Some(report(Outcome::Interrupted));
    let mut world = world.then("2026-03-01T12:32:00Z");
    world.report = None;
    let status = world.status();
    assert_condition(&status, "LastRunSucceeded", "False", "Interrupted");
    assert_eq!(
        (
            status.totals.runs,
            status.totals.forwarded,
            status.recent_runs.len()
        ),
        (1, 11, 1),
        "the run is counted once"
    );
}

#[test]
fn deleted_job_is_counted_during_next_run() {
    let mut world = World::healthy();
    world.runs = vec![run("mparticle-1", None)];
    let mut world = world.then("2026-03-01T12:31:00Z");
    world.runs = vec![run("mparticle-2", None)];
    let status = world.status();
    assert_eq!(
        status.last_run.as_ref().map(|run| run.job_name.as_str()),
        Some("mparticle-2")
    );
    assert_eq!(status.recent_runs[0].outcome, "Lost");
    assert_eq!((status.totals.runs, status.active), (1, 1));
}

#[test]
fn runs_during_controller_downtime_are_counted_once() {
    let mut world = World::healthy();
    let ends = [
        "2026-03-01T10:00:09Z",
        "2026-03-01T11:00:09Z",
        "2026-03-01T12:00:09Z",
    ];
    for (n, end) in ends.iter().enumerate() {
        let created = at(end)
            .checked_sub(SignedDuration::from_secs(9))
            .expect("a time");
        world.runs.insert(
            0,
            Run {
                created_at: created,
                started_at: Some(created),
                ..run(
                    &format!("mparticle-{n}"),
                    Some(JobEnd {
                        at: at(end),
                        failure: None,
                    }),
                )
            },
        );
    }
    world.report = Some(report(Outcome::Drained));
    let status = world.status();
    assert_eq!(
        (
            status.totals.runs,
            status.totals.forwarded,
            status.totals.rejected
        ),
        (3, 33, 3)
    );
    let names: Vec<_> = status
        .recent_runs
        .iter()
        .map(|run| run.job_name.as_str())
        .collect();
    assert_eq!(names, ["mparticle-2", "mparticle-1", "mparticle-0"]);
    assert_eq!(
        status.last_run.map(|run| run.job_name).as_deref(),
        Some("mparticle-2")
    );
    assert_eq!(world.then("2026-03-01T12:40:00Z").status().totals.runs, 3);
}

#[test]
fn jobs_beyond_recent_runs_are_counted_once() {
    let mut world = World::healthy();
    for n in 0..25 {
        let created = at("2026-03-01T00:00:00Z")
            .checked_add(SignedDuration::from_mins(n))
            .expect("a time");
        let end = created
            .checked_add(SignedDuration::from_secs(5))
            .expect("a time");
        world.runs.insert(
            0,
            Run {
                created_at: created,
                started_at: Some(created),
                ..run(
                    &format!("mparticle-{n}"),
                    Some(JobEnd {
                        at: end,
                        failure: None,
                    }),
                )
            },
        );
    }
    world.report = Some(report(Outcome::Drained));
    assert_eq!(world.status().totals.runs, 25);
    let world = world.then("2026-03-01T12:40:00Z");
    let status = world.status();
    assert_eq!((status.totals.runs, status.recent_runs.len()), (25, 10));
}

#[test]
fn long_pending_run_is_reported() {
    let mut world = World::healthy();
    world.runs = vec![run("mparticle-1", None)];
    let wait = |until, too_long| {
        Some(RunWait {
            until,
            why: "pod p: ErrImagePull: not found".to_owned(),
            too_long,
        })
    };
    let last = |status: &EventForwarderStatus| {
        let run = status.last_run.clone().expect("a run");
        (run.outcome, run.message.is_some())
    };
    world.pending = wait(AwaitedStep::ContainerStart, false);
    let status = world.status();
    assert_condition(&status, "Ready", "True", "Ready");
    assert_eq!(last(&status), ("Pending".to_owned(), true));
    world.pending = wait(AwaitedStep::ContainerStart, true);
    let status = world.status();
    let message = assert_condition(&status, "LastRunSucceeded", "False", "RunPending");
    assert!(message.contains("ErrImagePull"), "{message}");
    assert_condition(&status, "Ready", "False", "RunPending");
    world.pending = wait(AwaitedStep::PodEnd, true);
    let status = world.status();
    assert_condition(&status, "LastRunSucceeded", "False", "RunStuck");
    assert_eq!(last(&status), ("Running".to_owned(), true));

    let mut world = world.then("2026-03-01T12:31:00Z");
    world.pending = None;
    assert_condition(&world.status(), "LastRunSucceeded", "Unknown", "NoRunYet");
}

#[test]
fn denied_dlq_is_reported_until_run_without_denial() {
    let denied = |reasons: &[&str]| {
        let Report::Read(mut report) = report(Outcome::Drained) else {
            unreachable!("a complete report")
        };
        report.message = Some("sqs:SendMessage was denied".to_owned());
        report.reasons = reasons
            .iter()
            .map(|reason| ReasonCount {
                reason: (*reason).to_owned(),
                count: 1,
            })
            .collect();
        Some(Report::Read(report))
    };
    let mut world = World::healthy();
    world.runs = vec![run("mparticle-1", ended(None))];
    world.report = denied(&["NoUser", "DeadLetterQueueDenied"]);
    let status = world.status();
    let message = assert_condition(
        &status,
        "DeadLettersEmpty",
        "False",
        "DeadLetterQueueDenied",
    );
    assert!(
        message.contains("drain.rejected: Leave") && message.contains("sqs:SendMessage"),
        "{message}"
    );

    let mut world = world.then("2026-03-01T13:00:05Z");
    let second = Run {
        created_at: at("2026-03-01T13:00:00Z"),
        started_at: Some(at("2026-03-01T13:00:01Z")),
        ..run("mparticle-2", None)
    };
    world.runs.insert(0, second.clone());
    assert_condition(
        &world.status(),
        "DeadLettersEmpty",
        "False",
        "DeadLetterQueueDenied",
    );

    let mut world = world.then("2026-03-01T13:00:09Z");
    world.report = denied(&["NoUser"]);
    world.runs[0] = Run {
        end: ended(None),
        ..second
    };
    assert_condition(&world.status(), "DeadLettersEmpty", "True", "Empty");
}

#[test]
fn missing_dlq_message_describes_effect_on_rejected_events() {
    for (rejected, expected) in [
        ("DeadLetter", "as with spec.drain.rejected: Leave"),
        ("Leave", "retried until it expires"),
        ("Drop", "retried until it expires"),
    ] {
        let mut world = World::healthy();
        world.forwarder = forwarder(json!({"drain": {"rejected": rejected}}), None);
        world.depth = Some(Ok(depth(5, None)));
        let message = assert_condition(
            &world.status(),
            "DeadLettersEmpty",
            "Unknown",
            "NoDeadLetterQueue",
        );
        assert!(message.contains(expected), "{rejected}: {message}");
        assert_condition(&world.status(), "Ready", "True", "Ready");
    }
}

#[test]
fn invalid_schedule_keeps_previous_cronjob() {
    let mut world = World::healthy();
    world.forwarder = forwarder(json!({"schedule": "5-3 * * * *"}), None);
    world.applied = None;
    let message =
        |world: &World| assert_condition(&world.status(), "Scheduled", "False", "InvalidSchedule");
    assert!(
        !message(&world).contains("Until then"),
        "{}",
        message(&world)
    );
    world.cronjob_exists = true;
    assert!(
        message(&world).contains("Until then, the CronJob keeps"),
        "{}",
        message(&world)
    );
    world.runs = vec![run("mparticle-1", None)];
    assert_eq!(world.status().active, 1);
}

#[test]
fn rejected_run_request_is_reported_and_stays_unhandled() {
    let mut world = World::healthy();
    world.started = Some(RunStart::Rejected {
        message: "exceeded quota: few".into(),
    });
    let status = world.status();
    let message = assert_condition(&status, "Scheduled", "False", "RunRejected");
    assert!(message.contains("exceeded quota: few"), "{message}");
    assert_condition(&status, "Ready", "False", "RunRejected");
    assert_condition(&status, "QueueReachable", "True", "Reachable");
    assert_eq!(status.last_run_request, None);
}

#[test]
fn repeated_failures_are_reported_beside_other_conditions() {
    let before = World::healthy().status();
    let failed = |now| {
        let error = Error::ReconcileTimeout;
        failing(&error, &before.conditions, Some(3), at(now))
    };
    let after = failed("2026-03-01T12:31:00Z");
    let status = EventForwarderStatus {
        conditions: after.clone(),
        ..before.clone()
    };
    assert_condition(&status, "Ready", "False", "ReconcileFailed");
    assert_condition(&status, "Scheduled", "True", "CronJobUpToDate");
    let again = failing(
        &Error::ReconcileTimeout,
        &after,
        Some(3),
        at("2026-03-01T12:32:00Z"),
    );
    assert_eq!(after, again, "an unchanged failure causes no write");
}

#[test]
fn stalled_is_set_only_for_spec_errors() {
    let stalled = |status: &EventForwarderStatus| {
        let stalled = status
            .conditions
            .iter()
            .find(|condition| condition.type_ == "Stalled");
        stalled.map(|condition| (condition.status.clone(), condition.reason.clone()))
    };
    assert_eq!(stalled(&World::healthy().status()), None);
    let mut world = World::healthy();
    world.secrets = Err(SecretError::KeyMissing {
        name: "iterable".into(),
        key: "api-key".into(),
    });
    assert_eq!(
        stalled(&world.status()),
        None,
        "the Secret can still be created"
    );
    let mut world = World::healthy();
    world.forwarder = forwarder(json!({"timeZone": "Mars/Base"}), None);
    world.applied = None;
    assert_eq!(
        stalled(&world.status()),
        Some(("True".to_owned(), "InvalidTimeZone".to_owned()))
    );
}

#[test]
fn unreadable_forwarder_keeps_other_conditions() {
    let before = World::healthy().status().conditions;
    let first = unreadable("spec.x", &before, Some(4), at("2026-03-01T12:31:00Z"));
    let types: Vec<_> = first
        .iter()
        .map(|condition| condition.type_.as_str())
        .collect();
    assert_eq!(
        types,
        [
            "Ready",
            "SecretsAvailable",
            "QueueReachable",
            "Scheduled",
            "LastRunSucceeded",
            "DeadLettersEmpty",
            "Stalled"
        ]
    );
    assert_eq!(
        (first[0].status.as_str(), first[0].observed_generation),
        ("False", Some(4))
    );
    assert_eq!(first[1], before[1]);
    let second = unreadable("spec.x", &first, Some(4), at("2026-03-01T12:45:00Z"));
    assert_eq!(first, second);
}

#[test]
fn missed_run_is_overdue_until_next_start() {
    let mut world = World::healthy();
    world.last_scheduled = Some("2026-03-01T12:00:00Z");
    let mut world = world.then("2026-03-01T13:00:30Z");
    let due = world.status();
    assert_condition(&due, "Scheduled", "True", "CronJobUpToDate");
    assert_eq!(
        due.next_run_time,
        Some(Time(at("2026-03-01T13:00:00Z"))),
        "it is still the next start"
    );

    world.now = "2026-03-01T13:06:01Z";
    let late = world.status();
    let message = assert_condition(&late, "Scheduled", "False", "RunOverdue");
    assert!(message.contains("2026-03-01T13:00:00Z"), "{message}");
    assert_eq!(late.next_run_time, Some(Time(at("2026-03-01T14:00:00Z"))));

    let mut world = world.then("2026-03-01T13:20:00Z");
    assert_condition(&world.status(), "Scheduled", "False", "RunOverdue");
    world.now = "2026-03-01T14:00:05Z";
    world.last_scheduled = Some("2026-03-01T14:00:00Z");
    assert_condition(&world.status(), "Scheduled", "True", "CronJobUpToDate");
}

#[test]
fn long_run_makes_no_other_run_overdue() {
    let mut world = World::healthy();
    world.last_scheduled = Some("2026-03-01T12:00:00Z");
    world.runs = vec![run("mparticle-1", None)];
    let mut world = world.then("2026-03-01T13:31:00Z");
    let busy = world.status();
    assert_condition(&busy, "Scheduled", "True", "CronJobUpToDate");
    assert_eq!(busy.next_run_time, Some(Time(at("2026-03-01T14:00:00Z"))));

    let ended_at = |end| {
        let end = JobEnd {
            at: at(end),
            failure: None,
        };
        vec![run("mparticle-1", Some(end))]
    };
    world.runs = ended_at("2026-03-01T13:20:00Z");
    assert_condition(&world.status(), "Scheduled", "True", "CronJobUpToDate");
    world.runs = ended_at("2026-03-01T12:59:00Z");
    assert_condition(&world.status(), "Scheduled", "False", "RunOverdue");
}

#[test]
fn changed_or_resumed_schedule_is_not_overdue() {
    let mut world = World::healthy();
    world.last_scheduled = Some("2026-02-01T00:00:00Z");
    world.forwarder = forwarder(json!({"suspend": true}), None);
    let status = world.then("2026-03-01T13:31:00Z").status();
    let mut resumed = World::healthy();
    resumed.last_scheduled = Some("2026-02-01T00:00:00Z");
    resumed.forwarder = forwarder(json!({}), Some(status));
    resumed.now = "2026-03-01T13:31:00Z";
    assert_condition(&resumed.status(), "Scheduled", "True", "CronJobUpToDate");

    let mut changed = World::healthy().then("2026-03-01T13:31:00Z");
    changed.last_scheduled = Some("2026-02-01T00:00:00Z");
    let status = changed.forwarder.status.as_mut().expect("a status");
    status.observed_generation = Some(2);
    assert_condition(&changed.status(), "Scheduled", "True", "CronJobUpToDate");
}

#[test]
fn dead_letters_are_reported_while_forwarder_is_ready() {
    let mut world = World::healthy();
    assert_condition(&world.status(), "DeadLettersEmpty", "True", "Empty");
    world.depth = Some(Ok(depth(5, Some(12))));
    let status = world.status();
    let message = assert_condition(&status, "DeadLettersEmpty", "False", "DeadLettersPresent");
    assert!(message.contains("12 messages"), "{message}");
    assert_condition(&status, "Ready", "True", "Ready");
    world.depth = Some(Ok(depth(5, None)));
    assert_condition(
        &world.status(),
        "DeadLettersEmpty",
        "Unknown",
        "NoDeadLetterQueue",
    );
}

#[test]
fn only_changed_conditions_emit_events() {
    let mut world = World::healthy().then("2026-03-01T12:31:00Z");
    let first = world.status().conditions;
    assert_eq!(
        changed_conditions(&[], &first).count(),
        0,
        "a new healthy forwarder emits no event"
    );
    assert_eq!(changed_conditions(&first, &first).count(), 0);
    let (depth, status) = (world.depth.take(), world.forwarder.status.take());
    let unread = world.status().conditions;
    (world.depth, world.forwarder.status) = (depth, status);
    assert_eq!(
        changed_conditions(&unread, &first).count(),
        0,
        "a queue that becomes reachable emits no event"
    );
    world.depth = Some(Err(DepthError {
        reason: "QueueMissing",
        message: "no queue".into(),
    }));
    let second = world.status().conditions;
    let types: Vec<_> = changed_conditions(&first, &second)
        .map(|condition| condition.type_.as_str())
        .collect();
    assert_eq!(types, ["Ready", "QueueReachable"]);
}

#[test]
fn transition_time_changes_only_with_status() {
    let since = |status: &EventForwarderStatus| status.conditions[0].last_transition_time.clone();
    let world = World::healthy().then("2026-03-01T12:31:00Z");
    assert_eq!(since(&world.status()), Time(at(NOW)));
    let mut world = world;
    world.secrets = Err(SecretError::KeyMissing {
        name: "iterable".into(),
        key: "api-key".into(),
    });
    assert_eq!(since(&world.status()), Time(at("2026-03-01T12:31:00Z")));
}

#[test]
fn unchanged_observation_returns_same_status() {
    let world = World::healthy();
    let first = world.status();
    let second = world.then("2026-03-01T12:45:00Z").status();
    assert_eq!(first, second);
}

/// The document lists all reasons: an undocumented reason must not reach a user.
#[test]
fn every_reason_is_documented() {
    let document = include_str!("../../../docs/conditions.md");
    let source = [
        include_str!("conditions.rs"),
        include_str!("dead_letters.rs"),
    ]
    .concat();
    let sqs_reasons = include_str!("../../sqs/error.rs")
        .lines()
        .filter(|line| line.trim_start().starts_with("Self::"))
        .filter_map(|line| line.split_once("=> \"")?.1.split('"').next());
    let words = source.split('"').skip(1).step_by(2).chain(sqs_reasons);
    let reasons = words.filter(|word| {
        word.len() > 4
            && word.starts_with(|first: char| first.is_ascii_uppercase())
            && word.chars().all(|char| char.is_ascii_alphabetic())
            && *word != "False"
            && *word != "Unknown"
    });
    let mut count = 0;
    for reason in reasons {
        count += 1;
        assert!(
            document.contains(&format!("| {reason} |")),
            "{reason} is not documented"
        );
    }
    assert!(count > 30, "only {count} reasons found in the source");
}

#[test]
fn every_outcome_is_documented_with_exit_code() {
    let document = include_str!("../../../docs/conditions.md");
    let all = [
        Outcome::Drained,
        Outcome::LimitReached,
        Outcome::Interrupted,
        Outcome::SinkDown,
        Outcome::ApiKeyRejected,
        Outcome::QueueDenied,
        Outcome::QueueDown,
        Outcome::BadConfiguration,
        Outcome::Panicked,
    ];
    for outcome in all {
        let status = if runs::succeeded(&outcome.to_string()) {
            "True"
        } else {
            "False"
        };
        let row = format!("| {outcome} | {} | {status} |", outcome.exit_code());
        assert!(document.contains(&row), "no row {row}");
    }
}

#[test]
fn queue_condition_survives_controller_restart() {
    let mut world = World::healthy().then("2026-03-01T12:31:00Z");
    world.depth = None;
    assert_condition(&world.status(), "QueueReachable", "True", "Reachable");
    world.forwarder.metadata.generation = Some(3);
    world
        .forwarder
        .status
        .as_mut()
        .expect("a status")
        .observed_generation = Some(2);
    assert_condition(&world.status(), "QueueReachable", "Unknown", "DepthUnknown");
}
