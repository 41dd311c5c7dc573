//! What the API server counts, and what it and its companions cost.

use std::{collections::BTreeMap, fs, time::Duration};

use kube::Client;

use crate::{AnyError, controller::cpu_of};

/// The API server.
pub struct Server {
    client: Client,
    /// The cluster's programs by name, where they run on this machine.
    programs: Vec<(String, u32)>,
}

/// Requests that changed something, by resource.
pub struct Writes(BTreeMap<String, u64>);

impl Server {
    /// The one that the client speaks to.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            programs: programs().unwrap_or_default(),
        }
    }

    /// Its version.
    pub async fn version(&self) -> Result<String, AnyError> {
        Ok(self.client.apiserver_version().await?.git_version)
    }

    /// The writes that it has counted of what the controller writes; its lease is none of them.
    pub async fn writes(&self) -> Result<Writes, AnyError> {
        let request = http_get("/metrics")?;
        let text = self.client.request_text(request).await?;
        let mut writes = BTreeMap::new();
        for line in text.lines() {
            let Some(rest) = line.strip_prefix("apiserver_request_total{") else {
                continue;
            };
            let label = |name: &str| {
                let (_, rest) = rest.split_once(&format!("{name}=\""))?;
                Some(rest.split_once('"')?.0)
            };
            let verb = label("verb").unwrap_or_default();
            let resource = label("resource").unwrap_or_default();
            let watched = ["eventforwarders", "cronjobs", "jobs", "events", "secrets"];
            if !["POST", "PUT", "PATCH", "APPLY", "DELETE"].contains(&verb)
                || !watched.contains(&resource)
            {
                continue;
            }
            let name = match label("subresource") {
                Some(part) if !part.is_empty() => format!("{resource}/{part}"),
                _ => resource.to_owned(),
            };
            let count: f64 = line.rsplit(' ').next().unwrap_or("0").parse()?;
            *writes.entry(name).or_default() += count as u64;
        }
        Ok(Writes(writes))
    }

    /// The CPU time of the cluster's programs.
    pub fn cpu(&self) -> Vec<Duration> {
        let spent = |(_, pid): &(String, u32)| cpu_of(*pid).unwrap_or_default();
        self.programs.iter().map(spent).collect()
    }

    /// The CPU time that they have used since.
    pub fn cpu_since(&self, before: &[Duration]) -> Vec<(String, Duration)> {
        let now = self.cpu();
        let names = self.programs.iter().map(|(name, _)| name.clone());
        names
            .zip(now.iter().zip(before).map(|(now, before)| *now - *before))
            .collect()
    }
}

impl Writes {
    /// The writes that came on top of `before`, as text.
    pub fn since(&self, before: &Self) -> String {
        let more: Vec<_> = self
            .0
            .iter()
            .filter_map(|(name, count)| {
                let more = count - before.0.get(name).unwrap_or(&0);
                (more > 0).then(|| format!("{more} {name}"))
            })
            .collect();
        match more.is_empty() {
            true => "0".to_owned(),
            false => more.join(", "),
        }
    }
}

fn http_get(path: &str) -> Result<axum::http::Request<Vec<u8>>, AnyError> {
    Ok(axum::http::Request::get(path).body(Vec::new())?)
}

/// The programs of the cluster of tests/cluster that KUBECONFIG names: those of the cgroup of
/// that name, which is the name of the folder that the file is in.
fn programs() -> Option<Vec<(String, u32)>> {
    let kubeconfig = std::env::var("KUBECONFIG").ok()?;
    let cluster = std::path::Path::new(&kubeconfig)
        .parent()?
        .file_name()?
        .to_str()?;
    let mut programs = Vec::new();
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let read = |file: &str| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        let command = read("cmdline");
        let name = command.split('\0').next().unwrap_or_default();
        let ours = ["kube-apiserver", "etcd", "kube-controller-manager"].contains(&name);
        if ours && read("cgroup").contains(&format!("/{cluster}/")) {
            programs.push((name.to_owned(), pid));
        }
    }
    Some(programs)
}
