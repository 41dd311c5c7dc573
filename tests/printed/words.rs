//! Words that no text for users contains, because the field has a standard term.

use std::path::Path;

use clap::{Command, CommandFactory};
use event_forwarder::{api::EventForwarder, cli::Cli, plugin::PluginCli};
use kube::CustomResourceExt;
use serde_json::Value;

use super::{CHART, extract, read};

/// Words to avoid, each with the term to use.
const AVOIDED: [(&str, &str); 10] = [
    ("dead letter", "dead-lettered message, or DLQ for the queue"),
    ("for ever", "permanently"),
    ("given back", "released"),
    ("hinder", "block"),
    ("left out:", "Default X. or If unset, …"),
    ("mend", "fix"),
    ("stands by", "is on standby"),
    ("the definition", "the CRD"),
    ("told to", "receives a termination signal"),
    ("whoever", "you, or the user"),
];

/// Returns the entries of [`AVOIDED`] that `text` contains, also as verb forms and plurals.
fn avoided(text: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = text.to_lowercase();
    AVOIDED.into_iter().filter(move |(word, _)| {
        text.match_indices(word).any(|(start, _)| {
            let before = text[..start].chars().next_back();
            let after = &text[start + word.len()..];
            let rest = after.trim_start_matches(char::is_alphanumeric);
            let ending = &after[..after.len() - rest.len()];
            !before.is_some_and(char::is_alphanumeric)
                && (word.ends_with(':') || ["", "s", "ed", "ing"].contains(&ending))
        })
    })
}

fn add_help(mut command: Command, path: &str, texts: &mut Vec<(String, String)>) {
    let path = format!("{path} {}", command.get_name());
    texts.push((
        format!("{path} --help"),
        command.render_long_help().to_string(),
    ));
    for subcommand in command.get_subcommands() {
        add_help(subcommand.clone(), &path, texts);
    }
}

/// Adds the descriptions and validation messages below `schema`.
fn add_schema(schema: &Value, path: &str, texts: &mut Vec<(String, String)>) {
    for (name, value) in schema.as_object().into_iter().flatten() {
        match value {
            Value::String(text) if name == "description" || name == "message" => {
                texts.push((path.to_owned(), text.clone()));
            }
            value => add_schema(value, &format!("{path}.{name}"), texts),
        }
    }
    for element in schema.as_array().into_iter().flatten() {
        add_schema(element, path, texts);
    }
}

/// Returns all texts for users with their places: CLI help, CRD descriptions, the chart's values,
/// notes and alerts, and the string literals of the program, such as condition messages.
fn texts() -> Vec<(String, String)> {
    let mut texts = Vec::new();
    add_help(Cli::command(), "", &mut texts);
    add_help(PluginCli::command(), "", &mut texts);
    let crd = serde_json::to_value(EventForwarder::crd()).expect("JSON");
    add_schema(&crd, "CRD", &mut texts);
    let endings = [
        "values.yaml",
        "values.schema.json",
        "rule.yaml",
        "NOTES.txt",
    ];
    for path in extract::files(Path::new(CHART), &endings) {
        let text = read(&path).replace('#', " ");
        texts.push((path, text));
    }
    for path in extract::files(Path::new("src"), &[".rs"]) {
        if !path.ends_with("tests.rs") {
            texts.extend(extract::literals(&path, &read(&path)));
        }
    }
    texts
}

#[test]
fn texts_use_standard_terms() {
    let texts = texts();
    let sources = [
        " event-forwarder dlq",
        "CRD.",
        CHART,
        "src/controller/status",
    ];
    for source in sources {
        let is_read = texts.iter().any(|(place, _)| place.starts_with(source));
        assert!(is_read, "no text of {source}");
    }
    let found: Vec<_> = texts
        .iter()
        .flat_map(|(place, text)| avoided(text).map(move |found| (place, text, found)))
        .map(|(place, text, (word, term))| {
            format!("{place}: {word:?}, write {term:?}: {text:.200}")
        })
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn avoided_words_are_found_in_their_forms() {
    let words = |text| avoided(text).map(|(word, _)| word).collect::<Vec<_>>();
    assert_eq!(
        words("What mends it: see\n  the\ndefinition"),
        ["mend", "the definition"]
    );
    assert_eq!(
        words("Dead letters. Left out: all"),
        ["dead letter", "left out:"]
    );
    assert!(words("amend, recommended, a definition, left out").is_empty());
}
