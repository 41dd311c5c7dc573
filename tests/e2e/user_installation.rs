//! A user's installation with the names from the docs. The suite and the demo run beside it and
//! must not change it.

use std::{
    collections::BTreeMap,
    env,
    panic::{AssertUnwindSafe, resume_unwind},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use futures::FutureExt;
use k8s_openapi::{
    api::core::v1::Namespace,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams},
};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    sharing::{self, CRD, PART_OF, SHARE},
    world::{
        CHART, Shared, apply_json, attempt, eventually, helm, image, kubectl, wait_until_deleted,
    },
};

/// The tests that need the installation.
pub const TESTS: [&str; 2] = [
    "user_installation::demo_changes_no_user_objects",
    "user_installation::suite_changes_no_user_objects",
];
/// The release name in the docs.
const RELEASE: &str = "event-forwarder";
const SYSTEM: &str = "event-forwarder-system";
const MARKETING: &str = "marketing";
/// The image of the user's runs. It differs from the suite's image, so changes by the suite's
/// operator are visible.
const IMAGE: &str = "registry.example.com/event-forwarder:1";
/// The label of the namespaces, to recognize those that a killed run left behind.
const SCENE_LABEL: &str = "event-forwarder-e2e-scene";
/// The label of all objects that the demo creates.
const DEMO: &str = "app.kubernetes.io/part-of=event-forwarder-demo";

/// Creates the user's installation. Returns false if the cluster has an object with one of its
/// names.
pub async fn install(client: &Client) -> bool {
    let namespaces = Api::<Namespace>::all(client.clone());
    let crds = Api::<CustomResourceDefinition>::all(client.clone());
    let mut is_occupied = crds.get_opt(CRD).await.expect("a get").is_some();
    for name in [SYSTEM, MARKETING] {
        is_occupied |= namespaces.get_opt(name).await.expect("a get").is_some();
    }
    if is_occupied {
        eprintln!(
            "skipped: a user's installation beside the tests, because the cluster has objects with its names"
        );
        return false;
    }
    for name in [SYSTEM, MARKETING] {
        apply_json(
            client,
            json!({
                "apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": name, "labels": {PART_OF: SCENE_LABEL}},
            }),
        )
        .await;
    }
    upgrade(&[MARKETING]).await;
    apply_json(
        client,
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "iterable", "namespace": MARKETING},
            "stringData": {"api-key": "the-users-key"},
        }),
    )
    .await;
    let example = include_str!("../../examples/eventforwarder.yaml");
    let mut forwarder: Value = serde_saphyr::from_str(example).expect("the example");
    forwarder["metadata"]["namespace"] = json!(MARKETING);
    forwarder["spec"]["suspend"] = json!(true);
    apply_json(client, forwarder).await;
    eventually("the user's operator has created its CronJob", async || {
        let get = ["get", "cronjobs", "--namespace", MARKETING, "--output"];
        let image = "jsonpath={.items[*].spec.jobTemplate.spec.template.spec.containers[0].image}";
        let image = kubectl(&[&get[..], &[image]].concat()).await;
        (image == IMAGE, image)
    })
    .await;
    true
}

/// Installs or upgrades the user's release from [`older_chart`].
///
/// `watched` are the namespaces to manage. If it is empty, the release manages all namespaces.
async fn upgrade(watched: &[&str]) {
    let chart = older_chart().await;
    let (repository, tag) = image().expect("the image");
    helm(&[
        "upgrade",
        "--install",
        RELEASE,
        &chart.to_string_lossy(),
        "--namespace",
        SYSTEM,
        "--set",
        &format!("image.repository={repository},image.tag={tag},replicas=1"),
        "--set-json",
        &format!("watchNamespaces={}", json!(watched)),
        "--wait",
        "--timeout",
        "120s",
    ])
    .await;
    let _ = std::fs::remove_dir_all(&chart);
}

/// Creates a copy of the chart with the image of the user's runs, and without one field of the CRD.
async fn older_chart() -> PathBuf {
    let copy = env::temp_dir().join(format!("event-forwarder-e2e-{}-chart", std::process::id()));
    let _ = std::fs::remove_dir_all(&copy);
    attempt("cp", &["-r", CHART, &copy.to_string_lossy()])
        .await
        .expect("a copy of the chart");
    let edit = |file: &str, from: &str, until: &str, with: &str| {
        let file = copy.join(file);
        let text = std::fs::read_to_string(&file).expect("a file of the chart");
        let start = text.find(from).expect(from);
        let end = start + text[start..].find(until).expect(until);
        let text = [&text[..start], with, &text[end..]].concat();
        std::fs::write(&file, text).expect("a file of the chart");
    };
    let (newer, next) = (" lastRunRequest:\n", " lastSuccessTime:\n");
    edit("files/crd.yaml", newer, next, "");
    let value = "value: {{ $image | quote }}";
    let with = format!("value: {IMAGE}");
    edit("templates/deployment.yaml", value, "\n", &with);
    copy
}

