//! Rules for sharing a cluster with other users. The suite uses separate names and a label, deletes
//! only objects with that label, and restores the CRD.

use std::{
    env,
    panic::{AssertUnwindSafe, resume_unwind},
};

use event_forwarder::api::EventForwarder;
use futures::FutureExt;
use k8s_openapi::{
    api::core::v1::{ConfigMap, Namespace},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::world::{CHART, apply_json, helm, kubectl};

/// The suite's release, and the value of its label.
pub const RELEASE: &str = "event-forwarder-e2e";
/// The namespace of the suite's operator.
pub const SYSTEM: &str = "event-forwarder-e2e-system";
/// The label of every namespace and cluster-scoped object that the suite creates.
pub const PART_OF: &str = "app.kubernetes.io/part-of";
/// The variable that allows the suite to run beside other installations of the product.
pub const SHARE: &str = "EVENT_FORWARDER_SHARE_CLUSTER";
/// The name of the CRD.
pub const CRD: &str = "eventforwarders.eventforwarder.io";

/// The ConfigMap with the CRD before the suite changed it. If this run is killed, the next run
/// restores the CRD from it.
const SAVED: &str = "crd-before";
/// The role with which the operator of a shared cluster watches all namespaces.
const WATCH: &str = "event-forwarder-e2e-watch";

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Returns whether this or an earlier run of the suite created the object.
pub fn created_by_suite(object: &impl ResourceExt) -> bool {
    object.labels().get(PART_OF).is_some_and(|it| it == RELEASE)
}

/// Returns the suite's label as a selector.
pub fn suite_selector() -> String {
    format!("{PART_OF}={RELEASE}")
}

/// Returns the error for an object of another owner whose name the suite uses.
fn foreign_object_error(kind: &str, name: &str) -> String {
    format!(
        "{kind} {name} has no label {PART_OF}={RELEASE}, so these tests did not create it and don't change it: delete it, or use another cluster"
    )
}

/// Deletes the namespace of an earlier run, if it exists.
pub async fn delete_namespace(client: &Client, name: &str) {
    let namespaces = Api::<Namespace>::all(client.clone());
    let Some(namespace) = namespaces.get_opt(name).await.expect("the namespace") else {
        return;
    };
    assert!(
        created_by_suite(&namespace),
        "{}",
        foreign_object_error("namespace", name)
    );
    namespaces
        .delete(name, &DeleteParams::default())
        .await
        .expect("deleting the namespace");
    crate::world::wait_until_deleted(&namespaces, name).await;
}

/// Deletes the cluster-scoped object of an earlier run, if it exists.
pub async fn delete_cluster_object<K>(client: &Client, name: &str)
where
    K: kube::Resource<Scope = k8s_openapi::ClusterResourceScope>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug,
    K::DynamicType: Default,
{
    let api = Api::<K>::all(client.clone());
    let Some(object) = api.get_opt(name).await.expect("a get") else {
        return;
    };
    let types = K::DynamicType::default();
    let kind = K::kind(&types);
    assert!(
        created_by_suite(&object),
        "{}",
        foreign_object_error(&kind, name)
    );
    api.delete(name, &DeleteParams::default())
        .await
        .expect("a deletion");
    crate::world::wait_until_deleted(&api, name).await;
}

/// A helm release of the chart that is not the suite's.
struct Release {
    name: String,
    namespace: String,
}

async fn releases_of_others(client: &Client) -> Result<Vec<Release>, AnyError> {
    let listed = helm(&[
        "list",
        "--all-namespaces",
        "--max",
        "10000",
        "--output",
        "json",
    ])
    .await;
    let listed: Vec<Value> = serde_json::from_str(&listed)?;
    let namespaces = Api::<Namespace>::all(client.clone());
    let mut foreign = Vec::new();
    for release in listed {
        let text = |field: &str| release[field].as_str().unwrap_or_default().to_owned();
        let (name, namespace) = (text("name"), text("namespace"));
        let version = text("chart");
        let version = version.strip_prefix("event-forwarder-").unwrap_or_default();
        if !version.starts_with(|first: char| first.is_ascii_digit()) {
            continue;
        }
        let object = namespaces.get_opt(&namespace).await?;
        if name != RELEASE || !object.as_ref().is_some_and(created_by_suite) {
            foreign.push(Release { name, namespace });
        }
    }
    Ok(foreign)
}

/// Returns whether the suite created the CRD. Also checks helm's annotations, because the label is
/// added only after helm's installation.
fn crd_created_by_suite(crd: &DynamicObject) -> bool {
    let annotation = |name: &str| crd.annotations().get(name).map(String::as_str);
    created_by_suite(crd)
        || annotation("meta.helm.sh/release-name") == Some(RELEASE)
            && annotation("meta.helm.sh/release-namespace") == Some(SYSTEM)
}

/// Returns an untyped client for CRDs, which keeps fields that this program's types lack.
fn crds(client: &Client) -> Api<DynamicObject> {
    let kind = ApiResource::erase::<CustomResourceDefinition>(&());
    Api::all_with(client.clone(), &kind)
}

async fn crd(client: &Client) -> kube::Result<Option<DynamicObject>> {
    crds(client).get_opt(CRD).await
}

/// Returns the kinds and names of the product's objects that the suite did not create.
async fn objects_of_others(client: &Client) -> Result<Vec<String>, AnyError> {
    let mut objects = Vec::new();
    if crd(client)
        .await?
        .is_some_and(|crd| !crd_created_by_suite(&crd))
    {
        objects.push(format!("the CRD {CRD}"));
    }
    for Release { name, namespace } in releases_of_others(client).await? {
        objects.push(format!("release {name} in namespace {namespace}"));
    }
    Ok(objects)
}

/// Returns whether [`SHARE`] is set.
pub fn is_allowed() -> bool {
    env::var(SHARE).is_ok_and(|value| value == "yes")
}

/// Checks that the suite can use the cluster, before it changes anything.
///
/// # Errors
/// Returns one sentence that names the objects of other owners and the next step.
pub async fn preflight(client: &Client, allowed: bool) -> Result<(), AnyError> {
    let namespaces = Api::<Namespace>::all(client.clone());
    if let Some(namespace) = namespaces.get_opt(SYSTEM).await?
        && !created_by_suite(&namespace)
    {
        return Err(foreign_object_error("namespace", SYSTEM).into());
    }
    let foreign = objects_of_others(client).await?;
    if !foreign.is_empty() && !allowed {
        return Err(format!(
            "this cluster has {}, which these tests did not create: set {SHARE}=yes to run them beside it, with the CRD's schema changed until they end",
            foreign.join(" and ")
        )
        .into());
    }
    for Release { name, namespace } in releases_of_others(client).await? {
        let values = ["get", "values", &name, "--namespace", &namespace];
        let values = helm(&[&values[..], &["--all", "--output", "json"]].concat()).await;
        let values: Value = serde_json::from_str(&values)?;
        if values["watchNamespaces"]
            .as_array()
            .is_none_or(Vec::is_empty)
        {
            return Err(format!(
                "release {name} in namespace {namespace} manages the EventForwarders of all namespaces, so also those of these tests: set watchNamespaces in its values, or use another cluster"
            )
            .into());
        }
    }
    Ok(())
}

/// A CRD as it was at one time.
struct SavedCrd(DynamicObject);

impl SavedCrd {
    /// Restores the spec and the field owners, if they have changed. The restored owners prevent
    /// conflicts when the CRD's owner next runs `helm upgrade` or `kubectl apply`.
    async fn restore(&self, client: &Client) {
        let crds = crds(client);
        let mut now = crds.get(CRD).await.expect("the CRD");
        if now.data["spec"] != self.0.data["spec"] {
            now.data["spec"] = self.0.data["spec"].clone();
            let params = PostParams {
                field_manager: Some(RELEASE.to_owned()),
                ..PostParams::default()
            };
            now = crds.replace(CRD, &params, &now).await.expect("a replace");
        }
        let owners = &self.0.metadata.managed_fields;
        if now.metadata.managed_fields != *owners {
            let patch = Patch::Merge(json!({"metadata": {"managedFields": owners}}));
            crds.patch(CRD, &PatchParams::default(), &patch)
                .await
                .expect("the owners of the CRD's fields");
        }
    }
}

/// Runs a test that changes the CRD, and restores the CRD even if the test fails.
pub async fn with_crd_restored(client: &Client, test: impl Future<Output = ()>) {
    let saved = SavedCrd(crd(client).await.expect("a get").expect("the CRD"));
    let result = AssertUnwindSafe(test).catch_unwind().await;
    saved.restore(client).await;
    if let Err(panic) = result {
        resume_unwind(panic);
    }
}

/// Creates the operator's namespace, and saves the CRD there if it belongs to another owner.
async fn prepare(client: &Client) -> Result<(), AnyError> {
    create_namespace(client, SYSTEM, json!({})).await;
    let saved = Api::<ConfigMap>::namespaced(client.clone(), SYSTEM);
    let foreign = crd(client).await?.filter(|crd| !crd_created_by_suite(crd));
    let (Some(crd), None) = (foreign, saved.get_opt(SAVED).await?) else {
        return Ok(());
    };
    let map = serde_json::from_value(json!({
        "metadata": {"name": SAVED},
        "data": {"crd.json": serde_json::to_string(&crd)?},
    }))?;
    saved.create(&PostParams::default(), &map).await?;
    Ok(())
}

/// Creates a namespace with the suite's label and these labels, or updates the suite's existing
/// namespace.
pub async fn create_namespace(client: &Client, name: &str, labels: Value) {
    let namespaces = Api::<Namespace>::all(client.clone());
    if let Some(namespace) = namespaces.get_opt(name).await.expect("the namespace") {
        assert!(
            created_by_suite(&namespace),
            "{}",
            foreign_object_error("namespace", name)
        );
    }
    let mut all = json!({PART_OF: RELEASE});
    crate::world::merge(&mut all, labels);
    apply_json(
        client,
        json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": all},
        }),
    )
    .await;
}

