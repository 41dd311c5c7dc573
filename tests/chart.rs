//! Checks of the chart, the CRD and the kustomization, rendered by helm and kubectl.

mod tools;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Service, ServiceAccount},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
    rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tools::{scratch, tool};

const CHART: &str = "charts/event-forwarder";
const CRDS: &str = "crds";
const KUSTOMIZE: &str = "deploy/kustomize";
const HOW_TO_FIX: &str = "run deploy/generate with the built program";

/// The only value without a default.
const REPOSITORY: &str = "image.repository=event-forwarder";

/// The image of the kustomization's base, for overlays to replace.
const PLACEHOLDER: &str = "registry.invalid/event-forwarder";

/// Values that enable all optional objects.
const EVERYTHING: [&str; 3] = [
    "metrics.serviceMonitor.enabled=true",
    "metrics.prometheusRule.enabled=true",
    "networkPolicy.enabled=true",
];

// ---- programs ---------------------------------------------------------------------------------

fn helm(arguments: &[&str]) -> Output {
    Command::new(tool("helm"))
        .args(arguments)
        .output()
        .expect("helm starts")
}

/// Renders the chart with these values and an image, as release "event-forwarder".
fn rendered(values: &[&str]) -> Vec<Value> {
    template(CHART, &[&[REPOSITORY], values].concat())
}

fn template(chart: &str, values: &[&str]) -> Vec<Value> {
    objects(&succeeded(helm(&template_arguments(chart, values))))
}

fn template_arguments<'a>(chart: &'a str, values: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec![
        "template",
        "event-forwarder",
        chart,
        "--namespace=event-forwarder",
    ];
    for value in values {
        let is_json = value.contains(['[', '{', '"']);
        arguments.extend([if is_json { "--set-json" } else { "--set" }, value]);
    }
    arguments
}

/// Returns helm's error for values that the chart rejects.
fn rejected(values: &[&str]) -> String {
    let output = helm(&template_arguments(
        CHART,
        &[&[REPOSITORY], values].concat(),
    ));
    assert!(!output.status.success(), "{values:?} were accepted");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Renders a kustomization.
fn kustomized(folder: &Path) -> Vec<Value> {
    let output = Command::new(tool("kubectl"))
        .arg("kustomize")
        .arg(folder)
        .output()
        .expect("kubectl starts");
    objects(&succeeded(output))
}

/// Returns the CRD that the program prints.
fn printed_crd() -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_event-forwarder"))
        .arg("crd")
        .output()
        .expect("the program starts");
    succeeded(output)
}

fn succeeded(output: Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}

// ---- objects ----------------------------------------------------------------------------------

fn objects(yaml: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).expect("YAML");
    documents
        .into_iter()
        .filter(|document| !document.is_null())
        .collect()
}

fn kind(object: &Value) -> &str {
    object["kind"].as_str().expect("a kind")
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().expect("a name")
}

fn kinds(objects: &[Value]) -> BTreeSet<&str> {
    objects.iter().map(kind).collect()
}

fn of_kind<'a>(objects: &'a [Value], name: &str) -> Vec<&'a Value> {
    objects
        .iter()
        .filter(|object| kind(object) == name)
        .collect()
}

fn the_only<'a>(objects: &'a [Value], name: &str) -> &'a Value {
    match of_kind(objects, name)[..] {
        [one] => one,
        ref others => panic!("{} objects of kind {name}", others.len()),
    }
}

/// Returns the spec of the controller's pod.
fn pod(objects: &[Value]) -> &Value {
    &the_only(objects, "Deployment")["spec"]["template"]["spec"]
}

/// Returns the controller's environment variables that have a literal value.
fn environment(objects: &[Value]) -> BTreeMap<&str, &str> {
    let variables = pod(objects)["containers"][0]["env"].as_array();
    variables
        .into_iter()
        .flatten()
        .filter_map(|variable| Some((variable["name"].as_str()?, variable["value"].as_str()?)))
        .collect()
}

