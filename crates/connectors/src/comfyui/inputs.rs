use std::{
    pin::pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use parking_lot::Mutex;
use pointsman_comfyui::{RequestError, UploadReply, classify, graph};
use pointsman_core::{Failure, FailureKind, LossReason, hex, record::InputRef};
use reqwest::{Body, StatusCode};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::{ears::settled, run::Run};
use crate::{ByteStream, HostError, RunEnd, SourceError};

/// Where uploaded files lie below ComfyUI's `input`, each in a folder named by its content: an equal
/// one of another job is the same input to ComfyUI's cache, and a different one of the same name is
/// not in its way. ComfyUI compares an upload with every file of its name, one after the other, and
/// answers nothing meanwhile (ComfyUI source).
const FOLDER: &str = "pointsman";
/// Hex digits of the SHA-256 that name a folder.
const DIGITS: usize = 16;
/// Bytes of a transfer that are one move.
const PIECE: usize = 64 << 10;
const TICK: Duration = Duration::from_secs(1);

impl Run<'_> {
    /// Uploads the files that the job brings, and puts their names into the graph.
    pub(super) async fn bring_inputs(&mut self) -> Result<(), RunEnd> {
        for input in &self.task.job.spec.inputs {
            check(input)?;
            let uploaded = self.unless_stopped(self.upload(input)).await??;
            let value = Value::String(uploaded.input_value());
            graph::set_input(&mut self.graph, &input.node, &input.field, value)
                .map_err(|error| bad_job("unknown_node", input, error))?;
        }
        Ok(())
    }

    /// Again where a proxy answered in ComfyUI's place, which says nothing of the file and passes.
    async fn upload(&self, input: &InputRef) -> Result<UploadReply, RunEnd> {
        let folder = format!("{FOLDER}/{}", self.digest(input).await?);
        let pace = &self.connector.settings.pace;
        let (begin, mut pause) = (Instant::now(), pace.reconnect);
        loop {
            let error = match self.upload_once(&folder, input).await? {
                Ok(uploaded) => return Ok(uploaded),
                Err(error) => error,
            };
            if !error.is_proxys() {
                return Err(self.refused(input, &error).await);
            }
            if begin.elapsed() + pause > pace.cut_off_after {
                let message = format!("input {:?}: {error}", input.name);
                return Err(match self.is_there().await {
                    true => service_fault("upload_refused", message),
                    false => RunEnd::gave_back(LossReason::ServiceLost, message),
                });
            }
            self.context.ticking(tokio::time::sleep(pause)).await;
            pause *= 2;
        }
    }

    async fn upload_once(
        &self,
        folder: &str,
        input: &InputRef,
    ) -> Result<Result<UploadReply, RequestError>, RunEnd> {
        let broken = Arc::new(OnceLock::new());
        let tell = broken.clone();
        let moves = Arc::new(Moves::new());
        let bytes = self.open(input, &moves).await?.inspect_err(move |error| {
            drop(tell.set(error.to_string()));
        });
        let client = &self.connector.client;
        let upload = client.upload_image(folder, &input.name, Body::wrap_stream(bytes));
        let uploaded = self.while_it_moves(input, &moves, upload).await?;
        match (&uploaded, broken.get()) {
            (Err(_), Some(why)) => {
                Err(not_there(input, SourceError::Unreadable(why.clone()).into()))
            }
            _ => Ok(uploaded),
        }
    }

    /// Of what fails in it ComfyUI says nothing, and writes it to its log.
    async fn refused(&self, input: &InputRef, error: &RequestError) -> RunEnd {
        const FAILED: StatusCode = StatusCode::INTERNAL_SERVER_ERROR;
        let mut end = refused(input, error);
        let RunEnd::Failed(failure) = &mut end else { return end };
        if !matches!(error, RequestError::Status { status: FAILED, .. }) {
            return end;
        }
        let logs = self.context.ticking(self.connector.client.logs_raw()).await;
        let Some(raised) = logs.ok().and_then(|logs| logs.request_error()) else {
            failure.message.push_str("; its log may say why");
            return end;
        };
        let mut classified = classify::execution_error(&raised);
        failure.message.push_str(&format!("; its log says: {}", classified.message));
        if [classify::DISK_FULL, classify::DISK_FAILED].contains(&&*classified.code) {
            classified.message = failure.message.clone();
            return self.connector.failure(&self.prompt_id, classified).into();
        }
        end
    }

    /// The beginning of the SHA-256 of an input; where its `from` does not say it, it is read for it.
    async fn digest(&self, input: &InputRef) -> Result<String, RunEnd> {
        if let Some(sha256) = input.from.strip_prefix("sha256:") {
            return Ok(sha256.chars().take(DIGITS).collect());
        }
        let moves = Arc::new(Moves::new());
        let hash = self
            .open(input, &moves)
            .await?
            .try_fold(Sha256::new(), async |hash, chunk| Ok(hash.chain_update(chunk)));
        let hash = self
            .while_it_moves(input, &moves, hash)
            .await?
            .map_err(|error| not_there(input, SourceError::Unreadable(error.to_string()).into()))?;
        Ok(hex::encode(hash.finalize())[..DIGITS].to_owned())
    }

    /// Waits for a transfer for as long as it moves, and where it does not for as long as a stall
    /// takes: ComfyUI's process may be held up by somebody's prompt, and its host takes connections
    /// then. One that is dead, or whose host is gone, is given up sooner.
    async fn while_it_moves<T>(
        &self,
        input: &InputRef,
        moves: &Moves,
        transfer: impl Future<Output = T>,
    ) -> Result<T, RunEnd> {
        let client = &self.connector.client;
        let quiet = self.connector.settings.pace.upload_quiet;
        let lost = |why: String| {
            let message = format!("the upload of {:?} broke off: {why}", input.name);
            Err(RunEnd::gave_back(LossReason::ServiceLost, message))
        };
        let mut transfer = pin!(transfer);
        let (mut look, mut look_at, mut dead_since) = (None, Instant::now() + quiet, None);
        loop {
            self.context.tick();
            tokio::select! {
                biased;
                done = &mut transfer => return Ok(done),
                answer = settled(&mut look) => match self.gone_after(answer) {
                    Some((gone_after, error)) => {
                        let since = *dead_since.get_or_insert_with(Instant::now);
                        if since.elapsed() >= gone_after {
                            return lost(format!("the service is gone: {error}"));
                        }
                    }
                    None => dead_since = None,
                },
                () = tokio::time::sleep(TICK.min(quiet)) => {}
            }
            let idle = moves.idle();
            if idle >= self.task.limits.stall_after {
                return lost(format!("ComfyUI took nothing more of it for {} s", idle.as_secs()));
            }
            if idle < quiet {
                dead_since = None;
            } else if look.is_none() && Instant::now() >= look_at {
                look_at = Instant::now() + quiet;
                let client = client.clone();
                look = Some(async move { client.queue_remaining().await }.boxed());
            }
        }
    }

    /// After how long of such answers alone, while nothing moves, the service is gone.
    fn gone_after(&self, answer: Result<u64, RequestError>) -> Option<(Duration, RequestError)> {
        let error = answer.err()?;
        let gone_after = match error {
            RequestError::Unreachable { refused: false, .. } => {
                self.connector.settings.timeouts.unconfirmed
            }
            _ => self.dead_after(&error)?,
        };
        Some((gone_after, error))
    }

    /// The bytes of an input, in pieces: `moves` is told when the other side has room for another.
    async fn open(&self, input: &InputRef, moves: &Arc<Moves>) -> Result<ByteStream, RunEnd> {
        let bytes = self.context.open_input(&input.from).await.map_err(|e| not_there(input, e))?;
        moves.now();
        let moves = moves.clone();
        let pieces = bytes.map_ok(|chunk| stream::iter(pieces(chunk).map(Ok))).try_flatten();
        Ok(pieces.inspect(move |_| moves.now()).boxed())
    }
}

