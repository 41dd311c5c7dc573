//! Extracts the commands that the project prints: from Markdown, comments of manifests and values,
//! rendered charts, and the program's comments and messages.

use std::{fs, path::Path};

/// The first words of commands, except scripts of the repository.
const PROGRAMS: [&str; 9] = [
    "cargo",
    "curl",
    "eval",
    "event-forwarder",
    "helm",
    "kubectl",
    "ln",
    "make",
    "npm",
];

/// A printed command with its expected output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Printed {
    /// The file or the rendered object, and the line.
    pub at: String,
    /// The text to paste into a shell.
    pub command: String,
    /// The lines below it in a console block.
    pub output: Option<String>,
}

/// Returns whether a text is a command, by its first word after variable assignments.
fn is_command(text: &str) -> bool {
    let mut words = text.split_whitespace();
    let first = words.find(|word| !is_variable(word)).unwrap_or_default();
    PROGRAMS.contains(&first) || (first.contains('/') && is_script(first))
}

/// Returns whether a word assigns a variable.
pub fn is_variable(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_')
    })
}

fn is_script(path: &str) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// Returns the commands in backticks in a text. Line breaks in a command become spaces.
fn in_backticks(at: &str, text: &str) -> Vec<Printed> {
    let spans = text.split('`').skip(1).step_by(2);
    spans
        .map(|span| span.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|span| is_command(span))
        // A single word is only the program's name.
        .filter(|span| span.contains(' ') || is_script(span))
        .map(|command| Printed {
            at: at.to_owned(),
            command,
            output: None,
        })
        .collect()
}

/// Returns the commands of a script: each line, with its continuation lines and here-document.
pub fn script(at: &str, first_line: usize, text: &str) -> Vec<Printed> {
    let mut commands = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let mut command = line.to_owned();
        while command.ends_with('\\')
            && let Some((_, next)) = lines.next()
        {
            command.truncate(command.len() - 1);
            command = format!("{} {}", command.trim_end(), next.trim_start());
        }
        if let Some((_, end)) = line.split_once("<<") {
            for (_, next) in lines.by_ref() {
                command.push('\n');
                command.push_str(next);
                if next == end {
                    break;
                }
            }
        }
        commands.push(Printed {
            at: format!("{at}:{}", first_line + number),
            command: without_comment(&command).to_owned(),
            output: None,
        });
    }
    commands
}

fn without_comment(command: &str) -> &str {
    match command.contains('\n') {
        true => command,
        false => command.split(" #").next().unwrap_or(command).trim_end(),
    }
}

/// Returns the commands of a Markdown file.
///
/// # Panics
/// If a fenced block has no language, because only the language shows whether it contains commands.
pub fn markdown(at: &str, text: &str) -> Vec<Printed> {
    let mut commands = Vec::new();
    let mut paragraph = String::new();
    let mut lines = text.lines().enumerate().peekable();
    let mut start = 1;
    while let Some((number, line)) = lines.next() {
        let Some(language) = line.strip_prefix("```") else {
            if line.trim().is_empty() || line.starts_with('|') {
                commands.extend(in_backticks(&format!("{at}:{start}"), &paragraph));
                paragraph.clear();
                start = number + 1;
            }
            paragraph.push_str(line);
            paragraph.push('\n');
            continue;
        };
        commands.extend(in_backticks(&format!("{at}:{start}"), &paragraph));
        paragraph.clear();
        let mut block = String::new();
        for (_, line) in lines.by_ref() {
            if line == "```" {
                break;
            }
            block.push_str(line);
            block.push('\n');
        }
        start = lines.peek().map_or(1, |(number, _)| number + 1);
        match language {
            "sh" => commands.extend(script(at, number + 2, &block)),
            "console" => commands.extend(console(at, number + 2, &block)),
            "" => panic!("{at}:{}: the fenced block has no language", number + 1),
            _ => {}
        }
    }
    commands.extend(in_backticks(&format!("{at}:{start}"), &paragraph));
    commands
}

/// Returns the commands after prompts, and those in backticks in their output.
fn console(at: &str, first_line: usize, block: &str) -> Vec<Printed> {
    let mut commands: Vec<Printed> = Vec::new();
    let mut in_output = Vec::new();
    for (number, line) in block.lines().enumerate() {
        let at = format!("{at}:{}", first_line + number);
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(command), _) => commands.push(Printed {
                at,
                command: command.to_owned(),
                output: Some(String::new()),
            }),
            (None, Some(last)) => {
                let output = last.output.get_or_insert_default();
                output.push_str(line);
                output.push('\n');
                in_output.extend(in_backticks(&at, line));
            }
            (None, None) => panic!("{at}: a console block must start with a prompt"),
        }
    }
    commands.extend(in_output);
    commands
}

