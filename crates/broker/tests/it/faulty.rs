//! A store around the one in memory that counts what it is asked, loses hints, fails, begins new
//! epochs and cuts its log.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
};

use async_trait::async_trait;
use parking_lot::Mutex;
use pointsman_core::{
    Command, JobId, LogGroup, Record, RecordKey, Rejected, Seq, ServiceName, Timestamp, Token,
    Transition, WorkerId,
    command::Reconcile,
    decide::Key,
    doctor::{Finding, MendOutcome},
    matching::{Capabilities, CapabilitiesDigest, Class, ClassKey, Explanation},
};
use pointsman_store::{
    ClassSummary, Committed, Depth, Done, Due, EndedPage, Epoch, Examination, Health, JobFilter,
    JobsPage, Loaded, LogPage, MemStore, Mended, Preview, Pulse, Queues, Seed, Setting, Store,
    StoreError, Transfer, WorkHint,
};
use tokio::sync::broadcast;

/// The feed holds so few groups that a burst makes the broker lag.
const FEED: usize = 8;

pub type BeforeSeed = Box<dyn FnOnce(&FaultyStore) + Send>;

pub struct FaultyStore {
    inner: Mutex<Arc<MemStore>>,
    feed: broadcast::Sender<Arc<LogGroup>>,
    epoch: Mutex<Epoch>,
    health: Mutex<Health>,
    pub settings: Mutex<Vec<Setting>>,
    /// Kept however their jobs fare, as by a store that forgets them after a while.
    previews: Mutex<HashMap<JobId, Preview>>,
    /// Groups up to this seq are no longer in the log.
    pub cut: AtomicU64,
    /// Hints and the feed are lost.
    pub deaf: AtomicBool,
    /// The log, the due lists and everything else cannot be read or written.
    pub down: AtomicBool,
    /// The log alone cannot be read.
    pub log_down: AtomicBool,
    pub payloads_lost: AtomicBool,
    /// What is wrong with what is stored as no record in memory can be: a mend sets it aside.
    pub unreadable: Mutex<Vec<Finding>>,
    /// What cancels need is damaged.
    pub damaged: AtomicBool,
    /// What is kept of losses is damaged.
    pub losses_damaged: AtomicBool,
    /// Why what is over in the log cannot be removed.
    pub leftovers_refused: Mutex<Option<StoreError>>,
    /// There is no room for an alert.
    pub alerts_refused: AtomicBool,
    /// Happens right after the next exchange was answered.
    pub then: Mutex<Option<Command>>,
    /// Happens before the next seed is read.
    pub before_seed: Mutex<Option<BeforeSeed>>,
    pub thorough_looks: AtomicUsize,
    pub exchanges: AtomicUsize,
    pub queues_made: AtomicUsize,
    pub pulses_made: AtomicUsize,
    pub contacts_broken: AtomicUsize,
}

impl FaultyStore {
    pub fn new(inner: MemStore) -> Self {
        Self::of(Arc::new(inner))
    }

    /// Another process's handle of the same store: it does not hear what this one writes.
    pub fn another(&self) -> Self {
        let another = Self::of(self.inner());
        another.previews.lock().clone_from(&self.previews.lock());
        another
    }

    fn of(inner: Arc<MemStore>) -> Self {
        let epoch = Mutex::new(inner.epoch());
        let (feed, _) = broadcast::channel(FEED);
        Self {
            inner: Mutex::new(inner),
            feed,
            epoch,
            health: Mutex::new(Health::Ready),
            settings: Mutex::default(),
            previews: Mutex::default(),
            cut: AtomicU64::new(0),
            deaf: AtomicBool::new(false),
            down: AtomicBool::new(false),
            log_down: AtomicBool::new(false),
            payloads_lost: AtomicBool::new(false),
            unreadable: Mutex::default(),
            damaged: AtomicBool::new(false),
            losses_damaged: AtomicBool::new(false),
            leftovers_refused: Mutex::default(),
            alerts_refused: AtomicBool::new(false),
            then: Mutex::new(None),
            before_seed: Mutex::new(None),
            thorough_looks: AtomicUsize::new(0),
            exchanges: AtomicUsize::new(0),
            queues_made: AtomicUsize::new(0),
            pulses_made: AtomicUsize::new(0),
            contacts_broken: AtomicUsize::new(0),
        }
    }

