//! Checks that all commands that the project prints work. Each command is extracted from its source
//! and checked by the matching row of [`table::TABLE`]. The end-to-end tests run the commands that
//! need a cluster.

#[path = "../tools/mod.rs"]
mod tools;

mod extract;
mod table;
mod words;

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use clap::Parser;
use event_forwarder::{cli::Cli, plugin::PluginCli};
use extract::Printed;
use table::{Check, TABLE, matches_pattern, row_of};
use tools::{scratch, tool};

const CHART: &str = "charts/event-forwarder";
const REPOSITORY: &str = "image.repository=registry.example.com/event-forwarder";

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn succeeded(output: Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn helm(arguments: &[&str]) -> String {
    let output = Command::new(tool("helm")).args(arguments).output();
    succeeded(output.expect("helm starts"))
}

/// Returns the commands in helm's notes, for an installation with the CRD and without.
fn notes() -> Vec<Printed> {
    let print = |crds: &str| {
        let printed = helm(&[
            "install",
            "event-forwarder",
            CHART,
            "--dry-run=client",
            "--set",
            REPOSITORY,
            "--set",
            crds,
        ]);
        let (_, notes) = printed.split_once("NOTES:\n").expect("notes");
        extract::notes("NOTES", notes)
    };
    let mut all = print("crds.install=false");
    all.extend(print("crds.install=true"));
    all
}

/// Returns the commands in the chart's alerts.
fn alerts() -> Vec<Printed> {
    let rendered = helm(
        &[
            &extract::ALERTS[..],
            &["--namespace=event-forwarder-system", "--set", REPOSITORY],
        ]
        .concat(),
    );
    extract::alerts(&serde_saphyr::from_str(&rendered).expect("YAML"))
}

fn all() -> Vec<Printed> {
    let mut all = notes();
    all.extend(alerts());
    for path in extract::documents() {
        all.extend(extract::markdown(&path, &read(&path)));
    }
    for folder in ["charts", "deploy", "examples"] {
        for path in extract::files(Path::new(folder), &["values.yaml", "ustomization.yaml"]) {
            all.extend(extract::yaml_comments(&path, &read(&path)));
        }
    }
    for path in extract::files(Path::new("examples"), &["forwarder.yaml"]) {
        all.extend(extract::yaml_comments(&path, &read(&path)));
    }
    all.extend(extract::program());
    all
}

#[test]
fn commands_and_rows_match() {
    let all = all();
    let unknown: Vec<_> = all
        .iter()
        .filter(|printed| row_of(printed).is_none())
        .map(|printed| format!("{}: {}", printed.at, printed.command))
        .collect();
    assert!(
        unknown.is_empty(),
        "no row of tests/printed/table.rs matches these commands:\n{}",
        unknown.join("\n")
    );
    for row in TABLE {
        assert!(
            all.iter().any(|printed| row_of(printed) == Some(row)),
            "no command matches the row `{}`",
            row.0
        );
    }
}

#[test]
fn end_to_end_tests_in_table_exist() {
    let registered = read("tests/e2e/main.rs");
    for test in TABLE.iter().flat_map(|(.., tests)| *tests) {
        assert!(registered.contains(&format!("{test},")), "no test {test}");
    }
}

#[test]
fn every_command_passes_its_check() {
    let world = World::new();
    let mut failures = Vec::new();
    let mut checked = Vec::new();
    for printed in all() {
        let Some((_, check, _)) = row_of(&printed) else {
            continue;
        };
        if checked.contains(&printed.command) {
            continue;
        }
        if let Err(error) = world.check(&printed.command, *check) {
            failures.push(format!("{}: {}\n  {error}", printed.at, printed.command));
        }
        checked.push(printed.command);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn dlq_commands_accept_options_in_any_position() {
    for command in [
        "kubectl forwarder dlq NAME list -n NAMESPACE",
        "kubectl forwarder dlq NAME -n NAMESPACE list",
        "kubectl forwarder dlq -n NAMESPACE NAME list",
        "kubectl forwarder -n NAMESPACE dlq NAME list",
        "kubectl forwarder dlq NAME list --reason UserForgotten -n NAMESPACE --context CONTEXT",
        "kubectl forwarder dlq NAME redrive --older-than 90m --dry-run -n NAMESPACE",
        "kubectl forwarder dlq NAME --aws-credentials-dir DIR show ID -n NAMESPACE",
    ] {
        let parsed = parse_plugin(&command.split(' ').collect::<Vec<_>>());
        let cli = parsed.unwrap_or_else(|error| panic!("{command}: {error}"));
        assert_eq!(cli.cluster.namespace.as_deref(), Some("NAMESPACE"));
    }
}

#[test]
fn only_plugin_docs_print_event_forwarder_dlq() {
    for printed in all() {
        let is_plugin_page = printed.at.starts_with("docs/plugin.md");
        assert!(
            is_plugin_page || !printed.command.starts_with("event-forwarder dlq"),
            "{}: {}",
            printed.at,
            printed.command
        );
    }
}

#[test]
fn kubectl_tables_match_columns_and_manifest_schedule() {
    let crd: serde_json::Value =
        serde_saphyr::from_str(&read("crds/eventforwarder.yaml")).expect("a CRD");
    let columns = |wide: bool| -> String {
        let columns = crd["spec"]["versions"][0]["additionalPrinterColumns"].as_array();
        let shown = columns
            .expect("columns")
            .iter()
            .filter(|column| wide || column["priority"].as_i64().unwrap_or_default() == 0);
        let names = shown.map(|column| column["name"].as_str().expect("a name").to_uppercase());
        std::iter::once("NAME".to_owned())
            .chain(names)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let mut tables = 0;
    for path in extract::documents() {
        let text = read(&path);
        let manifest_schedule = text.lines().find_map(|line| {
            line.trim_start()
                .strip_prefix("schedule: \"")?
                .strip_suffix('"')
        });
        for printed in extract::markdown(&path, &text) {
            let Some(output) = &printed.output else {
                continue;
            };
            if !printed.command.starts_with("kubectl get eventforwarders") {
                continue;
            }
            tables += 1;
            let header = output.lines().next().unwrap_or_default();
            let header = header.split_whitespace().collect::<Vec<_>>().join(" ");
            let expected = columns(printed.command.ends_with("-o wide"));
            assert_eq!(header, expected, "{}", printed.at);
            if let Some(schedule) = manifest_schedule {
                for row in output.lines().skip(1) {
                    assert!(row.contains(schedule), "{}: {row}", printed.at);
                }
            }
        }
    }
    assert_eq!(tables, 3);
}

#[test]
fn commands_in_markdown_and_rust_are_found() {
    let text = "Run `kubectl frobnicate it` or\n\n```sh\nhelm install \\\n  other # why\n```\n\n```console\n$ make it\nsee `kubectl get x -n y`\n```\n";
    let found: Vec<_> = extract::markdown("a.md", text)
        .into_iter()
        .map(|printed| printed.command)
        .collect();
    let expected = [
        "kubectl frobnicate it",
        "helm install other",
        "make it",
        "kubectl get x -n y",
    ];
    assert_eq!(found, expected);
    let source = "//! See `make it\n//! so`.\nfn f() { let a = '\"'; say(\"{name}: see `kubectl get \\\n   job {job}`\"); g(\"helm lint {x}\") }\n";
    let found: Vec<_> = extract::rust("a.rs", source)
        .into_iter()
        .map(|printed| printed.command)
        .collect();
    assert_eq!(
        found,
        ["make it so", "kubectl get job sample", "helm lint sample"]
    );
    assert!(matches_pattern("a * ... z", "a b c d z") && matches_pattern("a ...", "a"));
    assert!(
        !matches_pattern("a *", "a")
            && !matches_pattern("a *", "a b c")
            && !matches_pattern("a b", "a c")
    );
}

#[test]
#[should_panic = "a command is not in backticks"]
fn command_in_message_without_backticks_panics() {
    extract::rust("a.rs", r#"fn f() { say("see it with: kubectl get x") }"#);
}

// ---- checks -----------------------------------------------------------------------------------

/// A working folder with the files that the commands use, and a folder with the programs.
struct World {
    folder: PathBuf,
    programs: PathBuf,
}

impl World {
    fn new() -> Self {
        let folder = scratch("printed");
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
        for part in [
            "charts", "crds", "deploy", "examples", "tests", "benches", "Makefile",
        ] {
            symlink(repository.join(part), folder.join(part)).expect("a link");
        }
        let sample = "tests/samples/01-session-and-screens-list-identities.json";
        for (name, file) in [
            ("forwarder.yaml", "examples/eventforwarder.yaml"),
            ("batch.json", sample),
        ] {
            symlink(repository.join(file), folder.join(name)).expect("a link");
        }
        fs::write(folder.join("FILE-WITH-THE-KEY"), "key").expect("a file");
        let kubeconfig = "{apiVersion: v1, kind: Config, current-context: away, \
            clusters: [{name: away, cluster: {server: \"http://127.0.0.1:9\"}}], \
            users: [{name: me, user: {}}], \
            contexts: [{name: away, context: {cluster: away, user: me}}]}";
        fs::write(folder.join("kubeconfig"), kubeconfig).expect("a file");
        let programs = scratch("printed-programs");
        for (name, program) in [
            ("kubectl", tool("kubectl")),
            ("helm", tool("helm")),
            (
                "event-forwarder",
                env!("CARGO_BIN_EXE_event-forwarder").into(),
            ),
        ] {
            if Path::new(&program).is_absolute() {
                symlink(program, programs.join(name)).expect("a link");
            }
        }
        Self { folder, programs }
    }

    fn check(&self, command: &str, check: Check) -> Result<(), String> {
        match check {
            Check::Operator => Cli::try_parse_from(self.arguments(command)?)
                .map(drop)
                .map_err(|error| error.to_string()),
            Check::Plugin => {
                let words = self.arguments(command)?;
                let words: Vec<_> = words.iter().map(String::as_str).collect();
                parse_plugin(&words)
                    .map(drop)
                    .map_err(|error| error.to_string())
            }
            Check::Runs => match self.bash(command) {
                output if output.status.success() => Ok(()),
                output => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
            },
            Check::Kubectl | Check::Helm => self.is_accepted(command),
            Check::Chart => self.renders(command),
            Check::Part => self.has_part(command),
            Check::Make => self.is_accepted(&command.replacen("make ", "make --dry-run ", 1)),
            Check::Build => target_exists(command),
            Check::Script => script_has_command(command),
            Check::Shell => match self.bash(&format!("set -n\n{command}")) {
                output if output.status.success() => Ok(()),
                output => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
            },
        }
    }

    fn bash(&self, script: &str) -> Output {
        let path = std::env::var("PATH").unwrap_or_default();
        Command::new("bash")
            .args(["-c", script])
            .current_dir(&self.folder)
            .env("PATH", format!("{}:{path}", self.programs.display()))
            .env("KUBECONFIG", self.folder.join("kubeconfig"))
            .env_remove("EVENT_FORWARDER_IMAGE")
            .output()
            .expect("bash starts")
    }

    /// Splits a command into words with bash.
    fn arguments(&self, command: &str) -> Result<Vec<String>, String> {
        let output = self.bash(&format!(
            "words() {{ printf '%s\\0' \"$@\"; }}; words {command}"
        ));
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let words = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(words
            .trim_end_matches('\0')
            .split('\0')
            .map(str::to_owned)
            .collect())
    }

    /// Runs a command without an API server. It is accepted if it succeeds or if its first request
    /// is rejected, because it has then parsed its arguments and read its files.
    fn is_accepted(&self, command: &str) -> Result<(), String> {
        let output = self.bash(command);
        let stderr = String::from_utf8_lossy(&output.stderr);
        match output.status.success()
            || stderr.contains("connection refused")
            || stderr.contains("127.0.0.1:9 was refused")
        {
            true => Ok(()),
            false => Err(stderr.into_owned()),
        }
    }

    /// Renders the chart with the values of an installation or an upgrade.
    fn renders(&self, command: &str) -> Result<(), String> {
        // Helm rejects the uppercase placeholder as a release name.
        let command = &command.replace("RELEASE", "release");
        let accepted = self.is_accepted(command);
        let words = self.arguments(command)?;
        let values = words
            .windows(2)
            .filter(|pair| pair[0] == "--set")
            .map(|pair| format!(" --set {}", pair[1]))
            .collect::<String>();
        // An upgrade keeps the image of the installation.
        let image = match words[1].as_str() {
            "upgrade" => format!(" --set {REPOSITORY}"),
            _ => String::new(),
        };
        let template = format!("helm template {} {}{image}{values}", words[2], words[3]);
        accepted.and(self.is_accepted(&template))
    }

    /// Checks that the program's help contains this subcommand with these options.
    fn has_part(&self, command: &str) -> Result<(), String> {
        let (options, verbs): (Vec<_>, Vec<_>) =
            command.split(' ').partition(|word| word.starts_with('-'));
        if verbs == ["kubectl", "forwarder"] {
            return Ok(());
        }
        let output = self.bash(&format!("{} --help", verbs.join(" ")));
        let help = String::from_utf8_lossy(&output.stdout);
        let usage = format!("{} [", verbs.join(" "));
        let has_verb = output.status.success()
            && (help.contains(&usage) || help.contains(&format!("{} ", verbs.join(" "))));
        let unknown: Vec<_> = options
            .iter()
            .filter(|option| {
                !help.contains(&format!("{option}="))
                    && !help.contains(&format!("{option} "))
                    && !help.contains(&format!("{option},"))
            })
            .collect();
        match has_verb && unknown.is_empty() {
            true => Ok(()),
            false => Err(format!("not in the help of {verbs:?}: it, or {unknown:?}")),
        }
    }
}

fn parse_plugin(words: &[&str]) -> Result<PluginCli, clap::Error> {
    assert_eq!(words[..2], ["kubectl", "forwarder"]);
    PluginCli::try_parse_from(&words[1..])
}

/// Checks that the target or folder of a cargo or npm command exists. A filter for tests must be
/// the name of a test file.
fn target_exists(command: &str) -> Result<(), String> {
    let words: Vec<_> = command
        .split_whitespace()
        .filter(|word| !extract::is_variable(word) && !["--locked", "--"].contains(word))
        .collect();
    let is_test = |name: &str| {
        Path::new(&format!("tests/{name}.rs")).is_file()
            || Path::new(&format!("tests/{name}/main.rs")).is_file()
    };
    let exists = match words[..] {
        ["cargo", "test", "--lib" | "--workspace"] => true,
        ["cargo", "test", "--test", name] | ["cargo", "test", "--test", name, "NAME"] => {
            is_test(name)
        }
        ["cargo", "test", "--test", name, filter] => {
            let file = filter.trim_end_matches("::");
            is_test(name) && Path::new(&format!("tests/{name}/{file}.rs")).is_file()
        }
        ["cargo", "bench", "--bench", name, ..] => {
            read("Cargo.toml").contains(&format!("[[bench]]\nname = \"{name}\""))
        }
        ["npm", "ci", "--prefix", folder] => Path::new(folder).join("package-lock.json").is_file(),
        _ => false,
    };
    exists
        .then_some(())
        .ok_or_else(|| "no such target".to_owned())
}

/// Checks that the first word is a script that supports the second word, if there is one, as a
/// subcommand or an argument.
fn script_has_command(command: &str) -> Result<(), String> {
    let mut words = command.split_whitespace();
    let script = read(words.next().unwrap_or_default());
    let Some(second) = words.next() else {
        return Ok(());
    };
    let is_supported = if second.starts_with("1.") {
        fs::read_dir("tests/cluster/programs/kubernetes").is_ok_and(|files| {
            files.flatten().any(|file| {
                file.file_name()
                    .to_string_lossy()
                    .starts_with(&format!("v{second}."))
            })
        })
    } else if second == "FILE.tar" {
        script.contains("ARCHIVE IMAGE")
    } else {
        // A branch of a `case`, optionally with the number of arguments.
        script.lines().map(str::trim_start).any(|line| {
            line.strip_prefix(second)
                .is_some_and(|rest| rest.starts_with([')', '/']))
        })
    };
    is_supported
        .then_some(())
        .ok_or_else(|| format!("the script does not contain {second}"))
}
