//! Use of the controller's ambient AWS credentials. The suite's controller has some, and is allowed
//! to send them to the SQS server.

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

/// Starts a server that counts connections. Returns its URL and the count.
async fn listener(shared: &Shared) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(SocketAddr::new(shared.host, 0))
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    (format!("http://{address}"), count)
}

/// Applies a forwarder without a credentials Secret.
async fn apply_ambient(world: &World, name: &str, queue: Value) {
    let mut manifest = world.manifest(name, json!({"queue": queue}));
    let queue = manifest["spec"]["queue"].as_object_mut().expect("a queue");
    queue.remove("credentialsSecretRef");
    kubectl_apply(&manifest).await.expect("kubectl apply");
}

pub async fn ambient_credentials_go_to_allowed_hosts_only(shared: &Shared) {
    let world = World::new(shared, "ambient").await.by_address();
    world.create_key_secret().await;
    let (foreign, connections) = listener(shared).await;
    let url = format!("{foreign}/123456789012/theirs");
    apply_ambient(&world, "by-endpoint", json!({"endpoint": foreign})).await;
    apply_ambient(&world, "by-url", json!({"url": url, "endpoint": foreign})).await;
    for name in ["by-endpoint", "by-url"] {
        let status = world
            .status_until(name, "the host is rejected", |status| {
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

    // With an allowed host, then with a credentials Secret for the other host.
    apply_ambient(&world, "by-endpoint", json!({})).await;
    world
        .status_until("by-endpoint", "the queue is polled", |status| {
            condition(status, "QueueReachable").1 == "Reachable"
        })
        .await;
    assert_eq!(
        connections.load(Ordering::Relaxed),
        0,
        "the controller connected to {foreign}"
    );
    world
        .apply(
            "by-url",
            json!({"queue": {"url": url, "endpoint": foreign}}),
        )
        .await;
    crate::world::eventually("credentials of a Secret go to any host", async || {
        let count = connections.load(Ordering::Relaxed);
        (count > 0, format!("{count} connections"))
    })
    .await;
}
