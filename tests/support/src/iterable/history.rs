use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

/// A request to the API, and the status of its answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestRecord {
    /// Time at which the answer was decided, by the server's clock.
    pub at: Timestamp,
    /// Path of the request.
    pub path: String,
    /// HTTP version, such as `HTTP/1.1`.
    pub version: String,
    /// Headers without the API key, names in lower case; empty if only counts are kept.
    pub headers: BTreeMap<String, String>,
    /// Bytes of the body as sent.
    pub bytes: usize,
    /// Number of events or users in the request.
    pub entries: usize,
    /// Status of the answer; `None` if the fault sends none.
    pub status: Option<u16>,
    /// The body; `null` if it was not valid JSON, or if only counts are kept.
    pub body: Value,
}

/// Counts since the start or the last reset, except `connections`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Request counts.
    pub requests: RequestCounts,
    /// Event counts.
    pub events: EventCounts,
    /// Number of faults that still wait for requests.
    pub faults: usize,
    /// Number of accepted TCP connections since the start, including those to the admin API.
    pub connections: u64,
}

/// Request counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestCounts {
    /// Number of requests.
    pub total: u64,
    /// Bytes of all bodies.
    pub bytes: u64,
    /// Number of requests by path.
    pub by_path: BTreeMap<String, u64>,
    /// Number of requests by status; `none` for requests without an answer.
    pub by_status: BTreeMap<String, u64>,
}

/// Event counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventCounts {
    /// Number of distinct IDs.
    pub stored: u64,
    /// Number of writes, including overwrites.
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
