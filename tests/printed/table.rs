//! How each command that the project prints is proved. A command that no row fits fails the tests,
//! and so does a row that fits no command.

use super::extract::Printed;

/// How a command is proved without a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// The command line of `event-forwarder` parses it.
    Operator,
    /// The command line of `kubectl forwarder` parses it.
    Plugin,
    /// It runs here and succeeds, in a folder with the files that it names.
    Runs,
    /// kubectl accepts it up to the first request to an API server, which is away. The files and
    /// folders that it names exist.
    Kubectl,
    /// As [`Self::Kubectl`], by helm.
    Helm,
    /// The chart renders with these values.
    Chart,
    /// A part of a command, as text names it: the program has it, with these options.
    Part,
    /// The Makefile has the target.
    Make,
    /// The test, benchmark or package folder exists.
    Build,
    /// The first word is a script of the repository whose usage names the second, if there is one.
    Script,
    /// Bash parses it.
    Shell,
}

/// A row: words, of which `*` is any one and a last `...` any more; the proof; and the tests of the
/// end-to-end suite that run the command as it is printed.
pub type Row = (&'static str, Proof, &'static [&'static str]);

const DOCS: &[&str] = &["printed::commands_in_documentation_run"];
const NOTES: &[&str] = &["printed::commands_in_notes_run"];
const MESSAGES: &[&str] = &["printed::commands_in_messages_run"];
const DOCS_AND_MESSAGES: &[&str] = &[DOCS[0], MESSAGES[0]];
const EVERYWHERE: &[&str] = &[DOCS[0], NOTES[0], MESSAGES[0]];
const CRD: &[&str] = &["printed::printed_command_updates_older_crd"];
const HELM: &[&str] = &["printed::helm_uninstall_works_as_documented"];
const KUSTOMIZE: &[&str] = &["printed::kustomize_uninstall_works_as_documented"];
const EITHER_WAY: &[&str] = &[HELM[0], KUSTOMIZE[0]];
/// The proof says all, or the suite's own cluster was made by the command.
const NOT_RUN: &[&str] = &[];

pub const TABLE: &[Row] = {
    use Proof::*;
    &[
        // The program itself.
        ("event-forwarder map", Operator, NOT_RUN),
        (
            "event-forwarder map --forwarder * batch.json",
            Runs,
            NOT_RUN,
        ),
        ("event-forwarder completion *", Runs, NOT_RUN),
        ("event-forwarder dlq --forwarder * list", Operator, DOCS),
        ("event-forwarder dlq --file * list", Operator, NOT_RUN),
        // The plugin.
        ("kubectl forwarder", Part, NOT_RUN),
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
        // What else a person looks at.
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
            EITHER_WAY,
        ),
        (
            "kubectl delete customresourcedefinition eventforwarders.eventforwarder.io",
            Kubectl,
            EITHER_WAY,
        ),
        (
            "kubectl describe customresourcedefinition eventforwarders.eventforwarder.io",
            Kubectl,
            DOCS_AND_MESSAGES,
        ),
        // Parts of commands.
        ("kubectl apply", Part, NOT_RUN),
        ("kubectl apply --server-side", Part, NOT_RUN),
        ("kubectl create", Part, NOT_RUN),
        ("kubectl edit", Part, NOT_RUN),
        ("kubectl create job --from", Part, NOT_RUN),
        ("kubectl delete -k", Part, NOT_RUN),
        ("kubectl explain", Part, NOT_RUN),
        ("kubectl wait", Part, NOT_RUN),
        ("helm install --wait", Part, NOT_RUN),
        ("helm rollback", Part, NOT_RUN),
        // This repository.
        ("make *", Make, NOT_RUN),
        ("cargo bench --bench ...", Build, NOT_RUN),
        ("npm ci --prefix *", Build, NOT_RUN),
        ("deploy/build-image FILE.tar NAME:TAG", Script, NOT_RUN),
        ("deploy/build-image", Script, NOT_RUN),
        ("tests/skew ...", Script, NOT_RUN),
        ("tests/cluster/cluster *", Script, NOT_RUN),
        ("tests/cluster/cluster image * *", Script, NOT_RUN),
        ("tests/sqs/setup", Script, NOT_RUN),
        ("deploy/notices", Script, NOT_RUN),
        ("deploy/build-image --profile * * *", Script, NOT_RUN),
        ("cargo test --locked --lib", Build, NOT_RUN),
        ("cargo test --locked --workspace", Build, NOT_RUN),
        ("cargo test --locked --test * *", Build, NOT_RUN),
        ("UPDATE_DOCS=1 cargo test --test * *", Build, NOT_RUN),
        (
            "UPDATE_CA_CERTIFICATES=1 cargo test --test *",
            Build,
            NOT_RUN,
        ),
        (
            "EVENT_FORWARDER_IMAGE=* cargo test --locked --test * -- NAME",
            Build,
            NOT_RUN,
        ),
        (
            "tests/cluster/cluster up; eval \"$(tests/cluster/cluster env)\"",
            Shell,
            NOT_RUN,
        ),
        ("eval \"$(tests/cluster/cluster env)\"", Shell, NOT_RUN),
    ]
};

/// The row of a command: the first that fits.
pub fn row_of(printed: &Printed) -> Option<&'static Row> {
    TABLE
        .iter()
        .find(|(pattern, ..)| fits(pattern, &printed.command))
}

pub fn fits(pattern: &str, command: &str) -> bool {
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
