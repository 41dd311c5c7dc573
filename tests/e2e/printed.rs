//! Runs the commands that the project prints, unchanged, in bash. The tests prepare what the
//! commands use: files in the working folder, a context with the test's namespace, and forwarders
//! with the printed names.

#[path = "../printed/extract.rs"]
#[expect(dead_code, reason = "only tests/printed uses all functions")]
mod extract;
#[path = "../printed/table.rs"]
mod table;

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use event_forwarder::api::EventForwarder;
use extract::Printed;
use k8s_openapi::{
    api::{batch::v1::CronJob, core::v1::Secret},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{Api, Client, ResourceExt, api::DeleteParams};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time::Instant,
};

use crate::world::{
    API_KEY, CHART, Shared, World, apply_json, condition, eventually, helm, kubectl,
    wait_until_deleted,
};

const CRD: &str = "eventforwarders.eventforwarder.io";
/// A field that the older CRD lacks.
const FIELD: &str = "lastRunRequest";
/// Maximum duration of a printed command, and of its retries while a run is in progress.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(120);

/// A working folder with the files that printed commands use.
struct Shell {
    folder: PathBuf,
    kubeconfig: PathBuf,
}

/// The output and exit code of a command.
#[derive(Debug)]
struct CommandOutput {
    out: String,
    error: String,
    code: i32,
}

