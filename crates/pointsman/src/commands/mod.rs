//! The client commands: look and act, through a server; and those that act on a server's data.

mod act;
mod doctor;
mod download;
mod list;
mod out;
mod restored;
mod submit;
mod token;
mod transfer;
mod watch;

use std::time::Duration;

use pointsman_api::ErrorCode;
use pointsman_client::ClientError;
use tokio::time::sleep;

use crate::print;

pub use act::{cancel, explain, retry};
pub use doctor::doctor;
pub use download::download;
pub use list::{job, jobs, machines, workers};
pub use restored::restored;
pub use submit::submit;
pub use token::token;
pub use transfer::{export, import, intake};
pub use watch::watch;

/// Standard input, or output, where a file may be named.
const STANDARD: &str = "-";

/// How a file that is read is called.
fn named(file: &str) -> &str {
    if file == STANDARD { "standard input" } else { file }
}

/// How often a request is sent while it is not known whether it was done, and the pause between.
const REPEATS: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// A request that may be repeated exactly is, while it is not known whether it was done.
async fn until_known<T>(
    mut request: impl AsyncFnMut() -> Result<T, ClientError>,
) -> Result<T, ClientError> {
    let mut unknown = match request().await {
        Err(error) if error.is(ErrorCode::OutcomeUnknown) => error,
        answered => return answered,
    };
    for _ in 1..REPEATS {
        sleep(PAUSE).await;
        match request().await {
            Err(error) if error.is(ErrorCode::OutcomeUnknown) => unknown = error,
            // The repeat was not looked at: what became of the first is as unknown as before.
            Err(ClientError::Unreachable(_)) => {}
            Err(error) if error.is(ErrorCode::StoreFailed) => {}
            answered => return answered,
        }
    }
    Err(unknown)
}

#[cfg(test)]
mod tests {
    use pointsman_api::Problem;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_what_is_not_known_is_sent_again_and_not_for_ever() {
        let sent = async |unknown: u32, then: Option<ErrorCode>| {
            let mut sent = 0;
            let answer = until_known(async || {
                sent += 1;
                let refused = if sent > unknown { then } else { Some(ErrorCode::OutcomeUnknown) };
                refused.map_or(Ok(()), |code| Err(ClientError::Problem(Problem::new(code, "why"))))
            });
            let told = answer.await.err().and_then(|error| Some(error.problem()?.code.to_string()));
            (sent, told)
        };
        let told = |code: ErrorCode| Some(code.as_str().to_owned());
        assert_eq!(sent(2, None).await, (3, None));
        let full = ErrorCode::StoreFull;
        assert_eq!(sent(1, Some(full)).await, (2, told(full)));
        assert_eq!(sent(u32::MAX, None).await, (REPEATS, told(ErrorCode::OutcomeUnknown)));
        // A store that does not answer a repeat says nothing of what it was sent before.
        let failed = ErrorCode::StoreFailed;
        assert_eq!(sent(1, Some(failed)).await, (REPEATS, told(ErrorCode::OutcomeUnknown)));
        assert_eq!(sent(0, Some(failed)).await, (1, told(failed)));
    }
}