/// Returns the permissions of bound roles, as "namespace: verbs group/resource names". The
/// namespace of a ClusterRole is `*`.
fn permissions(objects: &[Value]) -> BTreeSet<String> {
    let bound: BTreeSet<_> = objects
        .iter()
        .filter(|object| kind(object).ends_with("RoleBinding"))
        .filter_map(|binding| binding["roleRef"]["name"].as_str())
        .collect();
    let words = |list: &Value| -> Vec<String> {
        list.as_array()
            .into_iter()
            .flatten()
            .filter_map(|word| word.as_str().map(str::to_owned))
            .collect()
    };
    let mut permissions = BTreeSet::new();
    for role in objects {
        if !matches!(kind(role), "Role" | "ClusterRole") || !bound.contains(name(role)) {
            continue;
        }
        let namespace = role["metadata"]["namespace"].as_str().unwrap_or("*");
        for rule in role["rules"].as_array().expect("rules") {
            for group in words(&rule["apiGroups"]) {
                for resource in words(&rule["resources"]) {
                    let names = words(&rule["resourceNames"]).join(",");
                    let verbs = words(&rule["verbs"]).join(" ");
                    permissions.insert(format!("{namespace}: {verbs} {group}/{resource} {names}"));
                }
            }
        }
    }
    permissions
}

/// Returns the permissions in one watched namespace, or in all for `*`.
fn permissions_in(namespace: &str) -> impl Iterator<Item = String> {
    [
        "get list watch eventforwarder.io/eventforwarders",
        "patch eventforwarder.io/eventforwarders/status",
        "get list watch create patch batch/cronjobs",
        "list watch create batch/jobs",
        "list watch /pods",
        "get /secrets",
        "get /configmaps",
        "create patch events.k8s.io/events",
    ]
    .into_iter()
    .map(move |permission| format!("{namespace}: {permission} "))
}

fn permissions_on_lease() -> impl Iterator<Item = String> {
    [
        "event-forwarder: get patch coordination.k8s.io/leases event-forwarder".to_owned(),
        "event-forwarder: create coordination.k8s.io/leases ".to_owned(),
    ]
    .into_iter()
}

/// Panics if the object has a field that its type `K` lacks.
fn is_a<K: Serialize + DeserializeOwned>(object: &Value) {
    let read: K = serde_json::from_value(object.clone()).expect("an object of its kind");
    let mut parsed = serde_json::to_value(&read).expect("JSON");
    let mut object = object.clone();
    for object in [&mut parsed, &mut object] {
        let fields = object.as_object_mut().expect("an object");
        fields.remove("apiVersion");
        fields.remove("kind");
    }
    assert_eq!(parsed, object);
}

// ---- the CRD ----------------------------------------------------------------------------------

#[test]
fn stored_crds_match_program() {
    let printed = printed_crd();
    for file in [
        format!("{CRDS}/eventforwarder.yaml"),
        format!("{CHART}/files/crd.yaml"),
    ] {
        let stored = fs::read_to_string(&file).expect("a CRD");
        assert!(stored == printed, "{file} is stale: {HOW_TO_FIX}");
    }
}

#[test]
fn uninstall_keeps_crd() {
    let mut crd_in_chart = the_only(&rendered(&[]), "CustomResourceDefinition").clone();
    let annotations = crd_in_chart["metadata"]
        .as_object_mut()
        .and_then(|metadata| metadata.remove("annotations"));
    assert_eq!(
        annotations,
        Some(json!({"helm.sh/resource-policy": "keep"}))
    );
    assert!(vec![crd_in_chart] == objects(&printed_crd()));
}

#[test]
fn crd_can_be_omitted() {
    let with = rendered(&[]);
    let without = rendered(&["crds.install=false"]);
    assert!(!kinds(&without).contains("CustomResourceDefinition"));
    assert_eq!(without.len() + 1, with.len());
}

// ---- the chart --------------------------------------------------------------------------------

#[test]
fn chart_passes_lint() {
    succeeded(helm(&["lint", "--strict", CHART, "--set", REPOSITORY]));
}

