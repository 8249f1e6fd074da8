//! Every error of a handler, as a problem document.

use std::time::Instant;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use pointsman_api::{ErrorCode, PROBLEM_JSON, Problem};
use pointsman_broker::BrokerError;
use pointsman_core::{Rejected, to_json};
use pointsman_store::{StoreError, TransferError};

use crate::{files::FilesError, said::Said};

/// What was said of requests that could not be served now. One for the whole process: a refusal
/// becomes an answer where no more is known than itself.
static UNAVAILABLE: Said = Said::new();

/// A refused request.
#[derive(Debug)]
pub(crate) struct Refusal(pub Problem);

/// What a handler answers.
pub(crate) type Answer<T> = Result<T, Refusal>;

impl Refusal {
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self(Problem::new(code, detail))
    }

    /// Where it is not known whether it was done, a repeat would do it once more: what to do instead.
    #[must_use]
    pub fn unrepeatable(mut self, instead: &str) -> Self {
        if self.0.is(ErrorCode::OutcomeUnknown) {
            self.0.cure = format!("a repeat would do it once more: {instead}").into();
        }
        self
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<Rejected> for Refusal {
    fn from(rejected: Rejected) -> Self {
        Self(rejected.into())
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let code = match error {
            StoreError::Full(_) => ErrorCode::StoreFull,
            StoreError::Failed(_) => ErrorCode::StoreFailed,
            StoreError::Damaged(_) => ErrorCode::StoreDamaged,
            StoreError::Closed => ErrorCode::NotReady,
            StoreError::Newer { .. } => ErrorCode::StoreNewer,
            StoreError::Unknown(_) => ErrorCode::OutcomeUnknown,
        };
        Self::new(code, error.to_string())
    }
}

impl From<TransferError> for Refusal {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Store(error) => error.into(),
            TransferError::Importing => Self::new(ErrorCode::Importing, error.to_string()),
            other => Self::new(ErrorCode::InvalidState, other.to_string()),
        }
    }
}

impl From<BrokerError> for Refusal {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::Rejected(rejected) => rejected.into(),
            BrokerError::Store(error) => error.into(),
        }
    }
}

impl From<FilesError> for Refusal {
    fn from(error: FilesError) -> Self {
        let code = match error {
            FilesError::Invalid(problem) => return Self(problem),
            FilesError::Store(error) => return error.into(),
            FilesError::BrokenOff(ref why) => match refused(why) {
                Some(problem) => return problem.clone().into(),
                None => ErrorCode::BodyIncomplete,
            },
            FilesError::TooLarge => ErrorCode::FileTooLarge,
            FilesError::OtherDigest { .. } => ErrorCode::DigestMismatch,
            FilesError::Exists { .. } => ErrorCode::ArtifactExists,
            FilesError::Disk(ref error) if is_full(error) => ErrorCode::StoreFull,
            FilesError::Io(ref error) if is_full(error) => ErrorCode::StoreFull,
            FilesError::Away { .. } | FilesError::Nobodys { .. } => ErrorCode::FilesAway,
            FilesError::Disk(_)
            | FilesError::Io(_)
            | FilesError::Missing { .. }
            | FilesError::NoDirectory { .. }
            | FilesError::OtherFleet { .. }
            | FilesError::OtherStore { .. } => ErrorCode::StoreFailed,
        };
        Self::new(code, error.to_string())
    }
}

/// Why this server took no more of a file.
fn refused(why: &std::io::Error) -> Option<&Problem> {
    why.get_ref()?.downcast_ref()
}

/// Whether a full disk is somewhere behind the error.
fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<std::io::Error>();
        if io.is_some_and(|io| matches!(io.kind(), StorageFull | QuotaExceeded)) {
            return true;
        }
        cause = error.source();
    }
    false
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self(problem) = self;
        let status = StatusCode::from_u16(problem.status);
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // Of a mistake each is said; what is away fails many requests in the same way.
        let before = match status {
            StatusCode::SERVICE_UNAVAILABLE => UNAVAILABLE.may_say(&problem.code, Instant::now()),
            _ => status.is_server_error().then_some(0),
        };
        if let Some(unsaid) = before {
            let (code, detail) = (&problem.code, &problem.detail);
            match problem.is(ErrorCode::NotReady) {
                true => tracing::info!(%detail, unsaid, "not ready"),
                false => tracing::error!(%code, %detail, unsaid, "request failed"),
            }
        }
        let body = to_json(&problem);
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}
