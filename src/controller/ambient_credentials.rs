//! Policy for the controller's ambient AWS credentials. Anyone who can create an EventForwarder
//! chooses the queue host and the role to assume. The administrator therefore lists the hosts and
//! roles that are allowed. Pure.

use std::str::FromStr;

use url::Url;

use super::depth::{DepthError, DepthTarget};
use crate::sqs::{Credentials, endpoint, region_of};

/// Entry in a list of hosts for all SQS hosts of AWS.
const AWS: &str = "aws";
/// Entry in a list of roles for every role.
const ANY: &str = "any";
/// Placeholder for the forwarder's namespace in a role pattern.
const NAMESPACE: &str = "{namespace}";

/// Hosts and roles that the ambient credentials can be used for. Credentials from a forwarder's
/// Secret are not restricted.
#[derive(Debug, Clone)]
pub struct AmbientCredentialsPolicy {
    /// Hosts that the controller can send signed requests to.
    pub hosts: AllowedHosts,
    /// Roles that the controller can assume.
    pub roles: AllowedRoles,
}

impl AmbientCredentialsPolicy {
    /// Checks that a queue can be read for a forwarder in `namespace`.
    ///
    /// # Errors
    /// Returns the reason and message of the condition if it is not allowed.
    pub fn check(&self, namespace: &str, target: &DepthTarget) -> Result<(), DepthError> {
        if target.credentials != Credentials::Ambient {
            return Ok(());
        }
        let endpoint = endpoint(&target.queue).map_err(DepthError::from)?;
        if !self.hosts.allows(&endpoint) {
            return Err(DepthError {
                reason: "HostNotAllowed",
                message: format!(
                    "the controller's ambient AWS credentials are not allowed for {}: set spec.queue.credentialsSecretRef, or ask the administrator to add this address to ambientCredentials.hosts",
                    endpoint.origin().ascii_serialization()
                ),
            });
        }
        match &target.queue.assume_role {
            Some(role) if !self.roles.allows(&role.arn, namespace) => Err(DepthError {
                reason: "RoleNotAllowed",
                message: format!(
                    "the controller is not allowed to assume {} for namespace {namespace}: set spec.queue.credentialsSecretRef, or ask the administrator to add the role to ambientCredentials.roles",
                    role.arn
                ),
            }),
            _ => Ok(()),
        }
    }
}

/// Allowed hosts, from a comma-separated list. An entry is "aws", for the SQS hosts of AWS by
/// HTTPS, or an address such as `https://sqs.example.com` or `http://localstack.dev.svc:4566`.
/// Scheme, host and port of an address must match. `https://*.example.com` matches every name
/// below example.com. If the list is empty, no host is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedHosts(Vec<AllowedHost>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum AllowedHost {
    Aws,
    Address {
        /// If `is_wildcard`, its host is the part after `*.`.
        address: Url,
        is_wildcard: bool,
    },
}

impl AllowedHosts {
    fn allows(&self, endpoint: &Url) -> bool {
        self.0.iter().any(|allowed| match allowed {
            AllowedHost::Aws => {
                endpoint.scheme() == "https"
                    && endpoint.port().is_none()
                    && endpoint.host_str().and_then(region_of).is_some()
            }
            AllowedHost::Address {
                address,
                is_wildcard,
            } => {
                let host = endpoint.host_str().unwrap_or_default();
                let allowed = address.host_str().unwrap_or_default();
                let is_same_host = match is_wildcard {
                    false => host == allowed,
                    true => host
                        .strip_suffix(allowed)
                        .is_some_and(|prefix| prefix.len() > 1 && prefix.ends_with('.')),
                };
                is_same_host
                    && endpoint.scheme() == address.scheme()
                    && endpoint.port_or_known_default() == address.port_or_known_default()
            }
        })
    }
}

impl FromStr for AllowedHosts {
    type Err = String;

