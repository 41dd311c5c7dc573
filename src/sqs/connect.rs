use std::{collections::HashMap, sync::Arc, time::Duration};

use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_smithy_http_client::{
    Builder, Connector as HttpConnector,
    proxy::ProxyConfig,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use tokio::sync::Mutex;
use url::{Origin, Url};

use super::{Credentials, Error};
use crate::{
    api::QueueSpec,
    ca_bundle::{self, CaBundle, CaBundleError},
};

/// How long a connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// How long a call may take, on top of the time that it waits for messages. The SDK itself sets
/// no limit on reads.
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(5);

/// What the clients of several queues share: connections, whom TLS trusts, and for each region
/// the ambient identity with its keys, so that ten thousand queues cost as few as one. Clones
/// share it too.
#[derive(Clone, Debug)]
pub struct Connector {
    http: SharedHttpClient,
    /// By region, which the ambient identity's own requests need.
    bases: Arc<Mutex<HashMap<String, SdkConfig>>>,
}

impl Connector {
    /// Reads whom to trust and which proxy to use from the environment.
    ///
    /// # Errors
    /// When the certificates of further authorities can't be used.
    pub fn new() -> Result<Self, CaBundleError> {
        Ok(Self {
            http: http_client(&ca_bundle::load()?),
            bases: Arc::default(),
        })
    }

    /// The AWS SDK's configuration for a queue: region, endpoint, identity, TLS by ring, the
    /// proxy of the environment, a time limit on each call and no hidden repeats.
    pub(super) async fn config(
        &self,
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
        let endpoint = endpoint(spec)?;
        let base = self.base(region).await;
        let config = credentials.apply(base, spec.assume_role.as_ref()).await;
        Ok(config
            .into_builder()
            .endpoint_url(endpoint)
            .retry_config(RetryConfig::disabled())
            .build())
    }

    async fn base(&self, region: String) -> SdkConfig {
        let mut bases = self.bases.lock().await;
        if let Some(base) = bases.get(&region) {
            return base.clone();
        }
        let base = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(region.clone()))
            .http_client(self.http.clone())
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(CONNECT_LIMIT)
                    .operation_attempt_timeout(CALL_LIMIT)
                    .build(),
            )
            .load()
            .await;
        bases.insert(region, base.clone());
        base
    }
}

/// Where requests about a queue go: scheme, host and port, in the one form in which they are
/// both judged and used, whatever the forwarder wrote around them.
pub fn endpoint(spec: &QueueSpec) -> Result<Url, Error> {
    let written = spec.endpoint.as_deref().unwrap_or(&spec.url);
    match parse(written)?.origin() {
        origin @ Origin::Tuple(..) => parse(&origin.ascii_serialization()),
        Origin::Opaque(_) => Err(Error::BadUrl {
            queue: written.to_owned(),
            detail: "it has no host".to_owned(),
        }),
    }
}

/// The region in the name of one of AWS's own SQS hosts, for example
/// `sqs.eu-central-1.amazonaws.com`, `sqs-fips.us-gov-west-1.amazonaws.com` or
/// `vpce-1-2.sqs.us-east-1.vpce.amazonaws.com`. The name counts as a whole: below amazonaws.com
/// there are also hosts of AWS's customers, such as instances, load balancers and buckets.
pub fn region_of(host: &str) -> Option<&str> {
    let labels: Vec<_> = host.split('.').collect();
    let (region, domain) = match labels.as_slice() {
        ["queue", domain @ ..] => return (*domain == ["amazonaws", "com"]).then_some("us-east-1"),
        ["sqs" | "sqs-fips", region, domain @ ..] | [region, "queue", domain @ ..] => {
            (region, domain)
        }
        [id, "sqs" | "sqs-fips", region, "vpce", domain @ ..] if id.starts_with("vpce-") => {
            (region, domain)
        }
        _ => return None,
    };
    let domains: [&[&str]; 4] = [
        &["amazonaws", "com"],
        &["amazonaws", "com", "cn"],
        &["amazonaws", "eu"],
        &["api", "aws"],
    ];
    (domains.contains(&domain) && is_region(region)).then_some(region)
}

/// Whether it looks like a region: words, and a number at the end, such as us-gov-west-1.
fn is_region(label: &str) -> bool {
    let mut words: Vec<_> = label.split('-').collect();
    let number = words.pop().unwrap_or_default();
    let all = |text: &str, is: fn(&u8) -> bool| !text.is_empty() && text.bytes().all(|b| is(&b));
    words.len() >= 2
        && all(number, u8::is_ascii_digit)
        && words.iter().all(|word| all(word, u8::is_ascii_lowercase))
}

