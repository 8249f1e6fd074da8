//! A small fleet to drive a store with: workers, jobs, and what they do.

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use pointsman_core::{
    Answer, Command, ConnectorId, Event, Failure, FailureKind, Incarnation, JobId, LogGroup,
    MachineId, Record, RecordKey, Rejected, ServiceName, Token, Transition, WorkerId,
    command::{
        AttemptOp, Claim, ConnectorReport, Exchange, Finish, Held, Op, OpAnswer, Outcome,
        Reconcile, Register, Renew, Renewed, Submit,
    },
    matching::{Capabilities, LabelValue, Requirements, ServiceCapabilities},
    record::{
        Artifact, ArtifactType, Connector, ConnectorStatus, Job, JobSpec, Machine, ServiceSlots,
        Worker,
    },
};
use uuid::Uuid;

use super::Open;
use crate::{Depth, Due, LogPage, ManualClock, Store, StoreError};

/// A store under test, its clock, and ids drawn in order.
pub struct Fleet {
    pub store: Arc<dyn Store>,
    pub clock: ManualClock,
    drawn: AtomicU64,
    _kept: Box<dyn Any>,
}

/// A worker's process.
#[derive(Debug, Clone)]
pub struct Hand {
    pub worker: WorkerId,
    pub machine: MachineId,
    pub incarnation: Incarnation,
}

pub fn service() -> ServiceName {
    ServiceName::new("simulation").expect("a valid name")
}

pub fn spec(priority: u8) -> JobSpec {
    let created_at = pointsman_core::Timestamp::from_millis(1_700_000_000_000);
    JobSpec { priority, ..JobSpec::new(service(), created_at) }
}

/// Requirements that only workers with this label meet.
pub fn needs(label: &str) -> Arc<Requirements> {
    let json = serde_json::json!({"labels": {label: {"eq": true}}});
    Arc::new(Requirements::parse(&json).expect("valid requirements"))
}

pub fn completed() -> Op {
    let outcome = Outcome::Completed {
        artifacts: Vec::new(),
        cached: false,
        result: Some(serde_json::json!({"done": true})),
    };
    Op::Finish(Finish { outcome, last_progress: None })
}

pub fn cancelled() -> Op {
    Op::Finish(Finish { outcome: Outcome::Cancelled, last_progress: None })
}

pub fn late() -> Op {
    let Op::Finish(finish) = completed() else { unreachable!() };
    Op::Late(finish)
}

/// A late result with one file of so many bytes.
pub fn late_file(size: u64) -> Op {
    let file = Artifact {
        name: "a.png".into(),
        size,
        media_type: "image/png".into(),
        sha256: "0".repeat(64),
        node: None,
        kind: ArtifactType::Output,
    };
    let outcome = Outcome::Completed { artifacts: vec![file], cached: false, result: None };
    Op::Late(Finish { outcome, last_progress: None })
}

pub fn failed(kind: FailureKind) -> Op {
    let failure = Failure::new(kind, "test", "a test's failure");
    Op::Finish(Finish { outcome: Outcome::Failed { failure }, last_progress: None })
}

/// What must come, and soon: a test that would wait for ever says for what.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let soon = Duration::from_secs(20);
    tokio::time::timeout(soon, future).await.unwrap_or_else(|_| panic!("{what}: not in {soon:?}"))
}

impl Fleet {
    pub fn new(open: &Open) -> Self {
        let clock = ManualClock::default();
        let (store, kept) = open(clock.clone());
        Self { store, clock, drawn: AtomicU64::new(0), _kept: kept }
    }

    /// On a store that is open already, and does not go by the fleet's clock.
    pub fn on(store: &Arc<impl Store + 'static>) -> Self {
        let store: Arc<dyn Store> = store.clone();
        Self::new(&move |_| (store.clone(), Box::new(())))
    }

