use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::*;
use crate::api::{QueueDepth, RecentRun, RunStatus, RunTotals};

const DOC: &str = include_str!("../../../docs/metrics.md");

fn time(second: i64) -> Time {
    Time(Timestamp::from_second(second).expect("a time"))
}

fn condition(type_: &str, status: &str) -> Condition {
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: "AReason".to_owned(),
        message: String::new(),
        last_transition_time: time(60),
        observed_generation: None,
    }
}

/// Returns a status with a value for every metric.
fn status() -> EventForwarderStatus {
    EventForwarderStatus {
        conditions: vec![
            condition("Ready", "True"),
            condition("LastRunSucceeded", "False"),
            condition("Scheduled", "True"),
        ],
        queue: Some(QueueDepth {
            visible: 7,
            in_flight: 2,
            delayed: 1,
            dead_letters: Some(3),
            observed_at: time(0),
        }),
        last_run: Some(RunStatus {
            job_name: "now".to_owned(),
            started_at: Some(time(100)),
            finished_at: Some(time(130)),
            outcome: "SinkDown".to_owned(),
            messages: Default::default(),
            events: Default::default(),
            requests: Default::default(),
            reasons: Vec::new(),
            message: None,
        }),
        recent_runs: vec![RecentRun {
            job_name: "now".to_owned(),
            started_at: time(100),
            finished_at: time(130),
            outcome: "SinkDown".to_owned(),
            forwarded: 21,
            rejected: 0,
        }],
        totals: RunTotals {
            runs: 5,
            failed_runs: 1,
            forwarded: 21,
            ..RunTotals::default()
        },
        last_success_time: Some(time(90)),
        next_run_time: Some(time(3600)),
        ..EventForwarderStatus::default()
    }
}

/// Returns metrics in which every metric has a value.
fn filled() -> Metrics {
    let metrics = Metrics::new();
    metrics.record_reconcile(Duration::from_millis(30), None);
    metrics.record_reconcile(Duration::from_millis(30), Some("Api"));
    metrics.record_poll(None);
    metrics.record_poll(Some("AccessDenied"));
    metrics.record_request("patch", "eventforwarders/status", 200, Duration::ZERO);
    metrics.show("marketing", "mparticle", &status());
    metrics.show("we\"ird\\", "line\nbreak", &status());
    metrics
}

fn page(metrics: &Metrics, format: Format) -> String {
    metrics.encode(format).expect("text")
}

fn assert_line(page: &str, line: &str) {
    assert!(
        page.lines().any(|other| other == line),
        "no {line} in\n{page}"
    );
}

#[test]
fn forwarder_metrics_exist_until_forgotten() {
    let metrics = Metrics::new();
    metrics.show("marketing", "mparticle", &status());
    let page_with_one = page(&metrics, Format::Prometheus);
    let labels = r#"namespace="marketing",name="mparticle""#;
    for line in [
        format!("event_forwarder_queue_visible_messages{{{labels}}} 7"),
        format!("event_forwarder_dead_letter_messages{{{labels}}} 3"),
        format!("event_forwarder_events_forwarded_total{{{labels}}} 21"),
        format!("event_forwarder_ready{{{labels}}} 1"),
        format!("event_forwarder_last_run_succeeded{{{labels}}} 0"),
        format!("event_forwarder_failing_since_timestamp_seconds{{{labels}}} 60"),
        format!("event_forwarder_last_run_duration_seconds{{{labels}}} 30"),
        format!("event_forwarder_next_run_timestamp_seconds{{{labels}}} 3600"),
        format!("event_forwarder_last_run_outcome{{{labels},outcome=\"SinkDown\"}} 1"),
    ] {
        assert_line(&page_with_one, &line);
    }
    let succeeded = EventForwarderStatus {
        conditions: vec![condition("LastRunSucceeded", "True")],
        ..status()
    };
    metrics.show("marketing", "mparticle", &succeeded);
    assert!(!page(&metrics, Format::Prometheus).contains("failing_since"));
    for (reason, overdue) in [("CronJobUpToDate", 0), ("RunOverdue", 1)] {
        let mut scheduled = condition("Scheduled", "False");
        scheduled.reason = reason.to_owned();
        let status = EventForwarderStatus {
            conditions: vec![scheduled],
            ..status()
        };
        metrics.show("marketing", "mparticle", &status);
        let line = format!("event_forwarder_run_overdue{{{labels}}} {overdue}");
        assert_line(&page(&metrics, Format::Prometheus), &line);
    }
    metrics.show("marketing", "mparticle", &EventForwarderStatus::default());
    let unknown = page(&metrics, Format::Prometheus);
    for name in ["dead_letter", "last_run_outcome", "_ready"] {
        assert!(
            !unknown.contains(name),
            "unknown values must be omitted\n{unknown}"
        );
    }
    assert!(metrics.forget("marketing", "mparticle"));
    assert!(!metrics.forget("marketing", "mparticle"));
    assert!(!page(&metrics, Format::Prometheus).contains("marketing"));
}

