//! The three output formats of `map`.

use std::{
    io::{self, Write},
    time::Instant,
};

use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    drain::{
        ack::{Admission, Ledger},
        batch::{Batcher, Owner, RequestLimits},
    },
    mapping::{EventPosition, MappedBody, MappedEvent, User},
};

use super::MapResult;

/// Writes one request body per line: those that a run would post if it received each body as a
/// message.
pub fn json(
    out: &mut impl Write,
    limits: RequestLimits,
    results: &[(String, MapResult)],
) -> io::Result<()> {
    let mut ledger = Ledger::<(), ()>::new(false);
    let mut batcher = Batcher::new(limits);
    let now = Instant::now();
    let mapped = results
        .iter()
        .filter_map(|(_, result)| result.as_ref().ok());
    for (index, mapped) in mapped.enumerate() {
        let count = mapped.events.len();
        if let Admission::New(ticket) = ledger.admit(&index.to_string(), None, count, ()) {
            for event in &mapped.events {
                let source = event.source();
                batcher.push(event.clone(), Owner { ticket, source }, now);
            }
        }
    }
    while let Some(request) = batcher.take_any() {
        out.write_all(&request.encode())?;
        writeln!(out)?;
    }
    Ok(())
}

/// Writes one JSON object per line for each event.
pub fn events(out: &mut impl Write, results: &[(String, MapResult)]) -> io::Result<()> {
    for row in event_rows(results) {
        serde_json::to_writer(&mut *out, &row)?;
        writeln!(out)?;
    }
    Ok(())
}

/// Writes one row per event, in columns.
pub fn table(out: &mut impl Write, results: &[(String, MapResult)]) -> io::Result<()> {
    const HEADER: [&str; 5] = [
        "SOURCE",
        "TYPE",
        "OUTCOME",
        "NAME OR REASON",
        "USER OR DETAIL",
    ];
    // A name can have hundreds of characters. One long name must not widen all rows.
    const MAX_WIDTHS: [usize; 4] = [120, 60, 60, 60];
    let mut rows = vec![HEADER.map(str::to_owned)];
    rows.extend(event_rows(results).map(|row| row.cells()));
    let mut widths = [0; 4];
    for row in &rows {
        for ((width, max), cell) in widths.iter_mut().zip(MAX_WIDTHS).zip(row) {
            *width = cell.chars().count().min(max).max(*width);
        }
    }
    for [first @ .., last] in &rows {
        let mut row = String::new();
        for (cell, width) in first.iter().zip(widths) {
            row.push_str(&format!("{cell:<width$}  "));
        }
        row.push_str(last);
        writeln!(out, "{}", row.trim_end())?;
    }
    Ok(())
}

/// The outcome of one event, or of a body that can't be parsed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EventRow<'r> {
    source: RowSource<'r>,
    event_type: &'r str,
    outcome: EventOutcome,
    /// The number of malformed entries in this row, if more than one.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'r RawValue>,
    #[serde(skip)]
    mapped: Option<&'r MappedEvent>,
}

#[derive(Serialize)]
struct RowSource<'r> {
    file: &'r str,
    #[serde(flatten, serialize_with = "source_members")]
    position: Option<EventPosition>,
}

#[derive(Serialize, Clone, Copy)]
#[serde(rename_all = "camelCase")]
enum EventOutcome {
    Forwarded,
    Skipped,
    Rejected,
}

fn source_members<S: serde::Serializer>(
    position: &Option<EventPosition>,
    out: S,
) -> Result<S::Ok, S::Error> {
    let members = position.map(|source| [("batch", source.batch), ("event", source.event)]);
    out.collect_map(members.into_iter().flatten())
}

fn event_rows<'r>(results: &'r [(String, MapResult)]) -> impl Iterator<Item = EventRow<'r>> {
    results.iter().flat_map(|(file, result)| match result {
        Ok(mapped) => rows_of(file, mapped),
        Err(error) => vec![EventRow {
            source: RowSource {
                file,
                position: None,
            },
            event_type: "",
            outcome: EventOutcome::Rejected,
            count: None,
            reason: Some(error.reason()),
            detail: Some(error.to_string()),
            event: None,
            mapped: None,
        }],
    })
}

/// Returns the rows of one body, in the order of its events.
fn rows_of<'r>(file: &'r str, mapped: &'r MappedBody) -> Vec<EventRow<'r>> {
    let row = |position, event_type, outcome| EventRow {
        source: RowSource {
            file,
            position: Some(position),
        },
        event_type,
        outcome,
        count: None,
        reason: None,
        detail: None,
        event: None,
        mapped: None,
    };
    let forwarded = mapped.events.iter().map(|event| EventRow {
        event: serde_json::from_str(event.json()).ok(),
        mapped: Some(event),
        ..row(event.source(), event.event_type(), EventOutcome::Forwarded)
    });
    let skipped = mapped.skipped.iter().map(|skipped| EventRow {
        reason: Some(skipped.reason.as_str()),
        ..row(skipped.source, &skipped.event_type, EventOutcome::Skipped)
    });
    let rejected = mapped.rejected.iter().map(|rejected| EventRow {
        reason: Some(rejected.reason.as_str()),
        detail: Some(rejected.detail.clone()),
        count: Some(rejected.count).filter(|count| *count > 1),
        ..row(
            rejected.source,
            &rejected.event_type,
            EventOutcome::Rejected,
        )
    });
    let mut rows: Vec<_> = forwarded.chain(skipped).chain(rejected).collect();
    rows.sort_by_key(|row| row.source.position);
    rows
}

impl EventRow<'_> {
    fn cells(&self) -> [String; 5] {
        let position = match self.source.position {
            Some(EventPosition { batch, event }) => {
                format!("{}[{batch}][{event}]", self.source.file)
            }
            None => self.source.file.to_owned(),
        };
        let outcome = match self.outcome {
            EventOutcome::Forwarded => "forwarded",
            EventOutcome::Skipped => "skipped",
            EventOutcome::Rejected => "rejected",
        };
        let (name_or_reason, user_or_detail) = match self.mapped {
            Some(event) => {
                let (User::Email(user) | User::UserId(user)) = event.user();
                (event.event_name(), user.to_owned())
            }
            None => (
                self.reason.unwrap_or_default(),
                self.detail.clone().unwrap_or_default(),
            ),
        };
        [
            position,
            self.event_type.to_owned(),
            outcome.to_owned(),
            name_or_reason.to_owned(),
            user_or_detail,
        ]
        .map(|cell| printable(&cell))
    }
}

/// Replaces control characters and bidirectional formatting characters in untrusted text.
pub fn printable(text: &str) -> String {
    let is_unsafe = |char: char| {
        char.is_control()
            || matches!(char, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars()
        .map(|char| if is_unsafe(char) { '\u{fffd}' } else { char })
        .collect()
}