/// Removes the installation.
pub async fn remove(client: &Client) {
    let namespaces = Api::<Namespace>::all(client.clone());
    let selector = format!("{PART_OF}={SCENE_LABEL}");
    let labeled = ListParams::default().labels(&selector);
    let labeled = namespaces.list(&labeled).await.expect("namespaces").items;
    if !labeled.iter().any(|it| it.name_any() == SYSTEM) {
        return;
    }
    let uninstall = ["uninstall", RELEASE, "--namespace", SYSTEM];
    helm(&[&uninstall[..], &["--ignore-not-found", "--wait"]].concat()).await;
    let delete = ["delete", "namespaces", "--selector", &selector];
    kubectl(&[&delete[..], &["--timeout", "180s"]].concat()).await;
    let crds = Api::<CustomResourceDefinition>::all(client.clone());
    if crds.get_opt(CRD).await.expect("a get").is_some_and(|crd| {
        let release = crd.annotations().get("meta.helm.sh/release-name");
        release.is_some_and(|release| release == RELEASE)
    }) {
        crds.delete(CRD, &DeleteParams::default())
            .await
            .expect("deleting the CRD");
        wait_until_deleted(&crds, CRD).await;
    }
}

/// The fields that must not change, by object and path.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot(BTreeMap<String, Value>);

impl Snapshot {
    /// Records the user's objects.
    pub async fn take() -> Self {
        let mut fields = BTreeMap::new();
        let (spec, version) = ("/spec", "/metadata/resourceVersion");
        let (labels, owners) = ("/metadata/labels", "/metadata/managedFields");
        for (kind, namespace, name, paths) in [
            (
                "crd",
                "",
                CRD,
                [labels, "/metadata/annotations", owners, spec].as_slice(),
            ),
            ("namespace", "", SYSTEM, &[labels]),
            ("namespace", "", MARKETING, &[labels]),
            ("secret", MARKETING, "iterable", &["/data", version]),
            ("eventforwarder", MARKETING, "mparticle", &[labels, spec]),
            ("cronjob", MARKETING, "mparticle", &[spec, version]),
            ("role", MARKETING, RELEASE, &[version]),
            ("deployment", SYSTEM, RELEASE, &[spec]),
            ("serviceaccount", SYSTEM, RELEASE, &[version]),
        ] {
            let mut get = vec![
                "get",
                kind,
                name,
                "--output",
                "json",
                "--show-managed-fields",
            ];
            if !namespace.is_empty() {
                get.extend(["--namespace", namespace]);
            }
            let object = match attempt("kubectl", &get).await {
                Ok(object) => serde_json::from_str(&object).expect("JSON"),
                // The object does not exist, so all its fields are null.
                Err(_) => Value::Null,
            };
            for path in [&["/metadata/uid"], paths].concat() {
                let field = format!("{kind} {name}{path}");
                fields.insert(field, object.pointer(path).cloned().unwrap_or_default());
            }
        }
        for part in ["manifest", "values", "metadata"] {
            let get = ["get", part, RELEASE, "--namespace", SYSTEM];
            let text = attempt("helm", &get).await;
            let text = text.unwrap_or_else(|error| error);
            fields.insert(format!("release {part}"), json!(text));
        }
        Self(fields)
    }

    /// Checks that all objects exist and that no field has changed since this snapshot.
    pub async fn assert_unchanged(&self, cause: &str) {
        for (field, value) in &self.0 {
            let exists = !field.ends_with("/metadata/uid") || !value.is_null();
            assert!(exists, "{field}: the object is not in the snapshot");
        }
        let now = Self::take().await;
        let changed: Vec<_> = self
            .0
            .iter()
            .filter(|(field, value)| now.0.get(*field) != Some(value))
            .map(|(field, value)| format!("{field}: {value}, now {:?}", now.0.get(field)))
            .collect();
        assert!(
            changed.is_empty(),
            "{cause} has changed the user's objects:\n{}",
            changed.join("\n")
        );
    }
}