    pub fn begin_epoch(&self) {
        *self.epoch.lock() = Epoch::mint();
    }

    /// The store comes back as another one, in a new epoch.
    pub fn come_back_as(&self, other: Arc<MemStore>) {
        *self.inner.lock() = other;
        self.begin_epoch();
    }

    fn inner(&self) -> Arc<MemStore> {
        self.inner.lock().clone()
    }

    /// The feed tells a group.
    pub fn tell(&self, group: Arc<LogGroup>) {
        self.feed.send(group).expect("somebody listens");
    }

    pub fn set_health(&self, health: Health) {
        *self.health.lock() = health;
    }

    fn reach(&self) -> Result<(), StoreError> {
        match self.down.load(SeqCst) {
            true => Err(StoreError::Failed("cut off".into())),
            false => Ok(()),
        }
    }

    fn publish(&self, done: &[Result<Done, Rejected>]) {
        for group in done.iter().flatten().filter_map(|done| done.group.clone()) {
            if !self.deaf.load(SeqCst) {
                let _ = self.feed.send(group);
            }
        }
    }
}

#[async_trait]
impl Store for FaultyStore {
    fn transfer(self: Arc<Self>) -> Option<Arc<dyn Transfer>> {
        Some(self.inner().clone())
    }

    fn epoch(&self) -> Epoch {
        self.epoch.lock().clone()
    }

    fn now(&self) -> Timestamp {
        self.inner().now()
    }

    fn health(&self) -> Health {
        self.health.lock().clone()
    }

    fn settings(&self) -> Vec<Setting> {
        self.settings.lock().clone()
    }

    async fn keep_preview(&self, job: JobId, preview: Preview) -> Result<(), StoreError> {
        self.reach()?;
        self.previews.lock().insert(job, preview);
        Ok(())
    }

    async fn preview(&self, job: JobId) -> Result<Option<Preview>, StoreError> {
        self.reach()?;
        Ok(self.previews.lock().get(&job).cloned())
    }

    async fn execute(
        &self,
        commands: Vec<Command>,
    ) -> Result<Vec<Result<Done, Rejected>>, StoreError> {
        self.reach()?;
        if self.alerts_refused.load(SeqCst)
            && commands.iter().any(|command| matches!(command, Command::Raise(_)))
        {
            return Err(StoreError::Full("no space left".into()));
        }
        if self.damaged.load(SeqCst) && matches!(commands[..], [Command::Cancel { .. }]) {
            return Ok(vec![Err(Rejected::Damaged("class:1: live is x".into()))]);
        }
        let exchanges = commands.iter().filter(|c| matches!(c, Command::Exchange(_))).count();
        self.exchanges.fetch_add(exchanges, SeqCst);
        let done = self.inner().execute(commands).await?;
        self.publish(&done);
        let then = (exchanges > 0).then(|| self.then.lock().take()).flatten();
        if let Some(command) = then {
            let done = self.inner().execute(vec![command]).await?;
            self.publish(&done);
        }
        Ok(done)
    }

    async fn load(&self, keys: Vec<Key>) -> Result<Loaded, StoreError> {
        self.reach()?;
        self.inner().load(keys).await
    }

    async fn commit(&self, transition: Transition) -> Result<Committed, StoreError> {
        self.reach()?;
        self.inner().commit(transition).await
    }

    async fn records(&self, keys: Vec<RecordKey>) -> Result<Vec<Record>, StoreError> {
        self.reach()?;
        self.inner().records(keys).await
    }

    async fn gone(&self, jobs: Vec<JobId>) -> Result<Vec<JobId>, StoreError> {
        self.reach()?;
        self.inner().gone(jobs).await
    }

    async fn jobs(
        &self,
        filter: JobFilter,
        before: Option<JobId>,
        limit: usize,
    ) -> Result<JobsPage, StoreError> {
        self.reach()?;
        self.inner().jobs(filter, before, limit).await
    }

