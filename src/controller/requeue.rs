//! How soon a forwarder is reconciled again without a watch event. Pure, except for jitter.

use std::{ops::RangeInclusive, time::Duration};

use jiff::Timestamp;

use super::status::Observation;
use crate::api::EventForwarderStatus;

/// How soon the controller checks again for a missing Secret or ConfigMap. It does not watch
/// them, because that requires the permission to list them.
const SECRET_MISSING_DELAY: Duration = Duration::from_secs(15);
/// How soon a pending run, or an object that the API server denied, is checked again.
const RUN_PENDING_DELAY: Duration = Duration::from_secs(30);
/// How soon the controller checks again for the report of a finished run.
const POD_ENDING_DELAY: Duration = Duration::from_secs(6);
/// How soon a forwarder with a due run is reconciled again.
const RUN_DUE_DELAY: Duration = Duration::from_secs(30);
/// Seconds after a scheduled start at which the status is updated, if no watch event came before.
const ANNOUNCE_AFTER: RangeInclusive<u64> = 5..=30;
/// The average interval between reconciliations without events.
const RESYNC: Duration = Duration::from_secs(600);
/// The maximum delay after failed reconciliations.
const MAX_BACKOFF: Duration = Duration::from_secs(300);

/// Returns the delay after this many consecutive failures of one forwarder.
pub fn error_backoff(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.min(9)).min(MAX_BACKOFF)
}

/// Returns the delay until the next reconciliation without events. It has jitter, because thousands
/// of forwarders start with the controller and can share a schedule.
///
/// `all_reported` is whether every finished run has a report, or is known to have none.
pub fn requeue_delay(
    status: &EventForwarderStatus,
    observation: &Observation<'_>,
    all_reported: bool,
    now: Timestamp,
) -> Duration {
    let mut delay = RESYNC.mul_f64(0.5 + fastrand::f64());
    if observation.is_paused() {
        delay = delay.min(SECRET_MISSING_DELAY);
    }
    if !all_reported {
        delay = delay.min(POD_ENDING_DELAY);
    }
    if observation
        .run_wait
        .is_some_and(|pending| !pending.too_long)
        || observation.is_denied()
    {
        delay = delay.min(RUN_PENDING_DELAY);
    }
    // Shortly after the next start, to write the start after it to the status.
    let until_due = status
        .next_run_time
        .as_ref()
        .map(|due| due.0.duration_since(now));
    match until_due.map(Duration::try_from) {
        Some(Ok(until)) => delay.min(until + Duration::from_secs(fastrand::u64(ANNOUNCE_AFTER))),
        // The start is due, and its run was not observed yet.
        Some(Err(_)) => delay.min(RUN_DUE_DELAY),
        None => delay,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::controller::{
        apply::{CronJobResult, RunStart},
        observe::{AwaitedStep, RunWait, SecretError},
        validate::SpecError,
    };

    const NOW: &str = "2026-03-01T12:30:00Z";

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn due(next_run_time: Option<&str>) -> EventForwarderStatus {
        EventForwarderStatus {
            next_run_time: next_run_time.map(|due| Time(at(due))),
            ..EventForwarderStatus::default()
        }
    }

    /// Returns the shortest and the longest of 500 delays, in seconds.
    fn delays(
        status: &EventForwarderStatus,
        observation: &Observation<'_>,
        all_reported: bool,
    ) -> [u64; 2] {
        let delays =
            (0..500).map(|_| requeue_delay(status, observation, all_reported, at(NOW)).as_secs());
        [delays.clone().min(), delays.max()].map(Option::unwrap_or_default)
    }

    #[test]
    fn delay_depends_on_awaited_change() {
        let zone = SpecError::TimeZone(String::new());
        let quiet = Observation {
            spec: Err(&zone),
            secrets: Ok(()),
            mapping: Ok(()),
            cronjob_result: None,
            cronjob_exists: true,
            run_start: None,
            run_request: None,
            last_scheduled: None,
            runs: &[],
            reports: &[],
            run_wait: None,
            depth: None,
        };
        let [shortest, longest] = delays(&due(None), &quiet, true);
        assert!(
            (300..400).contains(&shortest) && (800..900).contains(&longest),
            "the delay has jitter: {shortest} to {longest}"
        );
        assert_eq!(delays(&due(None), &quiet, false), [6, 6]);

        let missing = SecretError::KeyMissing {
            name: String::new(),
            key: String::new(),
        };
        let paused = Observation {
            secrets: Err(&missing),
            ..quiet
        };
        assert_eq!(delays(&due(None), &paused, true), [15, 15]);

        let rejected = RunStart::Rejected {
            message: String::new(),
        };
        let forbidden = CronJobResult::Forbidden {
            message: String::new(),
        };
        let wait = |too_long| RunWait {
            until: AwaitedStep::ContainerStart,
            why: String::new(),
            too_long,
        };
        let (soon, late) = (wait(false), wait(true));
        for observation in [
            Observation {
                run_start: Some(&rejected),
                ..quiet
            },
            Observation {
                cronjob_result: Some(&forbidden),
                ..quiet
            },
            Observation {
                run_wait: Some(&soon),
                ..quiet
            },
        ] {
            assert_eq!(delays(&due(None), &observation, true), [30, 30]);
        }
        let reported = Observation {
            run_wait: Some(&late),
            ..quiet
        };
        assert!(
            delays(&due(None), &reported, true)[0] >= 300,
            "it is already reported"
        );

        // Shortly after the scheduled start, then repeatedly until the run starts.
        let in_a_minute = delays(&due(Some("2026-03-01T12:31:00Z")), &quiet, true);
        assert_eq!(in_a_minute, [65, 90]);
        let past = delays(&due(Some("2026-03-01T12:29:00Z")), &quiet, true);
        assert_eq!(past, [30, 30]);
    }

    #[test]
    fn backoff_doubles_up_to_five_minutes() {
        let delays = [0, 1, 2, 3, 8, 9, 1000].map(|failures| error_backoff(failures).as_secs());
        assert_eq!(delays, [1, 2, 4, 8, 256, 300, 300]);
    }
}
