//! Reads the queues' depths beside reconciliation: one task per forwarder, few at work at a
//! time. A changed reading triggers a reconciliation; an unchanged one costs no write.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kube::runtime::reflector::ObjectRef;
use tokio::{
    sync::{Semaphore, mpsc},
    task::AbortHandle,
};

use super::{ambient_credentials::AmbientCredentialsPolicy, metrics::Metrics};
use crate::{
    api::{EventForwarder, QueueSpec},
    sqs::{Connector, Credentials, Depth, Error, QueueAccess},
};

/// Polls at work at the same time.
const CONCURRENT_POLLS: usize = 32;
/// How soon a poll that failed is made again, unless polls are closer together anyway.
const MAX_FIRST_RETRY_DELAY: Duration = Duration::from_secs(30);
/// The longest pause after polls that failed.
const MAX_POLL_DELAY: Duration = Duration::from_secs(600);

/// What the last poll yielded.
pub type DepthResult = Result<Depth, DepthError>;

/// Why a queue's depth can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DepthError {
    /// The condition's reason.
    pub reason: &'static str,
    /// What happened, to which queue, and what mends it.
    pub message: String,
}

/// A queue, and the identity that it is read with.
#[derive(Debug, Clone, PartialEq)]
pub struct DepthTarget {
    /// The queue.
    pub queue: QueueSpec,
    /// The identity.
    pub credentials: Credentials,
}

impl From<Error> for DepthError {
    fn from(error: Error) -> Self {
        Self {
            reason: error.reason(),
            message: error.to_string(),
        }
    }
}

/// The readings of all forwarders of one scope.
pub struct DepthPoller {
    ambient: AmbientCredentialsPolicy,
    connector: Connector,
    polled: Mutex<HashMap<ObjectRef<EventForwarder>, PolledQueue>>,
    permits: Semaphore,
    metrics: Metrics,
    changed: mpsc::UnboundedSender<ObjectRef<EventForwarder>>,
}

struct PolledQueue {
    target: Arc<DepthTarget>,
    reading: Option<DepthResult>,
    task: AbortHandle,
}

impl DepthPoller {
    /// No readings yet. Yields the forwarders whose reading has changed.
    pub fn new(
        ambient: AmbientCredentialsPolicy,
        connector: Connector,
        metrics: Metrics,
    ) -> (
        Arc<Self>,
        mpsc::UnboundedReceiver<ObjectRef<EventForwarder>>,
    ) {
        let (changed, changes) = mpsc::unbounded_channel();
        let depths = Self {
            ambient,
            connector,
            polled: Mutex::default(),
            permits: Semaphore::new(CONCURRENT_POLLS),
            metrics,
            changed,
        };
        (Arc::new(depths), changes)
    }

    /// Sees to it that a forwarder's queue is polled, and yields the last reading. A queue that
    /// may not be read is not polled.
    pub fn ensure_polled(
        self: &Arc<Self>,
        forwarder: &ObjectRef<EventForwarder>,
        target: DepthTarget,
    ) -> Option<DepthResult> {
        let namespace = forwarder.namespace.as_deref().unwrap_or_default();
        if let Err(problem) = self.ambient.check(namespace, &target) {
            self.forget(forwarder);
            return Some(Err(problem));
        }
        match self.lock().entry(forwarder.clone()) {
            Entry::Occupied(mut entry) if *entry.get().target != target => {
                entry.get().task.abort();
                entry.insert(self.start(forwarder, target));
                None
            }
            Entry::Occupied(entry) => entry.get().reading.clone(),
            Entry::Vacant(entry) => {
                entry.insert(self.start(forwarder, target));
                None
            }
        }
    }

    /// Ends the polls for one forwarder.
    pub fn forget(&self, forwarder: &ObjectRef<EventForwarder>) {
        if let Some(followed) = self.lock().remove(forwarder) {
            followed.task.abort();
        }
    }

    fn start(
        self: &Arc<Self>,
        forwarder: &ObjectRef<EventForwarder>,
        target: DepthTarget,
    ) -> PolledQueue {
        let target = Arc::new(target);
        let polling = poll_repeatedly(Arc::clone(self), forwarder.clone(), Arc::clone(&target));
        PolledQueue {
            target,
            reading: None,
            task: tokio::spawn(polling).abort_handle(),
        }
    }

    fn record(&self, forwarder: &ObjectRef<EventForwarder>, reading: DepthResult) {
        let mut followed = self.lock();
        let Some(entry) = followed.get_mut(forwarder) else {
            return;
        };
        let rounded = reading.map(rounded);
        if entry.reading.as_ref() != Some(&rounded) {
            entry.reading = Some(rounded);
            // Nobody listens any more only while the controller stops.
            let _ = self.changed.send(forwarder.clone());
        }
    }

