//! What the writer thread is asked.

use pointsman_core::{
    Command, Event, EventName, Record, Rejected, Timestamp, Transition,
    bounds::json_len,
    command::{Op, Outcome},
    decide::Side,
    record::JobSpec,
};
use pointsman_store::{Committed, Done, State, StoreError};
use tokio::sync::oneshot;

use super::Writer;

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

/// About the bytes of a record, in its table and in the log, without what its caller put in.
const RECORD: usize = 1_024;

/// It stands in the record and in the log.
fn of_metadata(spec: &JobSpec) -> usize {
    spec.metadata.as_ref().map_or(0, |metadata| 2 * json_len(metadata))
}

fn of_op(op: &Op) -> usize {
    let (Op::Finish(finish) | Op::Late(finish)) = op else { return RECORD };
    let Outcome::Completed { artifacts, result, .. } = &finish.outcome else { return RECORD };
    RECORD * (1 + artifacts.len()) + result.as_ref().map_or(0, json_len)
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
        let of_command = |command: &Command| match command {
            Command::Submit(submit) => submit.payload.len() + of_metadata(&submit.spec) + RECORD,
            Command::Exchange(exchange) => {
                RECORD + exchange.ops.iter().map(|op| of_op(&op.op)).sum::<usize>()
            }
            _ => RECORD,
        };
        let of_change = |change: &Event| match &change.record {
            Some(Record::Job(job)) => of_metadata(&job.spec) + RECORD,
            _ => RECORD,
        };
        let of_side = |side: &Side| match side {
            Side::Payload { payload, .. } => payload.len(),
            Side::Result { result, .. } => result.json.len(),
            _ => RECORD,
        };
        match self {
            Self::Execute { commands, .. } => commands.iter().map(of_command).sum(),
            Self::Commit { transition, .. } => {
                let sides: usize = transition.sides.iter().map(of_side).sum();
                sides + transition.changes.iter().map(of_change).sum::<usize>()
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

#[cfg(test)]
mod tests {
    use pointsman_core::{
        Incarnation, JobId, Token, WorkerId,
        command::{AttemptOp, Exchange, Finish, Submit},
    };
    use pointsman_store::conformance::fleet::spec;
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;

    fn weight(command: Command) -> usize {
        Work::Execute { commands: vec![command], reply: oneshot::channel().0 }.weight()
    }

    fn submission(metadata: Option<Value>) -> Command {
        let (id, spec) = (JobId::from_uuid(Uuid::nil()), JobSpec { metadata, ..spec(50) });
        let payload = b"{}".as_slice().into();
        Command::Submit(Submit { id, spec, payload, idempotency: None })
    }

    fn ending(result: Value) -> Command {
        let outcome =
            Outcome::Completed { artifacts: Vec::new(), cached: false, result: Some(result) };
        let (job, token) = (JobId::from_uuid(Uuid::nil()), Token::from_uuid(Uuid::nil()));
        let op = Op::Finish(Finish { outcome, last_progress: None });
        Command::Exchange(Exchange {
            worker: WorkerId::new("w").unwrap(),
            incarnation: Incarnation::from_uuid(Uuid::nil()),
            ops: vec![AttemptOp { job, attempt: 1, token, op }],
            claim: None,
        })
    }

    #[test]
    fn submissions_and_retries_are_new_work_and_what_ends_some_is_none() {
        let is_new = |command| {
            Work::Execute { commands: vec![command], reply: oneshot::channel().0 }.is_new_work()
        };
        let job = JobId::from_uuid(Uuid::nil());
        assert!(is_new(submission(None)) && is_new(Command::Retry { job, run: None }));
        assert!(!is_new(ending(json!("done"))) && !is_new(Command::Cancel { job }));
    }

    #[test]
    fn results_and_metadata_weigh() {
        let text = "x".repeat(100_000);
        assert!(weight(ending(json!("done"))) < 10_000);
        assert!(weight(ending(json!([text]))) > 100_000);
        assert!(weight(submission(None)) < 10_000);
        assert!(weight(submission(Some(json!({"text": text})))) > 200_000);
    }
}
