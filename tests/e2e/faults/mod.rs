//! What breaks around the operator, on the real cluster. After each fault the world converges.
//!
//! These tests replace the operator by processes of their own, so they run after all others; those
//! that stop parts of the cluster run one by one. Only on a cluster of this repository's own.

mod changes;
mod convergence;
mod operator;

use std::{env, sync::LazyLock, time::Duration};

use changes::{Changes, forwarder_names};
use convergence::{assert_converges, settles};
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
    sharing::ours,
    world::{Shared, World, eventually, kubectl},
};

/// Starts and stops the cluster's parts.
const CLUSTER: &str = "tests/cluster/cluster";

/// Longer than a standby takes to follow a leader that was killed.
const HAND_OVER: Duration = Duration::from_secs(15);

/// Whether the cluster in use is the one that `tests/cluster/cluster` started.
pub fn own_cluster() -> bool {
    *OWN_CLUSTER
}

static OWN_CLUSTER: LazyLock<bool> = LazyLock::new(|| {
    let output = std::process::Command::new(CLUSTER).arg("env").output();
    let own = output.is_ok_and(|output| {
        let settings = String::from_utf8_lossy(&output.stdout).into_owned();
        env::var("KUBECONFIG")
            .is_ok_and(|config| settings.contains(&format!("KUBECONFIG={config}\n")))
    });
    if !own {
        eprintln!(
            "skipped: tests that stop parts of the cluster or need it to themselves, because this one was not started by tests/cluster/cluster"
        );
    }
    own
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

/// Makes a call again and again, while the API server comes back.
pub async fn patiently<T>(call: impl AsyncFn() -> kube::Result<T>) -> T {
    let mut last = None;
    for _ in 0..120 {
        match call().await {
            Ok(answer) => return answer,
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("the API server does not come back: {last:?}")
}

pub async fn the_api_server_is_killed_in_mid_reconcile(shared: &Shared) {
    without_forwarders(&shared.client).await;
    let world = World::new(shared, "api-killed").await.by_address();
    let mut changes = Changes::new(&world).await;
    let (one, other) = two_replicas(&world, "api-killed").await;
    for round in 0..3 {
        for name in forwarder_names(24) {
            changes.apply(&name, &format!("{round} 0 1 1 *")).await;
        }
        cluster(&["stop", "kube-apiserver", "KILL"]).await;
        cluster(&["start", "kube-apiserver"]).await;
    }
    assert_converges(&world, &[&one, &other]).await;
}

pub async fn etcd_is_away_for_a_minute(shared: &Shared) {
    without_forwarders(&shared.client).await;
    let world = World::new(shared, "etcd-away").await.by_address();
    let mut changes = Changes::new(&world).await;
    let (one, other) = two_replicas(&world, "etcd-away").await;
    for name in forwarder_names(12) {
        changes.apply(&name, "0 0 1 1 *").await;
    }
    cluster(&["stop", "etcd", "KILL"]).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let said = one.log().lines().count() + other.log().lines().count();
    assert!(said < 12 * 20, "{said} lines in a minute: it spins");
    cluster(&["start", "etcd"]).await;
    for name in forwarder_names(24) {
        changes.apply(&name, "0 0 2 2 *").await;
    }
    assert_converges(&world, &[&one, &other]).await;
}

/// `EVENT_FORWARDER_KILLS` and `EVENT_FORWARDER_CHANGES` set other numbers than 50 and 200.
pub async fn the_controller_is_killed_at_random(shared: &Shared) {
    let (kills, number) = (
        count("EVENT_FORWARDER_KILLS", 50),
        count("EVENT_FORWARDER_CHANGES", 200),
    );
    let world = World::new(shared, "killed").await.by_address();
    let mut changes = Changes::new(&world).await;
    let replica = Replica::start("killed", Scope::Namespace(&world.namespace), Clock::TRUE).await;
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
        changes.give_all_keys().await;
    };
    tokio::join!(kill, change);
    assert_converges(&world, &[&replica]).await;

    let runs = world.api::<Job>().list(&ListParams::default()).await;
    let runs = runs.expect("Jobs").items.len();
    assert!(runs <= changes.runs_asked_for(), "{runs} runs");
    let applied = replica.log().matches("applied the CronJob").count();
    assert!(applied <= 2 * number, "{applied} writes of CronJobs");
}

pub async fn a_watch_that_expired_is_started_afresh(shared: &Shared) {
    without_forwarders(&shared.client).await;
    let world = World::new(shared, "expired").await.by_address();
    let mut changes = Changes::new(&world).await;
    let replica = Replica::start("expired", Scope::Cluster, Clock::TRUE).await;
    let names = forwarder_names(6);
    for name in &names[..5] {
        changes.apply(name, "0 0 1 1 *").await;
    }
    settles(&world.client, &world.namespace, &[&replica]).await;

    // What happens while it hears nothing, and is older than all that a new API server remembers.
    replica.signal("STOP").await;
    changes.delete(&names[0]).await;
    changes.apply(&names[1], "0 0 2 2 *").await;
    changes.apply(&names[5], "0 0 1 1 *").await;
    let cronjobs = world.api::<CronJob>();
    let background = DeleteParams::background();
    patiently(async || cronjobs.delete(&names[2], &background).await).await;
    edit_by_hand(&cronjobs, &names[3], "0 0 3 3 *").await;
    cluster(&["stop", "kube-apiserver", "KILL"]).await;
    cluster(&["start", "kube-apiserver"]).await;
    replica.signal("CONT").await;

    assert_converges(&world, &[&replica]).await;
    let log = replica.log();
    assert!(log.contains("too old resource version"), "{log}");
}

pub async fn others_write_the_same_objects_all_the_time(shared: &Shared) {
    let world = World::new(shared, "conflicts").await.by_address();
    let mut changes = Changes::new(&world).await;
    let scope = Scope::Namespace(&world.namespace);
    let replica = Replica::start("conflicts", scope, Clock::TRUE).await;
    let names = forwarder_names(5);
    for name in &names {
        changes.apply(name, "0 0 1 1 *").await;
        changes.ask_for_a_run(name).await;
        world
            .until::<CronJob>(name, "the CronJob is there", |_| true)
            .await;
    }
    let cronjobs = world.api::<CronJob>();
    let forwarders = world.api::<EventForwarder>();
    let mut writes = 0;
    let fight = async {
        for round in 0.. {
            for name in &names {
                edit_by_hand(&cronjobs, name, &format!("{} 0 3 3 *", round % 60)).await;
                take_over(&cronjobs, name).await;
                touch(&forwarders, name, round).await;
                writes += 3;
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(10), fight).await;
    let looks = replica.reconciliations().await.expect("the metrics");
    assert!(looks < 3 * writes, "{looks} looks at {writes} writes");
    assert_converges(&world, &[&replica]).await;
}

pub async fn a_clock_that_is_hours_off_does_no_harm(shared: &Shared) {
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
        changes.ask_for_a_run(&name).await;
    }
    // Due within the minute by the cluster's clock, and by that alone.
    changes.apply("every-minute", "* * * * *").await;
    eventually("a run by the schedule", async || {
        let forwarder = world.api::<EventForwarder>().get("every-minute").await;
        let status = forwarder.expect("a get").status.unwrap_or_default();
        (status.totals.runs > 0, status)
    })
    .await;
    changes.apply("every-minute", "0 0 1 1 *").await;
    assert_converges(&world, &[&replica]).await;
    let runs = world.api::<Job>().list(&ListParams::default()).await;
    let runs = runs.expect("Jobs").items.len();
    // A minute may have begun before the schedule was changed back.
    assert!(runs <= changes.runs_asked_for() + 2, "{runs} runs");
}

pub async fn clocks_that_differ_leave_one_leader_at_a_time(shared: &Shared) {
    let world = World::new(shared, "leaders").await.by_address();
    let lease = "clocks-differ";
    let scope = Scope::NamespaceByLease(&world.namespace, lease);
    let ahead = Replica::start("leader-ahead", scope, Clock::off_by(2)).await;
    let leases = world.api::<Lease>();
    leads(&leases, lease, &ahead).await;
    let right = Replica::start("leader-right", scope, Clock::TRUE).await;
    let behind = Replica::start("leader-behind", scope, Clock::off_by(-2)).await;
    tokio::time::sleep(HAND_OVER).await;
    assert_eq!(
        holder(&leases, lease).await.as_deref(),
        Some(ahead.identity()),
        "no other clock takes a lease that is kept"
    );
    let leader = ahead.identity().to_owned();
    ahead.end().await;
    let followed = async {
        while holder(&leases, lease).await == Some(leader.clone()) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let followed = tokio::time::timeout(HAND_OVER, followed).await;
    assert!(
        followed.is_ok(),
        "nobody follows a leader whose clock was ahead:\n{}\n{}",
        right.log(),
        behind.log()
    );
}

/// Deletes the forwarders of other tests: replicas that watch the whole cluster would not rest.
async fn without_forwarders(client: &Client) {
    let namespaces = Api::<Namespace>::all(client.clone());
    let ours = ListParams::default().labels(&ours());
    for namespace in namespaces.list(&ours).await.expect("namespaces") {
        let all = ["delete", "eventforwarders", "--all", "--namespace"];
        kubectl(&[&all[..], &[&namespace.name_any()]].concat()).await;
    }
}

async fn two_replicas(world: &World, test: &str) -> (Replica, Replica) {
    let scope = Scope::ClusterByLease(&world.namespace, test);
    (
        Replica::start(&format!("{test}-1"), scope, Clock::TRUE).await,
        Replica::start(&format!("{test}-2"), scope, Clock::TRUE).await,
    )
}

async fn leads(leases: &Api<Lease>, lease: &str, replica: &Replica) {
    eventually("it leads", async || {
        let holder = holder(leases, lease).await;
        (holder.as_deref() == Some(replica.identity()), holder)
    })
    .await;
}

async fn holder(leases: &Api<Lease>, lease: &str) -> Option<String> {
    let lease = leases.get_opt(lease).await.expect("a get");
    lease?.spec?.holder_identity
}

/// As `kubectl edit` does.
async fn edit_by_hand(cronjobs: &Api<CronJob>, name: &str, schedule: &str) {
    let edit = Patch::Merge(json!({"spec": {"schedule": schedule, "suspend": true}}));
    patiently(async || cronjobs.patch(name, &PatchParams::default(), &edit).await).await;
}

/// As another server-side applier that claims fields of ours.
async fn take_over(cronjobs: &Api<CronJob>, name: &str) {
    let claim = Patch::Apply(json!({
        "apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": {"name": name},
        "spec": {"concurrencyPolicy": "Allow", "startingDeadlineSeconds": 7},
    }));
    let params = PatchParams::apply("somebody-else").force();
    patiently(async || cronjobs.patch(name, &params, &claim).await).await;
}

async fn touch(forwarders: &Api<EventForwarder>, name: &str, round: u32) {
    let touched = Patch::Merge(json!({"metadata": {"labels": {"touched": round.to_string()}}}));
    patiently(async || {
        forwarders
            .patch(name, &PatchParams::default(), &touched)
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
