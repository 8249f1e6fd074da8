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
    for _ in 1..REPEATS {
        match request().await {
            Err(error) if error.is(ErrorCode::OutcomeUnknown) => sleep(PAUSE).await,
            answered => return answered,
        }
    }
    request().await
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
            let is_done = answer.await.is_ok();
            (sent, is_done)
        };
        assert_eq!(sent(2, None).await, (3, true));
        assert_eq!(sent(1, Some(ErrorCode::StoreFull)).await, (2, false));
        assert_eq!(sent(u32::MAX, None).await, (REPEATS, false));
    }
}
