//! The last words of pods that are deleted before their Job is over.
//!
//! An evicted pod is gone by the time that its Job counts as failed, and so is a pod whose Job was
//! deleted. Its report stands in the last that the API server tells of it.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, runtime::reflector::ObjectRef};

use super::{cronjob::FORWARDER_ANNOTATION, observe::terminated};
use crate::api::GuardedForwarder;

/// The label that holds a pod's Job.
const JOB: &str = "batch.kubernetes.io/job-name";

/// How long the watch of pods may be behind that of Jobs, and behind a list.
const WATCH_DELAY: Duration = Duration::from_secs(5);

/// Pods that have ended while they were being deleted, by their forwarder.
#[derive(Default)]
pub struct TerminatedPods {
    pods: Mutex<HashMap<ObjectRef<GuardedForwarder>, Vec<Pod>>>,
    missed: Mutex<HashMap<(ObjectRef<GuardedForwarder>, String), Instant>>,
}

impl TerminatedPods {
    /// Remembers a pod if it has ended and is being deleted; yields the forwarder to look at then.
    pub fn record(&self, pod: &Pod) -> Option<ObjectRef<GuardedForwarder>> {
        pod.metadata.deletion_timestamp.as_ref()?;
        terminated(pod)?;
        let forwarder =
            ObjectRef::new(pod.annotations().get(FORWARDER_ANNOTATION)?).within(&pod.namespace()?);
        let mut pods = self.lock();
        let known = pods.entry(forwarder.clone()).or_default();
        known.retain(|other| other.metadata.uid != pod.metadata.uid);
        known.push(trimmed(pod));
        Some(forwarder)
    }

    /// The pods of one run.
    pub fn pods_of(&self, forwarder: &ObjectRef<GuardedForwarder>, job_name: &str) -> Vec<Pod> {
        let pods = self.lock();
        let known = pods.get(forwarder).into_iter().flatten();
        known
            .filter(|pod| pod.labels().get(JOB).is_some_and(|job| job == job_name))
            .cloned()
            .collect()
    }

    /// Whether the last words of a run of which no pod is left have been waited for long enough.
    pub fn waited(&self, forwarder: &ObjectRef<GuardedForwarder>, job_name: &str) -> bool {
        let mut missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        missed.retain(|_, since| since.elapsed() < WATCH_DELAY * 10);
        let since = missed
            .entry((forwarder.clone(), job_name.to_owned()))
            .or_insert_with(Instant::now);
        since.elapsed() >= WATCH_DELAY
    }

    /// Forgets all pods but those of runs that are not over.
    pub fn keep(
        &self,
        forwarder: &ObjectRef<GuardedForwarder>,
        is_under_way: impl Fn(&str) -> bool,
    ) {
        let mut pods = self.lock();
        if let Some(known) = pods.get_mut(forwarder) {
            known.retain(|pod| pod.labels().get(JOB).is_some_and(|job| is_under_way(job)));
            if known.is_empty() {
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

/// What is read of a pod later.
fn trimmed(pod: &Pod) -> Pod {
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
    fn only_a_pod_that_ended_while_it_was_deleted_is_remembered_and_once() {
        let departed = TerminatedPods::default();
        let forwarder = ObjectRef::new("mparticle").within("marketing");
        assert_eq!(departed.record(&pod("a", "run-1", false, true)), None);
        assert_eq!(departed.record(&pod("a", "run-1", true, false)), None);
        let ended = pod("a", "run-1", true, true);
        assert_eq!(departed.record(&ended), Some(forwarder.clone()));
        departed.record(&ended);
        departed.record(&pod("b", "run-2", true, true));
        let names = |job| -> Vec<_> {
            let pods = departed.pods_of(&forwarder, job);
            pods.iter().map(ResourceExt::name_any).collect()
        };
        assert_eq!(
            (names("run-1"), names("run-2")),
            (vec!["a".to_owned()], vec!["b".to_owned()])
        );
        departed.keep(&forwarder, |job| job == "run-2");
        assert_eq!((names("run-1"), names("run-2").len()), (Vec::new(), 1));
        departed.forget(&forwarder);
        assert!(departed.lock().is_empty());
    }
}
