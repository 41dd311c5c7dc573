use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, EnvVar, HostAlias, LocalObjectReference, PodSecurityContext, ResourceRequirements,
    SecurityContext, Toleration, TopologySpreadConstraint, Volume, VolumeMount,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use serde_json::Value;

use super::{OBJECT_NAME, OBJECT_NAME_MESSAGE, pattern_rule};

/// Settings of the Jobs and pods of runs.
// Large, rarely set fields are boxed, because thousands of these are in memory.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct JobSpec {
    /// ServiceAccount of the runs, for example one bound to an AWS role. No API token is mounted,
    /// because a run needs no Kubernetes permissions. Default "default". Example:
    /// "event-forwarder-runs".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(OBJECT_NAME, OBJECT_NAME_MESSAGE)), length(min = 1, max = 253))]
    pub service_account_name: Option<String>,

    /// Image of the runs. If unset, the image of the controller, so that an upgrade of the operator
    /// also upgrades the runs. Example: "registry.example.com/event-forwarder:0.1.0".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,

    /// When the image is pulled: Always, IfNotPresent, or Never. Default IfNotPresent. Example:
    /// Always.
    #[serde(default)]
    pub image_pull_policy: ImagePullPolicy,

    /// Secrets, in the same namespace, with credentials for the registry. If unset, the pull
    /// secrets of the ServiceAccount. Example: [{name: registry}].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub image_pull_secrets: Vec<LocalObjectReference>,

    /// CPU, in cores (50m is a twentieth), and memory, in bytes (Mi: 1,048,576 of them), of the
    /// run's container. Default: requests of 50m CPU and 96Mi memory, and a limit of 256Mi memory.
    /// A value replaces all of these defaults. Example: {requests: {cpu: 100m, memory: 128Mi},
    /// limits: {memory: 512Mi}}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,

    /// Labels that a node must have. If unset, none. Example: {kubernetes.io/arch: arm64}.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,

    /// Taints that the pod tolerates. If unset, none. Example: [{key: dedicated, operator:
    /// Exists}].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,

    /// Preferences and requirements for the placement of the pod. If unset, none. Example:
    /// {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms:
    /// [{matchExpressions: [{key: topology.kubernetes.io/zone, operator: In, values:
    /// ["us-east-1a"]}]}]}}}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Box<Affinity>>,

    /// How pods are spread over nodes or zones. Useful if `drain.parallelism` is greater than 1. If
    /// unset, the defaults of the scheduler. Example: [{maxSkew: 1, topologyKey:
    /// kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels:
    /// {app.kubernetes.io/instance: mparticle}}}].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["topologyKey", "whenUnsatisfiable"]))]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,

    /// PriorityClass of the pod. If unset, the default of the cluster. Example: "low-priority".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(OBJECT_NAME, OBJECT_NAME_MESSAGE)), length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,

    /// Labels added to the run's Jobs and pods. The controller's labels take precedence. If unset,
    /// none. Example: {team: marketing}.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pod_labels: BTreeMap<String, String>,

    /// Annotations added to the run's pods. The controller's annotations take precedence. If unset,
    /// none. Example: {sidecar.istio.io/inject: "false"}.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pod_annotations: BTreeMap<String, String>,

    /// Environment variables added to the run's container. If unset, none. Example: [{name:
    /// HTTPS_PROXY, value: "http://proxy.example.com:3128"}].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<EnvVar>,

    /// Volumes added to the pod, as in `spec.volumes` of a pod, for example a ConfigMap with a
    /// private CA. If unset, none. Example: [{name: ca, configMap: {name: private-ca}}].
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "deserialize_volumes_strict"
    )]
    #[schemars(schema_with = "any_objects")]
    pub volumes: Vec<Volume>,

    /// Where `volumes` are mounted in the run's container. If unset, none. Example: [{name: ca,
    /// mountPath: /etc/private-ca}].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["mountPath"],
        "x-kubernetes-validations" = [{
            "rule": "self.all(mount, !mount.mountPath.startsWith('/etc/event-forwarder') && !mount.mountPath.startsWith('/var/run/secrets/eventforwarder.io'))",
            "message": "the paths /etc/event-forwarder, /etc/event-forwarder-mapping, and /var/run/secrets/eventforwarder.io are reserved for the run: mount at another path",
        }]
    ))]
    pub volume_mounts: Vec<VolumeMount>,

    /// Lines added to /etc/hosts of the pod. If unset, none. Example: [{ip: "10.0.0.5", hostnames:
    /// ["sqs.example.com"]}].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["ip"]))]
    pub host_aliases: Vec<HostAlias>,

    /// Security context of the pod. If unset, a non-root user and the seccomp profile of the
    /// runtime, as the restricted Pod Security level requires. A value replaces all of these
    /// settings. The value needs an fsGroup, so that the run can read the API key file. Example:
    /// {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}, on OpenShift, which assigns
    /// the user and group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_context: Option<Box<PodSecurityContext>>,

    /// Security context of the container. If unset, no capabilities, no privilege escalation, and a
    /// read-only root file system, as the restricted Pod Security level requires. A value replaces
    /// all of these settings. Example: {allowPrivilegeEscalation: false, capabilities: {drop:
    /// ["ALL"]}}, for a writable root file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_security_context: Option<Box<SecurityContext>>,

    /// Maximum duration of a run's Job, in seconds, including its start. If unset, the sum of
    /// `drain.maxDuration`, `terminationGracePeriodSeconds`, and 300 for the start. Example: 7200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 172_800))]
    pub active_deadline_seconds: Option<i64>,

    /// Time in seconds that a run has to finish its messages in flight after a termination signal.
    /// Default 60. Example: 120.
    #[serde(default = "default_termination_grace_period_seconds")]
    #[schemars(range(min = 10, max = 3600))]
    pub termination_grace_period_seconds: i64,

    /// Number of finished Jobs to keep. Example: {successful: 1, failed: 5}.
    #[serde(default)]
    pub history_limits: HistoryLimits,

    /// Time in seconds after which a finished Job is deleted. Also applies to a Job created with
    /// `kubectl create job --from`. Default 86400, one day. Example: 3600.
    #[serde(default = "default_ttl_seconds_after_finished")]
    #[schemars(range(min = 60, max = 2_592_000))]
    pub ttl_seconds_after_finished: i32,
}

