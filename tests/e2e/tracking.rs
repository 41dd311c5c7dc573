//! Status of runs that don't end normally: evicted, killed, pending, stuck, or unobserved.

use event_forwarder::api::EventForwarderStatus;
use event_forwarder_test_support::iterable::{Fault, Gate};
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::{CronJob, Job},
    core::v1::{Node, Pod},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, EvictParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    sharing::{PART_OF, delete_cluster_object},
    world::{
        RELEASE, SYSTEM, Shared, World, apply_json, condition, eventually, kubectl, sample,
        wait_until_deleted, within,
    },
};

/// A run forwards [`EVENTS`] events of it.
const BATCH: &str = "01-session-and-screens-list-identities.json";
const EVENTS: usize = 4;

/// Starts a run for one batch. Returns when the gate holds its request to Iterable.
pub async fn start_held_run(world: &World, name: &str, job: &str, spec: Value) -> Gate {
    world.create_key_secret().await;
    world.queue.send(&[sample(BATCH)]).await.expect("sending");
    let gate = world.iterable.handle.gate(job);
    world.iterable.handle.add_fault(Fault::hold(job).times(1));
    let mut all = json!({"iterable": {"requestTimeout": "5m"}});
    all.as_object_mut()
        .expect("an object")
        .extend(spec.as_object().expect("an object").clone());
    world.apply(name, all).await;
    start(world, name, job).await;
    within("the request is held", gate.until_held(1)).await;
    world
        .status_until(name, "the run is in progress", |status| {
            status
                .last_run
                .as_ref()
                .is_some_and(|run| run.job_name == job && run.outcome == "Running")
        })
        .await;
    gate
}

/// Starts a run with `kubectl create job --from`.
pub async fn start(world: &World, name: &str, job: &str) {
    world
        .until::<CronJob>(name, "the CronJob exists", |_| true)
        .await;
    let from = format!("--from=cronjob/{name}");
    kubectl(&["create", "job", job, "--namespace", &world.namespace, &from]).await;
}

/// Waits until the status contains the end of a run.
pub async fn wait_for_run_end(world: &World, name: &str, job: &str) -> EventForwarderStatus {
    world
        .status_until(name, "the run has ended", |status| {
            status
                .last_run
                .as_ref()
                .is_some_and(|run| run.job_name == job && run.finished_at.is_some())
        })
        .await
}

async fn pod_of(world: &World, job: &str) -> Pod {
    let of_the_job = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
    let pods = world.api::<Pod>().list(&of_the_job).await.expect("pods");
    pods.items.into_iter().next().expect("a pod of the Job")
}

/// Waits until a pod's run has received SIGTERM, which the kubelet sends with a delay.
async fn wait_for_sigterm(world: &World, pod: &Pod) {
    let logs = ["logs", &pod.name_any(), "--namespace", &world.namespace];
    eventually("the run has received SIGTERM", async || {
        let log = kubectl(&logs).await;
        (log.contains("received a termination signal"), log)
    })
    .await;
}

/// Checks that all events arrive at Iterable, after more runs if necessary.
async fn assert_all_events_arrive(world: &World, name: &str) {
    world.iterable.handle.clear_faults();
    eventually("every event has arrived", async || {
        if world.iterable.handle.events().len() != EVENTS {
            let job = format!("again-{}", jiff::Timestamp::now().as_millisecond());
            start(world, name, &job).await;
            wait_for_run_end(world, name, &job).await;
        }
        let events = world.iterable.handle.events().len();
        (events == EVENTS, format!("{events} events"))
    })
    .await;
}

pub async fn evicted_run_reports_interrupted(shared: &Shared) {
    let world = World::new(shared, "evicted").await;
    let gate = start_held_run(&world, "mparticle", "now", json!({})).await;
    let pod = pod_of(&world, "now").await;
    world
        .api::<Pod>()
        .evict(&pod.name_any(), &EvictParams::default())
        .await
        .expect("an eviction");
    world
        .until::<Job>("now", "the Job counts the pod as lost", |job| {
            let conditions = job
                .status
                .as_ref()
                .and_then(|status| status.conditions.as_ref());
            conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "FailureTarget"))
        })
        .await;
    wait_for_sigterm(&world, &pod).await;
    gate.open();
    let status = wait_for_run_end(&world, "mparticle", "now").await;
    let run = status.last_run.as_ref().expect("a run");
    assert_eq!(run.outcome, "Interrupted", "{run:#?}");
    assert_eq!(
        (run.events.forwarded, run.messages.deleted),
        (EVENTS as u64, 1),
        "received messages must be settled: {run:#?}"
    );
    assert_eq!(
        (status.totals.runs, status.totals.forwarded),
        (1, EVENTS as u64)
    );
    assert_eq!(condition(&status, "LastRunSucceeded").1, "Interrupted");
    assert_all_events_arrive(&world, "mparticle").await;
}

