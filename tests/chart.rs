//! The chart, the definition and the kustomization, as helm and kubectl render them.

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
const HOW_TO_MEND: &str = "run deploy/generate with the built program";

/// The only value without a default.
const REPOSITORY: &str = "image.repository=event-forwarder";

/// The image of the kustomization's base, which overlays replace.
const PLACEHOLDER: &str = "registry.invalid/event-forwarder";

/// All that the chart can make.
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

/// What the chart makes with these values and an image set, as release "event-forwarder".
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

/// Helm's words on values that the chart refuses.
fn refused(values: &[&str]) -> String {
    let output = helm(&template_arguments(
        CHART,
        &[&[REPOSITORY], values].concat(),
    ));
    assert!(!output.status.success(), "{values:?} were taken");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What the kustomization makes.
fn kustomized(folder: &Path) -> Vec<Value> {
    let output = Command::new(tool("kubectl"))
        .arg("kustomize")
        .arg(folder)
        .output()
        .expect("kubectl starts");
    objects(&succeeded(output))
}

/// The definition, as the program prints it.
fn definition() -> String {
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

fn of_kind<'a>(objects: &'a [Value], wanted: &str) -> Vec<&'a Value> {
    objects
        .iter()
        .filter(|object| kind(object) == wanted)
        .collect()
}

fn the_only<'a>(objects: &'a [Value], wanted: &str) -> &'a Value {
    match of_kind(objects, wanted)[..] {
        [one] => one,
        ref others => panic!("{} of {wanted}", others.len()),
    }
}

/// The spec of the controller's pod.
fn pod(objects: &[Value]) -> &Value {
    &the_only(objects, "Deployment")["spec"]["template"]["spec"]
}

/// The controller's environment, of what has a fixed value.
fn environment(objects: &[Value]) -> BTreeMap<&str, &str> {
    let variables = pod(objects)["containers"][0]["env"].as_array();
    variables
        .into_iter()
        .flatten()
        .filter_map(|variable| Some((variable["name"].as_str()?, variable["value"].as_str()?)))
        .collect()
}

/// What the controller may do: lines of role kind, namespace, resource, names and verbs.
fn rights(objects: &[Value]) -> BTreeSet<String> {
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
    let mut rights = BTreeSet::new();
    for role in objects {
        if !matches!(kind(role), "Role" | "ClusterRole") || !bound.contains(name(role)) {
            continue;
        }
        let place = role["metadata"]["namespace"].as_str().unwrap_or("*");
        for rule in role["rules"].as_array().expect("rules") {
            for group in words(&rule["apiGroups"]) {
                for resource in words(&rule["resources"]) {
                    let names = words(&rule["resourceNames"]).join(",");
                    let verbs = words(&rule["verbs"]).join(" ");
                    rights.insert(format!("{place}: {verbs} {group}/{resource} {names}"));
                }
            }
        }
    }
    rights
}

/// The rights in each watched place.
fn rights_in(place: &str) -> impl Iterator<Item = String> {
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
    .map(move |right| format!("{place}: {right} "))
}

fn rights_on_the_lease() -> impl Iterator<Item = String> {
    [
        "event-forwarder: get patch coordination.k8s.io/leases event-forwarder".to_owned(),
        "event-forwarder: create coordination.k8s.io/leases ".to_owned(),
    ]
    .into_iter()
}

/// Fails if the type of the object knows less than all of its fields.
fn is_a<K: Serialize + DeserializeOwned>(object: &Value) {
    let read: K = serde_json::from_value(object.clone()).expect("an object of its kind");
    let mut known = serde_json::to_value(&read).expect("JSON");
    let mut object = object.clone();
    for object in [&mut known, &mut object] {
        let fields = object.as_object_mut().expect("an object");
        fields.remove("apiVersion");
        fields.remove("kind");
    }
    assert_eq!(known, object);
}

// ---- the definition ---------------------------------------------------------------------------

