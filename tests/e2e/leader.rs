//! Leader election with two replicas: the standby takes over when the leader is killed, terminated
//! or paused.

use std::fs;

use futures::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        batch::v1::CronJob,
        coordination::v1::{Lease, LeaseSpec},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    runtime::{WatchStreamExt, watcher},
};
use serde_json::json;
use tokio::{process::Command, sync::Mutex};

use crate::world::{RELEASE, SYSTEM, Shared, World, eventually, kubectl, within};

/// The controller's lease duration.
const LEASE_DURATION: SignedDuration = SignedDuration::from_secs(9);
/// Maximum time between the last renewal and the next leader's acquisition.
const MAX_HANDOVER: SignedDuration = SignedDuration::from_secs(15);

/// Serializes these tests, because each changes the leader.
static LOCK: Mutex<()> = Mutex::const_new(());

pub async fn standby_replaces_killed_leader_within_15_seconds(shared: &Shared) {
    let _lock = LOCK.lock().await;
    let world = World::new(shared, "leader-dies").await;
    let leader = wait_for_leader(&shared.client).await;
    let handover = Handover::watch(&shared.client, &leader);
    // A stopped process can't release its lease before it is killed.
    let Some(process) = find_process(&leader) else {
        return skip_without_process(&leader);
    };
    signal("STOP", process).await;
    let force = ["--force", "--grace-period=0"];
    let delete = ["delete", "pod", &leader, "--namespace", SYSTEM];
    kubectl(&[&delete[..], &force].concat()).await;
    let handover = handover.end().await;
    assert!(!handover.released, "{handover:?}");
    assert!(
        handover.duration() >= LEASE_DURATION && handover.duration() < MAX_HANDOVER,
        "{handover:?}"
    );
    assert_controller_works(&world).await;
}

pub async fn terminated_leader_releases_its_lease(shared: &Shared) {
    let _lock = LOCK.lock().await;
    let world = World::new(shared, "leader-stops").await;
    let leader = wait_for_leader(&shared.client).await;
    let handover = Handover::watch(&shared.client, &leader);
    let delete = ["delete", "pod", &leader, "--namespace", SYSTEM];
    kubectl(&[&delete[..], &["--wait=false"]].concat()).await;
    let handover = handover.end().await;
    assert!(handover.released, "{handover:?}");
    assert!(handover.duration() < LEASE_DURATION, "{handover:?}");
    assert_controller_works(&world).await;
}

pub async fn paused_leader_exits_when_it_resumes(shared: &Shared) {
    let _lock = LOCK.lock().await;
    let world = World::new(shared, "leader-sleeps").await;
    let leader = wait_for_leader(&shared.client).await;
    let restarts = restarts(&shared.client, &leader).await;
    let Some(process) = find_process(&leader) else {
        return skip_without_process(&leader);
    };
    let handover = Handover::watch(&shared.client, &leader);
    signal("STOP", process).await;
    let handover = handover.end().await;
    assert!(handover.duration() >= LEASE_DURATION, "{handover:?}");
    assert_controller_works(&world).await;
    signal("CONT", process).await;
    eventually("the container has restarted", async || {
        let now = self::restarts(&shared.client, &leader).await;
        (now > restarts, now)
    })
    .await;
    let log = kubectl(&["logs", &leader, "--namespace", SYSTEM, "--previous"]).await;
    assert!(log.contains("lost the leader-election lease"), "{log}");
    assert_eq!(
        holder(&lease(&shared.client).await),
        Some(handover.successor.as_str()),
        "the resumed replica must not acquire the lease"
    );
}

/// Checks that the controller reconciles a new forwarder and a change of it.
async fn assert_controller_works(world: &World) {
    world.create_key_secret().await;
    for schedule in ["0 0 1 1 *", "0 0 2 2 *"] {
        world
            .apply("mparticle", json!({"schedule": schedule, "suspend": true}))
            .await;
        let met = |cronjob: &CronJob| {
            cronjob
                .spec
                .as_ref()
                .is_some_and(|spec| spec.schedule == schedule)
        };
        world.until("mparticle", schedule, met).await;
    }
}