#[test]
fn reconciliations_are_counted_from_change_to_result() {
    let metrics = Metrics::new();
    let shows = |line: &str| assert_line(&page(&metrics, Format::Prometheus), line);
    metrics.record_change("a", "one");
    metrics.record_change("a", "one");
    metrics.record_change("a", "two");
    metrics.record_change("a", "deleted");
    metrics.forget("a", "deleted");
    shows("event_forwarder_reconciles_waiting 2");
    let guard = metrics.start_reconcile("a", "one");
    shows("event_forwarder_reconciles_waiting 1");
    shows("event_forwarder_reconciles_in_flight 1");
    drop(guard);
    metrics.record_reconcile(Duration::ZERO, Some("Timeout"));
    metrics.record_reconcile(Duration::ZERO, None);
    shows("event_forwarder_reconciles_in_flight 0");
    shows("event_forwarder_reconciles_total{result=\"success\"} 1");
    shows("event_forwarder_reconciles_total{result=\"error\"} 1");
    shows("event_forwarder_reconcile_errors_total{reason=\"Timeout\"} 1");
    shows("event_forwarder_reconcile_duration_seconds_count 2");
}

/// Returns the type of each metric of a page in the Prometheus format.
fn types(page: &str) -> BTreeMap<&str, &str> {
    page.lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .collect()
}

#[test]
fn metric_names_follow_conventions_and_have_help() {
    let metrics = filled();
    let page = page(&metrics, Format::Prometheus);
    let types = types(&page);
    let type_lines = page.lines().filter(|line| line.starts_with("# TYPE "));
    assert_eq!(
        type_lines.count(),
        types.len(),
        "each family must be encoded once"
    );
    for (name, type_) in &types {
        assert!(
            name.starts_with("event_forwarder_") || name.starts_with("process_"),
            "{name}"
        );
        assert!(
            name.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
            "{name}"
        );
        assert_eq!(
            name.ends_with("_total"),
            *type_ == "counter",
            "{name} {type_}"
        );
        for part in name.split('_') {
            assert!(
                ![
                    "ms",
                    "milliseconds",
                    "minutes",
                    "kb",
                    "percent",
                    "gauge",
                    "counter"
                ]
                .contains(&part),
                "{name}: base units, and no type in a name"
            );
        }
        assert!(
            page.contains(&format!("# HELP {name} ")),
            "{name} has no help"
        );
    }
    let mut series = BTreeSet::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').expect("a value");
        value.parse::<f64>().expect("a number");
        assert!(series.insert(name), "{name} is duplicated");
        let family = name.split('{').next().expect("a name");
        let has_type = ["", "_bucket", "_sum", "_count"]
            .iter()
            .filter_map(|suffix| family.strip_suffix(suffix))
            .any(|family| types.contains_key(family));
        assert!(has_type, "{family} has no type");
    }
    assert!(
        page.contains(r#"namespace="we\"ird\\",name="line\nbreak""#),
        "labels are escaped\n{page}"
    );
}

#[test]
fn both_formats_contain_the_same_series() {
    let metrics = filled();
    let prometheus = page(&metrics, Format::Prometheus);
    let open_metrics = page(&metrics, Format::OpenMetrics);
    assert!(open_metrics.ends_with("# EOF\n") && !prometheus.contains("# EOF"));
    let series = |page: &str| -> BTreeSet<String> {
        page.lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.rsplit_once(' '))
            .map(|(name, _)| name.to_owned())
            // The formats write bounds differently: 2 and 2.0.
            .filter(|name| !name.contains("_bucket{"))
            .collect()
    };
    assert_eq!(series(&prometheus), series(&open_metrics));
}

#[test]
fn format_follows_accept_header() {
    for (accept, format) in [
        ("", Format::Prometheus),
        ("*/*", Format::Prometheus),
        (
            "text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            Format::Prometheus,
        ),
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3",
            Format::OpenMetrics,
        ),
    ] {
        assert_eq!(Format::accepted(accept), format, "{accept}");
    }
}

/// Returns the name, type and labels in each row of the document's tables.
fn documented() -> BTreeSet<(String, String, String)> {
    DOC.lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter(|row| !row.starts_with('/'))
        .map(|row| {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            (
                cells[0].trim_end_matches('`').to_owned(),
                cells[1].to_owned(),
                cells[2].to_owned(),
            )
        })
        .collect()
}

#[test]
fn document_lists_every_metric_type_and_labels() {
    let metrics = filled();
    let page = page(&metrics, Format::Prometheus);
    let labels_of = |name: &str| {
        let line = page
            .lines()
            .find(|line| {
                ["", "_count"]
                    .iter()
                    .filter_map(|suffix| line.strip_prefix(&format!("{name}{suffix}")))
                    .any(|rest| rest.starts_with(['{', ' ']))
            })
            .unwrap_or_else(|| panic!("no series of {name}"));
        let labels = line.split_once('{').map_or("", |(_, rest)| rest);
        labels
            .split("\",")
            .filter_map(|label| Some(label.split_once("=\"")?.0))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let encoded: BTreeSet<_> = types(&page)
        .into_iter()
        .map(|(name, type_)| (name.to_owned(), type_.to_owned(), labels_of(name)))
        .collect();
    assert_eq!(encoded, documented());
}
