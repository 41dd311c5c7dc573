//! The desired CronJob of a forwarder. Pure.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        batch::v1::{CronJob, CronJobSpec, Job, JobSpec, JobTemplateSpec},
        core::v1::{
            Capabilities, ConfigMapVolumeSource, Container, DownwardAPIVolumeFile,
            DownwardAPIVolumeSource, KeyToPath, ObjectFieldSelector, PodSecurityContext, PodSpec,
            PodTemplateSpec, ResourceRequirements, SeccompProfile, SecretVolumeSource,
            SecurityContext, Volume, VolumeMount,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{ObjectMeta, OwnerReference},
    },
};
use kube::Resource;
use serde_json::json;

use super::validate::{ValidatedSpec, short_hash};
use crate::api::{ConfigMapKeyRef, EventForwarder};

/// The label of all objects that this controller creates.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY_LABEL`], and the field manager of every apply.
pub const FIELD_MANAGER: &str = "event-forwarder";
/// The label with the CronJob's name, on the CronJob, its Jobs and their pods.
pub const INSTANCE_LABEL: &str = "app.kubernetes.io/instance";
/// The annotation with the forwarder's full name, on CronJobs, Jobs and pods.
pub const FORWARDER_ANNOTATION: &str = "eventforwarder.io/forwarder";
/// The annotation with a hash of the desired CronJob. It reveals when a field is no longer
/// requested.
pub const SPEC_HASH_ANNOTATION: &str = "eventforwarder.io/applied";
/// The annotation that requests a run. Every new value requests another run.
pub const RUN_NOW_ANNOTATION: &str = "eventforwarder.io/run-now";
/// The pod annotation with the EventForwarder that the run reads.
const RESOURCE_ANNOTATION: &str = "eventforwarder.io/resource";

/// The name of the drain container.
pub const CONTAINER: &str = "drain";
const CONFIG_DIR: &str = "/etc/event-forwarder";
const CONFIG_FILE: &str = "forwarder.json";
const API_KEY_DIR: &str = "/var/run/secrets/eventforwarder.io/iterable";
const API_KEY_FILE: &str = "api-key";
const AWS_DIR: &str = "/var/run/secrets/eventforwarder.io/aws";
const MAPPING_DIR: &str = "/etc/event-forwarder-mapping";
const TRANSFORM_FILE: &str = "transform.jq";
const REPORT_FILE: &str = "/dev/termination-log";
/// The user and group `nonroot` of the image.
const NON_ROOT: i64 = 65_532;
/// How long scheduling and starting a pod can take, in seconds. Part of the Job's deadline.
const START_ALLOWANCE_SECONDS: i64 = 300;

/// The inputs of the CronJob besides the EventForwarder.
#[derive(Debug, Clone, Copy)]
pub struct CronJobOptions<'a> {
    /// The default image of runs.
    pub image: &'a str,
    /// Suspends the CronJob because its runs would fail.
    pub paused: bool,
}

/// Returns the desired CronJob. Sets every field whose API server default differs, so that a
/// repeated apply changes nothing.
pub fn build(
    forwarder: &EventForwarder,
    validated: &ValidatedSpec,
    options: CronJobOptions<'_>,
) -> CronJob {
    let mut cronjob = build_without_hash(forwarder, validated, options);
    let hash = short_hash(&json!(cronjob).to_string());
    let annotations = cronjob.metadata.annotations.get_or_insert_default();
    annotations.insert(SPEC_HASH_ANNOTATION.to_owned(), hash);
    cronjob
}