    fn from_str(list: &str) -> Result<Self, Self::Err> {
        entries(list)
            .map(allowed_host)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

fn allowed_host(entry: &str) -> Result<AllowedHost, String> {
    if entry == AWS {
        return Ok(AllowedHost::Aws);
    }
    let invalid = || {
        format!(
            "\"{entry}\" is neither \"{AWS}\" nor an address such as https://sqs.example.com or https://*.example.com"
        )
    };
    let without_wildcard = entry.replacen("://*.", "://", 1);
    let address = Url::parse(&without_wildcard).map_err(|_| invalid())?;
    let is_origin = Url::parse(&address.origin().ascii_serialization()) == Ok(address.clone());
    let is_http = matches!(address.scheme(), "http" | "https");
    if !is_http || !is_origin || without_wildcard.contains('*') {
        return Err(invalid());
    }
    Ok(AllowedHost::Address {
        address,
        is_wildcard: without_wildcard != entry,
    })
}

/// Allowed roles, from a comma-separated list. An entry is "any", or an ARN such as
/// `arn:aws:iam::*:role/event-forwarder-{namespace}`. `*` matches any characters except `:` and
/// `/`, and `{namespace}` matches the forwarder's namespace. If the list is empty, no role is
/// allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedRoles(Vec<String>);

impl AllowedRoles {
    fn allows(&self, arn: &str, namespace: &str) -> bool {
        self.0
            .iter()
            .any(|pattern| pattern == ANY || matches(&pattern.replace(NAMESPACE, namespace), arn))
    }
}

impl FromStr for AllowedRoles {
    type Err = String;

    fn from_str(list: &str) -> Result<Self, Self::Err> {
        entries(list)
            .map(|entry| match entry == ANY || entry.starts_with("arn:") {
                true => Ok(entry.to_owned()),
                false => Err(format!(
                    "\"{entry}\" is neither \"{ANY}\" nor the ARN of a role such as arn:aws:iam::*:role/event-forwarder-{NAMESPACE}"
                )),
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

fn entries(list: &str) -> impl Iterator<Item = &str> {
    list.split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
}

/// Returns whether `text` matches `pattern`, in which `*` matches any characters except `:` and
/// `/`.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(text) = text.strip_prefix(start) else {
        return false;
    };
    let end = text.find([':', '/']).unwrap_or(text.len());
    text.char_indices()
        .map(|(at, _)| at)
        .chain([text.len()])
        .take_while(|at| *at <= end)
        .any(|at| matches(rest, &text[at..]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::QueueSpec;

    fn hosts(list: &str) -> AllowedHosts {
        list.parse().expect(list)
    }

    fn check(list: &str, roles: &str, queue: serde_json::Value) -> Result<(), &'static str> {
        let policy = AmbientCredentialsPolicy {
            hosts: hosts(list),
            roles: roles.parse().expect(roles),
        };
        let target = DepthTarget {
            queue: serde_json::from_value::<QueueSpec>(queue).expect("a queue"),
            credentials: Credentials::Ambient,
        };
        policy
            .check("marketing", &target)
            .map_err(|problem| problem.reason)
    }

    const AWS_QUEUE: &str = "https://sqs.us-east-1.amazonaws.com/123456789012/q";

    #[test]
    fn default_allows_only_sqs_hosts_of_aws() {
        for (url, allowed) in [
            (AWS_QUEUE, true),
            ("https://SQS.US-EAST-1.amazonaws.com/1/q", true),
            ("https://sqs.us-east-1.amazonaws.com:443/1/q", true),
            ("https://sqs.cn-north-1.amazonaws.com.cn/1/q", true),
            ("https://eu-west-1.queue.amazonaws.com/1/q", true),
            ("https://sqs.eu-west-1.api.aws/1/q", true),
            (
                "https://vpce-1-2.sqs.us-east-1.vpce.amazonaws.com/1/q",
                true,
            ),
            ("http://sqs.us-east-1.amazonaws.com/1/q", false),
            ("https://sqs.us-east-1.amazonaws.com:8443/1/q", false),
            ("https://sqs.us-east-1.amazonaws.com./1/q", false),
            (
                "https://sqs.us-east-1.amazonaws.com.evil.example/1/q",
                false,
            ),
            (
                "https://sqs.us-east-1.amazonaws.com@evil.example/1/q",
                false,
            ),
            (
                "https://evil.example#sqs.us-east-1.amazonaws.com/1/q",
                false,
            ),
            (r"https://evil.example\.amazonaws.com/1/q", false),
            ("https://evil-amazonaws.com/1/q", false),
            ("https://sqs.us-east-1.elb.amazonaws.com/1/q", false),
            ("https://sqs.us-east-1.s3.amazonaws.com/1/q", false),
            ("https://ec2-1-2-3-4.compute-1.amazonaws.com/1/q", false),
            ("https://52.119.187.1/1/q", false),
            ("https://[2600:1f18::1]/1/q", false),
            ("http://169.254.169.254/1/q", false),
            ("http://localhost:4566/1/q", false),
        ] {
            let expected = allowed.then_some(()).ok_or("HostNotAllowed");
            assert_eq!(check("aws", "any", json!({"url": url})), expected, "{url}");
            assert_eq!(
                check("aws", "any", json!({"url": AWS_QUEUE, "endpoint": url})),
                expected,
                "endpoint {url}"
            );
            assert_eq!(
                check("", "any", json!({"url": url})),
                Err("HostNotAllowed"),
                "an empty list allows {url}"
            );
        }
    }

    #[test]
    fn endpoint_is_checked_instead_of_queue_url() {
        let queue = json!({"url": "https://evil.example/1/q", "endpoint": "https://sqs.us-east-1.amazonaws.com"});
        assert_eq!(check("aws", "any", queue), Ok(()));
    }

    #[test]
    fn address_matches_by_scheme_host_and_port() {
        for (list, url, allowed) in [
            (
                "https://sqs.example.com",
                "https://sqs.example.com/1/q",
                true,
            ),
            (
                "https://sqs.example.com",
                "https://sqs.example.com:8443/1/q",
                false,
            ),
            (
                "https://sqs.example.com",
                "http://sqs.example.com/1/q",
                false,
            ),
            (
                "https://sqs.example.com",
                "https://a.sqs.example.com/1/q",
                false,
            ),
            ("https://*.example.com", "https://a.example.com/1/q", true),
            ("https://*.example.com", "https://a.b.example.com/1/q", true),
            ("https://*.example.com", "https://example.com/1/q", false),
            ("https://*.example.com", "https://.example.com/1/q", false),
            (
                "https://*.example.com",
                "https://evilexample.com/1/q",
                false,
            ),
            ("http://10.0.0.7:4566", "http://10.0.0.7:4566/1/q", true),
            ("http://10.0.0.7:4566", "http://10.0.0.7/1/q", false),
            (
                "aws, http://10.0.0.7:4566",
                "http://10.0.0.7:4566/1/q",
                true,
            ),
            ("aws,http://10.0.0.7:4566", AWS_QUEUE, true),
            ("http://10.0.0.7:4566", AWS_QUEUE, false),
        ] {
            let expected = allowed.then_some(()).ok_or("HostNotAllowed");
            assert_eq!(
                check(list, "any", json!({"url": url})),
                expected,
                "{list} {url}"
            );
        }
    }

    #[test]
    fn invalid_list_is_rejected() {
        for list in [
            "amazonaws.com",
            "*",
            "https://*",
            "https://*.*.example.com",
            "https://example.com/path",
            "https://user@example.com",
            "ftp://example.com",
        ] {
            assert!(list.parse::<AllowedHosts>().is_err(), "{list}");
        }
        assert!("event-forwarder".parse::<AllowedRoles>().is_err());
    }

    #[test]
    fn role_can_be_limited_to_a_namespace() {
        let arn = "arn:aws:iam::123456789012:role/ef-marketing";
        for (roles, allowed) in [
            ("any", true),
            ("", false),
            (arn, true),
            ("arn:aws:iam::123456789012:role/ef-sales", false),
            ("arn:aws:iam::*:role/ef-{namespace}", true),
            ("arn:aws:iam::*:role/{namespace}", false),
            ("arn:aws:iam::*:role/*", true),
            ("arn:aws:iam::123456789012:*", false),
            ("arn:aws:iam::1*2:role/ef-*", true),
            (
                "arn:aws:iam::999999999999:role/*, arn:aws:iam::*:role/ef-{namespace}",
                true,
            ),
        ] {
            let queue = json!({"url": AWS_QUEUE, "assumeRole": {"arn": arn}});
            let expected = allowed.then_some(()).ok_or("RoleNotAllowed");
            assert_eq!(check("aws", roles, queue), expected, "{roles}");
        }
        assert_eq!(check("aws", "", json!({"url": AWS_QUEUE})), Ok(()));
    }

    #[test]
    fn both_reasons_are_documented() {
        let document = include_str!("../../docs/conditions.md");
        for reason in ["HostNotAllowed", "RoleNotAllowed"] {
            assert!(document.contains(&format!("| {reason} |")), "{reason}");
        }
    }

    #[test]
    fn credentials_from_secret_are_not_restricted() {
        let policy = AmbientCredentialsPolicy {
            hosts: hosts(""),
            roles: "".parse().expect("roles"),
        };
        let target = DepthTarget {
            queue: serde_json::from_value(json!({
                "url": "http://localhost:4566/1/q",
                "assumeRole": {"arn": "arn:aws:iam::123456789012:role/r"},
            }))
            .expect("a queue"),
            credentials: Credentials::Keys {
                access_key_id: "id".to_owned(),
                secret_access_key: "key".to_owned(),
                session_token: None,
            },
        };
        assert_eq!(policy.check("marketing", &target), Ok(()));
    }
}
