//! Liveness and readiness of the controller.

use std::{
    collections::BTreeMap,
    fmt::Display,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Timeout of one reconciliation. Longer than its calls normally take together, because each call
/// has a timeout.
pub const RECONCILE_TIMEOUT: Duration = Duration::from_secs(240);
/// Age at which a reconciliation is stuck, because [`RECONCILE_TIMEOUT`] did not end it.
const STUCK_TIMEOUT: Duration = Duration::from_secs(300);
/// Maximum time between two starts of a watch. kube-runtime ends a watch after 290 s, and waits a
/// little longer for the API server to end it.
const WATCH_TIMEOUT: Duration = Duration::from_secs(900);
/// Time without a heartbeat after which the runtime is stuck.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(60);
/// Interval between heartbeats of the runtime.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// Time that a watch must fail before the controller is not ready.
const WATCH_FAILURE_DELAY: Duration = Duration::from_secs(10);

/// The controller's state, shared by the tasks that record it.
#[derive(Debug, Clone)]
pub struct Health(Arc<Mutex<HealthState>>);

#[derive(Debug)]
struct HealthState {
    not_ready: Option<String>,
    reconciles: BTreeMap<u64, (String, Instant)>,
    started_count: u64,
    watches: BTreeMap<String, Watch>,
    last_heartbeat: Instant,
}

#[derive(Debug, Clone)]
struct Watch {
    started: Instant,
    problem: Option<(String, Instant)>,
}

/// A reconciliation in progress, until dropped.
#[must_use]
pub struct ReconcileGuard {
    health: Health,
    id: u64,
}

impl ReconcileGuard {
    /// Returns the number of the reconciliation, counted from the start of the process.
    pub const fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for ReconcileGuard {
    fn drop(&mut self) {
        self.health.lock().reconciles.remove(&self.id);
    }
}

impl Health {
    /// Creates the state of a controller that has just started: alive, and not ready.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(HealthState {
            not_ready: Some("waiting for the API server".to_owned()),
            reconciles: BTreeMap::new(),
            started_count: 0,
            watches: BTreeMap::new(),
            last_heartbeat: Instant::now(),
        })))
    }

    /// Records heartbeats until the runtime ends.
    pub async fn run_heartbeat(self) {
        loop {
            self.lock().last_heartbeat = Instant::now();
            tokio::time::sleep(HEARTBEAT_INTERVAL).await;
        }
    }

    /// Sets why the controller is not ready, or `None` if it is ready.
    pub fn set_not_ready(&self, reason: Option<String>) {
        self.lock().not_ready = reason;
    }

    /// Records the start of a reconciliation of `object`.
    pub fn start_reconcile(&self, object: impl Display) -> ReconcileGuard {
        let reconcile = (object.to_string(), Instant::now());
        let mut state = self.lock();
        state.started_count += 1;
        let id = state.started_count;
        state.reconciles.insert(id, reconcile);
        drop(state);
        ReconcileGuard {
            health: self.clone(),
            id,
        }
    }

    /// Records the response to a watch, or to the list before it. `problem` describes the failure,
    /// if any.
    pub fn record_watch(&self, what: &str, problem: Option<String>) {
        let now = Instant::now();
        let mut state = self.lock();
        let since = state
            .watches
            .get(what)
            .and_then(|watch| watch.problem.as_ref())
            .map_or(now, |(_, since)| *since);
        let watch = Watch {
            started: now,
            problem: problem.map(|problem| (problem, since)),
        };
        state.watches.insert(what.to_owned(), watch);
    }

    /// Checks whether the process makes progress.
    ///
    /// # Errors
    /// Returns a sentence about what is stuck. Only a restart of the process helps.
    pub fn alive(&self) -> Result<(), String> {
        alive(&self.lock(), Instant::now())
    }

    /// Checks whether the process is able to work.
    ///
    /// # Errors
    /// Returns a sentence about what is missing or not allowed.
    pub fn ready(&self) -> Result<(), String> {
        ready(&self.lock(), Instant::now())
    }

    /// Ignores poisoning, because every statement leaves the state consistent.
    fn lock(&self) -> MutexGuard<'_, HealthState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn alive(state: &HealthState, now: Instant) -> Result<(), String> {
    let oldest = state
        .reconciles
        .values()
        .min_by_key(|(_, started)| *started);
    let since_heartbeat = now.saturating_duration_since(state.last_heartbeat);
    if since_heartbeat >= HEARTBEAT_TIMEOUT {
        let object = oldest.map_or("none", |(object, _)| object);
        return Err(format!(
            "no task has run for {} s; oldest reconciliation in progress: {object}",
            since_heartbeat.as_secs()
        ));
    }
    if let Some((object, started)) = oldest {
        let elapsed = now.saturating_duration_since(*started);
        if elapsed >= STUCK_TIMEOUT {
            return Err(format!(
                "the reconciliation of {object} is stuck: it has run for {} s, and its limit is {} s",
                elapsed.as_secs(),
                RECONCILE_TIMEOUT.as_secs()
            ));
        }
    }
    for (what, watch) in &state.watches {
        let age = now.saturating_duration_since(watch.started);
        if age >= WATCH_TIMEOUT {
            return Err(format!(
                "the watch of {what} is dead: it last started {} s ago, and should end after 290 s",
                age.as_secs()
            ));
        }
    }
    Ok(())
}

