//! Mending what is wrong with what is stored.

use pointsman_core::doctor::Mended;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Which findings to mend.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MendRequest {
    /// Ids of findings, as `GET /api/v1/doctor` gave them; left out, all are meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<String>>,
}

/// What became of the findings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MendResult {
    /// Each finding that was to be mended, and what became of it.
    pub mended: Vec<Mended>,
    /// Ids that are of no finding now: what they named is mended already, or was never wrong.
    #[serde(default)]
    #[schema(required)]
    pub not_found: Vec<String>,
}