#[test]
fn the_definition_in_crds_and_in_the_chart_is_the_programs() {
    let printed = definition();
    for file in [
        format!("{CRDS}/eventforwarder.yaml"),
        format!("{CHART}/files/crd.yaml"),
    ] {
        let stored = fs::read_to_string(&file).expect("a definition");
        assert!(stored == printed, "{file} is stale: {HOW_TO_MEND}");
    }
}

#[test]
fn uninstalling_keeps_the_definition() {
    let mut definition_in_chart = the_only(&rendered(&[]), "CustomResourceDefinition").clone();
    let annotations = definition_in_chart["metadata"]
        .as_object_mut()
        .and_then(|metadata| metadata.remove("annotations"));
    assert_eq!(
        annotations,
        Some(json!({"helm.sh/resource-policy": "keep"}))
    );
    assert!(vec![definition_in_chart] == objects(&definition()));
}

#[test]
fn the_definition_can_be_left_out() {
    let with = rendered(&[]);
    let without = rendered(&["crds.install=false"]);
    assert!(!kinds(&without).contains("CustomResourceDefinition"));
    assert_eq!(without.len() + 1, with.len());
}

// ---- the chart --------------------------------------------------------------------------------

#[test]
fn lint_finds_nothing() {
    succeeded(helm(&["lint", "--strict", CHART, "--set", REPOSITORY]));
}

#[test]
fn the_chart_has_the_programs_version() {
    let chart = fs::read_to_string(format!("{CHART}/Chart.yaml")).expect("Chart.yaml");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(objects(&chart)[0]["appVersion"], version);
    assert_eq!(
        pod(&rendered(&[]))["containers"][0]["image"],
        format!("event-forwarder:{version}")
    );
}

#[test]
fn every_object_has_fields_that_its_kind_knows() {
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
fn selectors_take_the_controllers_pods_and_not_those_of_runs() {
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
fn a_default_that_is_null_is_left_out() {
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
fn the_program_takes_what_the_chart_gives_it() {
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
            "{variable} means nothing to the program"
        );
    }
    assert_eq!(container["ports"][0]["containerPort"], 8080);
    assert!(help.contains("[default: [::]:8080]"));
}

#[test]
fn the_controllers_identity_is_for_the_hosts_and_roles_of_the_values() {
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
        // Without a cluster it ends at once, but not over these.
        let output = Command::new(env!("CARGO_BIN_EXE_event-forwarder"))
            .args(["controller", "--image=i", "--listen=127.0.0.1:0"])
            .env("KUBECONFIG", "/nowhere")
            .env("EVENT_FORWARDER_AMBIENT_CREDENTIALS_HOSTS", hosts)
            .env("EVENT_FORWARDER_AMBIENT_CREDENTIALS_ROLES", roles)
            .output()
            .expect("the program starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("no way to the API server"), "{said}");
    }
}

#[test]
fn a_list_of_hosts_that_can_not_be_meant_is_refused_with_an_example() {
    let output = Command::new(env!("CARGO_BIN_EXE_event-forwarder"))
        .args([
            "controller",
            "--image=i",
            "--ambient-credentials-hosts=amazonaws.com",
        ])
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("such as https://sqs.example.com"), "{said}");
}

