//! The plugin `kubectl forwarder`, run by kubectl from its PATH.

use std::{
    env,
    ffi::OsString,
    net::TcpListener,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use event_forwarder::api::EventForwarder;
use k8s_openapi::api::batch::v1::CronJob;
use kube::ResourceExt;
use serde_json::json;
use tokio::process::Command;

use crate::world::{
    Shared, World, apply_json, condition, jobs, kubectl, kubectl_apply, sample, within,
};

const BATCH: &str = "01-session-and-screens-list-identities.json";

/// A folder with the program under the names that kubectl searches for.
static PLUGIN_FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = env::temp_dir().join(format!("event-forwarder-plugin-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    for name in ["kubectl-forwarder", "kubectl_complete-forwarder"] {
        let _ = std::fs::remove_file(folder.join(name));
        symlink(env!("CARGO_BIN_EXE_event-forwarder"), folder.join(name)).expect("a link");
    }
    folder
});

/// The output and exit code of a command.
#[derive(Debug)]
pub struct CommandOutput {
    pub out: String,
    pub error: String,
    pub code: i32,
}

/// Runs kubectl with the plugin on its PATH and these environment variables.
async fn run_kubectl(arguments: &[&str], variables: &[(&str, &Path)]) -> CommandOutput {
    let mut path = OsString::from(PLUGIN_FOLDER.as_os_str());
    path.push(":");
    path.push(env::var_os("PATH").unwrap_or_default());
    let output = Command::new("kubectl")
        .args(arguments)
        .env("PATH", path)
        .envs(variables.iter().copied())
        .kill_on_drop(true)
        .output();
    let what = format!("kubectl {} has ended", arguments.join(" "));
    let output = within(&what, output).await.expect("kubectl");
    CommandOutput {
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        error: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code().unwrap_or(-1),
    }
}

/// Runs `kubectl forwarder` in the test's namespace.
pub async fn forwarder(world: &World, arguments: &[&str]) -> CommandOutput {
    let mut all = vec!["forwarder"];
    all.extend(arguments);
    all.extend(["--namespace", &world.namespace]);
    run_kubectl(&all, &[]).await
}

/// Creates a forwarder with a key, and waits until it is ready.
async fn ready_world(shared: &Shared, name: &str) -> World {
    let world = World::new(shared, name).await.by_address();
    world.create_key_secret().await;
    world.apply("mparticle", json!({})).await;
    world
        .status_until("mparticle", "the forwarder is ready", |status| {
            condition(status, "Ready").0 == "True"
        })
        .await;
    world
}

pub async fn run_is_followed_and_shown_in_status(shared: &Shared) {
    let world = ready_world(shared, "plugin-run").await;
    world.queue.send(&[sample(BATCH)]).await.expect("sending");
    let output = forwarder(&world, &["run", "mparticle", "--follow"]).await;
    assert_eq!(output.code, 0, "{output:?}");
    let job = jobs(&world).await[0].name_any();
    assert!(
        output.out.contains(&format!("Job {job} was started")),
        "{output:?}"
    );
    assert!(output.out.contains("Drained"), "{output:?}");
    assert!(output.out.contains("4 forwarded"), "{output:?}");
    assert_eq!(world.iterable.handle.events().len(), 4);

    let output = forwarder(&world, &["status", "mparticle"]).await;
    assert_eq!(output.code, 0, "{output:?}");
    let first = format!("✔ {}/mparticle is ready\n", world.namespace);
    assert!(
        output.out.starts_with(&first),
        "without color, because stdout is a pipe: {output:?}"
    );
    assert!(output.out.contains("UTC"), "the next run: {output:?}");
    assert!(output.out.contains("4 █"), "the bar of the run: {output:?}");
    assert!(output.out.contains("runs: 1;"), "the totals: {output:?}");

    let output = forwarder(&world, &["status"]).await;
    assert!(output.out.contains("✔ mparticle  Ready"), "{output:?}");
}

pub async fn failed_run_sets_exit_code(shared: &Shared) {
    let world = World::new(shared, "plugin-failed").await.by_address();
    world
        .secret("iterable", &[("api-key", "not-the-key")])
        .await;
    world.queue.send(&[sample(BATCH)]).await.expect("sending");
    world.apply("mparticle", json!({})).await;
    world
        .until::<CronJob>("mparticle", "the CronJob exists", |_| true)
        .await;
    let output = forwarder(&world, &["run", "mparticle", "--follow"]).await;
    assert_eq!(output.code, 21, "{output:?}");
    assert!(output.out.contains("ApiKeyRejected"), "{output:?}");
    let output = forwarder(&world, &["status", "mparticle"]).await;
    assert!(
        output
            .out
            .contains("mparticle is not ready: ApiKeyRejected"),
        "{output:?}"
    );
    assert!(
        output.out.contains("server-side key"),
        "the fix: {output:?}"
    );
}

