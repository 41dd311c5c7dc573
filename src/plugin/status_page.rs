//! The page that `status NAME` shows. Pure.

use indicatif::HumanCount;
use jiff::{Timestamp, tz::TimeZone};
use kube::ResourceExt;

use super::{
    health::{ForwarderHealth, HealthLevel, bold, condition, dim, is_current},
    runs,
    time::{absolute, relative, span, zone_of},
};
use crate::{
    api::{EventForwarder, EventForwarderStatus, QueueDepth, ReasonCount, RunStatus},
    preview::printable,
};

/// The dead-lettered messages of a forwarder by reason.
#[derive(Debug)]
pub enum DeadLetterSummary {
    /// The status reports no dead-lettered messages.
    None,
    /// Counts by reason, and whether all messages were read.
    ByReason(Vec<ReasonCount>, bool),
    /// The queue can't be read from this machine; the text is the error.
    Unavailable(String),
}

/// Returns the page.
pub fn page(forwarder: &EventForwarder, summary: &DeadLetterSummary, now: Timestamp) -> String {
    let mut lines = readiness(forwarder);
    let Some(status) = &forwarder.status else {
        return lines.join("\n");
    };
    lines.push(String::new());
    lines.extend(conditions(forwarder, status, now));
    lines.push(String::new());
    field(&mut lines, "Schedule", vec![schedule(forwarder)]);
    field(
        &mut lines,
        "Next run",
        vec![next_run(forwarder, status, now)],
    );
    field(&mut lines, "Queue", vec![forwarder.spec.queue.url.clone()]);
    if let Some(queue) = &status.queue {
        field(&mut lines, "Depth", vec![depth(queue, now)]);
        field(&mut lines, "DLQ messages", dead_letters(queue, summary));
    }
    if let Some(run) = &status.last_run {
        field(&mut lines, "Last run", last_run(run, status, now));
    }
    field(&mut lines, "Runs", runs::bars(&status.recent_runs, now));
    field(&mut lines, "Totals", vec![totals(status)]);
    lines.join("\n")
}

/// Adds one line per value, the first with the label.
fn field(lines: &mut Vec<String>, label: &str, values: Vec<String>) {
    for (index, value) in values.into_iter().enumerate() {
        let label = if index == 0 { label } else { "" };
        lines.push(format!("{}  {value}", bold(&format!("{label:<12}"))));
    }
}

fn readiness(forwarder: &EventForwarder) -> Vec<String> {
    let namespace = forwarder.namespace().unwrap_or_default();
    let full_name = bold(&format!("{namespace}/{}", forwarder.name_any()));
    let ForwarderHealth { level, word } = ForwarderHealth::new(forwarder);
    let ready = condition(forwarder, "Ready");
    let text = match ready.map(|ready| ready.status.as_str()) {
        Some("True") if level == HealthLevel::Ok => "is ready".to_owned(),
        Some("True") => "is suspended".to_owned(),
        Some("False") => format!("is not ready: {word}"),
        Some(_) => format!("readiness unknown: {word}"),
        None => "has not been reconciled. Check that the controller is running and watches this namespace: `kubectl get pods --all-namespaces -l app.kubernetes.io/name=event-forwarder`".to_owned(),
    };
    let mut lines = vec![format!(
        "{} {full_name} {}",
        level.sign(),
        level.paint(&text)
    )];
    if ready.is_some() && !is_current(forwarder) {
        lines.push("  The controller has not observed the latest change; this status is for the previous one. If this persists, check that the controller is running".to_owned());
    }
    lines
}

