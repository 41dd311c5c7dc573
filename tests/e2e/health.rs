//! The controller's readiness, liveness and metrics endpoints.

use std::{net::SocketAddr, process::Stdio};

use event_forwarder_test_support::free_address;
use kube::{Config, config::Kubeconfig};
use serde_json::json;
use tokio::process::{Child, Command};

use crate::world::{Shared, World, apply_json, eventually, kubectl};

/// A controller process on this machine that uses a ServiceAccount.
struct Controller {
    address: SocketAddr,
    _process: Child,
}

impl Controller {
    /// Starts a controller for one namespace, with the ServiceAccount `controller` in it.
    async fn start(namespace: &str) -> Self {
        let token = kubectl(&["create", "token", "controller", "--namespace", namespace]).await;
        let config = Config::infer().await.expect("the cluster's configuration");
        let original = Kubeconfig::read().expect("a kubeconfig");
        let cluster = original.clusters.into_iter().next().expect("a cluster");
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [cluster],
            "users": [{"name": "controller", "user": {"token": token.trim()}}],
            "contexts": [{"name": "all", "context": {
                "cluster": cluster.name, "user": "controller", "namespace": config.default_namespace,
            }}],
            "current-context": "all",
        });
        let file = std::env::temp_dir().join(format!("event-forwarder-{namespace}.kubeconfig"));
        std::fs::write(&file, kubeconfig.to_string()).expect("a file");
        let address = free_address().expect("an address");
        let process = Command::new(env!("CARGO_BIN_EXE_event-forwarder"))
            .args([
                "controller",
                "--image",
                "none",
                "--watch-namespaces",
                namespace,
            ])
            .args(["--listen", &address.to_string()])
            .env("KUBECONFIG", &file)
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the controller starts");
        Self {
            address,
            _process: process,
        }
    }

    /// Returns the status and the body of a response. Returns `None` if the request fails.
    async fn get(&self, path: &str, accept: &str) -> Option<(u16, String)> {
        let response = reqwest::Client::new()
            .get(format!("http://{}{path}", self.address))
            .header("accept", accept)
            .send()
            .await
            .ok()?;
        Some((response.status().as_u16(), response.text().await.ok()?))
    }

    async fn ready(&self) -> (u16, String) {
        self.get("/readyz", "*/*").await.unwrap_or_default()
    }
}

/// Grants the ServiceAccount these verbs on Jobs, and read permissions on other kinds.
async fn grant(world: &World, jobs: &[&str]) {
    let namespace = &world.namespace;
    apply_json(
        &world.client,
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": "controller", "namespace": namespace},
            "rules": [
                {"apiGroups": ["eventforwarder.io"], "resources": ["eventforwarders"], "verbs": ["list", "watch"]},
                {"apiGroups": ["batch"], "resources": ["cronjobs"], "verbs": ["list", "watch"]},
                {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": jobs},
                {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
            ],
        }),
    )
    .await;
}

pub async fn readyz_reports_missing_watch_permission(shared: &Shared) {
    let world = World::new(shared, "permissions").await;
    let namespace = world.namespace.as_str();
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "controller", "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "controller"},
        "subjects": [{"kind": "ServiceAccount", "name": "controller", "namespace": namespace}],
    });
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "controller", "namespace": namespace},
    });
    grant(&world, &["list"]).await;
    apply_json(&world.client, account).await;
    apply_json(&world.client, binding).await;

    let controller = Controller::start(namespace).await;
    let missing = format!("not allowed to watch jobs.batch in namespace {namespace}");
    eventually("/readyz names the permission", async || {
        let (status, text) = controller.ready().await;
        (status == 503 && text.contains(&missing), (status, text))
    })
    .await;
    let alive = controller.get("/healthz", "*/*").await;
    assert_eq!(
        alive,
        Some((200, "ok\n".to_owned())),
        "/healthz must succeed while the controller is not ready"
    );

    grant(&world, &["list", "watch"]).await;
    eventually("the controller is ready", async || {
        let ready = controller.ready().await;
        (ready == (200, "ok\n".to_owned()), ready)
    })
    .await;
    eventually("the API requests are counted", async || {
        let (status, page) = controller.get("/metrics", "*/*").await.unwrap_or_default();
        let watches = r#"kubernetes_requests_total{verb="watch",resource="jobs",code="200"}"#;
        let is_counted = page.contains(watches) && page.contains("event_forwarder_leader 1\n");
        (status == 200 && is_counted, (status, page))
    })
    .await;
}
