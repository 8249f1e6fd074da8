//! A new run of an ended job.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Which run is to begin. The body may be left out; then a repeat begins another run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryRequest {
    /// The job's `run`, and one more: a run that has begun already is not begun again, so that the
    /// request may be repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 2)]
    pub run: Option<u32>,
}
