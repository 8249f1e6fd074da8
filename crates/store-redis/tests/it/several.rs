//! Several clients of one store, interleaved: each call goes through another one, and every answer
//! and the whole state are compared with the specification's. A refused call leaves every key as it
//! was.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use pointsman_core::{
    Answer, Command, JobId, LogGroup, Rejected, Seq, ServiceName, Timestamp, Token, Transition,
    WorkerId,
    command::Reconcile,
    decide::Key,
    doctor::{Examination, Mended},
    event::{Record, RecordKey},
    matching::{Capabilities, CapabilitiesDigest, Class, ClassKey, Explanation},
};
use pointsman_store::{
    ClassSummary, Committed, Depth, Done, Due, EndedPage, Epoch, Health, JobFilter, JobsPage,
    Loaded, LogPage, ManualClock, Pulse, Queues, Seed, Store, StoreError, WorkHint,
};
use pointsman_store_redis::RedisStore;
use tokio::sync::broadcast;

use crate::{
    keyspace::{but_for_pulse, changed, dump},
    support::{open_with, options, prefix},
};

const CLIENTS: usize = 3;

struct Several {
    clients: Vec<RedisStore>,
    calls: AtomicUsize,
    /// Calls in which every operation was refused.
    operations: Arc<AtomicUsize>,
    prefix: String,
}

#[derive(PartialEq)]
enum Refused {
    Command,
    /// The command itself was taken: who sent it was heard.
    EveryOperation,
}

/// Whether nothing of a command was done.
fn refused(answer: &Result<Done, Rejected>) -> Option<Refused> {
    match answer {
        Err(_) => Some(Refused::Command),
        Ok(Done { answer: Answer::Exchanged { ops, claimed }, group: None, .. })
            if claimed.is_empty() && !ops.is_empty() && ops.iter().all(Result::is_err) =>
        {
            Some(Refused::EveryOperation)
        }
        Ok(_) => None,
    }
}

impl Several {
    /// The next client; in no regular order, so that each does a bit of everything.
    fn next(&self) -> &RedisStore {
        let n = self.calls.fetch_add(1, Ordering::Relaxed);
        &self.clients[n.wrapping_mul(2_654_435_761) / 97 % CLIENTS]
    }
}

macro_rules! delegate {
    ($($name:ident($($arg:ident: $type:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl Store for Several {
            async fn execute(
                &self,
                commands: Vec<Command>,
            ) -> Result<Vec<Result<Done, Rejected>>, StoreError> {
                let before = dump(&self.prefix);
                let answers = self.next().execute(commands.clone()).await?;
                let refused: Vec<_> = answers.iter().filter_map(refused).collect();
                if refused.len() == answers.len() {
                    let mut states = (before, dump(&self.prefix));
                    if refused.contains(&Refused::EveryOperation) {
                        self.operations.fetch_add(1, Ordering::Relaxed);
                        states = (but_for_pulse(states.0), but_for_pulse(states.1));
                    }
                    let traces = changed(&states.0, &states.1);
                    assert!(traces.is_empty(), "{commands:?} was refused and left {traces:?}");
                }
                Ok(answers)
            }
            $(async fn $name(&self, $($arg: $type),*) -> $answer {
                self.next().$name($($arg),*).await
            })*
            fn epoch(&self) -> Epoch {
                self.next().epoch()
            }
            fn now(&self) -> Timestamp {
                self.next().now()
            }
            fn health(&self) -> Health {
                self.next().health()
            }
            fn subscribe(&self) -> broadcast::Receiver<Arc<LogGroup>> {
                self.next().subscribe()
            }
            fn wait_for_work(&self, worker: WorkerId, services: Vec<ServiceName>) -> WorkHint {
                self.next().wait_for_work(worker, services)
            }
        }
    };
}

delegate! {
    load(keys: Vec<Key>) -> Result<Loaded, StoreError>;
    commit(transition: Transition) -> Result<Committed, StoreError>;
    records(keys: Vec<RecordKey>) -> Result<Vec<Record>, StoreError>;
    gone(jobs: Vec<JobId>) -> Result<Vec<JobId>, StoreError>;
    jobs(filter: JobFilter, before: Option<JobId>, limit: usize) -> Result<JobsPage, StoreError>;
    ended_jobs(filter: JobFilter, before: Option<u64>, limit: usize) -> Result<EndedPage, StoreError>;
    payloads(jobs: Vec<JobId>) -> Result<Vec<Option<Arc<[u8]>>>, StoreError>;
    result(job: JobId, token: Option<Token>) -> Result<Option<Arc<[u8]>>, StoreError>;
    capabilities(digest: CapabilitiesDigest) -> Result<Option<Arc<Capabilities>>, StoreError>;
    log(after: Seq, limit: usize) -> Result<LogPage, StoreError>;
    seed() -> Result<Seed, StoreError>;
    due(what: Due) -> Result<Vec<Reconcile>, StoreError>;
    break_contact() -> Result<bool, StoreError>;
    queues(limit: usize) -> Result<Queues, StoreError>;
    pulse() -> Result<Pulse, StoreError>;
    explain(job: JobId) -> Result<Option<(Explanation, Option<usize>)>, StoreError>;
    waiting_classes() -> Result<Vec<(ClassKey, Arc<Class>)>, StoreError>;
    class_summaries(classes: Vec<ClassKey>) -> Result<Vec<ClassSummary>, StoreError>;
    poisonous() -> Result<Vec<(ClassKey, u32)>, StoreError>;
    examine(depth: Depth) -> Result<Examination, StoreError>;
    mend(ids: Option<Vec<String>>) -> Result<Vec<Mended>, StoreError>;
    close() -> Result<(), StoreError>;
}

#[test]
fn clients_that_take_turns_agree_with_the_model() {
    let operations = Arc::new(AtomicUsize::new(0));
    let counted = operations.clone();
    let open = move |clock: ManualClock| -> (Arc<dyn Store>, Box<dyn Any>) {
        let options = options(&clock);
        let prefix = prefix(&options);
        let clients = (0..CLIENTS).map(|_| open_with(options.clone())).collect();
        let (calls, operations) = (AtomicUsize::new(0), counted.clone());
        (Arc::new(Several { clients, calls, operations, prefix }), Box::new(()))
    };
    pointsman_store::conformance::model::agrees(&open);
    let operations = operations.load(Ordering::Relaxed);
    assert!(operations > 100, "stale operations are met: {operations}");
}
