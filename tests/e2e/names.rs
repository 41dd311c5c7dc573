//! Name resolution in pods: servers are reached by Service names, through the cluster's DNS server
//! and the search domains of a pod.

use std::{env, fs, net::SocketAddr, time::Duration};

use event_forwarder_test_support::iterable::Fault;
use kube::Client;
use serde_json::{Value, json};

use crate::{
    faults::cluster,
    tls_support::{certificates, terminator},
    tracking::{start, wait_for_run_end},
    world::{AMBIENT_SECRET, SYSTEM, Shared, World, apply_json, condition, sample},
};

const BATCH: &str = "01-session-and-screens-list-identities.json";
const EVENTS: usize = 4;
/// A domain in which no name exists (RFC 6761).
const NOWHERE: &str = "nowhere.invalid";

/// The URLs of a forwarder's servers.
pub struct Names {
    pub sqs: String,
    pub iterable: String,
}

impl Names {
    /// Creates a Service for each of the servers at these URLs.
    pub async fn with_services(
        client: &Client,
        namespace: &str,
        sqs: &str,
        iterable: &str,
    ) -> Self {
        Self {
            sqs: service_url(client, namespace, "sqs", sqs).await,
            iterable: service_url(client, namespace, "iterable", iterable).await,
        }
    }
}

/// Creates a Service for the server at `url`. Returns the URL with the Service's name.
async fn service_url(client: &Client, namespace: &str, name: &str, url: &str) -> String {
    let (scheme, address) = url.split_once("://").expect("a scheme");
    let address: SocketAddr = address.parse().expect("an address and port");
    let host = service(client, namespace, name, address.port(), address).await;
    format!("{scheme}://{host}:{}", address.port())
}

/// Creates a Service on `port` for a server on this machine. Returns its host name, which has fewer
/// dots than `ndots`, so that a lookup uses the search domains.
async fn service(
    client: &Client,
    namespace: &str,
    name: &str,
    port: u16,
    server: SocketAddr,
) -> String {
    // The endpoints come first, because a Service without endpoints rejects connections.
    apply_json(
        client,
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": name, "namespace": namespace,
                "labels": {"kubernetes.io/service-name": name},
            },
            "addressType": if server.is_ipv4() { "IPv4" } else { "IPv6" },
            "endpoints": [{"addresses": [server.ip()]}],
            "ports": [{"name": "server", "port": server.port()}],
        }),
    )
    .await;
    apply_json(
        client,
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"ports": [{"name": "server", "port": port, "targetPort": server.port()}]},
        }),
    )
    .await;
    format!("{name}.{namespace}.svc")
}

pub async fn missing_host_is_reported_immediately(shared: &Shared) {
    let world = World::new(shared, "no-such-host").await;
    world.create_key_secret().await;
    world.queue.send(&[sample(BATCH)]).await.expect("sending");
    let (queue, sink) = (format!("sqs.{NOWHERE}"), format!("iterable.{NOWHERE}"));
    let by_queue = json!({"queue": {"endpoint": format!("http://{queue}:9324")}});
    let by_sink = json!({"iterable": {"endpoint": format!("https://{sink}")}});
    world.apply("queue", by_queue).await;
    world.apply("sink", by_sink).await;

    let status = world
        .status_until("queue", "the condition is set", |status| {
            condition(status, "QueueReachable").0 == "False"
        })
        .await;
    let (_, reason, message) = condition(&status, "QueueReachable");
    assert_eq!(reason, "Unreachable", "{message}");
    for words in [queue.as_str(), "Name or service not known"] {
        assert!(message.contains(words), "{message}");
    }

    for name in ["queue", "sink"] {
        start(&world, name, name).await;
    }
    // This message proves that the DNS server answered. Without an answer, the lookup would time
    // out.
    for (name, host, outcome) in [("queue", &queue, "QueueDown"), ("sink", &sink, "SinkDown")] {
        let status = wait_for_run_end(&world, name, name).await;
        let (_, reason, message) = condition(&status, "LastRunSucceeded");
        assert_eq!(reason, outcome, "{message}");
        for words in [host.as_str(), "Name or service not known"] {
            assert!(message.contains(words), "{message}");
        }
    }
    let depth = world.queue.depth().await.expect("depth");
    assert_eq!(depth.visible + depth.in_flight, 1);
}

