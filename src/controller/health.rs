//! Whether the controller is alive, and whether it is ready. What happens is noted here; pure
//! functions judge it.

use std::{
    collections::BTreeMap,
    fmt::Display,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The longest that one reconciliation may take; then it ends with an error. Longer than all
/// its calls together take as a rule, each being limited by itself.
pub const RECONCILE_TIMEOUT: Duration = Duration::from_secs(240);
/// A reconciliation that is at work for longer does not listen to its limit.
const STUCK_TIMEOUT: Duration = Duration::from_secs(300);
/// A watch is begun anew at least so often: kube-runtime ends each after 290 s, and waits a little
/// longer for the API server to do so.
const WATCH_TIMEOUT: Duration = Duration::from_secs(900);
/// The runtime's tasks are at a standstill if none has run for so long.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(60);
/// How often the runtime shows that it runs.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// For how long a watch may fail before the controller counts as not ready.
const WATCH_FAILURE_DELAY: Duration = Duration::from_secs(10);

/// What is known of the controller's state, shared by all who add to it.
#[derive(Debug, Clone)]
pub struct Health(Arc<Mutex<HealthState>>);

#[derive(Debug)]
struct HealthState {
    not_ready: Option<String>,
    reconciles: BTreeMap<u64, (String, Instant)>,
    begun: u64,
    watches: BTreeMap<String, Watch>,
    last_heartbeat: Instant,
}

#[derive(Debug, Clone)]
struct Watch {
    begun: Instant,
    problem: Option<(String, Instant)>,
}

/// A reconciliation at work, until it is dropped.
#[must_use]
pub struct ReconcileGuard {
    health: Health,
    id: u64,
}

impl ReconcileGuard {
    /// Which one it is of all that this process has begun.
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
    /// That of a controller that has only started.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(HealthState {
            not_ready: Some("waiting for the API server".to_owned()),
            reconciles: BTreeMap::new(),
            begun: 0,
            watches: BTreeMap::new(),
            last_heartbeat: Instant::now(),
        })))
    }

    /// Shows from now on, until the runtime ends, that its tasks run.
    pub async fn run_heartbeat(self) {
        loop {
            self.lock().last_heartbeat = Instant::now();
            tokio::time::sleep(HEARTBEAT_INTERVAL).await;
        }
    }

    /// The controller can't work before something has happened; `None`: it can.
    pub fn set_not_ready(&self, what: Option<String>) {
        self.lock().not_ready = what;
    }

    /// A reconciliation of `object` begins.
    pub fn start_reconcile(&self, object: impl Display) -> ReconcileGuard {
        let begun = (object.to_string(), Instant::now());
        let mut state = self.lock();
        state.begun += 1;
        let id = state.begun;
        state.reconciles.insert(id, begun);
        drop(state);
        ReconcileGuard {
            health: self.clone(),
            id,
        }
    }

    /// A watch, or the list before it, was answered, well or with a problem.
    pub fn record_watch(&self, what: &str, problem: Option<String>) {
        let now = Instant::now();
        let mut state = self.lock();
        let since = state
            .watches
            .get(what)
            .and_then(|watch| watch.problem.as_ref())
            .map_or(now, |(_, since)| *since);
        let watch = Watch {
            begun: now,
            problem: problem.map(|problem| (problem, since)),
        };
        state.watches.insert(what.to_owned(), watch);
    }

    /// Whether the process does its work.
    ///
    /// # Errors
    /// A sentence on what it is stuck at: only a new process helps.
    pub fn alive(&self) -> Result<(), String> {
        alive(&self.lock(), Instant::now())
    }

    /// Whether the process could do its work.
    ///
    /// # Errors
    /// A sentence on what it waits for, or may not do.
    pub fn ready(&self) -> Result<(), String> {
        ready(&self.lock(), Instant::now())
    }

    /// What is noted is whole after each statement, so a panic in the lock's scope leaves nothing
    /// half done.
    fn lock(&self) -> MutexGuard<'_, HealthState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn alive(state: &HealthState, now: Instant) -> Result<(), String> {
    let oldest = state.reconciles.values().min_by_key(|(_, begun)| *begun);
    let still = now.saturating_duration_since(state.last_heartbeat);
    if still >= HEARTBEAT_TIMEOUT {
        let object = oldest.map_or("none", |(object, _)| object);
        return Err(format!(
            "no task has run for {} s; oldest reconciliation in progress: {object}",
            still.as_secs()
        ));
    }
    if let Some((object, begun)) = oldest {
        let took = now.saturating_duration_since(*begun);
        if took >= STUCK_TIMEOUT {
            return Err(format!(
                "the reconciliation of {object} is stuck: it has run for {} s, and its limit is {} s",
                took.as_secs(),
                RECONCILE_TIMEOUT.as_secs()
            ));
        }
    }
    for (what, watch) in &state.watches {
        let lasted = now.saturating_duration_since(watch.begun);
        if lasted >= WATCH_TIMEOUT {
            return Err(format!(
                "the watch of {what} is dead: it last started {} s ago, and should end after 290 s",
                lasted.as_secs()
            ));
        }
    }
    Ok(())
}