#[test]
fn chart_version_matches_program() {
    let chart = fs::read_to_string(format!("{CHART}/Chart.yaml")).expect("Chart.yaml");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(objects(&chart)[0]["appVersion"], version);
    assert_eq!(
        pod(&rendered(&[]))["containers"][0]["image"],
        format!("event-forwarder:{version}")
    );
}

#[test]
fn every_object_has_only_valid_fields() {
    let mut objects = rendered(&EVERYTHING);
    objects.extend(rendered(&["watchNamespaces=[\"a\",\"b\"]"]));
    for object in &objects {
        match kind(object) {
            "Deployment" => is_a::<Deployment>(object),
            "Service" => is_a::<Service>(object),
            "ServiceAccount" => is_a::<ServiceAccount>(object),
            "PodDisruptionBudget" => is_a::<PodDisruptionBudget>(object),
            "NetworkPolicy" => is_a::<NetworkPolicy>(object),
            "Role" => is_a::<Role>(object),
            "RoleBinding" => is_a::<RoleBinding>(object),
            "ClusterRole" => is_a::<ClusterRole>(object),
            "ClusterRoleBinding" => is_a::<ClusterRoleBinding>(object),
            "CustomResourceDefinition" | "PrometheusRule" | "ServiceMonitor" => {}
            other => panic!("{other} is not expected"),
        }
    }
}