pub async fn blocked_run_prints_reason_and_fix(shared: &Shared) {
    let world = World::new(shared, "plugin-blocked").await.by_address();
    world.apply("mparticle", json!({})).await;
    world
        .status_until("mparticle", "the missing Secret is reported", |status| {
            condition(status, "SecretsAvailable").0 == "False"
        })
        .await;
    let output = forwarder(&world, &["run", "mparticle"]).await;
    assert_eq!(output.code, 47, "{output:?}");
    assert!(
        output
            .error
            .contains("kubectl create secret generic iterable"),
        "{output:?}"
    );
    let output = forwarder(&world, &["status", "mparticle"]).await;
    assert!(
        output
            .out
            .contains("kubectl create secret generic iterable"),
        "{output:?}"
    );
    assert!(jobs(&world).await.is_empty());
}

pub async fn suspend_and_resume_respect_manifest(shared: &Shared) {
    let world = ready_world(shared, "plugin-suspend").await;
    let suspended = async || {
        let api = world.api::<EventForwarder>();
        api.get("mparticle").await.expect("a get").spec.suspend
    };
    let output = forwarder(&world, &["suspend", "mparticle"]).await;
    assert_eq!((output.code, suspended().await), (0, true), "{output:?}");
    assert!(
        !output.out.contains("Warning"),
        "no other manager sets it: {output:?}"
    );
    world
        .until::<CronJob>("mparticle", "the CronJob is suspended", |cronjob| {
            cronjob.spec.as_ref().and_then(|spec| spec.suspend) == Some(true)
        })
        .await;
    // A manifest without spec.suspend does not change it.
    world
        .apply("mparticle", json!({"schedule": "0 0 2 1 *"}))
        .await;
    assert!(suspended().await);
    world
        .status_until("mparticle", "the suspension is reported", |status| {
            condition(status, "Ready").1 == "Suspended"
        })
        .await;
    let output = forwarder(&world, &["status", "mparticle"]).await;
    assert!(output.out.contains("mparticle is suspended"), "{output:?}");
    let output = forwarder(&world, &["run", "mparticle", "--follow"]).await;
    assert_eq!(output.code, 0, "a manual run is allowed: {output:?}");
    assert!(output.out.contains("mparticle is suspended"), "{output:?}");

    let output = forwarder(&world, &["resume", "mparticle"]).await;
    assert_eq!((output.code, suspended().await), (0, false), "{output:?}");
    let managed = kubectl(&[
        "get",
        "ef",
        "mparticle",
        "--namespace",
        &world.namespace,
        "--show-managed-fields",
        "--output",
        "jsonpath={.metadata.managedFields[?(@.manager==\"kubectl-forwarder\")].fieldsV1}",
    ])
    .await;
    assert!(
        !managed.contains("f:suspend"),
        "resume must release the field: {managed}"
    );

    // If a manifest also sets spec.suspend, resume prints a warning.
    kubectl_apply(&world.manifest("mparticle", json!({"suspend": true})))
        .await
        .expect("kubectl apply");
    let output = forwarder(&world, &["resume", "mparticle"]).await;
    assert_eq!((output.code, suspended().await), (0, false), "{output:?}");
    assert!(output.out.contains("also sets spec.suspend"), "{output:?}");
}

pub async fn map_uses_live_forwarder(shared: &Shared) {
    let world = World::new(shared, "plugin-map").await.by_address();
    world.create_key_secret().await;
    apply_json(
        &world.client,
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "rules", "namespace": world.namespace},
            "data": {"transform.jq": r#".dataFields.tier = "gold""#},
        }),
    )
    .await;
    let spec = json!({"mapping": {"transform": {"configMapKeyRef": {"name": "rules"}}}});
    world.apply("mparticle", spec).await;
    let file = format!("tests/samples/{BATCH}");
    let output = forwarder(&world, &["map", "mparticle", &file]).await;
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(
        output.out.matches(r#""tier":"gold""#).count(),
        4,
        "{output:?}"
    );
    assert!(output.error.contains("4 forwarded"), "{output:?}");
}

pub async fn dlq_messages_are_listed_and_redriven(shared: &Shared) {
    let world = ready_world(shared, "plugin-dlq").await;
    world.iterable.handle.forget_user("ada@example.com");
    world.queue.send(&[sample(BATCH)]).await.expect("sending");
    let output = forwarder(&world, &["run", "mparticle", "--follow"]).await;
    assert!(output.out.contains("1 dead-lettered"), "{output:?}");
    world
        .status_until(
            "mparticle",
            "the dead-lettered message is counted",
            |status| status.queue.as_ref().and_then(|queue| queue.dead_letters) == Some(1),
        )
        .await;
    let output = forwarder(&world, &["status", "mparticle"]).await;
    assert!(output.out.contains("1 UserForgotten"), "{output:?}");
    let output = forwarder(&world, &["dlq", "mparticle", "list"]).await;
    assert!(output.out.contains("UserForgotten"), "{output:?}");
    let output = forwarder(&world, &["dlq", "mparticle", "redrive"]).await;
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(world.queue.depth().await.expect("depth").visible, 1);
    assert_eq!(world.queue.dlq_depth().await.expect("depth").visible, 0);
}

