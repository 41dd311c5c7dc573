//! Where tests find helm and kubectl.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A program of the test tools: by its variable, in PATH, or where tests/cluster compiles it.
pub fn tool(name: &str) -> OsString {
    if let Some(named) = env::var_os(name.to_uppercase()) {
        return named;
    }
    let is_in_path = env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(name).is_file()));
    if is_in_path {
        return name.into();
    }
    compiled(name).map_or_else(
        || {
            panic!(
                "{name} is missing: set {}, put it into PATH, or run tests/cluster/cluster compile",
                name.to_uppercase()
            )
        },
        PathBuf::into_os_string,
    )
}

fn compiled(name: &str) -> Option<PathBuf> {
    let output = Command::new("tests/cluster/cluster")
        .arg("path")
        .output()
        .ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    env::split_paths(path.trim_end())
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

/// An empty folder of one test's own.
pub fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).expect("removed");
    }
    fs::create_dir_all(&folder).expect("made");
    folder
}
