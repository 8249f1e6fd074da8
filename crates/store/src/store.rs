//! The trait that every store implements.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use pointsman_core::{
    Answer, Command, JobId, LogGroup, Record, RecordKey, Rejected, Seq, ServiceName, Timestamp,
    Token, Transition, WorkerId,
    command::Reconcile,
    decide::{Key, Source, Unread, Value},
    doctor::{Examination, Mended},
    matching::{Capabilities, CapabilitiesDigest, Class, ClassKey, Explanation},
    record::{Job, Progress},
};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::{
    Setting, Transfer,
    doctor::Depth,
    state::{ClassSummary, Due, EndedPage, JobFilter, JobsPage, Pulse, Queues, WorkHint},
};

/// Names one unbroken log: seqs of different epochs have nothing to do with each other.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(Arc<str>);

impl Epoch {
    /// A new epoch: 12 hexadecimal digits drawn at random.
    pub fn mint() -> Self {
        let text = uuid::Uuid::new_v4().simple().to_string();
        Self(text.get(..12).unwrap_or(&text).into())
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is no position, or no epoch (1 to 32 letters and digits).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a position: use EPOCH.SEQ as the last `id:` line gave it")]
pub struct PositionError;

impl FromStr for Epoch {
    type Err = PositionError;
    fn from_str(text: &str) -> Result<Self, PositionError> {
        let fine =
            (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
        if fine { Ok(Self(text.into())) } else { Err(PositionError) }
    }
}

/// A place in the log, written `epoch.seq`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Position {
    pub epoch: Epoch,
    pub seq: Seq,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.seq)
    }
}

impl FromStr for Position {
    type Err = PositionError;
    fn from_str(text: &str) -> Result<Self, PositionError> {
        let (epoch, seq) = text.split_once('.').ok_or(PositionError)?;
        Ok(Self { epoch: epoch.parse()?, seq: seq.parse().map_err(|_| PositionError)? })
    }
}

/// A command that was carried out.
#[derive(Debug, Clone)]
pub struct Done {
    pub answer: Answer,
    /// What it changed; none when it changed nothing (a repeat, say).
    pub group: Option<Arc<LogGroup>>,
    /// Why it, or the ends of an exchange, which are written, are not confirmed by as many replicas
    /// as they were to be. An exact repeat asks again.
    pub unconfirmed: Option<Arc<str>>,
}

impl Done {
    pub fn new(answer: Answer, group: Option<Arc<LogGroup>>) -> Self {
        Self { answer, group, unconfirmed: None }
    }

    /// For whom what is not confirmed is not done.
    ///
    /// # Errors
    /// [`StoreError::Unknown`].
    pub fn confirmed(self) -> Result<Self, StoreError> {
        match self.unconfirmed {
            Some(why) => Err(StoreError::unconfirmed(&why)),
            None => Ok(self),
        }
    }
}

/// What a compare-and-set did.
#[derive(Debug, Clone)]
pub enum Committed {
    Applied(Done),
    /// What the transition was decided on has changed: load and decide again.
    Conflict,
    /// A guard no longer holds.
    Rejected(Rejected),
}

/// Records as they were at one moment, for a decision made outside the store.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub values: BTreeMap<Key, Option<Value>>,
    pub now: Timestamp,
}

impl Source for Loaded {
    fn get(&self, key: &Key) -> Result<Option<Value>, Unread> {
        self.values.get(key).cloned().ok_or_else(|| Unread(key.clone()))
    }
}

/// What a view starts from: everything it shows, at one seq.
#[derive(Debug, Clone)]
pub struct Seed {
    pub position: Position,
    pub last_ended_no: u64,
    pub records: Vec<Record>,
    pub now: Timestamp,
}

/// A stretch of the log.
#[derive(Debug, Clone)]
pub enum LogPage {
    Groups(Vec<Arc<LogGroup>>),
    /// The seq asked for is no longer kept; the oldest kept one is.
    Cut {
        oldest: Seq,
    },
}

/// Whether the store takes new work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    Ready,
    /// No room for more, on the disk or in memory; it says which. Submissions are refused; endings and
    /// reads go on.
    Full(String),
    /// An import fills it: what is there is not whole, and tells nothing.
    Importing,
    Failed(String),
    /// A newer version has taken it over: this one neither reads nor writes it any more.
    Newer(String),
}

impl Health {
    /// Whether it answers nobody here.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Newer(_))
    }
}

/// Why a store did not do what it was asked. Nothing of the command was done, unless it says
/// `Unknown`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("the store is full: {0}")]
    Full(String),
    #[error("the store failed: {0}")]
    Failed(String),
    /// What is asked for cannot be read.
    #[error("what is stored is damaged: {0}; see `pointsman doctor`")]
    Damaged(String),
    #[error("the store is closed")]
    Closed,
    /// A newer version has taken it over, and this one would misread it. It does not pass.
    #[error("the store was written by a newer version (format {format}): use that version")]
    Newer { format: String },
    /// The answer was lost; an exact repeat tells.
    #[error("it is not known whether this was done: {0}")]
    Unknown(String),
}

