//! The default rules of Apache Commons' EmailValidator, with which Iterable checks emails
//! (section 1.7).

use std::net::{Ipv4Addr, Ipv6Addr};

/// Plausible top-level domains that are never delegated. Commons rejects these because it has a
/// list of all top-level domains.
const NEVER_DELEGATED: [&str; 6] = ["example", "invalid", "local", "localhost", "onion", "test"];

pub(super) fn is_valid(email: &str) -> bool {
    email
        .rsplit_once('@')
        .is_some_and(|(local, domain)| is_local_part(local) && is_domain(domain))
}

/// Returns whether `local` has at most 64 characters and consists of words separated by dots.
///
/// A word is a quoted string, or characters without specials.
fn is_local_part(local: &str) -> bool {
    if local.chars().count() > 64 {
        return false;
    }
    let mut rest = local;
    loop {
        let Some(after) = strip_quoted_string(rest).or_else(|| strip_word(rest)) else {
            return false;
        };
        match after.strip_prefix('.') {
            Some(next) => rest = next,
            None => return after.is_empty(),
        }
    }
}

/// Returns the rest of `text` after a quoted string at its start.
fn strip_quoted_string(text: &str) -> Option<&str> {
    let inside = text.strip_prefix('"')?;
    let mut escaped = false;
    for (at, c) in inside.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(&inside[at + 1..]),
            _ => {}
        }
    }
    None
}

/// Returns the rest of `text` after a word at its start.
fn strip_word(text: &str) -> Option<&str> {
    let mut escaped = false;
    let end = text
        .char_indices()
        .find(|&(_, c)| {
            let special = c.is_whitespace() || c.is_control() || "()<>@,;:\".[]".contains(c);
            let ends = special && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        })
        .map_or(text.len(), |(at, _)| at);
    (end > 0 && !escaped).then(|| &text[end..])
}

/// Returns whether `domain` is an IP address in brackets, or a host name whose last label can be a
/// top-level domain.
fn is_domain(domain: &str) -> bool {
    if let Some(literal) = domain
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        return match literal.strip_prefix("IPv6:") {
            Some(v6) => v6.parse::<Ipv6Addr>().is_ok(),
            None => literal.parse::<Ipv4Addr>().is_ok(),
        };
    }
    let Some((_, top)) = domain.rsplit_once('.') else {
        return false;
    };
    domain.len() <= 253
        && domain.split('.').all(is_label)
        && top.chars().count() >= 2
        && (top.starts_with("xn--") || top.chars().all(char::is_alphabetic))
        && !NEVER_DELEGATED.contains(&top.to_ascii_lowercase().as_str())
}

/// Returns whether `label` has only letters, digits and inner hyphens.
///
/// Non-ASCII letters are accepted because IDN encodes them.
fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.chars().all(|c| c.is_alphanumeric() || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_formed_emails_are_valid() {
        for email in [
            "a@example.com",
            "First.Last+tag@mail.example.co.uk",
            "o'brien@example.com",
            "\"a b\"@example.com",
            "a\\@b@example.com",
            "3c9e@placeholder.email",
            "user@[192.0.2.1]",
            "user@[IPv6:2001:db8::1]",
            "用户@例子.公司",
        ] {
            assert!(is_valid(email), "{email}");
        }
    }

    #[test]
    fn malformed_emails_are_invalid() {
        let long = format!("{}@example.com", "a".repeat(65));
        for email in [
            "",
            "000",
            "@example.com",
            "a@",
            "a@example",
            "a@localhost",
            "a@example.com.",
            "a b@example.com",
            "a@exa mple.com",
            ".a@example.com",
            "a..b@example.com",
            "a.@example.com",
            "a,b@example.com",
            "a@b@example.com",
            "a@-example.com",
            "a@example.test",
            "a@example.c0m",
            "a@[192.0.2.256]",
            "a\n@example.com",
            "\"a@example.com",
            &long,
        ] {
            assert!(!is_valid(email), "{email}");
        }
    }
}
