//! `forget`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Removes a memory from the mesh for good. Only its author and the mesh's owner and admins may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ForgetTool {
    /// The whole id of the memory, as recall shows it.
    #[schemars(length(min = 1, max = 64))]
    pub id: String,
}

/// The memory is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Forgotten {
    /// Id of the memory.
    pub id: String,
    /// Whether this call removed it; `false` if it had been forgotten before.
    pub forgotten: bool,
}
