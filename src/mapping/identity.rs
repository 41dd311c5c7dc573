//! User identity: one user key per event, by the project's type and Iterable's rules.

use std::{borrow::Cow, net::Ipv4Addr, net::Ipv6Addr, sync::Arc};

use crate::api::{IdentitySpec, MissingUserPolicy, ProjectType};

use super::{
    mparticle::{Batch, NIL_UUID},
    raw::{JsonType, RawJson},
};

/// The user of an event, by the single key that is sent to Iterable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum User<'a> {
    /// Email address, in lowercase.
    Email(&'a str),
    /// userId.
    UserId(&'a str),
}

/// A [`User`] that the events of a batch share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserKey {
    /// Email address, in lowercase.
    Email(Arc<str>),
    /// userId.
    UserId(Arc<str>),
}

impl UserKey {
    /// Returns the borrowed key.
    pub fn user(&self) -> User<'_> {
        match self {
            Self::Email(email) => User::Email(email),
            Self::UserId(id) => User::UserId(id),
        }
    }

    /// Returns the key as a string.
    pub fn text(&self) -> &str {
        let (Self::Email(text) | Self::UserId(text)) = self;
        text
    }
}

/// The reason why a batch has no valid user key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserError {
    /// No key of the kind that the project uses.
    NoUser,
    /// The email address breaks Iterable's rules.
    InvalidEmail(InvalidKey),
    /// The userId breaks Iterable's rules.
    InvalidUserId(InvalidKey),
}

/// A user key that Iterable would reject.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rule}")]
pub struct InvalidKey {
    rule: &'static str,
}

const fn invalid<T>(rule: &'static str) -> Result<T, InvalidKey> {
    Err(InvalidKey { rule })
}

/// The rules that select the user key of a batch.
#[derive(Clone, Debug)]
pub struct UserResolver {
    project: ProjectType,
    user_id_from: String,
    without_user: MissingUserPolicy,
}

impl UserResolver {
    /// Creates the rules of a forwarder.
    pub fn new(spec: &IdentitySpec, project: ProjectType) -> Self {
        Self {
            project,
            user_id_from: spec.user_id_from.clone(),
            without_user: spec.without_user,
        }
    }

    /// Returns the project type, which determines the kind of key.
    pub const fn project(&self) -> ProjectType {
        self.project
    }

    /// Returns the user key of a batch.
    pub fn user(
        &self,
        batch: &Batch<'_>,
        identities: &Identities<'_>,
    ) -> Result<UserKey, UserError> {
        match self.project {
            ProjectType::Email => match identities.email() {
                Some(email) => email_key(email),
                None => self.placeholder(batch, identities),
            },
            ProjectType::UserId => self.user_id(batch, identities),
            // Both keys identify the same user, so a valid one replaces an invalid one.
            ProjectType::Hybrid => match (
                identities.email().map(email_key),
                self.user_id(batch, identities),
            ) {
                (Some(Ok(email)), _) => Ok(email),
                (_, Ok(user_id)) => Ok(user_id),
                (Some(Err(bad_email)), Err(UserError::NoUser)) => Err(bad_email),
                (_, Err(error)) => Err(error),
            },
        }
    }

    fn user_id(
        &self,
        batch: &Batch<'_>,
        identities: &Identities<'_>,
    ) -> Result<UserKey, UserError> {
        let id = match self.user_id_from.as_str() {
            "mpid" => mpid(batch),
            name => identities.get(name).map(Cow::Borrowed),
        };
        let id = id.ok_or(UserError::NoUser)?;
        check_user_id(&id).map_err(UserError::InvalidUserId)?;
        Ok(UserKey::UserId(Arc::from(&*id)))
    }