impl Shell {
    /// Creates a folder with links to the project's files, a folder for changed examples, and a
    /// context with this namespace.
    async fn new(name: &str, namespace: &str) -> Self {
        let folder =
            env::temp_dir().join(format!("event-forwarder-e2e-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("examples/kustomize")).expect("a folder");
        let project = Path::new(env!("CARGO_MANIFEST_DIR"));
        for part in ["charts", "crds", "deploy", "docs", "tests"] {
            symlink(project.join(part), folder.join(part)).expect("a link");
        }
        symlink(
            env!("CARGO_BIN_EXE_event-forwarder"),
            folder.join("event-forwarder"),
        )
        .expect("a link");
        fs::write(folder.join("FILE-WITH-THE-KEY"), API_KEY).expect("a file");
        let kubeconfig = folder.join("kubeconfig");
        let config = kubectl(&["config", "view", "--raw", "--flatten"]).await;
        fs::write(&kubeconfig, config).expect("a file");
        let shell = Self { folder, kubeconfig };
        let context = format!("kubectl config set-context --current --namespace={namespace}");
        shell.succeeds(&context).await;
        shell
    }

    /// Copies an example into the folder, with replacements.
    fn example(&self, path: &str, replacements: &[(&str, &str)]) {
        let mut text = fs::read_to_string(path).expect(path);
        for (from, to) in replacements {
            assert!(text.contains(from), "{path} does not contain {from}");
            text = text.replace(from, to);
        }
        fs::write(self.folder.join(path), text).expect("a file");
    }

    async fn bash(&self, command: &str) -> CommandOutput {
        let path = env::var("PATH").unwrap_or_default();
        let output = Command::new("bash")
            .args(["-c", command])
            .current_dir(&self.folder)
            .env("PATH", format!("{}:{path}", self.folder.display()))
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(COMMAND_TIMEOUT, output)
            .await
            .unwrap_or_else(|_| panic!("{command} did not end within {COMMAND_TIMEOUT:?}"))
            .expect("bash");
        CommandOutput {
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            error: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code().unwrap_or(-1),
        }
    }

    async fn succeeds(&self, command: &str) -> CommandOutput {
        let output = self.bash(command).await;
        assert_eq!(output.code, 0, "{command}: {output:?}");
        output
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Returns the commands that the table assigns to this test.
fn commands_of(test: &str, printed: Vec<Printed>) -> Vec<Printed> {
    printed
        .into_iter()
        .filter(|printed| table::row_of(printed).is_some_and(|(.., tests)| tests.contains(&test)))
        .collect()
}

/// Returns the commands of a document that match a pattern.
///
/// # Panics
/// If no command matches.
fn commands_like(document: &str, pattern: &str) -> Vec<String> {
    let text = fs::read_to_string(document).expect(document);
    let printed = extract::markdown(document, &text).into_iter();
    let found: Vec<_> = printed
        .map(|printed| printed.command)
        .filter(|command| table::matches_pattern(pattern, command))
        .collect();
    assert!(!found.is_empty(), "{document} has no {pattern}");
    found
}

// ---- NOTES ------------------------------------------------------------------------------------

pub async fn commands_in_notes_run(shared: &Shared) {
    let world = World::new(shared, "notes").await;
    let shell = Shell::new("notes", &world.namespace).await;
    let printed = helm(&[
        "install",
        "event-forwarder-notes",
        CHART,
        "--dry-run=client",
        "--set=image.repository=registry.example.com/event-forwarder",
        "--set-json",
        &format!("watchNamespaces={}", json!([world.namespace])),
    ])
    .await;
    let (_, notes) = printed.split_once("NOTES:\n").expect("notes");
    let commands = extract::notes("NOTES", notes);
    assert!(commands.len() >= 6, "{commands:?}");
    for Printed { command, .. } in commands {
        // These commands would delete objects of other tests or of the cluster's owner.
        let command = match command.starts_with("kubectl delete ") {
            true => format!("{command} --dry-run=server"),
            false => command,
        };
        shell.succeeds(&command).await;
    }
    let secret = world.api::<Secret>().get("iterable").await;
    let data = secret.expect("the Secret").data.unwrap_or_default();
    assert_eq!(data["api-key"].0, API_KEY.as_bytes());
    let forwarders = world.api::<EventForwarder>();
    let forwarder = forwarders.get("mparticle").await.expect("the forwarder");
    assert_eq!(forwarder.spec.schedule, "0 * * * *");
    forwarders
        .delete("mparticle", &DeleteParams::default())
        .await
        .expect("deleting it");
}

// ---- documents --------------------------------------------------------------------------------

pub async fn commands_in_documentation_run(shared: &Shared) {
    const TEST_NAME: &str = "printed::commands_in_documentation_run";
    let world = World::new(shared, "printed").await.by_address();
    let shell = Shell::new("printed", &world.namespace).await;
    let batch = "tests/samples/01-session-and-screens-list-identities.json";
    fs::copy(batch, shell.folder.join("batch.json")).expect("a file");
    // The queue in the example does not exist.
    let manifest = world.manifest("mparticle", json!({"schedule": "0 * * * *"}));
    let example = shell.folder.join("examples/eventforwarder.yaml");
    fs::write(example, manifest.to_string()).expect("a file");
    for name in ["android", "ios", "partner"] {
        world.apply(name, json!({"schedule": "0 * * * *"})).await;
    }
    let own_key = json!({"iterable": {"apiKeySecretRef": {"name": "iterable-web"}}});
    world.apply("web", own_key).await;
    wait_for_missing_secret(&world).await;

    let mut run = Vec::new();
    for document in extract::documents() {
        let text = fs::read_to_string(&document).expect("a document");
        for printed in commands_of(TEST_NAME, extract::markdown(&document, &text)) {
            let here = |text: &str| text.replace("marketing", &world.namespace);
            let command = here(&printed.command)
                .replace("NAMESPACE", &world.namespace)
                .replace("NAME", "mparticle")
                .replace("FILE...", "batch.json");
            if run.contains(&command) {
                continue;
            }
            let expected = printed.output.as_deref().map(here).unwrap_or_default();
            if expected.contains("Secret iterable-web not found") {
                shell
                    .succeeds("kubectl delete secret iterable-web --ignore-not-found")
                    .await;
                wait_for_missing_secret(&world).await;
            }
            let output = run_when_idle(&shell, &command).await;
            let is_error = expected.starts_with("error:");
            assert_eq!(
                output.code != 0,
                is_error,
                "{}: {command}: {output:?}",
                printed.at
            );
            if is_error {
                assert_eq!(output.error, expected, "{}: {command}", printed.at);
            } else if has_fixed_output(&command) && !expected.is_empty() {
                // Whitespace in empty lines differs between versions of kubectl.
                let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
                assert_eq!(
                    words(&(output.out + &output.error)),
                    words(&expected),
                    "{}: {command}",
                    printed.at
                );
            }
            run.push(command);
        }
    }
    assert!(run.len() > 30, "{run:#?}");
}

pub async fn commands_in_messages_run(shared: &Shared) {
    // Replaces every variable in the extracted commands.
    const NAME: &str = "sample";
    let world = World::new(shared, "messages").await.by_address();
    let shell = Shell::new("messages", &world.namespace).await;
    world.create_key_secret().await;
    world.apply(NAME, json!({})).await;
    world
        .until::<CronJob>(NAME, "the CronJob exists", |_| true)
        .await;
    shell
        .succeeds("kubectl create job sample --from=cronjob/sample")
        .await;
    let (repository, tag) = image();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": NAME, "namespace": world.namespace},
        "spec": {
            "restartPolicy": "Never",
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": NAME, "image": format!("{repository}:{tag}"), "args": ["crd"],
                "securityContext": {
                    "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
                },
            }],
        },
    });
    apply_json(&world.client, pod).await;
    let plugin = "ln -s event-forwarder kubectl-forwarder";
    shell.succeeds(plugin).await;