/// Restores the CRD of another owner, if this or an earlier run has changed it.
pub async fn restore_saved_crd(client: &Client) {
    let saved = Api::<ConfigMap>::namespaced(client.clone(), SYSTEM);
    let Some(saved) = saved.get_opt(SAVED).await.expect("a get") else {
        return;
    };
    let data = saved.data.unwrap_or_default();
    let saved: DynamicObject = serde_json::from_str(&data["crd.json"]).expect("the saved CRD");
    let now = crd(client).await.expect("a get");
    // If not, its owner has replaced it after an earlier run was killed.
    let is_changed_by_suite = now.is_some_and(|now| {
        let mut owners = now.managed_fields().iter();
        now.uid() == saved.uid() && owners.any(|it| it.manager.as_deref() == Some(RELEASE))
    });
    if is_changed_by_suite {
        SavedCrd(saved).restore(client).await;
    }
}

/// Deletes all objects that this and earlier runs created, and restores the CRD of another owner.
pub async fn clean_up(client: &Client) {
    let namespaces = Api::<Namespace>::all(client.clone());
    let system = namespaces.get_opt(SYSTEM).await.expect("a get");
    if system.as_ref().is_some_and(created_by_suite) {
        uninstall().await;
        restore_saved_crd(client).await;
    }
    let labeled = suite_selector();
    let delete = async |kinds: &str| {
        let all = ["delete", kinds, "--selector", &labeled];
        kubectl(&[&all[..], &["--timeout", "180s"]].concat()).await;
    };
    delete("namespaces").await;
    let crd = crd(client).await.expect("a get");
    if crd.is_some_and(|crd| crd_created_by_suite(&crd)) && !has_forwarders(client).await {
        let crds = crds(client);
        crds.delete(CRD, &DeleteParams::default())
            .await
            .expect("deleting the CRD");
        crate::world::wait_until_deleted(&crds, CRD).await;
    }
    delete("nodes,clusterroles,clusterrolebindings").await;
}

