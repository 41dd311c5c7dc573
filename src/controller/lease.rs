//! Leader election with a Lease.
//!
//! A replica takes over after it has observed the lease unchanged for the full lease duration.
//! Node clocks need not agree. Each write names the resource version that it is based on, so only
//! one of two concurrent writes succeeds. The leader stops well before another replica can take
//! over, by its local clock, because every write checks [`Leadership`] first.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::{
    cronjob::FIELD_MANAGER,
    error::{Call, Error},
};

/// Lease duration without a renewal, in whole seconds.
const LEASE_DURATION: Duration = Duration::from_secs(9);
/// Time after a renewal during which the leader writes. The rest of [`LEASE_DURATION`] covers a
/// write that was sent at the last moment.
const RENEW_DEADLINE: Duration = Duration::from_secs(6);
/// Interval between renewals, and between reads of another replica's lease.
const RETRY_PERIOD: Duration = Duration::from_secs(2);
/// Timeout of a call for the lease. Less than [`RENEW_DEADLINE`] minus [`RETRY_PERIOD`], so a call
/// that hangs can be retried.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether, and until when, this replica is the leader.
#[derive(Debug, Clone, Default)]
pub struct Leadership(Arc<Mutex<LeaderState>>);

#[derive(Debug, Clone, Copy, Default)]
enum LeaderState {
    #[default]
    Standby,
    LeaderUntil(Instant),
    SoleReplica,
}

impl Leadership {
    /// Creates the leadership of the only replica.
    pub fn sole_replica() -> Self {
        Self(Arc::new(Mutex::new(LeaderState::SoleReplica)))
    }

    /// Returns whether this replica is the leader now.
    pub fn is_leader(&self) -> bool {
        self.state().includes(Instant::now())
    }

    fn state(&self) -> LeaderState {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: LeaderState) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

impl LeaderState {
    fn includes(self, now: Instant) -> bool {
        match self {
            Self::Standby => false,
            Self::LeaderUntil(end) => now < end,
            Self::SoleReplica => true,
        }
    }
}

/// This replica as a candidate in the election.
pub struct Candidate {
    api: Api<Lease>,
    lease: String,
    lease_ref: String,
    identity: String,
    leadership: Leadership,
    observed: Option<ObservedLease>,
}

/// A state of the lease, and when it was first observed.
struct ObservedLease {
    spec: LeaseSpec,
    since: Instant,
}

/// The next action for the lease.
#[derive(Debug, PartialEq, Eq)]
enum LeaseAction {
    Acquire,
    Renew,
    Wait,
}

impl Candidate {
    /// Creates a candidate for the lease `namespace/lease`. `identity` must be unique among the
    /// replicas.
    pub fn new(
        client: Client,
        namespace: &str,
        lease: &str,
        identity: &str,
        leadership: Leadership,
    ) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            lease: lease.to_owned(),
            lease_ref: format!("Lease {namespace}/{lease}"),
            identity: identity.to_owned(),
            leadership,
            observed: None,
        }
    }

    /// Waits until this replica is the leader.
    pub async fn acquire(&mut self) {
        let mut last_logged = String::new();
        loop {
            match self.try_once().await {
                Ok(true) => return,
                Ok(false) => {
                    let holder = self.holder().unwrap_or_default().to_owned();
                    if last_logged != holder {
                        tracing::info!(
                            holder,
                            "another replica is the leader; this one is on standby"
                        );
                        last_logged = holder;
                    }
                }
                Err(error) => tracing::warn!("{error}; retrying"),
            }
            sleep(RETRY_PERIOD).await;
        }
    }

    /// Renews the lease until it is lost.
    pub async fn hold_until_lost(&mut self) {
        while let LeaderState::LeaderUntil(end) = self.leadership.state() {
            sleep_until((Instant::now() + RETRY_PERIOD).min(end)).await;
            match timeout_at(end, self.try_once()).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) | Err(_) => break,
                Ok(Err(error)) => tracing::warn!("{error}; retrying"),
            }
        }
        self.leadership.set(LeaderState::Standby);
    }

    /// Releases the lease, so another replica can take over immediately.
    ///
    /// # Errors
    /// Returns an error if the lease can't be read or written. Another replica then takes over
    /// when it expires.
    pub async fn release_lease(&mut self) -> Result<(), Error> {
        self.leadership.set(LeaderState::Standby);
        let Some(lease) = self.read().await? else {
            return Ok(());
        };
        let spec = lease.spec.clone().unwrap_or_default();
        if spec.holder_identity.as_deref() == Some(&self.identity) {
            self.write(
                Some(&lease),
                LeaseSpec {
                    holder_identity: Some(String::new()),
                    ..spec
                },
            )
            .await?;
        }
        Ok(())
    }

    fn holder(&self) -> Option<&str> {
        self.observed.as_ref()?.spec.holder_identity.as_deref()
    }

    /// Reads the lease, and acquires or renews it if possible. Returns whether this replica holds
    /// it.
    async fn try_once(&mut self) -> Result<bool, Error> {
        let lease = self.read().await?;
        let spec = lease
            .as_ref()
            .and_then(|lease| lease.spec.clone())
            .unwrap_or_default();
        let now = Instant::now();
        let since = match &self.observed {
            Some(observed) if observed.spec == spec => observed.since,
            _ => now,
        };
        self.observed = Some(ObservedLease {
            spec: spec.clone(),
            since,
        });
        let renew_time = MicroTime(Timestamp::now());
        let new_spec = match decide(&spec, &self.identity, now - since) {
            LeaseAction::Wait => return Ok(false),
            LeaseAction::Renew => LeaseSpec {
                renew_time: Some(renew_time),
                ..spec
            },
            LeaseAction::Acquire => LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
                acquire_time: Some(renew_time.clone()),
                renew_time: Some(renew_time),
                lease_transitions: Some(spec.lease_transitions.unwrap_or_default() + 1),
                ..spec
            },
        };
        self.write(lease.as_ref(), new_spec).await?;
        self.leadership
            .set(LeaderState::LeaderUntil(now + RENEW_DEADLINE));
        Ok(true)
    }

    async fn read(&self) -> Result<Option<Lease>, Error> {
        Call::new("get", &self.lease_ref)
            .with_timeout(CALL_TIMEOUT, self.api.get_opt(&self.lease))
            .await
    }

    /// Writes the lease, if it has not changed since it was read.
    async fn write(&self, read: Option<&Lease>, spec: LeaseSpec) -> Result<(), Error> {
        match read {
            Some(read) => {
                let patch = json!({
                    "metadata": {"resourceVersion": read.resource_version()},
                    "spec": spec,
                });
                let params = PatchParams {
                    field_manager: Some(FIELD_MANAGER.to_owned()),
                    ..PatchParams::default()
                };
                let patch = Patch::Merge(patch);
                Call::new("patch", &self.lease_ref)
                    .with_timeout(CALL_TIMEOUT, self.api.patch(&self.lease, &params, &patch))
                    .await?;
            }
            None => {
                let lease = Lease {
                    metadata: ObjectMeta {
                        name: Some(self.lease.clone()),
                        ..ObjectMeta::default()
                    },
                    spec: Some(spec),
                };
                let params = PostParams {
                    field_manager: Some(FIELD_MANAGER.to_owned()),
                    ..PostParams::default()
                };
                Call::new("create", &self.lease_ref)
                    .with_timeout(CALL_TIMEOUT, self.api.create(&params, &lease))
                    .await?;
            }
        }
        Ok(())
    }
}

