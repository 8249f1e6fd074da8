//! [`SqliteStore`]: the trait's side of the writer thread.

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
    sync::Arc,
    thread,
};

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use pointsman_core::{
    Command, JobId, LogGroup, Record, RecordKey, Rejected, Seq, ServiceName, Timestamp, Token,
    Transition, WorkerId,
    command::Reconcile,
    decide::Key,
    doctor::{Examination, Mended},
    matching::{Capabilities, CapabilitiesDigest, Class, ClassKey, Explanation},
};
use pointsman_store::{
    ClassSummary, Clock, Committed, Depth, Done, Due, EndedPage, Epoch, Health, JobFilter,
    JobsPage, Loaded, LogPage, Position, Pulse, Queues, Seed, State, Store, StoreError, Transfer,
    WorkHint,
};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::{
    OpenError, Options, blobs,
    doctor::quarantine::Quarantined,
    log,
    open::{Opened, open},
    readers::Readers,
    rows::Rows,
    writer::{
        Writer, WriterThread,
        database::{Database, database_path},
        janitor::{Janitor, WalPages},
        request::{MAX_QUEUED, Reply, Request, Work},
        room::Room,
        waiting::WaitingRoom,
    },
};

/// Groups that a subscriber may lag behind before it has to read the log.
const EVENTS_KEPT: usize = 8_192;

/// The embedded store. Dropping it finishes what was asked and waits until the directory is free;
/// [`close`](Store::close) does the same without blocking the thread.
pub struct SqliteStore {
    pub(crate) epoch: RwLock<Epoch>,
    clock: Arc<dyn Clock>,
    health: Arc<RwLock<Health>>,
    requests: Option<mpsc::Sender<Request>>,
    events: broadcast::Sender<Arc<LogGroup>>,
    waiting: Arc<WaitingRoom>,
    pub(crate) readers: Readers,
    pub(crate) rows: Arc<Rows>,
    /// Stored records that could not be read at opening.
    pub(crate) quarantined: Mutex<Vec<Quarantined>>,
    writer: WriterThread,
}

impl SqliteStore {
    /// Opens the store in a directory, making both where they are missing. Blocks while it reads:
    /// about a second for 100,000 jobs. One that came back from a backup gets another epoch; see
    /// [`Options::restored`].
    ///
    /// # Errors
    /// When the directory cannot be used or another process uses it, when the store was made by a
    /// newer program, when an import into it broke off, or when the database fails. A record that
    /// cannot be read is no error: it is set aside, logged, and told by
    /// [`examine`](Store::examine).
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<Self, OpenError> {
        Self::start(dir.as_ref(), &options)
    }

    /// Whether there is a store in the directory.
    pub fn is_in(dir: impl AsRef<Path>) -> bool {
        database_path(dir.as_ref()).exists()
    }

    fn start(dir: &Path, options: &Options) -> Result<Self, OpenError> {
        let Opened { lock, path, mut connection, epoch, clock, rows, loaded } = open(dir, options)?;
        let (requests, queue) = mpsc::channel(MAX_QUEUED);
        let (events, _) = broadcast::channel(EVENTS_KEPT);
        let health = Arc::new(RwLock::new(Health::Ready));
        let waiting = Arc::new(WaitingRoom::default());
        let wal = WalPages::new(options.reserve_bytes);
        wal.watch(&mut connection)?;
        let room = Room::new(dir, options, health.clone(), &connection);
        let writer = Writer {
            state: loaded.state,
            database: Database::new(connection, rows.clone(), loaded.log_bytes, options.log),
            room,
            clock: clock.clone(),
            events: events.clone(),
            waiting: waiting.clone(),
            health: health.clone(),
            wal: wal.clone(),
            janitor: Janitor::start(&path, wal, requests.downgrade())?,
            lock,
            expired: Vec::new(),
            imported_results: 0,
            stale_capabilities: true,
        };
        let thread = thread::Builder::new().name("store-writer".into());
        let thread = thread.spawn(move || writer.run(queue)).map_err(OpenError::Thread)?;
        Ok(Self {
            epoch: RwLock::new(epoch),
            clock,
            health,
            requests: Some(requests),
            events,
            waiting,
            readers: Readers::new(path),
            rows,
            quarantined: Mutex::new(loaded.quarantined),
            writer: WriterThread::new(thread),
        })
    }

    async fn ask(&self, request: Request) -> Result<(), StoreError> {
        let requests = self.requests.as_ref().ok_or(StoreError::Closed)?;
        requests.send(request).await.map_err(|_| StoreError::Closed)
    }

