//! Errors on the wire: problem documents (RFC 9457) with a stable code, a pointer and a cure.

use std::{
    borrow::Cow,
    ops::{Deref, DerefMut},
};

use pointsman_core::{Incarnation, JobId, Seq, bounds::cut, record::JobStatus};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ErrorCode;

/// Bytes of `detail` at most: it may repeat what was sent.
const MAX_DETAIL: usize = 4_000;
/// Bytes of `pointer` at most, as keys of what was sent stand in it.
const MAX_POINTER: usize = 1_000;

/// The media type of problem documents.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Why a request was refused. Nothing was changed, except where the code says otherwise
/// (`outcome_unknown`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(transparent)]
#[error("{}", self.0.detail)]
pub struct Problem(Box<ProblemDocument>);

/// A problem as it stands on the wire.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemDocument {
    /// `urn:pointsman:problem:CODE`.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub kind: Cow<'static, str>,
    /// What it is, in a few words; the same for each problem of this code.
    #[schema(value_type = String)]
    pub title: Cow<'static, str>,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong, for people; 4,000 bytes at most, cut with an ellipsis.
    pub detail: String,
    /// Stable, for programs.
    #[schema(value_type = ErrorCode)]
    pub code: Cow<'static, str>,
    /// JSON pointer (RFC 6901) to the wrong field of the body, empty for the whole body; for
    /// parameters of the address `?NAME`, and for headers their name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// What mends it.
    #[schema(value_type = String)]
    pub cure: Cow<'static, str>,
    #[serde(flatten)]
    pub facts: Facts,
}

/// What a program may want to know beside the code.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Facts {
    /// The job that stands in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_status: Option<JobStatus>,
    /// The job's current attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_attempt: Option<u32>,
    /// The incarnation that was superseded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<Incarnation>,
    /// The oldest seq that the log still has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_seq: Option<Seq>,
    /// What the rules' own message names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

impl Problem {
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        cut(&mut detail, MAX_DETAIL);
        Self(Box::new(ProblemDocument {
            kind: format!("urn:pointsman:problem:{code}").into(),
            title: code.title().into(),
            status: code.status(),
            detail,
            code: code.as_str().into(),
            pointer: None,
            cure: code.cure().into(),
            facts: Facts::default(),
        }))
    }

    /// Points to the wrong field.
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>) -> Self {
        let mut pointer = pointer.into();
        cut(&mut pointer, MAX_POINTER);
        self.pointer = Some(pointer);
        self
    }

    /// Says what mends it, where that is closer than the code's own cure.
    #[must_use]
    pub fn cure(mut self, cure: impl Into<Cow<'static, str>>) -> Self {
        self.cure = cure.into();
        self
    }

    /// Puts the place of the checked value before the pointer within it.
    #[must_use]
    pub fn within(self, place: &str) -> Self {
        let pointer = format!("{place}{}", self.pointer.as_deref().unwrap_or_default());
        self.at(pointer)
    }

    /// The code, if this version knows it.
    pub fn error_code(&self) -> Option<ErrorCode> {
        ErrorCode::named(&self.code)
    }

    pub fn is(&self, code: ErrorCode) -> bool {
        self.code == code.as_str()
    }
}

impl Deref for Problem {
    type Target = ProblemDocument;
    fn deref(&self) -> &ProblemDocument {
        &self.0
    }
}

impl DerefMut for Problem {
    fn deref_mut(&mut self) -> &mut ProblemDocument {
        &mut self.0
    }
}

impl utoipa::PartialSchema for Problem {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        ProblemDocument::schema()
    }
}

impl ToSchema for Problem {
    fn name() -> Cow<'static, str> {
        ProblemDocument::name()
    }

    fn schemas(into: &mut Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::schema::Schema>)>) {
        ProblemDocument::schemas(into);
    }
}
