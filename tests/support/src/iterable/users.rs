use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use super::{KnownUsers, email};

/// How a request names a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Identifier<'a> {
    Email(&'a str),
    UserId(&'a str),
}

/// Why a user is refused; each has its pair of lists in `failedUpdates` (section 1.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefusedUser {
    Invalid,
    NotFound,
    Forgotten,
}

impl Identifier<'_> {
    pub(super) fn text(&self) -> &str {
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

/// Section 1.2: 1 to 52 characters of printable ASCII, the last of them not a space.
fn is_valid_user_id(user_id: &str) -> bool {
    (1..=52).contains(&user_id.len())
        && user_id.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        && !user_id.ends_with(' ')
}

/// Who is known, from when on, and who was forgotten.
#[derive(Debug, Default)]
pub(super) struct Users {
    everyone: bool,
    known_emails: HashMap<String, Timestamp>,
    known_user_ids: HashMap<String, Timestamp>,
    forgotten: HashSet<String>,
}

impl Users {
    pub(super) fn new(known: &KnownUsers, forgotten: &[String]) -> Self {
        let mut users = Self {
            everyone: *known == KnownUsers::All,
            ..Self::default()
        };
        if let KnownUsers::Listed(names) = known {
            names.iter().for_each(|name| users.know_by_name(name));
        }
        forgotten.iter().for_each(|name| users.forget(name));
        users
    }

    /// Makes the user known whose email or userId is `name`, at once.
    pub(super) fn know_by_name(&mut self, name: &str) {
        self.know(Identifier::Email(name), Timestamp::MIN);
        self.know(Identifier::UserId(name), Timestamp::MIN);
    }

    /// Makes a user known from a time on; one that is known already stays so.
    pub(super) fn know(&mut self, user: Identifier<'_>, from: Timestamp) {
        let known = match user {
            // Section 1.7: emails are stored in lower case; userIds are case-sensitive.
            Identifier::Email(email) => self.known_emails.entry(email.to_lowercase()),
            Identifier::UserId(user_id) => self.known_user_ids.entry(user_id.to_owned()),
        };
        let known = known.or_insert(from);
        *known = from.min(*known);
    }

    /// Forgets the user whose email or userId is `name`.
    pub(super) fn forget(&mut self, name: &str) {
        self.forgotten
            .extend([name.to_owned(), name.to_lowercase()]);
    }

    /// Whether the user is fit to be written to, known or not.
    pub(super) fn may_exist(&self, user: Identifier<'_>) -> Result<(), RefusedUser> {
        if !user.is_valid() {
            return Err(RefusedUser::Invalid);
        }
        let forgotten = match user {
            Identifier::Email(email) => self.forgotten.contains(&email.to_lowercase()),
            Identifier::UserId(user_id) => self.forgotten.contains(user_id),
        };
        if forgotten {
            Err(RefusedUser::Forgotten)
        } else {
            Ok(())
        }
    }

    /// Whether the user is there.
    pub(super) fn exists(&self, user: Identifier<'_>, now: Timestamp) -> Result<(), RefusedUser> {
        self.may_exist(user)?;
        let known_from = match user {
            Identifier::Email(email) => self.known_emails.get(&email.to_lowercase()),
            Identifier::UserId(user_id) => self.known_user_ids.get(user_id),
        };
        if self.everyone || known_from.is_some_and(|from| *from <= now) {
            Ok(())
        } else {
            Err(RefusedUser::NotFound)
        }
    }

    /// The users that were made known by name or by request: emails in lower case, then userIds.
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
    fn user_ids_are_printable_ascii_of_at_most_52_characters() {
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
    fn emails_match_without_case_and_user_ids_with() {
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
            Err(RefusedUser::NotFound)
        );
    }
}
