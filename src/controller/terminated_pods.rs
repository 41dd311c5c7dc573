//! Final reports of pods that are deleted before their Job finishes.
//!
//! An evicted pod no longer exists when its Job fails, and neither does a pod whose Job was
//! deleted. The last watch event of such a pod contains its report.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, runtime::reflector::ObjectRef};

use super::{cronjob::FORWARDER_ANNOTATION, observe::terminated};
use crate::api::GuardedForwarder;

/// The pod label with the name of its Job.
const JOB: &str = "batch.kubernetes.io/job-name";

/// How long the pod watch can lag behind the Job watch, and behind a list.
const WATCH_DELAY: Duration = Duration::from_secs(5);

/// Pods that ended while being deleted, by forwarder.
#[derive(Default)]
pub struct TerminatedPods {
    pods: Mutex<HashMap<ObjectRef<GuardedForwarder>, Vec<Pod>>>,
    missed: Mutex<HashMap<(ObjectRef<GuardedForwarder>, String), Instant>>,
}

impl TerminatedPods {
    /// Stores a pod that has ended and is being deleted. Returns the forwarder to reconcile then.
    pub fn record(&self, pod: &Pod) -> Option<ObjectRef<GuardedForwarder>> {
        pod.metadata.deletion_timestamp.as_ref()?;
        terminated(pod)?;
        let forwarder =
            ObjectRef::new(pod.annotations().get(FORWARDER_ANNOTATION)?).within(&pod.namespace()?);
        let mut pods = self.lock();
        let stored = pods.entry(forwarder.clone()).or_default();
        stored.retain(|other| other.metadata.uid != pod.metadata.uid);
        stored.push(without_unused_fields(pod));
        Some(forwarder)
    }

    /// Returns the stored pods of one run.
    pub fn pods_of(&self, forwarder: &ObjectRef<GuardedForwarder>, job_name: &str) -> Vec<Pod> {
        let pods = self.lock();
        let stored = pods.get(forwarder).into_iter().flatten();
        stored
            .filter(|pod| pod.labels().get(JOB).is_some_and(|job| job == job_name))
            .cloned()
            .collect()
    }

    /// Returns whether the watch had enough time to report a run without pods. The first call
    /// starts the wait.
    pub fn wait_is_over(&self, forwarder: &ObjectRef<GuardedForwarder>, job_name: &str) -> bool {
        let mut missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        missed.retain(|_, since| since.elapsed() < WATCH_DELAY * 10);
        let since = missed
            .entry((forwarder.clone(), job_name.to_owned()))
            .or_insert_with(Instant::now);
        since.elapsed() >= WATCH_DELAY
    }

    /// Forgets all pods except those whose Job name matches `is_needed`.
    pub fn keep(&self, forwarder: &ObjectRef<GuardedForwarder>, is_needed: impl Fn(&str) -> bool) {
        let mut pods = self.lock();
        if let Some(stored) = pods.get_mut(forwarder) {
            stored.retain(|pod| pod.labels().get(JOB).is_some_and(|job| is_needed(job)));
            if stored.is_empty() {
                pods.remove(forwarder);
            }
        }
    }

    /// Forgets a forwarder's pods.
    pub fn forget(&self, forwarder: &ObjectRef<GuardedForwarder>) {
        self.lock().remove(forwarder);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectRef<GuardedForwarder>, Vec<Pod>>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps only the fields that are read later, to save memory.
fn without_unused_fields(pod: &Pod) -> Pod {
    let mut kept = Pod {
        status: pod.status.clone(),
        ..Pod::default()
    };
    kept.metadata.name = pod.metadata.name.clone();
    kept.metadata.uid = pod.metadata.uid.clone();
    kept.metadata.labels = pod.metadata.labels.clone();
    kept
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(uid: &str, job: &str, deleted: bool, ended: bool) -> Pod {
        let mut pod: Pod = serde_json::from_value(json!({
            "metadata": {
                "name": uid, "uid": uid, "namespace": "marketing",
                "labels": {JOB: job}, "annotations": {FORWARDER_ANNOTATION: "mparticle"},
            },
            "status": {"containerStatuses": [{
                "name": "drain", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                "state": if ended { json!({"terminated": {"exitCode": 11}}) } else { json!({"running": {}}) },
            }]},
        }))
        .expect("a pod");
        if deleted {
            let at = "2026-03-01T12:00:00Z".parse().expect("a time");
            pod.metadata.deletion_timestamp =
                Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at));
        }
        pod
    }

    #[test]
    fn only_terminated_and_deleted_pods_are_stored_once() {
        let terminated_pods = TerminatedPods::default();
        let forwarder = ObjectRef::new("mparticle").within("marketing");
        assert_eq!(
            terminated_pods.record(&pod("a", "run-1", false, true)),
            None
        );
        assert_eq!(
            terminated_pods.record(&pod("a", "run-1", true, false)),
            None
        );
        let ended = pod("a", "run-1", true, true);
        assert_eq!(terminated_pods.record(&ended), Some(forwarder.clone()));
        terminated_pods.record(&ended);
        terminated_pods.record(&pod("b", "run-2", true, true));
        let names = |job| -> Vec<_> {
            let pods = terminated_pods.pods_of(&forwarder, job);
            pods.iter().map(ResourceExt::name_any).collect()
        };
        assert_eq!(
            (names("run-1"), names("run-2")),
            (vec!["a".to_owned()], vec!["b".to_owned()])
        );
        terminated_pods.keep(&forwarder, |job| job == "run-2");
        assert_eq!((names("run-1"), names("run-2").len()), (Vec::new(), 1));
        terminated_pods.forget(&forwarder);
        assert!(terminated_pods.lock().is_empty());
    }
}
