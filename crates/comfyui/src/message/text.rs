use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::json;

use super::{
    ExecutionError, FrameError, Interruption, LogsData, Message, NodeProgress, parts::number,
};

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(default, borrow)]
    data: Option<&'a RawValue>,
}

/// Reads `{"type": …, "data": …}`.
pub(super) fn parse(frame: &str) -> Result<Message, FrameError> {
    json::leniently(frame.as_bytes(), parse_strictly)
}

fn parse_strictly(frame: &[u8]) -> Result<Message, FrameError> {
    let envelope: Envelope<'_> = serde_json::from_slice(frame)
        .map_err(|error| FrameError::Text { kind: "untyped".into(), reason: error.to_string() })?;
    let data = envelope.data.map_or("null", RawValue::get);
    parse_data(&envelope.kind, data).map_err(|error| FrameError::Text {
        kind: envelope.kind.into_owned(),
        reason: error.to_string(),
    })
}

fn parse_data(kind: &str, data: &str) -> Result<Message, serde_json::Error> {
    Ok(match kind {
        "status" => status(read(data)?),
        "feature_flags" => Message::FeatureFlags(read::<Map<String, Value>>(data)?),
        "execution_start" => {
            let Moment { prompt_id, timestamp } = read(data)?;
            Message::ExecutionStart { prompt_id, timestamp }
        }
        "execution_success" => {
            let Moment { prompt_id, timestamp } = read(data)?;
            Message::ExecutionSuccess { prompt_id, timestamp }
        }
        "execution_cached" => {
            let Cached { prompt_id, nodes, timestamp } = read(data)?;
            Message::ExecutionCached { prompt_id, nodes, timestamp }
        }
        "progress_state" => {
            let States { prompt_id, nodes } = read(data)?;
            Message::ProgressState { prompt_id, nodes }
        }
        "executing" => {
            let Executing { node, display_node, prompt_id } = read(data)?;
            Message::Executing { node, display_node, prompt_id }
        }
        "progress" => {
            let Progress { value, max, prompt_id, node } = read(data)?;
            Message::Progress { value, max, prompt_id, node }
        }
        "executed" => {
            let Executed { node, display_node, output, prompt_id } = read(data)?;
            Message::Executed { node, display_node, output, prompt_id }
        }
        "execution_error" => Message::ExecutionError(ExecutionError::from_data(&read(data)?)),
        "execution_interrupted" => {
            Message::ExecutionInterrupted(Interruption::from_data(&read(data)?))
        }
        "logs" => Message::Logs(read::<LogsData>(data)?.entries),
        other => unknown(other, data),
    })
}

fn read<T: DeserializeOwned>(data: &str) -> Result<T, serde_json::Error> {
    serde_json::from_str(data)
}

fn status(data: StatusData) -> Message {
    Message::Status { queue_remaining: data.status.exec_info.queue_remaining, sid: data.sid }
}

fn unknown(kind: &str, data: &str) -> Message {
    #[derive(Deserialize)]
    struct Named {
        prompt_id: Option<String>,
    }
    let prompt_id = read::<Named>(data).ok().and_then(|named| named.prompt_id);
    Message::Unknown { kind: kind.to_owned(), prompt_id }
}

#[derive(Deserialize)]
struct StatusData {
    status: Status,
    #[serde(default)]
    sid: Option<String>,
}

#[derive(Deserialize)]
struct Status {
    exec_info: ExecInfo,
}

#[derive(Deserialize)]
struct ExecInfo {
    queue_remaining: u64,
}

#[derive(Deserialize)]
struct Moment {
    prompt_id: String,
    #[serde(default)]
    timestamp: Option<i64>,
}

#[derive(Deserialize)]
struct Cached {
    prompt_id: String,
    nodes: Vec<String>,
    #[serde(default)]
    timestamp: Option<i64>,
}

#[derive(Deserialize)]
struct States {
    prompt_id: String,
    nodes: BTreeMap<String, NodeProgress>,
}

#[derive(Deserialize)]
struct Executing {
    node: Option<String>,
    #[serde(default)]
    display_node: Option<String>,
    #[serde(default)]
    prompt_id: Option<String>,
}

#[derive(Deserialize)]
struct Progress {
    #[serde(deserialize_with = "number")]
    value: f64,
    #[serde(deserialize_with = "number")]
    max: f64,
    #[serde(default)]
    prompt_id: Option<String>,
    #[serde(default)]
    node: Option<String>,
}

#[derive(Deserialize)]
struct Executed {
    node: String,
    #[serde(default)]
    display_node: Option<String>,
    #[serde(default)]
    output: Value,
    prompt_id: String,
}
