//! The API server's request counts, and the CPU time of the control plane.

use std::{collections::BTreeMap, fs, time::Duration};

use kube::Client;

use crate::{AnyError, controller::cpu_of};

/// The API server.
pub struct Server {
    client: Client,
    /// Names and PIDs of the control plane's programs, if they run on this machine.
    programs: Vec<(String, u32)>,
}

/// Counts of write requests by resource.
pub struct Writes(BTreeMap<String, u64>);

impl Server {
    /// Returns the API server of the client.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            programs: programs().unwrap_or_default(),
        }
    }

    /// Returns the version of the API server.
    pub async fn version(&self) -> Result<String, AnyError> {
        Ok(self.client.apiserver_version().await?.git_version)
    }

    /// Returns the counts of writes to the resources that the controller writes, except its lease.
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
            let counted = ["eventforwarders", "cronjobs", "jobs", "events", "secrets"];
            if !["POST", "PUT", "PATCH", "APPLY", "DELETE"].contains(&verb)
                || !counted.contains(&resource)
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

    /// Returns the CPU time of the control plane's programs.
    pub fn cpu(&self) -> Vec<Duration> {
        let cpu = |(_, pid): &(String, u32)| cpu_of(*pid).unwrap_or_default();
        self.programs.iter().map(cpu).collect()
    }

    /// Returns the CPU time by program that was used after `before`.
    pub fn cpu_since(&self, before: &[Duration]) -> Vec<(String, Duration)> {
        let now = self.cpu();
        let names = self.programs.iter().map(|(name, _)| name.clone());
        names
            .zip(now.iter().zip(before).map(|(now, before)| *now - *before))
            .collect()
    }
}

impl Writes {
    /// Returns the writes after `before`, as a printable string.
    pub fn since(&self, before: &Self) -> String {
        let added: Vec<_> = self
            .0
            .iter()
            .filter_map(|(name, count)| {
                let added = count - before.0.get(name).unwrap_or(&0);
                (added > 0).then(|| format!("{added} {name}"))
            })
            .collect();
        match added.is_empty() {
            true => "0".to_owned(),
            false => added.join(", "),
        }
    }
}

fn http_get(path: &str) -> Result<axum::http::Request<Vec<u8>>, AnyError> {
    Ok(axum::http::Request::get(path).body(Vec::new())?)
}

/// Returns the control plane's programs of the tests/cluster cluster that KUBECONFIG selects.
///
/// These run in a cgroup with the cluster's name, which is the name of the kubeconfig's folder.
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
        let is_control_plane =
            ["kube-apiserver", "etcd", "kube-controller-manager"].contains(&name);
        if is_control_plane && read("cgroup").contains(&format!("/{cluster}/")) {
            programs.push((name.to_owned(), pid));
        }
    }
    Some(programs)
}
