//! Checks of scripts, links in documents, licenses, and the contents of the image.

use std::{
    collections::BTreeSet,
    env,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::LazyLock,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use sha2::{Digest, Sha256};

const CERTIFICATES: &str = "deploy/ca-certificates.crt";
const BUILD_IMAGE: &str = "deploy/build-image";

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn succeeds(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    output
}

/// A temporary folder that is deleted on drop.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("event-forwarder-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

// ---- scripts ----------------------------------------------------------------------------------

/// Runs lines of bash with the functions of `tests/progress`.
fn script(lines: &str) -> Output {
    let lines = format!("set -euo pipefail; . tests/progress; {lines}");
    Command::new("bash").args(["-c", &lines]).output().unwrap()
}

#[test]
fn await_measures_time_from_its_start() {
    let folder = Folder::new("wait");
    let file = folder.0.join("second-attempt");
    let output = script(&format!(
        "SECONDS=3600; ready() {{ [[ -e {0} ]] || {{ touch {0}; false; }}; }}
         await 30 'the second attempt' true ready",
        file.display()
    ));
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn await_timeout_prints_goal_state_and_explanation() {
    let output = script(
        "ready() { echo '3 messages left'; false; }
         explain() { echo 'the pod is pending'; }
         await 1 'an empty queue' explain ready",
    );
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    for part in [
        "waiting for an empty queue",
        "Last seen: 3 messages left",
        "the pod is pending",
    ] {
        assert!(stderr.contains(part), "{stderr}");
    }
}

#[test]
fn phase_is_reported_until_script_ends() {
    let output = script("phase one two; phase two; show_phase_times");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    for part in ["] one", "] two", "Time by step", "0 s  one"] {
        assert!(stderr.contains(part), "{stderr}");
    }
}

// ---- documents --------------------------------------------------------------------------------

/// Returns all files in a folder and its subfolders.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .flat_map(|entry| match entry.file_type().unwrap().is_dir() {
            true => files(&entry.path()),
            false => vec![entry.path()],
        })
        .collect()
}

/// Returns the commands of a script that read from a pipe.
fn pipe_readers(script: &str) -> Vec<String> {
    let lines = script.replace("\\\n", " ").replace("|\n", "| ");
    let pipes = lines.lines().flat_map(|line| {
        let line = line.replace("||", "\n");
        let commands = line.lines().flat_map(|list| list.split('|').skip(1));
        commands.map(str::to_owned).collect::<Vec<_>>()
    });
    pipes.collect()
}

/// Returns whether a command ends before it has read all its input.
fn ends_early(command: &str) -> bool {
    let mut words = command.split_whitespace();
    match words.next() {
        Some("head") => true,
        Some("grep") => words
            .take_while(|word| word.starts_with('-'))
            .any(|option| {
                option == "--quiet" || (!option.starts_with("--") && option.contains(['q', 'm']))
            }),
        _ => false,
    }
}

/// The demo prints `eval "$(tests/cluster/cluster env)"`, which sets KUBECONFIG to its own cluster.
/// The tests start their cluster with the same file name.
#[test]
fn demo_cluster_is_recognized_by_its_mark() {
    let folder = Folder::new("demo");
    let config = folder.0.join("config");
    let script = folder.0.join("tests/cluster/cluster");
    fs::create_dir_all(script.parent().unwrap()).unwrap();
    let selected = format!(
        "#!/bin/sh\n[ \"$1\" = selected ] && [ \"$KUBECONFIG\" = {} ]\n",
        config.display()
    );
    fs::write(&script, selected).unwrap();
    fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
    let run = |lines: &str, kubeconfig: &str| {
        let folder = folder.0.display();
        let lines = format!("set -euo pipefail; . demo/common; cd {folder}; {lines}");
        let bash = Command::new("bash")
            .args(["-c", &lines, "demo/up"])
            .env("KUBECONFIG", kubeconfig)
            .status();
        bash.unwrap().success()
    };
    let is_own = |kubeconfig: &str| run("own_cluster", kubeconfig);
    let own = config.display().to_string();
    assert!(is_own("") && is_own(&own), "no cluster is up");
    fs::write(&config, "").unwrap();
    assert!(is_own("") && !is_own(&own), "the tests started a cluster");
    assert!(run("mark_demo_cluster", &own));
    assert!(is_own("") && is_own(&own), "the demo started a cluster");
    for other in ["/other/config", &format!("{own}:/other/config")] {
        assert!(!is_own(other), "{other}");
    }
}

