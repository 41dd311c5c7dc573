//! Why an event goes no further, said with the place where it stands.

use super::{
    identity::UserError,
    mapped::{MappedEvent, RejectReason, SkipReason},
    program_output::OutputError,
    request::MAX_EVENT_BYTES,
    transform::EvalError,
};

/// Why an event goes no further.
pub enum NotForwarded {
    /// A rule of the forwarder leaves it out.
    Skip(SkipReason),
    /// It can't be sent; with the details.
    Reject(RejectReason, String),
}

/// Where an event stands, for what is said of it.
#[derive(Clone, Copy)]
pub struct EventLocation<'p> {
    /// The JSON path of its batch.
    pub path: &'p str,
    /// Its position in the batch.
    pub event: u32,
}

impl EventLocation<'_> {
    /// Rejects it for something that is wrong with a member.
    pub fn reject(self, reason: RejectReason, member: &str, why: &str) -> NotForwarded {
        let Self { path, event } = self;
        NotForwarded::Reject(reason, format!("at {path}.events[{event}]{member}: {why}"))
    }

    /// Skips or rejects it for want of a user.
    pub fn user_error(self, error: &UserError) -> NotForwarded {
        let (reason, rule) = match error {
            UserError::NoUser => return NotForwarded::Skip(SkipReason::NoUser),
            UserError::InvalidEmail(rule) => (RejectReason::InvalidEmail, rule),
            UserError::InvalidUserId(rule) => (RejectReason::InvalidUserId, rule),
        };
        NotForwarded::Reject(reason, format!("at {}.user_identities: {rule}", self.path))
    }

    /// Rejects it since the user's rules failed on it.
    pub fn eval_error(self, error: &EvalError) -> NotForwarded {
        match error {
            EvalError::Failed(fault) => {
                self.reject(RejectReason::TransformFailed, "", &format!("spec.mapping.transform failed: {fault}"))
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

    /// Rejects it since the user's rules made nonsense of it.
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

    /// Rejects it if it is too large for a request.
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