/// Returns whether EventForwarders of other users exist. Deleting the CRD would delete them.
async fn has_forwarders(client: &Client) -> bool {
    let forwarders = Api::<EventForwarder>::all(client.clone());
    let listed = forwarders.list_metadata(&ListParams::default()).await;
    let listed = listed.expect("EventForwarders").items;
    if let Some(one) = listed.first() {
        eprintln!(
            "the CRD {CRD} is kept, because EventForwarder {} in namespace {} uses it",
            one.name_any(),
            one.namespace().unwrap_or_default()
        );
    }
    !listed.is_empty()
}

/// Uninstalls the suite's release, and deletes the roles that [`grant`] created.
pub async fn uninstall() {
    helm(&[
        "uninstall",
        RELEASE,
        "--namespace",
        SYSTEM,
        "--ignore-not-found",
        "--wait",
    ])
    .await;
    delete_roles().await;
}

/// Deletes the roles and bindings that [`grant`] created.
async fn delete_roles() {
    let labeled = suite_selector();
    let selector = ["--selector", &labeled];
    let in_the_cluster = ["delete", "clusterroles,clusterrolebindings"];
    kubectl(&[&in_the_cluster[..], &selector].concat()).await;
    let in_the_namespace = ["delete", "roles,rolebindings", "--namespace", SYSTEM];
    kubectl(&[&in_the_namespace[..], &selector].concat()).await;
}

