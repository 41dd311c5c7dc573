//! Polling of queue depths outside reconciliation: one task per forwarder, with limited
//! concurrency. A changed depth triggers a reconciliation; an unchanged one causes no write.

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

/// Maximum number of concurrent polls.
const CONCURRENT_POLLS: usize = 32;
/// Delay before the first retry of a failed poll, unless the poll interval is shorter.
const MAX_FIRST_RETRY_DELAY: Duration = Duration::from_secs(30);
/// Maximum delay after failed polls.
const MAX_POLL_DELAY: Duration = Duration::from_secs(600);

/// The result of a poll.
pub type DepthResult = Result<Depth, DepthError>;

/// The reason why a queue's depth can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DepthError {
    /// The condition's reason.
    pub reason: &'static str,
    /// What happened, to which queue, and how to fix it.
    pub message: String,
}

/// A queue, and the credentials to read it with.
#[derive(Debug, Clone, PartialEq)]
pub struct DepthTarget {
    /// The queue.
    pub queue: QueueSpec,
    /// The credentials.
    pub credentials: Credentials,
}

impl From<Error> for DepthError {
    fn from(error: Error) -> Self {
        Self {
            reason: error.reason(),
            message: match error.is_transient() {
                true => format!("{error}; retrying with exponential backoff"),
                false => error.to_string(),
            },
        }
    }
}

/// A poller of the queues of all forwarders in one scope.
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
    result: Option<DepthResult>,
    task: AbortHandle,
}

impl DepthPoller {
    /// Creates a poller without results. The receiver returns each forwarder whose depth changed.
    pub fn new(
        ambient: AmbientCredentialsPolicy,
        connector: Connector,
        metrics: Metrics,
    ) -> (
        Arc<Self>,
        mpsc::UnboundedReceiver<ObjectRef<EventForwarder>>,
    ) {
        let (changed, changes) = mpsc::unbounded_channel();
        let poller = Self {
            ambient,
            connector,
            polled: Mutex::default(),
            permits: Semaphore::new(CONCURRENT_POLLS),
            metrics,
            changed,
        };
        (Arc::new(poller), changes)
    }

    /// Ensures that a forwarder's queue is polled, and returns the last result. A queue that the
    /// ambient credentials are not allowed for is not polled.
    pub fn ensure_polled(
        self: &Arc<Self>,
        forwarder: &ObjectRef<EventForwarder>,
        target: DepthTarget,
    ) -> Option<DepthResult> {
        let namespace = forwarder.namespace.as_deref().unwrap_or_default();
        if let Err(error) = self.ambient.check(namespace, &target) {
            self.forget(forwarder);
            return Some(Err(error));
        }
        match self.lock().entry(forwarder.clone()) {
            Entry::Occupied(mut entry) if *entry.get().target != target => {
                entry.get().task.abort();
                entry.insert(self.start(forwarder, target));
                None
            }
            Entry::Occupied(entry) => entry.get().result.clone(),
            Entry::Vacant(entry) => {
                entry.insert(self.start(forwarder, target));
                None
            }
        }
    }

    /// Stops polling for one forwarder.
    pub fn forget(&self, forwarder: &ObjectRef<EventForwarder>) {
        if let Some(polled) = self.lock().remove(forwarder) {
            polled.task.abort();
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
            result: None,
            task: tokio::spawn(polling).abort_handle(),
        }
    }

    fn record(&self, forwarder: &ObjectRef<EventForwarder>, result: DepthResult) {
        let mut polled = self.lock();
        let Some(entry) = polled.get_mut(forwarder) else {
            return;
        };
        let result = result.map(round);
        if entry.result.as_ref() != Some(&result) {
            entry.result = Some(result);
            // Fails only while the controller stops.
            let _ = self.changed.send(forwarder.clone());
        }
    }