pub async fn additional_ca_is_trusted_by_run_and_controller(shared: &Shared) {
    shared.install().await.expect("the operator");
    let world = World::new(shared, "authority").await;
    world.create_key_secret().await;
    world.queue.send(&[sample(BATCH)]).await.expect("sending");
    let servers = TlsServers::start(shared, &world).await;
    world.apply("mparticle", servers.spec()).await;
    let status = world
        .status_until(
            "mparticle",
            "the controller rejects the certificate",
            |status| {
                let (_, reason, message) = condition(status, "QueueReachable");
                reason == "Unreachable" && message.contains("UnknownIssuer")
            },
        )
        .await;
    let message = condition(&status, "QueueReachable").2;
    assert!(message.contains(&servers.sqs), "{message}");

    let status = world.run_now("mparticle", "trusting").await;
    assert_eq!(
        condition(&status, "LastRunSucceeded").1,
        "Drained",
        "{status:#?}"
    );
    assert_eq!(world.iterable.handle.events().len(), EVENTS);

    servers.create_ca_config_map(&world.client, SYSTEM).await;
    let job = servers.job();
    let environment = json!([
        job["env"][0],
        {"name": "AWS_ACCESS_KEY_ID", "value": "AKIACONTROLLER"},
        {"name": "AWS_SECRET_ACCESS_KEY", "value": AMBIENT_SECRET},
    ]);
    let settings = [
        format!("extraEnv={environment}"),
        format!("extraVolumes={}", job["volumes"]),
        format!("extraVolumeMounts={}", job["volumeMounts"]),
    ];
    let arguments: Vec<_> = settings
        .iter()
        .flat_map(|setting| ["--set-json", setting])
        .collect();
    shared.install_with(&arguments).await.expect("the operator");
    world
        .status_until(
            "mparticle",
            "the controller accepts the certificate",
            |status| condition(status, "QueueReachable").1 == "Reachable",
        )
        .await;
    shared.install().await.expect("the operator");
}

/// TLS proxies for both servers, with Services on port 443.
struct TlsServers {
    ca_certificate: String,
    sqs: String,
    iterable: String,
}

impl TlsServers {
    async fn start(shared: &Shared, world: &World) -> Self {
        let folder = env::temp_dir().join(format!("{}-{}", world.namespace, std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let (client, namespace) = (&world.client, &world.namespace);
        let host = |name| format!("{name}.{namespace}.svc");
        let (sqs, iterable) = (host("secure-sqs"), host("secure-iterable"));
        certificates(&folder, &format!("DNS:{sqs},DNS:{iterable}"));
        let endpoints = [
            ("secure-sqs", world.sqs_address(), &[][..]),
            ("secure-iterable", world.iterable.url(), &["h2"]),
        ];
        for (name, target, protocols) in endpoints {
            let port = terminator(&folder, shared.host, target, protocols).await;
            let server = SocketAddr::new(shared.host, port);
            service(client, namespace, name, 443, server).await;
        }
        let ca_certificate = fs::read_to_string(folder.join("ca.pem")).expect("the certificate");
        let _ = fs::remove_dir_all(&folder);
        let servers = Self {
            ca_certificate,
            sqs,
            iterable,
        };
        servers.create_ca_config_map(client, namespace).await;
        servers
    }

    /// Creates the ConfigMap that [`Self::job`] mounts.
    async fn create_ca_config_map(&self, client: &Client, namespace: &str) {
        let data = json!({"ca.pem": self.ca_certificate});
        apply_json(
            client,
            json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "authority", "namespace": namespace},
                "data": data,
            }),
        )
        .await;
    }

    fn spec(&self) -> Value {
        json!({
            "queue": {"endpoint": format!("https://{}", self.sqs)},
            "iterable": {"endpoint": format!("https://{}", self.iterable)},
            "job": self.job(),
        })
    }

    fn job(&self) -> Value {
        json!({
            "env": [{"name": "EVENT_FORWARDER_CA_FILE", "value": "/authority/ca.pem"}],
            "volumes": [{"name": "authority", "configMap": {"name": "authority"}}],
            "volumeMounts": [{"name": "authority", "mountPath": "/authority", "readOnly": true}],
        })
    }
}

pub async fn run_survives_five_seconds_without_name_server(shared: &Shared) {
    shared.install().await.expect("the operator");
    let world = World::new(shared, "no-name-server").await;
    world.create_key_secret().await;
    world.queue.send(&[sample(BATCH)]).await.expect("sending");
    // The request is held, then its connection is closed, so the next request needs a lookup.
    let gate = world.iterable.handle.gate("away");
    let cut = Fault {
        gate: Some("away".to_owned()),
        ..Fault::cut()
    };
    world.iterable.handle.add_fault(cut.times(1));
    world.apply("mparticle", json!({})).await;
    start(&world, "mparticle", "now").await;
    gate.until_held(1).await;
    cluster(&["stop", "dns"]).await;
    gate.open();
    tokio::time::sleep(Duration::from_secs(5)).await;
    cluster(&["start", "dns"]).await;
    let status = wait_for_run_end(&world, "mparticle", "now").await;
    let (_, reason, message) = condition(&status, "LastRunSucceeded");
    assert_eq!(reason, "Drained", "{message}");
    let run = status.last_run.expect("a run");
    assert_eq!(run.messages.deleted, 1, "{run:#?}");
    let reasons: Vec<_> = run.reasons.iter().map(|it| it.reason.as_str()).collect();
    assert!(reasons.contains(&"SinkNotConnected"), "{run:#?}");
    assert_eq!(world.iterable.handle.events().len(), EVENTS);
    world
        .status_until("mparticle", "the queue is polled again", |status| {
            condition(status, "QueueReachable").1 == "Reachable"
        })
        .await;
}