#[test]
fn selectors_match_controller_pods_only() {
    let objects = rendered(&EVERYTHING);
    let deployment = &the_only(&objects, "Deployment")["spec"];
    let selector = &deployment["selector"]["matchLabels"];
    assert_eq!(&deployment["template"]["metadata"]["labels"], selector);
    assert_eq!(selector["app.kubernetes.io/component"], "controller");
    for other in [
        &the_only(&objects, "Service")["spec"]["selector"],
        &the_only(&objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        &the_only(&objects, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        &the_only(&objects, "ServiceMonitor")["spec"]["selector"]["matchLabels"],
        &deployment["template"]["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
    ] {
        assert_eq!(other, selector);
    }
}

#[test]
fn pods_meet_the_restricted_pod_security_level() {
    for values in [&[][..], &EVERYTHING, &["watchNamespaces=[\"a\"]"]] {
        let objects = rendered(values);
        let pod = pod(&objects);
        for forbidden in [
            "hostNetwork",
            "hostPID",
            "hostIPC",
            "volumes",
            "initContainers",
        ] {
            assert_eq!(pod[forbidden], Value::Null, "{forbidden}");
        }
        assert_eq!(
            pod["securityContext"],
            json!({
                "runAsNonRoot": true,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            })
        );
        for container in pod["containers"].as_array().expect("containers") {
            assert_eq!(
                container["securityContext"],
                json!({
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]},
                })
            );
            assert_eq!(container["ports"][0]["hostPort"], Value::Null);
        }
    }
}

#[test]
fn null_value_omits_default() {
    let objects = rendered(&["podSecurityContext.runAsUser=null"]);
    let context = pod(&objects)["securityContext"].as_object();
    assert!(!context.expect("a context").contains_key("runAsUser"));
}

#[test]
fn runs_use_the_controllers_image() {
    let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
    let by_digest = format!("image.digest={digest}");
    let cases = [
        (vec![], "event-forwarder:0.1.0".to_owned()),
        (
            vec![
                "image.repository=registry.example.com:5000/a/b",
                "image.tag=v2",
            ],
            "registry.example.com:5000/a/b:v2".to_owned(),
        ),
        (
            vec!["image.tag=v2", &by_digest],
            format!("event-forwarder@{digest}"),
        ),
    ];
    for (values, image) in cases {
        let objects = rendered(&values);
        assert_eq!(pod(&objects)["containers"][0]["image"], image);
        assert_eq!(environment(&objects)["EVENT_FORWARDER_IMAGE"], image);
    }
}

#[test]
fn program_accepts_arguments_and_variables_of_chart() {
    let objects = rendered(&["watchNamespaces=[\"a\",\"b\"]"]);
    let help = Command::new(env!("CARGO_BIN_EXE_event-forwarder"))
        .args(["controller", "--help"])
        .output()
        .expect("the program starts");
    let help = succeeded(help)
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    let container = &pod(&objects)["containers"][0];
    assert_eq!(container["args"], json!(["controller"]));
    for variable in container["env"].as_array().expect("variables") {
        let variable = variable["name"].as_str().expect("a name");
        assert!(
            variable == "RUST_LOG" || help.contains(&format!("[env: {variable}=")),
            "{variable} is unknown to the program"
        );
    }
    assert_eq!(container["ports"][0]["containerPort"], 8080);
    assert!(help.contains("[default: [::]:8080]"));
}

#[test]
fn values_limit_use_of_ambient_credentials() {
    for (values, hosts, roles) in [
        (&[][..], "aws", "any"),
        (
            &[
                "ambientCredentials.hosts=[\"aws\",\"https://*.example.com\"]",
                "ambientCredentials.roles=[\"arn:aws:iam::*:role/{namespace}\"]",
            ],
            "aws,https://*.example.com",
            "arn:aws:iam::*:role/{namespace}",
        ),
        (&["ambientCredentials={\"hosts\":[],\"roles\":[]}"], "", ""),
    ] {
        let objects = rendered(values);
        let environment = environment(&objects);
        assert_eq!(
            environment["EVENT_FORWARDER_AMBIENT_CREDENTIALS_HOSTS"],
            hosts
        );
        assert_eq!(
            environment["EVENT_FORWARDER_AMBIENT_CREDENTIALS_ROLES"],
            roles
        );
        // The controller exits because it has no cluster, not because of these values.
        let output = Command::new(env!("CARGO_BIN_EXE_event-forwarder"))
            .args(["controller", "--image=i", "--listen=127.0.0.1:0"])
            .env("KUBECONFIG", "/nowhere")
            .env("EVENT_FORWARDER_AMBIENT_CREDENTIALS_HOSTS", hosts)
            .env("EVENT_FORWARDER_AMBIENT_CREDENTIALS_ROLES", roles)
            .output()
            .expect("the program starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            stderr.contains("can't configure the API server client"),
            "{stderr}"
        );
    }
}

#[test]
fn invalid_ambient_host_is_rejected_with_example() {
    let output = Command::new(env!("CARGO_BIN_EXE_event-forwarder"))
        .args([
            "controller",
            "--image=i",
            "--ambient-credentials-hosts=amazonaws.com",
        ])
        .output()
        .expect("the program starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("such as https://sqs.example.com"),
        "{stderr}"
    );
}

#[test]
fn single_replica_has_no_disruption_budget() {
    for (replicas, has_budget) in [
        ("replicas=0", false),
        ("replicas=1", false),
        ("replicas=3", true),
    ] {
        let objects = rendered(&[replicas]);
        assert_eq!(kinds(&objects).contains("PodDisruptionBudget"), has_budget);
    }
}

#[test]
fn network_policy_allows_metrics_dns_and_listed_ports() {
    let objects = rendered(&[
        "networkPolicy.enabled=true",
        "networkPolicy.egressPorts=[443]",
        "networkPolicy.metricsFrom=[{\"namespaceSelector\":{}}]",
        "networkPolicy.extraEgress=[{\"ports\":[{\"port\":3128}]}]",
    ]);
    let spec = &the_only(&objects, "NetworkPolicy")["spec"];
    assert_eq!(spec["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(
        spec["ingress"],
        json!([{"ports": [{"port": "http"}], "from": [{"namespaceSelector": {}}]}])
    );
    assert_eq!(
        spec["egress"],
        json!([
            {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]},
            {"ports": [{"port": 443, "protocol": "TCP"}]},
            {"ports": [{"port": 3128}]},
        ])
    );
}

#[test]
fn alerts_and_their_metrics_are_documented() {
    let document = include_str!("../docs/metrics.md");
    let documented: BTreeSet<_> = document
        .lines()
        .filter_map(|line| line.strip_prefix("| EventForwarder")?.split_once(' '))
        .map(|(rest, _)| format!("EventForwarder{rest}"))
        .collect();
    let objects = rendered(&EVERYTHING);
    let rules = &the_only(&objects, "PrometheusRule")["spec"]["groups"][0]["rules"];
    let rules = rules.as_array().expect("rules");
    let alerts: BTreeSet<_> = rules
        .iter()
        .map(|rule| rule["alert"].as_str().expect("a name").to_owned())
        .collect();
    assert_eq!(alerts, documented);
    for rule in rules {
        let expression = rule["expr"].as_str().expect("an expression");
        let metrics: Vec<_> = expression
            .split(|c: char| !c.is_ascii_lowercase() && c != '_')
            .filter(|word| word.starts_with("event_forwarder_"))
            .collect();
        assert!(!metrics.is_empty(), "{expression}");
        for metric in metrics {
            let row = format!("| `{metric}` |");
            assert!(document.contains(&row), "no {metric} in the document");
        }
        let of_this_release = expression.matches("job=\"event-forwarder\"").count();
        assert_eq!(
            of_this_release,
            expression.matches("event_forwarder_").count()
        );
        for text in ["summary", "description"] {
            assert!(rule["annotations"][text].is_string(), "{rule}");
        }
    }
}

#[test]
fn notes_contain_next_steps_and_uninstallation() {
    let notes = succeeded(helm(&[
        "install",
        "event-forwarder",
        CHART,
        "--dry-run=client",
        "--set",
        REPOSITORY,
        "--set-json=watchNamespaces=[\"marketing\"]",
    ]));
    for line in [
        "kubectl create secret generic iterable --namespace marketing",
        "kind: EventForwarder",
        "kubectl get eventforwarders",
        "kubectl delete customresourcedefinition eventforwarders.eventforwarder.io",
    ] {
        assert!(notes.contains(line), "{line}");
    }
}

// ---- permissions ------------------------------------------------------------------------------

#[test]
fn controller_has_least_permissions_in_cluster() {
    let objects = rendered(&[]);
    let get_crd =
        "*: get apiextensions.k8s.io/customresourcedefinitions eventforwarders.eventforwarder.io";
    let expected = permissions_in("*")
        .chain(permissions_on_lease())
        .chain([get_crd.to_owned()])
        .collect();
    assert_eq!(permissions(&objects), expected);
}

#[test]
fn controller_has_least_permissions_in_watched_namespaces() {
    let objects = rendered(&["watchNamespaces=[\"a\",\"b\"]"]);
    let expected = permissions_in("a")
        .chain(permissions_in("b"))
        .chain(permissions_on_lease())
        .collect();
    assert_eq!(permissions(&objects), expected);
    assert!(
        kinds(&objects)
            .iter()
            .all(|kind| !kind.starts_with("ClusterRole"))
    );
    assert_eq!(
        environment(&objects)["EVENT_FORWARDER_WATCH_NAMESPACES"],
        "a,b"
    );
}

#[test]
fn every_binding_has_existing_role_and_account() {
    for values in [
        vec!["serviceAccount.name=mine"],
        vec!["serviceAccount.name=mine", "watchNamespaces=[\"a\",\"b\"]"],
        vec!["serviceAccount.name=mine", "serviceAccount.create=false"],
    ] {
        let objects = rendered(&values);
        assert_eq!(pod(&objects)["serviceAccountName"], "mine");
        for binding in objects
            .iter()
            .filter(|object| kind(object).ends_with("RoleBinding"))
        {
            assert_eq!(
                binding["subjects"],
                json!([{"kind": "ServiceAccount", "name": "mine", "namespace": "event-forwarder"}])
            );
            assert!(
                objects
                    .iter()
                    .any(|role| role["kind"] == binding["roleRef"]["kind"]
                        && role["metadata"]["name"] == binding["roleRef"]["name"]
                        && role["metadata"]["namespace"] == binding["metadata"]["namespace"]),
                "{binding}"
            );
        }
    }
}

#[test]
fn no_role_has_wildcards_or_lists_secrets() {
    for values in [&[][..], &["watchNamespaces=[\"a\"]"]] {
        for role in rendered(values) {
            for rule in role["rules"].as_array().into_iter().flatten() {
                let text = rule.to_string();
                assert!(!text.contains('*'), "{text}");
                assert!(
                    !text.contains("\"secrets\"") || rule["verbs"] == json!(["get"]),
                    "{text}"
                );
            }
        }
    }
}

#[test]
fn user_roles_aggregate_permissions_on_forwarders() {
    let aggregated = |objects: &[Value]| -> BTreeSet<String> {
        of_kind(objects, "ClusterRole")
            .into_iter()
            .filter(|role| {
                role["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-admin"] == "true"
            })
            .map(|role| name(role).to_owned())
            .collect()
    };
    assert_eq!(
        aggregated(&rendered(&[])),
        ["event-forwarder-edit", "event-forwarder-view"]
            .map(str::to_owned)
            .into()
    );
    assert!(aggregated(&rendered(&["rbac.aggregateToUserRoles=false"])).is_empty());
}

// ---- values -----------------------------------------------------------------------------------

#[test]
fn invalid_values_are_rejected_by_name() {
    for (value, place, reason) in [
        ("replica=3", "replica", "not allowed"),
        ("replicas=two", "/replicas", "want integer"),
        ("replicas=-1", "/replicas", "minimum"),
        ("image.tag=1", "/image/tag", "want string"),
        ("image.repository=a/b:1", "/image/repository", "pattern"),
        (
            "image.repository=",
            "image.repository is not set",
            "add --set image.repository=registry.example.com/event-forwarder",
        ),
        ("image.digest=0123", "/image/digest", "pattern"),
        (
            "image.pullPolicy=Sometimes",
            "/image/pullPolicy",
            "'IfNotPresent'",
        ),
        (
            "image.pullSecrets=[\"a\"]",
            "/image/pullSecrets/0",
            "want object",
        ),
        ("watchNamespaces=a", "/watchNamespaces", "want array"),
        ("watchNamespaces=[\"A_b\"]", "/watchNamespaces/0", "pattern"),
        ("watchNamespaces=[\"a\",\"a\"]", "/watchNamespaces", "equal"),
        (
            "ambientCredentials.hosts=[\"amazonaws.com\"]",
            "/ambientCredentials/hosts/0",
            "pattern",
        ),
        (
            "ambientCredentials.roles=[\"event-forwarder\"]",
            "/ambientCredentials/roles/0",
            "pattern",
        ),
        ("crds.keep=false", "keep", "not allowed"),
        ("logFilter=", "/logFilter", "minLength"),
        ("resources.limit={\"cpu\":1}", "limit", "not allowed"),
        ("podLabels={\"a\":1}", "/podLabels/a", "want string"),
        ("extraEnv=[{\"value\":\"a\"}]", "/extraEnv/0", "'name'"),
        (
            "podDisruptionBudget.maxUnavailable=half",
            "/podDisruptionBudget/maxUnavailable",
            "pattern",
        ),
        (
            "metrics.serviceMonitor.interval=soon",
            "/metrics/serviceMonitor/interval",
            "pattern",
        ),
        (
            "networkPolicy.egressPorts=[]",
            "/networkPolicy/egressPorts",
            "minItems",
        ),
        (
            "serviceAccount.create=false",
            "serviceAccount.name",
            "must be set to the ServiceAccount",
        ),
    ] {
        let words = rejected(&[value]);
        assert!(
            words.contains(place) && words.contains(reason),
            "{value}: {words}"
        );
    }
    let words = rejected(&[
        "metrics.serviceMonitor.enabled=true",
        "metrics.service.enabled=false",
    ]);
    assert!(words.contains("needs metrics.service.enabled"), "{words}");
    let words = rejected(&["metrics.prometheusRule.enabled=true"]);
    assert!(
        words.contains("needs metrics.serviceMonitor.enabled"),
        "{words}"
    );
}

#[test]
fn schema_lists_exactly_all_values() {
    let read = |file: &str| fs::read_to_string(format!("{CHART}/{file}")).expect("a file");
    let values = objects(&read("values.yaml")).remove(0);
    let schema: Value = serde_json::from_str(&read("values.schema.json")).expect("JSON");
    let mut properties = schema["properties"].clone();
    for subchart_value in ["global", "enabled"] {
        properties
            .as_object_mut()
            .and_then(|properties| properties.remove(subchart_value))
            .expect("a property");
    }
    let names = |map: &Value| -> BTreeSet<String> {
        map.as_object().expect("a map").keys().cloned().collect()
    };
    assert_eq!(names(&values), names(&properties));
}

#[test]
fn readme_lists_every_value_and_default() {
    let read = |file: &str| fs::read_to_string(format!("{CHART}/{file}")).expect("a file");
    let readme = read("README.md");
    let (_, table) = readme.split_once("## Values").expect("the values");
    let mut documented = json!({});
    for row in table.lines().filter_map(|line| line.strip_prefix("| `")) {
        let mut cells = row.split('`').step_by(2);
        let mut next = || cells.next().expect("a cell in backticks");
        let (path, default) = (next(), next());
        let value = path
            .split('.')
            .fold(&mut documented, |object, name| &mut object[name]);
        *value = serde_saphyr::from_str(default).expect("a default as YAML");
    }
    assert_eq!(documented, objects(&read("values.yaml"))[0]);
}

#[test]
fn chart_works_as_subchart() {
    let parent = scratch("parent-chart");
    copy(Path::new(CHART), &parent.join("charts/event-forwarder"));
    let chart = "{apiVersion: v2, name: parent, version: 1.0.0, dependencies: [{name: event-forwarder, version: 0.x, condition: event-forwarder.enabled}]}";
    fs::write(parent.join("Chart.yaml"), chart).expect("a file");
    fs::create_dir(parent.join("templates")).expect("a folder");
    let parent = parent.to_str().expect("UTF-8");
    let values = [
        "event-forwarder.image.repository=event-forwarder",
        "global={\"imageRegistry\":\"registry.example.com\",\"deep\":{\"er\":[1]}}",
        "event-forwarder.enabled=true",
        "event-forwarder.replicas=3",
    ];
    succeeded(helm(&["lint", "--strict", parent]));
    assert_eq!(
        the_only(&template(parent, &values), "Deployment")["spec"]["replicas"],
        3
    );
    assert!(template(parent, &["event-forwarder.enabled=false"]).is_empty());
}

// ---- the kustomization ------------------------------------------------------------------------

#[test]
fn kustomization_matches_chart() {
    let comparable = |objects: Vec<Value>| -> BTreeMap<(String, String), Value> {
        objects
            .into_iter()
            .filter(|object| kind(object) != "Namespace")
            .map(|mut object| {
                remove_helm_metadata(&mut object);
                normalize_numbers(&mut object);
                ((kind(&object).to_owned(), name(&object).to_owned()), object)
            })
            .collect()
    };
    let image = format!("image.repository={PLACEHOLDER}");
    let of_chart = comparable(rendered(&[&image, "crds.install=false"]));
    let of_kustomization = comparable(kustomized(Path::new(KUSTOMIZE)));
    assert!(of_chart.keys().eq(of_kustomization.keys()), "{HOW_TO_FIX}");
    for (key, object) in &of_chart {
        assert!(
            &of_kustomization[key] == object,
            "{key:?} is stale: {HOW_TO_FIX}"
        );
    }
}

/// Kustomize writes 1.0 as 1.
fn normalize_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => *value = json!(number.as_f64()),
        Value::Array(items) => items.iter_mut().for_each(normalize_numbers),
        Value::Object(fields) => fields.values_mut().for_each(normalize_numbers),
        _ => {}
    }
}