    /// Returns the placeholder address that mParticle's Iterable connection uses for a user without
    /// an email, so that both update the same user (github.com/Iterable/firehose-iterable,
    /// `IterableExtension.getPlaceholderEmail`).
    fn placeholder(
        &self,
        batch: &Batch<'_>,
        identities: &Identities<'_>,
    ) -> Result<UserKey, UserError> {
        if self.without_user == MissingUserPolicy::Skip {
            return Err(UserError::NoUser);
        }
        let local = if self.user_id_from == "mpid" {
            mpid(batch)
        } else {
            device_id(batch)
                .or_else(|| identities.customer_id().map(Cow::Borrowed))
                .or_else(|| batch.mp_deviceid.and_then(RawJson::scalar))
        };
        let local = local.ok_or(UserError::NoUser)?;
        email_key(&format!("{local}@placeholder.email"))
    }
}

fn email_key(email: &str) -> Result<UserKey, UserError> {
    check_email(email).map_err(UserError::InvalidEmail)?;
    Ok(UserKey::Email(Arc::from(email.to_lowercase())))
}

/// Returns the mParticle ID as a string, without conversion to a double. Returns `None` for 0.
pub fn mpid<'a>(batch: &Batch<'a>) -> Option<Cow<'a, str>> {
    batch
        .mpid
        .filter(|mpid| !is_no_mpid(*mpid))
        .and_then(RawJson::scalar)
}

/// Returns whether an `mpid` is 0, which means that there is none.
pub fn is_no_mpid(mpid: RawJson<'_>) -> bool {
    mpid.scalar().is_some_and(|mpid| mpid == "0")
}

fn device_id<'a>(batch: &Batch<'a>) -> Option<Cow<'a, str>> {
    let device = batch.device_info?;
    let id = |name| {
        device
            .member(name)
            .and_then(RawJson::scalar)
            .filter(|id| id != NIL_UUID)
    };
    match &*device.member("platform")?.scalar()?.to_ascii_lowercase() {
        "ios" | "tvos" => id("ios_idfv").or_else(|| id("ios_advertising_id")),
        "android" => id("android_advertising_id").or_else(|| id("android_uuid")),
        _ => None,
    }
}

/// The identities of a batch. For each type the newest is used, and the last of equally new ones.
#[derive(Debug, Default)]
pub struct Identities<'a>(Vec<Identity<'a>>);

#[derive(Debug)]
struct Identity<'a> {
    kind: Cow<'a, str>,
    value: Cow<'a, str>,
    timestamp: i64,
}

impl<'a> Identities<'a> {
    /// Parses both formats of mParticle: an array of `{identity_type, identity,
    /// timestamp_unixtime_ms}`, and an object from type to value. Skips identities without a value.
    pub fn read(raw: Option<RawJson<'a>>) -> Self {
        let mut identities = Self::default();
        match raw.map(|raw| (raw, raw.json_type())) {
            Some((raw, JsonType::Object)) => raw.each_member(|kind, value| {
                identities.add(Some(kind), value.scalar(), i64::MIN);
            }),
            Some((raw, JsonType::Array)) => raw.each_element(|element| {
                let (mut kind, mut value, mut timestamp) = (None, None, i64::MIN);
                element.each_member(|key, member| match &*key {
                    "identity_type" => kind = member.scalar(),
                    "identity" => value = member.scalar(),
                    "timestamp_unixtime_ms" => timestamp = member.integer().unwrap_or(i64::MIN),
                    _ => {}
                });
                identities.add(kind, value, timestamp);
            }),
            _ => {}
        }
        identities
    }

    fn add(&mut self, kind: Option<Cow<'a, str>>, value: Option<Cow<'a, str>>, timestamp: i64) {
        if let (Some(kind), Some(value)) = (kind, value) {
            self.0.push(Identity {
                kind,
                value,
                timestamp,
            });
        }
    }

    /// Returns the identity of a type, by mParticle's name for the type.
    pub fn get(&self, kind: &str) -> Option<&str> {
        if kind == "customer_id" {
            self.customer_id()
        } else {
            self.newest(&[kind])
        }
    }

    /// Returns the email identity, unchanged.
    pub fn email(&self) -> Option<&str> {
        self.newest(&["email"])
    }

