//! Completion of the plugin's commands and of the names of forwarders.
//!
//! kubectl asks an executable kubectl_complete-NAME for the words that may stand at the cursor:
//! its arguments are those after the plugin's name, the last one unfinished. It prints a word a
//! line, after a tab what it means, and last a directive of Cobra's behind a colon.

use std::{
    ffi::OsString,
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use clap::CommandFactory;
use clap_complete::{
    Shell,
    engine::{self, ArgValueCandidates, CompletionCandidate},
};

use super::{PluginCli, cli::ClusterArgs, cluster::Cluster};

/// How long a person who has pressed the key is kept waiting for names.
const NAMES_TIMEOUT: Duration = Duration::from_secs(2);

/// Cobra's directives, which may be added up.
const NO_SPACE: u8 = 2;
const NO_FILES: u8 = 4;

/// Prints the words that may stand in place of the last of `words`.
pub fn complete(words: Vec<OsString>) -> ExitCode {
    let mut command = PluginCli::command();
    let mut line = vec![OsString::from("kubectl-forwarder")];
    line.extend(words);
    let last = line.len() - 1;
    let directory = std::env::current_dir().ok();
    let found = engine::complete(&mut command, line, last, directory.as_deref());
    match found.and_then(|found| answer(&found, &mut io::stdout().lock())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn answer(found: &[CompletionCandidate], out: &mut impl Write) -> io::Result<()> {
    let mut directive = NO_FILES;
    for candidate in found.iter().filter(|candidate| !candidate.is_hide_set()) {
        let word = candidate.get_value().to_string_lossy();
        // One that ends with a slash or an equals sign goes on.
        if word.ends_with(['/', '=']) {
            directive |= NO_SPACE;
        }
        let help = candidate.get_help().map(ToString::to_string);
        match help.as_deref().and_then(|help| help.lines().next()) {
            Some(help) => writeln!(out, "{word}\t{help}")?,
            None => writeln!(out, "{word}")?,
        }
    }
    writeln!(out, ":{directive}")
}

/// The cluster that the words so far name.
fn cluster_of(words: &[OsString]) -> ClusterArgs {
    let words: Vec<_> = words.iter().filter_map(|word| word.to_str()).collect();
    let value = |flags: &[&str]| {
        let after = words.windows(2).find_map(|pair| match pair {
            [flag, value] if flags.contains(flag) => Some((*value).to_owned()),
            _ => None,
        });
        let joined = || {
            words.iter().find_map(|word| {
                let (flag, value) = word.split_once('=')?;
                flags.contains(&flag).then(|| value.to_owned())
            })
        };
        after.or_else(joined)
    };
    ClusterArgs {
        namespace: value(&["-n", "--namespace"]),
        context: value(&["--context"]),
    }
}

/// The forwarders of the cluster that the command line names, as candidates for an argument.
pub fn forwarders() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let words: Vec<_> = std::env::args_os().skip(1).collect();
        let names = names(&cluster_of(&words)).unwrap_or_default();
        names.into_iter().map(CompletionCandidate::new).collect()
    })
}

/// Nothing is said of what goes wrong: the person is in the middle of a line.
fn names(args: &ClusterArgs) -> Option<Vec<String>> {
    let ask = async { Cluster::connect(args).await.ok()?.names().await.ok() };
    let runtime = tokio::runtime::Runtime::new().ok()?;
    runtime.block_on(async { tokio::time::timeout(NAMES_TIMEOUT, ask).await.ok() })?
}

/// Prints the script by which a shell completes the program `C` under `name`.
///
/// # Errors
/// When standard output can't be written to.
pub fn script<C: CommandFactory>(shell: Shell, name: &str) -> io::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut C::command(), name, &mut script);
    io::stdout().write_all(&script)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    fn answered(line: &str) -> String {
        let mut all = words("kubectl-forwarder");
        all.extend(words(line));
        let last = all.len() - 1;
        let mut command = PluginCli::command();
        let found = engine::complete(&mut command, all, last, None).expect("candidates");
        let mut out = Vec::new();
        answer(&found, &mut out).expect("written");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn commands_and_flags_are_completed_as_kubectl_reads_them() {
        let status = answered("st");
        assert!(
            status.starts_with("status\tShow a forwarder's status"),
            "{status}"
        );
        assert!(status.ends_with("\n:4\n"), "{status}");
        assert!(answered("run --fo").starts_with("--follow\t"));
        assert!(answered("dlq mparticle re").starts_with("redrive\t"));
    }

    #[test]
    fn the_cluster_is_the_one_that_the_line_names() {
        for (line, namespace, context) in [
            ("status ", None, None),
            ("-n marketing status ", Some("marketing"), None),
            ("status --namespace=a --context b ", Some("a"), Some("b")),
        ] {
            let cluster = cluster_of(&words(line));
            assert_eq!(cluster.namespace.as_deref(), namespace, "{line}");
            assert_eq!(cluster.context.as_deref(), context, "{line}");
        }
    }
}
