//! Connection of reconciliation to the API server: watches, leadership, health, shutdown.

use std::{collections::HashMap, future::Future, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, TryStreamExt, future::join_all};
use k8s_openapi::api::{
    batch::v1::{CronJob, Job},
    core::v1::Pod,
};
use kube::{
    Api, Client, Config, Resource, ResourceExt,
    runtime::{
        Controller, WatchStreamExt,
        controller::{self, Error as ControllerError},
        events::{Recorder, Reporter},
        predicates,
        reflector::{self, ObjectRef},
        watcher::{self, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::{
    ambient_credentials::AmbientCredentialsPolicy,
    client::{self, ClientHooks},
    compressed::Compressed,
    crd,
    cronjob::{FIELD_MANAGER, FORWARDER_ANNOTATION, MANAGED_BY_LABEL},
    depth::DepthPoller,
    error::Error,
    health::Health,
    http,
    lease::{Candidate, Leadership},
    metrics::Metrics,
    prerequisites::{self, Scope},
    reconcile::{Context, on_error, reconcile},
    run_index::RunIndex,
    stale_reads::StaleReadGuard,
    terminated_pods::TerminatedPods,
};
use crate::{
    api::{EventForwarder, GuardedForwarder},
    cli::ControllerArgs,
    sqs::Connector,
};

/// Annotation in which `kubectl apply` stores a copy of the object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Objects per page of a list. A complete page is in memory at once.
const PAGE_SIZE: u32 = 100;
/// Maximum number of concurrent reconciliations per scope.
const CONCURRENCY: u16 = 16;

/// Time that running reconciliations have to finish after a termination signal. The next leader
/// waits for them, and one that waits for a list without permission would never finish.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs the controller until `stop` is canceled.
///
/// # Errors
/// Returns an error if the controller can't start, or loses or can't release its lease.
pub async fn run(args: ControllerArgs, stop: CancellationToken) -> Result<(), Error> {
    let (metrics, health) = (Metrics::new(), Health::new());
    http::serve(args.listen, metrics.clone(), health.clone())?;
    tokio::spawn(health.clone().run_heartbeat());

    let config = Config::infer()
        .await
        .map_err(|error| Error::NoCluster(error.to_string()))?;
    let leadership = match args.lease_namespace {
        None => Leadership::sole_replica(),
        Some(_) => Leadership::default(),
    };
    let hooks = ClientHooks {
        metrics,
        health,
        leadership,
    };
    let client = client::connect(config.clone(), hooks.clone())?;
    let connector = Connector::new()?;

    let scopes = match args.watch_namespaces.as_slice() {
        [] => vec![Scope::Cluster],
        namespaces => namespaces.iter().cloned().map(Scope::Namespace).collect(),
    };
    tokio::select! {
        () = stop.cancelled() => return Ok(()),
        () = prerequisites::wait_until_met(&client, &scopes, &hooks.health) => {}
    }
    // A standby is ready too, because it can take over at any time.
    hooks.health.set_not_ready(None);
    tokio::spawn(crd::wait_until_current(
        client.clone(),
        hooks.metrics.clone(),
    ));
    let work = watch_all(&client, &connector, &scopes, &args, &hooks, &stop);
    let work = with_shutdown_timeout(SHUTDOWN_TIMEOUT, &stop, work);
    let Some(namespace) = &args.lease_namespace else {
        hooks.metrics.set_leader(true);
        work.await;
        return Ok(());
    };
    // A separate client, because the lease is written before this replica is the leader.
    let lease_hooks = ClientHooks {
        leadership: Leadership::sole_replica(),
        ..hooks.clone()
    };
    let mut candidate = Candidate::new(
        client::connect(config, lease_hooks)?,
        namespace,
        &args.lease_name,
        &args.identity,
        hooks.leadership.clone(),
    );
    let elected = tokio::select! {
        () = stop.cancelled() => false,
        () = candidate.acquire() => true,
    };
    if elected {
        tracing::info!(identity = args.identity, "this replica is the leader");
        hooks.metrics.set_leader(true);
        tokio::select! {
            () = work => {}
            () = candidate.hold_until_lost() => return Err(Error::LeaseLost),
        }
    }
    candidate.release_lease().await
}

/// Runs `work`, for at most `limit` after `stop` is canceled. The next leader finishes any
/// remaining work.
async fn with_shutdown_timeout(
    limit: Duration,
    stop: &CancellationToken,
    work: impl Future<Output = ()>,
) {
    let deadline = async {
        stop.cancelled().await;
        tokio::time::sleep(limit).await;
    };
    tokio::select! {
        () = work => {}
        () = deadline => {
            tracing::warn!("shut down with work in progress; the next leader finishes it");
        }
    }
}

async fn watch_all(
    client: &Client,
    connector: &Connector,
    scopes: &[Scope],
    args: &ControllerArgs,
    hooks: &ClientHooks,
    stop: &CancellationToken,
) {
    join_all(
        scopes
            .iter()
            .map(|scope| watch(client, connector, scope, args, hooks, stop)),
    )
    .await;
}

/// Watches one scope until `stop` is canceled, then lets running reconciliations finish.
async fn watch(
    client: &Client,
    connector: &Connector,
    scope: &Scope,
    args: &ControllerArgs,
    hooks: &ClientHooks,
    stop: &CancellationToken,
) {
    let ClientHooks {
        metrics, health, ..
    } = hooks;
    let all = watcher::Config::default().page_size(PAGE_SIZE);
    let managed = all
        .clone()
        .labels(&format!("{MANAGED_BY_LABEL}={FIELD_MANAGER}"));
    let (forwarders, writer) = reflector::store::<GuardedForwarder>();
    let forwarder_stream = watch_stream(scope.api::<GuardedForwarder>(client), all)
        .reflect(writer)
        .applied_objects()
        .predicate_filter(
            |forwarder: &GuardedForwarder| {
                predicates::generation(forwarder)
                    .zip(predicates::annotations(forwarder))
                    .map(|(a, b)| a ^ b.rotate_left(1))
            },
            Default::default(),
        )
        .inspect_ok(record_changes(
            metrics.clone(),
            |forwarder: &GuardedForwarder| Some(ObjectRef::from_obj(forwarder)),
        ));
    let (cronjobs, writer) = reflector::store::<Compressed<CronJob>>();
    let cronjob_stream = watch_stream(scope.api::<CronJob>(client), managed.clone())
        .map_ok(Compressed::event)
        .reflect(writer)
        .touched_objects()
        .inspect_ok(record_changes(metrics.clone(), owner_of));
    let runs = Arc::new(RunIndex::default());
    let index = Arc::clone(&runs);
    let job_stream = watch_stream(scope.api::<Job>(client), managed.clone())
        .inspect_ok(move |event| index.apply_event(event))
        .touched_objects()
        .inspect_ok(record_changes(metrics.clone(), forwarder_of));
    let terminated_pods = Arc::new(TerminatedPods::default());
    let pods = Arc::clone(&terminated_pods);
    let pod_stream = watch_stream(scope.api::<Pod>(client), managed)
        .touched_objects()
        .filter_map(move |pod| {
            let forwarder = match pod {
                Ok(pod) => pods.record(&pod),
                Err(error) => {
                    tracing::warn!(%error, "the watch of pods failed; restarting it");
                    None
                }
            };
            std::future::ready(forwarder)
        });

    let ambient = AmbientCredentialsPolicy {
        hosts: args.ambient_credentials_hosts.clone(),
        roles: args.ambient_credentials_roles.clone(),
    };
    let (depths, changed_depths) = DepthPoller::new(ambient, connector.clone(), metrics.clone());
    let context = Arc::new(Context {
        client: client.clone(),
        image: args.image.clone(),
        cronjobs: cronjobs.clone(),
        runs: Arc::clone(&runs),
        terminated_pods,
        stale_reads: StaleReadGuard::default(),
        depths: Arc::clone(&depths),
        recorder: Recorder::new(
            client.clone(),
            Reporter {
                controller: FIELD_MANAGER.to_owned(),
                instance: Some(args.identity.clone()),
            },
        ),
        metrics: metrics.clone(),
        health: health.clone(),
        failures: HashMap::new().into(),
    });
    let changed_depths = futures::stream::unfold(changed_depths, |mut changes| async move {
        let forwarder = changes.recv().await?;
        Some((guarded_ref(&forwarder), changes))
    })
    .inspect(record_changes(
        metrics.clone(),
        |forwarder: &ObjectRef<GuardedForwarder>| Some(forwarder.clone()),
    ));

    // Until both are synced, a forwarder would seem to have no runs. All reconciliations share this
    // future, because kube-runtime wakes only the last of several tasks that wait for a store. The
    // results are ignored, because a wait fails only while the controller stops.
    let stores_synced = async move {
        let _ = tokio::join!(cronjobs.wait_until_ready(), runs.wait_until_synced());
    }
    .boxed()
    .shared();
    let control = Controller::for_stream(forwarder_stream, forwarders.clone())
        .owns_stream(cronjob_stream)
        .watches_stream(job_stream, |job| forwarder_of(&job))
        .reconcile_on(changed_depths)
        .reconcile_on(pod_stream)
        .with_config(controller::Config::default().concurrency(CONCURRENCY))
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(
            move |forwarder, context: Arc<Context>| {
                let stores_synced = stores_synced.clone();
                async move {
                    stores_synced.await;
                    reconcile(forwarder, context).await
                }
            },
            on_error,
            Arc::clone(&context),
        );
    control
        .for_each(|result| {
            match result {
                Ok(_) | Err(ControllerError::ReconcilerFailed(..)) => {}
                Err(ControllerError::ObjectNotFound(reference)) => {
                    let namespace = reference.namespace.as_deref().unwrap_or_default();
                    context.forget(&ObjectRef::new(&reference.name).within(namespace));
                }
                Err(error) => tracing::warn!(%error, "a watch failed; restarting it"),
            }
            std::future::ready(())
        })
        .await;
}

/// Returns a watch that restarts automatically and omits metadata that the controller never reads.
fn watch_stream<K>(
    api: Api<K>,
    config: watcher::Config,
) -> impl futures::Stream<Item = watcher::Result<watcher::Event<K>>>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    watcher(api, config).default_backoff().modify(|object| {
        object.meta_mut().managed_fields = None;
        object.annotations_mut().remove(LAST_APPLIED);
    })
}

/// Returns a callback that records the forwarder to reconcile for each item of a stream.
fn record_changes<T>(
    metrics: Metrics,
    forwarder_of: impl Fn(&T) -> Option<ObjectRef<GuardedForwarder>>,
) -> impl Fn(&T) {
    move |object| {
        if let Some(forwarder) = forwarder_of(object) {
            metrics.record_change(
                forwarder.namespace.as_deref().unwrap_or_default(),
                &forwarder.name,
            );
        }
    }
}

/// Returns the forwarder that owns a CronJob.
fn owner_of(cronjob: &Compressed<CronJob>) -> Option<ObjectRef<GuardedForwarder>> {
    let owner = cronjob.controller_owner_ref(&())?;
    let owner = (owner.kind == EventForwarder::kind(&())).then_some(owner)?;
    Some(ObjectRef::new(&owner.name).within(&cronjob.namespace()?))
}

/// Returns the forwarder of a Job, from the annotation in its CronJob's template.
fn forwarder_of(job: &Job) -> Option<ObjectRef<GuardedForwarder>> {
    let name = job.annotations().get(FORWARDER_ANNOTATION)?;
    Some(ObjectRef::new(name).within(&job.namespace()?))
}

fn guarded_ref(forwarder: &ObjectRef<EventForwarder>) -> ObjectRef<GuardedForwarder> {
    ObjectRef::new(&forwarder.name).within(forwarder.namespace.as_deref().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn endless_work_is_aborted_only_after_stop() {
        let (stop, limit) = (CancellationToken::new(), Duration::from_millis(1));
        let mut work = Box::pin(with_shutdown_timeout(limit, &stop, pending()));
        let before_stop = timeout(Duration::from_millis(50), &mut work).await;
        assert!(before_stop.is_err(), "no stop was requested");
        stop.cancel();
        let after_stop = timeout(Duration::from_secs(60), work).await;
        assert!(after_stop.is_ok(), "the lease would not be released");
    }
}
