use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_smithy_http_client::{
    Builder, Connector,
    proxy::ProxyConfig,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use url::Url;

use super::{Credentials, Error};
use crate::{
    api::QueueSpec,
    trust::{Authorities, authorities},
};

/// How long a connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// How long a call may take, on top of the time that it waits for messages. The SDK itself sets
/// no limit on reads.
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(5);

/// The AWS SDK's configuration for a queue: region, endpoint, identity, TLS by ring, the proxy
/// of the environment, a time limit on each call and no hidden repeats.
pub(super) async fn sdk_config(
    spec: &QueueSpec,
    credentials: Credentials,
) -> Result<SdkConfig, Error> {
    let url = parse(&spec.url)?;
    let region = spec
        .region
        .clone()
        .or_else(|| url.host_str().and_then(region_of).map(str::to_owned))
        .ok_or_else(|| Error::NoRegion {
            queue: spec.url.clone(),
        })?;
    let endpoint = spec
        .endpoint
        .clone()
        .unwrap_or_else(|| url.origin().ascii_serialization());
    let base = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(region))
        .http_client(http_client(&authorities()?))
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(CONNECT_LIMIT)
                .operation_attempt_timeout(CALL_LIMIT)
                .build(),
        )
        .load()
        .await;
    let config = credentials.apply(base, spec.assume_role.as_ref()).await;
    Ok(config
        .into_builder()
        .endpoint_url(endpoint)
        .retry_config(RetryConfig::disabled())
        .build())
}

/// The region in the name of one of AWS's own SQS hosts, for example
/// `sqs.eu-central-1.amazonaws.com`, `sqs-fips.us-gov-west-1.amazonaws.com` or
/// `vpce-1-2.sqs.us-east-1.vpce.amazonaws.com`.
pub fn region_of(host: &str) -> Option<&str> {
    if !(host.ends_with(".amazonaws.com")
        || host.ends_with(".amazonaws.com.cn")
        || host.ends_with(".api.aws"))
    {
        return None;
    }
    if host == "queue.amazonaws.com" {
        return Some("us-east-1");
    }
    let mut labels = host.split('.').peekable();
    while let Some(label) = labels.next() {
        if matches!(label, "sqs" | "sqs-fips") {
            return labels.next();
        }
        if labels.peek() == Some(&"queue") {
            return Some(label);
        }
    }
    None
}

pub(super) fn parse(url: &str) -> Result<Url, Error> {
    Url::parse(url).map_err(|error| Error::BadUrl {
        queue: url.to_owned(),
        detail: error.to_string(),
    })
}

fn http_client(authorities: &Authorities) -> SharedHttpClient {
    let store = if authorities.pem.is_empty() {
        TrustStore::default()
    } else {
        TrustStore::default().with_pem_certificate(authorities.pem.as_slice())
    };
    let tls = TlsContext::builder().with_trust_store(store).build().ok();
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut builder = Connector::builder()
            .proxy_config(ProxyConfig::from_env())
            .enable_tcp_nodelay(true);
        builder.set_connector_settings(settings.cloned());
        builder.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
        let mut builder = builder.tls_provider(Provider::Rustls(CryptoMode::Ring));
        if let Some(tls) = &tls {
            builder.set_tls_context(tls.clone());
        }
        builder.build()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_stands_in_the_name_of_aws_hosts_only() {
        for (host, region) in [
            ("sqs.us-east-1.amazonaws.com", Some("us-east-1")),
            ("sqs.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
            (
                "sqs-fips.us-gov-west-1.amazonaws.com",
                Some("us-gov-west-1"),
            ),
            ("sqs.eu-west-1.api.aws", Some("eu-west-1")),
            ("eu-west-1.queue.amazonaws.com", Some("eu-west-1")),
            ("queue.amazonaws.com", Some("us-east-1")),
            (
                "vpce-0123-4567.sqs.us-east-1.vpce.amazonaws.com",
                Some("us-east-1"),
            ),
            ("localhost", None),
            ("sqs.us-east-1.example.com", None),
        ] {
            assert_eq!(region_of(host), region, "{host}");
        }
    }
}