/// Returns one line per condition except Ready and Stalled, with the message below each unhealthy
/// condition. If Ready is unhealthy for a reason that no other condition has, its message
/// comes first.
fn conditions(
    forwarder: &EventForwarder,
    status: &EventForwarderStatus,
    now: Timestamp,
) -> Vec<String> {
    let is_summary = |type_: &str| ["Ready", "Stalled"].contains(&type_);
    let others = || {
        status
            .conditions
            .iter()
            .filter(|one| !is_summary(&one.type_))
    };
    let type_width = others().map(|one| one.type_.len()).max().unwrap_or(0);
    let reason_width = others().map(|one| one.reason.len()).max().unwrap_or(0);
    let mut lines = Vec::new();
    if let Some(ready) = condition(forwarder, "Ready")
        && HealthLevel::from_condition(ready) == HealthLevel::Error
        && others().all(|one| one.reason != ready.reason)
    {
        lines.push(format!("  {}", printable(&ready.message)));
    }
    for one in others() {
        let level = HealthLevel::from_condition(one);
        let duration = span(now.duration_since(one.last_transition_time.0));
        lines.push(format!(
            "  {} {:<type_width$}  {}  {}",
            level.sign(),
            one.type_,
            level.paint(&format!("{:<reason_width$}", one.reason)),
            dim(&format!("for {duration}")),
        ));
        if level != HealthLevel::Ok {
            lines.push(format!("      {}", printable(&one.message)));
        }
        if one.reason == "Suspended" {
            lines.push(format!(
                "      Resume with `kubectl forwarder resume {} --namespace {}`",
                forwarder.name_any(),
                forwarder.namespace().unwrap_or_default()
            ));
        }
    }
    lines
}

fn schedule(forwarder: &EventForwarder) -> String {
    let spec = &forwarder.spec;
    match &spec.time_zone {
        Some(zone) => format!("{} in {zone}", spec.schedule),
        None => spec.schedule.clone(),
    }
}

fn next_run(forwarder: &EventForwarder, status: &EventForwarderStatus, now: Timestamp) -> String {
    let zone: TimeZone = zone_of(&forwarder.spec);
    match &status.next_run_time {
        Some(due) if due.0 <= now => format!("due since {}", absolute(due.0, &zone)),
        Some(due) => format!("{}, {}", relative(due.0, now), absolute(due.0, &zone)),
        None if forwarder.spec.suspend => HealthLevel::Pending.paint("none: suspended"),
        None => HealthLevel::Error.paint("none: see above"),
    }
}

/// Returns the run's report without lines that a condition's message contains.
fn last_run(run: &RunStatus, status: &EventForwarderStatus, now: Timestamp) -> Vec<String> {
    let mut lines = runs::report(run, now);
    let is_in_condition = |line: &String| {
        let mut messages = status.conditions.iter().map(|one| printable(&one.message));
        messages.any(|message| message.contains(line))
    };
    lines.retain(|line| !is_in_condition(line));
    lines
}

fn depth(queue: &QueueDepth, now: Timestamp) -> String {
    let count = |count: i64| HumanCount(count.unsigned_abs());
    format!(
        "{} visible, {} in flight, {} delayed {}",
        count(queue.visible),
        count(queue.in_flight),
        count(queue.delayed),
        dim(&format!(
            "(unchanged for {})",
            span(now.duration_since(queue.observed_at.0))
        )),
    )
}

fn dead_letters(queue: &QueueDepth, summary: &DeadLetterSummary) -> Vec<String> {
    let Some(count) = queue.dead_letters else {
        return vec!["no dead-letter queue found".to_owned()];
    };
    let mut lines = vec![HumanCount(count.unsigned_abs()).to_string()];
    match summary {
        DeadLetterSummary::None => {}
        DeadLetterSummary::ByReason(reasons, is_all) => {
            lines.extend(reasons.iter().map(|reason| {
                format!("{} {}", HumanCount(reason.count), printable(&reason.reason))
            }));
            if reasons.is_empty() {
                lines.push(
                    "none visible now: another command holds them, or they were just redriven"
                        .to_owned(),
                );
            } else if !is_all {
                lines.push("incomplete: the short scan did not read all of them".to_owned());
            }
        }
        DeadLetterSummary::Unavailable(error) => {
            lines.push(dim(&format!(
                "reasons unavailable from this machine: {}",
                printable(error)
            )));
        }
    }
    lines
}

fn totals(status: &EventForwarderStatus) -> String {
    let totals = &status.totals;
    let failed = match totals.failed_runs {
        0 => String::new(),
        count => format!(" ({} failed)", HumanCount(count)),
    };
    format!(
        "runs: {}{failed}; messages: {} deleted; events: {} forwarded, {} skipped, {} rejected",
        HumanCount(totals.runs),
        HumanCount(totals.messages_deleted),
        HumanCount(totals.forwarded),
        HumanCount(totals.skipped),
        HumanCount(totals.rejected),
    )
}

#[cfg(test)]
mod tests;