    let mut commands: Vec<_> = commands_of("printed::commands_in_messages_run", extract::program())
        .into_iter()
        .map(|printed| {
            let here = format!(" {}", world.namespace);
            printed
                .command
                .replace(" --namespace sample", &format!(" --namespace{here}"))
                .replace(" -n sample", &format!(" -n{here}"))
        })
        .collect();
    // Commands that delete objects come last.
    commands.sort_by_key(|command| command.starts_with("kubectl delete "));
    commands.dedup();
    for command in &commands {
        if command.starts_with("kubectl delete job ") {
            let recreate =
                "kubectl get job sample || kubectl create job sample --from=cronjob/sample";
            shell.succeeds(recreate).await;
        }
        shell.succeeds(command).await;
    }
    assert!(commands.len() > 10, "{commands:#?}");
}

async fn wait_for_missing_secret(world: &World) {
    world
        .status_until("web", "its missing Secret is reported", |status| {
            condition(status, "SecretsAvailable").0 == "False"
        })
        .await;
}

/// Returns whether a command's output does not depend on times, names or addresses.
fn has_fixed_output(command: &str) -> bool {
    [
        "kubectl explain ",
        "kubectl forwarder map ",
        "kubectl forwarder suspend ",
        "kubectl forwarder resume ",
    ]
    .iter()
    .any(|same| command.starts_with(same))
}

