//! The bodies that `map` is given: files, directories, standard input.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::MapError;

/// One message body and where it came from.
pub struct Body {
    /// A file's name, with the line where a line is a body.
    pub name: String,
    /// The body.
    pub text: String,
}

/// Reads every body that the paths name, directories in the order of their names.
pub fn bodies(paths: &[PathBuf]) -> Result<Vec<Body>, MapError> {
    let mut bodies = Vec::new();
    if paths.is_empty() {
        bodies.push(standard_input()?);
    }
    for path in paths {
        if path.as_os_str() == "-" {
            bodies.push(standard_input()?);
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

fn standard_input() -> Result<Body, MapError> {
    let mut bytes = Vec::new();
    io::stdin()
        .lock()
        .read_to_end(&mut bytes)
        .map_err(|error| MapError::Read {
            path: "standard input".to_owned(),
            error,
        })?;
    Ok(Body {
        name: "-".to_owned(),
        text: text(bytes),
    })
}

fn files_in(directory: &Path) -> Result<Vec<PathBuf>, MapError> {
    let failed = |error| MapError::Read {
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

fn add_file(path: &Path, bodies: &mut Vec<Body>) -> Result<(), MapError> {
    let name = path.display().to_string();
    let bytes = fs::read(path).map_err(|error| MapError::Read {
        path: name.clone(),
        error,
    })?;
    let text = text(bytes);
    let is_lines = path
        .extension()
        .is_some_and(|extension| extension == "jsonl" || extension == "ndjson");
    if !is_lines {
        bodies.push(Body { name, text });
        return Ok(());
    }
    let lines = (1..)
        .zip(text.lines())
        .filter(|(_, line)| !line.trim().is_empty());
    bodies.extend(lines.map(|(number, line)| Body {
        name: format!("{name}:{number}"),
        text: line.to_owned(),
    }));
    Ok(())
}

/// SQS hands bodies out as text; bytes that are none become replacement characters.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
