//! How each printed command is checked. Every command must match a row, and every row must match a
//! command.

use super::extract::Printed;

/// How a command is checked without a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// The command-line parser of `event-forwarder` accepts it.
    Operator,
    /// The command-line parser of `kubectl forwarder` accepts it.
    Plugin,
    /// It succeeds in a folder with the files that it uses.
    Runs,
    /// kubectl accepts it up to the first request to an unavailable API server. The files and
    /// folders in it exist.
    Kubectl,
    /// Like [`Self::Kubectl`], for helm.
    Helm,
    /// The chart renders with these values.
    Chart,
    /// A part of a command in prose. The program's help contains the subcommand and its options.
    Part,
    /// The Makefile has the target.
    Make,
    /// The test, benchmark or package folder exists.
    Build,
    /// The first word is a script of the repository that supports the second, if there is one.
    Script,
    /// Bash parses it.
    Shell,
}

/// A row: a pattern, the check, and the end-to-end tests that run the printed command.
///
/// In a pattern, `*` matches any part of one word, and `...` matches any number of words.
pub type Row = (&'static str, Check, &'static [&'static str]);

const DOCS: &[&str] = &["printed::commands_in_documentation_run"];
const NOTES: &[&str] = &["printed::commands_in_notes_run"];
const MESSAGES: &[&str] = &["printed::commands_in_messages_run"];
const DOCS_AND_MESSAGES: &[&str] = &[DOCS[0], MESSAGES[0]];
const EVERYWHERE: &[&str] = &[DOCS[0], NOTES[0], MESSAGES[0]];
const CRD: &[&str] = &["printed::printed_command_updates_older_crd"];
const HELM: &[&str] = &["printed::helm_uninstall_works_as_documented"];
const KUSTOMIZE: &[&str] = &["printed::kustomize_uninstall_works_as_documented"];
const BOTH_UNINSTALLS: &[&str] = &[HELM[0], KUSTOMIZE[0]];
/// No end-to-end test: the check is sufficient, or the command creates the cluster of these tests.
const CHECK_ONLY: &[&str] = &[];

pub const TABLE: &[Row] = {
    use Check::*;
    &[
        // The program itself.
        ("event-forwarder map", Operator, CHECK_ONLY),
        (
            "event-forwarder map --forwarder * batch.json",
            Runs,
            CHECK_ONLY,
        ),
        ("event-forwarder completion *", Runs, CHECK_ONLY),
        ("event-forwarder dlq --forwarder * list", Operator, DOCS),
        ("event-forwarder dlq --file * list", Operator, CHECK_ONLY),
        // The plugin.
        ("kubectl forwarder", Part, CHECK_ONLY),
        ("kubectl forwarder completion *", Plugin, DOCS),
        ("kubectl forwarder status ...", Plugin, DOCS_AND_MESSAGES),
        ("kubectl forwarder run ...", Plugin, DOCS),
        ("kubectl forwarder suspend ...", Plugin, DOCS),
        ("kubectl forwarder resume ...", Plugin, DOCS_AND_MESSAGES),
        ("kubectl forwarder map ...", Plugin, DOCS),
        ("kubectl forwarder dlq ...", Plugin, DOCS_AND_MESSAGES),
        ("ln -s event-forwarder *", Shell, DOCS),
        // Forwarders.
        ("kubectl get eventforwarders ...", Kubectl, EVERYWHERE),
        ("kubectl get eventforwarder * -o json", Kubectl, DOCS),
        ("kubectl describe eventforwarder ...", Kubectl, EVERYWHERE),
        ("kubectl explain eventforwarder.spec", Kubectl, EVERYWHERE),
        (
            "kubectl explain eventforwarder.spec --recursive",
            Kubectl,
            DOCS_AND_MESSAGES,
        ),
        ("kubectl explain eventforwarder.spec.drain", Kubectl, DOCS),
        (
            "kubectl explain eventforwarder.status --recursive",
            Kubectl,
            DOCS,
        ),
        (
            "kubectl annotate eventforwarder ...",
            Kubectl,
            DOCS_AND_MESSAGES,
        ),
        ("kubectl wait --for=condition=Ready *", Kubectl, DOCS),
        (
            "kubectl create job mparticle-$(date +%s) --from=cronjob/mparticle",
            Kubectl,
            DOCS,
        ),
        ("kubectl create secret generic ...", Kubectl, EVERYWHERE),
        (
            "kubectl apply -f examples/eventforwarder.yaml",
            Kubectl,
            DOCS,
        ),
        ("kubectl apply -f - ...", Kubectl, NOTES),
        (
            "kubectl get events --field-selector involvedObject.kind=EventForwarder --sort-by=.metadata.creationTimestamp",
            Kubectl,
            DOCS,
        ),
        // Other objects in the cluster.
        ("kubectl get nodes", Kubectl, DOCS),
        ("kubectl get pods ...", Kubectl, MESSAGES),
        (
            "kubectl logs --namespace * --selector=* --tail=-1",
            Kubectl,
            HELM,
        ),
        ("kubectl describe pod * -n *", Kubectl, MESSAGES),
        ("kubectl describe job * -n *", Kubectl, MESSAGES),
        ("kubectl delete job ...", Kubectl, MESSAGES),
        ("kubectl config get-contexts", Kubectl, MESSAGES),
        ("kubectl config current-context", Kubectl, MESSAGES),
        // Installing, updating and uninstalling.
        ("helm install event-forwarder ...", Chart, HELM),
        (
            "helm upgrade event-forwarder ... --set image.tag=*",
            Chart,
            HELM,
        ),
        (
            "helm upgrade * ... --set crds.install=true --force-conflicts",
            Chart,
            CRD,
        ),
        ("helm upgrade * ... --set crds.install=true", Chart, CRD),
        ("helm uninstall event-forwarder --namespace *", Helm, HELM),
        (
            "kubectl apply --server-side --force-conflicts -f crds/",
            Kubectl,
            CRD,
        ),
        (
            "kubectl apply --server-side -k examples/kustomize",
            Kubectl,
            KUSTOMIZE,
        ),
        ("kubectl delete -k examples/kustomize", Kubectl, KUSTOMIZE),
        (
            "kubectl delete eventforwarders --all --all-namespaces",
            Kubectl,
            BOTH_UNINSTALLS,
        ),
        (
            "kubectl delete customresourcedefinition eventforwarders.eventforwarder.io",
            Kubectl,
            BOTH_UNINSTALLS,
        ),
        (
            "kubectl describe customresourcedefinition eventforwarders.eventforwarder.io",
            Kubectl,
            DOCS_AND_MESSAGES,
        ),
        // Parts of commands.
        ("kubectl apply", Part, CHECK_ONLY),
        ("kubectl apply --server-side", Part, CHECK_ONLY),
        ("kubectl create", Part, CHECK_ONLY),
        ("kubectl edit", Part, CHECK_ONLY),
        ("kubectl create job --from", Part, CHECK_ONLY),
        ("kubectl delete -k", Part, CHECK_ONLY),
        ("kubectl explain", Part, CHECK_ONLY),
        ("kubectl wait", Part, CHECK_ONLY),
        ("helm install --wait", Part, CHECK_ONLY),
        ("helm rollback", Part, CHECK_ONLY),
        // This repository.
        ("make *", Make, CHECK_ONLY),
        ("cargo bench --bench ...", Build, CHECK_ONLY),
        ("npm ci --prefix *", Build, CHECK_ONLY),
        ("deploy/build-image FILE.tar NAME:TAG", Script, CHECK_ONLY),
        ("deploy/build-image", Script, CHECK_ONLY),
        ("tests/skew ...", Script, CHECK_ONLY),
        ("tests/cluster/cluster *", Script, CHECK_ONLY),
        ("tests/cluster/cluster image * *", Script, CHECK_ONLY),
        ("tests/sqs/setup", Script, CHECK_ONLY),
        ("deploy/notices", Script, CHECK_ONLY),
        ("deploy/build-image --profile * * *", Script, CHECK_ONLY),
        ("cargo test --locked --lib", Build, CHECK_ONLY),
        ("cargo test --locked --workspace", Build, CHECK_ONLY),
        ("cargo test --locked --test * *", Build, CHECK_ONLY),
        ("UPDATE_DOCS=1 cargo test --test * *", Build, CHECK_ONLY),
        (
            "UPDATE_CA_CERTIFICATES=1 cargo test --test *",
            Build,
            CHECK_ONLY,
        ),
        (
            "EVENT_FORWARDER_IMAGE=* cargo test --locked --test * -- NAME",
            Build,
            CHECK_ONLY,
        ),
        (
            "tests/cluster/cluster up; eval \"$(tests/cluster/cluster env)\"",
            Shell,
            CHECK_ONLY,
        ),
        ("eval \"$(tests/cluster/cluster env)\"", Shell, CHECK_ONLY),
    ]
};

/// Returns the first row that matches a command.
pub fn row_of(printed: &Printed) -> Option<&'static Row> {
    TABLE
        .iter()
        .find(|(pattern, ..)| matches_pattern(pattern, &printed.command))
}

pub fn matches_pattern(pattern: &str, command: &str) -> bool {
    let pattern: Vec<_> = pattern.split_whitespace().collect();
    let words: Vec<_> = command.split_whitespace().collect();
    let one = |pattern: &str, word: &str| match pattern.split_once('*') {
        None => pattern == word,
        Some((before, after)) => {
            word.len() >= before.len() + after.len()
                && word.starts_with(before)
                && word.ends_with(after)
        }
    };
    let all = |pattern: &[&str], words: &[&str]| {
        pattern.len() == words.len() && pattern.iter().zip(words).all(|(p, w)| one(p, w))
    };
    match pattern.iter().position(|word| *word == "...") {
        None => all(&pattern, &words),
        Some(at) => {
            let (before, after) = (&pattern[..at], &pattern[at + 1..]);
            words.len() >= before.len() + after.len()
                && all(before, &words[..before.len()])
                && all(after, &words[words.len() - after.len()..])
        }
    }
}