/// Runs a command. Retries it while a run in progress blocks it.
async fn run_when_idle(shell: &Shell, command: &str) -> CommandOutput {
    const IN_PROGRESS: &str = "on the same queue";
    let deadline = Instant::now() + COMMAND_TIMEOUT;
    loop {
        let output = shell.bash(command).await;
        let is_blocked =
            output.error.contains(IN_PROGRESS) || output.error.contains("has been waiting");
        if output.code != 47 || !is_blocked || Instant::now() > deadline {
            return output;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

// ---- the CRD ----------------------------------------------------------------------------------

pub async fn printed_command_updates_older_crd(shared: &Shared) {
    const RELEASE: &str = "older-event-forwarder";
    const NAMESPACE: &str = "older";
    remove_installation(shared).await;
    let shell = Shell::new("older", NAMESPACE).await;
    let older = shell.folder.join("older.yaml");
    fs::write(&older, older_crd()).expect("a file");
    let chart = shell.folder.join("older-chart");
    copy(Path::new(CHART), &chart);
    fs::write(chart.join("files/crd.yaml"), older_crd()).expect("a file");
    let install = format!(
        "helm install {RELEASE} older-chart --namespace {NAMESPACE} --create-namespace --set replicas=0,image.repository=localhost/none"
    );
    let uninstall = format!("helm uninstall {RELEASE} --namespace {NAMESPACE} --wait");
    let apply = "kubectl apply --server-side --force-conflicts -f crds/";
    let upgrade = format!(
        "helm upgrade {RELEASE} charts/event-forwarder --namespace {NAMESPACE} --reset-then-reuse-values --set crds.install=true"
    );
    let ways = [
        (install.as_str(), upgrade.as_str()),
        ("kubectl apply --server-side -f older.yaml", apply),
        ("kubectl apply -f older.yaml", apply),
        ("kubectl create -f older.yaml", apply),
    ];
    for (way, expected) in ways {
        delete_crd(&shared.client).await;
        shell.succeeds(way).await;
        let printed = commands_logged_by_controller(&shell).await;
        assert_eq!(printed[0], expected, "after {way}");
        shell.succeeds(&printed[0]).await;
        assert!(has_field(&shared.client).await, "after {way}");
        if way == install {
            // Helm still owns the fields, so the next upgrade has no conflict.
            shell.succeeds(&upgrade).await;
            // After another manager has changed the fields, the command owns them again.
            let force = format!("{apply} && {apply}").replace("crds/", "older.yaml");
            shell.succeeds(&force).await;
            let printed = commands_logged_by_controller(&shell).await;
            assert_eq!(printed[0], format!("{upgrade} --force-conflicts"));
            shell.succeeds(&printed[0]).await;
            assert!(has_field(&shared.client).await, "{printed:?}");
            shell.succeeds(&upgrade).await;
            // If the release was uninstalled, the second printed command works.
            shell.succeeds(&uninstall).await;
            shell
                .succeeds(&format!("{apply} && {apply}").replace("crds/", "older.yaml"))
                .await;
            assert!(!has_field(&shared.client).await);
            let printed = commands_logged_by_controller(&shell).await;
            assert_eq!(printed, [&format!("{upgrade} --force-conflicts"), apply]);
            assert_ne!(shell.bash(&printed[0]).await.code, 0);
            shell.succeeds(&printed[1]).await;
            assert!(has_field(&shared.client).await, "after {uninstall}");
        }
    }
    restore_crd(shared).await;
}

/// Returns the CRD without one field of the status.
fn older_crd() -> String {
    let crd = fs::read_to_string("crds/eventforwarder.yaml").expect("the CRD");
    let mut crd: Value = serde_saphyr::from_str(&crd).expect("YAML");
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
        .as_object_mut()
        .and_then(|fields| fields.remove(FIELD))
        .expect("the field");
    crd.to_string()
}

async fn has_field(client: &Client) -> bool {
    let crds = Api::<CustomResourceDefinition>::all(client.clone());
    let crd = serde_json::to_string(&crds.get(CRD).await.expect("the CRD").spec);
    crd.expect("JSON").contains(FIELD)
}

/// Uninstalls the suite's release, if it is installed, and deletes the CRD.
async fn remove_installation(shared: &Shared) {
    if !helm(&["list", "--all-namespaces", "--short"])
        .await
        .is_empty()
    {
        shared.uninstall().await;
    }
    delete_crd(&shared.client).await;
}

async fn delete_crd(client: &Client) {
    let crds = Api::<CustomResourceDefinition>::all(client.clone());
    let _ = crds.delete(CRD, &DeleteParams::default()).await;
    wait_until_deleted(&crds, CRD).await;
}

/// Returns the commands that a controller logs for an older CRD.
async fn commands_logged_by_controller(shell: &Shell) -> Vec<String> {
    let published = "/openapi/v3/apis/eventforwarder.io/v1alpha1";
    eventually("the older CRD is published", async || {
        let output = shell.bash(&format!("kubectl get --raw {published}")).await;
        let [kept, removed] = ["recentRuns", FIELD].map(|it| output.out.contains(it));
        (kept && !removed, output.code)
    })
    .await;
    let mut controller = Command::new(env!("CARGO_BIN_EXE_event-forwarder"))
        .args([
            "controller",
            "--image=localhost/none:1",
            "--listen=127.0.0.1:0",
        ])
        .env("KUBECONFIG", &shell.kubeconfig)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the controller starts");
    let log = controller.stderr.take().expect("its log");
    let mut lines = BufReader::new(log).lines();
    let found = async {
        loop {
            let line = lines.next_line().await.expect("a log").expect("a line");
            if line.contains("is older than this controller") {
                return line;
            }
        }
    };
    let line = tokio::time::timeout(COMMAND_TIMEOUT, found)
        .await
        .expect("the controller logs the older CRD");
    assert!(line.contains(&format!("status.{FIELD}")), "{line}");
    let _ = controller.kill().await;
    line.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// Restores the CRD that the suite's release installs.
async fn restore_crd(shared: &Shared) {
    delete_crd(&shared.client).await;
    shared.install().await.expect("the operator");
    shared.uninstall().await;
}

// ---- uninstalling -----------------------------------------------------------------------------

pub async fn helm_uninstall_works_as_documented(shared: &Shared) {
    let document = "charts/event-forwarder/README.md";
    let only = |pattern: &str| commands_like(document, pattern).remove(0);
    let install = only("helm install event-forwarder ...")
        .replace("registry.example.com/event-forwarder", &image().0)
        .replace("image.tag=0.1.0", &format!("image.tag={}", image().1));
    let uninstall = only("helm uninstall event-forwarder --namespace *");
    let upgrade = only("helm upgrade event-forwarder ... --set image.tag=*")
        .replace("image.tag=0.2.0", &format!("image.tag={}", image().1));
    let namespace = ["--namespace", "event-forwarder-system"];
    let repository = ["--set", "image.repository=any"];
    let alerts = helm(&[&extract::ALERTS[..], &namespace, &repository].concat()).await;
    let alerts = extract::alerts(&serde_saphyr::from_str(&alerts).expect("YAML"));
    let commands = alerts.into_iter().map(|printed| printed.command);
    let plugin = "ln -s event-forwarder kubectl-forwarder".to_owned();
    let more: Vec<_> = [upgrade, plugin].into_iter().chain(commands).collect();
    assert!(more.len() > 4, "{more:?}");
    check_uninstall(shared, "helm", &[install], &more, &uninstall).await;
    kubectl(&["delete", "namespace", "event-forwarder-system"]).await;
}

pub async fn kustomize_uninstall_works_as_documented(shared: &Shared) {
    let document = "charts/event-forwarder/README.md";
    let only = |pattern: &str| commands_like(document, pattern).remove(0);
    let install = [
        only("kubectl apply --server-side --force-conflicts -f crds/"),
        only("kubectl apply --server-side -k examples/kustomize"),
    ];
    let uninstall = only("kubectl delete -k examples/kustomize");
    check_uninstall(shared, "kustomize", &install, &[], &uninstall).await;
}

/// Returns the repository and the tag of the image to test.
fn image() -> (String, String) {
    let image = env::var("EVENT_FORWARDER_IMAGE").expect("EVENT_FORWARDER_IMAGE");
    let (repository, tag) = image.rsplit_once(':').expect("a tag");
    (repository.to_owned(), tag.to_owned())
}

async fn check_uninstall(
    shared: &Shared,
    name: &str,
    install: &[String],
    more: &[String],
    uninstall: &str,
) {
    remove_installation(shared).await;
    let world_name = format!("uninstall-{name}");
    let world = World::new(shared, &world_name).await.by_address();
    let shell = Shell::new(name, &world.namespace).await;
    let (repository, tag) = image();
    shell.example(
        "examples/kustomize/kustomization.yaml",
        &[
            (
                "newName: registry.example.com/event-forwarder",
                &format!("newName: {repository}"),
            ),
            ("newTag: 0.1.0", &format!("newTag: {tag}")),
        ],
    );
    for command in install {
        shell.succeeds(command).await;
    }
    world.create_key_secret().await;
    world.apply("mparticle", json!({})).await;
    world
        .until::<CronJob>("mparticle", "the CronJob exists", |_| true)
        .await;
    let image_of_runs = |cronjob: &CronJob| {
        let pod = &cronjob
            .spec
            .as_ref()?
            .job_template
            .spec
            .as_ref()?
            .template
            .spec;
        pod.as_ref()?.containers[0].image.clone()
    };
    let cronjob = world
        .api::<CronJob>()
        .get("mparticle")
        .await
        .expect("a get");
    assert_eq!(
        image_of_runs(&cronjob),
        Some(format!("{repository}:{tag}")),
        "the image of the runs"
    );

    for command in more {
        shell
            .succeeds(&command.replace("marketing", &world.namespace))
            .await;
    }
    shell.succeeds(uninstall).await;
    eventually("the controller is deleted", async || {
        let selector = "--selector=app.kubernetes.io/name=event-forwarder,app.kubernetes.io/component=controller";
        let pods = ["get", "pods", "--all-namespaces", selector, "--output=name"];
        let pods = kubectl(&pods).await;
        (pods.is_empty(), pods)
    })
    .await;
    let forwarders = world.api::<EventForwarder>();
    forwarders
        .get("mparticle")
        .await
        .expect("the forwarder is kept");
    let cronjobs = world.api::<CronJob>();
    cronjobs
        .get("mparticle")
        .await
        .expect("the CronJob is kept");

    for pattern in [
        "kubectl delete eventforwarders --all --all-namespaces",
        "kubectl delete customresourcedefinition *",
    ] {
        let command = commands_like("README.md", pattern).remove(0);
        shell.succeeds(&command).await;
    }
    let crds = Api::<CustomResourceDefinition>::all(shared.client.clone());
    wait_until_deleted(&crds, CRD).await;
    wait_until_deleted(&cronjobs, &cronjob.name_any()).await;
    restore_crd(shared).await;
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        match source.is_dir() {
            true => copy(&source, &target),
            false => drop(fs::copy(&source, &target).expect("a copy")),
        }
    }
}
