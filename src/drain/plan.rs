//! From a manifest and files, as typed, to what a run works with.

use std::{
    fs, io,
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{batch::RequestLimits, engine::Config, pace::Limits};
use crate::{
    api::{EventForwarder, EventForwarderSpec},
    cli::DrainArgs,
    iterable::{ApiKey, ApiKeyError},
    mapping::MapperError,
    sqs::{Credentials, MAX_ENTRIES, QueueSettings},
};

/// How many receives are under way at once, at most. Each is bound to be short, so that more
/// would not make a run faster than Iterable's rate.
const MAX_RECEIVES: usize = 8;

/// The time between two requests that make users known, by one of all pods: Iterable takes five
/// in a second.
const USERS_INTERVAL: Duration = Duration::from_millis(250);

/// What is kept of the grace period for the report and the container's end.
const GRACE_MARGIN: Duration = Duration::from_secs(5);

/// A run, as meant.
#[derive(Debug)]
pub struct Plan {
    /// The forwarder.
    pub spec: EventForwarderSpec,
    /// The project's key.
    pub key: ApiKey,
    /// The user's rules, where the forwarder refers to a ConfigMap for them.
    pub transform: Option<String>,
    /// Whose rights are used with AWS.
    pub credentials: Credentials,
    /// The run's name, for dead letters.
    pub run: String,
    /// Among how many pods Iterable's rate is shared.
    pub pods: NonZeroU32,
}

/// Why no run can be made of a manifest and files.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A file can't be read.
    #[error("can't read {}: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The manifest is no EventForwarder.
    #[error("{} is not a valid EventForwarder: {detail}; for its fields, see `kubectl explain eventforwarder.spec`", path.display())]
    NoForwarder {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The key can't be read.
    #[error(transparent)]
    Key(#[from] ApiKeyError),
    /// The mapping can't be used.
    #[error("spec.mapping can't be used: {0}")]
    Mapping(#[from] MapperError),
}

impl Plan {
    /// Reads what the command line names.
    pub fn read(args: &DrainArgs) -> Result<Self, PlanError> {
        let forwarder = read_forwarder(&args.forwarder)?;
        Ok(Self {
            key: ApiKey::read(&args.api_key_file)?,
            transform: args.transform.as_deref().map(read).transpose()?,
            credentials: match &args.aws_credentials_dir {
                Some(dir) => Credentials::Dir(dir.clone()),
                None => Credentials::Ambient,
            },
            run: std::env::var("HOSTNAME").unwrap_or_else(|_| "local".to_owned()),
            pods: pods(
                std::env::var_os("JOB_COMPLETION_INDEX").is_some(),
                forwarder.spec.drain.parallelism,
            ),
            spec: forwarder.spec,
        })
    }

    /// The bounds of the run on a queue with these settings.
    pub fn bounds(
        &self,
        queue: &QueueSettings,
        fifo: bool,
        dead_letter_bytes: Option<usize>,
    ) -> Config {
        let Self { spec, pods, .. } = self;
        let rate = spec.iterable.requests_per_second.max(1);
        let grace = Duration::from_secs(
            u64::try_from(spec.job.termination_grace_period_seconds).unwrap_or(0),
        );
        let max_bytes = usize::try_from(spec.drain.max_bytes_in_flight).unwrap_or(usize::MAX);
        Config {
            pace: Limits {
                post_interval: Duration::from_secs(1) * pods.get() / rate,
                posts: if fifo {
                    1
                } else {
                    size(spec.drain.concurrency)
                },
                receives: MAX_RECEIVES,
            },
            request: RequestLimits {
                events: size(spec.iterable.max_events_per_request),
                bytes: size(spec.iterable.max_bytes_per_request),
            },
            max_bytes,
            max_payload_bytes: spec.queue.large_payloads.as_ref().map(|_| max_bytes / 4),
            max_messages: spec
                .drain
                .max_messages
                .map_or(u64::MAX, |max| max.div_ceil(pods.get().into())),
            visibility: spec
                .drain
                .visibility_timeout
                .map_or(queue.visibility_timeout, |timeout| timeout.get()),
            max_message_bytes: queue.max_message_bytes.max(MAX_ENTRIES),
            fifo,
            pods: *pods,
            max_duration: spec.drain.max_duration.get(),
            grace: grace.saturating_sub(GRACE_MARGIN),
            rejected: spec.drain.rejected,
            dead_letter_bytes,
            unknown_users: spec.iterable.unknown_users,
            users_interval: USERS_INTERVAL * pods.get(),
            type_conflicts: spec.iterable.type_conflicts,
            run: self.run.clone(),
        }
    }
}

/// Among how many pods a run is shared: only those of an indexed Job are several.
fn pods(is_indexed: bool, parallelism: u32) -> NonZeroU32 {
    NonZeroU32::new(parallelism)
        .filter(|_| is_indexed)
        .unwrap_or(NonZeroU32::MIN)
}

fn read_forwarder(path: &Path) -> Result<EventForwarder, PlanError> {
    serde_saphyr::from_str(&read(path)?).map_err(|error| PlanError::NoForwarder {
        path: path.to_owned(),
        detail: error.to_string(),
    })
}

fn read(path: &Path) -> Result<String, PlanError> {
    fs::read_to_string(path).map_err(|cause| PlanError::Unreadable {
        path: path.to_owned(),
        cause,
    })
}

fn size(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The bounds of one of so many pods.
    fn bounds(pods: NonZeroU32) -> Config {
        let spec = json!({
            "schedule": "@hourly",
            "queue": {"url": "https://sqs.us-east-1.amazonaws.com/123456789012/events"},
            "iterable": {"apiKeySecretRef": {"name": "iterable"}, "requestsPerSecond": 10},
            "drain": {"maxMessages": 10},
        });
        let plan = Plan {
            spec: serde_json::from_value(spec).unwrap(),
            key: ApiKey::new("key").unwrap(),
            transform: None,
            credentials: Credentials::Ambient,
            run: "test".to_owned(),
            pods,
        };
        let queue = QueueSettings {
            visibility_timeout: Duration::from_secs(30),
            max_message_bytes: 1 << 20,
            redrive: None,
        };
        plan.bounds(&queue, false, None)
    }

    #[test]
    fn only_the_pods_of_an_indexed_job_are_several() {
        for (is_indexed, parallelism, expected) in
            [(true, 3, 3), (false, 3, 1), (true, 1, 1), (true, 0, 1)]
        {
            assert_eq!(pods(is_indexed, parallelism).get(), expected);
        }
    }

    #[test]
    fn a_pod_takes_its_share_of_the_rate_and_of_the_queue() {
        for (count, milliseconds, messages) in [(1, 100, 10), (3, 300, 4), (20, 2_000, 1)] {
            let bounds = bounds(NonZeroU32::new(count).unwrap());
            assert_eq!(
                bounds.pace.post_interval,
                Duration::from_millis(milliseconds)
            );
            assert_eq!(bounds.max_messages, messages);
            assert!(bounds.users_interval >= Duration::from_millis(200) * count);
        }
    }
}
