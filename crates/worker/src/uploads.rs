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
/// The same where the attempt is told to stop: then it is given up.
const STOPPED_IDLE: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_secs(1);

/// Stores a result file, trying until the broker has answered, or the attempt is told to stop: so
/// also no longer than the total limit. Being refused is no reason to drop what a finished job made:
/// the token may be mended on the other side; nor is a file that its service does not hand over now.
/// Why it waits is told in the progress.
pub(crate) async fn put_artifact(
    shared: &Arc<Shared>,
    attempt: &Attempt,
    artifact: NewArtifact,
    source: &dyn Source,
) -> Result<Artifact, HostError> {
    let mut backoff = Backoff::new(&shared.config.timings);
    let mut remark = attempt.remark();
    loop {
        attempt.tick();
        let watch = Arc::new(Watch::default());
        let call = async {
            let stream = watched(source.open().await?, &watch);
            let stored = shared.broker.put_artifact(attempt.held(), artifact.clone(), stream);
            Ok::<_, NotStored>(stored.await?)
        };
        let why = match moving(attempt, &watch, call).await {
            Ok(StoredFile { size, sha256 }) => {
                remark.take_back();
                return Ok(Artifact {
                    name: artifact.name,
                    size,
                    media_type: artifact.media_type,
                    sha256,
                    node: artifact.node,
                    kind: artifact.kind,
                });
            }
            Err(NotStored::Read(SourceError::Unreadable(why))) => why,
            Err(NotStored::Read(error)) => return Err(error.into()),
            // What the broker says of a stream that broke off tells less.
            Err(NotStored::Sent(error)) => match watch.broken.lock().take() {
                Some(why) => why,
                None => refusal(attempt, error)?,
            },
        };
        let (job, file) = (attempt.held().job, &artifact.name);
        if let Some(reason) = attempt.stop().reason() {
            let becomes = what_becomes(reason);
            tracing::warn!(%job, file, why, "file not stored, and {becomes}");
            return Err(HostError::Fenced);
        }
        if attempt.waits_for(&why) {
            tracing::warn!(%job, file, why, "file not stored yet");
        }
        remark.say(format!("{file} is not stored yet: {why}"));
        pause(attempt, backoff.pause()).await;
    }
}

/// Why a file was not stored.
enum NotStored {
    /// Its service did not hand it over.
    Read(SourceError),
    /// The broker did not take it.
    Sent(BrokerError),
}

impl From<SourceError> for NotStored {
    fn from(error: SourceError) -> Self {
        Self::Read(error)
    }
}

impl From<BrokerError> for NotStored {
    fn from(error: BrokerError) -> Self {
        Self::Sent(error)
    }
}

/// What a stop means for a finished job of which a file is not stored.
fn what_becomes(reason: StopReason) -> &'static str {
    match reason {
        StopReason::Drain => "the worker is leaving: its finished job is given back, to run again",
        StopReason::Timeout => "its job's time is over: the finished result is dropped",
        StopReason::Cancel => "its job is cancelled: the finished result is dropped",
        StopReason::Lost => "the job is no longer this worker's: the finished result is dropped",
    }
}

/// Opens a file that the job brings, trying as [`put_artifact`] does.
pub(crate) async fn open_input(
    shared: &Arc<Shared>,
    attempt: &Attempt,
    from: &str,
) -> Result<ByteStream, HostError> {
    let mut backoff = Backoff::new(&shared.config.timings);
    let mut remark = attempt.remark();
    loop {
        attempt.tick();
        let call = shared.broker.open_input(attempt.held(), from);
        match shared.within(shared.call_limit(), call).await {
            Ok(Some(stream)) => {
                remark.take_back();
                return Ok(stream);
            }
            Ok(None) => return Err(HostError::NoSuchInput(from.to_owned())),
            Err(error) => {
                let why = refusal(attempt, error)?;
                if attempt.waits_for(&why) {
                    tracing::warn!(job = %attempt.held().job, why, "input not brought yet");
                }
                remark.say(format!("an input is not here yet: {why}"));
            }
        }
        if attempt.stop().reason().is_some() {
            return Err(HostError::Fenced);
        }
        pause(attempt, backoff.pause()).await;
    }
}

fn not_let_in(why: &str) -> String {
    format!(
        "the server that keeps files does not let this worker in ({why}); make it take the worker's \
         token again, with the role worker"
    )
}

/// Why to ask again. One is a broker that did not answer; one that does not let this worker in, which
/// may be mended on the other side; and one that does not know the attempt, which in a new epoch it
/// will know once it is taken back. If not, the attempt is told to stop.
fn refusal(attempt: &Attempt, error: BrokerError) -> Result<String, HostError> {
    let is_lost = attempt.stop().reason() == Some(StopReason::Lost);
    match error {
        BrokerError::Rejected(why @ Rejected::UnknownAttempt(_)) if !is_lost => Ok(why.to_string()),
        BrokerError::Rejected(why) if why.may_pass() => Ok(why.to_string()),
        // Where a newer version took the store over, the keeper ends the worker.
        BrokerError::Unreachable(why) | BrokerError::Newer(why) => Ok(why),
        BrokerError::Refused(why) => Ok(not_let_in(&why)),
        BrokerError::Rejected(Rejected::Invalid(why)) => Err(HostError::Refused(why)),
        BrokerError::Rejected(_) => Err(HostError::Fenced),
    }
}

/// What is seen of a stream while somebody else reads it.
#[derive(Default)]
struct Watch {
    chunks: AtomicU64,
    /// Why it broke off.
    broken: Mutex<Option<String>>,
}

fn watched(stream: ByteStream, watch: &Arc<Watch>) -> ByteStream {
    // That it is open is a move, too.
    watch.chunks.fetch_add(1, Ordering::Relaxed);
    let seen = watch.clone();
    let stream = stream.inspect(move |chunk| {
        seen.chunks.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = chunk {
            *seen.broken.lock() = Some(error.to_string());
        }
    });
    stream.boxed()
}

/// Ticks while a transfer moves, and gives it up when it does not.
async fn moving<T, E: From<BrokerError>>(
    attempt: &Attempt,
    watch: &Watch,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
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
        let idle = match attempt.stop().reason() {
            None => TRANSFER_IDLE,
            Some(_) => STOPPED_IDLE,
        };
        if moved.elapsed() >= idle {
            return Err(BrokerError::Unreachable("the transfer stands still".to_owned()).into());
        }
    }
}

async fn pause(attempt: &Attempt, span: Duration) {
    attempt.tick();
    tokio::time::sleep(span).await;
    attempt.tick();
}