fn ready(state: &HealthState, now: Instant) -> Result<(), String> {
    if let Some(reason) = &state.not_ready {
        return Err(reason.clone());
    }
    for (what, watch) in &state.watches {
        if let Some((problem, since)) = &watch.problem
            && now.saturating_duration_since(*since) >= WATCH_FAILURE_DELAY
        {
            return Err(format!("can't watch {what}: {problem}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(now: Instant) -> HealthState {
        HealthState {
            not_ready: None,
            reconciles: BTreeMap::new(),
            started_count: 0,
            watches: BTreeMap::new(),
            last_heartbeat: now,
        }
    }

    /// Returns a time from which hours can be subtracted.
    fn later() -> Instant {
        Instant::now() + Duration::from_secs(3600)
    }

    fn ago(now: Instant, seconds: u64) -> Instant {
        now - Duration::from_secs(seconds)
    }

    #[test]
    fn stuck_reconciliation_is_named() {
        let now = later();
        for (seconds, is_alive) in [(0, true), (299, true), (300, false), (3000, false)] {
            let mut state = state(now);
            let young = ("marketing/young".to_owned(), now);
            let old = ("marketing/mparticle".to_owned(), ago(now, seconds));
            state.reconciles = [(1, young), (2, old)].into();
            let result = alive(&state, now);
            assert_eq!(result.is_ok(), is_alive, "{seconds} s: {result:?}");
            if let Err(reason) = result {
                assert!(reason.contains("marketing/mparticle"), "{reason}");
            }
        }
        assert!(RECONCILE_TIMEOUT < STUCK_TIMEOUT);
    }

    #[test]
    fn stuck_runtime_is_reported_with_oldest_reconciliation() {
        let now = later();
        let mut state = state(ago(now, 59));
        state.reconciles = [(1, ("marketing/mparticle".to_owned(), ago(now, 70)))].into();
        assert_eq!(alive(&state, now), Ok(()));
        state.last_heartbeat = ago(now, 60);
        let reason = alive(&state, now).expect_err("no heartbeat");
        assert!(
            reason.contains("60 s") && reason.contains("marketing/mparticle"),
            "{reason}"
        );
    }

    #[test]
    fn endless_watch_is_dead_failing_watch_is_unready() {
        let now = later();
        for (started, problem, is_alive, is_ready) in [
            (290, None, true, true),
            (899, None, true, true),
            (900, None, false, true),
            (5, Some(9), true, true),
            (5, Some(10), true, false),
        ] {
            let mut state = state(now);
            let watch = Watch {
                started: ago(now, started),
                problem: problem.map(|since| ("403 Forbidden".to_owned(), ago(now, since))),
            };
            state.watches = [("cronjobs".to_owned(), watch)].into();
            let results = (alive(&state, now), ready(&state, now));
            assert_eq!(
                (results.0.is_ok(), results.1.is_ok()),
                (is_alive, is_ready),
                "{started} {problem:?}: {results:?}"
            );
            for reason in [results.0.err(), results.1.err()].into_iter().flatten() {
                assert!(reason.contains("cronjobs"), "{reason}");
            }
        }
    }

    #[test]
    fn watch_problem_lasts_from_first_failure_to_success() {
        let health = Health::new();
        health.set_not_ready(None);
        let problem = |health: &Health| health.lock().watches["jobs"].problem.clone();
        health.record_watch("jobs", Some("no response".to_owned()));
        let (_, first) = problem(&health).expect("a problem");
        health.record_watch("jobs", Some("403 Forbidden".to_owned()));
        assert_eq!(problem(&health), Some(("403 Forbidden".to_owned(), first)));
        health.record_watch("jobs", None);
        assert_eq!(problem(&health), None);
    }

    #[test]
    fn readiness_reports_the_reason_until_ready() {
        let health = Health::new();
        assert!(health.ready().is_err());
        health.set_not_ready(Some("waiting for the CRD".to_owned()));
        assert_eq!(health.ready(), Err("waiting for the CRD".to_owned()));
        health.set_not_ready(None);
        assert_eq!(health.ready(), Ok(()));
    }

    #[test]
    fn finished_reconciliation_is_removed() {
        let health = Health::new();
        let guard = health.start_reconcile("marketing/mparticle");
        assert_eq!(health.lock().reconciles.len(), 1);
        drop(guard);
        assert!(health.lock().reconciles.is_empty());
    }
}