    fn draw(&self) -> Uuid {
        let n = self.drawn.fetch_add(1, Ordering::SeqCst) + 1;
        Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + u128::from(n))
    }

    pub fn token(&self) -> Token {
        Token::from_uuid(self.draw())
    }

    pub async fn run(&self, command: Command) -> Result<(Answer, Option<Arc<LogGroup>>), Rejected> {
        let mut done = self.try_run(command).await.expect("the store works");
        done.pop().expect("one answer a command").map(|done| (done.answer, done.group))
    }

    async fn try_run(
        &self,
        command: Command,
    ) -> Result<Vec<Result<crate::Done, Rejected>>, StoreError> {
        self.store.execute(vec![command]).await
    }

    pub fn submission(&self, spec: JobSpec) -> Submit {
        let id = JobId::from_uuid(self.draw());
        Submit { id, spec, payload: Arc::from(&b"{}"[..]), idempotency: None }
    }

    pub async fn submit(&self, spec: JobSpec) -> JobId {
        let submit = self.submission(spec);
        let id = submit.id;
        self.run(Command::Submit(submit)).await.expect("a valid submission");
        id
    }

    pub fn hand(&self, name: &str) -> Hand {
        Hand {
            worker: WorkerId::new(name).expect("a valid name"),
            machine: MachineId::new(format!("m-{name}")).expect("a valid name"),
            incarnation: Incarnation::from_uuid(self.draw()),
        }
    }

    pub fn registration(hand: &Hand, slots: u32, labels: &[&str]) -> Register {
        let services = BTreeMap::from([(service(), ServiceCapabilities::default())]);
        let labels = labels.iter().map(|l| ((*l).to_owned(), LabelValue::Flag(true))).collect();
        Register {
            worker: hand.worker.clone(),
            machine: hand.machine.clone(),
            incarnation: hand.incarnation,
            services: vec![ServiceSlots { name: service(), slots }],
            capabilities: Capabilities { services, labels, ..Capabilities::default() },
            summary: "a test's worker".into(),
        }
    }

    /// A registered worker whose service is ready.
    pub async fn worker(&self, name: &str, slots: u32, labels: &[&str]) -> Hand {
        let hand = self.hand(name);
        let register = Self::registration(&hand, slots, labels);
        self.run(Command::Register(register)).await.expect("a valid registration");
        self.report(&hand, ConnectorStatus::Idle).await;
        hand
    }

    pub fn renewal(hand: &Hand, held: Vec<Held>, status: ConnectorStatus) -> Renew {
        let report = ConnectorReport { service: service(), status, error_message: None };
        Renew {
            worker: hand.worker.clone(),
            incarnation: hand.incarnation,
            held,
            connectors: vec![report],
            stopping: false,
        }
    }

    pub async fn report(&self, hand: &Hand, status: ConnectorStatus) {
        self.renew(hand, Vec::new(), status).await.expect("a valid renewal");
    }

    pub async fn renew(
        &self,
        hand: &Hand,
        held: Vec<Held>,
        status: ConnectorStatus,
    ) -> Result<Renewed, Rejected> {
        let renewal = Self::renewal(hand, held, status);
        match self.run(Command::Renew(renewal)).await?.0 {
            Answer::Renewed(renewed) => Ok(renewed),
            other => panic!("a renewal was answered {other:?}"),
        }
    }

    pub fn exchange(hand: &Hand, ops: Vec<AttemptOp>, tokens: Vec<Token>) -> Exchange {
        let claim = (!tokens.is_empty()).then(|| Claim { tokens, services: Vec::new() });
        Exchange { worker: hand.worker.clone(), incarnation: hand.incarnation, ops, claim }
    }

    pub async fn claim(&self, hand: &Hand) -> Option<Held> {
        let token = self.token();
        self.claim_with(hand, vec![token]).await.first().copied()
    }

    pub async fn claim_with(&self, hand: &Hand, tokens: Vec<Token>) -> Vec<Held> {
        let exchange = Self::exchange(hand, Vec::new(), tokens);
        match self.run(Command::Exchange(exchange)).await.expect("a valid claim").0 {
            Answer::Exchanged { claimed, .. } => claimed,
            other => panic!("a claim was answered {other:?}"),
        }
    }

    pub fn op(held: Held, op: Op) -> AttemptOp {
        AttemptOp { job: held.job, attempt: held.attempt, token: held.token, op }
    }

    pub async fn act(&self, hand: &Hand, held: Held, op: Op) -> Result<OpAnswer, Rejected> {
        let exchange = Self::exchange(hand, vec![Self::op(held, op)], Vec::new());
        match self.run(Command::Exchange(exchange)).await?.0 {
            Answer::Exchanged { mut ops, .. } => ops.pop().expect("one answer an operation"),
            other => panic!("an exchange was answered {other:?}"),
        }
    }

    /// A submitted job that this worker claimed and started.
    pub async fn running(&self, hand: &Hand) -> Held {
        self.submit(spec(50)).await;
        let held = self.claim(hand).await.expect("a job to claim");
        self.act(hand, held, Op::Start).await.expect("a valid start");
        held
    }

    /// A job that this worker has completed.
    pub async fn completed(&self, hand: &Hand) -> JobId {
        let held = self.running(hand).await;
        self.act(hand, held, completed()).await.expect("a valid end");
        held.job
    }

    pub fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// Does what a reconciler would do now, all in one call; returns how much that was.
    pub async fn reconcile(&self, what: Due) -> usize {
        let due = self.store.due(what).await.expect("the store works");
        let count = due.len();
        // A reason that no longer holds is no error.
        let commands = due.into_iter().map(Command::Reconcile).collect();
        self.store.execute(commands).await.expect("the store works");
        count
    }

    pub fn expire(held: Held) -> Command {
        let Held { job, attempt, token } = held;
        Command::Reconcile(Reconcile::ExpireLease { job, attempt, token })
    }

    async fn record(&self, key: RecordKey) -> Option<Record> {
        self.store.records(vec![key]).await.expect("the store works").pop()
    }

    pub async fn job(&self, id: JobId) -> Arc<Job> {
        match self.record(RecordKey::Job(id)).await {
            Some(Record::Job(job)) => job,
            other => panic!("no job {id}: {other:?}"),
        }
    }

    pub async fn worker_record(&self, hand: &Hand) -> Arc<Worker> {
        match self.record(RecordKey::Worker(hand.worker.clone())).await {
            Some(Record::Worker(worker)) => worker,
            other => panic!("no worker {hand:?}: {other:?}"),
        }
    }

    pub async fn machine_record(&self, hand: &Hand) -> Arc<Machine> {
        match self.record(RecordKey::Machine(hand.machine.clone())).await {
            Some(Record::Machine(machine)) => machine,
            other => panic!("no machine {hand:?}: {other:?}"),
        }
    }

    pub async fn connector_record(&self, hand: &Hand) -> Arc<Connector> {
        let id = ConnectorId::new(hand.worker.clone(), service());
        match self.record(RecordKey::Connector(id)).await {
            Some(Record::Connector(connector)) => connector,
            other => panic!("no connector of {hand:?}: {other:?}"),
        }
    }

    pub async fn seq(&self) -> u64 {
        self.store.seed().await.expect("the store works").position.seq
    }

    /// The whole log.
    pub async fn log(&self) -> Vec<Arc<LogGroup>> {
        match self.store.log(0, usize::MAX).await.expect("the store works") {
            LogPage::Groups(groups) => groups,
            LogPage::Cut { oldest } => panic!("the log begins at {oldest}"),
        }
    }

    /// The names of a job's events, in order.
    pub async fn story(&self, job: JobId) -> Vec<&'static str> {
        let groups = self.log().await;
        let events = groups.iter().flat_map(|group| &group.events);
        events.filter(|e| e.key == RecordKey::Job(job)).map(|e| e.name.as_str()).collect()
    }

    /// No record contradicts another, and no rev is beyond the log.
    pub async fn check(&self) -> Result<(), String> {
        let found = self.store.examine(Depth::Everything).await.expect("the store works");
        match found.findings.first() {
            None => Ok(()),
            Some(first) => Err(format!("{}: {}", first.id, first.problem)),
        }
    }

    /// Writes records past every rule: no decision stands behind it.
    pub async fn corrupt(&self, changes: Vec<Event>) {
        let transition = Transition {
            reads: Vec::new(),
            looked_up: Vec::new(),
            guards: Vec::new(),
            changes,
            sides: Vec::new(),
            answer: Answer::Done,
        };
        self.store.commit(transition).await.expect("the store works");
    }

    /// The ids of everything that is wrong.
    pub async fn findings(&self) -> Vec<String> {
        let found = self.store.examine(Depth::Everything).await.expect("the store works");
        found.findings.into_iter().map(|finding| finding.id).collect()
    }

    pub fn excluded(job: &Job) -> BTreeSet<WorkerId> {
        job.exclusions.iter().map(|exclusion| exclusion.worker_id.clone()).collect()
    }
}