pub(super) fn parse(url: &str) -> Result<Url, Error> {
    Url::parse(url).map_err(|error| Error::BadUrl {
        queue: url.to_owned(),
        detail: error.to_string(),
    })
}

fn http_client(ca_bundle: &CaBundle) -> SharedHttpClient {
    let store = if ca_bundle.pem.is_empty() {
        TrustStore::default()
    } else {
        TrustStore::default().with_pem_certificate(ca_bundle.pem.as_slice())
    };
    let tls = TlsContext::builder().with_trust_store(store).build().ok();
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut builder = HttpConnector::builder()
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
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::sqs::QueueClient;

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
            (
                "vpce-0123-4567-us-east-1a.sqs-fips.us-east-1.vpce.amazonaws.com",
                Some("us-east-1"),
            ),
            ("sqs.eusc-de-east-1.amazonaws.eu", Some("eusc-de-east-1")),
            ("localhost", None),
            ("sqs.us-east-1.example.com", None),
            ("sqs.us-east-1.amazonaws.com.example.com", None),
            ("sqs.us-east-1.amazonaws.com.", None),
            ("sqs.us-east-1.elb.amazonaws.com", None),
            ("sqs.us-east-1.s3.amazonaws.com", None),
            ("sqs.s3-us-west-2.amazonaws.com", None),
            ("sqs.s3.amazonaws.com", None),
            ("ec2-1-2-3-4.compute-1.amazonaws.com", None),
            ("vpce-0123.vpce-svc-4567.us-east-1.vpce.amazonaws.com", None),
            ("mine.sqs.us-east-1.vpce.amazonaws.com", None),
            ("us-east-1.queue.amazonaws.com.evil.example", None),
            ("queue.amazonaws.eu", None),
            ("amazonaws.com", None),
            ("", None),
        ] {
            assert_eq!(region_of(host), region, "{host}");
        }
    }

    #[test]
    fn an_endpoint_is_scheme_host_and_port_whatever_is_written_around_them() {
        for (written, endpoint_of_it) in [
            (
                "https://SQS.us-east-1.amazonaws.com/",
                "https://sqs.us-east-1.amazonaws.com/",
            ),
            (
                "https://sqs.us-east-1.amazonaws.com:443",
                "https://sqs.us-east-1.amazonaws.com/",
            ),
            (
                "https://sqs.us-east-1.amazonaws.com@evil.example",
                "https://evil.example/",
            ),
            (
                r"https://evil.example\@sqs.us-east-1.amazonaws.com",
                "https://evil.example/",
            ),
            ("http://127.1:9324", "http://127.0.0.1:9324/"),
        ] {
            let spec: QueueSpec = serde_json::from_value(serde_json::json!({
                "url": "https://sqs.us-east-1.amazonaws.com/123456789012/q",
                "endpoint": written,
            }))
            .unwrap();
            assert_eq!(
                endpoint(&spec).unwrap().as_str(),
                endpoint_of_it,
                "{written}"
            );
        }
    }

    /// A server that answers each request with the same words, and its address. Counts them.
    async fn server(answer: String) -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let mut request = [0; 4096];
                let _ = connection.read(&mut request).await;
                let _ = connection.write_all(answer.as_bytes()).await;
            }
        });
        (address, asked)
    }

    #[tokio::test]
    async fn a_redirect_takes_no_identity_elsewhere() {
        let (elsewhere, asked_elsewhere) = server(String::new()).await;
        let redirect = format!(
            "HTTP/1.1 307 Temporary Redirect\r\nlocation: {elsewhere}/\r\ncontent-length: 0\r\n\r\n"
        );
        let (endpoint, asked) = server(redirect).await;
        let spec: QueueSpec = serde_json::from_value(serde_json::json!({
            "url": "https://sqs.us-east-1.amazonaws.com/123456789012/q",
            "endpoint": endpoint,
        }))
        .unwrap();
        let credentials = Credentials::Keys {
            access_key_id: "id".to_owned(),
            secret_access_key: "key".to_owned(),
            session_token: None,
        };
        let queue = QueueClient::connect(&spec, credentials).await.unwrap();
        queue.settings().await.unwrap_err();
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        assert_eq!(asked_elsewhere.load(Ordering::Relaxed), 0);
    }
}