    /// Ignores poisoning, because every statement leaves the map consistent.
    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectRef<EventForwarder>, PolledQueue>> {
        self.polled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn poll_repeatedly(
    poller: Arc<DepthPoller>,
    forwarder: ObjectRef<EventForwarder>,
    target: Arc<DepthTarget>,
) {
    let interval = target.queue.poll_interval.get();
    let mut failures = 0_u32;
    let mut access = None;
    loop {
        let result = match poller.permits.acquire().await {
            // Boxed, to free the poll's memory while the task sleeps.
            Ok(_permit) => Box::pin(poll(&poller.connector, &mut access, &target))
                .await
                .map_err(DepthError::from),
            Err(_) => return,
        };
        let reason = result.as_ref().err().map(|error| error.reason);
        poller.metrics.record_poll(reason);
        failures = match result {
            Ok(_) => 0,
            Err(_) => failures.saturating_add(1),
        };
        poller.record(&forwarder, result);
        // Keep only the keys of an assumed role. The rest is cheap to recreate.
        access = access.filter(|_| target.queue.assume_role.is_some());
        tokio::time::sleep(with_jitter(poll_delay(failures, interval), &forwarder)).await;
    }
}

/// Returns the delay after `failures` failures in a row. It grows, to reduce requests to a queue
/// that throttles, and is limited, so that a fix is noticed within minutes.
fn poll_delay(failures: u32, interval: Duration) -> Duration {
    match failures.checked_sub(1) {
        None => interval,
        Some(retries) => {
            (interval.min(MAX_FIRST_RETRY_DELAY) * (1 << retries.min(9))).min(MAX_POLL_DELAY)
        }
    }
}

/// Reads the depth, and reuses the access of the last poll if there is one.
async fn poll(
    connector: &Connector,
    access: &mut Option<QueueAccess>,
    target: &DepthTarget,
) -> Result<Depth, Error> {
    let access = match access {
        Some(access) => access,
        None => {
            let credentials = target.credentials.clone();
            access.insert(QueueAccess::new(connector, &target.queue, credentials).await?)
        }
    };
    access.client().depth().await
}

/// Adds a jitter of up to a tenth of the interval, fixed for each forwarder, so that forwarders
/// with the same interval are not polled at once.
fn with_jitter(interval: Duration, forwarder: &ObjectRef<EventForwarder>) -> Duration {
    let mut hasher = DefaultHasher::new();
    forwarder.hash(&mut hasher);
    let tenth = interval.as_millis().max(10) / 10;
    let extra = u128::from(hasher.finish()) % tenth;
    interval + Duration::from_millis(u64::try_from(extra).unwrap_or(0))
}

/// Rounds numbers of 100 and more to two significant digits, so that a busy queue does not cause a
/// status write at every poll.
fn round(depth: Depth) -> Depth {
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
    async fn disallowed_queue_is_no_longer_polled() {
        let ambient = AmbientCredentialsPolicy {
            hosts: "http://127.0.0.1:1".parse().expect("hosts"),
            roles: "any".parse().expect("roles"),
        };
        let (poller, _changes) = DepthPoller::new(
            ambient,
            Connector::new().expect("a connector"),
            Metrics::new(),
        );
        let forwarder = ObjectRef::new("mparticle").within("marketing");
        assert_eq!(
            poller.ensure_polled(&forwarder, target("http://127.0.0.1:1")),
            None
        );
        assert_eq!(poller.lock().len(), 1);
        let result = poller.ensure_polled(&forwarder, target("http://127.0.0.1:2"));
        assert_eq!(
            result.map(|result| result.map_err(|error| error.reason)),
            Some(Err("HostNotAllowed"))
        );
        assert!(poller.lock().is_empty());
    }

    #[test]
    fn only_numbers_from_100_on_are_rounded() {
        for (exact, expected) in [
            (0, 0),
            (7, 7),
            (99, 99),
            (104, 100),
            (105, 110),
            (12_345, 12_000),
            (999, 1000),
        ] {
            assert_eq!(two_digits(exact), expected, "{exact}");
        }
    }

    #[test]
    fn poll_delay_grows_with_failures_to_ten_minutes() {
        let delays = |interval| {
            [0, 1, 2, 3, 8, u32::MAX]
                .map(|failures| poll_delay(failures, Duration::from_secs(interval)).as_secs())
        };
        assert_eq!(delays(2), [2, 2, 4, 8, 256, 600]);
        assert_eq!(delays(60), [60, 30, 60, 120, 600, 600]);
        assert_eq!(delays(86_400), [86_400, 30, 60, 120, 600, 600]);
    }

    #[test]
    fn jitter_differs_by_at_most_a_tenth() {
        let minute = Duration::from_secs(60);
        let delays: std::collections::HashSet<_> = (0..50)
            .map(|n| {
                with_jitter(
                    minute,
                    &ObjectRef::new(&format!("forwarder-{n}")).within("default"),
                )
            })
            .collect();
        assert!(delays.len() > 40);
        assert!(
            delays
                .iter()
                .all(|delay| *delay >= minute && *delay < minute * 11 / 10)
        );
    }
}
