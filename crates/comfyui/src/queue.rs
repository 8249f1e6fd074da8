use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::{RequestError, json};

/// What `GET /queue` said.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QueueState {
    /// Prompts that run; at most one in today's ComfyUI.
    pub running: Vec<QueueEntry>,
    /// Prompts that wait, **in the order in which they will run** (the wire has heap order; ComfyUI source).
    pub pending: Vec<QueueEntry>,
}

/// One prompt in ComfyUI's queue.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueEntry {
    /// Place in the order: lower runs first, `front` submissions are negative.
    pub number: f64,
    /// The prompt's id.
    pub prompt_id: String,
    /// Who submitted it; None when the submission named no client.
    pub client_id: Option<String>,
    /// What the submitter wrote into `extra_data.owner`: ComfyUI keeps fields it does not know, so this tells one's own
    /// prompts from those of others who share the service.
    pub owner: Option<String>,
    /// When it was queued, in ms since the epoch by the service's clock; from 0.27 on.
    pub create_time: Option<i64>,
    /// The graph, if it was asked for.
    pub graph: Option<Value>,
    /// The output nodes that run, without those that validation dropped; None where the service does not say.
    pub outputs_to_execute: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    queue_running: Vec<Vec<&'a RawValue>>,
    #[serde(borrow)]
    queue_pending: Vec<Vec<&'a RawValue>>,
}

/// The part of a prompt's `extra_data` that this crate reads. Whoever submits a prompt writes there what
/// he likes: a field of another type is as good as none, and costs no other.
#[derive(Deserialize, Default)]
pub(crate) struct ExtraData {
    #[serde(default, deserialize_with = "if_it_is")]
    pub(crate) client_id: Option<String>,
    #[serde(default, deserialize_with = "if_it_is")]
    pub(crate) owner: Option<String>,
    #[serde(default, deserialize_with = "if_it_is")]
    pub(crate) file_tag: Option<String>,
    #[serde(default, deserialize_with = "if_it_is")]
    pub(crate) create_time: Option<i64>,
}

fn if_it_is<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    field: D,
) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(field)?).ok())
}

impl QueueState {
    /// Reads the reply of `GET /queue`. Graphs, which make it large, are skipped unless `keep_graphs`.
    ///
    /// # Errors
    /// [`RequestError::Malformed`] when the reply is not a queue.
    pub fn parse(reply: &[u8], keep_graphs: bool) -> Result<Self, RequestError> {
        json::leniently(reply, |reply| Self::parse_strictly(reply, keep_graphs))
            .map_err(RequestError::malformed)
    }

    fn parse_strictly(reply: &[u8], keep_graphs: bool) -> Result<Self, serde_json::Error> {
        let wire: Wire<'_> = serde_json::from_slice(reply)?;
        let entries = |items: Vec<Vec<&RawValue>>| -> Result<Vec<QueueEntry>, serde_json::Error> {
            items.iter().map(|item| QueueEntry::parse(item, keep_graphs)).collect()
        };
        let mut pending = entries(wire.queue_pending)?;
        pending.sort_by(|a, b| a.number.total_cmp(&b.number));
        Ok(Self { running: entries(wire.queue_running)?, pending })
    }

    /// Number of prompts that run or wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.running.len() + self.pending.len()
    }

    /// Whether nothing runs and nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether this prompt runs or waits.
    #[must_use]
    pub fn contains(&self, prompt_id: &str) -> bool {
        self.iter().any(|entry| entry.prompt_id == prompt_id)
    }

    /// All entries, first the running ones, then those that wait, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &QueueEntry> {
        self.running.iter().chain(&self.pending)
    }
}

impl QueueEntry {
    /// Reads one `[number, id, graph, extra_data, outputs]`.
    fn parse(item: &[&RawValue], keep_graph: bool) -> Result<Self, serde_json::Error> {
        let (head, extra) = parse_prompt_tuple(item)?;
        let graph = keep_graph.then(|| serde_json::from_str(item[2].get())).transpose();
        Ok(Self {
            number: head.0,
            prompt_id: head.1,
            client_id: extra.client_id,
            owner: extra.owner,
            create_time: extra.create_time,
            graph: graph?,
            outputs_to_execute: outputs_to_execute(item),
        })
    }
}

/// Reads `[number, id, graph, extra_data, …]`, which stands in `/queue` and in `/history`, leaving out the graph.
pub(crate) fn parse_prompt_tuple(
    item: &[&RawValue],
) -> Result<((f64, String), ExtraData), serde_json::Error> {
    let [number, prompt_id, _graph, extra, ..] = item else {
        return Err(serde::de::Error::invalid_length(
            item.len(),
            &"a prompt of at least four parts",
        ));
    };
    let head = (serde_json::from_str(number.get())?, serde_json::from_str(prompt_id.get())?);
    Ok((head, serde_json::from_str(extra.get()).unwrap_or_default()))
}

/// Reads the fifth part of such a prompt.
pub(crate) fn outputs_to_execute(item: &[&RawValue]) -> Option<Vec<String>> {
    serde_json::from_str(item.get(4)?.get()).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_of_another_type_costs_no_other() {
        let odd =
            json!({"client_id": 7, "owner": "w", "file_tag": null, "create_time": "yesterday"});
        let fraction = json!({"client_id": "c", "owner": "w", "create_time": 1732660000.25});
        let reply = json!({"queue_running": [[0, "p", {}, odd, []]],
            "queue_pending": [[1, "q", {}, fraction, []], [2, "r", {}, null, []]]});
        let queue = QueueState::parse(reply.to_string().as_bytes(), false).unwrap();
        let read =
            queue.iter().map(|e| (e.client_id.as_deref(), e.owner.as_deref(), e.create_time));
        let expected = [(None, Some("w"), None), (Some("c"), Some("w"), None), (None, None, None)];
        assert_eq!(read.collect::<Vec<_>>(), expected);
    }
}