    async fn work<T>(&self, work: impl FnOnce(Reply<T>) -> Work) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Request::Work(work(reply))).await?;
        let lost = || StoreError::Unknown("the store stopped before it answered".to_owned());
        answer.await.map_err(|_| lost())?
    }

    /// Gives the caller the whole writer between two batches.
    pub(crate) async fn turn<T: Send + 'static>(
        &self,
        turn: impl FnOnce(&mut Writer) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let turn = move |writer: &mut Writer| {
            let _ = reply.send(turn(writer));
        };
        self.ask(Request::Turn(Box::new(turn))).await?;
        answer.await.map_err(|_| StoreError::Closed)
    }

    /// Looks at the state as it is on the disk.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&mut State, Timestamp) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let look = move |state: &mut State, now: Timestamp| {
            let _ = reply.send(look(state, now));
        };
        self.ask(Request::Look(Box::new(look))).await?;
        answer.await.map_err(|_| StoreError::Closed)
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        drop(self.requests.take());
        self.writer.join();
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn epoch(&self) -> Epoch {
        self.epoch.read().clone()
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn health(&self) -> Health {
        self.health.read().clone()
    }

    async fn execute(
        &self,
        commands: Vec<Command>,
    ) -> Result<Vec<Result<Done, Rejected>>, StoreError> {
        self.work(|reply| Work::Execute { commands, reply }).await
    }

    async fn load(&self, keys: Vec<Key>) -> Result<Loaded, StoreError> {
        self.look(|state, now| {
            let values: BTreeMap<_, _> =
                keys.into_iter().map(|key| (key.clone(), state.value(&key))).collect();
            Loaded { values, now }
        })
        .await
    }

    async fn commit(&self, transition: Transition) -> Result<Committed, StoreError> {
        self.work(|reply| Work::Commit { transition: Box::new(transition), reply }).await
    }

    async fn records(&self, keys: Vec<RecordKey>) -> Result<Vec<Record>, StoreError> {
        self.look(move |state, _| keys.iter().filter_map(|key| state.record(key)).collect()).await
    }

    async fn gone(&self, mut jobs: Vec<JobId>) -> Result<Vec<JobId>, StoreError> {
        let aside: HashSet<JobId> =
            self.quarantined.lock().iter().filter_map(Quarantined::job).collect();
        self.look(move |state, _| {
            jobs.retain(|id| !aside.contains(id) && state.record(&RecordKey::Job(*id)).is_none());
            jobs
        })
        .await
    }

    async fn jobs(
        &self,
        filter: JobFilter,
        before: Option<JobId>,
        limit: usize,
    ) -> Result<JobsPage, StoreError> {
        self.look(move |state, _| state.jobs_page(&filter, before, limit)).await
    }

    async fn ended_jobs(
        &self,
        filter: JobFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<EndedPage, StoreError> {
        self.look(move |state, _| state.ended_page(&filter, before, limit)).await
    }

    async fn payloads(&self, jobs: Vec<JobId>) -> Result<Vec<Option<Arc<[u8]>>>, StoreError> {
        let rows = self.rows.of_each(&jobs);
        self.readers.read(move |db| blobs::payloads(db, &rows)).await
    }

    async fn result(
        &self,
        job: JobId,
        token: Option<Token>,
    ) -> Result<Option<Arc<[u8]>>, StoreError> {
        let Some(n) = self.rows.of(&job) else { return Ok(None) };
        self.readers.read(move |db| blobs::result(db, n, token)).await
    }

    async fn capabilities(
        &self,
        digest: CapabilitiesDigest,
    ) -> Result<Option<Arc<Capabilities>>, StoreError> {
        self.look(move |state, _| state.capabilities(&digest)).await
    }

    async fn log(&self, after: Seq, limit: usize) -> Result<LogPage, StoreError> {
        self.readers.read(move |db| log::page(db, after, limit)).await
    }

    async fn seed(&self) -> Result<Seed, StoreError> {
        self.look(|state, now| Seed {
            position: Position { epoch: state.epoch.clone(), seq: state.seq() },
            last_ended_no: state.last_ended_no(),
            records: state.view_records(),
            now,
        })
        .await
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<LogGroup>> {
        self.events.subscribe()
    }

    fn wait_for_work(&self, worker: WorkerId, services: Vec<ServiceName>) -> WorkHint {
        self.waiting.enter(worker, services)
    }

    async fn due(&self, what: Due) -> Result<Vec<Reconcile>, StoreError> {
        self.look(move |state, now| state.due(what, now)).await
    }

    async fn break_contact(&self) -> Result<bool, StoreError> {
        self.look(State::break_contact).await?;
        Ok(true)
    }

    async fn queues(&self, limit: usize) -> Result<Queues, StoreError> {
        self.look(move |state, _| state.queues(limit)).await
    }

    async fn pulse(&self) -> Result<Pulse, StoreError> {
        self.look(|state, _| state.pulse()).await
    }

    async fn explain(
        &self,
        job: JobId,
    ) -> Result<Option<(Explanation, Option<usize>)>, StoreError> {
        self.look(move |state, now| Some((state.explain(&job, now)?, state.ahead_of(&job)))).await
    }

    async fn waiting_classes(&self) -> Result<Vec<(ClassKey, Arc<Class>)>, StoreError> {
        self.look(|state, _| state.waiting_classes()).await
    }

    async fn class_summaries(
        &self,
        classes: Vec<ClassKey>,
    ) -> Result<Vec<ClassSummary>, StoreError> {
        self.look(move |state, _| state.class_summaries(&classes)).await
    }

    async fn poisonous(&self) -> Result<Vec<(ClassKey, u32)>, StoreError> {
        self.look(|state, _| state.poisonous()).await
    }

    async fn examine(&self, depth: Depth) -> Result<Examination, StoreError> {
        self.look_over(depth).await
    }

    async fn mend(&self, ids: Option<Vec<String>>) -> Result<Vec<Mended>, StoreError> {
        self.make_right(ids).await
    }

    fn transfer(self: Arc<Self>) -> Option<Arc<dyn Transfer>> {
        Some(self)
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.readers.close().await;
        let (reply, closed) = oneshot::channel();
        // An error either way means that it is closed already.
        if self.ask(Request::Close(reply)).await.is_ok() {
            let _ = closed.await;
        }
        Ok(())
    }
}
