//! The store in memory: the specification, and what tests run on.

mod transfer;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use pointsman_core::{
    Command, JobId, LogGroup, Record, RecordKey, Rejected, Seq, ServiceName, Timestamp, Token,
    Transition, WorkerId,
    command::Reconcile,
    decide::{KeptResult, Key, Side},
    doctor::{Examination, Mended},
    matching::{Capabilities, CapabilitiesDigest, Class, ClassKey, Explanation},
};
use tokio::sync::broadcast;

use crate::{
    Clock, Committed, Depth, Done, Epoch, Health, Intake, Loaded, LogPage, Position, Seed, Store,
    StoreError,
    state::{
        Applied, ClassSummary, Due, EndedPage, JobFilter, JobsPage, Pulse, Queues, State, WorkHint,
    },
    transfer::Transfer,
};

/// Groups kept in the log.
const KEPT_GROUPS: usize = 100_000;

struct Inner {
    state: State,
    payloads: HashMap<JobId, Arc<[u8]>>,
    results: HashMap<JobId, Vec<KeptResult>>,
    log: VecDeque<Arc<LogGroup>>,
}

impl Inner {
    fn new(now: Timestamp) -> Self {
        Self {
            state: State::new(Epoch::mint(), now),
            payloads: HashMap::new(),
            results: HashMap::new(),
            log: VecDeque::new(),
        }
    }

    /// What the state does not hold itself.
    fn keep(&mut self, side: Side) {
        match side {
            Side::Payload { job, payload } => drop(self.payloads.insert(job, payload)),
            Side::Result { job, result } => self.results.entry(job).or_default().push(result),
            Side::Idempotency { .. } | Side::Capabilities { .. } => {}
        }
    }
}

/// [`State`] behind a lock. Nothing survives it.
pub struct MemStore {
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
    events: broadcast::Sender<Arc<LogGroup>>,
}

impl MemStore {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let inner = Inner::new(clock.now());
        let (events, _) = broadcast::channel(4_096);
        Self { clock, inner: Mutex::new(inner), events }
    }

    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut State, Timestamp) -> T) -> T {
        let mut inner = self.inner.lock();
        let now = self.clock.now();
        f(&mut inner.state, now)
    }

    /// Keeps what an applied transition brought, tells subscribers, wakes waiting workers.
    fn publish(&self, inner: &mut Inner, applied: Applied) -> Done {
        for side in applied.sides {
            inner.keep(side);
        }
        if let Some(group) = &applied.group {
            for event in group.events.iter().filter(|event| event.record.is_none()) {
                if let RecordKey::Job(job) = &event.key {
                    inner.payloads.remove(job);
                    inner.results.remove(job);
                }
            }
            if inner.log.len() == KEPT_GROUPS {
                inner.log.pop_front();
            }
            inner.log.push_back(group.clone());
            // Nobody listening is no error.
            let _ = self.events.send(group.clone());
        }
        inner.state.wake();
        Done::new(applied.answer, applied.group)
    }
}