fn is_demo_up() -> bool {
    let kubeconfig = env::var("KUBECONFIG").unwrap_or_default();
    if Path::new(&format!("{kubeconfig}.demo")).exists() {
        return true;
    }
    let files = std::fs::read_dir("target/demo").into_iter().flatten();
    let mut files = files.flatten().map(|file| file.path());
    files.any(|file| {
        let is_process = file.extension().is_some_and(|it| it == "pid");
        let id = std::fs::read_to_string(&file).unwrap_or_default();
        is_process && Path::new("/proc").join(id.trim()).exists()
    })
}

pub async fn demo_changes_no_user_objects(_: &Shared) {
    if is_demo_up() {
        return eprintln!(
            "skipped: demo/up and demo/down, because the demo of this checkout is running"
        );
    }
    let before = Snapshot::take().await;
    let result = AssertUnwindSafe(use_demo(&before)).catch_unwind().await;
    // Also after a failure, because the demo's objects would fail other tests.
    let removed = demo("down", true).await;
    if let Err(panic) = result {
        eprintln!("demo/down: {removed:?}");
        resume_unwind(panic);
    }
    removed.unwrap_or_else(|output| panic!("demo/down: {output}"));
    let kinds = "namespaces,crds,clusterroles,clusterrolebindings";
    let remaining = kubectl(&["get", kinds, "--selector", DEMO, "--output", "name"]).await;
    assert_eq!(
        remaining, "",
        "demo/down must delete all objects of the demo"
    );
    assert!(!Path::new("target/demo").exists(), "target/demo exists");
    before.assert_unchanged("demo/down").await;
}

/// Starts the demo, and runs the commands that it prints.
async fn use_demo(before: &Snapshot) {
    let rejected = demo("up", false).await;
    let output = rejected.expect_err("demo/up must fail without the variable");
    assert!(output.contains("release event-forwarder in"), "{output}");
    assert!(output.contains(&format!("set {SHARE}=yes")), "{output}");
    before
        .assert_unchanged("demo/up without the variable")
        .await;
    let output = demo("up", true)
        .await
        .unwrap_or_else(|output| panic!("demo/up: {output}"));
    before.assert_unchanged("demo/up").await;
    let hints: Vec<_> = hints(&output).collect();
    assert!(hints.len() >= 4, "{output}");
    for hint in hints {
        attempt("bash", &["-c", hint])
            .await
            .unwrap_or_else(|error| panic!("{hint}: {error}"));
    }
}

/// Runs as the last test beside the user's installation, and removes it.
pub async fn suite_changes_no_user_objects(shared: &Shared) {
    let before = shared.users.as_ref().expect("a user's installation");
    let client = &shared.client;
    sharing::clean_up(client).await;
    before.assert_unchanged("the suite").await;

    let hint = format!("set {SHARE}=yes");
    let objects = [
        CRD,
        "release event-forwarder in namespace event-forwarder-system",
    ];
    assert_preflight_fails(client, false, &[&objects[..], &[&hint]].concat()).await;
    sharing::preflight(client, true)
        .await
        .expect("the preflight passes");
    kubectl(&["create", "namespace", sharing::SYSTEM]).await;
    assert_preflight_fails(client, true, &["namespace event-forwarder-e2e-system"]).await;
    kubectl(&["delete", "namespace", sharing::SYSTEM]).await;

    // All fields of the CRD have their previous owner, so this upgrade has no conflict.
    upgrade(&[]).await;
    let all = "manages the EventForwarders of all namespaces";
    assert_preflight_fails(client, true, &[objects[1], all]).await;
    remove(client).await;
}

/// Checks that the preflight fails with a one-sentence error that contains these parts.
async fn assert_preflight_fails(client: &Client, allowed: bool, parts: &[&str]) {
    let result = sharing::preflight(client, allowed).await;
    let error = result.expect_err("an error").to_string();
    for part in parts {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    assert!(!error.contains(['\n', ';']), "{error}");
}

/// Returns the commands at the end of demo/up's output.
fn hints(output: &str) -> impl Iterator<Item = &str> {
    output
        .lines()
        .skip_while(|line| !line.ends_with("Try:"))
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .map(str::trim)
}

/// Runs a script of the demo on this cluster. Returns its output, as an error if it fails.
async fn demo(script: &str, allowed: bool) -> Result<String, String> {
    let mut command = Command::new(format!("demo/{script}"));
    command
        .env_remove(SHARE)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    if allowed {
        command.env(SHARE, "yes");
    }
    let output = tokio::time::timeout(Duration::from_secs(600), command.output())
        .await
        .map_err(|_| format!("demo/{script} did not end within 600 s"))?
        .map_err(|error| error.to_string())?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    output.status.success().then(|| text.clone()).ok_or(text)
}
