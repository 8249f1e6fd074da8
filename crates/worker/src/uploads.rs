//! Files between a run and the broker.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::StreamExt as _;
use parking_lot::Mutex;
use pointsman_connectors::{
    ByteStream, HostError, NewArtifact, RunHost as _, Source, SourceError, StopReason,
};
use pointsman_core::{Rejected, record::Artifact};
use tokio::time::Instant;

use crate::{
    attempt::Attempt,
    backoff::Backoff,
    broker::{BrokerError, StoredFile},
    shared::Shared,
};

/// A transfer of which nothing was heard for this long is begun again.
const TRANSFER_IDLE: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_secs(1);

/// Stores a result file, trying until the broker has answered. Being refused is no reason to drop
/// what a finished job made: the token may be mended on the other side.
pub(crate) async fn put_artifact(
    shared: &Arc<Shared>,
    attempt: &Attempt,
    artifact: NewArtifact,
    source: &dyn Source,
) -> Result<Artifact, HostError> {
    let mut backoff = Backoff::new(&shared.config.timings);
    loop {
        attempt.tick();
        let (stream, watch) = watched(source.open().await?);
        let call = shared.broker.put_artifact(attempt.held(), artifact.clone(), stream);
        match moving(attempt, &watch, call).await {
            Ok(StoredFile { size, sha256 }) => {
                return Ok(Artifact {
                    name: artifact.name,
                    size,
                    media_type: artifact.media_type,
                    sha256,
                    node: artifact.node,
                    kind: artifact.kind,
                });
            }
            Err(error) => {
                if let Some(broken) = watch.broken.lock().take() {
                    return Err(SourceError::Unreadable(broken).into());
                }
                match error {
                    BrokerError::Refused(why) => until_let_in(attempt, &artifact.name, &why)?,
                    error => refusal(attempt, error)?,
                }
            }
        }
        pause(attempt, backoff.pause()).await;
    }
}

/// Opens a file that the job brings, trying until the broker has answered.
pub(crate) async fn open_input(
    shared: &Arc<Shared>,
    attempt: &Attempt,
    from: &str,
) -> Result<ByteStream, HostError> {
    let mut backoff = Backoff::new(&shared.config.timings);
    loop {
        attempt.tick();
        let call = shared.broker.open_input(attempt.held(), from);
        match shared.within(shared.call_limit(), call).await {
            Ok(Some(stream)) => return Ok(stream),
            Ok(None) => return Err(HostError::NoSuchInput(from.to_owned())),
            Err(error) => refusal(attempt, error)?,
        }
        if attempt.stop().reason().is_some() {
            return Err(HostError::Refused("told to stop".to_owned()));
        }
        pause(attempt, backoff.pause()).await;
    }
}

/// A worker that is not let in asks again as long as its attempt is not told to stop, so also no
/// longer than the total limit.
fn until_let_in(attempt: &Attempt, file: &str, why: &str) -> Result<(), HostError> {
    let job = attempt.held().job;
    if let Some(reason) = attempt.stop().reason() {
        tracing::warn!(%job, file, why, ?reason, "file not stored, and told to stop");
        return Err(HostError::Fenced);
    }
    if attempt.waits_for(why) {
        tracing::warn!(
            %job, file, why,
            "file not stored yet: the server that keeps files does not let this worker in; make it \
             take the worker's token again, with the role worker"
        );
    }
    Ok(())
}

/// Only a broker that did not answer is asked again; and one that does not know the attempt, which
/// in a new epoch it will know once it is taken back. If not, the attempt is told to stop.
fn refusal(attempt: &Attempt, error: BrokerError) -> Result<(), HostError> {
    let is_lost = attempt.stop().reason() == Some(StopReason::Lost);
    let why = match error {
        BrokerError::Rejected(why @ Rejected::UnknownAttempt(_)) if !is_lost => why.to_string(),
        BrokerError::Unreachable(why) => why,
        BrokerError::Refused(why) | BrokerError::Rejected(Rejected::Invalid(why)) => {
            return Err(HostError::Refused(why));
        }
        BrokerError::Rejected(_) => return Err(HostError::Fenced),
    };
    if attempt.waits_for(&why) {
        tracing::warn!(job = %attempt.held().job, why, "file not transferred yet");
    }
    Ok(())
}

/// What is seen of a stream while somebody else reads it.
#[derive(Default)]
struct Watch {
    chunks: AtomicU64,
    /// Why it broke off.
    broken: Mutex<Option<String>>,
}

fn watched(stream: ByteStream) -> (ByteStream, Arc<Watch>) {
    let watch = Arc::new(Watch::default());
    let seen = watch.clone();
    let stream = stream.inspect(move |chunk| {
        seen.chunks.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = chunk {
            *seen.broken.lock() = Some(error.to_string());
        }
    });
    (stream.boxed(), watch)
}

/// Ticks while a transfer moves, and gives it up when it does not.
async fn moving<T>(
    attempt: &Attempt,
    watch: &Watch,
    call: impl Future<Output = Result<T, BrokerError>>,
) -> Result<T, BrokerError> {
    let mut call = pin!(call);
    let (mut chunks, mut moved) = (0, Instant::now());
    loop {
        attempt.tick();
        if let Ok(answer) = tokio::time::timeout(TICK, &mut call).await {
            return answer;
        }
        let now = watch.chunks.load(Ordering::Relaxed);
        if now != chunks {
            (chunks, moved) = (now, Instant::now());
        }
        if moved.elapsed() >= TRANSFER_IDLE {
            return Err(BrokerError::Unreachable("the transfer stands still".to_owned()));
        }
    }
}

async fn pause(attempt: &Attempt, span: Duration) {
    attempt.tick();
    tokio::time::sleep(span).await;
    attempt.tick();
}