#[test]
fn a_single_replica_has_no_disruption_budget() {
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
fn the_network_policy_opens_the_metrics_dns_and_the_ports_given() {
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
fn alerts_are_those_of_the_document_and_use_metrics_that_it_lists() {
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
fn notes_say_what_comes_next_and_what_uninstalling_leaves() {
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

// ---- rights -----------------------------------------------------------------------------------

#[test]
fn the_controller_has_the_least_rights_in_the_whole_cluster() {
    let objects = rendered(&[]);
    let to_name_what_updates_the_crd =
        "*: get apiextensions.k8s.io/customresourcedefinitions eventforwarders.eventforwarder.io";
    let expected = rights_in("*")
        .chain(rights_on_the_lease())
        .chain([to_name_what_updates_the_crd.to_owned()])
        .collect();
    assert_eq!(rights(&objects), expected);
}

#[test]
fn the_controller_has_the_least_rights_in_each_watched_namespace_and_none_elsewhere() {
    let objects = rendered(&["watchNamespaces=[\"a\",\"b\"]"]);
    let expected = rights_in("a")
        .chain(rights_in("b"))
        .chain(rights_on_the_lease())
        .collect();
    assert_eq!(rights(&objects), expected);
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
fn every_binding_is_to_the_controllers_account_and_to_a_role_that_is_there() {
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
fn nobody_gets_a_wildcard_or_a_list_of_secrets() {
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
fn people_get_rights_on_forwarders_by_the_roles_that_they_have() {
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
fn wrong_values_are_refused_by_name() {
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
        let words = refused(&[value]);
        assert!(
            words.contains(place) && words.contains(reason),
            "{value}: {words}"
        );
    }
    let words = refused(&[
        "metrics.serviceMonitor.enabled=true",
        "metrics.service.enabled=false",
    ]);
    assert!(words.contains("needs metrics.service.enabled"), "{words}");
    let words = refused(&["metrics.prometheusRule.enabled=true"]);
    assert!(
        words.contains("needs metrics.serviceMonitor.enabled"),
        "{words}"
    );
}

#[test]
fn the_schema_knows_every_value_and_no_other() {
    let read = |file: &str| fs::read_to_string(format!("{CHART}/{file}")).expect("a file");
    let values = objects(&read("values.yaml")).remove(0);
    let schema: Value = serde_json::from_str(&read("values.schema.json")).expect("JSON");
    let mut known = schema["properties"].clone();
    for of_a_parent_chart in ["global", "enabled"] {
        known
            .as_object_mut()
            .and_then(|known| known.remove(of_a_parent_chart))
            .expect("it");
    }
    let names = |map: &Value| -> BTreeSet<String> {
        map.as_object().expect("a map").keys().cloned().collect()
    };
    assert_eq!(names(&values), names(&known));
}

#[test]
fn the_readme_has_every_value_with_its_default() {
    let read = |file: &str| fs::read_to_string(format!("{CHART}/{file}")).expect("a file");
    let readme = read("README.md");
    let (_, table) = readme.split_once("## Values").expect("the values");
    let mut told = json!({});
    for row in table.lines().filter_map(|line| line.strip_prefix("| `")) {
        let mut cells = row.split('`').step_by(2);
        let mut next = || cells.next().expect("a cell in backticks");
        let (path, default) = (next(), next());
        let value = path
            .split('.')
            .fold(&mut told, |object, name| &mut object[name]);
        *value = serde_saphyr::from_str(default).expect("a default as YAML");
    }
    assert_eq!(told, objects(&read("values.yaml"))[0]);
}

#[test]
fn the_chart_can_be_part_of_another() {
    let parent = scratch("parent-chart");
    copy(Path::new(CHART), &parent.join("charts/event-forwarder"));
    let chart = "{apiVersion: v2, name: parent, version: 1.0.0, dependencies: [{name: event-forwarder, version: 0.x, condition: event-forwarder.enabled}]}";
    fs::write(parent.join("Chart.yaml"), chart).expect("written");
    fs::create_dir(parent.join("templates")).expect("made");
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
fn the_kustomization_makes_what_the_chart_makes() {
    let comparable = |objects: Vec<Value>| -> BTreeMap<(String, String), Value> {
        objects
            .into_iter()
            .filter(|object| kind(object) != "Namespace")
            .map(|mut object| {
                without_marks_of_helm(&mut object);
                with_plain_numbers(&mut object);
                ((kind(&object).to_owned(), name(&object).to_owned()), object)
            })
            .collect()
    };
    let image = format!("image.repository={PLACEHOLDER}");
    let of_chart = comparable(rendered(&[&image, "crds.install=false"]));
    let of_kustomization = comparable(kustomized(Path::new(KUSTOMIZE)));
    assert!(of_chart.keys().eq(of_kustomization.keys()), "{HOW_TO_MEND}");
    for (key, object) in &of_chart {
        assert!(
            &of_kustomization[key] == object,
            "{key:?} is stale: {HOW_TO_MEND}"
        );
    }
}

/// Kustomize writes 1.0 as 1.
fn with_plain_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => *value = json!(number.as_f64()),
        Value::Array(items) => items.iter_mut().for_each(with_plain_numbers),
        Value::Object(fields) => fields.values_mut().for_each(with_plain_numbers),
        _ => {}
    }
}

fn without_marks_of_helm(object: &mut Value) {
    let Some(metadata) = object["metadata"].as_object_mut() else {
        return;
    };
    for (map, mark) in [
        ("labels", "helm.sh/chart"),
        ("labels", "app.kubernetes.io/managed-by"),
        ("annotations", "helm.sh/resource-policy"),
    ] {
        let Some(marks) = metadata.get_mut(map).and_then(Value::as_object_mut) else {
            continue;
        };
        marks.remove(mark);
        if marks.is_empty() {
            metadata.remove(map);
        }
    }
}

/// A kustomization of a user's own in a folder beside the product's.
fn overlay(name: &str, kustomization: &str) -> PathBuf {
    let folder = scratch(name);
    copy(Path::new(CRDS), &folder.join("crds"));
    copy(Path::new(KUSTOMIZE), &folder.join(KUSTOMIZE));
    let overlay = folder.join("overlay");
    fs::create_dir(&overlay).expect("made");
    fs::write(overlay.join("kustomization.yaml"), kustomization).expect("written");
    overlay
}

#[test]
fn an_image_set_in_an_overlay_reaches_the_runs() {
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
fn an_overlay_of_an_overlay_replaces_the_image_of_the_runs_again() {
    let first = overlay(
        "overlay-of-overlay",
        &format!(
            "resources: [../deploy/kustomize]\nimages: [{{name: {PLACEHOLDER}, newName: first/a, newTag: v1}}]\n"
        ),
    );
    let second = first.with_file_name("second");
    fs::create_dir(&second).expect("made");
    let kustomization = "resources: [../overlay]\nimages: [{name: first/a, newName: second/b}]\n";
    fs::write(second.join("kustomization.yaml"), kustomization).expect("written");
    let objects = kustomized(&second);
    assert_eq!(pod(&objects)["containers"][0]["image"], "second/b:v1");
    assert_eq!(
        environment(&objects)["EVENT_FORWARDER_IMAGE"],
        "second/b:v1"
    );
}

#[test]
fn the_example_of_an_overlay_sets_both_images() {
    let objects = kustomized(Path::new("examples/kustomize"));
    let image = format!(
        "registry.example.com/event-forwarder:{}",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(pod(&objects)["containers"][0]["image"], image);
    assert_eq!(environment(&objects)["EVENT_FORWARDER_IMAGE"], image);
}

#[test]
fn deleting_the_kustomization_keeps_the_crd_unless_its_component_is_included() {
    let base = kustomized(Path::new(KUSTOMIZE));
    assert!(!kinds(&base).contains("CustomResourceDefinition"));
    let with_crd = kustomized(&overlay(
        "overlay-with-crd",
        "resources: [../deploy/kustomize]\ncomponents: [../deploy/kustomize/crd]\n",
    ));
    assert_eq!(with_crd.len(), base.len() + 1);
    let mut crd = vec![the_only(&with_crd, "CustomResourceDefinition").clone()];
    let mut printed = objects(&definition());
    crd.iter_mut()
        .chain(&mut printed)
        .for_each(with_plain_numbers);
    assert!(crd == printed, "the component's CRD is another");
}

// ---- folders ----------------------------------------------------------------------------------

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy(&source, &target);
        } else {
            fs::copy(&source, &target).expect("copied");
        }
    }
}