pub async fn run_is_reported_after_job_deletion(shared: &Shared) {
    let world = World::new(shared, "job-deleted").await;
    let gate = start_held_run(&world, "mparticle", "now", json!({})).await;
    let pod = pod_of(&world, "now").await;
    kubectl(&["delete", "job", "now", "--namespace", &world.namespace]).await;
    wait_until_deleted(&world.api::<Job>(), "now").await;
    wait_for_sigterm(&world, &pod).await;
    gate.open();
    let status = wait_for_run_end(&world, "mparticle", "now").await;
    let run = status.last_run.as_ref().expect("a run");
    assert_eq!(run.outcome, "Interrupted", "{run:#?}");
    assert_eq!(run.events.forwarded, EVENTS as u64);
    assert_eq!((status.totals.runs, status.active), (1, 0));
    assert_all_events_arrive(&world, "mparticle").await;
}

pub async fn force_deleted_pod_is_reported_lost(shared: &Shared) {
    let world = World::new(shared, "force-deleted").await;
    let gate = start_held_run(&world, "mparticle", "now", json!({})).await;
    let pod = pod_of(&world, "now").await;
    kubectl(&[
        "delete",
        "pod",
        &pod.name_any(),
        "--namespace",
        &world.namespace,
        "--force",
        "--grace-period=0",
    ])
    .await;
    let status = wait_for_run_end(&world, "mparticle", "now").await;
    let (_, reason, message) = condition(&status, "LastRunSucceeded");
    assert_eq!(reason, "Lost", "{message}");
    assert!(message.contains("become visible again"), "{message}");
    assert_eq!((status.totals.runs, status.totals.failed_runs), (1, 1));
    gate.open();
    assert_all_events_arrive(&world, "mparticle").await;
}

pub async fn oom_killed_run_loses_no_messages(shared: &Shared) {
    let world = World::new(shared, "memory").await;
    world.create_key_secret().await;
    // A run receives ten of these messages and keeps them in memory while Iterable does not
    // respond. Together they exceed the memory limit.
    let now = jiff::Timestamp::now().as_millisecond();
    let events: Vec<_> = (0..4_000)
        .map(|n| {
            json!({"event_type": "screen_view", "data": {
                "screen_name": format!("Screen {n}"),
                "timestamp_unixtime_ms": now,
                "custom_attributes": {"text": "x".repeat(80)},
            }})
        })
        .collect();
    let large = json!({
        "schema_version": 2,
        "environment": "production",
        "user_identities": [{"identity_type": "email", "identity": "ada@example.com"}],
        "events": events,
    })
    .to_string();
    let bodies = vec![large; 10];
    world.queue.send(&bodies).await.expect("sending");
    world.iterable.handle.add_fault(Fault::hold("memory"));
    let small = json!({"iterable": {"requestTimeout": "5m"}, "job": {"resources": {
        "requests": {"memory": "16Mi"}, "limits": {"memory": "24Mi"},
    }}});
    world.apply("mparticle", small).await;
    start(&world, "mparticle", "now").await;
    let status = wait_for_run_end(&world, "mparticle", "now").await;
    let (_, reason, message) = condition(&status, "LastRunSucceeded");
    assert_eq!(reason, "Lost", "{message}");
    assert!(message.contains("OOMKilled"), "{message}");
    let depth = world.queue.depth().await.expect("depth");
    assert_eq!(depth.visible + depth.in_flight, bodies.len() as u64);
}

pub async fn pending_run_reports_reason(shared: &Shared) {
    let world = World::new(shared, "pending").await;
    world.create_key_secret().await;
    let spec = json!({"job": {"image": "localhost/no-such-image:1"}});
    world.apply("no-image", spec).await;
    let spec = json!({"job": {"nodeSelector": {"no-such": "label"}}});
    world.apply("no-node", spec).await;
    let full = World::new(shared, "full").await;
    full.create_key_secret().await;
    full.quota(json!({"pods": "0"})).await;
    full.apply("no-quota", json!({})).await;
    let pending = [
        (&world, "no-image", "no-such-image"),
        (&world, "no-node", "can't be scheduled"),
        (&full, "no-quota", "no pod exists; a quota"),
    ];
    for (world, name, expected) in pending {
        start(world, name, &format!("{name}-now")).await;
        let status = world
            .status_until(name, "the run is pending", |status| {
                status.last_run.as_ref().is_some_and(|run| {
                    let message = run.message.as_deref().unwrap_or_default();
                    run.outcome == "Pending" && message.contains(expected)
                })
            })
            .await;
        assert_eq!(
            condition(&status, "Ready").0,
            "True",
            "ready while the run may still start"
        );
    }
    for (world, name, expected) in pending {
        let status = world
            .status_until(name, "the run has been pending for too long", |status| {
                condition(status, "LastRunSucceeded").1 == "RunPending"
            })
            .await;
        let message = condition(&status, "LastRunSucceeded").2;
        assert!(message.contains(expected), "{message}");
        assert_eq!(condition(&status, "Ready").1, "RunPending");
    }
}

