//! Text output about runs. Pure.

use indicatif::HumanCount;
use jiff::Timestamp;

use super::{
    health::{HealthLevel, dim},
    time::{relative, span},
};
use crate::{
    api::{EventForwarderStatus, RecentRun, RunStatus},
    preview::printable,
};

/// Maximum length of a bar, in characters.
const MAX_BAR_WIDTH: u64 = 20;

/// Returns the lines about a run, with its report if it has finished.
pub fn report(run: &RunStatus, now: Timestamp) -> Vec<String> {
    let level = HealthLevel::from_outcome(&run.outcome);
    let mut lines = vec![format!(
        "{} {} {} {}",
        level.sign(),
        run.job_name,
        level.paint(&run.outcome),
        dim(&when(run, now)),
    )];
    let message = run.message.as_deref().map(printable);
    if run.finished_at.is_none() {
        lines.extend(message);
        return lines;
    }
    let (messages, events, requests) = (&run.messages, &run.events, &run.requests);
    let counts = [
        (
            "messages",
            list_counts(&[
                (messages.received, "received"),
                (messages.deleted, "deleted"),
            ]) + &list_nonzero_counts(&[
                (messages.released, "released"),
                (messages.dead_lettered, "dead-lettered"),
                (messages.duplicate, "duplicate"),
            ]),
        ),
        (
            "events",
            list_counts(&[
                (events.forwarded, "forwarded"),
                (events.skipped, "skipped"),
                (events.rejected, "rejected"),
            ]),
        ),
        (
            "requests",
            list_counts(&[(requests.sqs, "to SQS"), (requests.iterable, "to Iterable")]),
        ),
    ];
    lines.extend(counts.map(|(name, counts)| format!("{name:<9} {counts}")));
    if !run.reasons.is_empty() {
        let reasons: Vec<_> = run
            .reasons
            .iter()
            .map(|reason| format!("{} {}", HumanCount(reason.count), printable(&reason.reason)))
            .collect();
        lines.push(format!("{:<9} {}", "reasons", reasons.join(", ")));
    }
    lines.extend(message);
    lines
}

fn when(run: &RunStatus, now: Timestamp) -> String {
    let started = run.started_at.as_ref().map(|time| time.0);
    let finished = run.finished_at.as_ref().map(|time| time.0);
    match (started, finished) {
        (Some(started), Some(finished)) => format!(
            "{}, took {}",
            relative(finished, now),
            span(finished.duration_since(started))
        ),
        (None, Some(finished)) => relative(finished, now),
        (Some(started), None) => format!("for {}", span(now.duration_since(started))),
        (None, None) => String::new(),
    }
}

fn list_counts(counts: &[(u64, &str)]) -> String {
    let counts: Vec<_> = counts
        .iter()
        .map(|(count, label)| format!("{} {label}", HumanCount(*count)))
        .collect();
    counts.join(", ")
}

fn list_nonzero_counts(counts: &[(u64, &str)]) -> String {
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    counts
        .map(|(count, label)| format!(", {} {label}", HumanCount(*count)))
        .collect()
}

/// Returns one line per finished run, newest first, with a bar of its forwarded events.
pub fn bars(runs: &[RecentRun], now: Timestamp) -> Vec<String> {
    let most = runs.iter().map(|run| run.forwarded).max().unwrap_or(0);
    let outcome_width = runs.iter().map(|run| run.outcome.len()).max().unwrap_or(0);
    let number = |count: u64| HumanCount(count).to_string();
    let number_width = number(most).len();
    let ages = runs.iter().map(|run| relative(run.finished_at.0, now));
    let age_width = ages.map(|age| age.len()).max().unwrap_or(0);
    runs.iter()
        .map(|run| {
            let level = HealthLevel::from_outcome(&run.outcome);
            let rejected = match run.rejected {
                0 => String::new(),
                count => format!(", {} rejected", number(count)),
            };
            format!(
                "{} {:<age_width$}  {}  {:>number_width$} {}{rejected}",
                level.sign(),
                relative(run.finished_at.0, now),
                level.paint(&format!("{:<outcome_width$}", run.outcome)),
                number(run.forwarded),
                bar(run.forwarded, most),
            )
            .trim_end()
            .to_owned()
        })
        .collect()
}

