//! Who: exactly one user key for each event, by the project's type and Iterable's rules.

use std::{borrow::Cow, net::Ipv4Addr, net::Ipv6Addr, sync::Arc};

use crate::api::{IdentitySpec, MissingUserPolicy, ProjectType};

use super::{
    mparticle::{Batch, NIL_UUID},
    raw::{JsonType, RawJson},
};

/// The user of an event, by the one key that Iterable is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum User<'a> {
    /// By email address, in lower case.
    Email(&'a str),
    /// By userId.
    UserId(&'a str),
}

/// A [`User`] that many events share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserKey {
    /// By email address, in lower case.
    Email(Arc<str>),
    /// By userId.
    UserId(Arc<str>),
}

impl UserKey {
    /// The key, borrowed.
    pub fn user(&self) -> User<'_> {
        match self {
            Self::Email(email) => User::Email(email),
            Self::UserId(id) => User::UserId(id),
        }
    }

    /// The key as text.
    pub fn text(&self) -> &str {
        let (Self::Email(text) | Self::UserId(text)) = self;
        text
    }
}

/// Why a batch names no user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserError {
    /// It has no key that the project takes.
    NoUser,
    /// Its email address is none by Iterable's rules.
    InvalidEmail(InvalidKey),
    /// Its userId is none by Iterable's rules.
    InvalidUserId(InvalidKey),
}

/// A key that Iterable would refuse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rule}")]
pub struct InvalidKey {
    rule: &'static str,
}

const fn invalid<T>(rule: &'static str) -> Result<T, InvalidKey> {
    Err(InvalidKey { rule })
}

/// How users are named.
#[derive(Clone, Debug)]
pub struct UserResolver {
    project: ProjectType,
    user_id_from: String,
    without_user: MissingUserPolicy,
}

impl UserResolver {
    /// The rules of a forwarder.
    pub fn new(spec: &IdentitySpec, project: ProjectType) -> Self {
        Self {
            project,
            user_id_from: spec.user_id_from.clone(),
            without_user: spec.without_user,
        }
    }

    /// The type of the project, by which its users have their key.
    pub const fn project(&self) -> ProjectType {
        self.project
    }

    /// The user of a batch.
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
            // Either key finds the same person, so a bad one gives way to the other.
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

    /// The address that mParticle's own Iterable connection makes for a user without email, so
    /// that both land on the same person (github.com/Iterable/firehose-iterable,
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

/// The mParticle ID as text, never through a double. Zero means none.
pub fn mpid<'a>(batch: &Batch<'a>) -> Option<Cow<'a, str>> {
    batch
        .mpid
        .filter(|mpid| !is_no_mpid(*mpid))
        .and_then(RawJson::scalar)
}

/// Whether a batch's `mpid` stands for none.
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

/// The identities of a batch: of each type the newest, and of equally new ones the last.
#[derive(Debug, Default)]
pub struct Identities<'a>(Vec<Identity<'a>>);

#[derive(Debug)]
struct Identity<'a> {
    kind: Cow<'a, str>,
    value: Cow<'a, str>,
    since: i64,
}

impl<'a> Identities<'a> {
    /// Reads both of mParticle's forms: a list of `{identity_type, identity,
    /// timestamp_unixtime_ms}`, and an object from type to value. What has no value is none.
    pub fn read(raw: Option<RawJson<'a>>) -> Self {
        let mut identities = Self::default();
        match raw.map(|raw| (raw, raw.json_type())) {
            Some((raw, JsonType::Object)) => raw.each_member(|kind, value| {
                identities.add(Some(kind), value.scalar(), i64::MIN);
            }),
            Some((raw, JsonType::Array)) => raw.each_element(|element| {
                let (mut kind, mut value, mut since) = (None, None, i64::MIN);
                element.each_member(|key, member| match &*key {
                    "identity_type" => kind = member.scalar(),
                    "identity" => value = member.scalar(),
                    "timestamp_unixtime_ms" => since = member.integer().unwrap_or(i64::MIN),
                    _ => {}
                });
                identities.add(kind, value, since);
            }),
            _ => {}
        }
        identities
    }

    fn add(&mut self, kind: Option<Cow<'a, str>>, value: Option<Cow<'a, str>>, since: i64) {
        if let (Some(kind), Some(value)) = (kind, value) {
            self.0.push(Identity { kind, value, since });
        }
    }

    /// The identity of a type, by mParticle's name for it.
    pub fn get(&self, kind: &str) -> Option<&str> {
        if kind == "customer_id" {
            self.customer_id()
        } else {
            self.newest(&[kind])
        }
    }

    /// The email identity, as it came.
    pub fn email(&self) -> Option<&str> {
        self.newest(&["email"])
    }

    /// The customer id. mParticle spells its type in three ways: `customer_id` in batches,
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
            .max_by_key(|identity| identity.since)
            .map(|identity| &*identity.value)
    }
}

/// Checks a userId by Iterable's rules: 1 to 52 printable ASCII characters, the last no blank
/// (support.iterable.com, "Project Types and Unique Identifiers").
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

/// Checks an address by the rules that Iterable checks by, those of the Apache Commons
/// EmailValidator (support.iterable.com, "Email Validation in Iterable"), but for its list of
/// top-level domains, which grows: an unknown one is left to Iterable.
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

/// Dot-separated words, each either a quoted string or characters that are no specials, where a
/// backslash lets any character through.
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
