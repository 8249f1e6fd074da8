//! What is said when requirements or capabilities are refused: what is wrong, and where.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::pointer_token;

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

/// In which way it is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RequirementErrorCode {
    /// A number outside its range.
    OutOfRange,
    /// Requirements that no worker could ever meet together.
    Contradictory,
    /// Of the wrong type, unknown, empty, or without an operator.
    Malformed,
    /// Too long, or too many.
    TooLarge,
}

/// A place in the checked object, as a JSON pointer.
#[derive(Debug, Clone)]
pub(super) struct Pointer(String);

impl Pointer {
    pub(super) fn root() -> Self {
        Self(String::new())
    }

    pub(super) fn field(&self, name: &str) -> Self {
        Self(format!("{}/{}", self.0, pointer_token(name)))
    }

    pub(super) fn item(&self, index: usize) -> Self {
        Self(format!("{}/{index}", self.0))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn refuse(
        &self,
        code: RequirementErrorCode,
        message: impl Into<String>,
    ) -> RequirementError {
        RequirementError { pointer: self.0.clone(), code, message: message.into() }
    }
}
