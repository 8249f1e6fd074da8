//! Why a request got no answer, or not the one hoped for.

use pointsman_api::{ErrorCode, Problem};

/// What can go wrong with a request.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ClientError {
    /// No answer: it may or may not have been done.
    #[error("server not reachable: {0}")]
    Unreachable(String),
    /// The request cannot be made of what it was given; nothing was sent.
    #[error("the request cannot be made: {0}")]
    Request(String),
    /// The token is missing, wrong, or may not do that (401, 403).
    #[error("refused: {0}")]
    Refused(Problem),
    /// Any other problem that the server names.
    #[error(transparent)]
    Problem(Problem),
    /// An answer that no Pointsman server gives.
    #[error("unexpected answer: {0}")]
    Unexpected(String),
    /// The address leads elsewhere, and no redirect is followed.
    #[error(
        "answered {status}: it redirects to {to}, which is not followed: if the server is there, give that address instead"
    )]
    Redirected { status: u16, to: String },
    /// The address cannot be used.
    #[error("address {url:?} is not valid: {why}")]
    Address { url: String, why: String },
}

impl ClientError {
    /// The problem document, if the server answered with one.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused(problem) | Self::Problem(problem) => Some(problem),
            _ => None,
        }
    }

    pub fn is(&self, code: ErrorCode) -> bool {
        self.problem().is_some_and(|problem| problem.is(code))
    }

    /// Whether the same request may well succeed later: the server is away, starting, full, or
    /// does not know whether it was done.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Problem(problem) => problem.status >= 500 && !problem.is(ErrorCode::Internal),
            _ => false,
        }
    }
}

impl From<reqwest::Error> for ClientError {
    fn from(error: reqwest::Error) -> Self {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text = format!("{text}: {cause_text}");
            }
            source = cause.source();
        }
        if error.is_builder() {
            return Self::Request(text);
        }
        // Also an answer that broke off, which reqwest calls a decode error: what an answer says is
        // judged elsewhere, once it has been read to its end.
        Self::Unreachable(text)
    }
}
