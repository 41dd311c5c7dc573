//! The reason why an event is not forwarded, with its location.

use super::{
    identity::UserError,
    mapped::{MappedEvent, RejectReason, SkipReason},
    program_output::OutputError,
    request::MAX_EVENT_BYTES,
    transform::EvalError,
};

/// The reason why an event is not forwarded.
pub enum NotForwarded {
    /// A rule of the forwarder excludes it.
    Skip(SkipReason),
    /// It can't be sent. Contains the reason and its detail.
    Reject(RejectReason, String),
}

/// The location of an event, for its rejection detail.
#[derive(Clone, Copy)]
pub struct EventLocation<'p> {
    /// The JSON path of its batch.
    pub path: &'p str,
    /// Zero-based index in the batch.
    pub event: u32,
}

impl EventLocation<'_> {
    /// Rejects the event because of a member.
    pub fn reject(self, reason: RejectReason, member: &str, why: &str) -> NotForwarded {
        let Self { path, event } = self;
        NotForwarded::Reject(reason, format!("at {path}.events[{event}]{member}: {why}"))
    }

    /// Skips or rejects the event because it has no valid user.
    pub fn user_error(self, error: &UserError) -> NotForwarded {
        let (reason, rule) = match error {
            UserError::NoUser => return NotForwarded::Skip(SkipReason::NoUser),
            UserError::InvalidEmail(rule) => (RejectReason::InvalidEmail, rule),
            UserError::InvalidUserId(rule) => (RejectReason::InvalidUserId, rule),
        };
        NotForwarded::Reject(reason, format!("at {}.user_identities: {rule}", self.path))
    }

    /// Rejects the event because the custom rules failed.
    pub fn eval_error(self, error: &EvalError) -> NotForwarded {
        match error {
            EvalError::Failed(message) => {
                self.reject(RejectReason::TransformFailed, "", &format!("spec.mapping.transform failed: {message}"))
            }
            EvalError::TooCostly(what) => self.reject(
                RejectReason::TransformTooCostly,
                "",
                &format!("spec.mapping.transform was stopped: {what}"),
            ),
            EvalError::ManyOutputs => self.reject(
                RejectReason::TransformOutput,
                "",
                "spec.mapping.transform: the program has more than one output; return at most one event",
            ),
        }
    }

    /// Rejects the event because the output of the custom rules is invalid.
    pub fn output_error(self, error: &OutputError) -> NotForwarded {
        let reason = match error {
            OutputError::InvalidEmail(_) | OutputError::EmailInUserIdProject => {
                RejectReason::InvalidEmail
            }
            OutputError::InvalidUserId(_) => RejectReason::InvalidUserId,
            _ => RejectReason::TransformOutput,
        };
        self.reject(reason, "", &format!("spec.mapping.transform: {error}"))
    }

    /// Rejects the event if it is larger than [`MAX_EVENT_BYTES`].
    pub fn fits(self, event: MappedEvent) -> Result<MappedEvent, NotForwarded> {
        if event.json().len() <= MAX_EVENT_BYTES {
            return Ok(event);
        }
        let why = format!(
            "{} bytes when encoded; the maximum is {MAX_EVENT_BYTES}",
            event.json().len()
        );
        Err(self.reject(RejectReason::TooLarge, "", &why))
    }
}
