//! `kubectl forwarder`, found by the real kubectl on its PATH.

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

const SAMPLE: &str = "01-session-and-screens-list-identities.json";

/// A folder that holds the program under the names that kubectl looks for.
static NAMES: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = env::temp_dir().join(format!("event-forwarder-plugin-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    for name in ["kubectl-forwarder", "kubectl_complete-forwarder"] {
        let _ = std::fs::remove_file(folder.join(name));
        symlink(env!("CARGO_BIN_EXE_event-forwarder"), folder.join(name)).expect("a link");
    }
    folder
});

/// What a command of the plugin printed and ended with.
#[derive(Debug)]
pub struct CommandOutput {
    pub out: String,
    pub error: String,
    pub code: i32,
}

/// Runs kubectl with the plugin on its PATH, and with these variables set.
async fn with_env(arguments: &[&str], variables: &[(&str, &Path)]) -> CommandOutput {
    let mut path = OsString::from(NAMES.as_os_str());
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
    with_env(&all, &[]).await
}

/// A forwarder that has a key and is ready.
async fn ready(shared: &Shared, name: &str) -> World {
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
    let world = ready(shared, "plugin-run").await;
    world.queue.send(&[sample(SAMPLE)]).await.expect("sending");
    let told = forwarder(&world, &["run", "mparticle", "--follow"]).await;
    assert_eq!(told.code, 0, "{told:?}");
    let job = jobs(&world).await[0].name_any();
    assert!(
        told.out.contains(&format!("Job {job} was started")),
        "{told:?}"
    );
    assert!(told.out.contains("Drained"), "{told:?}");
    assert!(told.out.contains("4 forwarded"), "{told:?}");
    assert_eq!(world.iterable.handle.events().len(), 4);

    let told = forwarder(&world, &["status", "mparticle"]).await;
    assert_eq!(told.code, 0, "{told:?}");
    let first = format!("✔ {}/mparticle is ready\n", world.namespace);
    assert!(
        told.out.starts_with(&first),
        "no colour in a pipe: {told:?}"
    );
    assert!(told.out.contains("UTC"), "the next run: {told:?}");
    assert!(told.out.contains("4 █"), "the bar of the run: {told:?}");
    assert!(told.out.contains("runs: 1;"), "the totals: {told:?}");

    let told = forwarder(&world, &["status"]).await;
    assert!(told.out.contains("✔ mparticle  Ready"), "{told:?}");
}

pub async fn failed_run_sets_exit_code(shared: &Shared) {
    let world = World::new(shared, "plugin-failed").await.by_address();
    world
        .secret("iterable", &[("api-key", "not-the-key")])
        .await;
    world.queue.send(&[sample(SAMPLE)]).await.expect("sending");
    world.apply("mparticle", json!({})).await;
    world
        .until::<CronJob>("mparticle", "the CronJob exists", |_| true)
        .await;
    let told = forwarder(&world, &["run", "mparticle", "--follow"]).await;
    assert_eq!(told.code, 21, "{told:?}");
    assert!(told.out.contains("KeyRefused"), "{told:?}");
    let told = forwarder(&world, &["status", "mparticle"]).await;
    assert!(
        told.out.contains("mparticle is not ready: KeyRefused"),
        "{told:?}"
    );
    assert!(told.out.contains("server-side key"), "the mend: {told:?}");
}

pub async fn blocked_run_prints_reason_and_fix(shared: &Shared) {
    let world = World::new(shared, "plugin-hindered").await.by_address();
    world.apply("mparticle", json!({})).await;
    world
        .status_until("mparticle", "the missing Secret is reported", |status| {
            condition(status, "SecretsAvailable").0 == "False"
        })
        .await;
    let told = forwarder(&world, &["run", "mparticle"]).await;
    assert_eq!(told.code, 47, "{told:?}");
    assert!(
        told.error
            .contains("kubectl create secret generic iterable"),
        "{told:?}"
    );
    let told = forwarder(&world, &["status", "mparticle"]).await;
    assert!(
        told.out.contains("kubectl create secret generic iterable"),
        "{told:?}"
    );
    assert!(jobs(&world).await.is_empty());
}

