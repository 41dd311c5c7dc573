//! Detection of watch data older than the last written status. With an older status, a run would
//! be counted and published twice.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use kube::{ResourceExt, runtime::reflector::ObjectRef};

use crate::api::GuardedForwarder;

/// How soon the watch is checked again for the written status.
const RETRY_DELAY: Duration = Duration::from_millis(100);
/// How long to wait for the watch. If versions restart at a lower number, for example after a
/// restored backup, no version is new enough.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(10);

/// The resource versions of the last written statuses.
#[derive(Default)]
pub struct StaleReadGuard {
    versions: Mutex<HashMap<ObjectRef<GuardedForwarder>, (u64, Instant)>>,
}

impl StaleReadGuard {
    /// Stores the resource version that a status write returned.
    pub fn record(&self, forwarder: ObjectRef<GuardedForwarder>, version: Option<String>) {
        if let Some(version) = version.and_then(|version| version.parse().ok()) {
            self.lock().insert(forwarder, (version, Instant::now()));
        }
    }

    /// Returns how long to wait before reading this forwarder again. Returns `None` if it is not
    /// older than the last written status, or the wait has timed out.
    pub fn delay(&self, seen: &GuardedForwarder) -> Option<Duration> {
        let reference = ObjectRef::from_obj(seen);
        let mut versions = self.lock();
        let (written, at) = *versions.get(&reference)?;
        let seen: u64 = seen.resource_version()?.parse().ok()?;
        if seen >= written || at.elapsed() > CATCH_UP_TIMEOUT {
            versions.remove(&reference);
            return None;
        }
        Some(RETRY_DELAY)
    }

    /// Forgets a forwarder.
    pub fn forget(&self, forwarder: &ObjectRef<GuardedForwarder>) {
        self.lock().remove(forwarder);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectRef<GuardedForwarder>, (u64, Instant)>> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn seen(version: &str) -> GuardedForwarder {
        serde_json::from_value(json!({
            "apiVersion": "eventforwarder.io/v1alpha1",
            "kind": "EventForwarder",
            "metadata": {"name": "mparticle", "namespace": "marketing", "resourceVersion": version},
        }))
        .expect("an object")
    }

    #[test]
    fn stale_forwarder_is_delayed_until_watch_catches_up() {
        let guard = StaleReadGuard::default();
        assert_eq!(guard.delay(&seen("99")), None);
        guard.record(ObjectRef::from_obj(&seen("99")), Some("100".to_owned()));
        assert_eq!(guard.delay(&seen("99")), Some(RETRY_DELAY));
        assert_eq!(guard.delay(&seen("100")), None);
        assert_eq!(guard.delay(&seen("99")), None, "it is forgotten then");
    }
}