#[test]
fn test_cluster_is_selected_by_its_kubeconfig() {
    let is_selected = |kubeconfig: &str| {
        let script = Command::new("tests/cluster/cluster")
            .arg("selected")
            .env("KUBECONFIG", kubeconfig)
            .status();
        script.unwrap().success()
    };
    // The name of the cluster is a hash of the path of its scripts.
    let path = fs::canonicalize("tests/cluster").unwrap();
    let hash = Sha256::digest(path.display().to_string());
    let name: String = hash
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let own = format!("/var/lib/event-forwarder-test/ef-{name}/admin.kubeconfig");
    assert!(is_selected("") && is_selected(&own));
    for other in ["/other/admin.kubeconfig", &format!("{own}:/other")] {
        assert!(!is_selected(other), "{other}");
    }
}

#[test]
fn pipe_reader_that_ends_early_is_recognized() {
    for (script, expected) in [
        ("list | grep -qxF a || die", true),
        ("list |\n  grep -F -m1 a", true),
        ("list \\\n  | head -n 1", true),
        ("list | grep -F a | head", true),
        ("list | grep -xF q || true", false),
        ("grep -q a file || head file", false),
        ("list | sed -n 1p", false),
    ] {
        let found = pipe_readers(script).iter().any(|reader| ends_early(reader));
        assert_eq!(found, expected, "{script}");
    }
}

/// Under `pipefail` such a pipe fails if the writer still writes when the reader has ended.
#[test]
fn scripts_have_no_pipe_whose_reader_ends_early() {
    let scripts: Vec<_> = [".ci", "demo", "deploy", "tests"]
        .iter()
        .flat_map(|folder| files(Path::new(folder)))
        .filter_map(|path| Some((fs::read_to_string(&path).ok()?, path)))
        .filter(|(text, _)| text.starts_with("#!") || text.starts_with("# shellcheck"))
        .collect();
    let found = |name: &str| scripts.iter().any(|(_, path)| path == Path::new(name));
    assert!(found("tests/run") && found("demo/common") && found("tests/cluster/cluster"));
    let readers: Vec<_> = scripts
        .iter()
        .flat_map(|(text, path)| {
            pipe_readers(text)
                .into_iter()
                .map(move |reader| (path, reader))
        })
        .filter(|(_, reader)| ends_early(reader))
        .collect();
    assert!(readers.is_empty(), "{readers:#?}");
}

/// Returns the links of a document to files of this repository, as (target, anchor).
fn links(text: &str) -> Vec<(&str, &str)> {
    let targets = text.split("](").skip(1);
    targets
        .filter_map(|rest| rest.split(')').next())
        .filter(|target| !target.contains("://"))
        .map(|target| target.split_once('#').unwrap_or((target, "")))
        .collect()
}

/// Returns the anchors that GitHub creates from the headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title.replace(' ', "-");
            kept.chars()
                .filter(|char| char.is_alphanumeric() || "-_".contains(*char))
                .collect()
        })
        .collect()
}

fn documents() -> Vec<PathBuf> {
    let mut documents = vec![PathBuf::from("README.md"), "CONTRIBUTING.md".into()];
    for folder in ["docs", "charts", "examples", "tests/cluster", "deploy"] {
        documents.extend(files(Path::new(folder)));
    }
    documents.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    documents
}

