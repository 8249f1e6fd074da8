//! A batch: requests applied to the state one after the other, to be written together; and taken
//! back together when that fails.

use std::sync::Arc;

use pointsman_core::{LogGroup, Rejected, Timestamp, command::IdempotencyKey};
use pointsman_store::{Applied, Committed, Done, State, StoreError, Undo};

use super::{request::Work, writes::Writes};

/// What becomes of one request, once its batch is durable.
enum Outcome {
    Executed(Vec<Result<Done, Rejected>>),
    Committed(Committed),
}

/// Requests that are applied and not yet durable.
pub(crate) struct Batch {
    pub writes: Writes,
    outcomes: Vec<Outcome>,
    groups: Vec<Arc<LogGroup>>,
    undo: Vec<Undo>,
}

impl Batch {
    /// Applies requests in their order. The state is then ahead of the disk: write the batch, or
    /// take it back.
    pub fn apply(state: &mut State, works: &[Work], now: Timestamp) -> Self {
        let mut batch = Self {
            writes: Writes::default(),
            outcomes: Vec::with_capacity(works.len()),
            groups: Vec::new(),
            undo: Vec::new(),
        };
        for work in works {
            let outcome = match work {
                Work::Execute { commands, .. } => {
                    let each = commands.iter().map(|command| {
                        state.execute(command, now).map(|applied| batch.keep(applied))
                    });
                    Outcome::Executed(each.collect())
                }
                Work::Commit { transition, .. } => {
                    Outcome::Committed(match state.commit((**transition).clone(), now) {
                        Ok(Some(applied)) => Committed::Applied(batch.keep(applied)),
                        Ok(None) => Committed::Conflict,
                        Err(why) => Committed::Rejected(why),
                    })
                }
            };
            batch.outcomes.push(outcome);
        }
        batch
    }

    fn keep(&mut self, applied: Applied) -> Done {
        let Applied { answer, group, sides, undo } = applied;
        self.undo.push(undo);
        for side in sides {
            self.writes.side(side);
        }
        self.groups.extend(group.clone());
        Done::new(answer, group)
    }

    /// Turns what was applied into text.
    pub fn write_groups(&mut self) -> Result<(), serde_json::Error> {
        for group in &self.groups {
            self.writes.group(group)?;
        }
        Ok(())
    }

    pub fn groups(&self) -> &[Arc<LogGroup>] {
        &self.groups
    }

    /// Undoes everything; returns the keys that were to be deleted.
    pub fn take_back(self, state: &mut State) -> Vec<IdempotencyKey> {
        for undo in self.undo.into_iter().rev() {
            state.undo(undo);
        }
        self.writes.expired
    }

    /// Answers everybody; those who no longer listen are no error.
    pub fn answer(self, works: Vec<Work>) {
        for (work, outcome) in works.into_iter().zip(self.outcomes) {
            match (work, outcome) {
                (Work::Execute { reply, .. }, Outcome::Executed(done)) => {
                    drop(reply.send(Ok(done)));
                }
                (Work::Commit { reply, .. }, Outcome::Committed(done)) => {
                    drop(reply.send(Ok(done)));
                }
                (work, _) => work.refuse(StoreError::Failed("an answer was mixed up".into())),
            }
        }
    }
}
