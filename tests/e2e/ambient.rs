//! What the controller's own AWS identity is used for. The suite's controller has one, and may
//! show it to the SQS server.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::world::{Shared, World, condition, kubectl_apply};

/// Takes connections and counts them.
async fn listener(shared: &Shared) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(SocketAddr::new(shared.host, 0))
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    let taken = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&taken);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    (format!("http://{address}"), taken)
}

/// Applies a forwarder that brings no credentials of its own.
async fn apply_ambient(world: &World, name: &str, queue: Value) {
    let mut manifest = world.manifest(name, json!({"queue": queue}));
    let queue = manifest["spec"]["queue"].as_object_mut().expect("a queue");
    queue.remove("credentialsSecretRef");
    kubectl_apply(&manifest).await.expect("kubectl apply");
}

pub async fn the_controllers_identity_goes_to_allowed_hosts_only(shared: &Shared) {
    let world = World::new(shared, "ambient").await.by_address();
    world.give_key().await;
    let (foreign, taken) = listener(shared).await;
    let url = format!("{foreign}/123456789012/theirs");
    apply_ambient(&world, "by-endpoint", json!({"endpoint": foreign})).await;
    apply_ambient(&world, "by-url", json!({"url": url, "endpoint": foreign})).await;
    for name in ["by-endpoint", "by-url"] {
        let status = world
            .status_until(name, "the host is refused", |status| {
                condition(status, "QueueReachable").0 == "False"
            })
            .await;
        let (_, reason, message) = condition(&status, "QueueReachable");
        assert_eq!(reason, "HostNotAllowed", "{message}");
        assert!(
            message.contains(&foreign) && message.contains("credentialsSecretRef"),
            "{message}"
        );
        assert_eq!(condition(&status, "Ready").1, "HostNotAllowed");
    }

    // The same forwarder at a host that is allowed, then with credentials of its own at the other.
    apply_ambient(&world, "by-endpoint", json!({})).await;
    world
        .status_until("by-endpoint", "the queue is read", |status| {
            condition(status, "QueueReachable").1 == "Reachable"
        })
        .await;
    assert_eq!(
        taken.load(Ordering::Relaxed),
        0,
        "somebody called {foreign}"
    );
    world
        .apply(
            "by-url",
            json!({"queue": {"url": url, "endpoint": foreign}}),
        )
        .await;
    crate::world::eventually("own credentials go anywhere", async || {
        let taken = taken.load(Ordering::Relaxed);
        (taken > 0, format!("{taken} connections"))
    })
    .await;
}
