use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use super::{KnownUsers, email};

/// A user's identifier in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Identifier<'a> {
    Email(&'a str),
    UserId(&'a str),
}

/// The reason why a user is rejected. `failedUpdates` has a pair of lists per reason (section 1.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UserRejection {
    Invalid,
    NotFound,
    Forgotten,
}

impl Identifier<'_> {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Email(text) | Self::UserId(text) => text,
        }
    }

    fn is_valid(&self) -> bool {
        match self {
            Self::Email(email) => email::is_valid(email),
            Self::UserId(user_id) => is_valid_user_id(user_id),
        }
    }
}

/// Returns whether the userId has 1 to 52 characters of printable ASCII and does not end with a
/// space (section 1.2).
fn is_valid_user_id(user_id: &str) -> bool {
    (1..=52).contains(&user_id.len())
        && user_id.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        && !user_id.ends_with(' ')
}

/// The known users with the times from which they are visible, and the forgotten users.
#[derive(Debug, Default)]
pub(super) struct Users {
    all: bool,
    known_emails: HashMap<String, Timestamp>,
    known_user_ids: HashMap<String, Timestamp>,
    forgotten: HashSet<String>,
}

impl Users {
    pub(super) fn new(known: &KnownUsers, forgotten: &[String]) -> Self {
        let mut users = Self {
            all: *known == KnownUsers::All,
            ..Self::default()
        };
        if let KnownUsers::Listed(names) = known {
            names.iter().for_each(|name| users.add_by_name(name));
        }
        forgotten.iter().for_each(|name| users.forget(name));
        users
    }

    /// Adds the user whose email or userId is `name`, visible immediately.
    pub(super) fn add_by_name(&mut self, name: &str) {
        self.add(Identifier::Email(name), Timestamp::MIN);
        self.add(Identifier::UserId(name), Timestamp::MIN);
    }

    /// Adds a user that is visible from `from`, or earlier if it exists already.
    pub(super) fn add(&mut self, user: Identifier<'_>, from: Timestamp) {
        let entry = match user {
            // Section 1.7: emails are stored in lower case; userIds are case-sensitive.
            Identifier::Email(email) => self.known_emails.entry(email.to_lowercase()),
            Identifier::UserId(user_id) => self.known_user_ids.entry(user_id.to_owned()),
        };
        let visible_from = entry.or_insert(from);
        *visible_from = from.min(*visible_from);
    }

    /// Forgets the user whose email or userId is `name`.
    pub(super) fn forget(&mut self, name: &str) {
        self.forgotten
            .extend([name.to_owned(), name.to_lowercase()]);
    }

    /// Checks that the user is valid and not forgotten; it need not exist.
    pub(super) fn check(&self, user: Identifier<'_>) -> Result<(), UserRejection> {
        if !user.is_valid() {
            return Err(UserRejection::Invalid);
        }
        let forgotten = match user {
            Identifier::Email(email) => self.forgotten.contains(&email.to_lowercase()),
            Identifier::UserId(user_id) => self.forgotten.contains(user_id),
        };
        if forgotten {
            Err(UserRejection::Forgotten)
        } else {
            Ok(())
        }
    }

    /// Checks that the user exists and is visible.
    pub(super) fn exists(&self, user: Identifier<'_>, now: Timestamp) -> Result<(), UserRejection> {
        self.check(user)?;
        let visible_from = match user {
            Identifier::Email(email) => self.known_emails.get(&email.to_lowercase()),
            Identifier::UserId(user_id) => self.known_user_ids.get(user_id),
        };
        if self.all || visible_from.is_some_and(|from| *from <= now) {
            Ok(())
        } else {
            Err(UserRejection::NotFound)
        }
    }

    /// Returns the users that were added by name or by a request, sorted: emails in lower case, and
    /// userIds.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self
            .known_emails
            .keys()
            .chain(self.known_user_ids.keys())
            .cloned()
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_ids_have_up_to_52_ascii_characters() {
        let longest = "x".repeat(52);
        let too_long = "x".repeat(53);
        for (user_id, valid) in [
            ("1", true),
            ("a b", true),
            ("~!", true),
            (longest.as_str(), true),
            ("", false),
            (too_long.as_str(), false),
            ("a ", false),
            ("é", false),
            ("a\tb", false),
        ] {
            assert_eq!(is_valid_user_id(user_id), valid, "{user_id:?}");
        }
    }

    #[test]
    fn emails_ignore_case_and_user_ids_do_not() {
        let users = Users::new(
            &KnownUsers::Listed(vec!["Jo@Example.com".into(), "Jo".into()]),
            &[],
        );
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(
            users.exists(Identifier::Email("jo@example.COM"), now),
            Ok(())
        );
        assert_eq!(users.exists(Identifier::UserId("Jo"), now), Ok(()));
        assert_eq!(
            users.exists(Identifier::UserId("jo"), now),
            Err(UserRejection::NotFound)
        );
    }
}