fn build_without_hash(
    forwarder: &EventForwarder,
    validated: &ValidatedSpec,
    options: CronJobOptions<'_>,
) -> CronJob {
    let spec = &forwarder.spec;
    let labels = labels(&validated.cronjob_name);
    let annotations = BTreeMap::from([(
        FORWARDER_ANNOTATION.to_owned(),
        forwarder.metadata.name.clone().unwrap_or_default(),
    )]);
    CronJob {
        metadata: ObjectMeta {
            name: Some(validated.cronjob_name.clone()),
            namespace: forwarder.metadata.namespace.clone(),
            labels: Some(labels.clone()),
            annotations: Some(annotations.clone()),
            owner_references: forwarder.controller_owner_ref(&()).map(|owner| {
                // Blocking the owner's deletion requires permission on its finalizers in some
                // clusters, and is not needed here.
                vec![OwnerReference {
                    block_owner_deletion: None,
                    ..owner
                }]
            }),
            ..ObjectMeta::default()
        },
        spec: Some(CronJobSpec {
            schedule: spec.schedule.clone(),
            // If unset, the time zone of kube-controller-manager applies.
            time_zone: Some(spec.time_zone.as_deref().unwrap_or("Etc/UTC").to_owned()),
            concurrency_policy: Some("Forbid".to_owned()),
            suspend: Some(spec.suspend || options.paused),
            starting_deadline_seconds: Some(spec.starting_deadline_seconds),
            successful_jobs_history_limit: Some(spec.job.history_limits.successful),
            failed_jobs_history_limit: Some(spec.job.history_limits.failed),
            job_template: JobTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(merge(&spec.job.pod_labels, labels.clone())),
                    annotations: Some(annotations.clone()),
                    ..ObjectMeta::default()
                }),
                spec: Some(job(forwarder, options.image, labels, annotations)),
            },
        }),
        status: None,
    }
}