fn remove_helm_metadata(object: &mut Value) {
    let Some(metadata) = object["metadata"].as_object_mut() else {
        return;
    };
    for (map, key) in [
        ("labels", "helm.sh/chart"),
        ("labels", "app.kubernetes.io/managed-by"),
        ("annotations", "helm.sh/resource-policy"),
    ] {
        let Some(entries) = metadata.get_mut(map).and_then(Value::as_object_mut) else {
            continue;
        };
        entries.remove(key);
        if entries.is_empty() {
            metadata.remove(map);
        }
    }
}

/// Creates a user's kustomization in a folder next to copies of the product's.
fn overlay(name: &str, kustomization: &str) -> PathBuf {
    let folder = scratch(name);
    copy(Path::new(CRDS), &folder.join("crds"));
    copy(Path::new(KUSTOMIZE), &folder.join(KUSTOMIZE));
    let overlay = folder.join("overlay");
    fs::create_dir(&overlay).expect("a folder");
    fs::write(overlay.join("kustomization.yaml"), kustomization).expect("a file");
    overlay
}

#[test]
fn overlay_image_is_used_by_runs() {
    let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
    for (name, image, expected) in [
        (
            "tag",
            "newName: registry.example.com:5000/a/b, newTag: v2".to_owned(),
            "registry.example.com:5000/a/b:v2".to_owned(),
        ),
        (
            "digest",
            format!("newName: event-forwarder, digest: \"{digest}\""),
            format!("event-forwarder@{digest}"),
        ),
    ] {
        let kustomization = format!(
            "resources: [../deploy/kustomize]\nimages: [{{name: {PLACEHOLDER}, {image}}}]\n"
        );
        let objects = kustomized(&overlay(&format!("overlay-{name}"), &kustomization));
        assert_eq!(pod(&objects)["containers"][0]["image"], expected);
        let mut environment = environment(&objects);
        assert_eq!(
            environment.remove("EVENT_FORWARDER_IMAGE"),
            Some(expected.as_str())
        );
        let base = kustomized(Path::new(KUSTOMIZE));
        let mut others = self::environment(&base);
        others.remove("EVENT_FORWARDER_IMAGE");
        assert_eq!(environment, others, "no other variable is an image");
    }
}

