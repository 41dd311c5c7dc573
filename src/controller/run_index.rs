//! The runs of all forwarders, as the watch of Jobs tells of them: reduced to what is read, and
//! filed by CronJob, so that a reconciliation looks at its own forwarder's alone.

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
    /// What a list that has not ended yet has told so far.
    listed: RunsByCronJob,
}

/// By namespace and CronJob, then by Job.
type RunsByCronJob = HashMap<(String, String), BTreeMap<String, Run>>;

impl RunIndex {
    /// Takes in what the watch tells.
    pub fn apply_event(&self, event: &Event<Job>) {
        let mut known = self.lock();
        match event {
            Event::Apply(job) => insert(&mut known.runs, job),
            Event::Delete(job) => remove(&mut known.runs, job),
            Event::Init => known.listed = RunsByCronJob::new(),
            Event::InitApply(job) => insert(&mut known.listed, job),
            Event::InitDone => {
                known.runs = mem::take(&mut known.listed);
                self.synced.send_replace(true);
            }
        }
    }

    /// Returns once all runs of the cluster are known.
    pub async fn wait_until_synced(&self) {
        // The sender lives as long as this does.
        let _ = self.synced.subscribe().wait_for(|complete| *complete).await;
    }

    /// The runs of one CronJob, the newest first.
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

    /// The map is whole after each statement that changes it.
    fn lock(&self) -> MutexGuard<'_, IndexState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(job: &Job) -> Option<(String, String)> {
    Some((job.namespace()?, job.labels().get(INSTANCE_LABEL)?.clone()))
}

fn insert(filed: &mut RunsByCronJob, job: &Job) {
    if let Some(key) = key(job) {
        filed
            .entry(key)
            .or_default()
            .insert(job.name_any(), Run::from_job(job));
    }
}

fn remove(filed: &mut RunsByCronJob, job: &Job) {
    let Some(key) = key(job) else { return };
    if let Some(runs) = filed.get_mut(&key) {
        runs.remove(&job.name_any());
        if runs.is_empty() {
            filed.remove(&key);
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
    fn a_forwarder_has_its_own_runs_alone_the_newest_first() {
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
    async fn a_list_replaces_what_was_known_once_it_has_ended() {
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
