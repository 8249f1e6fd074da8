//! Submissions that are made at the same time are committed together: a call of the function costs
//! Redis about as much as the job in it.

use std::sync::Arc;

use parking_lot::Mutex;
use pointsman_core::{Command, Rejected};
use pointsman_store::{Done, StoreError};
use tokio::sync::oneshot;

use crate::store::Inner;

/// Submissions in one call of the function.
pub const TOGETHER: usize = 64;
/// Calls under way at once: while Redis carries one out, the next is made ready.
const FLIGHTS: usize = 2;

pub type Submitted = Result<Result<Done, Rejected>, StoreError>;

/// Submissions that wait for the next call.
#[derive(Default)]
pub struct Together(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    submissions: Vec<(Command, oneshot::Sender<Submitted>)>,
    flights: usize,
}

/// A call that somebody makes for one submission, as nobody else made any.
struct Alone<'a>(&'a Arc<Inner>);

impl Drop for Alone<'_> {
    /// What came meanwhile goes next, also when whoever called has gone away.
    fn drop(&mut self) {
        let mut waiting = self.0.together.0.lock();
        if waiting.submissions.is_empty() {
            waiting.flights -= 1;
        } else {
            self.0.spawn(self.0.clone().fly());
        }
    }
}

impl Inner {
    /// Carries out one submission, with those that wait at the same time.
    pub async fn submit(self: &Arc<Self>, command: Command) -> Submitted {
        let waits = {
            let mut waiting = self.together.0.lock();
            if waiting.flights == 0 {
                waiting.flights = 1;
                Err(command)
            } else {
                let (answer, answered) = oneshot::channel();
                waiting.submissions.push((command, answer));
                if waiting.flights < FLIGHTS {
                    waiting.flights += 1;
                    self.spawn(self.clone().fly());
                }
                Ok(answered)
            }
        };
        match waits {
            Ok(answered) => {
                let lost = |_| StoreError::Unknown("the store was closed meanwhile".into());
                answered.await.map_err(lost)?
            }
            Err(command) => {
                let _flight = Alone(self);
                self.carry_out_one(&command).await
            }
        }
    }

    /// Commits what waits until nothing does. A task of its own: a caller that goes away must not
    /// take the others' answers along.
    async fn fly(self: Arc<Self>) {
        loop {
            let some = {
                let mut waiting = self.together.0.lock();
                let most = waiting.submissions.len().min(TOGETHER);
                if most == 0 {
                    waiting.flights -= 1;
                    return;
                }
                waiting.submissions.drain(..most).collect::<Vec<_>>()
            };
            let (commands, answers): (Vec<_>, Vec<_>) = some.into_iter().unzip();
            // Nobody waiting for an answer any more is no error.
            match self.submit_together(&commands).await {
                Ok(done) => {
                    for (answer, done) in answers.into_iter().zip(done) {
                        let _ = answer.send(Ok(done));
                    }
                }
                Err(error) => {
                    for answer in answers {
                        let _ = answer.send(Err(error.clone()));
                    }
                }
            }
        }
    }
}
