//! Submissions that are made at the same time are committed together, and so is what reconcilers ask
//! for: a call of the function costs Redis about as much as the job in it.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use pointsman_core::{Command, Record, RecordKey, Rejected, command::Reconcile};
use pointsman_store::{Done, StoreError};
use tokio::sync::oneshot;

use crate::{
    commit::verdict::Verdict,
    execute::{Decided, sight::Sight},
    store::Inner,
};

/// Commands in one call of the function.
pub const TOGETHER: usize = 64;
/// Calls under way at once: while Redis carries one out, the next is made ready.
const FLIGHTS: usize = 2;

pub type Submitted = Result<Result<Done, Rejected>, StoreError>;

/// What became of a command before the call.
enum Ahead {
    Decided(Box<Decided>),
    /// On what stands in the store, and nothing remembered.
    Refused(Rejected),
    /// It is decided by itself, after the call.
    Undecided,
}

/// Whether commands may be decided all at once: new jobs, of which none has a place that depends on
/// another, or what reconcilers ask for.
pub fn may_share_calls(commands: &[Command]) -> bool {
    let is_new =
        |c: &Command| matches!(c, Command::Submit(submit) if submit.spec.workflow_id.is_none());
    commands.iter().all(is_new) || commands.iter().all(|command| subject(command).is_some())
}

/// The record that a reconciler's command is about. (What was moved is no record here yet.)
fn subject(command: &Command) -> Option<RecordKey> {
    let Command::Reconcile(what) = command else { return None };
    Some(match what {
        Reconcile::ExpireLease { job, .. }
        | Reconcile::ReleaseHold { job }
        | Reconcile::LapseExclusions { job, .. }
        | Reconcile::RemoveJob { job } => RecordKey::Job(*job),
        Reconcile::DeclareSilent { worker, .. } | Reconcile::RemoveWorker { worker } => {
            RecordKey::Worker(worker.clone())
        }
        Reconcile::MarkStale { connector, .. } => RecordKey::Connector(connector.clone()),
        Reconcile::DisconnectMachine { machine, .. }
        | Reconcile::ReconnectMachine { machine }
        | Reconcile::RemoveMachine { machine } => RecordKey::Machine(machine.clone()),
        Reconcile::Moved { .. } => return None,
    })
}

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

    /// Commands that may share calls, [`TOGETHER`] at most, decided all at once and committed in a
    /// call; those that meet something are decided again by themselves. What fails with one is no
    /// other's failure.
    pub async fn carry_out_together(&self, commands: &[Command]) -> Vec<Submitted> {
        let all_fail = |error: StoreError| commands.iter().map(|_| Err(error.clone())).collect();
        let epoch = self.link.epoch();
        let mut read = match self.subjects(commands).await {
            Ok(read) => read,
            Err(error) => return all_fail(error),
        };
        // New jobs do not touch each other's records; what reconcilers ask for may, and keeps its order:
        // behind one that waits for a call of its own, all do.
        let in_order = commands.iter().all(|command| subject(command).is_some());
        let mut decided: Vec<Ahead> = Vec::with_capacity(commands.len());
        for command in commands {
            if in_order && matches!(decided.last(), Some(Ahead::Undecided)) {
                decided.push(Ahead::Undecided);
                continue;
            }
            let subject = subject(command);
            // What reconcilers ask for meets no conflict but a real one.
            let mut sight = Sight::new(&self.link, &self.memory, &epoch, subject.is_some());
            if let Some(key) = subject {
                match read.remove(&key) {
                    Some(Ok(record)) => sight.show(key, record),
                    Some(Err(why)) => {
                        decided.push(Ahead::Refused(Rejected::Damaged(why)));
                        continue;
                    }
                    // Two of the same: the second is decided on what the first leaves.
                    None => {
                        decided.push(Ahead::Undecided);
                        continue;
                    }
                }
            }
            decided.push(match self.decide(command, sight).await {
                Ok(Ok(decided)) => Ahead::Decided(Box::new(decided)),
                Ok(Err((why, false))) => Ahead::Refused(why),
                Ok(Err((_, true))) | Err(_) => Ahead::Undecided,
            });
        }
        let plans = decided.iter().filter_map(|ahead| match ahead {
            Ahead::Decided(decided) => Some(&decided.plan),
            _ => None,
        });
        let mut verdicts = match self.commit_all(&epoch, &plans.collect::<Vec<_>>(), in_order).await
        {
            Ok(verdicts) => verdicts.into_iter(),
            Err(error) => return all_fail(error),
        };
        let mut done = Vec::with_capacity(commands.len());
        let mut away = None;
        for (command, ahead) in commands.iter().zip(decided) {
            let verdict = match &ahead {
                Ahead::Decided(_) => verdicts.next(),
                _ => None,
            };
            done.push(match (ahead, verdict) {
                (Ahead::Decided(decided), Some(Verdict::Applied { stamped, picks })) => {
                    let Decided { transition, claim, .. } = *decided;
                    Ok(Ok(self.done(transition, claim.as_ref(), &epoch, stamped, picks)))
                }
                (Ahead::Decided(_), Some(Verdict::Rejected(why))) | (Ahead::Refused(why), _) => {
                    Ok(Err(why))
                }
                _ if let Some(error) = &away => Err(StoreError::clone(error)),
                _ => self.carry_out_one(command).await.inspect_err(|error| {
                    if self.link.health().is_away() {
                        away = Some(error.clone());
                    }
                }),
            });
        }
        done
    }

    /// What these commands are about, read in one go: each record, or why it is none.
    async fn subjects(
        &self,
        commands: &[Command],
    ) -> Result<HashMap<RecordKey, Result<Option<Record>, String>>, StoreError> {
        let keys: Vec<RecordKey> = commands.iter().filter_map(subject).collect();
        Ok(self.read_records(&keys).await?.into_iter().collect())
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
            let done = self.carry_out_together(&commands).await;
            for (answer, done) in answers.into_iter().zip(done) {
                // Nobody waiting for an answer any more is no error.
                let _ = answer.send(done);
            }
        }
    }
}
