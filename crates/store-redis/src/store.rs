//! The store as the rest of the program sees it.

use std::{
    num::NonZeroUsize,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use lru::LruCache;
use parking_lot::Mutex;
use pointsman_core::{
    Command, JobId, LogGroup, Record, RecordKey, Rejected, Seq, ServiceName, Timestamp, Token,
    Transition, WorkerId,
    command::Reconcile,
    decide::Key,
    doctor::{Examination, Mended},
    matching::{Capabilities, CapabilitiesDigest, Class, ClassKey, Explanation},
};
use pointsman_store::{
    CONTACT_GAP, ClassSummary, Clock, Committed, Depth, Done, Due, EndedPage, Epoch, Health,
    JobFilter, JobsPage, Loaded, LogPage, Preview, Pulse, Queues, Seed, Setting, Store, StoreError,
    ToldProgress, Transfer, WorkHint,
};
use tokio::{sync::broadcast, task::JoinHandle, time::timeout};

use crate::{
    classes::Definitions,
    doctor::{Searched, Verified},
    due::{gone::Gone, machines::Machines, retention::EndedBytes},
    execute::{
        sight::{self, Memory},
        together::Together,
        turns::Turns,
    },
    lanes::{self, Shortage},
    link::{Link, OpenError, Opening, Place, address::Address, surely},
    log,
    wake::{Wake, Wakeable, looks::Looks},
};

/// How a store on Redis is opened.
#[derive(Clone)]
pub struct Options {
    pub address: Address,
    /// Which fleet's store it is.
    pub fleet: String,
    /// Replicas that must have a submission or an ending before it is answered.
    pub acks: u32,
    /// Instead of Redis' clock: for tests.
    pub clock: Option<Arc<dyn Clock>>,
    /// When nobody looked for silence for this long, Redis or all servers were away: then every
    /// deadline starts anew. `None` leaves that to [`Store::break_contact`]: for tests.
    pub contact_gap: Option<Duration>,
    /// Bytes that the log may take; viewers that were away longer than it reaches begin anew.
    pub log_bytes: u64,
    /// How often settings, memory and the replication id are looked at.
    pub look_every: Duration,
    /// How long it counts for all workers of this process that one saw nothing that waits: about as
    /// long as they let pass between two looks of their own.
    pub look_holds: Duration,
    /// How often all machines are looked at for silence; in between that is done when one of them
    /// went silent or is heard again. Less than `limits::SILENT_AFTER`: what registered since cannot
    /// be silent yet.
    pub all_machines_every: Duration,
    /// What is done where there is no store yet, or only half an imported one.
    pub opening: Opening,
}

impl Options {
    pub fn new(address: Address) -> Self {
        Self {
            address,
            fleet: "default".into(),
            acks: 0,
            clock: None,
            contact_gap: Some(CONTACT_GAP),
            log_bytes: LOG_BYTES,
            look_every: Duration::from_secs(1),
            look_holds: Duration::from_secs(1),
            all_machines_every: Duration::from_secs(10),
            opening: Opening::Serve,
        }
    }

    /// For a worker: it makes no store, takes none over, and looks at Redis seldom, as there may be thousands. What
    /// happens in between it is told by the epoch, which every call names.
    pub fn of_worker(address: Address) -> Self {
        Self {
            look_every: WORKER_LOOKS_EVERY,
            look_holds: WORKER_LOOK_HOLDS,
            opening: Opening::Work,
            ..Self::new(address)
        }
    }
}

const LOG_BYTES: u64 = 512 << 20;
const WORKER_LOOKS_EVERY: Duration = Duration::from_secs(60);
/// Longer than from one of its renewals to the next, which look for it.
const WORKER_LOOK_HOLDS: Duration = Duration::from_secs(6);
/// Claimed payloads that are remembered until somebody asks for them.
const PAYLOADS: usize = 2_048;
/// How long the goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);
/// Groups that wait for a slow receiver.
const FEED: usize = 4_096;

pub(crate) struct Inner {
    pub link: Link,
    pub memory: Memory,
    pub definitions: Definitions,
    pub turns: Turns,
    pub together: Together,
    pub wake: Wake,
    pub claimed_payloads: Mutex<LruCache<JobId, Arc<[u8]>>>,
    pub contact_gap: Option<Duration>,
    pub log_bytes: u64,
    pub looks: Looks,
    pub machines: Machines,
    pub gone: Gone,
    pub ended_bytes: EndedBytes,
    pub shortage: Shortage,
    pub all_machines_every: Duration,
    /// Records that the doctor has compared with the log.
    pub verified: Mutex<Verified>,
    pub searched: Mutex<Searched>,
    /// The epoch of the import that was begun here and is not over.
    pub import: Mutex<Option<Epoch>>,
    events: broadcast::Sender<Arc<LogGroup>>,
    following: OnceLock<()>,
    told: broadcast::Sender<Arc<ToldProgress>>,
    hearing: OnceLock<()>,
    runtime: tokio::runtime::Handle,
}

/// A fleet's store on Redis. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct RedisStore {
    pub(crate) inner: Arc<Inner>,
}