    /// Returns the customer ID. mParticle spells its type in three ways: `customer_id` in batches,
    /// `customerid` in IDSync and the web SDK, `customer` in Firehose.
    pub fn customer_id(&self) -> Option<&str> {
        self.newest(&["customer_id", "customerid", "customer"])
    }

    fn newest(&self, kinds: &[&str]) -> Option<&str> {
        self.0
            .iter()
            .filter(|identity| {
                kinds
                    .iter()
                    .any(|kind| identity.kind.eq_ignore_ascii_case(kind))
            })
            .max_by_key(|identity| identity.timestamp)
            .map(|identity| &*identity.value)
    }
}

/// Checks a userId against Iterable's rules: 1 to 52 printable ASCII characters, without a trailing
/// space (support.iterable.com, "Project Types and Unique Identifiers").
pub fn check_user_id(id: &str) -> Result<(), InvalidKey> {
    if id.is_empty() {
        invalid("a userId must not be empty")
    } else if !id.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        invalid("a userId must consist of printable ASCII characters")
    } else if id.len() > 52 {
        invalid("a userId must have at most 52 characters")
    } else if id.ends_with(' ') {
        invalid("a userId must not end with a space")
    } else {
        Ok(())
    }
}

/// Checks an email address against Iterable's rules, which are those of the Apache Commons
/// EmailValidator (support.iterable.com, "Email Validation in Iterable"). Its list of top-level
/// domains is not checked, because it grows: Iterable rejects unknown ones.
pub fn check_email(email: &str) -> Result<(), InvalidKey> {
    let Some((local, domain)) = email.rsplit_once('@') else {
        return invalid("an email address must contain an @");
    };
    if local.chars().count() > 64 {
        return invalid(
            "the part of an email address before the @ must have at most 64 characters",
        );
    }
    if !is_local_part(local) {
        return invalid(
            "the part of an email address before the @ must be words separated by single dots",
        );
    }
    if !is_domain(domain) {
        return invalid(
            "the part of an email address after the @ must be a host name with a top-level domain",
        );
    }
    Ok(())
}

/// Returns whether `local` consists of words separated by dots. A word is a quoted string, or
/// characters that are not special or are escaped with a backslash.
fn is_local_part(local: &str) -> bool {
    let mut rest = local;
    loop {
        let Some(word) = word_length(rest) else {
            return false;
        };
        rest = &rest[word..];
        match rest.strip_prefix('.') {
            Some(after) => rest = after,
            None => return rest.is_empty(),
        }
    }
}

fn word_length(text: &str) -> Option<usize> {
    let mut chars = text.char_indices();
    if text.starts_with('"') {
        chars.next();
        while let Some((at, char)) = chars.next() {
            match char {
                '"' => return Some(at + 1),
                '\\' if text[at + 1..].starts_with('"') => {
                    chars.next();
                }
                _ => {}
            }
        }
        return None;
    }
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' => {
                chars.next()?;
            }
            '.' | '(' | ')' | '<' | '>' | '@' | ',' | ';' | ':' | '"' | '[' | ']' => {
                return (at > 0).then_some(at);
            }
            _ if char.is_ascii_whitespace() || char.is_ascii_control() => return None,
            _ => {}
        }
    }
    (!text.is_empty()).then_some(text.len())
}

fn is_domain(domain: &str) -> bool {
    if let Some(address) = domain
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        let v6 = address.strip_prefix("IPv6:").unwrap_or(address);
        return address.parse::<Ipv4Addr>().is_ok() || v6.parse::<Ipv6Addr>().is_ok();
    }
    if domain.is_ascii() {
        return is_host_name(domain);
    }
    match url::Host::parse(domain) {
        Ok(url::Host::Domain(ascii)) => is_host_name(&ascii),
        _ => false,
    }
}

fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let Some((_, top)) = name.rsplit_once('.') else {
        return false;
    };
    name.len() <= 253
        && name.split('.').all(is_label)
        && top.starts_with(|first: char| first.is_ascii_alphabetic())
}
