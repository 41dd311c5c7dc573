//! One reconciliation, in five steps.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::{CronJob, Job},
    core::v1::{Pod, Secret},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams},
    core::DeserializeGuard,
    runtime::{
        controller::Action,
        reflector::{ObjectRef, Store},
    },
};
use serde_json::json;

use super::{
    apply::apply,
    cronjob::{self, INSTANCE, MANAGER, Surroundings},
    depth::{Depths, Target},
    error::{Call, Error},
    metrics::Metrics,
    observe::{self, Report, Run},
    plan::Plan,
    status::{self, Learned},
};
use crate::api::{EventForwarder, EventForwarderStatus};

/// A forwarder, or what is known of one that can't be read: one such object must not stop the
/// watch of all others.
pub type Guarded = DeserializeGuard<EventForwarder>;

/// How soon a missing Secret is looked for again. Secrets are not watched: that would take the
/// right to list them.
const SECRET_PAUSE: Duration = Duration::from_secs(15);
/// How soon a forwarder is looked at again when nothing happens.
const RESYNC: Duration = Duration::from_secs(600);
/// The longest pause after reconciliations that failed.
const MAX_PAUSE: Duration = Duration::from_secs(300);

/// What reconciliations of one scope share.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// The image for runs that name none.
    pub image: String,
    /// The CronJobs with our label.
    pub cronjobs: Store<CronJob>,
    /// The Jobs with our label.
    pub jobs: Store<Job>,
    /// The queues' depths.
    pub depths: Arc<Depths>,
    /// Counts and durations.
    pub metrics: Metrics,
    /// How often in a row each forwarder has failed.
    pub failures: Mutex<HashMap<ObjectRef<Guarded>, u32>>,
}

