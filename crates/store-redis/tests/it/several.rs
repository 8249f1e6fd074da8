//! Several clients of one store, interleaved: each call goes through another one, and every answer
//! and the whole state are compared with the specification's. A refused call leaves every key as it
//! was.

use std::{
    any::Any,
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use pointsman_core::{
    Answer, Command, JobId, LogGroup, Record, RecordKey, Rejected, Seq, ServiceName, Timestamp,
    Token, Transition, WorkerId,
    command::Reconcile,
    decide::Key,
    doctor::{Examination, Mended},
    matching::{Capabilities, CapabilitiesDigest, Class, ClassKey, Explanation},
};
use pointsman_store::{
    ClassSummary, Committed, Depth, Done, Due, EndedPage, Epoch, Health, JobFilter, JobsPage,
    Loaded, LogPage, ManualClock, Pulse, Queues, Seed, Store, StoreError, WorkHint,
};
use pointsman_store_redis::RedisStore;
use serde_json::{Value, json};
use tokio::sync::broadcast;

use crate::{
    keyspace::{changed, dump, is_pulse},
    support::{connection, open_with, options, prefix},
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
        Ok(Done { answer: Answer::Exchanged { ops, claimed, .. }, group: None, .. })
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

/// Each worker's hash says what the records of its connectors say, so that one look tells all.
fn statuses_are_shown(prefix: &str) {
    let mut redis = connection();
    let mut ids = redis::pipe();
    for kind in ["workers", "connectors"] {
        ids.cmd("SMEMBERS").arg(format!("{prefix}{kind}"));
    }
    let (workers, connectors): (Vec<String>, Vec<String>) = ids.query(&mut redis).expect("sets");
    let mut reads = redis::pipe();
    for id in &workers {
        reads.cmd("HMGET").arg(format!("{prefix}worker:{id}")).arg("connector_statuses");
    }
    for id in &connectors {
        let fields = ["worker_id", "service_type", "status", "timestamp", "error_message"];
        reads.cmd("HMGET").arg(format!("{prefix}connector:{id}")).arg(&fields);
    }
    let nothing = workers.is_empty() && connectors.is_empty();
    let mut read: Vec<Vec<Option<String>>> =
        if nothing { Vec::new() } else { reads.query(&mut redis).expect("hashes") };
    let mut recorded: BTreeMap<Option<String>, Value> = BTreeMap::new();
    for fields in read.split_off(workers.len()) {
        let [worker, service, status, timestamp, error_message] = &fields[..] else { panic!() };
        let of_worker = recorded.entry(worker.clone()).or_insert_with(|| json!({}));
        of_worker[service.as_deref().expect("a service")] =
            json!({"error_message": error_message, "status": status, "timestamp": timestamp});
    }
    for (id, shown) in workers.into_iter().zip(read) {
        let shown = shown[0].as_deref().unwrap_or("{}").parse::<Value>().expect("JSON");
        let recorded = recorded.remove(&Some(id.clone())).unwrap_or_else(|| json!({}));
        assert_eq!(shown, recorded, "{id}");
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
                // Of what each kind of change writes some is looked at: that costs calls too.
                if self.calls.load(Ordering::Relaxed) % 4 == 0 {
                    statuses_are_shown(&self.prefix);
                }
                let refused: Vec<_> = answers.iter().filter_map(refused).collect();
                if refused.len() == answers.len() {
                    let after = dump(&self.prefix);
                    let mut traces = changed(&before, &after);
                    // Who speaks is heard, also where it is refused.
                    if refused.contains(&Refused::EveryOperation) {
                        self.operations.fetch_add(1, Ordering::Relaxed);
                        traces.retain(|key| !is_pulse(key));
                    }
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