pub async fn every_error_has_message_and_exit_code(shared: &Shared) {
    let world = World::new(shared, "plugin-errors").await.by_address();
    world.apply("mparticle", json!({})).await;
    let output = forwarder(&world, &["status", "mpartcle"]).await;
    assert_eq!(output.code, 45, "{output:?}");
    assert!(
        output.error.contains("Did you mean mparticle?"),
        "{output:?}"
    );
    world
        .apply("only-in-this-namespace", json!({"suspend": true}))
        .await;
    let output = run_kubectl(
        &[
            "forwarder",
            "suspend",
            "only-in-this-namespace",
            "-n",
            "kube-public",
        ],
        &[],
    )
    .await;
    assert_eq!(output.code, 45, "{output:?}");
    let hint = format!("--namespace {}", world.namespace);
    assert!(output.error.contains(&hint), "{output:?}");

    let folder = env::temp_dir().join(format!("event-forwarder-errors-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let output = run_kubectl(
        &["forwarder", "status"],
        &[("KUBECONFIG", &folder.join("nowhere")), ("HOME", &folder)],
    )
    .await;
    assert_eq!(output.code, 40, "{output:?}");
    assert!(output.error.contains("Set KUBECONFIG"), "{output:?}");
    let output = forwarder(&world, &["status", "--context", "mars"]).await;
    assert_eq!(output.code, 40, "{output:?}");
    assert!(output.error.contains("mars"), "{output:?}");

    // A port that rejects connections, and one that accepts them and never responds.
    let unresponsive = TcpListener::bind("127.0.0.1:0").expect("a port");
    let unresponsive_port = unresponsive.local_addr().expect("an address").port();
    for port in [1, unresponsive_port] {
        let kubeconfig = kubeconfig(&folder, &format!("https://127.0.0.1:{port}"), "", json!({}));
        let output = run_kubectl(
            &["forwarder", "status", "x"],
            &[("KUBECONFIG", &kubeconfig)],
        )
        .await;
        assert_eq!(output.code, 41, "{output:?}");
        assert!(
            output.error.contains(&format!("127.0.0.1:{port}")),
            "{output:?}"
        );
    }

    // A user without permissions, and an unknown user.
    let server = jsonpath("{.clusters[0].cluster.server}").await;
    let authority = jsonpath("{.clusters[0].cluster.certificate-authority-data}").await;
    let token = kubectl(&[
        "create",
        "token",
        "default",
        "--namespace",
        &world.namespace,
    ])
    .await;
    for (token, code, message) in [
        (
            token.trim(),
            43,
            "you are not allowed to get EventForwarder",
        ),
        ("no-such-token", 42, "authentication to API server"),
    ] {
        let kubeconfig = kubeconfig(&folder, &server, &authority, json!({"token": token}));
        let output = run_kubectl(
            &["forwarder", "status", "mparticle", "-n", &world.namespace],
            &[("KUBECONFIG", &kubeconfig)],
        )
        .await;
        assert_eq!(output.code, code, "{output:?}");
        assert!(output.error.contains(message), "{output:?}");
    }
    let _ = std::fs::remove_dir_all(&folder);
}

async fn jsonpath(path: &str) -> String {
    let output = format!("jsonpath={path}");
    kubectl(&[
        "config",
        "view",
        "--minify",
        "--flatten",
        "--output",
        &output,
    ])
    .await
}

fn kubeconfig(folder: &Path, server: &str, authority: &str, user: serde_json::Value) -> PathBuf {
    let mut cluster = json!({"server": server});
    match authority {
        "" => cluster["insecure-skip-tls-verify"] = json!(true),
        data => cluster["certificate-authority-data"] = json!(data),
    }
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "c", "user": user}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
    });
    let file = folder.join("kubeconfig");
    std::fs::write(&file, config.to_string()).expect("a file");
    file
}

pub async fn kubectl_completes_commands_and_names(shared: &Shared) {
    let world = World::new(shared, "plugin-completion").await.by_address();
    world.apply("mparticle", json!({})).await;
    let output = run_kubectl(&["__complete", "forwarder", "st"], &[]).await;
    assert!(output.out.starts_with("status\tShow"), "{output:?}");
    let namespace = format!("--namespace={}", world.namespace);
    for command in ["status", "run", "suspend", "resume", "map", "dlq"] {
        let words = ["__complete", "forwarder", &namespace, command, "mp"];
        let output = run_kubectl(&words, &[]).await;
        assert!(
            output.out.starts_with("mparticle\n"),
            "{command}: {output:?}"
        );
    }
}