/// Returns a bar with the length of `count` relative to `most`, and a thin bar if a nonzero count
/// is too small for a full character.
fn bar(count: u64, most: u64) -> String {
    match count.saturating_mul(MAX_BAR_WIDTH).checked_div(most) {
        None => String::new(),
        Some(0) if count > 0 => "▏".to_owned(),
        Some(length) => (0..length).map(|_| '█').collect(),
    }
}

/// The state of a requested run.
#[derive(Debug, PartialEq)]
pub enum RequestedRun {
    /// The controller has not started the run.
    Requested,
    /// The Job exists; the text is its progress.
    Running(String),
    /// The run has finished.
    Finished(Box<RunStatus>),
}

/// Returns the state of the run for `request`, by the forwarder's status.
pub fn requested_run(status: &EventForwarderStatus, request: &str, job: &str) -> RequestedRun {
    let last = status.last_run.as_ref().filter(|run| run.job_name == job);
    if let Some(run) = last {
        return match (&run.finished_at, &run.message) {
            (Some(_), _) => RequestedRun::Finished(Box::new(run.clone())),
            (None, Some(reason)) => {
                RequestedRun::Running(format!("waiting: {}", printable(reason)))
            }
            (None, None) => RequestedRun::Running(running(status)),
        };
    }
    // Another run has started since.
    if let Some(run) = status.recent_runs.iter().find(|run| run.job_name == job) {
        return RequestedRun::Finished(Box::new(summary_of(run)));
    }
    match status.last_run_request.as_deref() == Some(request) {
        true => RequestedRun::Running("Job created".to_owned()),
        false => RequestedRun::Requested,
    }
}

fn running(status: &EventForwarderStatus) -> String {
    match &status.queue {
        Some(queue) => format!(
            "running; about {} messages in the backlog, {} in flight",
            HumanCount(queue.visible.unsigned_abs()),
            HumanCount(queue.in_flight.unsigned_abs()),
        ),
        None => "running".to_owned(),
    }
}

