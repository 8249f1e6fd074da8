use futures::StreamExt as _;
use pointsman_comfyui::{RequestError, UploadReply, graph};
use pointsman_core::{Failure, FailureKind, LossReason, record::InputRef};
use reqwest::{Body, StatusCode};
use serde_json::Value;

use super::run::Run;
use crate::{HostError, RunEnd};

/// Where uploaded files lie below ComfyUI's `input`. The same for all jobs, because a file of
/// another name is another input to ComfyUI's cache; it keeps different files of one name apart.
const SUBFOLDER: &str = "pointsman";

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
        let context = self.context.clone();
        let bytes = self.context.open_input(&input.from).await.map_err(|e| not_there(input, e))?;
        let ticking = bytes.inspect(move |_| context.tick());
        let client = &self.connector.client;
        let upload = client.upload_image(SUBFOLDER, &input.name, Body::wrap_stream(ticking));
        let limit = self.connector.settings.pace.upload;
        let upload = tokio::time::timeout(limit, upload);
        match self.context.ticking(upload).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => Err(refused(input, &error)),
            Err(_) => Err(RunEnd::gave_back(
                LossReason::ServiceLost,
                format!("the upload of {:?} took longer than {} s", input.name, limit.as_secs()),
            )),
        }
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
    match error {
        HostError::NoSuchInput(_) => bad_job("input_missing", input, error),
        HostError::Fenced => RunEnd::Cancelled,
        HostError::Source(_) | HostError::Refused(_) => {
            RunEnd::gave_back(LossReason::Unstarted, format!("input {:?}: {error}", input.name))
        }
    }
}

fn refused(input: &InputRef, error: &RequestError) -> RunEnd {
    match error {
        RequestError::Status { status: StatusCode::PAYLOAD_TOO_LARGE, .. } => {
            bad_job("input_too_large", input, "the service takes no file of this size")
        }
        RequestError::Status { .. } | RequestError::Malformed { .. } => {
            let message = format!("input {:?}: {error}", input.name);
            Failure::new(FailureKind::ServiceFault, "upload_refused", message).into()
        }
        _ => RunEnd::gave_back(LossReason::Unstarted, format!("input {:?}: {error}", input.name)),
    }
}

fn bad_job(code: &str, input: &InputRef, why: impl std::fmt::Display) -> RunEnd {
    let message = format!("input {:?}: {why}", input.name);
    let node = Some(input.node.clone());
    Failure { node, ..Failure::new(FailureKind::BadJob, code, message) }.into()
}