impl StoreError {
    /// The same of what was only read: there is nothing that may have been done.
    #[must_use]
    pub fn of_read(self) -> Self {
        match self {
            Self::Unknown(why) => Self::Failed(why),
            error => error,
        }
    }

    /// What is written and not confirmed, to whom it is not done then.
    pub fn unconfirmed(why: &str) -> Self {
        Self::Unknown(format!("it is written, but {why}"))
    }
}

/// Progress of one running attempt, as its worker told it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToldProgress {
    pub worker: WorkerId,
    pub job: JobId,
    pub progress: Progress,
}

/// The largest picture of a running attempt, bytes.
pub const MAX_PREVIEW: usize = 4 << 20;

/// The newest picture of a running attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    pub attempt: u32,
    /// Counts the attempt's pictures up.
    pub n: u32,
    pub media_type: String,
    pub bytes: Bytes,
}

/// A picture is too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the picture has {bytes} bytes; at most {most} are kept")]
pub struct PreviewTooLarge {
    pub bytes: usize,
    pub most: usize,
}

impl Preview {
    /// Whether it is a later picture of the same job.
    pub fn is_newer_than(&self, other: &Self) -> bool {
        (self.attempt, self.n) > (other.attempt, other.n)
    }

    /// Whether it may be kept: whoever takes pictures in asks first.
    ///
    /// # Errors
    /// [`PreviewTooLarge`].
    pub fn check(&self) -> Result<(), PreviewTooLarge> {
        self.fits(MAX_PREVIEW)
    }

    /// The same, where fewer bytes may be kept.
    ///
    /// # Errors
    /// [`PreviewTooLarge`].
    pub fn fits(&self, most: usize) -> Result<(), PreviewTooLarge> {
        let bytes = self.bytes.len();
        if bytes > most { Err(PreviewTooLarge { bytes, most }) } else { Ok(()) }
    }
}

