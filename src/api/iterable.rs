use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    BASE_URL, BASE_URL_MESSAGE, DATA_KEY, DATA_KEY_MESSAGE, Duration, OBJECT_NAME,
    OBJECT_NAME_MESSAGE, pattern_rule,
};

/// An Iterable project, its API key, and request limits.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct IterableSpec {
    /// Key of a Secret, in the same namespace, that contains the server-side API key of the
    /// project. Example: {name: iterable, key: api-key}.
    pub api_key_secret_ref: SecretKeyRef,

    /// Data center of the project: US (api.iterable.com) or EU (api.eu.iterable.com). An API key
    /// works only in its data center. Default US. Example: EU.
    #[serde(default)]
    pub data_center: DataCenter,

    /// Base URL of the API, if it is reached at another address, for example through a proxy. If
    /// unset, the URL of `dataCenter`. Example: "https://iterable-proxy.example.com".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(BASE_URL, BASE_URL_MESSAGE)), length(max = 512))]
    pub endpoint: Option<String>,

    /// How the project identifies users: Email, UserId, or Hybrid (both). Determines which field
    /// identifies the user of an event. Shown in Iterable under Settings > Project Settings.
    /// Default Email. Example: UserId.
    #[serde(default)]
    pub project_type: ProjectType,

    /// Time after which a request counts as failed and is retried, in hours, minutes, and seconds,
    /// from 1s to 10m. Default "30s". Example: "1m".
    #[serde(default = "default_request_timeout")]
    pub request_timeout: Duration,

    /// Maximum requests per second to events/trackBulk, over all pods of a run. Iterable's limit is
    /// 10 per project. Set a lower value if other integrations use the same project. Default 10.
    /// Example: 5.
    #[serde(default = "default_requests_per_second")]
    #[schemars(range(min = 1, max = 1000))]
    pub requests_per_second: u32,

    /// Maximum number of events in a request. Default 1000. Example: 500.
    #[serde(default = "default_max_events_per_request")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_events_per_request: u32,

    /// Maximum size of a request body before compression, in bytes. A larger event is sent in a
    /// separate request. An event larger than 32000000 bytes is rejected. Default 4000000. Example:
    /// 1000000.
    #[serde(default = "default_max_bytes_per_request")]
    #[schemars(range(min = 10_000, max = 32_000_000))]
    pub max_bytes_per_request: u32,

    /// What happens to an event whose user does not exist in Iterable. Retry: the message stays in
    /// the queue for later runs, because a user created a minute ago may not be visible yet.
    /// Create: creates the user with users/bulkUpdate; the message stays in the queue for a
    /// minute, until Iterable finds the user. Reject: rejects the event, see `drain.rejected`.
    /// Default Retry. Example: Create.
    #[serde(default)]
    pub unknown_users: UnknownUserPolicy,

    /// What happens to an event with a field whose type differs from the first type that Iterable
    /// received for it. RejectEvent: rejects the event, see `drain.rejected`. DropField: sends the
    /// event without the field, counted as FieldTypeConflict. Default RejectEvent. Example:
    /// DropField.
    #[serde(default)]
    pub type_conflicts: TypeConflictPolicy,

    /// Compression of request bodies: None or Gzip. Iterable does not document whether it accepts
    /// compressed requests. If it rejects the first one, the run sends all requests uncompressed.
    /// Default None. Example: Gzip.
    #[serde(default)]
    pub compression: Compression,
}

/// What happens to an event whose user does not exist in Iterable.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownUserPolicy {
    /// Leaves the message in the queue.
    #[default]
    Retry,
    /// Creates the user.
    Create,
    /// Rejects the event.
    Reject,
}

/// What happens to an event with a field of another type.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TypeConflictPolicy {
    /// Rejects the event.
    #[default]
    RejectEvent,
    /// Sends the event without the field.
    DropField,
}

/// Compression of request bodies.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// No compression.
    #[default]
    None,
    /// Compression with gzip.
    Gzip,
}

/// Data center of an Iterable project.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataCenter {
    /// api.iterable.com
    #[default]
    US,
    /// api.eu.iterable.com
    EU,
}

/// How an Iterable project identifies users.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProjectType {
    /// By email address.
    #[default]
    Email,
    /// By userId.
    UserId,
    /// By email address or userId.
    Hybrid,
}

/// A key of a Secret in the namespace of the EventForwarder.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret. Example: "iterable".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(OBJECT_NAME, OBJECT_NAME_MESSAGE)), length(min = 1, max = 253))]
    pub name: String,

    /// Key in the data of the Secret. Default "api-key". Example: "server-side-key".
    #[serde(default = "default_key")]
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(DATA_KEY, DATA_KEY_MESSAGE)), length(min = 1, max = 253))]
    pub key: String,
}

impl IterableSpec {
    /// Returns the base URL of the API, without a trailing slash.
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