impl Context {
    fn failures(&self) -> MutexGuard<'_, HashMap<ObjectRef<Guarded>, u32>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Brings the cluster to what one forwarder declares, and its status to what was seen.
///
/// # Errors
/// When the API server fails; what the user can mend is a condition instead.
pub async fn reconcile(guarded: Arc<Guarded>, context: Arc<Context>) -> Result<Action, Error> {
    let started = Instant::now();
    let reference = ObjectRef::from_obj(guarded.as_ref());
    let result = match &guarded.0 {
        _ if guarded.meta().deletion_timestamp.is_some() => Ok(Action::await_change()),
        Ok(forwarder) => five_steps(forwarder, &context).await,
        Err(invalid) => report_unreadable(&guarded, &invalid.error, &context).await,
    };
    context
        .metrics
        .reconciled(started.elapsed(), result.as_ref().err().map(Error::reason));
    if result.is_ok() {
        context.failures().remove(&reference);
    }
    result
}

/// Waits longer the more often in a row the same forwarder has failed.
pub fn on_error(guarded: Arc<Guarded>, error: &Error, context: Arc<Context>) -> Action {
    let reference = ObjectRef::from_obj(guarded.as_ref());
    let mut failures = context.failures();
    let failed = failures.entry(reference.clone()).or_default();
    *failed = failed.saturating_add(1);
    let pause = Duration::from_secs(1 << (*failed).min(8)).min(MAX_PAUSE);
    tracing::warn!(
        namespace = reference.namespace,
        name = reference.name,
        pause_seconds = pause.as_secs(),
        "{error}"
    );
    Action::requeue(pause)
}

async fn five_steps(forwarder: &EventForwarder, context: &Context) -> Result<Action, Error> {
    let now = Timestamp::now();
    let name = forwarder.name_any();
    let namespace = forwarder.namespace().unwrap_or_default();
    let client = &context.client;

    let plan = Plan::new(&name, &forwarder.spec);
    let secrets = observe::secrets(
        &Api::<Secret>::namespaced(client.clone(), &namespace),
        &namespace,
        &forwarder.spec,
    )
    .await?;
    let runs = plan
        .as_ref()
        .map_or_else(|_| Vec::new(), |plan| runs(&context.jobs, &namespace, plan));
    let report = new_report(forwarder, &runs, client, &namespace).await?;
    let depth = secrets.as_ref().ok().and_then(|credentials| {
        let target = Target {
            queue: forwarder.spec.queue.clone(),
            credentials: credentials.clone(),
        };
        context
            .depths
            .follow(&ObjectRef::from_obj(forwarder), target)
    });

    let applied = match &plan {
        Err(_) => None,
        Ok(plan) => {
            let around = Surroundings {
                image: &context.image,
                paused: secrets.is_err(),
            };
            let desired = cronjob::desired(forwarder, plan, around);
            let seen = context
                .cronjobs
                .get(&ObjectRef::new(&plan.cronjob_name).within(&namespace));
            let api = Api::<CronJob>::namespaced(client.clone(), &namespace);
            Some(
                apply(
                    &api,
                    forwarder.metadata.uid.as_deref(),
                    &desired,
                    seen.as_deref(),
                )
                .await?,
            )
        }
    };

    let learned = Learned {
        plan: plan.as_ref(),
        secrets: secrets.as_ref().map(|_| ()),
        applied: applied.as_ref(),
        runs: &runs,
        report: report.as_ref(),
        depth: depth.as_ref(),
    };
    let status = status::next(forwarder, &learned, now);
    let next_run = status.next_run_time.as_ref().map(|time| time.0);
    write_status(forwarder, &status, client, &namespace).await?;

    let until_next_run = next_run
        .and_then(|next| Duration::try_from(next.duration_since(now)).ok())
        .map_or(RESYNC, |pause| pause + Duration::from_secs(1));
    let pause = if secrets.is_err() {
        SECRET_PAUSE
    } else {
        RESYNC
    };
    Ok(Action::requeue(pause.min(until_next_run)))
}

/// The forwarder's runs, the newest first.
fn runs(jobs: &Store<Job>, namespace: &str, plan: &Plan) -> Vec<Run> {
    let mut runs: Vec<_> = jobs
        .state_filter(|job| {
            job.namespace().as_deref() == Some(namespace)
                && job.labels().get(INSTANCE) == Some(&plan.cronjob_name)
        })
        .iter()
        .map(|job| Run::of(job))
        .collect();
    runs.sort_by(|a, b| {
        b.created_at
            .cmp(&a.created_at)
            .then_with(|| b.job_name.cmp(&a.job_name))
    });
    runs
}

/// The report of the newest run, if it has ended and status does not hold it yet.
async fn new_report(
    forwarder: &EventForwarder,
    runs: &[Run],
    client: &Client,
    namespace: &str,
) -> Result<Option<Report>, Error> {
    let Some(newest) = runs.first().filter(|run| run.end.is_some()) else {
        return Ok(None);
    };
    let known = forwarder
        .status
        .as_ref()
        .and_then(|status| status.last_run.as_ref())
        .is_some_and(|run| run.job_name == newest.job_name && run.finished_at.is_some());
    if known {
        return Ok(None);
    }
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    observe::report(&pods, namespace, &newest.job_name)
        .await
        .map(Some)
}

/// Writes the status, if it differs from the one that stands.
async fn write_status(
    forwarder: &EventForwarder,
    status: &EventForwarderStatus,
    client: &Client,
    namespace: &str,
) -> Result<(), Error> {
    let as_json = |status: &EventForwarderStatus| serde_json::to_value(status).ok();
    if forwarder.status.as_ref().and_then(as_json) == as_json(status) {
        return Ok(());
    }
    patch_status(client, namespace, &forwarder.name_any(), &json!(status)).await
}

async fn report_unreadable(
    guarded: &Guarded,
    error: &str,
    context: &Context,
) -> Result<Action, Error> {
    let namespace = guarded.namespace().unwrap_or_default();
    let condition = status::unreadable(error, guarded.meta().generation, &[], Timestamp::now());
    let status = json!({
        "observedGeneration": guarded.meta().generation,
        "conditions": [condition],
    });
    patch_status(&context.client, &namespace, &guarded.name_any(), &status).await?;
    Ok(Action::await_change())
}

async fn patch_status(
    client: &Client,
    namespace: &str,
    name: &str,
    status: &serde_json::Value,
) -> Result<(), Error> {
    let api = Api::<Guarded>::namespaced(client.clone(), namespace);
    let patch = json!({
        "apiVersion": EventForwarder::api_version(&()),
        "kind": EventForwarder::kind(&()),
        "status": status,
    });
    Call::new(
        "write the status of",
        format!("EventForwarder {namespace}/{name}"),
    )
    .run(api.patch_status(
        name,
        &PatchParams::apply(MANAGER).force(),
        &Patch::Apply(&patch),
    ))
    .await?;
    Ok(())
}
