//! What a worker asks of the store, and what it is answered.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use pointsman_connectors::{ByteStream, NewArtifact, Preview};
use pointsman_core::{
    Incarnation, JobId, Rejected, WorkerId,
    command::{Exchange, Held, OpAnswer, Register, Renew, Renewed},
    record::{Job, Progress},
};
use tokio::sync::Notify;

/// What a worker needs of the store: in process, over HTTP, or on Redis.
///
/// Every call may be repeated exactly after a lost answer, and then gets the first answer again.
/// An adapter limits each call in time by itself, and turns silence into
/// [`BrokerError::Unreachable`]. Payloads may take long to arrive: of a call that brings some it
/// tells, by its [`Arrival`], whenever a part of the answer is there.
#[async_trait]
pub trait Broker: Send + Sync {
    /// Registers this incarnation, or changes what it offers. Answers the attempts that the store
    /// says this worker id is running, from before a restart.
    ///
    /// # Errors
    /// [`BrokerError`].
    async fn register(
        &self,
        register: Register,
        arrival: &Arrival,
    ) -> Result<InEpoch<Vec<Claimed>>, BrokerError>;

    /// Applies operations and claims jobs, in one step. With operations, or when jobs are there, it
    /// answers at once; else it may wait up to `wait` for a job.
    ///
    /// # Errors
    /// [`BrokerError`] about the exchange as a whole. What became of each operation is in
    /// [`Exchanged::ops`], one answer each, in their order.
    async fn exchange(
        &self,
        exchange: Exchange,
        wait: Duration,
        arrival: &Arrival,
    ) -> Result<Exchanged, BrokerError>;

    /// Renews leases, confirms connector statuses, and passes the newest progress on.
    ///
    /// # Errors
    /// [`BrokerError`].
    async fn renew(
        &self,
        renew: Renew,
        progress: Vec<(JobId, Progress)>,
    ) -> Result<InEpoch<Renewed>, BrokerError>;

    /// Passes on what a job looks like now; `n` counts the previews of the attempt from 1.
    ///
    /// # Errors
    /// [`BrokerError`]; the preview is then dropped.
    async fn preview(&self, held: Held, n: u32, preview: Preview) -> Result<(), BrokerError>;

    /// Stores a result file under the attempt's token. A name that is taken is never overwritten: the
    /// same bytes again are answered the same. An error of the stream ends it unstored.
    ///
    /// # Errors
    /// [`BrokerError`]; [`Rejected::Invalid`] where the name has other bytes.
    async fn put_artifact(
        &self,
        held: Held,
        artifact: NewArtifact,
        bytes: ByteStream,
    ) -> Result<StoredFile, BrokerError>;

    /// Opens a file that a job brings; none when there is no such file.
    ///
    /// # Errors
    /// [`BrokerError`].
    async fn open_input(&self, held: Held, from: &str) -> Result<Option<ByteStream>, BrokerError>;

    /// Says goodbye; what this worker still holds is given back.
    ///
    /// # Errors
    /// [`BrokerError`].
    async fn leave(&self, worker: WorkerId, incarnation: Incarnation) -> Result<(), BrokerError>;
}

/// What is seen of an answer while it arrives: who waits for it gives up where nothing moves, not
/// because it is long.
#[derive(Debug, Default)]
pub struct Arrival {
    has_begun: AtomicBool,
    moved: Notify,
}

impl Arrival {
    /// A part of the answer is there.
    pub fn moved(&self) {
        self.has_begun.store(true, Ordering::Relaxed);
        self.moved.notify_one();
    }

    /// Whether a part of it was there yet.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Relaxed)
    }

    /// Waits for the next part.
    pub(crate) async fn next_move(&self) {
        self.moved.notified().await;
    }
}

/// An answer, and the store's epoch that it holds in: the one in which it was given, or a later one.
///
/// In another epoch the store is as it was a while before: the worker then takes back what it runs
/// ([`Op::Reclaim`](pointsman_core::command::Op::Reclaim)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InEpoch<T> {
    /// Names the epoch.
    pub epoch: Arc<str>,
    /// The answer.
    pub answer: T,
}

/// A job that this worker has, with what is needed to run it.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// Job, attempt and token.
    pub held: Held,
    /// The record.
    pub job: Arc<Job>,
    /// The payload, JSON text.
    pub payload: Bytes,
}

/// The answer to an exchange.
#[derive(Debug, Clone, Default)]
pub struct Exchanged {
    /// What became of each operation, in their order.
    pub ops: Vec<Result<OpAnswer, Rejected>>,
    /// The claimed jobs, each under one of the claim's tokens.
    pub claimed: Vec<Claimed>,
    /// Why the ends among the operations, which are written, may be lost in a fail-over, if so.
    pub unconfirmed: Option<String>,
}

/// What was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    /// Bytes.
    pub size: u64,
    /// Lowercase hex.
    pub sha256: String,
}

/// Why the broker did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// The rules refuse it; nothing was changed.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// No answer, or one that asks for patience (starting, full). It may have been done: repeat it
    /// exactly.
    #[error("broker not reachable: {0}")]
    Unreachable(String),
    /// The broker does not let this worker do it: its token, or what it sent. About a file it is the
    /// token alone; what is wrong with the file itself is [`Rejected::Invalid`].
    #[error("refused: {0}")]
    Refused(String),
    /// A newer version has taken the store over: nothing that this worker says is taken any more.
    #[error("{0}")]
    Newer(String),
}

/// A broker that nobody may call.
#[cfg(test)]
pub(crate) struct Nobody;

#[cfg(test)]
#[async_trait]
impl Broker for Nobody {
    async fn register(
        &self,
        _: Register,
        _: &Arrival,
    ) -> Result<InEpoch<Vec<Claimed>>, BrokerError> {
        unreachable!()
    }

    async fn exchange(
        &self,
        _: Exchange,
        _: Duration,
        _: &Arrival,
    ) -> Result<Exchanged, BrokerError> {
        unreachable!()
    }

    async fn renew(
        &self,
        _: Renew,
        _: Vec<(JobId, Progress)>,
    ) -> Result<InEpoch<Renewed>, BrokerError> {
        unreachable!()
    }

    async fn preview(&self, _: Held, _: u32, _: Preview) -> Result<(), BrokerError> {
        unreachable!()
    }

    async fn put_artifact(
        &self,
        _: Held,
        _: NewArtifact,
        _: ByteStream,
    ) -> Result<StoredFile, BrokerError> {
        unreachable!()
    }

    async fn open_input(&self, _: Held, _: &str) -> Result<Option<ByteStream>, BrokerError> {
        unreachable!()
    }

    async fn leave(&self, _: WorkerId, _: Incarnation) -> Result<(), BrokerError> {
        unreachable!()
    }
}
