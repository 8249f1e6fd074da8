use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::client::status_error;
use crate::error::{excerpt, is_html};
use crate::{RequestError, json};

/// What `POST /prompt` is asked to run.
#[derive(Debug, Clone, Serialize)]
pub struct Submission<'a> {
    /// The graph in API format.
    #[serde(rename = "prompt")]
    pub graph: &'a Value,
    /// The id that the prompt shall have. Choose it before submitting, because events may come before the answer.
    /// Only a lowercase UUID in canonical form is taken by every version (ComfyUI docs/source).
    pub prompt_id: &'a str,
    /// The websocket that gets the messages. Without one nobody gets most of them.
    pub client_id: &'a str,
    /// `extra_data`, such as `extra_pnginfo`; the service adds the client_id to it.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub extra_data: &'a Map<String, Value>,
}

/// The answer to an accepted submission.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct SubmitReply {
    /// The prompt's id.
    pub prompt_id: String,
    /// Its place in the order; lower runs first.
    pub number: f64,
    /// Not empty when **only a part of the graph will run**: outputs that failed validation were dropped.
    #[serde(default)]
    pub node_errors: NodeErrors,
}

/// Node id → what is wrong with it.
pub type NodeErrors = BTreeMap<String, NodeError>;

/// What is wrong with one node.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NodeError {
    /// Everything that is wrong.
    pub errors: Vec<ValidationError>,
    /// Output nodes that cannot run because of it.
    pub dependent_outputs: Vec<String>,
    /// Class of the node.
    pub class_type: String,
}

/// One thing that is wrong.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ValidationError {
    /// Stable name, such as `value_not_in_list`.
    #[serde(rename = "type")]
    pub kind: String,
    /// For people.
    pub message: String,
    /// For people; often the name of the input.
    pub details: String,
    /// By type: `input_name`, `input_config`, `received_value`, …
    pub extra_info: Map<String, Value>,
}

impl ValidationError {
    /// The input that the error is about.
    #[must_use]
    pub fn input_name(&self) -> Option<&str> {
        self.extra_info.get("input_name").and_then(Value::as_str)
    }

    /// The value that was refused.
    #[must_use]
    pub fn received_value(&self) -> Option<&Value> {
        self.extra_info.get("received_value")
    }
}

/// Why validation refused a graph (status 400).
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Rejection {
    /// What is wrong with the whole.
    pub error: ValidationError,
    /// What is wrong with its nodes; empty when the whole could not be looked at.
    #[serde(default)]
    pub node_errors: NodeErrors,
}

/// A submission was not confirmed.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// Validation refused the graph. See [`crate::classify::rejection`] for whose fault it is.
    #[error("graph refused: {} ({})", .0.error.message, .0.error.kind)]
    Rejected(Box<Rejection>),
    /// The body is larger than the service takes; 100 MB unless configured (recorded on both versions).
    #[error("graph too large for the service: {bytes} bytes")]
    TooLarge {
        /// Size of the body that was sent.
        bytes: usize,
    },
    /// Another status that means "no" (3xx, 4xx), and no page of a proxy that finds nothing behind it: wrong address,
    /// or a proxy or custom node that refuses.
    #[error("submission refused with {status}: {body}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The beginning of the body.
        body: String,
    },
    /// The submission was not sent: no connection could be made.
    #[error("service not reachable: {reason}")]
    Unreachable {
        /// Why.
        reason: String,
    },
    /// **Nobody knows whether the prompt was accepted**: the answer did not come, broke off, made no sense, was a
    /// fault of the service (5xx), or is a page for people, whatever its status. Read the truth under the prompt_id, or cancel it, before running it elsewhere.
    /// After every other error it surely does not run, and never will.
    #[error("no confirmed answer to the submission")]
    Unknown(#[source] RequestError),
}

impl From<RequestError> for SubmitError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Unreachable { reason, .. } => Self::Unreachable { reason },
            error if error.is_page() => Self::Unknown(error),
            RequestError::Status { status, body }
                if status.is_client_error() || status.is_redirection() =>
            {
                Self::Refused { status: status.as_u16(), body }
            }
            other => Self::Unknown(other),
        }
    }
}

/// Reads the whole answer to `POST /prompt`.
pub(crate) fn read_answer(
    status: u16,
    body: &[u8],
    sent_bytes: usize,
) -> Result<SubmitReply, SubmitError> {
    match status {
        413 => Err(SubmitError::TooLarge { bytes: sent_bytes }),
        _ if is_html(body) => Err(status_error(status, body).into()),
        200 => {
            json::read(body).map_err(|error| SubmitError::Unknown(RequestError::malformed(error)))
        }
        400 => Err(match json::read(body) {
            Ok(rejection) => SubmitError::Rejected(Box::new(rejection)),
            Err(_) => SubmitError::Refused { status, body: excerpt(body) },
        }),
        _ => Err(status_error(status, body).into()),
    }
}
