//! Where the controller's own AWS identity may be used. Whoever may create a forwarder chooses
//! the host that its queue is read from and the role that is assumed for it, so the installer
//! says which of them the controller lends its identity to. Pure.

use std::str::FromStr;

use url::Url;

use super::depth::{DepthError, DepthTarget};
use crate::sqs::{Credentials, endpoint, region_of};

/// The word for AWS's own SQS hosts in a list of hosts.
const AWS: &str = "aws";
/// The word for every role in a list of roles.
const ANY: &str = "any";
/// What stands for the forwarder's namespace in the pattern of a role.
const NAMESPACE: &str = "{namespace}";

/// What the controller's own AWS identity may be used for. A forwarder that brings credentials
/// of its own is free to use them anywhere.
#[derive(Debug, Clone)]
pub struct AmbientCredentialsPolicy {
    /// The hosts that requests signed with it may go to.
    pub hosts: AllowedHosts,
    /// The roles that it may assume.
    pub roles: AllowedRoles,
}

impl AmbientCredentialsPolicy {
    /// Whether a queue may be read for a forwarder of `namespace`.
    ///
    /// # Errors
    /// The condition that says why not.
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

/// Hosts as the installer lists them, separated by commas: the word "aws" for AWS's own SQS hosts
/// by HTTPS, or addresses as a whole, such as `https://sqs.example.com` or
/// `http://localstack.dev.svc:4566`. `https://*.example.com` stands for every name below
/// example.com. Nothing: no host at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedHosts(Vec<AllowedHost>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum AllowedHost {
    Aws,
    Address {
        /// With the part after the `*.` as its host, if it is a pattern.
        address: Url,
        names_below: bool,
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
                names_below,
            } => {
                let host = endpoint.host_str().unwrap_or_default();
                let known = address.host_str().unwrap_or_default();
                let same_host = match names_below {
                    false => host == known,
                    true => host
                        .strip_suffix(known)
                        .is_some_and(|below| below.len() > 1 && below.ends_with('.')),
                };
                same_host
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
    let wrong = || {
        format!(
            "\"{entry}\" is neither \"{AWS}\" nor an address such as https://sqs.example.com or https://*.example.com"
        )
    };
    let plain = entry.replacen("://*.", "://", 1);
    let address = Url::parse(&plain).map_err(|_| wrong())?;
    let nothing_else = Url::parse(&address.origin().ascii_serialization()) == Ok(address.clone());
    let is_web = matches!(address.scheme(), "http" | "https");
    if !is_web || !nothing_else || plain.contains('*') {
        return Err(wrong());
    }
    Ok(AllowedHost::Address {
        address,
        names_below: plain != entry,
    })
}

/// Roles as the installer lists them, separated by commas: the word "any", or ARNs, in which `*`
/// stands for any text without `:` and `/`, and `{namespace}` for the forwarder's namespace, such as
/// `arn:aws:iam::*:role/event-forwarder-{namespace}`. Nothing: no role at all.
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

/// Whether `text` is what `pattern` describes, where `*` stands for any text without `:` and `/`.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(text) = text.strip_prefix(start) else {
        return false;
    };
    let reach = text.find([':', '/']).unwrap_or(text.len());
    text.char_indices()
        .map(|(at, _)| at)
        .chain([text.len()])
        .take_while(|at| *at <= reach)
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

    fn verdict(list: &str, roles: &str, queue: serde_json::Value) -> Result<(), &'static str> {
        let ambient = AmbientCredentialsPolicy {
            hosts: hosts(list),
            roles: roles.parse().expect(roles),
        };
        let target = DepthTarget {
            queue: serde_json::from_value::<QueueSpec>(queue).expect("a queue"),
            credentials: Credentials::Ambient,
        };
        ambient
            .check("marketing", &target)
            .map_err(|problem| problem.reason)
    }

    const AWS_QUEUE: &str = "https://sqs.us-east-1.amazonaws.com/123456789012/q";

    #[test]
    fn by_default_the_identity_is_shown_to_sqs_of_aws_alone() {
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
            assert_eq!(
                verdict("aws", "any", json!({"url": url})),
                expected,
                "{url}"
            );
            assert_eq!(
                verdict("aws", "any", json!({"url": AWS_QUEUE, "endpoint": url})),
                expected,
                "endpoint {url}"
            );
            assert_eq!(
                verdict("", "any", json!({"url": url})),
                Err("HostNotAllowed"),
                "an empty list allows {url}"
            );
        }
    }

    #[test]
    fn the_host_that_is_asked_counts_and_not_the_queues_name() {
        let queue = json!({"url": "https://evil.example/1/q", "endpoint": "https://sqs.us-east-1.amazonaws.com"});
        assert_eq!(verdict("aws", "any", queue), Ok(()));
    }

    #[test]
    fn an_address_of_the_installers_counts_as_a_whole() {
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
                verdict(list, "any", json!({"url": url})),
                expected,
                "{list} {url}"
            );
        }
    }

    #[test]
    fn a_list_that_can_not_be_meant_is_refused() {
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
    fn a_role_can_be_bound_to_a_namespace() {
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
            assert_eq!(verdict("aws", roles, queue), expected, "{roles}");
        }
        assert_eq!(verdict("aws", "", json!({"url": AWS_QUEUE})), Ok(()));
    }

    #[test]
    fn both_refusals_are_documented() {
        let document = include_str!("../../docs/conditions.md");
        for reason in ["HostNotAllowed", "RoleNotAllowed"] {
            assert!(document.contains(&format!("| {reason} |")), "{reason}");
        }
    }

    #[test]
    fn credentials_of_the_forwarders_own_go_anywhere() {
        let ambient = AmbientCredentialsPolicy {
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
        assert_eq!(ambient.check("marketing", &target), Ok(()));
    }
}
