//! Wires reconciliation to the API server: watches, leadership, health, shutdown.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use futures::{FutureExt, StreamExt, TryStreamExt, future::join_all};
use k8s_openapi::{
    NamespaceResourceScope,
    api::batch::v1::{CronJob, Job},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::ListParams,
    runtime::{
        Controller, WatchStreamExt,
        controller::{Config, Error as ControllerError},
        events::{Recorder, Reporter},
        predicates,
        reflector::{self, ObjectRef},
        watcher::{self, watcher},
    },
};
use kube_lease_manager::LeaseManagerBuilder;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    ambient::AmbientUse,
    cronjob::{FORWARDER, MANAGED_BY, MANAGER},
    depth::Depths,
    error::{Call, Error},
    http,
    metrics::Metrics,
    packed::Packed,
    reconcile::{Context, Guarded, on_error, reconcile},
    run_index::RunIndex,
};
use crate::{api::EventForwarder, cli::ControllerArgs, sqs::Connector};

/// Where `kubectl apply` keeps a copy of the object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Objects in one page of a list, all of which are in memory at once.
const PAGE: u32 = 100;
/// Reconciliations at work at the same time.
const CONCURRENCY: u16 = 16;
/// How often the definition is looked for while the cluster lacks it.
const DEFINITION_PAUSE: Duration = Duration::from_secs(5);
/// How long a lease holds without renewal, and how long before its end it is renewed: a
/// replica that dies is followed within 10 s.
const LEASE_SECONDS: u64 = 10;
const LEASE_GRACE_SECONDS: u64 = 4;

/// Where forwarders are looked for.
#[derive(Debug, Clone)]
enum Scope {
    Cluster,
    Namespace(String),
}

impl Scope {
    fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        match self {
            Self::Cluster => Api::all(client.clone()),
            Self::Namespace(namespace) => Api::namespaced(client.clone(), namespace),
        }
    }
}

/// Runs the controller until SIGTERM or SIGINT.
///
/// # Errors
/// When it can't start, or has lost its lease to another replica.
pub async fn run(args: ControllerArgs, stop: CancellationToken) -> Result<(), Error> {
    let client = Client::try_default()
        .await
        .map_err(|error| Error::NoCluster(error.to_string()))?;
    let connector = Connector::new()?;
    let metrics = Metrics::new();
    let (waiting, waits) = watch::channel(Some("waits for the API server"));
    http::serve(args.listen, metrics.clone(), waits).await?;

    let scopes = match args.watch_namespaces.as_slice() {
        [] => vec![Scope::Cluster],
        namespaces => namespaces.iter().cloned().map(Scope::Namespace).collect(),
    };
    tokio::select! {
        () = stop.cancelled() => return Ok(()),
        () = definition_installed(&client, &scopes[0], &waiting) => {}
    }

    let Some(namespace) = &args.lease_namespace else {
        waiting.send_replace(None);
        watch_all(&client, &connector, &scopes, &args, &metrics, &stop).await;
        return Ok(());
    };
    // A standby is ready: it could take over at any moment.
    waiting.send_replace(None);
    let lease = LeaseManagerBuilder::new(client.clone(), &args.lease_name)
        .with_namespace(namespace)
        .with_identity(&args.identity)
        .with_field_manager(format!("{MANAGER}-{}", args.identity))
        .with_duration(LEASE_SECONDS)
        .with_grace(LEASE_GRACE_SECONDS)
        .build()
        .await
        .map_err(|error| Error::Lease(error.to_string()))?;
    let (mut leading, lease) = lease.watch().await;
    let elected = tokio::select! {
        () = stop.cancelled() => false,
        leads = leading.wait_for(|leads| *leads) => leads.is_ok(),
    };
    if elected {
        tracing::info!(identity = args.identity, "this replica leads");
        tokio::select! {
            () = watch_all(&client, &connector, &scopes, &args, &metrics, &stop) => {}
            _ = leading.wait_for(|leads| !*leads) => return Err(Error::LeaseLost),
        }
    }
    drop(leading);
    match lease.await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(Error::Lease(error.to_string())),
        Err(error) => Err(Error::Lease(error.to_string())),
    }
}

/// Returns once the API server knows EventForwarders, saying meanwhile that it does not.
async fn definition_installed(
    client: &Client,
    scope: &Scope,
    waiting: &watch::Sender<Option<&'static str>>,
) {
    let api: Api<Guarded> = scope.api(client);
    loop {
        let one = ListParams::default().limit(1);
        match Call::new("list", "EventForwarders")
            .run(api.list(&one))
            .await
        {
            Ok(_) => return,
            Err(Error::Api { source, .. }) if matches!(&*source, kube::Error::Api(status) if status.code == 404) =>
            {
                waiting.send_replace(Some("waits for the definition of EventForwarder: kubectl apply --server-side -f crds/"));
                tracing::warn!("{}", Error::DefinitionMissing(source));
            }
            Err(error) => {
                waiting.send_replace(Some("waits for the right to list EventForwarders, or for the API server; see the log"));
                tracing::warn!("{error}");
            }
        }
        tokio::time::sleep(DEFINITION_PAUSE).await;
    }
}