/// Returns the Job of a requested run, from the current CronJob. The same request always has the
/// same Job name, so it starts one run.
pub fn run_now_job(cronjob: &CronJob, request: &str) -> Option<Job> {
    let name = cronjob.metadata.name.as_ref()?;
    let template = &cronjob.spec.as_ref()?.job_template;
    let metadata = template.metadata.clone().unwrap_or_default();
    let mut annotations = metadata.annotations.unwrap_or_default();
    annotations.insert(
        "cronjob.kubernetes.io/instantiate".to_owned(),
        "manual".to_owned(),
    );
    let owner = OwnerReference {
        // With `true`, the CronJob controller would treat the Job as one that it lost track of.
        controller: Some(false),
        block_owner_deletion: None,
        ..cronjob.controller_owner_ref(&())?
    };
    Some(Job {
        metadata: ObjectMeta {
            name: Some(run_now_name(name, request)),
            namespace: cronjob.metadata.namespace.clone(),
            labels: metadata.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    })
}

/// Returns the Job name of a requested run.
pub fn run_now_name(cronjob_name: &str, request: &str) -> String {
    format!("{cronjob_name}-{}", short_hash(request))
}

fn labels(cronjob_name: &str) -> BTreeMap<String, String> {
    [
        (MANAGED_BY_LABEL, FIELD_MANAGER),
        ("app.kubernetes.io/name", "event-forwarder"),
        ("app.kubernetes.io/component", "drain"),
        (INSTANCE_LABEL, cronjob_name),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

/// Adds `required` entries to the user's entries. Required entries win.
fn merge(
    users: &BTreeMap<String, String>,
    required: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut all = users.clone();
    all.extend(required);
    all
}

fn job(
    forwarder: &EventForwarder,
    image: &str,
    labels: BTreeMap<String, String>,
    mut annotations: BTreeMap<String, String>,
) -> JobSpec {
    let spec = &forwarder.spec;
    let max_duration = i64::try_from(spec.drain.max_duration.get().as_secs()).unwrap_or(i64::MAX);
    annotations.insert(
        RESOURCE_ANNOTATION.to_owned(),
        resource_for_the_run(forwarder),
    );
    let pods = i32::try_from(spec.drain.parallelism).unwrap_or(i32::MAX);
    let several = pods > 1;
    JobSpec {
        completions: Some(pods),
        parallelism: Some(pods),
        completion_mode: Some(if several { "Indexed" } else { "NonIndexed" }.to_owned()),
        // The next scheduled run is the retry. If one of several pods fails, the others continue.
        backoff_limit: (!several).then_some(0),
        backoff_limit_per_index: several.then_some(0),
        active_deadline_seconds: Some(spec.job.active_deadline_seconds.unwrap_or_else(|| {
            max_duration
                .saturating_add(spec.job.termination_grace_period_seconds)
                .saturating_add(START_ALLOWANCE_SECONDS)
        })),
        ttl_seconds_after_finished: Some(spec.job.ttl_seconds_after_finished),
        template: PodTemplateSpec {
            metadata: Some(ObjectMeta {
                labels: Some(merge(&spec.job.pod_labels, labels)),
                annotations: Some(merge(&spec.job.pod_annotations, annotations)),
                ..ObjectMeta::default()
            }),
            spec: Some(pod(forwarder, image)),
        },
        ..JobSpec::default()
    }
}

/// Returns the EventForwarder for the run. Of `spec.job`, it has only the grace period.
fn resource_for_the_run(forwarder: &EventForwarder) -> String {
    let mut spec = json!(forwarder.spec);
    if let Some(fields) = spec.as_object_mut() {
        let grace = forwarder.spec.job.termination_grace_period_seconds;
        let job = json!({"terminationGracePeriodSeconds": grace});
        fields.insert("job".to_owned(), job);
    }
    let resource = json!({
        "apiVersion": EventForwarder::api_version(&()),
        "kind": EventForwarder::kind(&()),
        "metadata": {
            "name": forwarder.metadata.name,
            "namespace": forwarder.metadata.namespace,
        },
        "spec": spec,
    });
    resource.to_string()
}

fn pod(forwarder: &EventForwarder, image: &str) -> PodSpec {
    let job = &forwarder.spec.job;
    let mounts = mounts(forwarder);
    PodSpec {
        restart_policy: Some("Never".to_owned()),
        service_account_name: job.service_account_name.clone(),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(job.termination_grace_period_seconds),
        node_selector: non_empty(&job.node_selector),
        tolerations: non_empty(&job.tolerations),
        affinity: job.affinity.as_deref().cloned(),
        priority_class_name: job.priority_class_name.clone(),
        image_pull_secrets: non_empty(&job.image_pull_secrets),
        topology_spread_constraints: non_empty(&job.topology_spread_constraints),
        host_aliases: non_empty(&job.host_aliases),
        security_context: Some(
            job.security_context
                .as_deref()
                .cloned()
                .unwrap_or_else(restricted_pod),
        ),
        containers: vec![Container {
            name: CONTAINER.to_owned(),
            image: Some(job.image.clone().unwrap_or_else(|| image.to_owned())),
            image_pull_policy: Some(job.image_pull_policy.as_str().to_owned()),
            args: Some(arguments(forwarder)),
            env: non_empty(&job.env),
            resources: Some(job.resources.clone().unwrap_or_else(default_resources)),
            termination_message_path: Some(REPORT_FILE.to_owned()),
            termination_message_policy: Some("File".to_owned()),
            security_context: Some(
                job.container_security_context
                    .as_deref()
                    .cloned()
                    .unwrap_or_else(restricted_container),
            ),
            volume_mounts: Some(
                mounts
                    .iter()
                    .map(|(volume, path)| VolumeMount {
                        name: volume.name.clone(),
                        mount_path: (*path).to_owned(),
                        read_only: Some(true),
                        ..VolumeMount::default()
                    })
                    .chain(job.volume_mounts.iter().cloned())
                    .collect(),
            ),
            ..Container::default()
        }],
        volumes: Some(
            mounts
                .into_iter()
                .map(|(volume, _)| volume)
                .chain(job.volumes.iter().cloned())
                .collect(),
        ),
        ..PodSpec::default()
    }
}

/// Returns the pod settings of the restricted Pod Security Standard.
fn restricted_pod() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(NON_ROOT),
        run_as_group: Some(NON_ROOT),
        fs_group: Some(NON_ROOT),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            localhost_profile: None,
        }),
        ..PodSecurityContext::default()
    }
}

