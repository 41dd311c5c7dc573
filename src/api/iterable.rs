use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    BASE_URL, BASE_URL_MESSAGE, DATA_KEY, DATA_KEY_MESSAGE, Duration, OBJECT_NAME,
    OBJECT_NAME_MESSAGE, pattern_rule,
};

/// An Iterable project and how to reach it.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct IterableSpec {
    /// The Secret, in the same namespace, and the key in it that hold the project's server-side API
    /// key. Example: {name: iterable, key: api-key}.
    pub api_key_secret_ref: SecretKeyRef,

    /// The data centre of the project: US (api.iterable.com) or EU (api.eu.iterable.com). A key
    /// works in its own data centre only. Default US. Example: EU.
    #[serde(default)]
    pub data_center: DataCenter,

    /// The base URL of the API, if it is reached by another address, such as a proxy's. Left out:
    /// that of `dataCenter`. Example: "https://iterable-proxy.example.com".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(BASE_URL, BASE_URL_MESSAGE)), length(max = 512))]
    pub endpoint: Option<String>,

    /// How the project tells users apart: Email, UserId or Hybrid (both). It decides by which key
    /// an event names its user. Shown in Iterable under Settings > Project Settings. Default Email.
    /// Example: UserId.
    #[serde(default)]
    pub project_type: ProjectType,

    /// How long one request may take before it counts as failed and is made again, in hours,
    /// minutes and seconds, from 1s to 10m. Default "30s". Example: "1m".
    #[serde(default = "default_request_timeout")]
    pub request_timeout: Duration,

    /// The most requests in a second to events/trackBulk, over all pods of a run. Iterable's limit
    /// is 10 for a project: set less if other integrations use the same project's. Default 10.
    /// Example: 5.
    #[serde(default = "default_requests_per_second")]
    #[schemars(range(min = 1, max = 1000))]
    pub requests_per_second: u32,

    /// The most events in one request. Default 1000. Example: 500.
    #[serde(default = "default_max_events_per_request")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_events_per_request: u32,

    /// The largest request body before compression, in bytes. An event that is larger by itself is
    /// sent alone, unless it has more than 32000000: then it counts as rejected. Default 4000000.
    /// Example: 1000000.
    #[serde(default = "default_max_bytes_per_request")]
    #[schemars(range(min = 10_000, max = 32_000_000))]
    pub max_bytes_per_request: u32,

    /// What happens to an event whose user Iterable doesn't know. Retry: its message stays in the
    /// queue for later runs, since a user made a minute ago may not be visible yet. Create: the
    /// user is made by users/bulkUpdate, and the message stays for the minute that Iterable takes
    /// to know it. Reject: the event counts as rejected, see `drain.rejected`. Default Retry.
    /// Example: Create.
    #[serde(default)]
    pub unknown_users: UnknownUserPolicy,

    /// What happens to an event with a field whose type differs from the one that Iterable first
    /// saw. RejectEvent: the event is rejected, see `drain.rejected`. DropField: it is sent without
    /// the field, which the run counts as FieldTypeConflict. Default RejectEvent. Example: DropField.
    #[serde(default)]
    pub type_conflicts: TypeConflictPolicy,

    /// How request bodies are compressed: None or Gzip. Iterable doesn't say whether it reads
    /// compressed ones; a run whose first such request is refused sends all as they are. Default
    /// None. Example: Gzip.
    #[serde(default)]
    pub compression: Compression,
}

/// What happens to an event whose user is unknown.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownUserPolicy {
    /// The message stays in the queue.
    #[default]
    Retry,
    /// The user is made.
    Create,
    /// The event is rejected.
    Reject,
}

/// What happens to an event with a field of another type.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TypeConflictPolicy {
    /// The event is rejected.
    #[default]
    RejectEvent,
    /// The field is left out.
    DropField,
}

/// How request bodies are compressed.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// By gzip.
    Gzip,
}

/// Where an Iterable project lives.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataCenter {
    /// api.iterable.com
    #[default]
    US,
    /// api.eu.iterable.com
    EU,
}

/// What identifies a user in an Iterable project.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProjectType {
    /// The email address.
    #[default]
    Email,
    /// The userId.
    UserId,
    /// Either.
    Hybrid,
}

/// One key of a Secret in the forwarder's own namespace.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// The Secret's name. Example: "iterable".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(OBJECT_NAME, OBJECT_NAME_MESSAGE)), length(min = 1, max = 253))]
    pub name: String,

    /// The key in the Secret's data. Default "api-key". Example: "server-side-key".
    #[serde(default = "default_key")]
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(DATA_KEY, DATA_KEY_MESSAGE)), length(min = 1, max = 253))]
    pub key: String,
}

impl IterableSpec {
    /// The base URL of the API, without a slash at its end.
    pub fn base_url(&self) -> &str {
        match (&self.endpoint, self.data_center) {
            (Some(endpoint), _) => endpoint.trim_end_matches('/'),
            (None, DataCenter::US) => "https://api.iterable.com",
            (None, DataCenter::EU) => "https://api.eu.iterable.com",
        }
    }
}

fn default_request_timeout() -> Duration {
    Duration::from_secs(30)
}

fn default_requests_per_second() -> u32 {
    10
}

fn default_max_events_per_request() -> u32 {
    1_000
}

fn default_max_bytes_per_request() -> u32 {
    4_000_000
}

fn default_key() -> String {
    "api-key".to_owned()
}
