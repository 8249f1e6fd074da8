//! Submissions that are made at the same time are committed together: a call of the function costs
//! Redis about as much as the job in it.

use std::sync::Arc;

use parking_lot::Mutex;
use pointsman_core::{Command, Rejected};
use pointsman_store::{Done, Health, StoreError};
use tokio::sync::oneshot;

use crate::{execute::Decided, store::Inner, verdict::Verdict};

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

    /// New jobs, [`TOGETHER`] at most, decided all at once and committed in a call; those that meet
    /// something are decided again by themselves. What fails with one is no other's failure.
    pub async fn submit_together(&self, commands: &[Command]) -> Vec<Submitted> {
        let epoch = self.link.epoch();
        let mut decided = Vec::with_capacity(commands.len());
        for command in commands {
            decided.push(self.decide(command, &epoch, false).await.ok().and_then(Result::ok));
        }
        let plans: Vec<&Vec<Vec<u8>>> = decided.iter().flatten().map(|d| &d.plan).collect();
        let mut verdicts = match self.commit_all(&epoch, &plans).await {
            Ok(verdicts) => verdicts.into_iter(),
            Err(error) => return commands.iter().map(|_| Err(error.clone())).collect(),
        };
        let mut done = Vec::with_capacity(commands.len());
        let mut away = None;
        for (command, decided) in commands.iter().zip(decided) {
            let verdict = decided.is_some().then(|| verdicts.next()).flatten();
            done.push(match (decided, verdict) {
                (Some(decided), Some(Verdict::Applied { stamped, picks })) => {
                    let Decided { transition, claim, .. } = decided;
                    Ok(Ok(self.done(transition, claim.as_ref(), &epoch, stamped, picks)))
                }
                _ if let Some(error) = &away => Err(StoreError::clone(error)),
                _ => self.carry_out_one(command).await.inspect_err(|error| {
                    if matches!(self.link.health(), Health::Failed(_)) {
                        away = Some(error.clone());
                    }
                }),
            });
        }
        done
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
            let done = self.submit_together(&commands).await;
            for (answer, done) in answers.into_iter().zip(done) {
                // Nobody waiting for an answer any more is no error.
                let _ = answer.send(done);
            }
        }
    }
}