/// A store. Cheap calls; a caller that has several commands hands them in together.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    fn epoch(&self) -> Epoch;

    /// The store's clock.
    fn now(&self) -> Timestamp;

    fn health(&self) -> Health;

    /// When it was made: tells it from another store of the same fleet. `None`: nobody can take
    /// another one for it, as it lies beside what belongs to it.
    fn made_at(&self) -> Option<Timestamp> {
        None
    }

    /// Its settings that may lose work, as this process judges them.
    fn settings(&self) -> Vec<Setting> {
        Vec::new()
    }

    /// What of its settings may lose work, each with its cure; none where all is well.
    fn warnings(&self) -> Vec<String> {
        self.settings().iter().filter_map(Setting::risk).map(ToString::to_string).collect()
    }

    /// Decides and applies commands, each in one atomic step, in their order. An error says that
    /// none of them was done.
    async fn execute(
        &self,
        commands: Vec<Command>,
    ) -> Result<Vec<Result<Done, Rejected>>, StoreError>;

    /// Reads what a decision outside the store asks for.
    async fn load(&self, keys: Vec<Key>) -> Result<Loaded, StoreError>;

    /// Applies a transition if what it was decided on is unchanged and its guards hold. Only tests
    /// call it: they step between look and commit. Every command goes through `execute`.
    async fn commit(&self, transition: Transition) -> Result<Committed, StoreError>;

    /// The records of these keys, those that exist.
    async fn records(&self, keys: Vec<RecordKey>) -> Result<Vec<Record>, StoreError>;

    /// Answers once everything that is written in this epoch is where it has to be before it counts as
    /// done, as [`execute`](Store::execute) does for what it writes: on as many replicas as were asked
    /// for. An error says that it may yet be lost. A store without replicas has nobody to ask.
    async fn confirm(&self, _: &Epoch) -> Result<(), StoreError> {
        Ok(())
    }

    /// Those of these jobs that are gone for good, in no order. One whose record is lost or cannot be
    /// read is not: as long as an index, or what was set aside, names it, a repair may bring it back.
    async fn gone(&self, jobs: Vec<JobId>) -> Result<Vec<JobId>, StoreError>;

    /// The last submitted first.
    async fn jobs(
        &self,
        filter: JobFilter,
        before: Option<JobId>,
        limit: usize,
    ) -> Result<JobsPage, StoreError>;

    /// Those that have ended, the last ended first: those whose ending has a lower number than
    /// `before`.
    async fn ended_jobs(
        &self,
        filter: JobFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<EndedPage, StoreError>;

    /// The payloads of these jobs, in their order; none where it is no longer kept.
    async fn payloads(&self, jobs: Vec<JobId>) -> Result<Vec<Option<Arc<[u8]>>>, StoreError>;

    /// The same, where they may be long on their way: `moved` is told of each part of them.
    async fn arriving_payloads(
        &self,
        jobs: Vec<JobId>,
        moved: &(dyn Fn() + Sync),
    ) -> Result<Vec<Option<Arc<[u8]>>>, StoreError> {
        let payloads = self.payloads(jobs).await;
        moved();
        payloads
    }

    /// The result JSON that an attempt handed in; of the last one that did without a token.
    async fn result(
        &self,
        job: JobId,
        token: Option<Token>,
    ) -> Result<Option<Arc<[u8]>>, StoreError>;

    /// None where they are not kept, or cannot be read by this version: nobody is able with them.
    async fn capabilities(
        &self,
        digest: CapabilitiesDigest,
    ) -> Result<Option<Arc<Capabilities>>, StoreError>;

    /// The groups right after `after`, none missing between them, at most `limit`.
    async fn log(&self, after: Seq, limit: usize) -> Result<LogPage, StoreError>;

    async fn seed(&self) -> Result<Seed, StoreError>;

    /// Every group from now on, in order. A receiver that lags reads the log instead.
    fn subscribe(&self) -> broadcast::Receiver<Arc<LogGroup>>;

    /// A hint when there may be work for the worker; subscribe before looking.
    fn wait_for_work(&self, worker: WorkerId, services: Vec<ServiceName>) -> WorkHint;

    /// What a reconciler should look at; an empty list when there is nothing.
    async fn due(&self, what: Due) -> Result<Vec<Reconcile>, StoreError>;

    /// The asker was away from the store: no deadline began before now. Answers whether that is so: a
    /// store that many ask, and that knows of a gap by itself, goes by that alone.
    async fn break_contact(&self) -> Result<bool, StoreError>;

    /// Passes progress on to every process that shows this store. It is in no record, and nothing
    /// is lost when it is. A store that one process has needs nobody to be told.
    async fn tell_progress(&self, _: Vec<ToldProgress>) -> Result<(), StoreError> {
        Ok(())
    }

    /// Progress that other processes tell; none where there are none.
    fn told_progress(&self) -> Option<broadcast::Receiver<Arc<ToldProgress>>> {
        None
    }

    /// Keeps a picture for other processes to show, for a minute; not in place of a newer one.
    async fn keep_preview(&self, _: JobId, _: Preview) -> Result<(), StoreError> {
        Ok(())
    }

    /// The newest picture that another process kept; its attempt may be over.
    async fn preview(&self, _: JobId) -> Result<Option<Preview>, StoreError> {
        Ok(None)
    }

    async fn queues(&self, limit: usize) -> Result<Queues, StoreError>;

    async fn pulse(&self) -> Result<Pulse, StoreError>;

    /// Why a job waits, and how many are ahead of it; see [`State::ahead_of`](crate::State::ahead_of).
    async fn explain(&self, job: JobId)
    -> Result<Option<(Explanation, Option<usize>)>, StoreError>;

    /// The classes in which jobs wait.
    async fn waiting_classes(&self) -> Result<Vec<(ClassKey, Arc<Class>)>, StoreError>;

    /// Summaries of these classes, those that live, in their order.
    async fn class_summaries(
        &self,
        classes: Vec<ClassKey>,
    ) -> Result<Vec<ClassSummary>, StoreError>;

    /// Classes that lose job after job, in the order of their keys, and the losses in a row.
    async fn poisonous(&self) -> Result<Vec<(ClassKey, u32)>, StoreError>;

    /// What is wrong with what is stored.
    async fn examine(&self, depth: Depth) -> Result<Examination, StoreError>;

    /// Mends the findings with these ids, or all of them; one that is gone already is not told.
    async fn mend(&self, ids: Option<Vec<String>>) -> Result<Vec<Mended>, StoreError>;

    /// The store as one that can be moved, where its kind can.
    fn transfer(self: Arc<Self>) -> Option<Arc<dyn Transfer>> {
        None
    }

    /// Makes everything durable and lets go of what is locked.
    async fn close(&self) -> Result<(), StoreError>;
}

/// One job's record.
pub async fn job(store: &dyn Store, id: JobId) -> Result<Option<Arc<Job>>, StoreError> {
    let found = store.records(vec![RecordKey::Job(id)]).await?;
    Ok(found.into_iter().find_map(|record| match record {
        Record::Job(job) => Some(job),
        _ => None,
    }))
}

#[cfg(test)]
mod tests {
    use super::{MAX_PREVIEW, Preview, StoreError};

    #[test]
    fn a_picture_that_is_too_large_says_how_large_it_may_be() {
        let picture = |size| {
            let media_type = "image/png".into();
            Preview { attempt: 1, n: 1, media_type, bytes: vec![0; size].into() }.check()
        };
        assert_eq!(picture(MAX_PREVIEW), Ok(()));
        let why = picture(MAX_PREVIEW + 1).unwrap_err().to_string();
        assert_eq!(why, "the picture has 4194305 bytes; at most 4194304 are kept");
    }

    #[test]
    fn a_full_store_says_what_is_full_and_nothing_else() {
        let error = StoreError::Full("Redis uses more than 80 % of its maxmemory".into());
        assert_eq!(
            error.to_string(),
            "the store is full: Redis uses more than 80 % of its maxmemory"
        );
    }
}
