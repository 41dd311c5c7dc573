//! The input of `map`: files, directories, and standard input.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde::de::IgnoredAny;

use super::PreviewError;

/// One message body and its source.
pub struct Body {
    /// The file's path, with the line number if each line is a body.
    pub name: String,
    /// The message body.
    pub text: String,
}

/// Reads the bodies at the given paths. Reads a directory's files in the order of their names.
pub fn bodies(paths: &[PathBuf]) -> Result<Vec<Body>, PreviewError> {
    let mut bodies = Vec::new();
    if paths.is_empty() {
        add_standard_input(&mut bodies)?;
    }
    for path in paths {
        if path.as_os_str() == "-" {
            add_standard_input(&mut bodies)?;
        } else if path.is_dir() {
            for file in files_in(path)? {
                add_file(&file, &mut bodies)?;
            }
        } else {
            add_file(path, &mut bodies)?;
        }
    }
    Ok(bodies)
}

/// Reads standard input. It has no file extension, so it counts as JSON Lines if its first line is
/// valid JSON and the complete input is not.
fn add_standard_input(bodies: &mut Vec<Body>) -> Result<(), PreviewError> {
    let mut bytes = Vec::new();
    io::stdin()
        .lock()
        .read_to_end(&mut bytes)
        .map_err(|error| PreviewError::Read {
            path: "standard input".to_owned(),
            error,
        })?;
    let text = text(bytes);
    let is_json = |text: &str| serde_json::from_str::<IgnoredAny>(text).is_ok();
    let first_line = text.lines().find(|line| !line.trim().is_empty());
    let is_lines = !is_json(&text) && first_line.is_some_and(is_json);
    add_text("-".to_owned(), text, is_lines, bodies);
    Ok(())
}

fn files_in(directory: &Path) -> Result<Vec<PathBuf>, PreviewError> {
    let failed = |error| PreviewError::Read {
        path: directory.display().to_string(),
        error,
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn add_file(path: &Path, bodies: &mut Vec<Body>) -> Result<(), PreviewError> {
    let name = path.display().to_string();
    let bytes = fs::read(path).map_err(|error| PreviewError::Read {
        path: name.clone(),
        error,
    })?;
    let text = text(bytes);
    let is_lines = path
        .extension()
        .is_some_and(|extension| extension == "jsonl" || extension == "ndjson");
    add_text(name, text, is_lines, bodies);
    Ok(())
}

/// Adds one body, or one for each line that is not blank.
fn add_text(name: String, text: String, is_lines: bool, bodies: &mut Vec<Body>) {
    if !is_lines {
        return bodies.push(Body { name, text });
    }
    let lines = (1..)
        .zip(text.lines())
        .filter(|(_, line)| !line.trim().is_empty());
    bodies.extend(lines.map(|(number, line)| Body {
        name: format!("{name}:{number}"),
        text: line.to_owned(),
    }));
}

/// Converts bytes to text, as SQS bodies are. Invalid UTF-8 becomes replacement characters.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
