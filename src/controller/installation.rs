//! How the CRD was installed, which determines the command that updates it.

use kube::core::ObjectMeta;

/// The name of the CRD.
pub const CRD: &str = "eventforwarders.eventforwarder.io";
/// The command that updates a CRD that no Helm release owns. Without `--force-conflicts` it fails
/// if the CRD was created by anything except `kubectl apply`.
pub const APPLY: &str = "kubectl apply --server-side --force-conflicts -f crds/";

/// How the CRD was installed.
#[derive(Debug, PartialEq, Eq)]
pub enum Installation {
    /// By the chart. Only an upgrade of this release keeps Helm as the owner of the CRD.
    Helm {
        /// The release's name.
        release: String,
        /// The release's namespace.
        namespace: String,
        /// Whether another field manager has written to the CRD, which is a conflict for Helm.
        contested: bool,
    },
    /// Not by a Helm release.
    Applied,
    /// The controller is not allowed to read the CRD.
    Unknown,
}

impl Installation {
    /// Determines it from the CRD's labels, annotations and field managers.
    pub fn from_metadata(metadata: &ObjectMeta) -> Self {
        let annotation = |name: &str| metadata.annotations.as_ref()?.get(name).cloned();
        let by_helm = metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get("app.kubernetes.io/managed-by"))
            .is_some_and(|manager| manager == "Helm");
        match (
            annotation("meta.helm.sh/release-name"),
            annotation("meta.helm.sh/release-namespace"),
        ) {
            (Some(release), Some(namespace)) if by_helm => Self::Helm {
                release,
                namespace,
                contested: has_another_writer(metadata),
            },
            _ => Self::Applied,
        }
    }

    /// Returns how to update the CRD, with the command.
    pub fn how_to_update(&self) -> String {
        let version = env!("CARGO_PKG_VERSION");
        let upgrade = |release: &str, namespace: &str, force: &str| {
            format!(
                "`helm upgrade {release} charts/event-forwarder --namespace {namespace} --reset-then-reuse-values --set crds.install=true{force}`"
            )
        };
        match self {
            Self::Helm {
                release,
                namespace,
                contested,
            } => format!(
                "The Helm release {namespace}/{release} installed it. In the folder of event-forwarder {version}, run {}; if that release no longer exists, run `{APPLY}`",
                upgrade(
                    release,
                    namespace,
                    if *contested { " --force-conflicts" } else { "" }
                )
            ),
            Self::Applied => format!(
                "No Helm release owns it. In the folder of event-forwarder {version}, run `{APPLY}`"
            ),
            Self::Unknown => format!(
                "See how it was installed with `kubectl describe customresourcedefinition {CRD}`. If its annotations name a Helm release, run {} in the folder of event-forwarder {version}, otherwise `{APPLY}`",
                upgrade("RELEASE", "RELEASE-NAMESPACE", "")
            ),
        }
    }
}

/// Returns whether a field manager except Helm owns fields of the CRD outside its status.
fn has_another_writer(metadata: &ObjectMeta) -> bool {
    let writers = metadata.managed_fields.iter().flatten();
    writers
        .filter(|writer| writer.subresource.is_none())
        .any(|writer| writer.manager.as_deref() != Some("helm"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn update_command_matches_how_crd_was_installed() {
        let metadata = |labels: Value, annotations: Value, writers: Value| -> ObjectMeta {
            serde_json::from_value(json!({
                "labels": labels, "annotations": annotations, "managedFields": writers,
            }))
            .expect("metadata")
        };
        let writers = |managers: &[&str]| -> Value {
            let status = json!({"manager": "kube-apiserver", "subresource": "status"});
            let managers = managers.iter().map(|manager| json!({"manager": manager}));
            managers.chain([status]).collect()
        };
        let by_helm = json!({"app.kubernetes.io/managed-by": "Helm"});
        let release = json!({
            "meta.helm.sh/release-name": "events",
            "meta.helm.sh/release-namespace": "marketing",
        });
        let helm = |contested| Installation::Helm {
            release: "events".to_owned(),
            namespace: "marketing".to_owned(),
            contested,
        };
        let (helm_only, two) = (writers(&["helm"]), writers(&["helm", "kubectl-edit"]));
        for (labels, annotations, writers, expected) in [
            (
                by_helm.clone(),
                release.clone(),
                helm_only.clone(),
                helm(false),
            ),
            (by_helm.clone(), release.clone(), two, helm(true)),
            (
                json!({}),
                json!({}),
                writers(&["kubectl"]),
                Installation::Applied,
            ),
            (json!({}), release, helm_only.clone(), Installation::Applied),
            (by_helm, json!({}), helm_only, Installation::Applied),
        ] {
            let installation = Installation::from_metadata(&metadata(labels, annotations, writers));
            assert_eq!(installation, expected);
        }
        let upgrade = "`helm upgrade events charts/event-forwarder --namespace marketing --reset-then-reuse-values --set crds.install=true";
        for (contested, end) in [(false, "`"), (true, " --force-conflicts`")] {
            let text = helm(contested).how_to_update();
            assert!(text.contains(&format!("{upgrade}{end}")), "{text}");
        }
        let applied = Installation::Applied.how_to_update();
        let command = format!("`{APPLY}`");
        assert!(
            applied.contains(&command) && !applied.contains("helm "),
            "{applied}"
        );
        let unknown = Installation::Unknown.how_to_update();
        let has_both = unknown.contains(&command) && unknown.contains("`helm upgrade RELEASE ");
        assert!(has_both, "{unknown}");
    }
}
