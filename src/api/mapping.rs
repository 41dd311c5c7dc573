use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How mParticle events become Iterable events.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct MappingSpec {}
