//! Wires reconciliation to the API server: watches, leadership, health, shutdown.

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

/// Where `kubectl apply` keeps a copy of the object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Objects in one page of a list, all of which are in memory at once.
const PAGE: u32 = 100;
/// Reconciliations at work at the same time.
const CONCURRENCY: u16 = 16;

/// How long reconciliations under way may go on once this replica is told to stop: a successor
/// waits for it. One that waits for a list which it may not have would never end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs the controller until SIGTERM or SIGINT.
///
/// # Errors
/// When it can't start, or has lost its lease to another replica.
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
    let overseer = ClientHooks {
        metrics,
        health,
        leadership,
    };
    let client = client::connect(config.clone(), overseer.clone())?;
    let connector = Connector::new()?;

    let scopes = match args.watch_namespaces.as_slice() {
        [] => vec![Scope::Cluster],
        namespaces => namespaces.iter().cloned().map(Scope::Namespace).collect(),
    };
    tokio::select! {
        () = stop.cancelled() => return Ok(()),
        () = prerequisites::met(&client, &scopes, &overseer.health) => {}
    }
    // A standby is ready: it could take over at any moment.
    overseer.health.set_not_ready(None);
    tokio::spawn(crd::wait_until_current(
        client.clone(),
        overseer.metrics.clone(),
    ));
    let work = watch_all(&client, &connector, &scopes, &args, &overseer, &stop);
    let work = with_shutdown_timeout(SHUTDOWN_TIMEOUT, &stop, work);
    let Some(namespace) = &args.lease_namespace else {
        overseer.metrics.set_leader(true);
        work.await;
        return Ok(());
    };
    // The lease is written by a client of its own, which may write without holding it.
    let elector = ClientHooks {
        leadership: Leadership::sole_replica(),
        ..overseer.clone()
    };
    let mut candidate = Candidate::new(
        client::connect(config, elector)?,
        namespace,
        &args.lease_name,
        &args.identity,
        overseer.leadership.clone(),
    );
    let elected = tokio::select! {
        () = stop.cancelled() => false,
        () = candidate.acquire() => true,
    };
    if elected {
        tracing::info!(identity = args.identity, "this replica is the leader");
        overseer.metrics.set_leader(true);
        tokio::select! {
            () = work => {}
            () = candidate.hold_until_lost() => return Err(Error::LeaseLost),
        }
    }
    candidate.release_lease().await
}

/// Does the work, and at most `limit` of it after the stop. What is left undone, the next leader
/// takes up.
async fn with_shutdown_timeout(
    limit: Duration,
    stop: &CancellationToken,
    work: impl Future<Output = ()>,
) {
    let too_late = async {
        stop.cancelled().await;
        tokio::time::sleep(limit).await;
    };
    tokio::select! {
        () = work => {}
        () = too_late => {
            tracing::warn!("shut down with work in progress; the next leader finishes it");
        }
    }
}

async fn watch_all(
    client: &Client,
    connector: &Connector,
    scopes: &[Scope],
    args: &ControllerArgs,
    overseer: &ClientHooks,
    stop: &CancellationToken,
) {
    join_all(
        scopes
            .iter()
            .map(|scope| watch(client, connector, scope, args, overseer, stop)),
    )
    .await;
}

/// Watches one scope until told to stop; reconciliations under way are let finish.
async fn watch(
    client: &Client,
    connector: &Connector,
    scope: &Scope,
    args: &ControllerArgs,
    overseer: &ClientHooks,
    stop: &CancellationToken,
) {
    let ClientHooks {
        metrics, health, ..
    } = overseer;
    let all = watcher::Config::default().page_size(PAGE);
    let ours = all
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
        .inspect_ok(noted(metrics.clone(), |forwarder: &GuardedForwarder| {
            Some(ObjectRef::from_obj(forwarder))
        }));
    let (cronjobs, writer) = reflector::store::<Compressed<CronJob>>();
    let cronjob_stream = watch_stream(scope.api::<CronJob>(client), ours.clone())
        .map_ok(Compressed::event)
        .reflect(writer)
        .touched_objects()
        .inspect_ok(noted(metrics.clone(), owner_of));
    let runs = Arc::new(RunIndex::default());
    let learning = Arc::clone(&runs);
    let job_stream = watch_stream(scope.api::<Job>(client), ours.clone())
        .inspect_ok(move |event| learning.apply_event(event))
        .touched_objects()
        .inspect_ok(noted(metrics.clone(), forwarder_of));
    let departed = Arc::new(TerminatedPods::default());
    let ended = Arc::clone(&departed);
    let departures = watch_stream(scope.api::<Pod>(client), ours)
        .touched_objects()
        .filter_map(move |pod| {
            let forwarder = match pod {
                Ok(pod) => ended.record(&pod),
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
        terminated_pods: departed,
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
        Some((guarded(&forwarder), changes))
    })
    .inspect(noted(
        metrics.clone(),
        |forwarder: &ObjectRef<GuardedForwarder>| Some(forwarder.clone()),
    ));

    // Without them, a forwarder would seem to have no runs. Awaited once for all reconciliations:
    // of several that wait for a store themselves, kube-runtime wakes only the last. They fail to
    // become ready only while the controller stops.
    let stores_known = async move {
        let _ = tokio::join!(cronjobs.wait_until_ready(), runs.wait_until_synced());
    }
    .boxed()
    .shared();
    let control = Controller::for_stream(forwarder_stream, forwarders.clone())
        .owns_stream(cronjob_stream)
        .watches_stream(job_stream, |job| forwarder_of(&job))
        .reconcile_on(changed_depths)
        .reconcile_on(departures)
        .with_config(controller::Config::default().concurrency(CONCURRENCY))
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(
            move |forwarder, context: Arc<Context>| {
                let stores_known = stores_known.clone();
                async move {
                    stores_known.await;
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

/// A watch that starts again by itself and leaves out what nobody here reads.
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

/// Notes each forwarder that something in a stream makes due for a reconciliation.
fn noted<T>(
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

/// The forwarder that a CronJob was made for.
fn owner_of(cronjob: &Compressed<CronJob>) -> Option<ObjectRef<GuardedForwarder>> {
    let owner = cronjob.controller_owner_ref(&())?;
    let owner = (owner.kind == EventForwarder::kind(&())).then_some(owner)?;
    Some(ObjectRef::new(&owner.name).within(&cronjob.namespace()?))
}

/// The forwarder that a Job runs for, by the annotation that its CronJob's template gave it.
fn forwarder_of(job: &Job) -> Option<ObjectRef<GuardedForwarder>> {
    let name = job.annotations().get(FORWARDER_ANNOTATION)?;
    Some(ObjectRef::new(name).within(&job.namespace()?))
}

fn guarded(forwarder: &ObjectRef<EventForwarder>) -> ObjectRef<GuardedForwarder> {
    ObjectRef::new(&forwarder.name).within(forwarder.namespace.as_deref().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn work_that_does_not_end_is_given_up_once_told_to_stop_and_not_before() {
        let (stop, soon) = (CancellationToken::new(), Duration::from_millis(1));
        let mut work = Box::pin(with_shutdown_timeout(soon, &stop, pending()));
        let goes_on = timeout(Duration::from_millis(50), &mut work).await;
        assert!(goes_on.is_err(), "no stop was requested");
        stop.cancel();
        let ended = timeout(Duration::from_secs(60), work).await;
        assert!(ended.is_ok(), "the lease would not be released");
    }
}
