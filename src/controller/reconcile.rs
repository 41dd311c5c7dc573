//! One reconciliation of one forwarder.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    batch::v1::{CronJob, Job},
    core::v1::{ConfigMap, Pod, Secret},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    runtime::{
        controller::Action,
        events::Recorder,
        reflector::{ObjectRef, Store},
    },
};
use tokio::time::timeout;
use tracing::{Instrument, field::Empty};

use super::{
    apply::{CronJobResult, RunStart, apply, create_run_job},
    compressed::Compressed,
    cronjob::{self, CronJobOptions, RUN_NOW_ANNOTATION},
    depth::{DepthPoller, DepthTarget},
    error::Error,
    health::{Health, RECONCILE_TIMEOUT},
    metrics::Metrics,
    observe::{self, NoReport, Report, Run, RunWait},
    publish::{emit_events, report_failure, report_unreadable, write_status},
    requeue::{error_backoff, requeue_delay},
    run_index::RunIndex,
    stale_reads::StaleReadGuard,
    status::{self, Observation},
    terminated_pods::TerminatedPods,
    validate::{self, ValidatedSpec},
};
use crate::api::{EventForwarder, GuardedForwarder};

/// Consecutive failures after which the status reports them.
const REPORTED_FAILURES: u32 = 3;

/// The shared state of the reconciliations of one scope.
pub struct Context {
    /// The client of the API server.
    pub client: Client,
    /// The default image of runs.
    pub image: String,
    /// The CronJobs with this controller's label.
    pub cronjobs: Store<Compressed<CronJob>>,
    /// The runs, from the Jobs with this controller's label.
    pub runs: Arc<RunIndex>,
    /// Pods that ended while being deleted.
    pub terminated_pods: Arc<TerminatedPods>,
    /// Detects watch data that is older than the last written status.
    pub stale_reads: StaleReadGuard,
    /// Polls the queue depths.
    pub depths: Arc<DepthPoller>,
    /// Publishes Kubernetes events.
    pub recorder: Recorder,
    /// The Prometheus metrics.
    pub metrics: Metrics,
    /// Tracks the running reconciliations and assigns each the id in its log lines.
    pub health: Health,
    /// Consecutive failures of each forwarder.
    pub failures: Mutex<HashMap<ObjectRef<GuardedForwarder>, u32>>,
}

impl Context {
    fn failures(&self) -> MutexGuard<'_, HashMap<ObjectRef<GuardedForwarder>, u32>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a failure. Returns the number of consecutive failures.
    fn count_failure(&self, forwarder: ObjectRef<GuardedForwarder>) -> u32 {
        let mut failures = self.failures();
        let failed = failures.entry(forwarder).or_default();
        *failed = failed.saturating_add(1);
        *failed
    }

    /// Forgets a deleted forwarder.
    pub fn forget(&self, forwarder: &ObjectRef<GuardedForwarder>) {
        let namespace = forwarder.namespace.as_deref().unwrap_or_default();
        self.depths
            .forget(&ObjectRef::new(&forwarder.name).within(namespace));
        if self.metrics.forget(namespace, &forwarder.name) {
            tracing::info!(
                namespace,
                forwarder = forwarder.name,
                "EventForwarder was deleted; Kubernetes deletes its CronJob and Jobs"
            );
        }
        self.terminated_pods.forget(forwarder);
        self.stale_reads.forget(forwarder);
        self.failures().remove(forwarder);
    }
}