/// Returns the commands in the comments of a YAML file.
pub fn yaml_comments(at: &str, text: &str) -> Vec<Printed> {
    let mut commands = Vec::new();
    let mut paragraph = String::new();
    for (number, line) in text.lines().chain([""]).enumerate() {
        let line_at = format!("{at}:{}", number + 1);
        match line.trim_start().strip_prefix('#').map(str::trim) {
            // A comment that is only a command is an example.
            Some(comment) if is_command(comment) && comment.contains(' ') => {
                commands.extend(script(at, number + 1, comment));
            }
            Some(comment) => {
                paragraph.push_str(comment);
                paragraph.push('\n');
            }
            None => {
                commands.extend(in_backticks(&line_at, &paragraph));
                paragraph.clear();
            }
        }
    }
    commands
}

/// Returns the commands at the start of lines in helm's NOTES.
pub fn notes(at: &str, text: &str) -> Vec<Printed> {
    let commands = script(at, 1, text);
    commands
        .into_iter()
        .filter(|printed| is_command(&printed.command))
        .collect()
}

/// Returns the commands of a rendered text, for example an alert.
///
/// # Panics
/// If a command is not in backticks.
pub fn text(at: &str, text: &str) -> Vec<Printed> {
    assert_in_backticks(at, text);
    in_backticks(at, text)
}

/// Returns the commands in the comments and string literals of a Rust file, up to its tests.
///
/// # Panics
/// If a string literal contains a command that is not in backticks and has other text around it.
pub fn rust(at: &str, source: &str) -> Vec<Printed> {
    let source = source.split("#[cfg(test)]\nmod tests {").next();
    let mut commands = Vec::new();
    for (line, kind, text) in pieces(source.unwrap_or_default()) {
        let at = format!("{at}:{line}");
        match kind {
            Piece::Comment => commands.extend(in_backticks(&at, &text)),
            Piece::Literal => {
                let text = fill_variables(&text);
                if is_command(&text) && text.contains(' ') {
                    commands.push(Printed {
                        at,
                        command: text,
                        output: None,
                    });
                } else {
                    commands.extend(self::text(&at, &text));
                }
            }
        }
    }
    commands
}

/// Returns the string literals of a Rust file with their places, up to its tests.
pub fn literals(at: &str, source: &str) -> Vec<(String, String)> {
    let source = source.split("#[cfg(test)]\nmod tests {").next();
    pieces(source.unwrap_or_default())
        .into_iter()
        .filter(|(_, kind, _)| matches!(kind, Piece::Literal))
        .map(|(line, _, text)| (format!("{at}:{line}"), text))
        .collect()
}

/// Replaces format arguments in a string literal with example values.
fn fill_variables(text: &str) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let Some((name, after)) = after.split_once('}') else {
            filled.push('{');
            rest = after;
            continue;
        };
        filled.push_str(match name {
            "action" => "list",
            "annotation" => "eventforwarder.io/run-now",
            "force" => " --force-conflicts",
            "files" => " --from-file=api-key=FILE-WITH-THE-KEY",
            "CRD" => "eventforwarders.eventforwarder.io",
            "APPLY" => "kubectl apply --server-side --force-conflicts -f crds/",
            _ => "sample",
        });
        rest = after;
    }
    filled + rest
}

/// Panics if a command is not in backticks, because its end is not visible.
fn assert_in_backticks(at: &str, text: &str) {
    let outside: String = text.split('`').step_by(2).collect();
    for program in [
        "kubectl ",
        "helm ",
        "event-forwarder dlq",
        "event-forwarder map",
    ] {
        let is_name = |rest: &str| program == "kubectl " && rest.starts_with("forwarder");
        for (start, _) in outside.match_indices(program) {
            let rest = &outside[start + program.len()..];
            assert!(
                is_name(rest),
                "{at}: a command is not in backticks: {program}{rest}"
            );
        }
    }
}

enum Piece {
    Comment,
    Literal,
}

