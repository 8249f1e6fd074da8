use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use pointsman_core::record::{Artifact, ArtifactType};

use crate::{ByteStream, Source, SourceError, StopSignal};

/// How far a run is: the whole of it each time, and only the newest counts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// 0 to 100.
    pub percent: Option<f32>,
    /// The node that works.
    pub node: Option<String>,
    /// Its step, from 0.
    pub step: Option<u32>,
    /// How many steps it has.
    pub steps: Option<u32>,
    /// For people.
    pub message: Option<String>,
}

/// A picture of work in progress; only the newest counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// Such as `image/jpeg`.
    pub media_type: String,
    /// The encoded picture.
    pub bytes: Bytes,
}

/// A result file that is to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewArtifact {
    /// `{node}-{index}-{file}`, unique within the attempt.
    pub name: String,
    /// Such as `image/png`.
    pub media_type: String,
    /// The node of the graph that made it.
    pub node: Option<String>,
    /// What the service called it.
    pub kind: ArtifactType,
    /// Bytes, where known beforehand.
    pub size: Option<u64>,
}

/// Why the host did not do what a run asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// The bytes could not be read where they come from.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The attempt is over, or told to stop: nothing it does counts any more.
    #[error("the attempt is no longer this worker's, or told to stop")]
    Fenced,
    /// There is no such input.
    #[error("input {0:?} is not there")]
    NoSuchInput(String),
    /// Refused, and trying again will not help.
    #[error("refused: {0}")]
    Refused(String),
}

/// What a worker offers to a run. Calls that are not `async` never wait.
#[async_trait]
pub trait RunHost: Send + Sync {
    /// See [`RunContext::started`].
    fn started(&self);
    /// See [`RunContext::progress`].
    fn progress(&self, report: Report);
    /// See [`RunContext::preview`].
    fn preview(&self, preview: Preview);
    /// See [`RunContext::event`].
    fn event(&self);
    /// See [`RunContext::tick`].
    fn tick(&self);
    /// See [`RunContext::stop`].
    fn stop(&self) -> &StopSignal;
    /// See [`RunContext::put_artifact`].
    async fn put_artifact(
        &self,
        artifact: NewArtifact,
        source: &dyn Source,
    ) -> Result<Artifact, HostError>;
    /// See [`RunContext::open_input`].
    async fn open_input(&self, from: &str) -> Result<ByteStream, HostError>;
}

/// A run's way to its worker. Cheap to clone.
#[derive(Clone)]
pub struct RunContext {
    host: Arc<dyn RunHost>,
}

/// How often [`RunContext::ticking`] ticks.
const TICK: Duration = Duration::from_secs(1);

impl RunContext {
    /// A context over a host.
    #[must_use]
    pub fn new(host: Arc<dyn RunHost>) -> Self {
        Self { host }
    }

    /// The service took the job. Calling it again does nothing.
    pub fn started(&self) {
        self.host.started();
    }

    /// How far the run is now.
    pub fn progress(&self, report: Report) {
        self.host.progress(report);
    }

    /// What it looks like now.
    pub fn preview(&self, preview: Preview) {
        self.host.preview(preview);
    }

    /// An event of the service about this job came in, or it was found waiting there; ticks too.
    pub fn event(&self) {
        self.host.event();
    }

    /// The run is alive. See [`Connector::run`](crate::Connector::run).
    pub fn tick(&self) {
        self.host.tick();
    }

    /// Whether, and why, the run shall stop.
    #[must_use]
    pub fn stop(&self) -> &StopSignal {
        self.host.stop()
    }

    /// Stores a result file under the attempt's token. Tries again for as long as the broker does not
    /// take it, or the source is [unreadable](SourceError::Unreadable), and the attempt is not told to
    /// stop; ticks meanwhile, and tells why it waits.
    ///
    /// # Errors
    /// [`HostError`]; it is then not stored.
    pub async fn put_artifact(
        &self,
        artifact: NewArtifact,
        source: &dyn Source,
    ) -> Result<Artifact, HostError> {
        self.host.put_artifact(artifact, source).await
    }

    /// Opens a file that the job brings: `sha256:…`, `artifact:JOB/NAME` or `data:…`. Tries again as
    /// [`RunContext::put_artifact`] does.
    ///
    /// # Errors
    /// [`HostError`].
    pub async fn open_input(&self, from: &str) -> Result<ByteStream, HostError> {
        self.host.open_input(from).await
    }

    /// Waits for `work`, which must be **bounded in time by itself**, and ticks meanwhile.
    pub async fn ticking<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            self.tick();
            if let Ok(done) = tokio::time::timeout(TICK, &mut work).await {
                return done;
            }
        }
    }
}
