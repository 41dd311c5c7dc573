//! Additional CA certificates for TLS connections.

use std::{env, fs, io, path::PathBuf};

/// Environment variable with the path of a PEM file of additional CA certificates, for example the
/// CA of a proxy that intercepts TLS connections.
pub const CA_FILE_VARIABLE: &str = "EVENT_FORWARDER_CA_FILE";

/// Error of loading additional CA certificates.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CaBundleError {
    /// The file can't be read.
    #[error("can't read {}: {detail}; check EVENT_FORWARDER_CA_FILE", path.display())]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        detail: String,
    },
    /// The file contains no valid certificate.
    #[error("no valid PEM certificates in {}: {detail}; check EVENT_FORWARDER_CA_FILE", path.display())]
    NoCertificates {
        /// Path of the file.
        path: PathBuf,
        /// Error of the parser.
        detail: String,
    },
}

/// Additional CA certificates, in the two forms that HTTP clients need.
#[derive(Clone, Debug, Default)]
pub struct CaBundle {
    /// All certificates in PEM. Empty if there are none.
    pub pem: Vec<u8>,
    /// The parsed certificates.
    pub certificates: Vec<reqwest::Certificate>,
}

/// Loads the file that [`CA_FILE_VARIABLE`] names, or returns an empty bundle if it is unset.
///
/// # Errors
/// If the file can't be read, or contains no valid certificate.
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
            detail: "no CERTIFICATE section".to_owned(),
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
    fn error_without_certificates_names_the_variable() {
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
