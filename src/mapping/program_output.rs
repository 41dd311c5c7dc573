//! The output of the custom rules, checked like every event, so that invalid output rejects one
//! event and not a request.

use std::sync::Arc;

use crate::api::ProjectType;

use super::{
    identity::{InvalidKey, UserKey, check_email, check_user_id},
    name,
    raw::{JsonType, RawJson},
};

/// Maximum length of an ID at Iterable, in bytes.
const MAX_ID_BYTES: usize = 512;

/// An event returned by the custom rules.
#[derive(Debug)]
pub struct ProgramOutput<'o> {
    /// Event name, truncated to the limit.
    pub event_name: Arc<str>,
    /// Whether the name was truncated.
    pub is_name_cut: bool,
    /// User key, if any.
    pub user: Option<UserKey>,
    /// ID, within Iterable's alphabet and length.
    pub id: String,
    /// Time in seconds since 1970.
    pub created_at: Option<i64>,
    /// Fields, not checked yet.
    pub data_fields: Option<RawJson<'o>>,
    /// Further members as JSON, each preceded by a comma.
    pub more: String,
}

/// An error in the output of the custom rules.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutputError {
    /// Not an object.
    #[error("its output is {0}, not an object")]
    NotAnObject(&'static str),
    /// A member that Iterable does not accept.
    #[error("its output has a member {0:?}, which Iterable does not accept; move it to dataFields")]
    UnknownMember(String),
    /// A member of the wrong type or out of range.
    #[error("its output's {member} is not {expected}")]
    WrongMember {
        /// Name of the member.
        member: &'static str,
        /// Expected type or range.
        expected: &'static str,
    },
    /// Both user keys.
    #[error("its output has both email and userId; return only one of them")]
    TwoUsers,
    /// An email in a project that identifies users only by userId.
    #[error(
        "its output has an email, but a UserId project identifies users only by userId; return a userId"
    )]
    EmailInUserIdProject,
    /// An email that Iterable would reject.
    #[error("its output's email: {0}")]
    InvalidEmail(InvalidKey),
    /// A userId that Iterable would reject.
    #[error("its output's userId: {0}")]
    InvalidUserId(InvalidKey),
}

const fn wrong<T>(member: &'static str, expected: &'static str) -> Result<T, OutputError> {
    Err(OutputError::WrongMember { member, expected })
}

impl<'o> ProgramOutput<'o> {
    /// Parses the output of the custom rules for a project of that type.
    pub fn read(output: RawJson<'o>, project: ProjectType) -> Result<Self, OutputError> {
        let shape = match output.json_type() {
            JsonType::Object => return Self::read_object(output, project),
            JsonType::Array => "an array",
            JsonType::String => "a string",
            JsonType::Number => "a number",
            JsonType::Boolean => "a boolean",
            JsonType::Null => "null",
        };
        Err(OutputError::NotAnObject(shape))
    }

    fn read_object(output: RawJson<'o>, project: ProjectType) -> Result<Self, OutputError> {
        let (mut event_name, mut email, mut user_id, mut id, mut created_at) =
            (None, None, None, None, None);
        let (mut data_fields, mut more, mut unknown, mut bad_more) =
            (None, String::new(), None, None);
        output.each_member(|member, value| {
            let Some(value) = value.present() else { return };
            match &*member {
                "eventName" => event_name = Some(value),
                "email" => email = Some(value),
                "userId" => user_id = Some(value),
                "id" => id = Some(value),
                "createdAt" => created_at = Some(value),
                "dataFields" => data_fields = Some(value),
                "campaignId" | "templateId"
                    if value.json_type() == JsonType::Number && value.integer().is_some() =>
                {
                    more.push_str(&format!(",\"{member}\":{}", value.json()));
                }
                "createNewFields" if value.json_type() == JsonType::Boolean => {
                    more.push_str(&format!(",\"{member}\":{}", value.json()));
                }
                "campaignId" => bad_more = Some(("campaignId", "an integer")),
                "templateId" => bad_more = Some(("templateId", "an integer")),
                "createNewFields" => bad_more = Some(("createNewFields", "a boolean")),
                other => unknown = Some(other.to_owned()),
            }
        });
        if let Some(member) = unknown {
            return Err(OutputError::UnknownMember(member));
        }
        if let Some((member, expected)) = bad_more {
            return wrong(member, expected);
        }
        if data_fields.is_some_and(|fields| fields.json_type() != JsonType::Object) {
            return wrong("dataFields", "an object");
        }
        let (event_name, is_name_cut) = read_name(event_name)?;
        Ok(Self {
            event_name,
            is_name_cut,
            user: read_user(email, user_id, project)?,
            id: read_id(id)?,
            created_at: read_time(created_at)?,
            data_fields,
            more,
        })
    }
}

fn read_name(value: Option<RawJson<'_>>) -> Result<(Arc<str>, bool), OutputError> {
    let text = value
        .and_then(RawJson::text)
        .filter(|text| !text.trim().is_empty());
    let Some(text) = text else {
        return wrong("eventName", "a string that is not empty or whitespace");
    };
    Ok(match text.char_indices().nth(name::MAX_NAME_CHARS) {
        Some((end, _)) => (Arc::from(&text[..end]), true),
        None => (Arc::from(text), false),
    })
}

fn read_user(
    email: Option<RawJson<'_>>,
    user_id: Option<RawJson<'_>>,
    project: ProjectType,
) -> Result<Option<UserKey>, OutputError> {
    match (email, user_id) {
        (Some(_), Some(_)) => Err(OutputError::TwoUsers),
        (Some(_), None) if project == ProjectType::UserId => Err(OutputError::EmailInUserIdProject),
        (Some(email), None) => {
            let Some(email) = email.text() else {
                return wrong("email", "a string");
            };
            check_email(&email).map_err(OutputError::InvalidEmail)?;
            Ok(Some(UserKey::Email(Arc::from(email.to_lowercase()))))
        }
        (None, Some(id)) => {
            let Some(id) = id.text() else {
                return wrong("userId", "a string");
            };
            check_user_id(&id).map_err(OutputError::InvalidUserId)?;
            Ok(Some(UserKey::UserId(Arc::from(id))))
        }
        (None, None) => Ok(None),
    }
}

fn read_id(value: Option<RawJson<'_>>) -> Result<String, OutputError> {
    let is_id = |id: &str| {
        (1..=MAX_ID_BYTES).contains(&id.len())
            && id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    match value.and_then(RawJson::text).filter(|id| is_id(id)) {
        Some(id) => Ok(id.into_owned()),
        None => wrong("id", "1 to 512 letters, digits and hyphens"),
    }
}

fn read_time(value: Option<RawJson<'_>>) -> Result<Option<i64>, OutputError> {
    let Some(value) = value else { return Ok(None) };
    match value.integer() {
        // Larger numbers are milliseconds.
        Some(seconds @ 0..100_000_000_000) if value.json_type() == JsonType::Number => {
            Ok(Some(seconds))
        }
        _ => wrong("createdAt", "an integer number of seconds since 1970"),
    }
}
