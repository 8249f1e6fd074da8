use std::sync::{Arc, OnceLock};

use futures::{StreamExt as _, TryStreamExt as _};
use pointsman_comfyui::{RequestError, UploadReply, graph};
use pointsman_core::{Failure, FailureKind, LossReason, hex, record::InputRef};
use reqwest::{Body, StatusCode};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::run::Run;
use crate::{ByteStream, HostError, RunEnd, SourceError};

/// Where uploaded files lie below ComfyUI's `input`, each in a folder named by its content: an equal
/// one of another job is the same input to ComfyUI's cache, and a different one of the same name is
/// not in its way. ComfyUI compares an upload with every file of its name, one after the other, and
/// answers nothing meanwhile (ComfyUI source).
const FOLDER: &str = "pointsman";
/// Hex digits of the SHA-256 that name a folder.
const DIGITS: usize = 16;

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

    async fn upload(&self, input: &InputRef) -> Result<UploadReply, RunEnd> {
        let folder = format!("{FOLDER}/{}", self.digest(input).await?);
        let broken = Arc::new(OnceLock::new());
        let tell = broken.clone();
        let bytes = self.open(input).await?.inspect_err(move |error| {
            drop(tell.set(error.to_string()));
        });
        let client = &self.connector.client;
        let upload = client.upload_image(&folder, &input.name, Body::wrap_stream(bytes));
        self.in_time(input, upload).await?.map_err(|error| match broken.get() {
            Some(why) => not_there(input, SourceError::Unreadable(why.clone()).into()),
            None => refused(input, &error),
        })
    }

    /// The beginning of the SHA-256 of an input; where its `from` does not say it, it is read for it.
    async fn digest(&self, input: &InputRef) -> Result<String, RunEnd> {
        if let Some(sha256) = input.from.strip_prefix("sha256:") {
            return Ok(sha256.chars().take(DIGITS).collect());
        }
        let hash = self
            .open(input)
            .await?
            .try_fold(Sha256::new(), async |hash, chunk| Ok(hash.chain_update(chunk)));
        let hash = self
            .in_time(input, hash)
            .await?
            .map_err(|error| not_there(input, SourceError::Unreadable(error.to_string()).into()))?;
        Ok(hex::encode(hash.finalize())[..DIGITS].to_owned())
    }

    async fn in_time<T>(
        &self,
        input: &InputRef,
        transfer: impl Future<Output = T>,
    ) -> Result<T, RunEnd> {
        let limit = self.connector.settings.pace.upload;
        let transfer = tokio::time::timeout(limit, transfer);
        self.context.ticking(transfer).await.map_err(|_| {
            let message =
                format!("the upload of {:?} took longer than {} s", input.name, limit.as_secs());
            RunEnd::gave_back(LossReason::ServiceLost, message)
        })
    }

    async fn open(&self, input: &InputRef) -> Result<ByteStream, RunEnd> {
        let context = self.context.clone();
        let bytes = self.context.open_input(&input.from).await.map_err(|e| not_there(input, e))?;
        Ok(bytes.inspect(move |_| context.tick()).boxed())
    }
}

fn check(input: &InputRef) -> Result<(), RunEnd> {
    let name = input.name.as_str();
    let plain = !name.contains(['/', '\\', '\0']) && !matches!(name, "" | "." | "..");
    match plain {
        true => Ok(()),
        false => Err(bad_job("invalid_input", input, "its name is not a plain file name")),
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
