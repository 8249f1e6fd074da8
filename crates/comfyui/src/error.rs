use std::io;
use std::time::Duration;

use reqwest::StatusCode;

/// The most characters of a reply body that an error keeps.
const BODY_EXCERPT_CHARS: usize = 500;

/// The base URL of a service cannot be used. Quotes nothing of it: there may be a password in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the address of a ComfyUI server: {reason}")]
pub struct InvalidUrl {
    /// What is wrong with it.
    pub reason: String,
}

/// A request brought no usable answer. Nothing about the service's state follows from it.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// No connection could be made. The request was not sent.
    #[error("service not reachable: {reason}")]
    Unreachable {
        /// Innermost cause, such as "connection refused".
        reason: String,
        /// The host says that nothing listens there. Else the host or the line may be gone, and so may a process that
        /// is held up for so long that no more connections may wait for it be alive.
        refused: bool,
    },
    /// The connection stood, but the answer, or more of it, did not come in time. The request may have been carried out.
    #[error("no answer within {} ms", .after.as_millis())]
    TimedOut {
        /// The limit that ran out.
        after: Duration,
    },
    /// The connection broke before the answer was read to its end. The request may have been carried out.
    #[error("answer lost: {reason}")]
    AnswerLost {
        /// Innermost cause, such as "connection reset by peer".
        reason: String,
    },
    /// The service answered with a status that means "no", or something before it with a page for people.
    #[error("answered {}", with_body(*status, body))]
    Status {
        /// The HTTP status.
        status: StatusCode,
        /// The beginning of the body.
        body: String,
    },
    /// The service answered with something that is not ComfyUI's format.
    #[error("unexpected answer: {reason}")]
    Malformed {
        /// Where and why reading failed.
        reason: String,
    },
    /// The answer is larger than this client reads. The rest of it was left.
    #[error("the answer to {path} is larger than {most} bytes, the most that is read")]
    TooLarge {
        /// Path of the request.
        path: String,
        /// Bytes at most.
        most: usize,
    },
}

impl RequestError {
    /// Sorts a transport error of reqwest. One that is a timeout is the kernel's: nobody confirms any more what was sent.
    pub(crate) fn from_transport(error: &reqwest::Error) -> Self {
        if error.is_connect() {
            let refused = innermost(error)
                .downcast_ref::<io::Error>()
                .is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
            Self::Unreachable { reason: innermost(error).to_string(), refused }
        } else {
            Self::AnswerLost { reason: innermost(error).to_string() }
        }
    }

    /// An error for an answer whose body is not what ComfyUI sends.
    pub(crate) fn malformed(error: impl std::fmt::Display) -> Self {
        Self::Malformed { reason: error.to_string() }
    }

    /// Whether an answer came that this client cannot read, and would not another time.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        match self {
            Self::Malformed { .. } | Self::TooLarge { .. } => true,
            Self::Status { status, .. } => status.is_success(),
            _ => false,
        }
    }

    /// Whether a page for people came, as a proxy shows that finds nothing behind it: ComfyUI has none where this client
    /// asks. One that asks for a password is no such sign.
    #[must_use]
    pub fn is_page(&self) -> bool {
        const NOT_LET_IN: [StatusCode; 3] = [
            StatusCode::UNAUTHORIZED,
            StatusCode::FORBIDDEN,
            StatusCode::PROXY_AUTHENTICATION_REQUIRED,
        ];
        match self {
            Self::Status { status, body } => {
                !NOT_LET_IN.contains(status) && is_html(body.as_bytes())
            }
            _ => false,
        }
    }

    /// Whether something before the service answered in its place: with a page, or that it finds nothing behind it, as
    /// ComfyUI never says of itself.
    #[must_use]
    pub fn is_proxys(&self) -> bool {
        const GATEWAY: [StatusCode; 3] =
            [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
        let is_gateways = matches!(self, Self::Status { status, .. } if GATEWAY.contains(status));
        is_gateways || self.is_page()
    }

    /// Whether something before the service lets nobody in: ComfyUI asks for no password, and its own 403 is no page.
    #[must_use]
    pub fn is_login(&self) -> bool {
        const ASKS: [StatusCode; 2] =
            [StatusCode::UNAUTHORIZED, StatusCode::PROXY_AUTHENTICATION_REQUIRED];
        match self {
            Self::Status { status: StatusCode::FORBIDDEN, body } => is_html(body.as_bytes()),
            Self::Status { status, .. } => ASKS.contains(status),
            _ => false,
        }
    }

    /// Whether the service answered that the thing asked for is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { status, .. } if *status == StatusCode::NOT_FOUND)
    }
}

/// A status, and what came with it.
fn with_body(status: StatusCode, body: &str) -> String {
    match body.trim() {
        "" => status.to_string(),
        _ => format!("{status}: {body}"),
    }
}

/// The beginning of a body, cut at a character.
pub(crate) fn excerpt(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().take(BODY_EXCERPT_CHARS).collect()
}

/// Whether a body is a page for people.
pub(crate) fn is_html(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"<")
}

/// The end of the source chain: what names the cause.
fn innermost(error: &reqwest::Error) -> &(dyn std::error::Error + 'static) {
    let mut cause: &(dyn std::error::Error + 'static) = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_answer_without_a_body_the_status_is_all_that_is_said() {
        let said = |body: &str| {
            RequestError::Status { status: StatusCode::FORBIDDEN, body: body.into() }.to_string()
        };
        assert_eq!(said("no"), "answered 403 Forbidden: no");
        for blank in ["", "\r\n"] {
            assert_eq!(said(blank), "answered 403 Forbidden");
        }
    }
}
