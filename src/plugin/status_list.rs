//! The list that `status` shows: one line per forwarder of a namespace. Pure.

use indicatif::HumanCount;
use jiff::Timestamp;
use kube::ResourceExt;

use super::{
    health::{ForwarderHealth, HealthLevel, bold},
    time::{relative, span},
};
use crate::api::{EventForwarder, GuardedForwarder};

/// The cell of an unknown value.
const NO_VALUE: &str = "-";

/// Returns the lines with a header.
pub fn render(forwarders: &[GuardedForwarder], now: Timestamp) -> String {
    let header = ["", "NAME", "STATE", "DEPTH", "DEAD", "LAST RUN", "NEXT RUN"].map(str::to_owned);
    let rows: Vec<_> = forwarders
        .iter()
        .map(|forwarder| row(forwarder, now))
        .collect();
    let mut widths = [0; 7];
    for cells in rows.iter().map(|(_, cells)| cells).chain([&header]) {
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |cells: &[String; 7]| {
        let cells: Vec<_> = cells
            .iter()
            .zip(widths)
            .skip(1)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![format!("  {}", bold(&line(&header)))];
    lines.extend(
        rows.iter()
            .map(|(level, cells)| format!("{} {}", level.sign(), line(cells))),
    );
    lines.join("\n")
}

fn row(forwarder: &GuardedForwarder, now: Timestamp) -> (HealthLevel, [String; 7]) {
    let name = forwarder.name_any();
    let (level, [state, depth, dead, last, next]) = match &forwarder.0 {
        Ok(forwarder) => cells(forwarder, now),
        Err(_) => {
            let no_value = || NO_VALUE.to_owned();
            (
                HealthLevel::Error,
                [
                    "Unreadable".to_owned(),
                    no_value(),
                    no_value(),
                    no_value(),
                    no_value(),
                ],
            )
        }
    };
    (level, [String::new(), name, state, depth, dead, last, next])
}

fn cells(forwarder: &EventForwarder, now: Timestamp) -> (HealthLevel, [String; 5]) {
    let ForwarderHealth { level, word } = ForwarderHealth::new(forwarder);
    let status = forwarder.status.as_ref();
    let queue = status.and_then(|status| status.queue.as_ref());
    let count = |count: i64| HumanCount(count.unsigned_abs()).to_string();
    let last = status
        .and_then(|status| status.last_run.as_ref())
        .map(|run| {
            let when = match (&run.started_at, &run.finished_at) {
                (_, Some(ended)) => relative(ended.0, now),
                (Some(started), None) => format!("for {}", span(now.duration_since(started.0))),
                (None, None) => String::new(),
            };
            format!("{} {when}", run.outcome)
        });
    let next = status
        .and_then(|status| status.next_run_time.as_ref())
        .map(|due| match due.0 <= now {
            true => "now".to_owned(),
            false => relative(due.0, now),
        });
    let cells = [
        Some(word),
        queue.map(|queue| count(queue.visible)),
        queue.and_then(|queue| queue.dead_letters).map(count),
        last,
        next,
    ];
    (
        level,
        cells.map(|cell| cell.unwrap_or_else(|| NO_VALUE.to_owned())),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn list_has_one_line_per_forwarder() {
        let forwarder = |name: &str, spec: Value, status: Value| -> GuardedForwarder {
            serde_json::from_value(json!({
                "apiVersion": "eventforwarder.io/v1alpha1", "kind": "EventForwarder",
                "metadata": {"name": name, "namespace": "marketing"}, "spec": spec, "status": status,
            }))
            .expect("a forwarder")
        };
        let spec = json!({
            "schedule": "0 * * * *",
            "queue": {"url": "https://sqs.us-east-1.amazonaws.com/1/q"},
            "iterable": {"apiKeySecretRef": {"name": "iterable"}},
        });
        let status = json!({
            "conditions": [{"type": "Ready", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": "2026-01-05T09:00:00Z"}],
            "queue": {"visible": 1200, "inFlight": 0, "delayed": 0, "deadLetters": 4, "observedAt": "2026-01-05T09:00:00Z"},
            "lastRun": {"jobName": "m-1", "outcome": "Drained", "finishedAt": "2026-01-05T09:30:00Z"},
            "nextRunTime": "2026-01-05T10:20:00Z",
        });
        let forwarders = [
            forwarder("mparticle", spec.clone(), status),
            forwarder("new", spec, json!(null)),
            forwarder("odd", json!({"schedule": 5}), json!(null)),
        ];
        let now = "2026-01-05T10:00:00Z".parse().expect("a time");
        let text = render(&forwarders, now);
        assert_eq!(
            anstream::adapter::strip_str(&text).to_string(),
            "  NAME       STATE       DEPTH  DEAD  LAST RUN         NEXT RUN\n\
             ✔ mparticle  Ready       1,200  4     Drained 30m ago  in 20m\n\
             ● new        NotSeenYet  -      -     -                -\n\
             ✖ odd        Unreadable  -      -     -                -"
        );
    }
}