#[test]
fn every_link_target_exists() {
    let mut broken = Vec::new();
    for document in documents() {
        let text = read(&document);
        for (target, anchor) in links(&text) {
            let path = match target {
                "" => document.clone(),
                _ => document.with_file_name("").join(target),
            };
            let exists =
                path.exists() && (anchor.is_empty() || anchors(&read(&path)).contains(anchor));
            if !exists {
                broken.push(format!("{}: {target}#{anchor}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn index_lists_every_document() {
    let index = Path::new("docs/README.md");
    let text = read(index);
    let listed: BTreeSet<_> = links(&text)
        .iter()
        .map(|(target, _)| fs::canonicalize(index.with_file_name("").join(target)).unwrap())
        .collect();
    let missing: Vec<_> = documents()
        .into_iter()
        .filter(|document| document != index)
        .filter(|document| !listed.contains(&fs::canonicalize(document).unwrap()))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/README.md does not list {missing:?}"
    );
}

/// Returns the paths in code spans: words with a slash, except image names, and file names.
fn paths(text: &str) -> Vec<&str> {
    let code = text.split('`').skip(1).step_by(2);
    code.flat_map(|code| code.split([' ', '\n', '"', '(', ')', '$', ',']))
        .filter(|word| word.contains('/') || word.ends_with(".md") || word.ends_with(".rs"))
        .filter(|word| !word.contains(':'))
        .collect()
}

#[test]
fn every_path_in_contributing_exists() {
    let text = read("CONTRIBUTING.md").replace("```", "`");
    let paths = paths(&text);
    assert!(paths.len() > 30, "only {} paths were found", paths.len());
    let missing: Vec<_> = paths
        .into_iter()
        .filter(|path| !Path::new(path).exists())
        .collect();
    assert!(missing.is_empty(), "CONTRIBUTING.md names {missing:?}");
}

// ---- licenses ---------------------------------------------------------------------------------

#[test]
fn third_party_notices_match_lock_file() {
    succeeds(Command::new("deploy/notices").arg("--check"));
}

/// Runs `deploy/check-dependencies` with a shell script instead of cargo-deny. Returns the
/// arguments of the script, one call per line, and the standard error of the check.
fn check_dependencies(cargo_deny: &str) -> (String, String) {
    let folder = Folder::new("dependencies");
    let (program, calls) = (folder.0.join("cargo-deny"), folder.0.join("calls"));
    let script = format!(
        "#!/bin/sh\necho \"$*\" >>{}\n{cargo_deny}\n",
        calls.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.0.display(), env::var("PATH").unwrap());
    let output = succeeds(Command::new("deploy/check-dependencies").env("PATH", path));
    (read(calls), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn advisories_are_checked_when_database_is_available() {
    let (calls, stderr) = check_dependencies("");
    let checked = "--locked check bans licenses sources advisories\n";
    assert!(calls.ends_with(checked), "{calls}");
    assert_eq!(stderr, "");

    let (calls, stderr) = check_dependencies("case $* in *fetch*) exit 1 ;; esac");
    assert!(
        calls.ends_with("--locked check bans licenses sources\n"),
        "{calls}"
    );
    assert!(stderr.contains("advisories are not checked"), "{stderr}");
}

// ---- the image --------------------------------------------------------------------------------

fn pem() -> String {
    let mut pem = String::from(
        "# Mozilla's certificate authorities for TLS servers, from the crate webpki-root-certs.\n\
         # UPDATE_CA_CERTIFICATES=1 cargo test --test repository writes this file.\n",
    );
    for certificate in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        let encoded = STANDARD.encode(certificate);
        pem.push_str("\n-----BEGIN CERTIFICATE-----\n");
        for line in encoded.as_bytes().chunks(64) {
            pem.push_str(std::str::from_utf8(line).unwrap());
            pem.push('\n');
        }
        pem.push_str("-----END CERTIFICATE-----\n");
    }
    pem
}

/// Returns the certificates of the image, updated first if that is requested.
fn certificates() -> &'static str {
    static CONTENT: LazyLock<String> = LazyLock::new(|| {
        if env::var_os("UPDATE_CA_CERTIFICATES").is_some() {
            fs::write(CERTIFICATES, pem()).unwrap();
        }
        read(CERTIFICATES)
    });
    &CONTENT
}

#[test]
fn image_ca_certificates_match_pinned_crate() {
    assert!(
        certificates() == pem(),
        "{CERTIFICATES} is stale; run UPDATE_CA_CERTIFICATES=1 cargo test --test repository"
    );
    let read: Vec<_> = CertificateDer::pem_slice_iter(pem().as_bytes())
        .map(|certificate| certificate.unwrap())
        .collect();
    assert_eq!(read, webpki_root_certs::TLS_SERVER_ROOT_CERTS);
}

fn context(folder: &Folder) -> Command {
    let mut command = Command::new(BUILD_IMAGE);
    command
        .args(["--binary", env!("CARGO_BIN_EXE_event-forwarder")])
        .arg("--context")
        .arg(&folder.0)
        .env_remove("CA_CERTIFICATES");
    command
}

#[test]
fn build_context_contains_copied_files() {
    let folder = Folder::new("context");
    let certificates = certificates();
    succeeds(&mut context(&folder));
    for (name, original) in [
        ("ca-certificates.crt", certificates),
        ("LICENSE", &read("LICENSE")),
        ("THIRD-PARTY-NOTICES.txt", &read("THIRD-PARTY-NOTICES.txt")),
    ] {
        assert!(read(folder.0.join(name)) == original, "{name}");
    }
    let dockerfile = read("deploy/Dockerfile");
    let copies = dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("COPY "));
    let copied: BTreeSet<_> = copies
        .flat_map(|line| line.rsplit_once(' ').unwrap().0.split(' '))
        .map(str::to_owned)
        .collect();
    let present: BTreeSet<_> = files(&folder.0)
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(copied, present);
}

#[test]
fn image_accepts_custom_ca_certificates() {
    let folder = Folder::new("authorities");
    let (custom, empty) = (folder.0.join("custom.pem"), folder.0.join("empty.pem"));
    let pem = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n";
    fs::write(&custom, pem).unwrap();
    fs::write(&empty, "").unwrap();
    succeeds(context(&folder).env("CA_CERTIFICATES", &custom));
    assert_eq!(read(folder.0.join("ca-certificates.crt")), pem);

    let rejected = context(&folder)
        .env("CA_CERTIFICATES", &empty)
        .output()
        .unwrap();
    let stderr = String::from_utf8(rejected.stderr).unwrap();
    assert!(!rejected.status.success());
    assert!(
        stderr.contains("empty.pem contains no certificate"),
        "{stderr}"
    );
}

/// Returns the arguments of cargo and the variables that affect compilation, for an image of this
/// profile.
fn compiler_call(profile: &str) -> String {
    let folder = Folder::new(&format!("profile-{profile}"));
    let (program, call) = (folder.0.join("cargo"), folder.0.join("call"));
    let variables = "CARGO_ENCODED_RUSTFLAGS|RUSTFLAGS|CFLAGS|SOURCE_DATE_EPOCH";
    let script = format!(
        "#!/bin/sh\n{{ echo \"$*\"; env | grep -E '^({variables})='; }} >{}\nexit 1\n",
        call.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.0.display(), env::var("PATH").unwrap());
    let mut command = Command::new(BUILD_IMAGE);
    command
        .args(["--profile", profile, "--context"])
        .arg(folder.0.join("context"))
        .env("PATH", path);
    for variable in variables.split('|') {
        command.env_remove(variable);
    }
    assert!(!command.output().unwrap().status.success());
    read(call)
}

/// If a variable or flag differs from `cargo build`, cargo recompiles most dependencies.
#[test]
fn dev_image_shares_build_with_demo() {
    let call = compiler_call("dev");
    assert_eq!(call.lines().count(), 1, "{call}");
    assert!(call.contains("--workspace"), "{call}");
}

/// Returns each crate with its features. `edges` selects the dependencies of the programs, or also
/// those of the tests.
fn features(edges: &str) -> BTreeSet<String> {
    let mut tree = Command::new(env!("CARGO"));
    tree.args(["tree", "--locked", "--workspace", "--edges", edges])
        .args(["--prefix", "none", "--format", "{p}|{f}"]);
    let output = String::from_utf8(succeeds(&mut tree).stdout).unwrap();
    let crates = output.lines();
    crates
        .map(|line| line.trim_end_matches(" (*)").to_owned())
        .collect()
}

/// If only the tests enable a feature, cargo compiles the crate and its dependents twice.
#[test]
fn tests_share_build_with_programs() {
    let (of_programs, of_tests) = (features("normal"), features("normal,dev"));
    let twice: Vec<_> = of_programs.difference(&of_tests).collect();
    assert!(twice.is_empty(), "compiled twice: {twice:#?}");
}

#[test]
fn release_build_removes_machine_paths() {
    let call = compiler_call("release");
    let root = env::current_dir().unwrap();
    for flag in [
        "target-feature=+crt-static".to_owned(),
        format!("--remap-path-prefix={}=", root.display()),
        "-ffile-prefix-map=".to_owned(),
    ] {
        assert!(call.contains(&flag), "no {flag} in {call}");
    }
    assert!(!call.contains("SOURCE_DATE_EPOCH"), "{call}");
}

/// Runs the check for machine paths that a release build performs.
fn check_paths(program: &Path) -> Output {
    let script = format!("source {BUILD_IMAGE}; set_directories; require_no_paths \"$1\"");
    Command::new("bash")
        .args(["-c", &script, "bash"])
        .arg(program)
        .output()
        .unwrap()
}

#[test]
fn release_with_machine_path_is_rejected() {
    let folder = Folder::new("paths");
    let program = folder.0.join("program");
    fs::write(&program, b"\x7fELF\0cargo/registry/src/a.rs\0/usr/lib\0").unwrap();
    let clean = check_paths(&program);
    assert!(clean.status.success(), "{clean:?}");

    let root = env::current_dir().unwrap();
    let home = env::var("HOME").unwrap();
    for path in [
        root.join("src/main.rs"),
        Path::new(&home).join("notes"),
        env::var_os("CARGO_HOME")
            .map_or_else(|| Path::new(&home).join(".cargo"), PathBuf::from)
            .join("registry/a.rs"),
    ] {
        let text = format!("\x7fELF\0before{}\0\u{ff}after", path.display());
        fs::write(&program, text).unwrap();
        let found = check_paths(&program);
        let stderr = String::from_utf8(found.stderr).unwrap();
        assert!(!found.status.success(), "{} was not found", path.display());
        assert!(stderr.contains(path.to_str().unwrap()), "{stderr}");
    }
}