fn ready(state: &HealthState, now: Instant) -> Result<(), String> {
    if let Some(waiting) = &state.not_ready {
        return Err(waiting.clone());
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
            begun: 0,
            watches: BTreeMap::new(),
            last_heartbeat: now,
        }
    }

    /// A point in time from which one can go back.
    fn later() -> Instant {
        Instant::now() + Duration::from_secs(3600)
    }

    fn ago(now: Instant, seconds: u64) -> Instant {
        now - Duration::from_secs(seconds)
    }

    #[test]
    fn a_stuck_reconciliation_is_named() {
        let now = later();
        for (seconds, verdict) in [(0, true), (299, true), (300, false), (3000, false)] {
            let mut state = state(now);
            let young = ("marketing/young".to_owned(), now);
            let old = ("marketing/mparticle".to_owned(), ago(now, seconds));
            state.reconciles = [(1, young), (2, old)].into();
            let judged = alive(&state, now);
            assert_eq!(judged.is_ok(), verdict, "{seconds} s: {judged:?}");
            if let Err(why) = judged {
                assert!(why.contains("marketing/mparticle"), "{why}");
            }
        }
        assert!(RECONCILE_TIMEOUT < STUCK_TIMEOUT);
    }

    #[test]
    fn a_standstill_is_told_with_the_reconciliation_at_work() {
        let now = later();
        let mut state = state(ago(now, 59));
        state.reconciles = [(1, ("marketing/mparticle".to_owned(), ago(now, 70)))].into();
        assert_eq!(alive(&state, now), Ok(()));
        state.last_heartbeat = ago(now, 60);
        let why = alive(&state, now).expect_err("a standstill");
        assert!(
            why.contains("60 s") && why.contains("marketing/mparticle"),
            "{why}"
        );
    }

    #[test]
    fn a_watch_that_never_ends_is_dead_and_one_that_fails_is_not_ready() {
        let now = later();
        for (begun, problem, lives, works) in [
            (290, None, true, true),
            (899, None, true, true),
            (900, None, false, true),
            (5, Some(9), true, true),
            (5, Some(10), true, false),
        ] {
            let mut state = state(now);
            let watch = Watch {
                begun: ago(now, begun),
                problem: problem.map(|since| ("403 Forbidden".to_owned(), ago(now, since))),
            };
            state.watches = [("cronjobs".to_owned(), watch)].into();
            let judged = (alive(&state, now), ready(&state, now));
            assert_eq!(
                (judged.0.is_ok(), judged.1.is_ok()),
                (lives, works),
                "{begun} {problem:?}: {judged:?}"
            );
            for why in [judged.0.err(), judged.1.err()].into_iter().flatten() {
                assert!(why.contains("cronjobs"), "{why}");
            }
        }
    }

    #[test]
    fn a_problem_counts_from_its_first_appearance_and_ends_with_a_good_answer() {
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
    fn what_is_waited_for_is_said_until_it_is_there() {
        let health = Health::new();
        assert!(health.ready().is_err());
        health.set_not_ready(Some("waiting for the CRD".to_owned()));
        assert_eq!(health.ready(), Err("waiting for the CRD".to_owned()));
        health.set_not_ready(None);
        assert_eq!(health.ready(), Ok(()));
    }

    #[test]
    fn a_reconciliation_that_has_ended_is_not_at_work() {
        let health = Health::new();
        let work = health.start_reconcile("marketing/mparticle");
        assert_eq!(health.lock().reconciles.len(), 1);
        drop(work);
        assert!(health.lock().reconciles.is_empty());
    }
}
