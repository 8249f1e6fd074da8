//! A finished file, read from ComfyUI for as often as it takes to store it.

use std::{io, sync::Arc};

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _};
use parking_lot::Mutex;
use pointsman_comfyui::{OutputFile, RequestError, Verdict, graph};
use reqwest::StatusCode;
use tokio::time::Instant;

use super::{ComfyUiConnector, run::Run};
use crate::{ByteStream, Source, SourceError};

/// A file at ComfyUI.
pub(super) struct Fetched<'a> {
    run: &'a Run<'a>,
    file: &'a OutputFile,
    /// The node that names it did not run, so it was written before.
    cached: bool,
    reads: Arc<Mutex<Reads>>,
}

/// How reading it went so far.
struct Reads {
    /// The last try was not read to its end, and the service is why.
    broke: bool,
    /// What the service said then.
    why: String,
    /// The bytes that the best try brought.
    furthest: u64,
    /// When a try last got further, or was not the service's to break.
    moved: Instant,
    /// The service has been dead since.
    dead_since: Option<Instant>,
}

impl Reads {
    fn new() -> Arc<Mutex<Self>> {
        let why = "no answer".to_owned();
        let moved = Instant::now();
        Arc::new(Mutex::new(Self { broke: false, why, furthest: 0, moved, dead_since: None }))
    }

    /// Another try begins; it broke unless it says otherwise, also when it is dropped. Whether the last
    /// one did.
    fn begin(&mut self) -> bool {
        let broke = std::mem::replace(&mut self.broke, true);
        if !broke {
            self.moved = Instant::now();
        }
        broke
    }

    fn read(&mut self, bytes: u64) {
        if bytes > self.furthest {
            (self.furthest, self.moved) = (bytes, Instant::now());
        }
    }

    fn failed(&mut self, error: &RequestError) {
        (self.broke, self.why) = (true, error.to_string());
    }
}

impl<'a> Fetched<'a> {
    pub(super) fn new(run: &'a Run<'a>, file: &'a OutputFile, cached: bool) -> Self {
        Self { run, file, cached, reads: Reads::new() }
    }

    /// A failed read is no news, unless the service is dead or does not know the prompt any more.
    async fn check_not_lost(&self) -> Result<(), SourceError> {
        let error = match self.run.connector.client.truth(&self.run.prompt_id).await {
            Ok(truth) if truth.verdict == Verdict::Lost => {
                let why = "the service restarted, or somebody deleted the prompt";
                return Err(SourceError::Lost(why.to_owned()));
            }
            Ok(_) => None,
            Err(error) => Some(error),
        };
        let dead = error.and_then(|error| Some((self.run.dead_after(&error)?, error)));
        let mut reads = self.reads.lock();
        let Some((dead_after, error)) = dead else {
            reads.dead_since = None;
            return Ok(());
        };
        match reads.dead_since.get_or_insert_with(Instant::now).elapsed() >= dead_after {
            true => Err(SourceError::Lost(format!("the service is gone: {error}"))),
            false => Ok(()),
        }
    }

    /// A service that never hands the file over would hold the slot for ever.
    fn check_not_stalled(&self) -> Result<(), SourceError> {
        let reads = self.reads.lock();
        let stalled = reads.moved.elapsed();
        if stalled < self.run.task.limits.stall_after {
            return Ok(());
        }
        let (seconds, why) = (stalled.as_secs(), &reads.why);
        Err(SourceError::Stalled(format!("nothing more of it came for {seconds} s ({why})")))
    }
}

#[async_trait]
impl Source for Fetched<'_> {
    /// It is open when the first of its bytes is here.
    async fn open(&self) -> Result<ByteStream, SourceError> {
        let Self { run, file, cached, reads } = self;
        if !graph::can_be_fetched(&file.filename) {
            let why = "ComfyUI hands over no file with a control character in its name";
            return Err(SourceError::Refused(why.to_owned()));
        }
        let ComfyUiConnector { client, written, .. } = run.connector;
        let broke = reads.lock().begin();
        if broke {
            self.check_not_lost().await?;
            self.check_not_stalled()?;
        }
        let failed = |error: RequestError| {
            reads.lock().failed(&error);
            not_opened(error)
        };
        let mut stream = client.view_output(file).await.map_err(failed)?;
        if !cached {
            written.note(file, stream.version.as_deref());
        } else if !written.is_as_written(file, stream.version.as_deref()) {
            return Err(SourceError::Gone);
        }
        let first = stream.try_next().await.map_err(failed)?;
        reads.lock().broke = false;
        let (reads, mut bytes) = (reads.clone(), 0);
        let chunks = futures::stream::iter(first.map(Ok)).chain(stream).map(move |chunk| {
            match &chunk {
                Ok(chunk) => {
                    bytes += chunk.len() as u64;
                    reads.lock().read(bytes);
                }
                Err(error) => reads.lock().failed(error),
            }
            chunk.map_err(io::Error::other)
        });
        Ok(chunks.boxed())
    }
}

/// ComfyUI refuses what is in none of its folders; that does not pass.
fn not_opened(error: RequestError) -> SourceError {
    const MAY_PASS: [StatusCode; 2] = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    let message = error.to_string();
    match error {
        // A proxy's answer before a ComfyUI that is not there; of the file it says nothing.
        error if error.is_page() || error.is_login() => SourceError::Unreadable(message),
        RequestError::Status { status: StatusCode::NOT_FOUND, .. } => SourceError::Gone,
        RequestError::Status { status, .. }
            if status.is_client_error() && !MAY_PASS.contains(&status) =>
        {
            SourceError::Refused(message)
        }
        // Not the job's fault, and it does not pass either.
        RequestError::Status { status, .. } if status.is_redirection() => {
            SourceError::Stalled(message)
        }
        _ => SourceError::Unreadable(message),
    }
}
