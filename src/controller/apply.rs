//! Creation and update of CronJobs and Jobs. A CronJob is written only if it differs.

use k8s_openapi::api::batch::v1::{CronJob, Job};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::Value;

use super::{
    cronjob::FIELD_MANAGER,
    error::{Call, Error},
};

/// The result of applying a CronJob.
#[derive(Debug)]
pub enum CronJobResult {
    /// It matches the desired CronJob, with or without a write.
    UpToDate,
    /// A CronJob of that name exists that this forwarder does not own.
    NameConflict {
        /// The CronJob's name.
        name: String,
    },
    /// The API server rejected it as invalid.
    Rejected {
        /// The API server's message.
        message: String,
    },
    /// A quota, a policy or a missing permission denied it.
    Forbidden {
        /// The API server's message.
        message: String,
    },
}

/// The result of starting a requested run.
#[derive(Debug)]
pub enum RunStart {
    /// Its Job exists.
    Created,
    /// The API server rejected the Job.
    Rejected {
        /// The API server's message.
        message: String,
    },
}

/// Applies `desired` if it differs from `seen`, the CronJob in the watch cache.
///
/// # Errors
/// If the API server fails or does not respond. A rejected object is
/// [`CronJobResult::Rejected`] or [`CronJobResult::Forbidden`].
pub async fn apply(
    api: &Api<CronJob>,
    owner_uid: Option<&str>,
    desired: &CronJob,
    seen: Option<&CronJob>,
) -> Result<CronJobResult, Error> {
    let name = desired.name_any();
    let object = format!("CronJob {}/{name}", desired.namespace().unwrap_or_default());
    let unwatched;
    let live = match seen {
        Some(seen) => Some(seen),
        // The cache has only labeled CronJobs. A user's CronJob of the same name has no label.
        None => {
            unwatched = Call::new("get", &object).run(api.get_opt(&name)).await?;
            unwatched.as_ref()
        }
    };
    if let Some(live) = live {
        if !owned_by(live, owner_uid) {
            return Ok(CronJobResult::NameConflict { name });
        }
        if satisfies(live, desired) {
            return Ok(CronJobResult::UpToDate);
        }
    }
    let (params, patch) = (
        PatchParams::apply(FIELD_MANAGER).force(),
        Patch::Apply(desired),
    );
    match Call::new("apply", &object)
        .run(api.patch(&name, &params, &patch))
        .await
    {
        Ok(_) => {
            tracing::info!(
                cronjob = name,
                created = live.is_none(),
                "applied the CronJob"
            );
            Ok(CronJobResult::UpToDate)
        }
        Err(error) => match error.response() {
            Some((400 | 422, message)) => Ok(CronJobResult::Rejected {
                message: message.to_owned(),
            }),
            Some((403, message)) => Ok(CronJobResult::Forbidden {
                message: message.to_owned(),
            }),
            _ => Err(error),
        },
    }
}

/// Starts a requested run, unless its Job exists already.
///
/// # Errors
/// If the API server fails or does not respond.
pub async fn create_run_job(api: &Api<Job>, job: &Job) -> Result<RunStart, Error> {
    let name = job.name_any();
    let object = format!("Job {}/{name}", job.namespace().unwrap_or_default());
    match Call::new("create", object)
        .run(api.create(&PostParams::default(), job))
        .await
    {
        Ok(_) => {
            tracing::info!(job = name, "started a requested run");
            Ok(RunStart::Created)
        }
        Err(error) => match error.response() {
            Some((409, _)) => Ok(RunStart::Created),
            Some((400 | 403 | 422, message)) => Ok(RunStart::Rejected {
                message: message.to_owned(),
            }),
            _ => Err(error),
        },
    }
}

fn owned_by(live: &CronJob, owner_uid: Option<&str>) -> bool {
    live.owner_references()
        .iter()
        .any(|owner| owner.controller == Some(true) && Some(owner.uid.as_str()) == owner_uid)
}

/// Returns whether `live` contains every field of `desired`. Ignores other fields, which the API
/// server or another manager added. The hash annotation detects fields that are no longer desired.
fn satisfies(live: &CronJob, desired: &CronJob) -> bool {
    match (serde_json::to_value(live), serde_json::to_value(desired)) {
        (Ok(live), Ok(desired)) => is_superset(&live, &desired),
        _ => false,
    }
}

fn is_superset(live: &Value, desired: &Value) -> bool {
    match (live, desired) {
        (Value::Object(live), Value::Object(desired)) => {
            desired.iter().all(|(key, desired)| match live.get(key) {
                Some(live) => is_superset(live, desired),
                None => is_omitted_by_api_server(key, desired),
            })
        }
        (Value::Array(live), Value::Array(desired)) => desired
            .iter()
            .all(|desired| live.iter().any(|live| is_superset(live, desired))),
        (Value::String(live), Value::String(desired)) => {
            live == desired || same_quantity(live, desired)
        }
        _ => live == desired,
    }
}

