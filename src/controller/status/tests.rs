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

/// The world when all is well and nothing has run; tests change what they are about.
struct World {
    forwarder: EventForwarder,
    secrets: Result<(), SecretError>,
    applied: Option<CronJobResult>,
    cronjob_stands: bool,
    started: Option<RunStart>,
    runs: Vec<Run>,
    report: Option<Report>,
    pending: Option<RunWait>,
    /// Whether a pod still works of a run whose Job is gone.
    pod_works: bool,
    last_scheduled: Option<&'static str>,
    depth: Option<DepthResult>,
    now: &'static str,
}

impl World {
    fn well() -> Self {
        Self {
            forwarder: forwarder(json!({}), None),
            secrets: Ok(()),
            applied: Some(CronJobResult::UpToDate),
            cronjob_stands: false,
            started: None,
            runs: Vec::new(),
            report: None,
            pending: None,
            pod_works: false,
            last_scheduled: None,
            depth: Some(Ok(depth(5, Some(0)))),
            now: NOW,
        }
    }

    fn status(&self) -> EventForwarderStatus {
        let plan = ValidatedSpec::new("mparticle", &self.forwarder.spec);
        let mapping = check_mapping(&self.forwarder.spec, None);
        let before = self.forwarder.status.as_ref();
        let vanished =
            run_without_job(before, &self.runs, at(self.now)).filter(|_| !self.pod_works);
        let reports: Vec<_> = unrecorded(before, &self.runs)
            .into_iter()
            .chain(vanished)
            .map(|run| {
                let gone = || Report::Missing {
                    why: "its pod is gone".to_owned(),
                };
                (run, self.report.clone().unwrap_or_else(gone))
            })
            .collect();
        let observation = Observation {
            spec: plan.as_ref(),
            secrets: self.secrets.as_ref().copied(),
            mapping: mapping.as_ref().copied(),
            cronjob_result: self.applied.as_ref(),
            cronjob_exists: self.cronjob_stands,
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

    /// The same world, the status so far being part of it, at another time.
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
        message: (outcome != Outcome::Drained).then(|| "Iterable refused the key".to_owned()),
    }))
}

#[track_caller]
fn assert_condition(
    status: &EventForwarderStatus,
    type_: &str,
    verdict: &str,
    reason: &str,
) -> String {
    let condition = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_)
        .unwrap_or_else(|| panic!("no condition {type_}"));
    assert_eq!(
        (condition.status.as_str(), condition.reason.as_str()),
        (verdict, reason),
        "{}",
        condition.message
    );
    assert_eq!(condition.observed_generation, Some(3));
    condition.message.clone()
}