    /// The map is whole after each statement that changes it, so a panic elsewhere in the
    /// lock's scope leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectRef<EventForwarder>, PolledQueue>> {
        self.polled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn poll_repeatedly(
    depths: Arc<DepthPoller>,
    forwarder: ObjectRef<EventForwarder>,
    target: Arc<DepthTarget>,
) {
    let interval = target.queue.poll_interval.get();
    let mut failures = 0_u32;
    let mut access = None;
    loop {
        let reading = match depths.permits.acquire().await {
            // Boxed, so that a task that waits holds nothing of it.
            Ok(_permit) => Box::pin(poll(&depths.connector, &mut access, &target))
                .await
                .map_err(DepthError::from),
            Err(_) => return,
        };
        let failed = reading.as_ref().err().map(|problem| problem.reason);
        depths.metrics.record_poll(failed);
        failures = match reading {
            Ok(_) => 0,
            Err(_) => failures.saturating_add(1),
        };
        depths.record(&forwarder, reading);
        // Only a role's keys are worth keeping: the rest is quickly made again.
        access = access.filter(|_| target.queue.assume_role.is_some());
        tokio::time::sleep(jittered(poll_delay(failures, interval), &forwarder)).await;
    }
}

/// The pause after so many failures in a row: ever longer ones, so that a queue that throttles is
/// left in peace, and none so long that what was mended is not seen for hours.
fn poll_delay(failures: u32, interval: Duration) -> Duration {
    match failures.checked_sub(1) {
        None => interval,
        Some(before) => {
            (interval.min(MAX_FIRST_RETRY_DELAY) * (1 << before.min(9))).min(MAX_POLL_DELAY)
        }
    }
}

/// Reads the depth, by the way of the last poll if there was one.
async fn poll(
    connector: &Connector,
    access: &mut Option<QueueAccess>,
    target: &DepthTarget,
) -> Result<Depth, Error> {
    let access = match access {
        Some(known) => known,
        None => {
            let credentials = target.credentials.clone();
            access.insert(QueueAccess::new(connector, &target.queue, credentials).await?)
        }
    };
    access.client().depth().await
}

/// Spreads forwarders of the same interval over a tenth of it, each at its own fixed place.
fn jittered(interval: Duration, forwarder: &ObjectRef<EventForwarder>) -> Duration {
    let mut hasher = DefaultHasher::new();
    forwarder.hash(&mut hasher);
    let tenth = interval.as_millis().max(10) / 10;
    let extra = u128::from(hasher.finish()) % tenth;
    interval + Duration::from_millis(u64::try_from(extra).unwrap_or(0))
}

/// Numbers of 100 and more are rounded to two significant digits, so that a busy queue does
/// not have its status written at every poll.
fn rounded(depth: Depth) -> Depth {
    Depth {
        visible: two_digits(depth.visible),
        in_flight: two_digits(depth.in_flight),
        delayed: two_digits(depth.delayed),
        dead_letters: depth.dead_letters.map(two_digits),
    }
}

fn two_digits(number: i64) -> i64 {
    let mut unit = 1;
    while number / unit >= 100 {
        unit *= 10;
    }
    (number + unit / 2) / unit * unit
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn target(endpoint: &str) -> DepthTarget {
        DepthTarget {
            queue: serde_json::from_value(json!({
                "url": "https://sqs.us-east-1.amazonaws.com/123456789012/q",
                "endpoint": endpoint,
            }))
            .expect("a queue"),
            credentials: Credentials::Ambient,
        }
    }

    #[tokio::test]
    async fn a_queue_that_may_not_be_read_is_polled_no_more() {
        let ambient = AmbientCredentialsPolicy {
            hosts: "http://127.0.0.1:1".parse().expect("hosts"),
            roles: "any".parse().expect("roles"),
        };
        let (depths, _changes) = DepthPoller::new(
            ambient,
            Connector::new().expect("a connector"),
            Metrics::new(),
        );
        let forwarder = ObjectRef::new("mparticle").within("marketing");
        assert_eq!(
            depths.ensure_polled(&forwarder, target("http://127.0.0.1:1")),
            None
        );
        assert_eq!(depths.lock().len(), 1);
        let reading = depths.ensure_polled(&forwarder, target("http://127.0.0.1:2"));
        assert_eq!(
            reading.map(|reading| reading.map_err(|problem| problem.reason)),
            Some(Err("HostNotAllowed"))
        );
        assert!(depths.lock().is_empty());
    }

    #[test]
    fn small_numbers_are_exact_and_large_ones_have_two_digits() {
        for (exact, shown) in [
            (0, 0),
            (7, 7),
            (99, 99),
            (104, 100),
            (105, 110),
            (12_345, 12_000),
            (999, 1000),
        ] {
            assert_eq!(two_digits(exact), shown, "{exact}");
        }
    }

    #[test]
    fn pauses_after_failures_grow_from_the_interval_or_half_a_minute_to_ten_minutes() {
        let pauses = |interval| {
            [0, 1, 2, 3, 8, u32::MAX]
                .map(|failures| poll_delay(failures, Duration::from_secs(interval)).as_secs())
        };
        assert_eq!(pauses(2), [2, 2, 4, 8, 256, 600]);
        assert_eq!(pauses(60), [60, 30, 60, 120, 600, 600]);
        assert_eq!(pauses(86_400), [86_400, 30, 60, 120, 600, 600]);
    }

    #[test]
    fn pauses_of_different_forwarders_differ_by_a_tenth_at_most() {
        let minute = Duration::from_secs(60);
        let pauses: std::collections::HashSet<_> = (0..50)
            .map(|n| {
                jittered(
                    minute,
                    &ObjectRef::new(&format!("forwarder-{n}")).within("default"),
                )
            })
            .collect();
        assert!(pauses.len() > 40);
        assert!(
            pauses
                .iter()
                .all(|pause| *pause >= minute && *pause < minute * 11 / 10)
        );
    }
}
