//! What was declared, parsed into what the controller works with. Pure.

use croner::errors::CronError;
use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};

use super::schedule::Schedule;
use crate::{
    api::EventForwarderSpec,
    mapping::{Mapper, MapperError},
};

/// Kubernetes takes no CronJob with a longer name: each Job's name adds 11 characters, and
/// a Job's name must fit a label.
const MAX_CRONJOB_NAME: usize = 52;

/// A spec that can be acted on.
#[derive(Debug)]
pub struct ValidatedSpec {
    /// The CronJob's name.
    pub cronjob_name: String,
    /// When runs start.
    pub schedule: Schedule,
}

/// Why a spec can't be acted on, although the API server took it.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The schedule can't be read.
    #[error(
        "spec.schedule \"{schedule}\" is not a valid cron expression: {reason}. Write five fields, for example \"0 * * * *\""
    )]
    Schedule {
        /// As written.
        schedule: String,
        /// What is wrong with it.
        reason: CronError,
    },
    /// The time zone is not in the IANA database.
    #[error(
        "spec.timeZone \"{0}\" is not an IANA time zone. Use a name such as \"Europe/Berlin\" or \"UTC\""
    )]
    TimeZone(String),
}

impl ValidatedSpec {
    /// Parses a spec.
    ///
    /// # Errors
    /// What admission can't know: see [`SpecError`].
    pub fn new(name: &str, spec: &EventForwarderSpec) -> Result<Self, SpecError> {
        Ok(Self {
            cronjob_name: cronjob_name(name),
            schedule: schedule(&spec.schedule, spec.time_zone.as_deref())?,
        })
    }
}

/// Whether runs could use the mapping. `transform` is the text of the user's rules, where the
/// spec refers to a ConfigMap for them.
///
/// # Errors
/// What a run would end with, before it touches the queue.
pub fn check_mapping(
    spec: &EventForwarderSpec,
    transform: Option<&str>,
) -> Result<(), MapperError> {
    Mapper::new(&spec.mapping, spec.iterable.project_type, transform).map(|_| ())
}

/// The name of a forwarder's CronJob: the forwarder's own if it fits, else its beginning and
/// a hash of all of it. A pure function of the name, so that it never changes.
pub fn cronjob_name(forwarder: &str) -> String {
    if forwarder.len() <= MAX_CRONJOB_NAME {
        return forwarder.to_owned();
    }
    let hash = short_hash(forwarder);
    let kept: String = forwarder
        .chars()
        .take(MAX_CRONJOB_NAME - hash.len() - 1)
        .collect();
    format!("{}-{hash}", kept.trim_end_matches(['-', '.']))
}

/// Eight hexadecimal digits that stand for a text in a name.
pub fn short_hash(text: &str) -> String {
    Sha256::digest(text)
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn schedule(schedule: &str, time_zone: Option<&str>) -> Result<Schedule, SpecError> {
    let time_zone = match time_zone {
        None => TimeZone::UTC,
        Some(name) => TimeZone::get(name).map_err(|_| SpecError::TimeZone(name.to_owned()))?,
    };
    Schedule::parse(schedule, time_zone).map_err(|reason| SpecError::Schedule {
        schedule: schedule.to_owned(),
        reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_name_stays_and_a_long_one_is_cut_with_a_hash() {
        assert_eq!(cronjob_name("mparticle"), "mparticle");
        let exactly = "a".repeat(52);
        assert_eq!(cronjob_name(&exactly), exactly);
        let long = cronjob_name(&"a".repeat(53));
        assert!(long.len() <= 52, "{long}");
        assert_ne!(long, cronjob_name(&"a".repeat(54)));
        let cut_at_a_dash = cronjob_name(&format!("{}-{}", "a".repeat(42), "b".repeat(30)));
        assert!(!cut_at_a_dash.contains("--"), "{cut_at_a_dash}");
    }

    #[test]
    fn what_admission_lets_through_is_refused_with_a_sentence() {
        let backwards = schedule("5-3 * * * *", None).expect_err("a backwards range");
        assert!(backwards.to_string().contains("5-3 * * * *"), "{backwards}");
        let zone = schedule("0 * * * *", Some("Mars/Base")).expect_err("no such zone");
        assert!(zone.to_string().contains("Mars/Base"), "{zone}");
    }
}
