//! What the writer thread is asked.

use pointsman_core::{Command, EventName, Rejected, Timestamp, Transition, decide::Side};
use pointsman_store::{Committed, Done, State, StoreError};
use tokio::sync::oneshot;

use crate::writer::Writer;

/// Requests that may wait; callers beyond that wait to be queued.
pub(crate) const MAX_QUEUED: usize = 4_096;

pub(crate) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// A turn of the whole writer between two batches.
pub(crate) type Turn = Box<dyn FnOnce(&mut Writer) + Send>;

/// A look at the state between two batches.
pub(crate) type Look = Box<dyn FnOnce(&mut State, Timestamp) + Send>;

pub(crate) enum Request {
    Work(Work),
    Look(Look),
    Turn(Turn),
    /// From the janitor: see what is due besides requests.
    Tick,
    /// From the janitor: the bulk of the write-ahead log is in the database; do the rest.
    Checkpoint,
    Close(Reply<()>),
}

/// A request that changes something.
pub(crate) enum Work {
    Execute { commands: Vec<Command>, reply: Reply<Vec<Result<Done, Rejected>>> },
    Commit { transition: Box<Transition>, reply: Reply<Committed> },
}

impl Work {
    /// Whether it brings work that was not there before: what is refused while the disk is full.
    pub fn is_new_work(&self) -> bool {
        match self {
            Self::Execute { commands, .. } => commands
                .iter()
                .any(|command| matches!(command, Command::Submit(_) | Command::Retry { .. })),
            Self::Commit { transition, .. } => {
                let new = |name| matches!(name, EventName::JobSubmitted | EventName::JobRetried);
                transition.changes.iter().any(|change| new(change.name))
            }
        }
    }

    /// About how many bytes it writes.
    pub fn weight(&self) -> usize {
        const RECORD: usize = 1_024;
        let of_command = |command: &Command| match command {
            Command::Submit(submit) => submit.payload.len() + RECORD,
            Command::Exchange(exchange) => (exchange.ops.len() + 1) * RECORD,
            _ => RECORD,
        };
        let of_side = |side: &Side| match side {
            Side::Payload { payload, .. } => payload.len(),
            Side::Result { json, .. } => json.len(),
            _ => RECORD,
        };
        match self {
            Self::Execute { commands, .. } => commands.iter().map(of_command).sum(),
            Self::Commit { transition, .. } => {
                let sides: usize = transition.sides.iter().map(of_side).sum();
                sides + transition.changes.len() * RECORD
            }
        }
    }

    /// Who asked may be gone; that is no error.
    pub fn refuse(self, why: StoreError) {
        match self {
            Self::Execute { reply, .. } => drop(reply.send(Err(why))),
            Self::Commit { reply, .. } => drop(reply.send(Err(why))),
        }
    }
}