/// Returns whether the API server omits this field: it does not store `readOnly: false`, empty
/// strings or empty arrays.
fn is_omitted_by_api_server(key: &str, value: &Value) -> bool {
    match value {
        Value::Bool(value) => key == "readOnly" && !value,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// Compares quantities by value, because the API server rewrites "0.5" to "500m".
fn same_quantity(a: &str, b: &str) -> bool {
    matches!((parse_quantity(a), parse_quantity(b)), (Some(a), Some(b)) if a == b)
}

/// Parses a quantity in billionths, the finest unit of Kubernetes. Returns `None` if it is
/// invalid or finer.
fn parse_quantity(text: &str) -> Option<i128> {
    const BILLION: i128 = 1_000_000_000;
    const SUFFIXES: [(&str, i128); 15] = [
        ("Ki", BILLION << 10),
        ("Mi", BILLION << 20),
        ("Gi", BILLION << 30),
        ("Ti", BILLION << 40),
        ("Pi", BILLION << 50),
        ("Ei", BILLION << 60),
        ("n", 1),
        ("u", 1_000),
        ("m", 1_000_000),
        ("k", BILLION * 1_000),
        ("M", BILLION * 1_000_000),
        ("G", BILLION * BILLION),
        ("T", BILLION * BILLION * 1_000),
        ("P", BILLION * BILLION * 1_000_000),
        ("E", BILLION * BILLION * BILLION),
    ];
    let suffixed = SUFFIXES
        .iter()
        .find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, *factor)));
    let (number, unit) = match (suffixed, text.split_once(['e', 'E'])) {
        (Some(found), _) => found,
        (None, Some((number, exponent))) => {
            let power = exponent.parse::<u32>().ok()?.checked_add(9)?;
            (number, 10_i128.checked_pow(power)?)
        }
        (None, None) => (text, BILLION),
    };
    let (integer, fraction) = number.split_once('.').unwrap_or((number, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let divisor = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let digits: i128 = format!("{integer}{fraction}").parse().ok()?;
    let exact = digits.checked_mul(unit)?;
    (exact % divisor == 0).then_some(exact / divisor)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn server_defaults_are_ignored() {
        let live = json!({"spec": {"suspend": false, "jobTemplate": {"spec": {"completions": 1, "backoffLimit": 0}}}});
        assert!(is_superset(
            &live,
            &json!({"spec": {"jobTemplate": {"spec": {"backoffLimit": 0}}}})
        ));
        assert!(!is_superset(&live, &json!({"spec": {"suspend": true}})));
        assert!(!is_superset(&live, &json!({"spec": {"timeZone": "UTC"}})));
    }

    #[test]
    fn values_omitted_by_server_are_ignored() {
        let live = json!({"name": "data"});
        for omitted in [
            json!({"readOnly": false}),
            json!({"value": ""}),
            json!({"items": []}),
        ] {
            assert!(is_superset(&live, &omitted), "{omitted}");
        }
        assert!(!is_superset(&live, &json!({"readOnly": true})));
        assert!(!is_superset(
            &json!({"readOnly": true}),
            &json!({"readOnly": false})
        ));
        assert!(!is_superset(
            &live,
            &json!({"automountServiceAccountToken": false})
        ));
    }

    #[test]
    fn equal_quantities_match_in_any_notation() {
        for (a, b) in [
            ("0.5", "500m"),
            ("1", "1000m"),
            ("1024Mi", "1Gi"),
            ("1k", "1000"),
            ("0.1234", "123400u"),
            ("1.5Gi", "1536Mi"),
            ("2e3", "2k"),
            ("1E", "1000P"),
            ("12E2", "1200"),
            ("0.000000001", "1n"),
        ] {
            assert!(same_quantity(a, b), "{a} {b}");
        }
        for (a, b) in [
            ("1", "1Mi"),
            ("abc", "abd"),
            ("0.5", "0.6"),
            ("latest", "LATEST"),
            ("0.5.1", "0.51"),
            ("", "0"),
            ("-", "0"),
            ("1e99", "1e98"),
        ] {
            assert!(!same_quantity(a, b), "{a} {b}");
        }
    }

    #[test]
    fn array_elements_of_other_managers_are_ignored() {
        let live = json!([{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]);
        assert!(is_superset(&live, &json!([{"name": "B", "value": "2"}])));
        assert!(!is_superset(&live, &json!([{"name": "B", "value": "3"}])));
    }
}
