//! How long a forwarder is left alone when nothing happens to it. Pure, but for the dice.

use std::{ops::RangeInclusive, time::Duration};

use jiff::Timestamp;

use super::status::Observation;
use crate::api::EventForwarderStatus;

/// How soon a missing Secret or ConfigMap is looked for again. They are not watched: that would
/// take the right to list them.
const SECRET_MISSING_DELAY: Duration = Duration::from_secs(15);
/// How soon a run whose container has not started, and what the API server forbids, is looked at
/// again.
const RUN_PENDING_DELAY: Duration = Duration::from_secs(30);
/// How soon a run is looked at again that is over and whose last word is waited for.
const POD_ENDING_DELAY: Duration = Duration::from_secs(6);
/// How soon a forwarder whose run is due is looked at again.
const RUN_DUE_DELAY: Duration = Duration::from_secs(30);
/// How many seconds after a run is due the one after it is announced, if the run itself was not
/// heard of before.
const ANNOUNCE_AFTER: RangeInclusive<u64> = 5..=30;
/// How soon a forwarder is looked at again when nothing happens, on average.
const RESYNC: Duration = Duration::from_secs(600);
/// The longest pause after reconciliations that failed.
const MAX_BACKOFF: Duration = Duration::from_secs(300);

/// How long to wait after so many failures of one forwarder in a row.
pub fn error_backoff(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.min(9)).min(MAX_BACKOFF)
}

/// When to look again although nothing was heard of. Spread, since thousands of forwarders start
/// together with the controller, and may share a schedule.
///
/// `is_whole` is whether each run that is over has left its last word.
pub fn requeue_delay(
    status: &EventForwarderStatus,
    observation: &Observation<'_>,
    is_whole: bool,
    now: Timestamp,
) -> Duration {
    let mut pause = RESYNC.mul_f64(0.5 + fastrand::f64());
    if observation.is_paused() {
        pause = pause.min(SECRET_MISSING_DELAY);
    }
    if !is_whole {
        pause = pause.min(POD_ENDING_DELAY);
    }
    if observation
        .run_wait
        .is_some_and(|pending| !pending.too_long)
        || observation.is_denied()
    {
        pause = pause.min(RUN_PENDING_DELAY);
    }
    // A little after the next run is due, to announce the one after it.
    let until_due = status
        .next_run_time
        .as_ref()
        .map(|due| due.0.duration_since(now));
    match until_due.map(Duration::try_from) {
        Some(Ok(until)) => pause.min(until + Duration::from_secs(fastrand::u64(ANNOUNCE_AFTER))),
        // It is due and has not been seen to start.
        Some(Err(_)) => pause.min(RUN_DUE_DELAY),
        None => pause,
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

    /// The pauses of many looks, in seconds: the shortest and the longest.
    fn pauses(
        status: &EventForwarderStatus,
        observation: &Observation<'_>,
        is_whole: bool,
    ) -> [u64; 2] {
        let looks =
            (0..500).map(|_| requeue_delay(status, observation, is_whole, at(NOW)).as_secs());
        [looks.clone().min(), looks.max()].map(Option::unwrap_or_default)
    }

    #[test]
    fn a_forwarder_is_looked_at_as_soon_as_something_may_have_come() {
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
        let [shortest, longest] = pauses(&due(None), &quiet, true);
        assert!(
            (300..400).contains(&shortest) && (800..900).contains(&longest),
            "thousands that start together are spread: {shortest} to {longest}"
        );
        assert_eq!(pauses(&due(None), &quiet, false), [6, 6]);

        let missing = SecretError::KeyMissing {
            name: String::new(),
            key: String::new(),
        };
        let held_back = Observation {
            secrets: Err(&missing),
            ..quiet
        };
        assert_eq!(pauses(&due(None), &held_back, true), [15, 15]);

        let refused = RunStart::Rejected {
            message: String::new(),
        };
        let forbidden = CronJobResult::Forbidden {
            message: String::new(),
        };
        let waits = |too_long| RunWait {
            until: AwaitedStep::ContainerStart,
            why: String::new(),
            too_long,
        };
        let (soon, late) = (waits(false), waits(true));
        for observation in [
            Observation {
                run_start: Some(&refused),
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
            assert_eq!(pauses(&due(None), &observation, true), [30, 30]);
        }
        let told = Observation {
            run_wait: Some(&late),
            ..quiet
        };
        assert!(
            pauses(&due(None), &told, true)[0] >= 300,
            "it is told already"
        );

        // A little after the run, and again and again while it does not come.
        let in_a_minute = pauses(&due(Some("2026-03-01T12:31:00Z")), &quiet, true);
        assert_eq!(in_a_minute, [65, 90]);
        let past = pauses(&due(Some("2026-03-01T12:29:00Z")), &quiet, true);
        assert_eq!(past, [30, 30]);
    }

    #[test]
    fn pauses_grow_with_the_failures_in_a_row_up_to_five_minutes() {
        let pauses = [0, 1, 2, 3, 8, 9, 1000].map(|failures| error_backoff(failures).as_secs());
        assert_eq!(pauses, [1, 2, 4, 8, 256, 300, 300]);
    }
}