#[test]
fn nested_overlay_replaces_image_of_runs() {
    let first = overlay(
        "overlay-of-overlay",
        &format!(
            "resources: [../deploy/kustomize]\nimages: [{{name: {PLACEHOLDER}, newName: first/a, newTag: v1}}]\n"
        ),
    );
    let second = first.with_file_name("second");
    fs::create_dir(&second).expect("a folder");
    let kustomization = "resources: [../overlay]\nimages: [{name: first/a, newName: second/b}]\n";
    fs::write(second.join("kustomization.yaml"), kustomization).expect("a file");
    let objects = kustomized(&second);
    assert_eq!(pod(&objects)["containers"][0]["image"], "second/b:v1");
    assert_eq!(
        environment(&objects)["EVENT_FORWARDER_IMAGE"],
        "second/b:v1"
    );
}

#[test]
fn example_overlay_sets_both_images() {
    let objects = kustomized(Path::new("examples/kustomize"));
    let image = format!(
        "registry.example.com/event-forwarder:{}",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(pod(&objects)["containers"][0]["image"], image);
    assert_eq!(environment(&objects)["EVENT_FORWARDER_IMAGE"], image);
}

#[test]
fn kustomization_contains_crd_only_with_component() {
    let base = kustomized(Path::new(KUSTOMIZE));
    assert!(!kinds(&base).contains("CustomResourceDefinition"));
    let with_crd = kustomized(&overlay(
        "overlay-with-crd",
        "resources: [../deploy/kustomize]\ncomponents: [../deploy/kustomize/crd]\n",
    ));
    assert_eq!(with_crd.len(), base.len() + 1);
    let mut crd = vec![the_only(&with_crd, "CustomResourceDefinition").clone()];
    let mut printed = objects(&printed_crd());
    crd.iter_mut()
        .chain(&mut printed)
        .for_each(normalize_numbers);
    assert!(crd == printed, "the component's CRD differs");
}

// ---- folders ----------------------------------------------------------------------------------

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy(&source, &target);
        } else {
            fs::copy(&source, &target).expect("a copy");
        }
    }
}
