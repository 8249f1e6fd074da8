//! A host for tests that writes down what a run told it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use parking_lot::Mutex;
use pointsman_core::{
    JobId, ServiceName, Timestamp, Token,
    command::Held,
    record::{Artifact, Job, JobSpec},
};
use uuid::Uuid;

use crate::{
    ByteStream, HostError, Limits, NewArtifact, Preview, Report, RunContext, RunHost, Source,
    SourceError, StopSignal, Task,
};

/// Everything that a run said.
#[derive(Default)]
pub struct Witness {
    pub started: AtomicU32,
    pub ticks: AtomicU32,
    pub events: AtomicU32,
    pub reports: Mutex<Vec<Report>>,
    pub previews: Mutex<Vec<Preview>>,
    pub artifacts: Mutex<Vec<(Artifact, Bytes)>>,
    pub inputs: Mutex<Vec<(String, Bytes)>>,
    /// Inputs break off within.
    pub inputs_break: AtomicBool,
    /// They come byte by byte, each so much later.
    pub inputs_pause_ms: AtomicU64,
    pub stop: StopSignal,
}

impl Witness {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn context(self: &Arc<Self>) -> RunContext {
        RunContext::new(self.clone())
    }
}

#[async_trait]
impl RunHost for Witness {
    fn started(&self) {
        self.started.fetch_add(1, Ordering::SeqCst);
    }
    fn progress(&self, report: Report) {
        self.reports.lock().push(report);
    }
    fn preview(&self, preview: Preview) {
        self.previews.lock().push(preview);
    }
    fn event(&self) {
        self.events.fetch_add(1, Ordering::SeqCst);
    }
    fn tick(&self) {
        self.ticks.fetch_add(1, Ordering::SeqCst);
    }
    fn stop(&self) -> &StopSignal {
        &self.stop
    }
    async fn put_artifact(
        &self,
        artifact: NewArtifact,
        source: &dyn Source,
    ) -> Result<Artifact, HostError> {
        let bytes = loop {
            match read(source).await {
                Ok(bytes) => break bytes,
                Err(SourceError::Unreadable(_)) if self.stop.reason().is_none() => {}
                Err(SourceError::Unreadable(_)) => return Err(HostError::Fenced),
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let stored = Artifact {
            name: artifact.name,
            size: bytes.len() as u64,
            media_type: artifact.media_type,
            sha256: "0".repeat(64),
            node: artifact.node,
            kind: artifact.kind,
        };
        self.artifacts.lock().push((stored.clone(), bytes));
        Ok(stored)
    }
    async fn open_input(&self, from: &str) -> Result<ByteStream, HostError> {
        let inputs = self.inputs.lock();
        let found = inputs.iter().find(|(name, _)| name == from);
        if found.is_some() && self.inputs_break.load(Ordering::SeqCst) {
            let broken = Err(std::io::Error::other("the broker went away"));
            return Ok(futures::stream::iter([Ok(Bytes::from_static(b"x")), broken]).boxed());
        }
        let (_, bytes) = found.ok_or_else(|| HostError::NoSuchInput(from.to_owned()))?;
        match self.inputs_pause_ms.load(Ordering::SeqCst) {
            0 => Ok(crate::one_chunk(bytes.clone())),
            pause => Ok(slowly(bytes.clone(), Duration::from_millis(pause))),
        }
    }
}

fn slowly(bytes: Bytes, pause: Duration) -> ByteStream {
    let pieces = (0..bytes.len()).map(move |at| Ok(bytes.slice(at..=at)));
    let pieces = futures::stream::iter(pieces).then(move |piece| async move {
        tokio::time::sleep(pause).await;
        piece
    });
    pieces.boxed()
}

async fn read(source: &dyn Source) -> Result<Bytes, SourceError> {
    let chunks = source.open().await?.try_collect::<Vec<Bytes>>().await;
    let chunks = chunks.map_err(|error| SourceError::Unreadable(error.to_string()))?;
    Ok(Bytes::from(chunks.concat()))
}

/// A first attempt at a job with this payload.
pub fn task(service: &str, payload: impl Into<Bytes>) -> Task {
    let held = Held {
        job: JobId::from_uuid(Uuid::new_v4()),
        attempt: 1,
        token: Token::from_uuid(Uuid::new_v4()),
    };
    Task {
        job: Arc::new(job(service, held)),
        held,
        payload: payload.into(),
        limits: Limits::default(),
        adopted: false,
    }
}

fn job(service: &str, held: Held) -> Job {
    let service = ServiceName::new(service).expect("a service's name");
    let spec = JobSpec::new(service, Timestamp::default());
    Job {
        rev: 2,
        place: 1,
        queued_seq: 1,
        attempt: held.attempt,
        token: Some(held.token),
        ..Job::new(held.job, spec)
    }
}
