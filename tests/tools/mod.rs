//! Where tests find helm and kubectl.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
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
                "{name} is missing: set {}, put it into PATH, or run tests/cluster/cluster build",
                name.to_uppercase()
            )
        },
        PathBuf::into_os_string,
    )
}

fn compiled(name: &str) -> Option<PathBuf> {
    let cache = env::var_os("EVENT_FORWARDER_CACHE")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("XDG_CACHE_HOME")?).join("event-forwarder")))
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache/event-forwarder")))?;
    let versions = fs::read_dir(cache).ok()?.flatten();
    versions
        .map(|entry| entry.path().join(name))
        .filter(|program| program.is_file())
        .max()
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
