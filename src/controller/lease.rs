//! Which replica is at work: the holder of a Lease.
//!
//! A replica takes over once it has itself seen the lease unchanged for as long as it holds, so
//! that the clocks of nodes may differ. Each change names the version that it is based on: of two
//! who try, one wins. The holder stops acting well before others may take over, by its own clock
//! and without being told; [`Leadership`] is asked before each write.

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

/// How long a lease holds that is not renewed, in whole seconds.
const LEASE_DURATION: Duration = Duration::from_secs(9);
/// How long after a renewal its holder acts on it. The rest of [`LEASE_DURATION`] is for a write that was
/// sent at the last moment.
const RENEW_DEADLINE: Duration = Duration::from_secs(6);
/// The pause between renewals, and between looks at another's lease.
const RETRY_PERIOD: Duration = Duration::from_secs(2);
/// How long one call about the lease may take: less than what is left of [`RENEW_DEADLINE`] after a
/// [`RETRY_PERIOD`], so that one that hangs can be tried again.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// Until when this replica may act.
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
    /// That of the only replica.
    pub fn sole_replica() -> Self {
        Self(Arc::new(Mutex::new(LeaderState::SoleReplica)))
    }

    /// Whether this replica may act now.
    pub fn is_leader(&self) -> bool {
        self.state().includes(Instant::now())
    }

    fn state(&self) -> LeaderState {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, until: LeaderState) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = until;
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

/// This replica's part in the election.
pub struct Candidate {
    api: Api<Lease>,
    lease: String,
    lease_ref: String,
    identity: String,
    leadership: Leadership,
    observed: Option<ObservedLease>,
}

/// A state of the lease, and when it was first seen.
struct ObservedLease {
    spec: LeaseSpec,
    since: Instant,
}

/// What is to be done about the lease.
#[derive(Debug, PartialEq, Eq)]
enum LeaseAction {
    Acquire,
    Renew,
    Wait,
}

impl Candidate {
    /// Stands for election in the lease `namespace/lease`, under a name that no other replica has.
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

    /// Returns once this replica leads.
    pub async fn acquire(&mut self) {
        let mut known = String::new();
        loop {
            match self.try_once().await {
                Ok(true) => return,
                Ok(false) => {
                    let holder = self.holder().unwrap_or_default().to_owned();
                    if known != holder {
                        tracing::info!(
                            holder,
                            "another replica is the leader; this one is on standby"
                        );
                        known = holder;
                    }
                }
                Err(error) => tracing::warn!("{error}"),
            }
            sleep(RETRY_PERIOD).await;
        }
    }

    /// Keeps the lease; returns once it is lost.
    pub async fn hold_until_lost(&mut self) {
        while let LeaderState::LeaderUntil(end) = self.leadership.state() {
            sleep_until((Instant::now() + RETRY_PERIOD).min(end)).await;
            match timeout_at(end, self.try_once()).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) | Err(_) => break,
                Ok(Err(error)) => tracing::warn!("{error}"),
            }
        }
        self.leadership.set(LeaderState::Standby);
    }

    /// Lets another replica take over at once.
    ///
    /// # Errors
    /// When the lease can't be written; then another takes over when it has run out.
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

    /// Looks at the lease, and takes or renews it if it may. Yields whether it is ours.
    async fn try_once(&mut self) -> Result<bool, Error> {
        let lease = self.read().await?;
        let spec = lease
            .as_ref()
            .and_then(|lease| lease.spec.clone())
            .unwrap_or_default();
        let now = Instant::now();
        let since = match &self.observed {
            Some(seen) if seen.spec == spec => seen.since,
            _ => now,
        };
        self.observed = Some(ObservedLease {
            spec: spec.clone(),
            since,
        });
        let renewed = MicroTime(Timestamp::now());
        let ours = match decide(&spec, &self.identity, now - since) {
            LeaseAction::Wait => return Ok(false),
            LeaseAction::Renew => LeaseSpec {
                renew_time: Some(renewed),
                ..spec
            },
            LeaseAction::Acquire => LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
                acquire_time: Some(renewed.clone()),
                renew_time: Some(renewed),
                lease_transitions: Some(spec.lease_transitions.unwrap_or_default() + 1),
                ..spec
            },
        };
        self.write(lease.as_ref(), ours).await?;
        self.leadership
            .set(LeaderState::LeaderUntil(now + RENEW_DEADLINE));
        Ok(true)
    }

    async fn read(&self) -> Result<Option<Lease>, Error> {
        Call::new("get", &self.lease_ref)
            .with_timeout(CALL_TIMEOUT, self.api.get_opt(&self.lease))
            .await
    }

    /// Writes the lease, if it still is as it was read.
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

/// What a replica is to do about a lease that it has seen unchanged for so long.
fn decide(lease: &LeaseSpec, identity: &str, unchanged: Duration) -> LeaseAction {
    let holds = lease
        .lease_duration_seconds
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map_or(LEASE_DURATION, Duration::from_secs);
    match lease.holder_identity.as_deref() {
        None | Some("") => LeaseAction::Acquire,
        Some(holder) if holder == identity => LeaseAction::Renew,
        Some(_) if unchanged >= holds => LeaseAction::Acquire,
        Some(_) => LeaseAction::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_taken_when_it_is_free_or_was_seen_unchanged_for_as_long_as_it_holds() {
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
                // Long past, and far ahead: the clock of another node says nothing.
                renew_time: Some(MicroTime(Timestamp::UNIX_EPOCH)),
                ..LeaseSpec::default()
            };
            let decided = decide(&lease, "me", Duration::from_secs(unchanged));
            assert_eq!(decided, expected, "{holder:?} {seconds:?} {unchanged}");
        }
    }

    #[test]
    fn a_holder_stops_before_another_may_begin_and_a_hand_over_stays_under_15_seconds() {
        assert!(RENEW_DEADLINE + CALL_TIMEOUT < LEASE_DURATION);
        assert!(
            RETRY_PERIOD + CALL_TIMEOUT < RENEW_DEADLINE,
            "a call that hangs is tried again"
        );
        // Seen a pause late, taken a pause late, by two calls at their slowest.
        assert!(LEASE_DURATION + 2 * RETRY_PERIOD < Duration::from_secs(15));
    }

    #[test]
    fn leadership_runs_out_by_itself() {
        let now = Instant::now();
        for (until, before, after) in [
            (LeaderState::Standby, false, false),
            (LeaderState::LeaderUntil(now + RENEW_DEADLINE), true, false),
            (LeaderState::SoleReplica, true, true),
        ] {
            assert_eq!(until.includes(now), before, "{until:?}");
            assert_eq!(until.includes(now + RENEW_DEADLINE), after, "{until:?}");
        }
        assert!(
            !Leadership::default().is_leader(),
            "nobody leads before an election"
        );
    }
}
