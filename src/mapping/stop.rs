//! Why an event goes no further, said with the place where it stands.

use super::{
    identity::Unidentified,
    mapped::{MappedEvent, RejectReason, SkipReason},
    request::MAX_EVENT_BYTES,
    transform::RunError,
    transformed::OutputError,
};

/// Why an event goes no further.
pub enum Stop {
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
    pub fn reject(self, reason: RejectReason, member: &str, why: &str) -> Stop {
        let Self { path, event } = self;
        Stop::Reject(reason, format!("at {path}.events[{event}]{member}: {why}"))
    }

    /// Skips or rejects it for want of a user.
    pub fn unidentified(self, error: &Unidentified) -> Stop {
        let (reason, rule) = match error {
            Unidentified::NoUser => return Stop::Skip(SkipReason::NoUser),
            Unidentified::InvalidEmail(rule) => (RejectReason::InvalidEmail, rule),
            Unidentified::InvalidUserId(rule) => (RejectReason::InvalidUserId, rule),
        };
        Stop::Reject(reason, format!("at {}.user_identities: {rule}", self.path))
    }

    /// Rejects it since the user's rules failed on it.
    pub fn run_error(self, error: &RunError) -> Stop {
        match error {
            RunError::Failed(fault) => {
                self.reject(RejectReason::TransformFailed, "", &format!("spec.mapping.transform failed: {fault}"))
            }
            RunError::TooCostly(what) => self.reject(
                RejectReason::TransformTooCostly,
                "",
                &format!("spec.mapping.transform was stopped: {what}"),
            ),
            RunError::ManyOutputs => self.reject(
                RejectReason::TransformOutput,
                "",
                "spec.mapping.transform: it has more than one output; one event can become one event only",
            ),
        }
    }

    /// Rejects it since the user's rules made nonsense of it.
    pub fn output_error(self, error: &OutputError) -> Stop {
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
    pub fn fits(self, event: MappedEvent) -> Result<MappedEvent, Stop> {
        if event.json().len() <= MAX_EVENT_BYTES {
            return Ok(event);
        }
        let why = format!(
            "{} bytes when encoded; a request holds {MAX_EVENT_BYTES}",
            event.json().len()
        );
        Err(self.reject(RejectReason::TooLarge, "", &why))
    }
}
