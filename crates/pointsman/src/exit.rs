//! How the process ends.

use std::process::ExitCode;

use pointsman_api::ErrorCode;
use pointsman_client::ClientError;
use pointsman_store::StoreError;
use pointsman_store_redis::OpenError;

use crate::print;

/// What went wrong, as the exit code tells it.
#[derive(Debug)]
pub enum Exit {
    /// The job failed or was cancelled.
    JobFailed,
    /// Something is wrong with what is stored.
    Unsound,
    /// Wrong usage or input.
    Usage(String),
    /// The server, or the store, is not reachable.
    Unreachable(String),
    /// The token is missing, unknown, or not allowed to do this.
    Refused(String),
    /// Ctrl-C while waiting, and what goes on without this process.
    Interrupted(String),
    /// Anything else; the code of wrong usage, since something must be changed before it works.
    Other(anyhow::Error),
}

impl Exit {
    pub fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::JobFailed | Self::Unsound => 1,
            Self::Usage(_) | Self::Other(_) => 2,
            Self::Unreachable(_) => 3,
            Self::Refused(_) => 4,
            Self::Interrupted(_) => 130,
        })
    }

    /// The same, with what helps on a line of its own.
    pub fn with_hint(self, hint: &str) -> Self {
        let with = |why: String| format!("{why}\n  {hint}");
        match self {
            Self::JobFailed | Self::Unsound => self,
            Self::Usage(why) => Self::Usage(with(why)),
            Self::Unreachable(why) => Self::Unreachable(with(why)),
            Self::Refused(why) => Self::Refused(with(why)),
            Self::Interrupted(why) => Self::Interrupted(with(why)),
            Self::Other(error) => Self::Other(anyhow::anyhow!(with(format!("{error:#}")))),
        }
    }

    pub fn message(&self) -> Option<String> {
        match self {
            Self::JobFailed | Self::Unsound => None,
            Self::Usage(why)
            | Self::Unreachable(why)
            | Self::Refused(why)
            | Self::Interrupted(why) => Some(why.clone()),
            Self::Other(error) => Some(format!("{error:#}")),
        }
    }
}

/// With 3 the same may work later.
impl From<ClientError> for Exit {
    fn from(error: ClientError) -> Self {
        match &error {
            ClientError::Unreachable(_) | ClientError::Unexpected(_) => {
                Self::Unreachable(error.to_string())
            }
            ClientError::Refused(problem) => {
                let refused = Self::Refused(format!("refused: {}", print::problem(problem)));
                match problem.is(ErrorCode::Unauthorized) {
                    true => refused.with_hint("the token is given with --token or POINTSMAN_TOKEN"),
                    false => refused,
                }
            }
            // The store is away, full, or does not know whether it was done.
            ClientError::Problem(problem) if error.is_transient() => {
                Self::Unreachable(print::problem(problem))
            }
            ClientError::Problem(problem) => Self::Usage(print::problem(problem)),
            ClientError::Address { .. }
            | ClientError::Redirected { .. }
            | ClientError::Request(_) => Self::Usage(error.to_string()),
        }
    }
}

impl From<anyhow::Error> for Exit {
    fn from(error: anyhow::Error) -> Self {
        match error.chain().any(may_pass) {
            true => Self::Unreachable(format!("{error:#}")),
            false => Self::Other(error),
        }
    }
}

/// Whether the same may work later: as the API's codes for a store's errors tell it.
fn may_pass(error: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(not_opened) = error.downcast_ref::<OpenError>() {
        return not_opened.may_pass();
    }
    match error.downcast_ref::<StoreError>() {
        Some(StoreError::Full(_) | StoreError::Failed(_) | StoreError::Unknown(_)) => true,
        Some(StoreError::Damaged(_) | StoreError::Newer { .. } | StoreError::Closed) | None => {
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;
    use pointsman_api::Problem;

    use super::*;

    #[test]
    fn an_address_that_redirects_does_not_pass_and_is_named() {
        let to = "https://login.example/".to_owned();
        let exit = Exit::from(ClientError::Redirected { status: 302, to });
        let Exit::Usage(why) = exit else { panic!("{exit:?}") };
        assert!(why.contains("answered 302: it redirects to https://login.example/"), "{why}");
    }

    #[test]
    fn what_a_server_cannot_do_now_may_work_later_and_a_mistake_does_not() {
        let exit = |code| Exit::from(ClientError::Problem(Problem::new(code, "why")));
        for code in [ErrorCode::StoreFull, ErrorCode::OutcomeUnknown, ErrorCode::TooManyWaiting] {
            assert!(matches!(exit(code), Exit::Unreachable(_)), "{code:?}");
        }
        for code in [ErrorCode::JobNotFound, ErrorCode::InvalidState] {
            assert!(matches!(exit(code), Exit::Usage(_)), "{code:?}");
        }
    }

    #[test]
    fn a_store_that_breaks_off_may_work_later_and_a_damaged_one_does_not() {
        let exit = |error: StoreError| {
            let failed: Result<(), _> = Err(error);
            Exit::from(failed.context("to start").unwrap_err())
        };
        let why = || "Redis did not answer: broken pipe".to_owned();
        for error in
            [StoreError::Unknown(why()), StoreError::Failed(why()), StoreError::Full(why())]
        {
            let exit = exit(error);
            assert!(matches!(&exit, Exit::Unreachable(said) if said.ends_with(&why())), "{exit:?}");
        }
        let newer = StoreError::Newer { format: "99".into() };
        for error in [StoreError::Damaged("it".into()), newer, StoreError::Closed] {
            let exit = exit(error);
            assert!(matches!(exit, Exit::Other(_)), "{exit:?}");
        }
    }
}
