use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::message::{ExecutionError, Interruption};
use crate::queue::{outputs_to_execute, parse_prompt_tuple};
use crate::{OutputFile, RequestError, json, output_files};

/// What `GET /history/{id}` knows about a prompt that ended. It exists only after the end, and only in the memory of
/// the process that ran it (the newest 10,000; ComfyUI source).
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryEntry {
    /// Place that the prompt had in the order.
    pub number: f64,
    /// Who submitted it.
    pub client_id: Option<String>,
    /// What the submitter wrote into `extra_data.file_tag`: what it put behind the names of the files, so that whoever
    /// reads the history can take it out again.
    pub file_tag: Option<String>,
    /// The output nodes that ran, without those that validation dropped; None where the service does not say.
    pub outputs_to_execute: Option<Vec<String>>,
    /// Node id → what the node put into `ui`: file references, texts, anything.
    ///
    /// 0.27.0 leaves this empty for a cached run without client_id (ComfyUI source; fixed by PR #14939).
    pub outputs: Map<String, Value>,
    /// How it ended; very old versions leave it out.
    pub status: Option<HistoryStatus>,
}

/// How a prompt ended, in ComfyUI's own words. Read it with [`crate::verdict()`], which knows their weight.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct HistoryStatus {
    /// `success` or `error`; an interrupted prompt is `error` too (recording interrupted.json).
    pub status_str: String,
    /// Whether it ran to its end.
    #[serde(default)]
    pub completed: bool,
    /// The messages of the run, as pairs of type and data, without executing, progress and executed.
    #[serde(default)]
    pub messages: Vec<(String, Value)>,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    prompt: Vec<&'a RawValue>,
    #[serde(default)]
    outputs: Map<String, Value>,
    #[serde(default)]
    status: Option<HistoryStatus>,
}

impl HistoryEntry {
    /// Reads the reply of `GET /history/{prompt_id}`: None while the prompt has not ended, and when it is unknown.
    ///
    /// # Errors
    /// [`RequestError::Malformed`] when the reply is not a history.
    pub fn parse(reply: &[u8], prompt_id: &str) -> Result<Option<Self>, RequestError> {
        json::leniently(reply, |reply| Self::parse_strictly(reply, prompt_id))
            .map_err(RequestError::malformed)
    }

    fn parse_strictly(reply: &[u8], prompt_id: &str) -> Result<Option<Self>, serde_json::Error> {
        let mut entries: std::collections::HashMap<String, &RawValue> =
            serde_json::from_slice(reply)?;
        let Some(raw) = entries.remove(prompt_id) else {
            return Ok(None);
        };
        let wire: Wire<'_> = serde_json::from_str(raw.get())?;
        let ((number, _), extra) = parse_prompt_tuple(&wire.prompt)?;
        Ok(Some(Self {
            number,
            client_id: extra.client_id,
            file_tag: extra.file_tag,
            outputs_to_execute: outputs_to_execute(&wire.prompt),
            outputs: wire.outputs,
            status: wire.status,
        }))
    }

    /// Every file that the outputs refer to.
    #[must_use]
    pub fn output_files(&self) -> Vec<OutputFile> {
        output_files(&self.outputs)
    }

    /// The nodes whose result was taken from the cache, in ComfyUI's order.
    #[must_use]
    pub fn cached_nodes(&self) -> Vec<&str> {
        let nodes = self
            .message("execution_cached")
            .and_then(|data| data.get("nodes"))
            .and_then(Value::as_array);
        nodes.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// The fatal error of the run, if a node raised one.
    #[must_use]
    pub fn execution_error(&self) -> Option<ExecutionError> {
        self.message("execution_error").map(ExecutionError::from_data)
    }

    /// What stopped the run, if it was interrupted.
    #[must_use]
    pub fn interruption(&self) -> Option<Interruption> {
        self.message("execution_interrupted").map(Interruption::from_data)
    }

    /// The data of the first message of this type.
    pub(crate) fn message(&self, kind: &str) -> Option<&Value> {
        let messages = &self.status.as_ref()?.messages;
        messages.iter().find(|(found, _)| found == kind).map(|(_, data)| data)
    }
}