pub async fn suspend_and_resume_respect_manifest(shared: &Shared) {
    let world = ready(shared, "plugin-suspend").await;
    let suspended = async || {
        let api = world.api::<EventForwarder>();
        api.get("mparticle").await.expect("a get").spec.suspend
    };
    let told = forwarder(&world, &["suspend", "mparticle"]).await;
    assert_eq!((told.code, suspended().await), (0, true), "{told:?}");
    assert!(!told.out.contains("But"), "nobody else sets it: {told:?}");
    world
        .until::<CronJob>("mparticle", "the CronJob is suspended", |cronjob| {
            cronjob.spec.as_ref().and_then(|spec| spec.suspend) == Some(true)
        })
        .await;
    // A manifest that does not speak of it leaves it so.
    world
        .apply("mparticle", json!({"schedule": "0 0 2 1 *"}))
        .await;
    assert!(suspended().await);
    world
        .status_until("mparticle", "status says so", |status| {
            condition(status, "Ready").1 == "Suspended"
        })
        .await;
    let told = forwarder(&world, &["status", "mparticle"]).await;
    assert!(told.out.contains("mparticle is suspended"), "{told:?}");
    let told = forwarder(&world, &["run", "mparticle", "--follow"]).await;
    assert_eq!(told.code, 0, "one run by hand goes: {told:?}");
    assert!(told.out.contains("mparticle is suspended"), "{told:?}");

    let told = forwarder(&world, &["resume", "mparticle"]).await;
    assert_eq!((told.code, suspended().await), (0, false), "{told:?}");
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
        "the field is given up: {managed}"
    );

    // One that does speak of it wins, and the person is told.
    kubectl_apply(&world.manifest("mparticle", json!({"suspend": true})))
        .await
        .expect("kubectl apply");
    let told = forwarder(&world, &["resume", "mparticle"]).await;
    assert_eq!((told.code, suspended().await), (0, false), "{told:?}");
    assert!(told.out.contains("sets spec.suspend too"), "{told:?}");
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
    let file = format!("tests/samples/{SAMPLE}");
    let told = forwarder(&world, &["map", "mparticle", &file]).await;
    assert_eq!(told.code, 0, "{told:?}");
    assert_eq!(told.out.matches(r#""tier":"gold""#).count(), 4, "{told:?}");
    assert!(told.error.contains("4 forwarded"), "{told:?}");
}

pub async fn dlq_messages_are_listed_and_redriven(shared: &Shared) {
    let world = ready(shared, "plugin-letters").await;
    world.iterable.handle.forget_user("ada@example.com");
    world.queue.send(&[sample(SAMPLE)]).await.expect("sending");
    let told = forwarder(&world, &["run", "mparticle", "--follow"]).await;
    assert!(told.out.contains("1 dead-lettered"), "{told:?}");
    world
        .status_until("mparticle", "the letter is counted", |status| {
            status.queue.as_ref().and_then(|queue| queue.dead_letters) == Some(1)
        })
        .await;
    let told = forwarder(&world, &["status", "mparticle"]).await;
    assert!(told.out.contains("1 UserForgotten"), "{told:?}");
    let told = forwarder(&world, &["dlq", "mparticle", "list"]).await;
    assert!(told.out.contains("UserForgotten"), "{told:?}");
    let told = forwarder(&world, &["dlq", "mparticle", "redrive"]).await;
    assert_eq!(told.code, 0, "{told:?}");
    assert_eq!(world.queue.depth().await.expect("depth").visible, 1);
    assert_eq!(world.queue.dlq_depth().await.expect("depth").visible, 0);
}

pub async fn every_error_has_message_and_exit_code(shared: &Shared) {
    let world = World::new(shared, "plugin-obstacles").await.by_address();
    world.apply("mparticle", json!({})).await;
    let told = forwarder(&world, &["status", "mpartcle"]).await;
    assert_eq!(told.code, 45, "{told:?}");
    assert!(told.error.contains("Did you mean mparticle?"), "{told:?}");
    world
        .apply("of-this-namespace-alone", json!({"suspend": true}))
        .await;
    let told = with_env(
        &[
            "forwarder",
            "suspend",
            "of-this-namespace-alone",
            "-n",
            "kube-public",
        ],
        &[],
    )
    .await;
    assert_eq!(told.code, 45, "{told:?}");
    let there = format!("--namespace {}", world.namespace);
    assert!(told.error.contains(&there), "{told:?}");

    let folder = env::temp_dir().join(format!("event-forwarder-obstacles-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let told = with_env(
        &["forwarder", "status"],
        &[("KUBECONFIG", &folder.join("nowhere")), ("HOME", &folder)],
    )
    .await;
    assert_eq!(told.code, 40, "{told:?}");
    assert!(told.error.contains("Set KUBECONFIG"), "{told:?}");
    let told = forwarder(&world, &["status", "--context", "mars"]).await;
    assert_eq!(told.code, 40, "{told:?}");
    assert!(told.error.contains("mars"), "{told:?}");

    // A port that refuses, and one that takes connections and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent_port = silent.local_addr().expect("an address").port();
    for port in [1, silent_port] {
        let kubeconfig = kubeconfig(&folder, &format!("https://127.0.0.1:{port}"), "", json!({}));
        let told = with_env(
            &["forwarder", "status", "x"],
            &[("KUBECONFIG", &kubeconfig)],
        )
        .await;
        assert_eq!(told.code, 41, "{told:?}");
        assert!(
            told.error.contains(&format!("127.0.0.1:{port}")),
            "{told:?}"
        );
    }

    // Somebody who may do nothing, and somebody whom nobody knows.
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
    for (token, code, word) in [
        (token.trim(), 43, "you may not get EventForwarder"),
        ("no-such-token", 42, "does not know you"),
    ] {
        let kubeconfig = kubeconfig(&folder, &server, &authority, json!({"token": token}));
        let told = with_env(
            &["forwarder", "status", "mparticle", "-n", &world.namespace],
            &[("KUBECONFIG", &kubeconfig)],
        )
        .await;
        assert_eq!(told.code, code, "{told:?}");
        assert!(told.error.contains(word), "{told:?}");
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
    let told = with_env(&["__complete", "forwarder", "st"], &[]).await;
    assert!(told.out.starts_with("status\tShow"), "{told:?}");
    let namespace = format!("--namespace={}", world.namespace);
    for command in ["status", "run", "suspend", "resume", "map", "dlq"] {
        let words = ["__complete", "forwarder", &namespace, command, "mp"];
        let told = with_env(&words, &[]).await;
        assert!(told.out.starts_with("mparticle\n"), "{command}: {told:?}");
    }
}