/// Number of finished Jobs that a CronJob keeps.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HistoryLimits {
    /// Number of successful Jobs to keep: those with the outcome Drained. Default 3. Example: 1.
    #[serde(default = "default_history_limit")]
    #[schemars(range(min = 1, max = 100))]
    pub successful: i32,

    /// Number of failed Jobs to keep: those with any other outcome. Default 3. Example: 5.
    #[serde(default = "default_history_limit")]
    #[schemars(range(min = 1, max = 100))]
    pub failed: i32,
}

/// When an image is pulled.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImagePullPolicy {
    /// At every start of a pod.
    Always,
    /// If the node does not have it.
    #[default]
    IfNotPresent,
    /// Never. The node must have it.
    Never,
}

impl ImagePullPolicy {
    /// Returns the name that Kubernetes uses.
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

/// Returns the schema of a list of volumes, which the API server validates only when it creates the
/// pod. The full schema of a volume would be as large as the rest of the CRD.
fn any_objects(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 32,
        "items": {
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": true,
            "properties": {"name": {
                "type": "string",
                "description": "Name of the volume. The other fields are those of a pod volume.",
            }},
            "required": ["name"],
        },
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "x-kubernetes-validations": [{
            "rule": "self.all(volume, !(volume.name in ['forwarder', 'iterable', 'aws', 'mapping']))",
            "message": "the names forwarder, iterable, aws, and mapping are reserved for the run: use another name",
        }],
    })
}

/// Deserializes volumes. Returns an error for a field that would not reach the pod, because it is
/// misspelled or newer than this version.
fn deserialize_volumes_strict<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Volume>, D::Error> {
    let input = Value::deserialize(deserializer)?;
    let volumes = Vec::<Volume>::deserialize(&input).map_err(D::Error::custom)?;
    match unknown_field(&input, &serde_json::json!(volumes)) {
        None => Ok(volumes),
        Some(path) => Err(D::Error::custom(format!(
            "unknown volume field spec.job.volumes{path}"
        ))),
    }
}

/// Returns the path of a field that is in `input` but not in `kept`.
fn unknown_field(input: &Value, kept: &Value) -> Option<String> {
    match input {
        Value::Object(members) => members
            .iter()
            .filter(|(_, value)| !value.is_null())
            .find_map(|(name, value)| match kept.get(name) {
                None => Some(format!(".{name}")),
                Some(kept) => unknown_field(value, kept).map(|path| format!(".{name}{path}")),
            }),
        Value::Array(items) => items.iter().enumerate().find_map(|(index, item)| {
            unknown_field(item, kept.get(index)?).map(|path| format!("[{index}]{path}"))
        }),
        _ => None,
    }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn unknown_volume_field_is_rejected_with_its_path() {
        let read = |volumes: Value| serde_json::from_value::<JobSpec>(json!({"volumes": volumes}));
        let valid = json!([
            {"name": "a", "emptyDir": {}},
            {"name": "b", "secret": {"secretName": "ca", "items": [], "optional": false}},
            {"name": "c", "emptyDir": {"sizeLimit": "1Mi"}, "secret": null},
        ]);
        assert_eq!(read(valid).expect("volumes").volumes.len(), 3);
        let misspelled = json!([{"name": "a"}, {"name": "b", "emptyDir": {"sizelimit": "1Mi"}}]);
        let error = read(misspelled)
            .expect_err("a misspelled field")
            .to_string();
        assert!(
            error.contains("spec.job.volumes[1].emptyDir.sizelimit"),
            "{error}"
        );
    }
}