/// Uses a node without a kubelet, which is a dead node for the cluster. The test only sets the
/// status of the node and of the pod.
pub async fn run_is_stuck_until_dead_node_is_deleted(shared: &Shared) {
    let world = World::new(shared, "node").await;
    world.create_key_secret().await;
    let node = &format!("{RELEASE}-dying-node");
    let taint = "event-forwarder-e2e/dying";
    let nodes = Api::<Node>::all(world.client.clone());
    delete_cluster_object::<Node>(&world.client, node).await;
    apply_json(
        &world.client,
        json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": node, "labels": {PART_OF: RELEASE}},
            "spec": {"taints": [{"key": taint, "effect": "NoSchedule"}]},
        }),
    )
    .await;
    let status = json!({"status": {
        "capacity": {"cpu": "1", "memory": "1Gi", "pods": "10"},
        "allocatable": {"cpu": "1", "memory": "1Gi", "pods": "10"},
        "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
    }});
    nodes
        .patch_status(node, &PatchParams::default(), &Patch::Merge(&status))
        .await
        .expect("a node that is ready");
    let spec = json!({"job": {
        "terminationGracePeriodSeconds": 10,
        "nodeSelector": {PART_OF: RELEASE},
        "tolerations": [
            {"operator": "Exists", "effect": "NoSchedule"},
            {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1},
            {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1},
        ],
    }});
    world.apply("mparticle", spec).await;
    start(&world, "mparticle", "now").await;
    eventually("the pod is scheduled on the node", async || {
        let pods = world.api::<Pod>().list(&ListParams::default()).await;
        let pods = pods.expect("pods").items.into_iter();
        let nodes: Vec<_> = pods.map(|pod| pod.spec?.node_name).collect();
        (nodes.contains(&Some(node.clone())), nodes)
    })
    .await;
    let pod = pod_of(&world, "now").await.name_any();
    let running = json!({"status": {"phase": "Running", "startTime": jiff::Timestamp::now().to_string(),
        "conditions": [{"type": "Ready", "status": "True"}]}});
    world
        .api::<Pod>()
        .patch_status(&pod, &PatchParams::default(), &Patch::Merge(&running))
        .await
        .expect("a pod that runs");
    eventually("the pod on the dead node is being deleted", async || {
        let pod = world.api::<Pod>().get(&pod).await.expect("the pod");
        (pod.metadata.deletion_timestamp.is_some(), pod.status)
    })
    .await;
    let status = world
        .status_until("mparticle", "the run is stuck", |status| {
            condition(status, "LastRunSucceeded").1 == "RunStuck"
        })
        .await;
    let message = condition(&status, "LastRunSucceeded").2;
    assert!(message.contains("delete the node"), "{message}");
    assert_eq!(
        status.last_run.map(|run| run.outcome).as_deref(),
        Some("Running")
    );

    nodes
        .delete(node, &DeleteParams::default())
        .await
        .expect("deleting the node");
    let status = wait_for_run_end(&world, "mparticle", "now").await;
    assert_eq!(condition(&status, "LastRunSucceeded").1, "Lost");
}

pub async fn run_without_controller_is_counted_later(shared: &Shared) {
    shared.install().await.expect("the operator");
    let world = World::new(shared, "no-controller").await;
    world.create_key_secret().await;
    world.queue.send(&[sample(BATCH)]).await.expect("sending");
    world.apply("mparticle", json!({})).await;
    world.run_now("mparticle", "first").await;

    let deployments = Api::<Deployment>::namespaced(world.client.clone(), SYSTEM);
    let replicas = deployments
        .get(RELEASE)
        .await
        .expect("the operator")
        .spec
        .and_then(|spec| spec.replicas)
        .unwrap_or(1);
    scale(&deployments, 0).await;
    start(&world, "mparticle", "second").await;
    start(&world, "mparticle", "third").await;
    for job in ["second", "third"] {
        world
            .until::<Job>(job, "the Job is complete", |job| {
                job.status.as_ref().and_then(|status| status.succeeded) == Some(1)
            })
            .await;
    }
    scale(&deployments, replicas).await;
    let status = world
        .status_until("mparticle", "all three runs are counted", |status| {
            status.totals.runs == 3
        })
        .await;
    assert_eq!(status.totals.forwarded, EVENTS as u64, "{status:#?}");
    assert_eq!(condition(&status, "LastRunSucceeded").1, "Drained");
    shared.uninstall().await;
}

async fn scale(deployments: &Api<Deployment>, replicas: i32) {
    let patch = json!({"spec": {"replicas": replicas}});
    deployments
        .patch(RELEASE, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .expect("a scaled Deployment");
    eventually("all replicas are ready", async || {
        let deployment = deployments.get(RELEASE).await.expect("a get");
        let status = deployment.status.unwrap_or_default();
        let has = |count: Option<i32>| count.unwrap_or(0) == replicas;
        (has(status.replicas) && has(status.ready_replicas), status)
    })
    .await;
}
