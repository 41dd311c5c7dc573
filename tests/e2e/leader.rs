//! Two replicas of the controller: one works, the other follows when it dies, stops or falls asleep.

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

/// How long a lease holds by the controller's own constants.
const LEASE: SignedDuration = SignedDuration::from_secs(9);
/// The longest hand-over.
const HAND_OVER: SignedDuration = SignedDuration::from_secs(15);

/// These tests change who leads, one at a time.
static TURN: Mutex<()> = Mutex::const_new(());

pub async fn a_leader_that_dies_is_followed_within_15_seconds(shared: &Shared) {
    let _turn = TURN.lock().await;
    let world = World::new(shared, "leader-dies").await;
    let leader = leader(&shared.client).await;
    let hand_over = HandOver::watched(&shared.client, &leader);
    // Asleep, it can't give up its lease before it is killed.
    let Some(process) = process_of(&leader) else {
        return not_on_this_machine(&leader);
    };
    signal("STOP", process).await;
    let force = ["--force", "--grace-period=0"];
    let delete = ["delete", "pod", &leader, "--namespace", SYSTEM];
    kubectl(&[&delete[..], &force].concat()).await;
    let hand_over = hand_over.end().await;
    assert!(!hand_over.released, "{hand_over:?}");
    assert!(
        hand_over.took() >= LEASE && hand_over.took() < HAND_OVER,
        "{hand_over:?}"
    );
    works(&world).await;
}

pub async fn a_leader_that_is_told_to_stop_hands_over_at_once(shared: &Shared) {
    let _turn = TURN.lock().await;
    let world = World::new(shared, "leader-stops").await;
    let leader = leader(&shared.client).await;
    let hand_over = HandOver::watched(&shared.client, &leader);
    let delete = ["delete", "pod", &leader, "--namespace", SYSTEM];
    kubectl(&[&delete[..], &["--wait=false"]].concat()).await;
    let hand_over = hand_over.end().await;
    assert!(hand_over.released, "{hand_over:?}");
    assert!(hand_over.took() < LEASE, "{hand_over:?}");
    works(&world).await;
}

pub async fn a_leader_that_was_asleep_ends_when_it_wakes(shared: &Shared) {
    let _turn = TURN.lock().await;
    let world = World::new(shared, "leader-sleeps").await;
    let leader = leader(&shared.client).await;
    let restarts = restarts(&shared.client, &leader).await;
    let Some(process) = process_of(&leader) else {
        return not_on_this_machine(&leader);
    };
    let hand_over = HandOver::watched(&shared.client, &leader);
    signal("STOP", process).await;
    let hand_over = hand_over.end().await;
    assert!(hand_over.took() >= LEASE, "{hand_over:?}");
    works(&world).await;
    signal("CONT", process).await;
    eventually("the container has ended and started again", async || {
        let now = self::restarts(&shared.client, &leader).await;
        (now > restarts, now)
    })
    .await;
    let log = kubectl(&["logs", &leader, "--namespace", SYSTEM, "--previous"]).await;
    assert!(log.contains("has lost its lease"), "{log}");
    assert_eq!(
        holder(&lease(&shared.client).await),
        Some(hand_over.successor.as_str()),
        "the one that woke took nothing back"
    );
}

/// Checks that somebody acts on a forwarder, and on a change of it.
async fn works(world: &World) {
    world.give_key().await;
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

/// How leadership passed to another.
#[derive(Debug)]
struct HandOver {
    renewed: Timestamp,
    released: bool,
    acquired: Timestamp,
    successor: String,
}

struct Watched(tokio::task::JoinHandle<HandOver>);

impl HandOver {
    /// Follows the lease from now on until another than `leader` holds it.
    fn watched(client: &Client, leader: &str) -> Watched {
        let leases = Api::<Lease>::namespaced(client.clone(), SYSTEM);
        let only = watcher::Config::default().fields(&format!("metadata.name={RELEASE}"));
        let leader = leader.to_owned();
        Watched(tokio::spawn(async move {
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
            unreachable!("a watch does not end by itself")
        }))
    }

    fn took(&self) -> SignedDuration {
        self.acquired.duration_since(self.renewed)
    }
}

impl Watched {
    async fn end(self) -> HandOver {
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

/// The pod that leads, once another stands by that is ready.
async fn leader(client: &Client) -> String {
    eventually("two replicas are ready, and one leads", async || {
        let deployment = [&format!("deployment/{RELEASE}"), "--namespace", SYSTEM];
        let ready = ["-o", "jsonpath={.status.readyReplicas}/{.status.replicas}"];
        let ready = kubectl(&[&["get"], &deployment[..], &ready].concat()).await;
        let lease = lease(client).await;
        let leader = holder(&lease);
        let pods = Api::<Pod>::namespaced(client.clone(), SYSTEM);
        let lives = match leader {
            Some(leader) => pods.get_opt(leader).await.expect("a get").is_some(),
            None => false,
        };
        (ready == "2/2" && lives, (ready, lease))
    })
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

/// The id on this machine of the controller's process in a pod.
fn process_of(pod: &str) -> Option<u32> {
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

fn not_on_this_machine(pod: &str) {
    eprintln!("skipped: no process of pod {pod} is on this machine, so none can be sent a signal");
}

async fn signal(name: &str, process: u32) {
    let sent = Command::new("kill")
        .args([format!("-{name}"), process.to_string()])
        .status()
        .await
        .expect("kill");
    assert!(sent.success());
}
