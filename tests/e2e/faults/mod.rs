//! Fault injection on a real cluster. After each fault, the operator must converge.
//!
//! These tests replace the operator with separate processes, so they run after most other tests.
//! Those that stop parts of the cluster run one at a time. All of them need a cluster of
//! `tests/cluster/cluster`.

mod changes;
mod convergence;
mod operator;

use std::{env, sync::LazyLock, time::Duration};

use changes::{Changes, forwarder_names};
use convergence::{assert_converges, wait_until_settled};
use event_forwarder::api::EventForwarder;
use k8s_openapi::api::{
    batch::v1::{CronJob, Job},
    coordination::v1::Lease,
    core::v1::Namespace,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use operator::{Clock, Replica, Scope};
use serde_json::json;
use tokio::process::Command;

use crate::{
    sharing::suite_selector,
    world::{Shared, World, eventually, kubectl},
};

/// The script that starts and stops the cluster's processes.
const CLUSTER: &str = "tests/cluster/cluster";

/// Maximum time until a standby replaces a killed leader.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(15);

/// Returns whether the cluster in use is the one of `tests/cluster/cluster`.
pub fn own_cluster() -> bool {
    *OWN_CLUSTER
}

static OWN_CLUSTER: LazyLock<bool> = LazyLock::new(|| {
    let selected = std::process::Command::new(CLUSTER).arg("selected").status();
    let is_own = env::var_os("KUBECONFIG").is_some() && selected.is_ok_and(|it| it.success());
    if !is_own {
        eprintln!(
            "skipped: tests that stop parts of the cluster or need exclusive use, because this is not the cluster of tests/cluster/cluster"
        );
    }
    is_own
});

pub async fn cluster(arguments: &[&str]) {
    let output = Command::new(CLUSTER)
        .args(arguments)
        .output()
        .await
        .expect("tests/cluster/cluster");
    assert!(
        output.status.success(),
        "cluster {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Retries a call for a minute, while the API server is unavailable.
pub async fn retry<T>(call: impl AsyncFn() -> kube::Result<T>) -> T {
    let mut last = None;
    for _ in 0..120 {
        match call().await {
            Ok(answer) => return answer,
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("the API server is unavailable: {last:?}")
}

pub async fn controller_converges_after_api_server_kills(shared: &Shared) {
    delete_forwarders_of_tests(&shared.client).await;
    let world = World::new(shared, "api-killed").await.by_address();
    let mut changes = Changes::new(&world).await;
    let (one, other) = start_two_replicas(&world, "api-killed").await;
    for round in 0..3 {
        for name in forwarder_names(24) {
            changes.apply(&name, &format!("{round} 0 1 1 *")).await;
        }
        cluster(&["stop", "kube-apiserver", "KILL"]).await;
        cluster(&["start", "kube-apiserver"]).await;
    }
    assert_converges(&world, &[&one, &other]).await;
}

pub async fn controller_converges_after_etcd_outage(shared: &Shared) {
    delete_forwarders_of_tests(&shared.client).await;
    let world = World::new(shared, "etcd-away").await.by_address();
    let mut changes = Changes::new(&world).await;
    let (one, other) = start_two_replicas(&world, "etcd-away").await;
    for name in forwarder_names(12) {
        changes.apply(&name, "0 0 1 1 *").await;
    }
    cluster(&["stop", "etcd", "KILL"]).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let lines = one.log().lines().count() + other.log().lines().count();
    assert!(lines < 12 * 20, "{lines} log lines in a minute");
    cluster(&["start", "etcd"]).await;
    for name in forwarder_names(24) {
        changes.apply(&name, "0 0 2 2 *").await;
    }
    assert_converges(&world, &[&one, &other]).await;
}

/// The variables `EVENT_FORWARDER_KILLS` (default 50) and `EVENT_FORWARDER_CHANGES` (default 200)
/// set the numbers of kills and changes.
pub async fn controller_converges_after_random_kills(shared: &Shared) {
    let (kills, number) = (
        count("EVENT_FORWARDER_KILLS", 50),
        count("EVENT_FORWARDER_CHANGES", 200),
    );
    let world = World::new(shared, "killed").await.by_address();
    let mut changes = Changes::new(&world).await;
    let replica = Replica::start(
        "killed",
        Scope::Namespace(&world.namespace),
        Clock::ACCURATE,
    )
    .await;
    let kill = async {
        for _ in 0..kills {
            replica.kill_after(fastrand::u64(1..40)).await;
        }
    };
    let change = async {
        for _ in 0..number {
            changes.any().await;
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..500))).await;
        }
        changes.create_all_keys().await;
    };
    tokio::join!(kill, change);
    assert_converges(&world, &[&replica]).await;

    let runs = world.api::<Job>().list(&ListParams::default()).await;
    let runs = runs.expect("Jobs").items.len();
    assert!(runs <= changes.requested_runs(), "{runs} runs");
    let applied = replica.log().matches("applied the CronJob").count();
    assert!(applied <= 2 * number, "{applied} writes of CronJobs");
}

pub async fn expired_watch_is_restarted(shared: &Shared) {
    delete_forwarders_of_tests(&shared.client).await;
    let world = World::new(shared, "expired").await.by_address();
    let mut changes = Changes::new(&world).await;
    let replica = Replica::start("expired", Scope::Cluster, Clock::ACCURATE).await;
    let names = forwarder_names(6);
    for name in &names[..5] {
        changes.apply(name, "0 0 1 1 *").await;
    }
    wait_until_settled(&world.client, &world.namespace, &[&replica]).await;

    // The replica misses these changes. A restarted API server no longer has their resource
    // versions.
    replica.signal("STOP").await;
    changes.delete(&names[0]).await;
    changes.apply(&names[1], "0 0 2 2 *").await;
    changes.apply(&names[5], "0 0 1 1 *").await;
    let cronjobs = world.api::<CronJob>();
    let background = DeleteParams::background();
    retry(async || cronjobs.delete(&names[2], &background).await).await;
    edit_cronjob(&cronjobs, &names[3], "0 0 3 3 *").await;
    cluster(&["stop", "kube-apiserver", "KILL"]).await;
    cluster(&["start", "kube-apiserver"]).await;
    replica.signal("CONT").await;

    assert_converges(&world, &[&replica]).await;
    let log = replica.log();
    assert!(log.contains("too old resource version"), "{log}");
}

pub async fn controller_converges_under_conflicting_writes(shared: &Shared) {
    let world = World::new(shared, "conflicts").await.by_address();
    let mut changes = Changes::new(&world).await;
    let scope = Scope::Namespace(&world.namespace);
    let replica = Replica::start("conflicts", scope, Clock::ACCURATE).await;
    let names = forwarder_names(5);
    for name in &names {
        changes.apply(name, "0 0 1 1 *").await;
        changes.request_run(name).await;
        world
            .until::<CronJob>(name, "the CronJob exists", |_| true)
            .await;
    }
    let cronjobs = world.api::<CronJob>();
    let forwarders = world.api::<EventForwarder>();
    let mut writes = 0;
    let writes_loop = async {
        for round in 0.. {
            for name in &names {
                edit_cronjob(&cronjobs, name, &format!("{} 0 3 3 *", round % 60)).await;
                claim_fields(&cronjobs, name).await;
                touch(&forwarders, name, round).await;
                writes += 3;
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(10), writes_loop).await;
    let count = replica.reconciliations().await.expect("the metrics");
    assert!(
        count < 3 * writes,
        "{count} reconciliations for {writes} writes"
    );
    assert_converges(&world, &[&replica]).await;
}

pub async fn wrong_clock_does_not_affect_runs(shared: &Shared) {
    tokio::join!(
        runs_by_a_clock(shared, "clock-ahead", 5),
        runs_by_a_clock(shared, "clock-behind", -5)
    );
}

async fn runs_by_a_clock(shared: &Shared, test: &str, hours: i32) {
    let world = World::new(shared, test).await.by_address();
    let mut changes = Changes::new(&world).await;
    let replica = Replica::start(
        test,
        Scope::Namespace(&world.namespace),
        Clock::off_by(hours),
    )
    .await;
    for name in forwarder_names(4) {
        changes.apply(&name, "0 0 1 1 *").await;
        changes.request_run(&name).await;
    }
    // Due within a minute by the cluster's clock, but not by the replica's.
    changes.apply("every-minute", "* * * * *").await;
    eventually("a scheduled run has ended", async || {
        let forwarder = world.api::<EventForwarder>().get("every-minute").await;
        let status = forwarder.expect("a get").status.unwrap_or_default();
        (status.totals.runs > 0, status)
    })
    .await;
    changes.apply("every-minute", "0 0 1 1 *").await;
    assert_converges(&world, &[&replica]).await;
    let runs = world.api::<Job>().list(&ListParams::default()).await;
    let runs = runs.expect("Jobs").items.len();
    // Another minute may have started before the schedule was changed back.
    assert!(runs <= changes.requested_runs() + 2, "{runs} runs");
}

pub async fn different_clocks_elect_one_leader(shared: &Shared) {
    let world = World::new(shared, "leaders").await.by_address();
    let lease = "clocks-differ";
    let scope = Scope::NamespaceByLease(&world.namespace, lease);
    let ahead = Replica::start("leader-ahead", scope, Clock::off_by(2)).await;
    let leases = world.api::<Lease>();
    wait_until_leader(&leases, lease, &ahead).await;
    let accurate = Replica::start("leader-accurate", scope, Clock::ACCURATE).await;
    let behind = Replica::start("leader-behind", scope, Clock::off_by(-2)).await;
    tokio::time::sleep(HANDOVER_TIMEOUT).await;
    assert_eq!(
        holder(&leases, lease).await.as_deref(),
        Some(ahead.identity()),
        "a renewed lease must not be acquired by another replica"
    );
    let leader = ahead.identity().to_owned();
    ahead.end().await;
    let new_leader = async {
        while holder(&leases, lease).await == Some(leader.clone()) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let result = tokio::time::timeout(HANDOVER_TIMEOUT, new_leader).await;
    assert!(
        result.is_ok(),
        "no replica replaced the leader whose clock was ahead:\n{}\n{}",
        accurate.log(),
        behind.log()
    );
}

/// Deletes the forwarders of other tests, because replicas that watch all namespaces would
/// reconcile them.
async fn delete_forwarders_of_tests(client: &Client) {
    let namespaces = Api::<Namespace>::all(client.clone());
    let labels = ListParams::default().labels(&suite_selector());
    for namespace in namespaces.list(&labels).await.expect("namespaces") {
        let all = ["delete", "eventforwarders", "--all", "--namespace"];
        kubectl(&[&all[..], &[&namespace.name_any()]].concat()).await;
    }
}

async fn start_two_replicas(world: &World, test: &str) -> (Replica, Replica) {
    let scope = Scope::ClusterByLease(&world.namespace, test);
    (
        Replica::start(&format!("{test}-1"), scope, Clock::ACCURATE).await,
        Replica::start(&format!("{test}-2"), scope, Clock::ACCURATE).await,
    )
}

async fn wait_until_leader(leases: &Api<Lease>, lease: &str, replica: &Replica) {
    eventually("the replica is the leader", async || {
        let holder = holder(leases, lease).await;
        (holder.as_deref() == Some(replica.identity()), holder)
    })
    .await;
}

async fn holder(leases: &Api<Lease>, lease: &str) -> Option<String> {
    let lease = leases.get_opt(lease).await.expect("a get");
    lease?.spec?.holder_identity
}

/// Changes a CronJob like `kubectl edit`.
async fn edit_cronjob(cronjobs: &Api<CronJob>, name: &str, schedule: &str) {
    let edit = Patch::Merge(json!({"spec": {"schedule": schedule, "suspend": true}}));
    retry(async || cronjobs.patch(name, &PatchParams::default(), &edit).await).await;
}

/// Applies fields that the controller owns, as another field manager.
async fn claim_fields(cronjobs: &Api<CronJob>, name: &str) {
    let claim = Patch::Apply(json!({
        "apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": {"name": name},
        "spec": {"concurrencyPolicy": "Allow", "startingDeadlineSeconds": 7},
    }));
    let params = PatchParams::apply("another-manager").force();
    retry(async || cronjobs.patch(name, &params, &claim).await).await;
}

async fn touch(forwarders: &Api<EventForwarder>, name: &str, round: u32) {
    let label = Patch::Merge(json!({"metadata": {"labels": {"touched": round.to_string()}}}));
    retry(async || {
        forwarders
            .patch(name, &PatchParams::default(), &label)
            .await
    })
    .await;
}

fn count(variable: &str, default: usize) -> usize {
    match env::var(variable) {
        Ok(number) => number.parse().expect(variable),
        Err(_) => default,
    }
}
