use std::{borrow::Cow, fmt, str::FromStr, time::Duration as StdDuration};

use jiff::SignedDuration;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A duration as written in a manifest: hours, minutes, and seconds, for example "90s", "50m", or
/// "1h30m".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Duration(StdDuration);

/// A string that is not a valid [`Duration`].
#[derive(Debug, thiserror::Error)]
#[error(
    "invalid duration \"{0}\": write hours, minutes, and seconds, for example \"50m\" or \"1h30m\""
)]
pub struct DurationError(String);

impl Duration {
    /// Creates a duration from whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(StdDuration::from_secs(seconds))
    }

    /// Returns the duration as the standard library's type.
    pub const fn get(self) -> StdDuration {
        self.0
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let parts = [
            (seconds / 3600, 'h'),
            (seconds / 60 % 60, 'm'),
            (seconds % 60, 's'),
        ];
        if seconds == 0 {
            return f.write_str("0s");
        }
        for (amount, unit) in parts.into_iter().filter(|(amount, _)| *amount > 0) {
            write!(f, "{amount}{unit}")?;
        }
        Ok(())
    }
}

impl FromStr for Duration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        text.parse::<SignedDuration>()
            .ok()
            .and_then(|span| StdDuration::try_from(span).ok())
            .map(Self)
            .ok_or_else(|| DurationError(text.to_owned()))
    }
}

impl TryFrom<String> for Duration {
    type Error = DurationError;

    fn try_from(text: String) -> Result<Self, DurationError> {
        text.parse()
    }
}

impl From<Duration> for String {
    fn from(duration: Duration) -> Self {
        duration.to_string()
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "x-kubernetes-validations": super::pattern_rule(
                "^([0-9]+h)?([0-9]+m)?([0-9]+s)?$",
                "must be a duration in hours, minutes, and seconds, for example 90s, 50m, or 1h30m",
            ),
            "minLength": 2,
            "maxLength": 16,
        })
    }
}
