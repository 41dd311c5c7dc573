use serde_json::json;

use super::*;

/// Returns a finished run of this many pods.
fn run(pods: usize, failure: Option<&str>) -> Run {
    Run {
        job_name: "run-1".to_owned(),
        created_at: Timestamp::UNIX_EPOCH,
        started_at: None,
        container_started: true,
        failing_since: None,
        pods,
        end: Some(JobEnd {
            at: Timestamp::UNIX_EPOCH,
            failure: failure.map(str::to_owned),
        }),
    }
}

fn pod(status: serde_json::Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p"}, "status": status})).expect("a pod")
}

#[test]
fn report_is_read_from_termination_message() {
    let message = json!({
        "outcome": "Drained",
        "startedAt": "2026-01-01T00:00:00Z",
        "finishedAt": "2026-01-01T00:00:05Z",
        "messages": {"received": 2, "deleted": 2},
        "events": {"forwarded": 7},
        "requests": {"sqs": 4, "iterable": 1},
        "reasons": [],
        "bytesSent": 10,
    });
    let pods = [pod(json!({"containerStatuses": [{
        "name": "drain", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": 0, "message": message.to_string()}},
    }]}))];
    let Report::Read(report) = report_in(&run(1, None), &pods) else {
        panic!("no report")
    };
    assert_eq!(report.events.forwarded, 7);
}

#[test]
fn missing_report_has_pod_termination_reason() {
    let why = |pods: &[Pod]| match report_in(&run(1, None), pods) {
        Report::Missing { why } => why,
        other => panic!("{other:?}"),
    };
    let killed = pod(json!({"containerStatuses": [{
        "name": "drain", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
    }]}));
    assert!(why(&[killed]).contains("exit code 137 (OOMKilled)"));
    let evicted = pod(json!({"reason": "Evicted", "message": "The node was low on memory."}));
    assert!(why(&[evicted]).contains("Evicted: The node was low on memory."));
    assert_eq!(why(&[]), "its pod no longer exists");
}

#[test]
fn deleted_pod_report_is_counted_once() {
    let ended = |uid: &str| {
        let message = json!({
            "outcome": "Interrupted",
            "startedAt": "2026-01-01T00:00:00Z",
            "finishedAt": "2026-01-01T00:00:05Z",
            "messages": {}, "events": {"forwarded": 3}, "requests": {},
            "reasons": [], "bytesSent": 0,
        });
        let mut pod = pod(json!({"containerStatuses": [{
            "name": "drain", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 11, "message": message.to_string()}},
        }]}));
        pod.metadata.uid = Some(uid.to_owned());
        pod
    };
    let forwarded = |pods, deleted| match report_in(&run(2, None), &with_terminated(pods, deleted))
    {
        Report::Read(report) => report.events.forwarded,
        other => panic!("{other:?}"),
    };
    assert_eq!(forwarded(vec![], vec![ended("a")]), 3);
    assert_eq!(forwarded(vec![ended("a")], vec![ended("a")]), 3);
    assert_eq!(forwarded(vec![ended("b")], vec![ended("a")]), 6);
}

#[test]
fn every_pod_of_failed_job_needs_a_report() {
    let drained = || {
        let message = json!({
            "outcome": "Drained",
            "startedAt": "2026-01-01T00:00:00Z",
            "finishedAt": "2026-01-01T00:00:05Z",
            "messages": {}, "events": {"forwarded": 3}, "requests": {},
            "reasons": [], "bytesSent": 0,
        });
        // An injected container is listed before the drain container.
        pod(json!({"containerStatuses": [
            {
                "name": "aaa", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": 0, "message": "bye"}},
            },
            {
                "name": "drain", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": 0, "message": message.to_string()}},
            },
        ]}))
    };
    let killed = pod(json!({"containerStatuses": [{
        "name": "drain", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
    }]}));
    let partial = |run: &Run, pods: &[Pod]| match report_in(run, pods) {
        Report::Partial { report, why } => (report.events.forwarded, why),
        other => panic!("{other:?}"),
    };
    let (forwarded, why) = partial(&run(2, Some("FailedIndexes")), &[killed, drained()]);
    assert_eq!(forwarded, 3);
    assert!(why.contains("OOMKilled"), "{why}");
    let (_, why) = partial(&run(3, Some("FailedIndexes")), &[drained()]);
    assert_eq!(why, "2 of its 3 pods no longer exist");
    // The pods of a complete Job can be deleted already.
    let complete = report_in(&run(3, None), &[drained()]);
    assert!(matches!(complete, Report::Read(_)), "{complete:?}");
}

#[test]
fn failed_run_is_stuck_after_grace_period() {
    let job = |more: serde_json::Value| -> Job {
        let mut conditions = vec![json!({
            "type": "FailureTarget", "status": "True",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })];
        conditions.extend(more.as_array().cloned().unwrap_or_default());
        serde_json::from_value(json!({
            "metadata": {"name": "run-1"}, "status": {"conditions": conditions},
        }))
        .expect("a Job")
    };
    let stuck_at = |job: &Job, now: &str| {
        let grace = SignedDuration::from_secs(60);
        stuck(
            &Run::from_job(job),
            "marketing",
            grace,
            now.parse().expect("a time"),
        )
    };
    let soon = stuck_at(&job(json!([])), "2026-01-01T00:02:59Z").expect("a wait");
    assert!(!soon.too_long);
    let late = stuck_at(&job(json!([])), "2026-01-01T00:03:01Z").expect("a wait");
    assert!(
        late.too_long && late.why.contains("job-name=run-1"),
        "{}",
        late.why
    );
    let over = json!([{"type": "Failed", "status": "True"}]);
    assert_eq!(stuck_at(&job(over), "2026-01-01T00:03:01Z"), None);
}

#[test]
fn wait_reason_names_cause_of_pending_container() {
    let reason = |status: serde_json::Value| wait_reason("marketing", "run-1", &[pod(status)]);
    let waiting = |reason: &str, message: &str| {
        json!({"phase": "Pending", "containerStatuses": [{
            "name": "drain", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": reason, "message": message}},
        }]})
    };
    let none = wait_reason("marketing", "run-1", &[]).expect("no pod");
    assert!(
        none.contains("quota") && none.contains("`kubectl describe job run-1 -n marketing`"),
        "{none}"
    );
    let image = reason(waiting("ErrImagePull", "not found")).expect("no image");
    assert_eq!(image, "pod p: ErrImagePull: not found");
    let creating = reason(waiting("ContainerCreating", "")).expect("no volume");
    assert!(
        creating.contains("`kubectl describe pod p -n marketing`"),
        "{creating}"
    );
    let unscheduled = reason(json!({"phase": "Pending", "conditions": [{
        "type": "PodScheduled", "status": "False", "message": "0/1 nodes are available",
    }]}));
    assert_eq!(
        unscheduled.as_deref(),
        Some("pod p can't be scheduled: 0/1 nodes are available")
    );
    assert_eq!(reason(json!({"phase": "Running"})), None);
}
