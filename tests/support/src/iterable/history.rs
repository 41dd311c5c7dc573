use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

/// A request to the API, as it came and as it was answered.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestRecord {
    /// When its answer was decided, by the stand-in's clock.
    pub at: Timestamp,
    /// The path.
    pub path: String,
    /// The version of HTTP, such as `HTTP/1.1`.
    pub version: String,
    /// The headers without the key, in lower case; empty if only counts are kept.
    pub headers: BTreeMap<String, String>,
    /// Bytes of the body, as sent.
    pub bytes: usize,
    /// How many events (or users) it held.
    pub entries: usize,
    /// The status that was answered, if any answer was meant to be given.
    pub status: Option<u16>,
    /// The body; `null` if it was no JSON, or if only counts are kept.
    pub body: Value,
}

/// What happened so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The requests.
    pub requests: RequestCounts,
    /// The events.
    pub events: EventCounts,
    /// Faults that are still waiting for requests.
    pub faults: usize,
    /// TCP connections that were accepted, those to the admin API included.
    pub connections: u64,
}

/// How many requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestCounts {
    /// All of them.
    pub total: u64,
    /// The bytes of their bodies.
    pub bytes: u64,
    /// By path.
    pub by_path: BTreeMap<String, u64>,
    /// By the status answered; `none` for those that got no answer.
    pub by_status: BTreeMap<String, u64>,
}

/// How many events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventCounts {
    /// Distinct ids.
    pub stored: u64,
    /// Writes, overwrites included.
    pub writes: u64,
}

/// All requests since the start or the last reset.
#[derive(Debug, Default)]
pub(super) struct Requests {
    pub(super) records: Vec<RequestRecord>,
    pub(super) counts: RequestCounts,
}

impl Requests {
    pub(super) fn add(&mut self, record: RequestRecord) {
        let counts = &mut self.counts;
        counts.total += 1;
        counts.bytes += record.bytes as u64;
        *counts.by_path.entry(record.path.clone()).or_default() += 1;
        let status = record
            .status
            .map_or_else(|| "none".to_owned(), |status| status.to_string());
        *counts.by_status.entry(status).or_default() += 1;
        self.records.push(record);
    }
}