impl Inner {
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.runtime.spawn(task)
    }
}

impl RedisStore {
    /// Connects, and opens the fleet's store, or makes it.
    ///
    /// # Errors
    /// [`OpenError`]; nothing was touched.
    pub async fn open(options: Options) -> Result<Self, OpenError> {
        let Options {
            address,
            fleet,
            acks,
            clock,
            contact_gap,
            log_bytes,
            look_every,
            look_holds,
            all_machines_every,
            opening,
        } = options;
        let link = Link::open(Place { address, fleet, acks, clock, opening }).await?;
        let runtime = tokio::runtime::Handle::current();
        runtime.spawn(link.clone().keep_looking(look_every));
        link.follow_sentinels();
        let (events, _) = broadcast::channel(FEED);
        let most = NonZeroUsize::new(PAYLOADS).unwrap_or(NonZeroUsize::MIN);
        let most_searched = NonZeroUsize::new(Examination::MAX).unwrap_or(NonZeroUsize::MIN);
        let inner = Inner {
            link,
            memory: Memory::default(),
            definitions: Definitions::default(),
            turns: Turns::default(),
            together: Together::default(),
            wake: Wake::new(),
            claimed_payloads: Mutex::new(LruCache::new(most)),
            contact_gap,
            log_bytes,
            looks: Looks::new(look_holds),
            machines: Machines::default(),
            gone: Gone::default(),
            ended_bytes: EndedBytes::default(),
            shortage: Shortage::default(),
            all_machines_every,
            verified: Mutex::default(),
            searched: Mutex::new(LruCache::new(most_searched)),
            import: Mutex::default(),
            events,
            following: OnceLock::new(),
            told: broadcast::channel(FEED).0,
            hearing: OnceLock::new(),
            runtime,
        };
        if opening == Opening::Import {
            inner.clear_half_import().await.inspect_err(|_| inner.link.close())?;
        }
        Ok(Self { inner: Arc::new(inner) })
    }
}

#[async_trait]
impl Store for RedisStore {
    fn epoch(&self) -> Epoch {
        self.inner.link.epoch()
    }

    fn now(&self) -> Timestamp {
        self.inner.link.now()
    }

    fn health(&self) -> Health {
        self.inner.link.health()
    }

    fn made_at(&self) -> Option<Timestamp> {
        self.inner.link.made_at()
    }

    fn settings(&self) -> Vec<Setting> {
        self.inner.link.settings()
    }

    async fn execute(
        &self,
        commands: Vec<Command>,
    ) -> Result<Vec<Result<Done, Rejected>>, StoreError> {
        self.inner.carry_out(commands).await
    }

    async fn load(&self, keys: Vec<Key>) -> Result<Loaded, StoreError> {
        let (values, _, now) =
            sight::read(&self.inner.link, &keys).await.map_err(StoreError::of_read)?;
        let values = values.into_iter().map(|(key, value)| Ok((key, value?)));
        Ok(Loaded { values: values.collect::<Result<_, StoreError>>()?, now })
    }

    async fn commit(&self, transition: Transition) -> Result<Committed, StoreError> {
        self.inner.commit(transition).await
    }

    async fn records(&self, keys: Vec<RecordKey>) -> Result<Vec<Record>, StoreError> {
        self.inner.records(&keys).await.map_err(StoreError::of_read)
    }

    async fn confirm(&self, epoch: &Epoch) -> Result<(), StoreError> {
        surely(self.inner.link.acked(epoch).await?)
    }

    async fn gone(&self, jobs: Vec<JobId>) -> Result<Vec<JobId>, StoreError> {
        self.inner.gone_for_good(&jobs).await.map_err(StoreError::of_read)
    }

    async fn jobs(
        &self,
        filter: JobFilter,
        before: Option<JobId>,
        limit: usize,
    ) -> Result<JobsPage, StoreError> {
        self.inner.jobs_page(&filter, before, limit).await.map_err(StoreError::of_read)
    }

