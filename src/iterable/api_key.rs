use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use reqwest::header::HeaderValue;

/// A project's server-side API key. `Debug` output redacts it.
#[derive(Clone)]
pub struct ApiKey(HeaderValue);

/// Why an API key file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ApiKeyError {
    /// The file can't be read.
    #[error("can't read API key file {}: {cause}; check spec.iterable.apiKeySecretRef", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        cause: io::Error,
    },
    /// The file is empty.
    #[error("API key file {} is empty: store the project's server-side key in the Secret", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file contains characters that are invalid in a header value.
    #[error(
        "API key file {} contains invalid characters: store only the key, as plain text",
        path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

impl ApiKey {
    /// Reads the key from a file, ignoring leading and trailing whitespace.
    pub fn read(path: &Path) -> Result<Self, ApiKeyError> {
        let text = fs::read_to_string(path).map_err(|cause| ApiKeyError::Unreadable {
            path: path.to_owned(),
            cause,
        })?;
        if text.trim().is_empty() {
            return Err(ApiKeyError::Empty {
                path: path.to_owned(),
            });
        }
        Self::new(text.trim()).ok_or_else(|| ApiKeyError::Malformed {
            path: path.to_owned(),
        })
    }

    /// Creates a key. Returns `None` if the text is not a valid header value.
    pub fn new(text: &str) -> Option<Self> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let mut value = HeaderValue::from_str(text).ok()?;
        value.set_sensitive(true);
        Some(Self(value))
    }

    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_redacted_in_debug_output() {
        let key = ApiKey::new("abc123").unwrap();
        assert_eq!(
            format!("{key:?} {:?}", key.header()),
            "ApiKey(redacted) Sensitive"
        );
    }

    #[test]
    fn multiline_key_is_malformed() {
        assert!(ApiKey::new("abc\ndef").is_none());
        assert!(ApiKey::new("{\"key\": \"abc\"}").is_none());
    }
}
