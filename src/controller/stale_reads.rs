//! Which status was written last, so that no forwarder is looked at by an older one: what that
//! one leaves out would be counted, and published, a second time.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use kube::{ResourceExt, runtime::reflector::ObjectRef};

use crate::api::GuardedForwarder;

/// How soon the watch is asked again whether it shows the status that was written.
const RETRY_DELAY: Duration = Duration::from_millis(100);
/// How long the watch is waited for: should versions ever start anew, as after the restore of a
/// backup, none would seem new enough.
const MAX_AGE: Duration = Duration::from_secs(10);

/// The versions in which statuses were written.
#[derive(Default)]
pub struct StaleReadGuard {
    versions: Mutex<HashMap<ObjectRef<GuardedForwarder>, (u64, Instant)>>,
}

impl StaleReadGuard {
    /// Remembers the version that a write made.
    pub fn record(&self, forwarder: ObjectRef<GuardedForwarder>, version: Option<String>) {
        if let Some(version) = version.and_then(|version| version.parse().ok()) {
            self.lock().insert(forwarder, (version, Instant::now()));
        }
    }

    /// How long to wait before this sight of a forwarder is looked at again; none if it is no
    /// older than what was written.
    pub fn delay(&self, seen: &GuardedForwarder) -> Option<Duration> {
        let reference = ObjectRef::from_obj(seen);
        let mut versions = self.lock();
        let (written, at) = *versions.get(&reference)?;
        let seen: u64 = seen.resource_version()?.parse().ok()?;
        if seen >= written || at.elapsed() > MAX_AGE {
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
    fn a_forwarder_is_looked_at_when_the_watch_shows_what_was_written() {
        let written = StaleReadGuard::default();
        assert_eq!(written.delay(&seen("99")), None);
        written.record(ObjectRef::from_obj(&seen("99")), Some("100".to_owned()));
        assert_eq!(written.delay(&seen("99")), Some(RETRY_DELAY));
        assert_eq!(written.delay(&seen("100")), None);
        assert_eq!(written.delay(&seen("99")), None, "and is forgotten then");
    }
}