/// Reconciles the CronJob and the status of one forwarder.
///
/// # Errors
/// If the API server fails or does not respond in time. Problems that the user can fix are
/// conditions instead.
pub async fn reconcile(
    guarded: Arc<GuardedForwarder>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    if let Some(delay) = context.stale_reads.delay(&guarded) {
        return Ok(Action::requeue(delay));
    }
    let started = Instant::now();
    let reference = ObjectRef::from_obj(guarded.as_ref());
    let namespace = reference.namespace.as_deref().unwrap_or_default();
    let _in_progress = context.metrics.start_reconcile(namespace, &reference.name);
    let guard = context
        .health
        .start_reconcile(format_args!("{namespace}/{}", reference.name));
    let steps = async {
        match &guarded.0 {
            _ if guarded.meta().deletion_timestamp.is_some() => Ok(Action::await_change()),
            Ok(forwarder) => reconcile_forwarder(forwarder, &context).await,
            Err(invalid) => report_unreadable(&guarded, &invalid.error, &context).await,
        }
    };
    let span = tracing::info_span!(
        "reconcile",
        namespace = reference.namespace,
        forwarder = reference.name,
        id = guard.id(),
        otel.status_code = Empty,
    );
    let result = match timeout(RECONCILE_TIMEOUT, steps)
        .instrument(span.clone())
        .await
    {
        Ok(result) => result,
        Err(_) => Err(Error::ReconcileTimeout),
    };
    context
        .metrics
        .record_reconcile(started.elapsed(), result.as_ref().err().map(Error::reason));
    match &result {
        Ok(_) => {
            context.failures().remove(&reference);
        }
        Err(error) => {
            let failed = context.count_failure(reference);
            span.in_scope(|| {
                tracing::warn!(
                    delay_seconds = error_backoff(failed).as_secs(),
                    "{error}; retrying with exponential backoff"
                );
            });
            span.record("otel.status_code", "ERROR");
            if failed >= REPORTED_FAILURES
                && error.response().is_some()
                && let Ok(forwarder) = &guarded.0
                && let Err(status_error) = report_failure(forwarder, error, &context).await
            {
                span.in_scope(|| tracing::warn!("{status_error}"));
            }
        }
    }
    result
}

/// Requeues a failed forwarder with exponential backoff.
pub fn on_error(guarded: Arc<GuardedForwarder>, _: &Error, context: Arc<Context>) -> Action {
    let reference = ObjectRef::from_obj(guarded.as_ref());
    let failed = context.failures().get(&reference).copied();
    Action::requeue(error_backoff(failed.unwrap_or_default()))
}

async fn reconcile_forwarder(
    forwarder: &EventForwarder,
    context: &Context,
) -> Result<Action, Error> {
    let now = Timestamp::now();
    let name = forwarder.name_any();
    let namespace = forwarder.namespace().unwrap_or_default();
    let client = &context.client;

    let spec = ValidatedSpec::new(&name, &forwarder.spec);
    let cronjob_name = validate::cronjob_name(&name);
    let cronjob = context
        .cronjobs
        .get(&ObjectRef::new(&cronjob_name).within(&namespace))
        .and_then(|compressed| compressed.decompress());
    let secrets = observe::secrets(
        &Api::<Secret>::namespaced(client.clone(), &namespace),
        &namespace,
        &forwarder.spec,
    )
    .await?;
    let transform = observe::transform(
        &Api::<ConfigMap>::namespaced(client.clone(), &namespace),
        &namespace,
        &forwarder.spec,
    )
    .await?;
    let mapping = validate::check_mapping(&forwarder.spec, transform.as_deref());
    let observed = observe_runs(forwarder, &cronjob_name, context, &namespace, now).await?;
    let this = ObjectRef::from_obj(forwarder);
    let depth = match &secrets.queue {
        Ok(credentials) => {
            let target = DepthTarget {
                queue: forwarder.spec.queue.clone(),
                credentials: credentials.clone(),
            };
            context.depths.ensure_polled(&this, target)
        }
        Err(_) => {
            // Credentials from a deleted Secret must not be used any longer.
            context.depths.forget(&this);
            None
        }
    };

    let applied = match &spec {
        Err(_) => None,
        Ok(spec) => {
            let options = CronJobOptions {
                image: &context.image,
                paused: secrets.check().is_err() || mapping.is_err(),
            };
            let desired = cronjob::build(forwarder, spec, options);
            let api = Api::<CronJob>::namespaced(client.clone(), &namespace);
            let owner = forwarder.metadata.uid.as_deref();
            Some(apply(&api, owner, &desired, cronjob.as_ref()).await?)
        }
    };

    let up_to_date = matches!(applied, Some(CronJobResult::UpToDate));
    let request =
        run_request(forwarder).filter(|_| up_to_date && secrets.check().is_ok() && mapping.is_ok());
    let job = request
        .zip(cronjob.as_ref())
        .and_then(|(request, cronjob)| cronjob::run_now_job(cronjob, request));
    let started = match &job {
        Some(job) => {
            Some(create_run_job(&Api::<Job>::namespaced(client.clone(), &namespace), job).await?)
        }
        None => None,
    };

    let observation = Observation {
        run_request: request.filter(|_| matches!(started, Some(RunStart::Created))),
        run_start: started.as_ref(),
        cronjob_exists: cronjob.is_some(),
        spec: spec.as_ref(),
        secrets: secrets.check(),
        mapping: mapping.as_ref().copied(),
        cronjob_result: applied.as_ref(),
        last_scheduled: cronjob.as_ref().and_then(last_scheduled),
        runs: &observed.runs,
        reports: &observed.reports,
        run_wait: observed.pending.as_ref(),
        depth: depth.as_ref(),
    };
    let status = status::build_status(forwarder, &observation, now);
    write_status(forwarder, &status, context).await?;
    for run in status.recent_runs.iter().take(observed.reports.len()) {
        tracing::info!(
            job = run.job_name,
            outcome = run.outcome,
            forwarded = run.forwarded,
            rejected = run.rejected,
            "run finished"
        );
    }
    let is_needed = |job: &str| {
        !observed.all_reported
            || observed
                .runs
                .iter()
                .any(|run| run.job_name == job && run.end.is_none())
    };
    context
        .terminated_pods
        .keep(&reference(&namespace, &name), is_needed);
    context.metrics.show(&namespace, &name, &status);
    emit_events(forwarder, &status, &context.recorder).await;
    Ok(Action::requeue(requeue_delay(
        &status,
        &observation,
        observed.all_reported,
        now,
    )))
}