    async fn ended_jobs(
        &self,
        filter: JobFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<EndedPage, StoreError> {
        self.inner.ended_page(&filter, before, limit).await.map_err(StoreError::of_read)
    }

    async fn payloads(&self, jobs: Vec<JobId>) -> Result<Vec<Option<Arc<[u8]>>>, StoreError> {
        self.inner.payloads(&jobs, &|| {}).await.map_err(StoreError::of_read)
    }

    async fn arriving_payloads(
        &self,
        jobs: Vec<JobId>,
        moved: &(dyn Fn() + Sync),
    ) -> Result<Vec<Option<Arc<[u8]>>>, StoreError> {
        self.inner.payloads(&jobs, moved).await.map_err(StoreError::of_read)
    }

    async fn result(
        &self,
        job: JobId,
        token: Option<Token>,
    ) -> Result<Option<Arc<[u8]>>, StoreError> {
        // The last one, or the last that came with this token.
        let from = if token.is_some() { 0 } else { -1 };
        let mut results = self.inner.results(job, from).await.map_err(StoreError::of_read)?;
        results.retain(|result| token.is_none_or(|token| token == result.token));
        Ok(results.pop().map(|result| result.json))
    }

    async fn capabilities(
        &self,
        digest: CapabilitiesDigest,
    ) -> Result<Option<Arc<Capabilities>>, StoreError> {
        self.inner.definitions.profile(&self.inner.link, digest).await.map_err(StoreError::of_read)
    }

    async fn log(&self, after: Seq, limit: usize) -> Result<LogPage, StoreError> {
        log::page(&self.inner.link, after, limit).await.map_err(StoreError::of_read)
    }

    async fn seed(&self) -> Result<Seed, StoreError> {
        self.inner.seed().await.map_err(StoreError::of_read)
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<LogGroup>> {
        let receiver = self.inner.events.subscribe();
        // Only who shows something reads the log; a worker does not.
        self.inner.following.get_or_init(|| {
            let follow = log::follow(self.inner.link.clone(), self.inner.events.clone());
            self.inner.spawn(follow);
        });
        receiver
    }

    fn wait_for_work(&self, worker: WorkerId, services: Vec<ServiceName>) -> WorkHint {
        let (wake, hint) = WorkHint::new();
        let wake = Wakeable::new(wake);
        self.inner.looks.wait(&worker, &services, &wake);
        self.inner.wake.add(worker, services, wake);
        let inner = self.inner.clone();
        self.inner.spawn(async move { inner.wake.tell_of_new(&inner).await });
        self.inner.wake.listen(&self.inner);
        hint
    }

    async fn due(&self, what: Due) -> Result<Vec<Reconcile>, StoreError> {
        self.inner.due(what).await
    }

    async fn break_contact(&self) -> Result<bool, StoreError> {
        let (now, since) = self.inner.contact(true).await?;
        Ok(since == now)
    }

    async fn tell_progress(&self, told: Vec<ToldProgress>) -> Result<(), StoreError> {
        lanes::tell_progress(&self.inner.link, told).await
    }

    fn told_progress(&self) -> Option<broadcast::Receiver<Arc<ToldProgress>>> {
        let receiver = self.inner.told.subscribe();
        self.inner.hearing.get_or_init(|| {
            let hear = lanes::hear_progress(self.inner.link.clone(), self.inner.told.clone());
            self.inner.spawn(hear);
        });
        Some(receiver)
    }

    async fn keep_preview(&self, job: JobId, preview: Preview) -> Result<(), StoreError> {
        lanes::keep_preview(&self.inner.link, &self.inner.shortage, job, &preview).await
    }

    async fn preview(&self, job: JobId) -> Result<Option<Preview>, StoreError> {
        lanes::preview(&self.inner.link, job).await.map_err(StoreError::of_read)
    }

    async fn queues(&self, limit: usize) -> Result<Queues, StoreError> {
        self.inner.queues(limit).await.map_err(StoreError::of_read)
    }

    async fn pulse(&self) -> Result<Pulse, StoreError> {
        self.inner.pulse().await.map_err(StoreError::of_read)
    }

    async fn explain(
        &self,
        job: JobId,
    ) -> Result<Option<(Explanation, Option<usize>)>, StoreError> {
        self.inner.explain(job).await.map_err(StoreError::of_read)
    }

    async fn waiting_classes(&self) -> Result<Vec<(ClassKey, Arc<Class>)>, StoreError> {
        self.inner.waiting_classes().await.map_err(StoreError::of_read)
    }

    async fn class_summaries(
        &self,
        classes: Vec<ClassKey>,
    ) -> Result<Vec<ClassSummary>, StoreError> {
        self.inner.class_summaries(&classes).await.map_err(StoreError::of_read)
    }

    async fn poisonous(&self) -> Result<Vec<(ClassKey, u32)>, StoreError> {
        self.inner.poisonous().await.map_err(StoreError::of_read)
    }

    async fn examine(&self, depth: Depth) -> Result<Examination, StoreError> {
        self.inner.examine(depth).await.map_err(StoreError::of_read)
    }

    async fn mend(&self, ids: Option<Vec<String>>) -> Result<Vec<Mended>, StoreError> {
        self.inner.mend(ids).await
    }

    fn transfer(self: Arc<Self>) -> Option<Arc<dyn Transfer>> {
        Some(self)
    }

    async fn close(&self) -> Result<(), StoreError> {
        // A word that stays swallows a wake-up; it ends by itself, too.
        let leave = self.inner.wake.leave(&self.inner);
        if !self.inner.link.is_closed() && timeout(GOODBYE, leave).await.is_err() {
            tracing::debug!("Redis does not know that nobody waits any more");
        }
        self.inner.link.close();
        Ok(())
    }
}
