//! Text and JSON output of dead-lettered messages.

use std::{collections::BTreeMap, fmt::Write};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::scan::{DeadLetterMessage, ScanCoverage};
use crate::{api::Duration, text::one_line};

/// Maximum length of a sample's body in a list, in characters.
const MAX_SAMPLE_CHARS: usize = 60;

/// Dead-lettered messages by reason.
#[derive(Debug, Default)]
pub struct Summary(BTreeMap<String, Reason>);

#[derive(Debug)]
struct Reason {
    messages: u64,
    events: u64,
    oldest: Option<Timestamp>,
    newest: Option<Timestamp>,
    sample: String,
    detail: Option<String>,
    body: String,
}

impl Summary {
    /// Counts a message.
    pub fn add(&mut self, message: &DeadLetterMessage) {
        let (message, label) = (&message.message, &message.label);
        let reason = self
            .0
            .entry(label.reason.clone())
            .or_insert_with(|| Reason {
                messages: 0,
                events: 0,
                oldest: message.sent_at,
                newest: message.sent_at,
                sample: message.id.clone(),
                detail: label.detail.clone(),
                body: one_line(&message.body, MAX_SAMPLE_CHARS),
            });
        reason.messages += 1;
        reason.events += label.events.unwrap_or(0);
        reason.oldest = reason.oldest.into_iter().chain(message.sent_at).min();
        reason.newest = reason.newest.into_iter().chain(message.sent_at).max();
    }

    /// Returns the number of messages.
    pub fn messages(&self) -> u64 {
        self.0.values().map(|reason| reason.messages).sum()
    }

    /// Returns the number of messages by reason.
    pub fn counts(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0
            .iter()
            .map(|(name, reason)| (name.as_str(), reason.messages))
    }

    /// Returns the summary as JSON.
    pub fn to_json(&self) -> String {
        let reasons: Vec<Value> = self
            .0
            .iter()
            .map(|(name, reason)| {
                json!({
                    "reason": name,
                    "messages": reason.messages,
                    "events": reason.events,
                    "oldest": reason.oldest,
                    "newest": reason.newest,
                    "sample": reason.sample,
                    "detail": reason.detail,
                })
            })
            .collect();
        Value::from(reasons).to_string()
    }

    /// Returns the summary as a table. If it is empty, `coverage` shows why.
    pub fn to_table(&self, now: Timestamp, coverage: ScanCoverage) -> String {
        if self.0.is_empty() {
            return match coverage.read {
                0 if coverage.is_complete() => "no dead-lettered messages".to_owned(),
                0 => "no visible dead-lettered messages".to_owned(),
                read => format!("none of the {read} dead-lettered messages read match the filter"),
            };
        }
        let age = |at: Option<Timestamp>| {
            at.map_or_else(String::new, |at| {
                let seconds = now.duration_since(at).as_secs();
                Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).to_string()
            })
        };
        let header =
            ["REASON", "MESSAGES", "EVENTS", "OLDEST", "NEWEST", "SAMPLE"].map(str::to_owned);
        let rows = self.0.iter().map(|(name, reason)| {
            [
                name.clone(),
                reason.messages.to_string(),
                reason.events.to_string(),
                age(reason.oldest),
                age(reason.newest),
                reason.sample.clone(),
            ]
        });
        let rows: Vec<_> = std::iter::once(header).chain(rows).collect();
        let mut widths = [0; 6];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.len().max(*width);
            }
        }
        let mut text = String::new();
        for row in &rows {
            let cells: Vec<_> = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            let _ = writeln!(text, "{}", cells.join("  ").trim_end());
        }
        for (name, reason) in &self.0 {
            let detail = reason.detail.as_deref().unwrap_or(&reason.body);
            let _ = writeln!(text, "{name}: {detail}");
        }
        text.truncate(text.trim_end().len());
        text
    }
}

/// Returns a message's attributes and its body, which is indented if it is JSON.
pub fn format_message(message: &DeadLetterMessage) -> String {
    let (message, label) = (&message.message, &message.label);
    let mut text = String::new();
    let mut field = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = writeln!(text, "{name:<18}{value}");
        }
    };
    field("Id:", Some(message.id.clone()));
    field("Reason:", Some(label.reason.clone()));
    field("Detail:", label.detail.clone());
    field("Sent at:", message.sent_at.map(|at| at.to_string()));
    field("Run:", label.run.clone());
    field("Original message:", label.message_id.clone());
    field("Events:", label.events.map(|count| count.to_string()));
    field("Group:", message.group.clone());
    text.push('\n');
    match serde_json::from_str::<Value>(&message.body)
        .and_then(|body| serde_json::to_string_pretty(&body))
    {
        Ok(body) => text.push_str(&body),
        Err(_) => text.push_str(&message.body),
    }
    text
}