/// Returns the action for a lease that was observed `unchanged` for that duration.
fn decide(lease: &LeaseSpec, identity: &str, unchanged: Duration) -> LeaseAction {
    let duration = lease
        .lease_duration_seconds
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map_or(LEASE_DURATION, Duration::from_secs);
    match lease.holder_identity.as_deref() {
        None | Some("") => LeaseAction::Acquire,
        Some(holder) if holder == identity => LeaseAction::Renew,
        Some(_) if unchanged >= duration => LeaseAction::Acquire,
        Some(_) => LeaseAction::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lease_is_acquired_when_free_or_expired() {
        for (holder, seconds, unchanged, expected) in [
            (None, None, 0, LeaseAction::Acquire),
            (Some(""), Some(9), 0, LeaseAction::Acquire),
            (Some("me"), Some(9), 0, LeaseAction::Renew),
            (Some("me"), Some(9), 60, LeaseAction::Renew),
            (Some("other"), Some(9), 0, LeaseAction::Wait),
            (Some("other"), Some(9), 8, LeaseAction::Wait),
            (Some("other"), Some(9), 9, LeaseAction::Acquire),
            (Some("other"), Some(30), 29, LeaseAction::Wait),
            (Some("other"), None, 8, LeaseAction::Wait),
            (Some("other"), Some(-1), 9, LeaseAction::Acquire),
        ] {
            let lease = LeaseSpec {
                holder_identity: holder.map(str::to_owned),
                lease_duration_seconds: seconds,
                // Long past, and ignored, because it is from another node's clock.
                renew_time: Some(MicroTime(Timestamp::UNIX_EPOCH)),
                ..LeaseSpec::default()
            };
            let decided = decide(&lease, "me", Duration::from_secs(unchanged));
            assert_eq!(decided, expected, "{holder:?} {seconds:?} {unchanged}");
        }
    }

    #[test]
    fn leader_stops_before_handover_within_15_seconds() {
        assert!(RENEW_DEADLINE + CALL_TIMEOUT < LEASE_DURATION);
        assert!(
            RETRY_PERIOD + CALL_TIMEOUT < RENEW_DEADLINE,
            "a call that hangs can be retried"
        );
        // A standby observes the last renewal up to one period late, and its expiry one more.
        assert!(LEASE_DURATION + 2 * RETRY_PERIOD < Duration::from_secs(15));
    }

    #[test]
    fn leadership_expires_without_renewal() {
        let now = Instant::now();
        for (state, before, after) in [
            (LeaderState::Standby, false, false),
            (LeaderState::LeaderUntil(now + RENEW_DEADLINE), true, false),
            (LeaderState::SoleReplica, true, true),
        ] {
            assert_eq!(state.includes(now), before, "{state:?}");
            assert_eq!(state.includes(now + RENEW_DEADLINE), after, "{state:?}");
        }
        assert!(
            !Leadership::default().is_leader(),
            "no replica leads before an election"
        );
    }
}
