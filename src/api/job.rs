use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, EnvVar, HostAlias, LocalObjectReference, PodSecurityContext, ResourceRequirements,
    SecurityContext, Toleration, TopologySpreadConstraint, Volume, VolumeMount,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The pod that runs are made of.
// What is large and seldom set is boxed: thousands of these are in memory.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct JobSpec {
    /// The ServiceAccount that runs use, for example one bound to an AWS role. No API token is
    /// mounted: a run needs no rights in Kubernetes. Default "default".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,

    /// The image that runs use. Left out: the controller's own image, so that an upgrade of the
    /// operator is an upgrade of the runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,

    /// When the image is pulled: Always, IfNotPresent or Never. Default IfNotPresent.
    #[serde(default)]
    pub image_pull_policy: ImagePullPolicy,

    /// Secrets, in the same namespace, with the registry's credentials.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub image_pull_secrets: Vec<LocalObjectReference>,

    /// CPU and memory of the run's container. Default: requests of 50m CPU and 96Mi memory, a
    /// limit of 256Mi memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,

    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,

    /// Taints that the pod tolerates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,

    /// Preferences and demands on where the pod runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Box<Affinity>>,

    /// How pods are spread over nodes or zones; of use with `drain.parallelism` above 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,

    /// The PriorityClass of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,

    /// Labels added to the run's Jobs and pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pod_labels: BTreeMap<String, String>,

    /// Annotations added to the run's pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pod_annotations: BTreeMap<String, String>,

    /// Environment variables added to the run's container, for example HTTPS_PROXY.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<EnvVar>,

    /// Volumes added to the pod, as in a pod's `spec.volumes`. Example: a ConfigMap with a
    /// private CA.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "any_objects")]
    pub volumes: Vec<Volume>,

    /// Where the volumes above are mounted in the run's container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["mountPath"]))]
    pub volume_mounts: Vec<VolumeMount>,

    /// Lines added to the pod's /etc/hosts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["ip"]))]
    pub host_aliases: Vec<HostAlias>,

    /// The pod's security context. Left out: a non-root user and the runtime's seccomp profile,
    /// as the restricted Pod Security level asks. One of your own takes the place of all of it; it
    /// needs an fsGroup, by which the key's file can be read. On OpenShift, which chooses user and
    /// group itself: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_context: Option<Box<PodSecurityContext>>,

    /// The container's security context. Left out: no capabilities, no privilege escalation, a
    /// read-only root, as the restricted Pod Security level asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_security_context: Option<Box<SecurityContext>>,

    /// How long a run's Job may last in all, in seconds, its start included. Left out: the
    /// sum of `drain.maxDuration`, the grace period and 300 for the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 172_800))]
    pub active_deadline_seconds: Option<i64>,

    /// How long a run that is told to stop may take to settle what it holds, in seconds.
    /// Default 60.
    #[serde(default = "default_termination_grace_period_seconds")]
    #[schemars(range(min = 10, max = 3600))]
    pub termination_grace_period_seconds: i64,

    /// How many finished Jobs are kept.
    #[serde(default)]
    pub history_limits: HistoryLimits,

    /// How long a finished Job is kept, in seconds, also one that was made by
    /// `kubectl create job --from`. Default 86400, a day.
    #[serde(default = "default_ttl_seconds_after_finished")]
    #[schemars(range(min = 60, max = 2_592_000))]
    pub ttl_seconds_after_finished: i32,
}

/// How many finished Jobs a CronJob keeps.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HistoryLimits {
    /// Jobs that succeeded. Default 3.
    #[serde(default = "default_history_limit")]
    #[schemars(range(min = 1, max = 100))]
    pub successful: i32,

    /// Jobs that failed. Default 3.
    #[serde(default = "default_history_limit")]
    #[schemars(range(min = 1, max = 100))]
    pub failed: i32,
}

/// When an image is pulled.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImagePullPolicy {
    /// At each start.
    Always,
    /// When the node lacks it.
    #[default]
    IfNotPresent,
    /// Never: it must be on the node.
    Never,
}

impl ImagePullPolicy {
    /// The policy as Kubernetes writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

impl Default for JobSpec {
    fn default() -> Self {
        Self {
            service_account_name: None,
            image: None,
            image_pull_policy: ImagePullPolicy::default(),
            image_pull_secrets: Vec::new(),
            resources: None,
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            affinity: None,
            topology_spread_constraints: Vec::new(),
            priority_class_name: None,
            pod_labels: BTreeMap::new(),
            pod_annotations: BTreeMap::new(),
            env: Vec::new(),
            volumes: Vec::new(),
            volume_mounts: Vec::new(),
            host_aliases: Vec::new(),
            security_context: None,
            container_security_context: None,
            active_deadline_seconds: None,
            termination_grace_period_seconds: default_termination_grace_period_seconds(),
            history_limits: HistoryLimits::default(),
            ttl_seconds_after_finished: default_ttl_seconds_after_finished(),
        }
    }
}

impl Default for HistoryLimits {
    fn default() -> Self {
        Self {
            successful: default_history_limit(),
            failed: default_history_limit(),
        }
    }
}

/// A list of objects that the API server checks when they reach the pod: the whole schema of a
/// volume would take as much room as all the rest of the definition.
fn any_objects(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 32,
        "items": {
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": true,
            "properties": {"name": {
                "type": "string",
                "description": "The volume's name. Its other fields are those of a pod's volume.",
            }},
            "required": ["name"],
        },
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
    })
}

fn default_termination_grace_period_seconds() -> i64 {
    60
}

fn default_history_limit() -> i32 {
    3
}

fn default_ttl_seconds_after_finished() -> i32 {
    86_400
}
