use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Duration;

/// How a run empties the queue.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DrainSpec {
    /// How long a run may go on. Near its end the run stops receiving, settles what it holds
    /// and ends; the rest waits for the next run. Default "50m".
    #[serde(default = "default_max_duration")]
    pub max_duration: Duration,
}

impl Default for DrainSpec {
    fn default() -> Self {
        Self {
            max_duration: default_max_duration(),
        }
    }
}

fn default_max_duration() -> Duration {
    Duration::from_secs(50 * 60)
}
