//! Validation of the parts of a spec that the CRD schema can't check. Pure.

use croner::errors::CronError;
use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};

use super::schedule::Schedule;
use crate::{
    api::EventForwarderSpec,
    mapping::{Mapper, MapperError},
};

/// The limit of Kubernetes for names of CronJobs: a Job name has 11 more characters, and must fit
/// into a label.
const MAX_CRONJOB_NAME: usize = 52;

/// A valid spec.
#[derive(Debug)]
pub struct ValidatedSpec {
    /// The CronJob's name.
    pub cronjob_name: String,
    /// When runs start.
    pub schedule: Schedule,
}

/// Why a spec that the API server accepted is invalid.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The schedule is not a valid cron expression.
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
    /// Validates a spec.
    ///
    /// # Errors
    /// Errors that the CRD schema can't detect: see [`SpecError`].
    pub fn new(name: &str, spec: &EventForwarderSpec) -> Result<Self, SpecError> {
        Ok(Self {
            cronjob_name: cronjob_name(name),
            schedule: schedule(&spec.schedule, spec.time_zone.as_deref())?,
        })
    }
}

/// Checks that runs can use the mapping. `transform` is the jq program from the ConfigMap, if the
/// spec references one.
///
/// # Errors
/// The error that would end a run before it reads the queue.
pub fn check_mapping(
    spec: &EventForwarderSpec,
    transform: Option<&str>,
) -> Result<(), MapperError> {
    Mapper::new(&spec.mapping, spec.iterable.project_type, transform).map(|_| ())
}

/// Returns the name of a forwarder's CronJob: the forwarder's name, or its beginning with a hash
/// if it is too long. Depends only on that name, so it never changes.
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

/// Returns the first eight hexadecimal digits of the SHA-256 hash, for use in names.
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
    fn long_cronjob_name_is_cut_with_hash() {
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
    fn spec_error_names_invalid_value() {
        let backwards = schedule("5-3 * * * *", None).expect_err("a backwards range");
        assert!(backwards.to_string().contains("5-3 * * * *"), "{backwards}");
        let zone = schedule("0 * * * *", Some("Mars/Base")).expect_err("no such zone");
        assert!(zone.to_string().contains("Mars/Base"), "{zone}");
    }
}