fn summary_of(run: &RecentRun) -> RunStatus {
    RunStatus {
        job_name: run.job_name.clone(),
        started_at: Some(run.started_at.clone()),
        finished_at: Some(run.finished_at.clone()),
        outcome: run.outcome.clone(),
        messages: Default::default(),
        events: crate::api::EventCounts {
            forwarded: run.forwarded,
            rejected: run.rejected,
            skipped: 0,
        },
        requests: Default::default(),
        reasons: Vec::new(),
        message: Some(
            "another run has started since, so the status no longer contains details of this run"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn status(status: Value) -> EventForwarderStatus {
        serde_json::from_value(status).expect("a status")
    }

    fn now() -> Timestamp {
        "2026-01-05T10:00:00Z".parse().expect("a time")
    }

    fn without_style(lines: &[String]) -> String {
        anstream::adapter::strip_str(&lines.join("\n")).to_string()
    }

    #[test]
    fn requested_run_is_followed_until_finished() {
        let run = |more: Value| {
            let mut run = json!({"jobName": "m-1", "outcome": "Running", "startedAt": "2026-01-05T09:59:00Z"});
            run.as_object_mut()
                .expect("an object")
                .extend(more.as_object().expect("an object").clone());
            run
        };
        let state = |value: Value| requested_run(&status(value), "r", "m-1");
        assert_eq!(state(json!({})), RequestedRun::Requested);
        assert_eq!(
            state(json!({"lastRunRequest": "another"})),
            RequestedRun::Requested
        );
        let progress = |run: RequestedRun| match run {
            RequestedRun::Running(text) => text,
            other => panic!("{other:?}"),
        };
        assert!(progress(state(json!({"lastRunRequest": "r"}))).contains("Job created"));
        let queue = json!({"visible": 1200, "inFlight": 10, "delayed": 0, "observedAt": "2026-01-05T09:59:00Z"});
        let running = progress(state(json!({"lastRun": run(json!({})), "queue": queue})));
        assert!(
            running.contains("1,200 messages in the backlog"),
            "{running}"
        );
        let pending = progress(state(
            json!({"lastRun": run(json!({"outcome": "Pending", "message": "pod p: ErrImagePull"}))}),
        ));
        assert!(pending.contains("ErrImagePull"), "{pending}");

        let finished = run(json!({"outcome": "Drained", "finishedAt": "2026-01-05T09:59:30Z"}));
        let other = json!({"jobName": "m-2", "outcome": "Running"});
        let recent = json!([{
            "jobName": "m-1", "outcome": "SinkDown", "forwarded": 3,
            "startedAt": "2026-01-05T09:59:00Z", "finishedAt": "2026-01-05T09:59:30Z",
        }]);
        for (value, outcome) in [
            (json!({"lastRun": finished}), "Drained"),
            (json!({"lastRun": other, "recentRuns": recent}), "SinkDown"),
        ] {
            let RequestedRun::Finished(run) = state(value) else {
                panic!("not finished")
            };
            assert_eq!(run.outcome, outcome);
        }
    }

    #[test]
    fn report_omits_zero_counts() {
        let status = status(json!({"lastRun": {
            "jobName": "m-1", "outcome": "SinkDown",
            "startedAt": "2026-01-05T09:00:00Z", "finishedAt": "2026-01-05T09:00:42Z",
            "messages": {"received": 1200, "deleted": 1100, "released": 100},
            "events": {"forwarded": 4000, "skipped": 2, "rejected": 0},
            "requests": {"sqs": 240, "iterable": 5},
            "reasons": [{"reason": "NoUser", "count": 2}],
            "message": "Iterable answered 503\u{1b}[31m",
        }}));
        let text = without_style(&report(status.last_run.as_ref().expect("a run"), now()));
        assert_eq!(
            text,
            "✖ m-1 SinkDown 59m18s ago, took 42s\n\
             messages  1,200 received, 1,100 deleted, 100 released\n\
             events    4,000 forwarded, 2 skipped, 0 rejected\n\
             requests  240 to SQS, 5 to Iterable\n\
             reasons   2 NoUser\n\
             Iterable answered 503\u{fffd}[31m"
        );
    }

    #[test]
    fn bar_length_depends_on_forwarded_events() {
        let run = |outcome: &str, forwarded: u64, hour: u8| {
            json!({
                "jobName": format!("m-{hour}"), "outcome": outcome, "forwarded": forwarded,
                "startedAt": format!("2026-01-05T0{hour}:00:00Z"),
                "finishedAt": format!("2026-01-05T0{hour}:00:10Z"),
            })
        };
        let status = status(json!({"recentRuns": [
            run("Drained", 2000, 9), run("SinkDown", 0, 8), run("Drained", 1, 7), run("LimitReached", 1000, 6),
        ]}));
        assert_eq!(
            without_style(&bars(&status.recent_runs, now())),
            "✔ 59m50s ago  Drained       2,000 ████████████████████\n\
             ✖ 1h59m ago   SinkDown          0\n\
             ✔ 2h59m ago   Drained           1 ▏\n\
             ✔ 3h59m ago   LimitReached  1,000 ██████████"
        );
        assert!(bars(&[], now()).is_empty());
    }

    #[test]
    fn report_shows_pending_run() {
        let run = |outcome: &str, message: Value| {
            let status = status(json!({"lastRun": {
                "jobName": "m-1", "outcome": outcome, "startedAt": "2026-01-05T09:57:00Z", "message": message,
            }}));
            without_style(&report(&status.last_run.expect("a run"), now()))
        };
        assert_eq!(run("Running", json!(null)), "● m-1 Running for 3m");
        assert_eq!(
            run("Pending", json!("pod p: ErrImagePull")),
            "● m-1 Pending for 3m\npod p: ErrImagePull"
        );
    }
}