/// When a transfer last moved.
struct Moves(Mutex<Instant>);

impl Moves {
    fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    fn now(&self) {
        *self.0.lock() = Instant::now();
    }

    fn idle(&self) -> Duration {
        self.0.lock().elapsed()
    }
}

fn pieces(mut chunk: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let piece = chunk.split_to(PIECE.min(chunk.len()));
        (!piece.is_empty()).then_some(piece)
    })
}

fn check(input: &InputRef) -> Result<(), RunEnd> {
    let name = input.name.as_str();
    let plain = !name.contains(['/', '\\', '\0']) && !matches!(name, "" | "." | "..");
    if !plain {
        return Err(bad_job("invalid_input", input, "its name is not a plain file name"));
    }
    match graph::folder_annotation(name) {
        None => Ok(()),
        Some(folder) => {
            let why = format!("its name ends in {folder}, by which ComfyUI looks in that folder");
            Err(bad_job("invalid_input", input, why))
        }
    }
}

fn not_there(input: &InputRef, error: HostError) -> RunEnd {
    let message = format!("input {:?}: {error}", input.name);
    match error {
        HostError::NoSuchInput(_) => bad_job("input_missing", input, error),
        HostError::Fenced => RunEnd::Cancelled,
        HostError::Refused(_) => service_fault("input_refused", message),
        HostError::Source(_) => RunEnd::gave_back(LossReason::Unstarted, message),
    }
}

fn refused(input: &InputRef, error: &RequestError) -> RunEnd {
    let message = format!("input {:?}: {error}", input.name);
    match error {
        RequestError::Status { status: StatusCode::PAYLOAD_TOO_LARGE, .. } => {
            bad_job("input_too_large", input, "the service takes no file of this size")
        }
        RequestError::Status { .. }
        | RequestError::Malformed { .. }
        | RequestError::TooLarge { .. } => service_fault("upload_refused", message),
        RequestError::Unreachable { .. } => RunEnd::gave_back(LossReason::Unstarted, message),
        // Not free of charge: what breaks off one upload may break off each.
        RequestError::AnswerLost { .. } | RequestError::TimedOut { .. } => {
            RunEnd::gave_back(LossReason::ServiceLost, message)
        }
    }
}

fn service_fault(code: &str, message: String) -> RunEnd {
    Failure::new(FailureKind::ServiceFault, code, message).into()
}

fn bad_job(code: &str, input: &InputRef, why: impl std::fmt::Display) -> RunEnd {
    let message = format!("input {:?}: {why}", input.name);
    let node = Some(input.node.clone());
    Failure { node, ..Failure::new(FailureKind::BadJob, code, message) }.into()
}
