use std::{
    fmt, fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use aws_config::{SdkConfig, identity::IdentityCache, sts::AssumeRoleProvider};
use aws_credential_types::{
    Credentials as Keys,
    provider::{ProvideCredentials, SharedCredentialsProvider, error::CredentialsError, future},
};

use crate::api::AssumeRole;

/// How long keys from files are used before they are read again, so that a changed Secret takes
/// effect during a run.
const REREAD_INTERVAL: Duration = Duration::from_secs(300);

/// The source of the AWS credentials.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// The default AWS credential chain: environment, web identity (IRSA), container (EKS Pod
    /// Identity), or instance.
    Ambient,
    /// A directory, such as a mounted Secret, with the files `accessKeyId`, `secretAccessKey`,
    /// and, if the keys are temporary, `sessionToken`.
    Dir(PathBuf),
    /// The keys as values.
    Keys {
        /// The access key ID.
        access_key_id: String,
        /// The secret access key.
        secret_access_key: String,
        /// The session token, if the keys are temporary.
        session_token: Option<String>,
    },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ambient => f.write_str("Ambient"),
            Self::Dir(dir) => f.debug_tuple("Dir").field(dir).finish(),
            Self::Keys { .. } => f.write_str("Keys(redacted)"),
        }
    }
}

impl Credentials {
    /// Returns the SDK configuration with these credentials. If `role` is set, they assume it.
    /// `base` provides the region, the HTTP client, and the ambient credentials.
    pub(super) async fn apply(self, base: SdkConfig, role: Option<&AssumeRole>) -> SdkConfig {
        let explicit = match self {
            Self::Ambient => None,
            Self::Dir(dir) => Some(SharedCredentialsProvider::new(DirProvider(dir))),
            Self::Keys {
                access_key_id,
                secret_access_key,
                session_token,
            } => Some(SharedCredentialsProvider::new(Keys::new(
                access_key_id,
                secret_access_key,
                session_token,
                None,
                "Secret",
            ))),
        };
        let config = match explicit {
            // Needs a separate cache, because the shared one never evicts an identity.
            Some(provider) => base
                .into_builder()
                .credentials_provider(provider)
                .identity_cache(IdentityCache::lazy().build())
                .build(),
            None => base,
        };
        let (Some(role), Some(source)) = (role, config.credentials_provider()) else {
            return config;
        };
        let mut builder = AssumeRoleProvider::builder(&role.arn)
            .session_name("event-forwarder")
            .configure(&config);
        if let Some(id) = &role.external_id {
            builder = builder.external_id(id);
        }
        let assumed = builder.build_from_provider(source).await;
        config
            .into_builder()
            .credentials_provider(SharedCredentialsProvider::new(assumed))
            .build()
    }
}

/// A provider that reads keys from a directory each time the SDK requests credentials.
#[derive(Debug)]
struct DirProvider(PathBuf);

impl ProvideCredentials for DirProvider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(read_keys(&self.0))
    }
}

fn read_keys(dir: &Path) -> Result<Keys, CredentialsError> {
    let required = |name: &str| {
        let path = dir.join(name);
        match fs::read_to_string(&path) {
            Ok(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
            Ok(_) => Err(CredentialsError::provider_error(format!(
                "{} is empty",
                path.display()
            ))),
            Err(error) => Err(CredentialsError::provider_error(format!(
                "can't read {}: {error}",
                path.display()
            ))),
        }
    };
    Ok(Keys::new(
        required("accessKeyId")?,
        required("secretAccessKey")?,
        required("sessionToken").ok(),
        Some(SystemTime::now() + REREAD_INTERVAL),
        "Secret",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_file_is_named_and_secrets_are_redacted() {
        let dir = std::env::temp_dir().join(format!("event-forwarder-keys-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("accessKeyId"), "AKIDEXAMPLE\n").unwrap();
        let error = read_keys(&dir).unwrap_err();
        assert!(format!("{error:?}").contains("secretAccessKey"));
        fs::write(dir.join("secretAccessKey"), "hush\n").unwrap();
        let keys = read_keys(&dir).unwrap();
        assert_eq!(
            (keys.access_key_id(), keys.secret_access_key()),
            ("AKIDEXAMPLE", "hush")
        );
        fs::remove_dir_all(dir).unwrap();
        let debug = format!(
            "{:?}",
            Credentials::Keys {
                access_key_id: "a".to_owned(),
                secret_access_key: "hush".to_owned(),
                session_token: None
            }
        );
        assert!(!debug.contains("hush"));
    }
}
