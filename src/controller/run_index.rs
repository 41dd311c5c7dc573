//! Index of the runs of all forwarders, built from the watch of Jobs. It stores only the fields
//! that are read, by CronJob, so a reconciliation reads only the runs of its forwarder.

use std::{
    collections::{BTreeMap, HashMap},
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::api::batch::v1::Job;
use kube::{ResourceExt, runtime::watcher::Event};
use tokio::sync::watch;

use super::{cronjob::INSTANCE_LABEL, observe::Run};

/// The runs of one scope.
#[derive(Debug, Default)]
pub struct RunIndex {
    state: Mutex<IndexState>,
    synced: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct IndexState {
    runs: RunsByCronJob,
    /// Runs received so far from a list that is not complete yet.
    listed: RunsByCronJob,
}

/// Runs by namespace and CronJob, then by Job.
type RunsByCronJob = HashMap<(String, String), BTreeMap<String, Run>>;

impl RunIndex {
    /// Applies an event of the watch.
    pub fn apply_event(&self, event: &Event<Job>) {
        let mut state = self.lock();
        match event {
            Event::Apply(job) => insert(&mut state.runs, job),
            Event::Delete(job) => remove(&mut state.runs, job),
            Event::Init => state.listed = RunsByCronJob::new(),
            Event::InitApply(job) => insert(&mut state.listed, job),
            Event::InitDone => {
                state.runs = mem::take(&mut state.listed);
                self.synced.send_replace(true);
            }
        }
    }

    /// Waits until the first list of Jobs is complete.
    pub async fn wait_until_synced(&self) {
        // Can't fail, because `self` owns the sender.
        let _ = self.synced.subscribe().wait_for(|synced| *synced).await;
    }

    /// Returns the runs of one CronJob, newest first.
    pub fn runs_of(&self, namespace: &str, cronjob: &str) -> Vec<Run> {
        let key = (namespace.to_owned(), cronjob.to_owned());
        let mut runs: Vec<_> = self
            .lock()
            .runs
            .get(&key)
            .into_iter()
            .flat_map(BTreeMap::values)
            .cloned()
            .collect();
        runs.sort_by(|a, b| {
            b.created_at
                .cmp(&a.created_at)
                .then_with(|| b.job_name.cmp(&a.job_name))
        });
        runs
    }

    /// Ignores poisoning, because every statement leaves the state consistent.
    fn lock(&self) -> MutexGuard<'_, IndexState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(job: &Job) -> Option<(String, String)> {
    Some((job.namespace()?, job.labels().get(INSTANCE_LABEL)?.clone()))
}

fn insert(runs: &mut RunsByCronJob, job: &Job) {
    if let Some(key) = key(job) {
        runs.entry(key)
            .or_default()
            .insert(job.name_any(), Run::from_job(job));
    }
}

fn remove(all_runs: &mut RunsByCronJob, job: &Job) {
    let Some(key) = key(job) else { return };
    if let Some(runs) = all_runs.get_mut(&key) {
        runs.remove(&job.name_any());
        if runs.is_empty() {
            all_runs.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(namespace: &str, cronjob: &str, name: &str, created_at: &str) -> Job {
        serde_json::from_value(json!({"metadata": {
            "namespace": namespace, "name": name, "creationTimestamp": created_at,
            "labels": {INSTANCE_LABEL: cronjob},
        }}))
        .expect("a Job")
    }

    fn names(index: &RunIndex, namespace: &str, cronjob: &str) -> Vec<String> {
        let runs = index.runs_of(namespace, cronjob).into_iter();
        runs.map(|run| run.job_name).collect()
    }

    #[test]
    fn runs_are_grouped_by_cronjob_newest_first() {
        let index = RunIndex::default();
        for job in [
            job("a", "x", "x-1", "2026-01-01T00:00:00Z"),
            job("a", "x", "x-3", "2026-01-01T02:00:00Z"),
            job("a", "x", "x-2", "2026-01-01T01:00:00Z"),
            job("a", "y", "y-1", "2026-01-01T00:00:00Z"),
            job("b", "x", "x-9", "2026-01-01T00:00:00Z"),
        ] {
            index.apply_event(&Event::Apply(job));
        }
        assert_eq!(names(&index, "a", "x"), ["x-3", "x-2", "x-1"]);
        assert_eq!(names(&index, "b", "x"), ["x-9"]);
        assert!(names(&index, "b", "y").is_empty());
        index.apply_event(&Event::Delete(job("a", "x", "x-3", "2026-01-01T02:00:00Z")));
        assert_eq!(names(&index, "a", "x"), ["x-2", "x-1"]);
    }

    #[tokio::test]
    async fn complete_list_replaces_known_runs() {
        let index = RunIndex::default();
        index.apply_event(&Event::Apply(job("a", "x", "old", "2026-01-01T00:00:00Z")));
        index.apply_event(&Event::Init);
        index.apply_event(&Event::InitApply(job(
            "a",
            "x",
            "new",
            "2026-01-01T00:00:00Z",
        )));
        assert_eq!(names(&index, "a", "x"), ["old"]);
        assert!(!*index.synced.borrow());
        index.apply_event(&Event::InitDone);
        index.wait_until_synced().await;
        assert_eq!(names(&index, "a", "x"), ["new"]);
    }
}