/// Returns the container settings of that standard, with a read-only root file system.
fn restricted_container() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            add: None,
        }),
        ..SecurityContext::default()
    }
}

fn arguments(forwarder: &EventForwarder) -> Vec<String> {
    let mut arguments = vec![
        "drain".to_owned(),
        format!("--forwarder={CONFIG_DIR}/{CONFIG_FILE}"),
        format!("--api-key-file={API_KEY_DIR}/{API_KEY_FILE}"),
        format!("--report-file={REPORT_FILE}"),
    ];
    if forwarder.spec.queue.credentials_secret_ref.is_some() {
        arguments.push(format!("--aws-credentials-dir={AWS_DIR}"));
    }
    if transform_ref(forwarder).is_some() {
        arguments.push(format!("--transform={MAPPING_DIR}/{TRANSFORM_FILE}"));
    }
    arguments
}

/// Returns the reference to the ConfigMap with the jq program, if there is one.
fn transform_ref(forwarder: &EventForwarder) -> Option<&ConfigMapKeyRef> {
    forwarder
        .spec
        .mapping
        .transform
        .as_ref()?
        .config_map_key_ref
        .as_ref()
}

fn mounts(forwarder: &EventForwarder) -> Vec<(Volume, &'static str)> {
    let spec = &forwarder.spec;
    let key = &spec.iterable.api_key_secret_ref;
    let mut mounts = vec![
        (resource_volume(), CONFIG_DIR),
        (
            secret_volume(
                "iterable",
                &key.name,
                Some(vec![KeyToPath {
                    key: key.key.clone(),
                    path: API_KEY_FILE.to_owned(),
                    mode: None,
                }]),
            ),
            API_KEY_DIR,
        ),
    ];
    if let Some(credentials) = &spec.queue.credentials_secret_ref {
        mounts.push((secret_volume("aws", &credentials.name, None), AWS_DIR));
    }
    if let Some(program) = transform_ref(forwarder) {
        mounts.push((transform_volume(program), MAPPING_DIR));
    }
    mounts
}

fn transform_volume(program: &ConfigMapKeyRef) -> Volume {
    Volume {
        name: "mapping".to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: program.name.clone(),
            default_mode: Some(0o644),
            items: Some(vec![KeyToPath {
                key: program.key.clone(),
                path: TRANSFORM_FILE.to_owned(),
                mode: None,
            }]),
            optional: None,
        }),
        ..Volume::default()
    }
}

fn resource_volume() -> Volume {
    Volume {
        name: "forwarder".to_owned(),
        downward_api: Some(DownwardAPIVolumeSource {
            default_mode: Some(0o644),
            items: Some(vec![DownwardAPIVolumeFile {
                path: CONFIG_FILE.to_owned(),
                field_ref: Some(ObjectFieldSelector {
                    api_version: Some("v1".to_owned()),
                    field_path: format!("metadata.annotations['{RESOURCE_ANNOTATION}']"),
                }),
                ..DownwardAPIVolumeFile::default()
            }]),
        }),
        ..Volume::default()
    }
}

fn secret_volume(name: &str, secret: &str, items: Option<Vec<KeyToPath>>) -> Volume {
    Volume {
        name: name.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret.to_owned()),
            default_mode: Some(0o440),
            items,
            optional: None,
        }),
        ..Volume::default()
    }
}

fn default_resources() -> ResourceRequirements {
    let quantities = |entries: &[(&str, &str)]| {
        entries
            .iter()
            .map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned())))
            .collect()
    };
    ResourceRequirements {
        requests: Some(quantities(&[("cpu", "50m"), ("memory", "96Mi")])),
        limits: Some(quantities(&[("memory", "256Mi")])),
        claims: None,
    }
}

/// Returns `None` for an empty collection, because server-side apply would own the empty field.
fn non_empty<C: Clone + IntoIterator>(collection: &C) -> Option<C>
where
    for<'a> &'a C: IntoIterator,
{
    collection
        .into_iter()
        .next()
        .is_some()
        .then(|| collection.clone())
}

#[cfg(test)]
mod tests;