/// A change of the lease's holder.
#[derive(Debug)]
struct Handover {
    renewed: Timestamp,
    released: bool,
    acquired: Timestamp,
    successor: String,
}

struct HandoverWatch(tokio::task::JoinHandle<Handover>);

impl Handover {
    /// Starts a watch of the lease that ends when another replica than `leader` holds it.
    fn watch(client: &Client, leader: &str) -> HandoverWatch {
        let leases = Api::<Lease>::namespaced(client.clone(), SYSTEM);
        let only = watcher::Config::default().fields(&format!("metadata.name={RELEASE}"));
        let leader = leader.to_owned();
        HandoverWatch(tokio::spawn(async move {
            let mut renewed = Timestamp::UNIX_EPOCH;
            let mut released = false;
            let mut states = watcher(leases, only)
                .default_backoff()
                .applied_objects()
                .boxed();
            while let Some(lease) = states.try_next().await.expect("a watch") {
                let time = |time: Option<MicroTime>| time.map(|time| time.0);
                let spec = lease.spec.unwrap_or_default();
                match spec.holder_identity.as_deref() {
                    None | Some("") => released = true,
                    Some(holder) if holder == leader => {
                        renewed = time(spec.renew_time).expect("a renewal");
                    }
                    Some(successor) => {
                        return Self {
                            renewed,
                            released,
                            acquired: time(spec.acquire_time).expect("an acquisition"),
                            successor: successor.to_owned(),
                        };
                    }
                }
            }
            unreachable!("a watch never ends without an error")
        }))
    }

    fn duration(&self) -> SignedDuration {
        self.acquired.duration_since(self.renewed)
    }
}

impl HandoverWatch {
    async fn end(self) -> Handover {
        within("another replica holds the lease", self.0)
            .await
            .expect("a task")
    }
}

async fn lease(client: &Client) -> LeaseSpec {
    let leases = Api::<Lease>::namespaced(client.clone(), SYSTEM);
    let lease = leases.get(RELEASE).await.expect("the lease");
    lease.spec.unwrap_or_default()
}

fn holder(lease: &LeaseSpec) -> Option<&str> {
    lease
        .holder_identity
        .as_deref()
        .filter(|name| !name.is_empty())
}

/// Waits until two replicas are ready and one is the leader. Returns the leader's pod.
async fn wait_for_leader(client: &Client) -> String {
    eventually(
        "two replicas are ready, and one is the leader",
        async || {
            let deployment = [&format!("deployment/{RELEASE}"), "--namespace", SYSTEM];
            let ready = ["-o", "jsonpath={.status.readyReplicas}/{.status.replicas}"];
            let ready = kubectl(&[&["get"], &deployment[..], &ready].concat()).await;
            let lease = lease(client).await;
            let leader = holder(&lease);
            let pods = Api::<Pod>::namespaced(client.clone(), SYSTEM);
            let exists = match leader {
                Some(leader) => pods.get_opt(leader).await.expect("a get").is_some(),
                None => false,
            };
            (ready == "2/2" && exists, (ready, lease))
        },
    )
    .await;
    holder(&lease(client).await).expect("a leader").to_owned()
}

async fn restarts(client: &Client, pod: &str) -> i32 {
    let pods = Api::<Pod>::namespaced(client.clone(), SYSTEM);
    let pod = pods.get(pod).await.expect("the pod");
    let containers = pod.status.and_then(|status| status.container_statuses);
    containers
        .into_iter()
        .flatten()
        .map(|container| container.restart_count)
        .sum()
}

/// Returns the process ID on this machine of the controller in a pod. Returns `None` if the pod
/// runs on another machine.
fn find_process(pod: &str) -> Option<u32> {
    let name = format!("POD_NAME={pod}");
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        let environment = fs::read(entry.path().join("environ")).ok()?;
        environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == name.as_bytes())
            .then_some(id)
    })
}

fn skip_without_process(pod: &str) {
    eprintln!("skipped: pod {pod} has no process on this machine to send a signal to");
}

async fn signal(name: &str, process: u32) {
    let sent = Command::new("kill")
        .args([format!("-{name}"), process.to_string()])
        .status()
        .await
        .expect("kill");
    assert!(sent.success());
}
