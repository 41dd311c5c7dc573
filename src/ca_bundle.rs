//! Whom TLS connections trust besides the system's own certificate authorities.

use std::{env, fs, io, path::PathBuf};

/// Names a file, in PEM, with the certificates of further authorities, such as that of a proxy
/// that looks into connections.
pub const CA_FILE_VARIABLE: &str = "EVENT_FORWARDER_CA_FILE";

/// Further certificates that can't be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CaBundleError {
    /// The file can't be read.
    #[error("{} can't be read: {detail}; check EVENT_FORWARDER_CA_FILE", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        detail: String,
    },
    /// The file holds no certificate.
    #[error("{} holds no certificates in PEM: {detail}; check EVENT_FORWARDER_CA_FILE", path.display())]
    NoCertificates {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
}

/// Further authorities, in both forms in which clients take them.
#[derive(Clone, Debug, Default)]
pub struct CaBundle {
    /// As text, in PEM; empty if there are none.
    pub pem: Vec<u8>,
    /// Each by itself.
    pub certificates: Vec<reqwest::Certificate>,
}

/// Reads the authorities that the environment names.
pub fn load() -> Result<CaBundle, CaBundleError> {
    env::var_os(CA_FILE_VARIABLE).map_or_else(|| Ok(CaBundle::default()), |path| read(path.into()))
}

fn read(path: PathBuf) -> Result<CaBundle, CaBundleError> {
    let pem = fs::read(&path).map_err(|error: io::Error| CaBundleError::Unreadable {
        path: path.clone(),
        detail: error.to_string(),
    })?;
    match reqwest::Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(CaBundle { pem, certificates }),
        Ok(_) => Err(CaBundleError::NoCertificates {
            path,
            detail: "it has no such section".to_owned(),
        }),
        Err(error) => Err(CaBundleError::NoCertificates {
            path,
            detail: error.to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_holds_no_certificate_is_named() {
        let path = env::temp_dir().join(format!("event-forwarder-ca-{}", std::process::id()));
        assert!(matches!(
            read(path.clone()),
            Err(CaBundleError::Unreadable { .. })
        ));
        fs::write(&path, "no certificate").unwrap();
        let error = read(path.clone()).unwrap_err();
        assert!(error.to_string().contains("EVENT_FORWARDER_CA_FILE"));
        fs::remove_file(path).unwrap();
    }
}