/// Returns the comments and string literals of a Rust file with their line numbers. Consecutive
/// comment lines are joined.
fn pieces(source: &str) -> Vec<(usize, Piece, String)> {
    let mut pieces: Vec<(usize, Piece, String)> = Vec::new();
    let mut rest = source;
    let mut follows_comment = false;
    let line_of = |rest: &str| source[..source.len() - rest.len()].matches('\n').count() + 1;
    while let Some(first) = rest.chars().next() {
        let line = line_of(rest);
        if rest.starts_with("//") {
            let end = rest.find('\n').unwrap_or(rest.len());
            let comment = rest[..end].trim_start_matches(['/', '!']).trim();
            match pieces.last_mut() {
                Some((_, Piece::Comment, text)) if follows_comment => {
                    text.push(' ');
                    text.push_str(comment);
                }
                _ => pieces.push((line, Piece::Comment, comment.to_owned())),
            }
            follows_comment = true;
            rest = &rest[end..];
        } else if rest.starts_with("r#\"") || rest.starts_with("r\"") {
            let hashes = rest[1..].chars().take_while(|char| *char == '#').count();
            let start = 2 + hashes;
            let closing = format!("\"{}", "#".repeat(hashes));
            let end = start + rest[start..].find(&closing).expect("a raw string ends");
            pieces.push((line, Piece::Literal, rest[start..end].to_owned()));
            rest = &rest[end + closing.len()..];
            follows_comment = false;
        } else if first == '"' {
            let (text, length) = literal(rest);
            pieces.push((line, Piece::Literal, text));
            rest = &rest[length..];
            follows_comment = false;
        } else if rest.starts_with("'\"'") || rest.starts_with("'`'") {
            rest = &rest[3..];
        } else if rest.starts_with("'\\") {
            let end = rest[2..].find('\'').map_or(2, |end| end + 3);
            rest = &rest[end..];
        } else {
            follows_comment &= first.is_whitespace();
            rest = &rest[first.len_utf8()..];
        }
    }
    pieces
}

/// Returns the value of a string literal and its length in the source.
fn literal(source: &str) -> (String, usize) {
    let mut text = String::new();
    let mut chars = source.char_indices().skip(1).peekable();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return (text, at + 1),
            '\\' => match chars.next() {
                Some((_, '\n')) => {
                    while chars.next_if(|(_, next)| next.is_whitespace()).is_some() {}
                }
                Some((_, 'n')) => text.push('\n'),
                Some((_, escaped)) => text.push(escaped),
                None => break,
            },
            other => text.push(other),
        }
    }
    panic!("a string literal does not end: {source:.40}")
}

/// Returns the files in a folder and its subfolders whose names have one of these endings.
pub fn files(folder: &Path, endings: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).expect("a folder");
    for entry in entries.flatten() {
        let path = entry.path();
        let name = path.to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(files(&path, endings));
        } else if endings.iter().any(|ending| name.ends_with(ending)) {
            found.push(name);
        }
    }
    found.sort();
    found
}

/// Returns the project's Markdown files.
pub fn documents() -> Vec<String> {
    let mut documents = vec!["README.md".to_owned(), "CONTRIBUTING.md".to_owned()];
    for folder in ["charts", "docs", "examples", "tests/cluster"] {
        documents.extend(files(Path::new(folder), &[".md"]));
    }
    documents
}

/// Helm's arguments to render the alerts.
pub const ALERTS: [&str; 6] = [
    "template",
    "event-forwarder",
    "charts/event-forwarder",
    "--set=metrics.serviceMonitor.enabled=true",
    "--set=metrics.prometheusRule.enabled=true",
    "--show-only=templates/prometheusrule.yaml",
];

/// Returns the commands in alerts, with names instead of labels.
pub fn alerts(rule: &serde_json::Value) -> Vec<Printed> {
    let rules = rule["spec"]["groups"][0]["rules"].as_array();
    let rules = rules.expect("rules").iter();
    rules
        .flat_map(|rule| {
            let description = rule["annotations"]["description"].as_str().expect("text");
            let description = description
                .replace("{{ $labels.name }}", "mparticle")
                .replace("{{ $labels.namespace }}", "marketing");
            text(rule["alert"].as_str().expect("a name"), &description)
        })
        .collect()
}

/// Returns the commands in the comments and messages of the program.
pub fn program() -> Vec<Printed> {
    let mut all = Vec::new();
    for path in files(Path::new("src"), &[".rs"]) {
        if !path.ends_with("tests.rs") {
            all.extend(rust(&path, &fs::read_to_string(&path).expect("a source")));
        }
    }
    all
}