fn reference(namespace: &str, name: &str) -> ObjectRef<GuardedForwarder> {
    ObjectRef::new(name).within(namespace)
}

/// Returns the run request, the value of the annotation, that has not been handled yet.
fn run_request(forwarder: &EventForwarder) -> Option<&str> {
    let request = forwarder.annotations().get(RUN_NOW_ANNOTATION)?;
    let handled = forwarder
        .status
        .as_ref()
        .and_then(|status| status.last_run_request.as_ref());
    (handled != Some(request)).then_some(request)
}

/// A forwarder's runs, as observed from its Jobs and pods.
struct ObservedRuns {
    runs: Vec<Run>,
    reports: Vec<(Run, Report)>,
    /// Whether every finished run has a report, or is known to have none.
    all_reported: bool,
    pending: Option<RunWait>,
}

async fn observe_runs(
    forwarder: &EventForwarder,
    cronjob_name: &str,
    context: &Context,
    namespace: &str,
    now: Timestamp,
) -> Result<ObservedRuns, Error> {
    let runs = context.runs.runs_of(namespace, cronjob_name);
    let pods = Api::<Pod>::namespaced(context.client.clone(), namespace);
    let reference = reference(namespace, &forwarder.name_any());
    let (mut reports, mut all_reported) = (Vec::new(), true);
    let ended = status::unrecorded(forwarder.status.as_ref(), &runs);
    let without_job = status::run_without_job(forwarder.status.as_ref(), &runs, now);
    let with_job = ended.into_iter().map(|run| (run, false));
    for (run, job_deleted) in with_job.chain(without_job.map(|run| (run, true))) {
        let job_name = &run.job_name;
        let deleted = context.terminated_pods.pods_of(&reference, job_name);
        match observe::report(&pods, namespace, &run, deleted, job_deleted).await? {
            Ok(report) => reports.push((run, report)),
            Err(NoReport::NoPod) if context.terminated_pods.wait_is_over(&reference, job_name) => {
                let why = match job_deleted {
                    true => "its Job was deleted and its pod no longer exists",
                    false => "its pod no longer exists",
                };
                reports.push((
                    run,
                    Report::Missing {
                        why: why.to_owned(),
                    },
                ));
            }
            Err(NoReport::NoPod | NoReport::PodRunning) => all_reported = false,
        }
    }
    let grace = SignedDuration::from_secs(forwarder.spec.job.termination_grace_period_seconds);
    let pending = match runs.first().filter(|run| run.end.is_none()) {
        Some(run) if run.failing_since.is_some() => observe::stuck(run, namespace, grace, now),
        Some(run) if !run.container_started => observe::pending(&pods, namespace, run, now).await?,
        _ => None,
    };
    Ok(ObservedRuns {
        runs,
        reports,
        all_reported,
        pending,
    })
}

fn last_scheduled(cronjob: &CronJob) -> Option<Timestamp> {
    Some(cronjob.status.as_ref()?.last_schedule_time.as_ref()?.0)
}