#[async_trait]
impl Store for MemStore {
    fn epoch(&self) -> Epoch {
        self.inner.lock().state.epoch.clone()
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn health(&self) -> Health {
        match self.inner.lock().state.intake() {
            Intake::Importing => Health::Importing,
            Intake::Open | Intake::Closed => Health::Ready,
        }
    }

    async fn execute(
        &self,
        commands: Vec<Command>,
    ) -> Result<Vec<Result<Done, Rejected>>, StoreError> {
        let mut inner = self.inner.lock();
        let now = self.clock.now();
        inner.state.forget_idempotency(now, usize::MAX);
        let mut done = Vec::with_capacity(commands.len());
        for command in &commands {
            let applied = inner.state.execute(command, now);
            done.push(applied.map(|applied| self.publish(&mut inner, applied)));
        }
        Ok(done)
    }

    async fn load(&self, keys: Vec<Key>) -> Result<Loaded, StoreError> {
        Ok(self.with(|state, now| {
            let values: BTreeMap<_, _> =
                keys.into_iter().map(|key| (key.clone(), state.value(&key))).collect();
            Loaded { values, now }
        }))
    }

    async fn commit(&self, transition: Transition) -> Result<Committed, StoreError> {
        let mut inner = self.inner.lock();
        let now = self.clock.now();
        Ok(match inner.state.commit(transition, now) {
            Ok(Some(applied)) => Committed::Applied(self.publish(&mut inner, applied)),
            Ok(None) => Committed::Conflict,
            Err(why) => Committed::Rejected(why),
        })
    }

    async fn records(&self, keys: Vec<RecordKey>) -> Result<Vec<Record>, StoreError> {
        Ok(self.with(|state, _| keys.iter().filter_map(|key| state.record(key)).collect()))
    }

    async fn gone(&self, mut jobs: Vec<JobId>) -> Result<Vec<JobId>, StoreError> {
        self.with(|state, _| jobs.retain(|id| state.record(&RecordKey::Job(*id)).is_none()));
        Ok(jobs)
    }

    async fn jobs(
        &self,
        filter: JobFilter,
        before: Option<JobId>,
        limit: usize,
    ) -> Result<JobsPage, StoreError> {
        Ok(self.with(|state, _| state.jobs_page(&filter, before, limit)))
    }

    async fn ended_jobs(
        &self,
        filter: JobFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<EndedPage, StoreError> {
        Ok(self.with(|state, _| state.ended_page(&filter, before, limit)))
    }

    async fn payloads(&self, jobs: Vec<JobId>) -> Result<Vec<Option<Arc<[u8]>>>, StoreError> {
        let inner = self.inner.lock();
        Ok(jobs.iter().map(|job| inner.payloads.get(job).cloned()).collect())
    }

    async fn result(
        &self,
        job: JobId,
        token: Option<Token>,
    ) -> Result<Option<Arc<[u8]>>, StoreError> {
        let inner = self.inner.lock();
        let kept = inner.results.get(&job).into_iter().flatten().rev();
        let mut kept = kept.filter(|kept| token.is_none_or(|token| token == kept.token));
        Ok(kept.next().map(|kept| kept.json.clone()))
    }

    async fn capabilities(
        &self,
        digest: CapabilitiesDigest,
    ) -> Result<Option<Arc<Capabilities>>, StoreError> {
        Ok(self.with(|state, _| state.capabilities(&digest)))
    }

    async fn log(&self, after: Seq, limit: usize) -> Result<LogPage, StoreError> {
        let inner = self.inner.lock();
        let oldest = inner.log.front().map_or(inner.state.seq() + 1, |group| group.seq);
        if after + 1 < oldest {
            return Ok(LogPage::Cut { oldest });
        }
        let skip = usize::try_from(after + 1 - oldest).unwrap_or(usize::MAX);
        Ok(LogPage::Groups(inner.log.iter().skip(skip).take(limit).cloned().collect()))
    }

    async fn seed(&self) -> Result<Seed, StoreError> {
        Ok(self.with(|state, now| Seed {
            position: Position { epoch: state.epoch.clone(), seq: state.seq() },
            last_ended_no: state.last_ended_no(),
            records: state.view_records(),
            now,
        }))
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<LogGroup>> {
        self.events.subscribe()
    }

    fn wait_for_work(&self, worker: WorkerId, services: Vec<ServiceName>) -> WorkHint {
        let (wake, hint) = WorkHint::new();
        self.with(|state, _| state.wait_for_work(worker, services, wake));
        hint
    }

    async fn due(&self, what: Due) -> Result<Vec<Reconcile>, StoreError> {
        Ok(self.with(|state, now| state.due(what, now)))
    }

    async fn break_contact(&self) -> Result<bool, StoreError> {
        self.with(State::break_contact);
        Ok(true)
    }

    async fn queues(&self, limit: usize) -> Result<Queues, StoreError> {
        Ok(self.with(|state, _| state.queues(limit)))
    }

    async fn pulse(&self) -> Result<Pulse, StoreError> {
        Ok(self.with(|state, _| state.pulse()))
    }

    async fn explain(
        &self,
        job: JobId,
    ) -> Result<Option<(Explanation, Option<usize>)>, StoreError> {
        Ok(self.with(|state, now| Some((state.explain(&job, now)?, state.ahead_of(&job)))))
    }

    async fn waiting_classes(&self) -> Result<Vec<(ClassKey, Arc<Class>)>, StoreError> {
        Ok(self.with(|state, _| state.waiting_classes()))
    }

    async fn class_summaries(
        &self,
        classes: Vec<ClassKey>,
    ) -> Result<Vec<ClassSummary>, StoreError> {
        Ok(self.with(|state, _| state.class_summaries(&classes)))
    }

    async fn poisonous(&self) -> Result<Vec<(ClassKey, u32)>, StoreError> {
        Ok(self.with(|state, _| state.poisonous()))
    }

    async fn examine(&self, depth: Depth) -> Result<Examination, StoreError> {
        Ok(self.with(|state, _| state.examine(depth)))
    }

    async fn mend(&self, ids: Option<Vec<String>>) -> Result<Vec<Mended>, StoreError> {
        let treatment = self.with(|state, now| {
            let found = state.examine(Depth::Everything);
            state.treat(found, ids.as_deref(), now)
        });
        let answers = self.execute(treatment.commands()).await?;
        self.with(|state, _| {
            state.wake();
            Ok(treatment.report(&answers, &state.examine(Depth::Everything)))
        })
    }

    fn transfer(self: Arc<Self>) -> Option<Arc<dyn Transfer>> {
        Some(self)
    }

    async fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