    async fn ended_jobs(
        &self,
        filter: JobFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<EndedPage, StoreError> {
        self.reach()?;
        self.inner().ended_jobs(filter, before, limit).await
    }

    async fn payloads(&self, jobs: Vec<JobId>) -> Result<Vec<Option<Arc<[u8]>>>, StoreError> {
        self.reach()?;
        if self.payloads_lost.load(SeqCst) {
            return Ok(vec![None; jobs.len()]);
        }
        self.inner().payloads(jobs).await
    }

    async fn result(
        &self,
        job: JobId,
        token: Option<Token>,
    ) -> Result<Option<Arc<[u8]>>, StoreError> {
        self.reach()?;
        self.inner().result(job, token).await
    }

    async fn capabilities(
        &self,
        digest: CapabilitiesDigest,
    ) -> Result<Option<Arc<Capabilities>>, StoreError> {
        self.reach()?;
        self.inner().capabilities(digest).await
    }

    async fn log(&self, after: Seq, limit: usize) -> Result<LogPage, StoreError> {
        self.reach()?;
        if self.log_down.load(SeqCst) {
            return Err(StoreError::Failed("no answer".into()));
        }
        let cut = self.cut.load(SeqCst);
        if after < cut {
            return Ok(LogPage::Cut { oldest: cut + 1 });
        }
        self.inner().log(after, limit).await
    }

    async fn seed(&self) -> Result<Seed, StoreError> {
        self.reach()?;
        let happens = self.before_seed.lock().take();
        if let Some(happens) = happens {
            happens(self);
        }
        let mut seed = self.inner().seed().await?;
        seed.position.epoch = self.epoch();
        Ok(seed)
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<LogGroup>> {
        self.feed.subscribe()
    }

    fn wait_for_work(&self, worker: WorkerId, services: Vec<ServiceName>) -> WorkHint {
        if self.deaf.load(SeqCst) {
            let (wake, hint) = WorkHint::new();
            std::mem::forget(wake);
            return hint;
        }
        self.inner().wait_for_work(worker, services)
    }

    async fn due(&self, what: Due) -> Result<Vec<Reconcile>, StoreError> {
        self.reach()?;
        if what == Due::Leftovers
            && let Some(why) = &*self.leftovers_refused.lock()
        {
            return Err(why.clone());
        }
        self.inner().due(what).await
    }

    async fn break_contact(&self) -> Result<bool, StoreError> {
        self.reach()?;
        self.contacts_broken.fetch_add(1, SeqCst);
        self.inner().break_contact().await
    }

    async fn queues(&self, limit: usize) -> Result<Queues, StoreError> {
        self.reach()?;
        self.queues_made.fetch_add(1, SeqCst);
        self.inner().queues(limit).await
    }

    async fn pulse(&self) -> Result<Pulse, StoreError> {
        self.reach()?;
        self.pulses_made.fetch_add(1, SeqCst);
        self.inner().pulse().await
    }

    async fn explain(
        &self,
        job: JobId,
    ) -> Result<Option<(Explanation, Option<usize>)>, StoreError> {
        self.reach()?;
        self.inner().explain(job).await
    }

    async fn waiting_classes(&self) -> Result<Vec<(ClassKey, Arc<Class>)>, StoreError> {
        self.reach()?;
        self.inner().waiting_classes().await
    }

    async fn class_summaries(
        &self,
        classes: Vec<ClassKey>,
    ) -> Result<Vec<ClassSummary>, StoreError> {
        self.reach()?;
        self.inner().class_summaries(classes).await
    }

    async fn poisonous(&self) -> Result<Vec<(ClassKey, u32)>, StoreError> {
        self.reach()?;
        match self.losses_damaged.load(SeqCst) {
            true => Err(StoreError::Failed("losses is no hash".into())),
            false => self.inner().poisonous().await,
        }
    }

    async fn examine(&self, depth: Depth) -> Result<Examination, StoreError> {
        self.reach()?;
        if depth == Depth::Everything {
            self.thorough_looks.fetch_add(1, SeqCst);
        }
        let mut found = self.inner().examine(depth).await?;
        self.unreadable.lock().iter().for_each(|finding| found.add(finding.clone()));
        Ok(found)
    }

    async fn mend(&self, ids: Option<Vec<String>>) -> Result<Vec<Mended>, StoreError> {
        self.reach()?;
        let is_named =
            |finding: &mut Finding| ids.as_ref().is_none_or(|ids| ids.contains(&finding.id));
        let aside: Vec<_> = self.unreadable.lock().extract_if(.., is_named).collect();
        let outcome = MendOutcome::Quarantined;
        let aside = aside.into_iter().map(|finding| Mended { finding, outcome: outcome.clone() });
        let mended = self.inner().mend(ids.clone()).await?;
        Ok(aside.chain(mended).collect())
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.inner().close().await
    }
}
