//! A user's installation, as our docs name it, beside which the suite and the demo run: both must
//! leave it as it is.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

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
    world::{CHART, Shared, apply_json, attempt, eventually, gone, helm, image, kubectl},
};

/// The tests that need the installation.
pub const TESTS: [&str; 2] = [
    "scene::the_demo_leaves_all_that_it_has_not_made",
    "scene::what_users_have_survives_the_suite",
];
/// The names of our docs.
const RELEASE: &str = "event-forwarder";
const SYSTEM: &str = "event-forwarder-system";
const MARKETING: &str = "marketing";
/// The image of the user's runs, by which another operator's work would show.
const IMAGE: &str = "registry.example.com/event-forwarder:1";
/// The label of the scene's namespaces: a scene that a killed run left is not a user's.
const SCENE: &str = "event-forwarder-e2e-scene";
/// The label of all that the demo creates.
const DEMO: &str = "app.kubernetes.io/part-of=event-forwarder-demo";

/// Creates the user's installation, if the cluster has none of it.
pub async fn set(client: &Client) -> bool {
    let namespaces = Api::<Namespace>::all(client.clone());
    let crds = Api::<CustomResourceDefinition>::all(client.clone());
    let mut taken = crds.get_opt(CRD).await.expect("a get").is_some();
    for name in [SYSTEM, MARKETING] {
        taken |= namespaces.get_opt(name).await.expect("a get").is_some();
    }
    if taken {
        eprintln!(
            "skipped: a user's installation beside the tests, because the cluster has something of its names"
        );
        return false;
    }
    for name in [SYSTEM, MARKETING] {
        apply_json(
            client,
            json!({
                "apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": name, "labels": {PART_OF: SCENE}},
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
            "stringData": {"api-key": "the-users-own-key"},
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

/// Installs or upgrades the user's release, of a chart whose CRD is older than ours, to manage these
/// namespaces, or all of them.
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

/// A copy of the chart, with the image of the user's runs and without a field of the CRD.
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
    let selector = format!("{PART_OF}={SCENE}");
    let labelled = ListParams::default().labels(&selector);
    let labelled = namespaces.list(&labelled).await.expect("namespaces").items;
    if !labelled.iter().any(|it| it.name_any() == SYSTEM) {
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
        gone(&crds, CRD).await;
    }
}

/// What must stay as it is, by object and field.
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
                // Its fields are all null then.
                Err(_) => Value::Null,
            };
            for path in [&["/metadata/uid"], paths].concat() {
                let field = format!("{kind} {name}{path}");
                fields.insert(field, object.pointer(path).cloned().unwrap_or_default());
            }
        }
        for what in ["manifest", "values", "metadata"] {
            let shown = ["get", what, RELEASE, "--namespace", SYSTEM];
            let shown = attempt("helm", &shown).await;
            let shown = shown.unwrap_or_else(|error| error);
            fields.insert(format!("release {what}"), json!(shown));
        }
        Self(fields)
    }

    /// Checks that nothing has changed since.
    pub async fn assert_survived(&self, what: &str) {
        for (field, value) in &self.0 {
            let exists = !field.ends_with("/metadata/uid") || !value.is_null();
            assert!(exists, "{field}: the object did not exist before");
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
            "{what} has changed what is the user's:\n{}",
            changed.join("\n")
        );
    }
}

fn is_demo_up() -> bool {
    let files = std::fs::read_dir("target/demo").into_iter().flatten();
    let mut files = files.flatten().map(|file| file.path());
    files.any(|file| {
        let is_process = file.extension().is_some_and(|it| it == "pid");
        let id = std::fs::read_to_string(&file).unwrap_or_default();
        is_process && Path::new("/proc").join(id.trim()).exists()
    })
}

/// The demo uses nothing of the tests beside which it runs.
pub async fn the_demo_leaves_all_that_it_has_not_made(_: &Shared) {
    if is_demo_up() {
        return eprintln!("skipped: demo/up and demo/down, because the demo of this checkout runs");
    }
    let before = Snapshot::take().await;
    let refused = demo("up", false).await;
    let said = refused.expect_err("the demo runs without the variable");
    assert!(said.contains("release event-forwarder in"), "{said}");
    assert!(said.contains(&format!("set {SHARE}=yes")), "{said}");
    before.assert_survived("demo/up without the variable").await;
    let said = demo("up", true)
        .await
        .unwrap_or_else(|said| panic!("demo/up: {said}"));
    before.assert_survived("demo/up").await;
    let hints: Vec<_> = hints(&said).collect();
    assert!(hints.len() >= 4, "{said}");
    for hint in hints {
        attempt("bash", &["-c", hint])
            .await
            .unwrap_or_else(|said| panic!("{hint}: {said}"));
    }
    demo("down", true)
        .await
        .unwrap_or_else(|said| panic!("demo/down: {said}"));
    let kinds = "namespaces,crds,clusterroles,clusterrolebindings";
    let left = kubectl(&["get", kinds, "--selector", DEMO, "--output", "name"]).await;
    assert_eq!(left, "", "demo/down has left this");
    assert!(!Path::new("target/demo").exists(), "demo/down has left it");
    before.assert_survived("demo/down").await;
}

/// The last test beside the user's installation.
pub async fn what_users_have_survives_the_suite(shared: &Shared) {
    let before = shared.users.as_ref().expect("a user's installation");
    let client = &shared.client;
    sharing::clean_up(client).await;
    before.assert_survived("the suite").await;

    let set = format!("set {SHARE}=yes");
    let named = [
        CRD,
        "release event-forwarder in namespace event-forwarder-system",
    ];
    assert_refused(client, false, &[&named[..], &[&set]].concat()).await;
    sharing::preflight(client, true)
        .await
        .expect("a permission");
    kubectl(&["create", "namespace", sharing::SYSTEM]).await;
    assert_refused(client, true, &["namespace event-forwarder-e2e-system"]).await;
    kubectl(&["delete", "namespace", sharing::SYSTEM]).await;

    // No field of the CRD has another owner now, so the next upgrade meets no conflict.
    upgrade(&[]).await;
    let all = "manages the EventForwarders of all namespaces";
    assert_refused(client, true, &[named[1], all]).await;
    remove(client).await;
}

/// Checks that the suite would stop here, with one sentence.
async fn assert_refused(client: &Client, allowed: bool, parts: &[&str]) {
    let refused = sharing::preflight(client, allowed).await;
    let sentence = refused.expect_err("a refusal").to_string();
    for part in parts {
        assert!(sentence.contains(part), "{part} is not in: {sentence}");
    }
    assert!(!sentence.contains(['\n', ';']), "{sentence}");
}

/// The commands that demo/up prints at its end.
fn hints(said: &str) -> impl Iterator<Item = &str> {
    said.lines()
        .skip_while(|line| !line.ends_with("Try:"))
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .map(str::trim)
}

/// Runs a script of the demo on this cluster, and returns what it printed.
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
        .map_err(|_| format!("demo/{script} has not ended after 600 s"))?
        .map_err(|error| error.to_string())?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    output.status.success().then(|| said.clone()).ok_or(said)
}
