use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{DrainSpec, EventForwarderStatus, IterableSpec, JobSpec, MappingSpec, QueueSpec};

/// An EventForwarder empties one SQS queue of mParticle event batches into one Iterable
/// project, on a schedule.
#[derive(CustomResource, Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[kube(
    group = "eventforwarder.io",
    version = "v1alpha1",
    kind = "EventForwarder",
    plural = "eventforwarders",
    shortname = "ef",
    category = "all",
    namespaced,
    status = "EventForwarderStatus",
    derive = "PartialEq",
    printcolumn(name = "Schedule", type_ = "string", json_path = ".spec.schedule"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why it is ready or not; `-o wide` shows the message"
    ),
    printcolumn(
        name = "Depth",
        type_ = "integer",
        json_path = ".status.queue.visible",
        description = "Messages in the queue that can be received now"
    ),
    printcolumn(
        name = "Dead",
        type_ = "integer",
        json_path = ".status.queue.deadLetters",
        description = "Messages in the dead-letter queue"
    ),
    printcolumn(
        name = "Last Run",
        type_ = "date",
        json_path = ".status.lastRun.startedAt"
    ),
    printcolumn(
        name = "Outcome",
        type_ = "string",
        json_path = ".status.lastRun.outcome"
    ),
    printcolumn(
        name = "Forwarded",
        type_ = "integer",
        json_path = ".status.lastRun.events.forwarded",
        description = "Events that Iterable accepted in the last run"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "In Flight",
        type_ = "integer",
        json_path = ".status.queue.inFlight",
        priority = 1
    ),
    printcolumn(
        name = "Next Run",
        type_ = "string",
        json_path = ".status.nextRunTime",
        priority = 1
    ),
    printcolumn(
        name = "Suspended",
        type_ = "boolean",
        json_path = ".spec.suspend",
        priority = 1
    ),
    printcolumn(
        name = "Queue",
        type_ = "string",
        json_path = ".spec.queue.url",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    doc = "Empties one SQS queue of mParticle event batches into one Iterable project, on a schedule."
)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::for_kubernetes)]
#[x_kube(
    validation = Rule::new("self.mapping.identity.withoutUser != 'PlaceholderEmail' || self.iterable.projectType == 'Email'").message("mapping.identity.withoutUser: PlaceholderEmail requires iterable.projectType: Email, because other project types do not support placeholder addresses; set Skip"),
    validation = Rule::new("duration(self.drain.maxDuration) >= duration('1m') && duration(self.drain.maxDuration) <= duration('24h')").message("drain.maxDuration must be between 1m and 24h; if the queue takes longer, the next run continues"),
    validation = Rule::new("duration(self.iterable.requestTimeout) >= duration('1s') && duration(self.iterable.requestTimeout) <= duration('10m')").message("iterable.requestTimeout must be between 1s and 10m"),
    validation = Rule::new("duration(self.iterable.requestTimeout) <= duration(self.drain.maxDuration)").message("iterable.requestTimeout must not be longer than drain.maxDuration, because a run could otherwise end before a request does"),
    validation = Rule::new("!has(self.drain.visibilityTimeout) || (duration(self.drain.visibilityTimeout) >= duration('10s') && duration(self.drain.visibilityTimeout) <= duration('12h'))").message("drain.visibilityTimeout must be between 10s and 12h, the maximum of SQS; omit it to use the timeout of the queue"),
    validation = Rule::new("!has(self.job.activeDeadlineSeconds) || self.job.activeDeadlineSeconds >= duration(self.drain.maxDuration).getSeconds() + self.job.terminationGracePeriodSeconds").message("job.activeDeadlineSeconds must not be shorter than drain.maxDuration plus job.terminationGracePeriodSeconds, because the run could otherwise be killed before it ends; omit it to use the default"),
    validation = Rule::new("duration(self.queue.pollInterval) >= duration('1s') && duration(self.queue.pollInterval) <= duration('24h')").message("queue.pollInterval must be between 1s and 24h; the numbers of SQS lag by about a minute")
)]
pub struct EventForwarderSpec {
    /// When runs start, as a cron expression of five fields (minute, hour, day of month, month, day
    /// of week) or a macro (@hourly, @daily, @weekly, @monthly, @yearly), in `timeZone`. Example:
    /// "0 * * * *", every full hour.
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(
        validation = Rule::new("!self.contains('TZ=')").message("schedule must not contain TZ= or CRON_TZ=, which Kubernetes rejects: set spec.timeZone instead, for example Europe/Berlin"),
        validation = Rule::new(cron_rule()).message("schedule must be a cron expression: five fields (minute 0-59, hour 0-23, day of month 1-31, month 1-12 or JAN-DEC, day of week 0-6 or SUN-SAT) or one of @hourly, @daily, @weekly, @monthly, @yearly, for example 0 * * * * for every full hour")
    )]
    pub schedule: String,

    /// IANA time zone of `schedule`. Default "Etc/UTC". When clocks move forward, starts in the
    /// skipped hour do not happen. When clocks move back, starts in the repeated hour happen twice.
    /// Example: "Europe/Berlin".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 64),
        extend("x-kubernetes-validations" = [{
            "rule": r"self.matches(r'^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$') && self.lowerAscii() != 'local'",
            "message": "must be an IANA time zone, for example Europe/Berlin or UTC; Local and offsets are not supported",
        }])
    )]
    pub time_zone: Option<String>,

    /// Suspends scheduled runs. Manually requested runs still start, and a running one continues.
    /// Messages stay in the queue until its retention period ends. Default false. Example: true, to
    /// pause delivery during work on the Iterable project.
    #[serde(default)]
    pub suspend: bool,

    /// Deadline in seconds for starting a run after its scheduled time. A run that misses it is
    /// skipped, and messages stay in the queue for the next run. At least 60. Default 300. Example:
    /// 1800.
    #[serde(default = "default_starting_deadline_seconds")]
    #[schemars(range(min = 60, max = 86_400))]
    pub starting_deadline_seconds: i64,

    /// SQS queue that mParticle batches are read from. Example: {url:
    /// "https://sqs.us-east-1.amazonaws.com/123456789012/mparticle-events"}.
    pub queue: QueueSpec,

    /// Iterable project that events are sent to. Example: {apiKeySecretRef: {name: iterable},
    /// dataCenter: EU}.
    pub iterable: IterableSpec,

    /// How mParticle events are converted to Iterable events. Example: {events: [SessionStart,
    /// ScreenView]}.
    #[serde(default)]
    pub mapping: MappingSpec,

    /// Settings of the drain: limits, concurrency, and what happens to rejected events. Example:
    /// {maxDuration: "20m"}.
    #[serde(default)]
    pub drain: DrainSpec,

    /// Settings of the Jobs and pods of runs: image, resources, placement, history. Example:
    /// {serviceAccountName: event-forwarder-runs}.
    #[serde(default)]
    pub job: JobSpec,
}

/// Returns a CEL rule for the cron expressions that the Kubernetes cron parser accepts, except
/// `@every`, which has no fixed times. It accepts reversed ranges (5-3), which Kubernetes rejects
/// when the CronJob is applied.
fn cron_rule() -> String {
    let field = |value: &str| {
        let term = format!("([*]|[?]|({value})(-({value}))?)(/[1-9][0-9]*)?");
        format!("{term}(,{term})*")
    };
    let fields = [
        "[0-5]?[0-9]",
        "[01]?[0-9]|2[0-3]",
        "0?[1-9]|[12][0-9]|3[01]",
        "0?[1-9]|1[0-2]|(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)",
        "[0-6]|(?i:sun|mon|tue|wed|thu|fri|sat)",
    ]
    .map(field)
    .join(" +");
    format!(
        "self.contains('TZ=') || self.matches('^(@(hourly|daily|midnight|weekly|monthly|yearly|annually)|{fields})$')"
    )
}

fn default_starting_deadline_seconds() -> i64 {
    300
}