/// Prepares the installation of the release, and returns additional arguments for helm.
///
/// On a shared cluster, helm does not install the CRD. The operator has no permission to change
/// objects outside the suite's namespaces, because it watches all namespaces and would otherwise
/// also manage the user's forwarders.
pub async fn before_install(client: &Client, watches_all: bool) -> Result<Vec<String>, AnyError> {
    prepare(client).await?;
    if objects_of_others(client).await?.is_empty() {
        return Ok(Vec::new());
    }
    let mut set = vec!["crds.install=false".to_owned()];
    apply_schema(client).await?;
    if watches_all {
        grant(client).await?;
        set.extend(["rbac.create=false", "rbac.aggregateToUserRoles=false"].map(str::to_owned));
    } else {
        delete_roles().await;
    }
    let flags = set.into_iter().flat_map(|it| ["--set".to_owned(), it]);
    Ok(flags.collect())
}

/// Labels the cluster-scoped objects of the release, because no value of the chart sets labels.
pub async fn after_install(client: &Client) -> Result<(), AnyError> {
    let label = suite_selector();
    if crd(client)
        .await?
        .is_some_and(|crd| crd_created_by_suite(&crd))
    {
        kubectl(&["label", "crd", CRD, &label, "--overwrite"]).await;
    }
    let of_the_release = format!("app.kubernetes.io/instance={RELEASE}");
    let roles = "clusterroles,clusterrolebindings";
    kubectl(&[
        "label",
        roles,
        "--selector",
        &of_the_release,
        &label,
        "--overwrite",
    ])
    .await;
    Ok(())
}

/// Applies this chart's schema to the CRD of another owner. [`clean_up`] restores it.
async fn apply_schema(client: &Client) -> Result<(), AnyError> {
    let desired: Value = serde_saphyr::from_str(include_str!("../../crds/eventforwarder.yaml"))?;
    let params = PatchParams::apply(RELEASE).force();
    crds(client)
        .patch(CRD, &params, &Patch::Apply(&desired))
        .await?;
    Ok(())
}

/// Grants the operator the permissions of the chart's ClusterRole in the suite's namespaces, where
/// `World::new` binds it, and read-only permissions in all other namespaces.
async fn grant(client: &Client) -> Result<(), AnyError> {
    let template = ["template", RELEASE, CHART, "--namespace", SYSTEM];
    let rbac = [
        "--show-only",
        "templates/rbac.yaml",
        "--set",
        "image.repository=any",
    ];
    let rendered = helm(&[&template[..], &rbac].concat()).await;
    let documents = rendered.split("\n---");
    for document in documents.filter(|document| document.contains("\nkind: ")) {
        let mut object: Value = serde_saphyr::from_str(document)?;
        object["metadata"]["labels"] = json!({PART_OF: RELEASE});
        match object["kind"].as_str() {
            Some("ClusterRole") => {
                let mut watch = object.clone();
                watch["metadata"]["name"] = json!(WATCH);
                let rules = watch["rules"]
                    .as_array_mut()
                    .ok_or("a role without rules")?;
                // The permission to get the CRD is kept.
                let is_watched = |rule: &Value| rule["verbs"].to_string().contains("watch");
                rules.retain(|rule| is_watched(rule) || rule["resourceNames"] == json!([CRD]));
                for rule in rules.iter_mut().filter(|rule| is_watched(rule)) {
                    rule["verbs"] = json!(["get", "list", "watch"]);
                }
                apply_json(client, watch).await;
            }
            Some("ClusterRoleBinding") => {
                object["metadata"]["name"] = json!(WATCH);
                object["roleRef"]["name"] = json!(WATCH);
            }
            _ => {}
        }
        apply_json(client, object).await;
    }
    Ok(())
}