async fn watch_all(
    client: &Client,
    connector: &Connector,
    scopes: &[Scope],
    args: &ControllerArgs,
    metrics: &Metrics,
    stop: &CancellationToken,
) {
    join_all(
        scopes
            .iter()
            .map(|scope| watch(client, connector, scope, args, metrics, stop)),
    )
    .await;
}

/// Watches one scope until told to stop; reconciliations under way are let finish.
async fn watch(
    client: &Client,
    connector: &Connector,
    scope: &Scope,
    args: &ControllerArgs,
    metrics: &Metrics,
    stop: &CancellationToken,
) {
    let all = watcher::Config::default().page_size(PAGE);
    let ours = all.clone().labels(&format!("{MANAGED_BY}={MANAGER}"));
    let (forwarders, writer) = reflector::store::<Guarded>();
    let forwarder_stream = watched(scope.api::<Guarded>(client), all)
        .reflect(writer)
        .applied_objects()
        .predicate_filter(
            |forwarder: &Guarded| {
                predicates::generation(forwarder)
                    .zip(predicates::annotations(forwarder))
                    .map(|(a, b)| a ^ b.rotate_left(1))
            },
            Default::default(),
        );
    let (cronjobs, writer) = reflector::store::<Packed<CronJob>>();
    let cronjob_stream = watched(scope.api::<CronJob>(client), ours.clone())
        .map_ok(Packed::event)
        .reflect(writer)
        .touched_objects();
    let runs = Arc::new(RunIndex::default());
    let learning = Arc::clone(&runs);
    let job_stream = watched(scope.api::<Job>(client), ours)
        .inspect_ok(move |event| learning.learn(event))
        .touched_objects();

    let ambient = AmbientUse {
        hosts: args.ambient_credentials_hosts.clone(),
        roles: args.ambient_credentials_roles.clone(),
    };
    let (depths, changed_depths) = Depths::new(ambient, connector.clone());
    let context = Arc::new(Context {
        client: client.clone(),
        image: args.image.clone(),
        cronjobs: cronjobs.clone(),
        runs: Arc::clone(&runs),
        depths: Arc::clone(&depths),
        recorder: Recorder::new(
            client.clone(),
            Reporter {
                controller: MANAGER.to_owned(),
                instance: Some(args.identity.clone()),
            },
        ),
        metrics: metrics.clone(),
        reconciliations: AtomicU64::new(1),
        failures: HashMap::new().into(),
    });
    let changed_depths = futures::stream::unfold(changed_depths, |mut changes| async move {
        changes.recv().await.map(|forwarder| (forwarder, changes))
    });

    // Without them, a forwarder would seem to have no runs. Awaited once for all reconciliations:
    // of several that wait for a store themselves, kube-runtime wakes only the last. They fail to
    // become ready only while the controller stops.
    let stores_known = async move {
        let _ = tokio::join!(cronjobs.wait_until_ready(), runs.complete());
    }
    .boxed()
    .shared();
    let control = Controller::for_stream(forwarder_stream, forwarders.clone())
        .owns_stream(cronjob_stream)
        .watches_stream(job_stream, |job| forwarder_of(&job))
        .reconcile_on(changed_depths.map(|forwarder| guarded(&forwarder)))
        .with_config(Config::default().concurrency(CONCURRENCY))
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
            context,
        );
    control
        .for_each(|result| {
            match result {
                Ok(_) | Err(ControllerError::ReconcilerFailed(..)) => {}
                Err(ControllerError::ObjectNotFound(reference)) => {
                    let namespace = reference.namespace.as_deref().unwrap_or_default();
                    depths.forget(&ObjectRef::new(&reference.name).within(namespace));
                    metrics.forget(namespace, &reference.name);
                }
                Err(error) => tracing::warn!(%error, "a watch failed; it is started again"),
            }
            std::future::ready(())
        })
        .await;
}

/// A watch that starts again by itself and leaves out what nobody here reads.
fn watched<K>(
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

/// The forwarder that a Job runs for, by the annotation that its CronJob's template gave it.
fn forwarder_of(job: &Job) -> Option<ObjectRef<Guarded>> {
    let name = job.annotations().get(FORWARDER)?;
    Some(ObjectRef::new(name).within(&job.namespace()?))
}

fn guarded(forwarder: &ObjectRef<EventForwarder>) -> ObjectRef<Guarded> {
    ObjectRef::new(&forwarder.name).within(forwarder.namespace.as_deref().unwrap_or_default())
}
