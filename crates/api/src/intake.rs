//! Whether a store takes new work.

use pointsman_core::decide::Intake;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a store takes, and what still runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IntakeState {
    pub intake: Intake,
    /// Jobs that a worker has now.
    pub running: u64,
}