#[test]
fn a_forwarder_in_good_order_is_ready_before_its_first_run() {
    let status = World::well().status();
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
fn a_missing_secret_is_named_with_its_mend_and_pauses_runs() {
    let mut world = World::well();
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
fn a_suspended_forwarder_is_ready_says_so_and_has_no_next_run() {
    let mut world = World::well();
    world.forwarder = forwarder(json!({"suspend": true}), None);
    let status = world.status();
    assert_condition(&status, "Ready", "True", "Suspended");
    assert_condition(&status, "Scheduled", "False", "Suspended");
    assert_eq!(status.next_run_time, None);
}

#[test]
fn what_stands_in_the_way_of_the_cronjob_is_a_condition() {
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
        let mut world = World::well();
        world.forwarder = forwarder(spec, None);
        world.applied = applied;
        let status = world.status();
        assert_condition(&status, "Scheduled", "False", reason);
        assert_condition(&status, "Ready", "False", reason);
        assert_eq!(status.next_run_time, None, "{reason}");
    }
}

#[test]
fn a_queue_that_can_not_be_read_keeps_its_last_depth_and_says_why() {
    let mut world = World::well().then("2026-03-01T12:31:00Z");
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
fn the_depth_is_dated_by_its_last_change() {
    let mut world = World::well().then("2026-03-01T12:31:00Z");
    let observed = |status: EventForwarderStatus| status.queue.map(|queue| queue.observed_at);
    assert_eq!(observed(world.status()), Some(Time(at(NOW))));
    world.depth = Some(Ok(depth(6, Some(0))));
    assert_eq!(
        observed(world.status()),
        Some(Time(at("2026-03-01T12:31:00Z")))
    );
}

#[test]
fn a_run_is_followed_from_its_start_to_its_report() {
    let mut world = World::well();
    world.runs = vec![run("mparticle-1", None)];
    let under_way = world.status();
    let last = under_way.last_run.as_ref().expect("a run");
    assert_eq!(
        (last.outcome.as_str(), last.finished_at.clone()),
        ("Running", None)
    );
    assert_eq!(under_way.active, 1);
    assert_condition(&under_way, "LastRunSucceeded", "Unknown", "NoRunYet");

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
fn the_verdict_on_the_last_run_stands_while_the_next_is_under_way() {
    let mut world = World::well();
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
fn a_run_without_a_report_is_lost_with_what_became_of_its_pod() {
    let mut world = World::well();
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
fn a_run_of_which_one_pod_left_no_report_is_lost_with_what_the_others_did() {
    let mut world = World::well();
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
fn a_run_whose_job_was_deleted_by_hand_is_followed_to_the_end_of_its_pod_and_counted() {
    let mut world = World::well();
    world.runs = vec![run("mparticle-1", None)];
    let mut world = world.then("2026-03-01T12:31:00Z");
    world.runs.clear();
    world.pod_works = true;
    let status = world.status();
    assert_eq!(
        status.last_run.as_ref().map(|run| run.outcome.as_str()),
        Some("Running")
    );
    assert_eq!((status.active, status.totals.runs), (1, 0));

    world.pod_works = false;
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
        "it is counted once"
    );
}

#[test]
fn a_run_whose_job_was_deleted_is_counted_also_when_the_next_one_is_under_way() {
    let mut world = World::well();
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
fn runs_that_ended_while_the_controller_was_away_are_all_counted_once() {
    let mut world = World::well();
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
fn more_jobs_than_status_remembers_are_not_counted_again() {
    let mut world = World::well();
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
fn a_run_that_waits_too_long_for_its_container_is_told() {
    let mut world = World::well();
    world.runs = vec![run("mparticle-1", None)];
    let waits = |until, too_long| {
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
    world.pending = waits(AwaitedStep::ContainerStart, false);
    let status = world.status();
    assert_condition(&status, "Ready", "True", "Ready");
    assert_eq!(last(&status), ("Pending".to_owned(), true));
    world.pending = waits(AwaitedStep::ContainerStart, true);
    let status = world.status();
    let message = assert_condition(&status, "LastRunSucceeded", "False", "RunPending");
    assert!(message.contains("ErrImagePull"), "{message}");
    assert_condition(&status, "Ready", "False", "RunPending");
    world.pending = waits(AwaitedStep::PodEnd, true);
    let status = world.status();
    assert_condition(&status, "LastRunSucceeded", "False", "RunStuck");
    assert_eq!(last(&status), ("Running".to_owned(), true));

    let mut world = world.then("2026-03-01T12:31:00Z");
    world.pending = None;
    assert_condition(&world.status(), "LastRunSucceeded", "Unknown", "NoRunYet");
}

#[test]
fn a_run_that_may_not_send_dead_letters_says_so_until_one_may() {
    let denied = |reasons: &[&str]| {
        let Report::Read(mut report) = report(Outcome::Drained) else {
            unreachable!("it was read")
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
    let mut world = World::well();
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
fn a_queue_without_dead_letters_tells_what_becomes_of_rejected_events() {
    for (rejected, told) in [
        ("DeadLetter", "as with spec.drain.rejected: Leave"),
        ("Leave", "tried until it expires"),
        ("Drop", "tried until it expires"),
    ] {
        let mut world = World::well();
        world.forwarder = forwarder(json!({"drain": {"rejected": rejected}}), None);
        world.depth = Some(Ok(depth(5, None)));
        let message = assert_condition(
            &world.status(),
            "DeadLettersEmpty",
            "Unknown",
            "NoDeadLetterQueue",
        );
        assert!(message.contains(told), "{rejected}: {message}");
        assert_condition(&world.status(), "Ready", "True", "Ready");
    }
}

#[test]
fn a_schedule_that_can_not_be_read_leaves_the_one_before_and_says_so() {
    let mut world = World::well();
    world.forwarder = forwarder(json!({"schedule": "5-3 * * * *"}), None);
    world.applied = None;
    let told =
        |world: &World| assert_condition(&world.status(), "Scheduled", "False", "InvalidSchedule");
    assert!(!told(&world).contains("until then"), "{}", told(&world));
    world.cronjob_stands = true;
    assert!(
        told(&world).contains("until then runs start"),
        "{}",
        told(&world)
    );
    world.runs = vec![run("mparticle-1", None)];
    assert_eq!(world.status().active, 1);
}

#[test]
fn a_run_now_that_is_refused_is_a_condition_and_not_met() {
    let mut world = World::well();
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
fn failures_that_last_are_told_beside_what_was_known() {
    let before = World::well().status();
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
    assert_eq!(after, again, "no write while nothing changes");
}

#[test]
fn what_only_the_spec_can_mend_is_stalled_and_nothing_else() {
    let stalled = |status: &EventForwarderStatus| {
        let found = status
            .conditions
            .iter()
            .find(|condition| condition.type_ == "Stalled");
        found.map(|condition| (condition.status.clone(), condition.reason.clone()))
    };
    assert_eq!(stalled(&World::well().status()), None);
    let mut world = World::well();
    world.secrets = Err(SecretError::KeyMissing {
        name: "iterable".into(),
        key: "api-key".into(),
    });
    assert_eq!(stalled(&world.status()), None, "the Secret may still come");
    let mut world = World::well();
    world.forwarder = forwarder(json!({"timeZone": "Mars/Base"}), None);
    world.applied = None;
    assert_eq!(
        stalled(&world.status()),
        Some(("True".to_owned(), "InvalidTimeZone".to_owned()))
    );
}

#[test]
fn a_forwarder_that_can_not_be_read_keeps_its_other_conditions_and_their_times() {
    let before = World::well().status().conditions;
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
fn a_run_that_does_not_start_when_announced_is_overdue_until_one_does() {
    let mut world = World::well();
    world.last_scheduled = Some("2026-03-01T12:00:00Z");
    let mut world = world.then("2026-03-01T13:00:30Z");
    let waits = world.status();
    assert_condition(&waits, "Scheduled", "True", "CronJobUpToDate");
    assert_eq!(
        waits.next_run_time,
        Some(Time(at("2026-03-01T13:00:00Z"))),
        "it is still the next"
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
fn a_run_that_takes_longer_than_to_the_next_start_makes_none_overdue() {
    let mut world = World::well();
    world.last_scheduled = Some("2026-03-01T12:00:00Z");
    world.runs = vec![run("mparticle-1", None)];
    let mut world = world.then("2026-03-01T13:31:00Z");
    let busy = world.status();
    assert_condition(&busy, "Scheduled", "True", "CronJobUpToDate");
    assert_eq!(busy.next_run_time, Some(Time(at("2026-03-01T14:00:00Z"))));

    let ends = |end| {
        let end = JobEnd {
            at: at(end),
            failure: None,
        };
        vec![run("mparticle-1", Some(end))]
    };
    world.runs = ends("2026-03-01T13:20:00Z");
    assert_condition(&world.status(), "Scheduled", "True", "CronJobUpToDate");
    world.runs = ends("2026-03-01T12:59:00Z");
    assert_condition(&world.status(), "Scheduled", "False", "RunOverdue");
}

#[test]
fn a_changed_schedule_or_a_resumed_one_is_not_overdue_for_what_it_did_not_announce() {
    let mut world = World::well();
    world.last_scheduled = Some("2026-02-01T00:00:00Z");
    world.forwarder = forwarder(json!({"suspend": true}), None);
    let status = world.then("2026-03-01T13:31:00Z").status();
    let mut resumed = World::well();
    resumed.last_scheduled = Some("2026-02-01T00:00:00Z");
    resumed.forwarder = forwarder(json!({}), Some(status));
    resumed.now = "2026-03-01T13:31:00Z";
    assert_condition(&resumed.status(), "Scheduled", "True", "CronJobUpToDate");

    let mut changed = World::well().then("2026-03-01T13:31:00Z");
    changed.last_scheduled = Some("2026-02-01T00:00:00Z");
    let status = changed.forwarder.status.as_mut().expect("a status");
    status.observed_generation = Some(2);
    assert_condition(&changed.status(), "Scheduled", "True", "CronJobUpToDate");
}

#[test]
fn dead_letters_are_told_and_leave_the_forwarder_ready() {
    let mut world = World::well();
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
fn events_are_for_news_only() {
    let mut world = World::well().then("2026-03-01T12:31:00Z");
    let first = world.status().conditions;
    assert_eq!(
        changed_conditions(&[], &first).count(),
        0,
        "a new forwarder in good order is no news"
    );
    assert_eq!(changed_conditions(&first, &first).count(), 0);
    let (depth, status) = (world.depth.take(), world.forwarder.status.take());
    let unread = world.status().conditions;
    (world.depth, world.forwarder.status) = (depth, status);
    assert_eq!(
        changed_conditions(&unread, &first).count(),
        0,
        "nor is a queue that was not read before and is well"
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
fn times_of_transition_move_only_when_the_verdict_does() {
    let since = |status: &EventForwarderStatus| status.conditions[0].last_transition_time.clone();
    let world = World::well().then("2026-03-01T12:31:00Z");
    assert_eq!(since(&world.status()), Time(at(NOW)));
    let mut world = world;
    world.secrets = Err(SecretError::KeyMissing {
        name: "iterable".into(),
        key: "api-key".into(),
    });
    assert_eq!(since(&world.status()), Time(at("2026-03-01T12:31:00Z")));
}

#[test]
fn nothing_new_gives_the_same_status() {
    let world = World::well();
    let first = world.status();
    let second = world.then("2026-03-01T12:45:00Z").status();
    assert_eq!(first, second);
}

/// The document is the closed list: a reason that it does not hold must not reach a user.
#[test]
fn every_reason_is_documented() {
    let document = include_str!("../../../docs/conditions.md");
    let source = [
        include_str!("conditions.rs"),
        include_str!("dead_letters.rs"),
    ]
    .concat();
    let reasons_of_sqs = include_str!("../../sqs/error.rs")
        .lines()
        .filter(|line| line.trim_start().starts_with("Self::"))
        .filter_map(|line| line.split_once("=> \"")?.1.split('"').next());
    let words = source.split('"').skip(1).step_by(2).chain(reasons_of_sqs);
    let reasons = words.filter(|word| {
        word.len() > 4
            && word.starts_with(|first: char| first.is_ascii_uppercase())
            && word.chars().all(|letter| letter.is_ascii_alphabetic())
            && *word != "False"
            && *word != "Unknown"
    });
    let mut seen = 0;
    for reason in reasons {
        seen += 1;
        assert!(
            document.contains(&format!("| {reason} |")),
            "{reason} is not documented"
        );
    }
    assert!(seen > 30, "only {seen} reasons were found in the source");
}

#[test]
fn every_outcome_is_documented_with_its_exit_code() {
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
        let verdict = if runs::succeeded(&outcome.to_string()) {
            "True"
        } else {
            "False"
        };
        let row = format!("| {outcome} | {} | {verdict} |", outcome.exit_code());
        assert!(document.contains(&row), "no row {row}");
    }
}

#[test]
fn a_controller_that_has_just_started_keeps_what_was_found_of_the_queue() {
    let mut world = World::well().then("2026-03-01T12:31:00Z");
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
