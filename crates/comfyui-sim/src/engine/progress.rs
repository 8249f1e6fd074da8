use std::collections::HashMap;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::life::Life;
use crate::picture::Recipe;
use crate::queue::Prompt;

/// How often the newer version reports one node's steps at most (recording progress.json); first and last always.
const THROTTLE: Duration = Duration::from_millis(100);

/// What a prompt's nodes have done so far, and the messages about it.
#[derive(Debug)]
pub(crate) struct Progress {
    prompt_id: String,
    client_id: Option<String>,
    /// Node id → its state, of the nodes seen so far.
    nodes: Map<String, Value>,
    throttled: bool,
    last_step: HashMap<String, Instant>,
}

impl Progress {
    pub(crate) fn new(prompt: &Prompt, throttled: bool) -> Self {
        Self {
            prompt_id: prompt.id.clone(),
            client_id: prompt.client_id().map(str::to_owned),
            nodes: Map::new(),
            throttled,
            last_step: HashMap::new(),
        }
    }

    pub(crate) fn start(&mut self, life: &Life, node: &str) {
        self.set(node, json!(0.0), json!(1.0), "running");
        self.send_state(life);
    }

    /// Ends a node that ran: its value becomes its maximum, in whatever unit it reported.
    pub(crate) fn finish(&mut self, life: &Life, node: &str) {
        let max = self.nodes.get(node).map_or(json!(1.0), |state| state["max"].clone());
        self.set(node, max.clone(), max, "finished");
        self.send_state(life);
    }

    /// Ends a cached output node, which was never started.
    pub(crate) fn finish_cached(&mut self, life: &Life, node: &str) {
        self.set(node, json!(1), json!(1), "finished");
        self.send_state(life);
    }

    /// Reports a step. The preview follows in the form that the client announced, at the place where ComfyUI sends it
    /// (recordings progress_with_preview.json and preview_without_metadata.json).
    pub(crate) async fn step<N: Into<Value> + PartialOrd + Copy>(
        &mut self,
        life: &Life,
        node: &str,
        value: N,
        max: N,
        preview: Option<&Recipe>,
    ) {
        let last = value >= max;
        let (value, max) = (value.into(), max.into());
        self.set(node, value.clone(), max.clone(), "running");
        if !self.is_due(node, last) {
            return;
        }
        let to = self.client_id.as_deref();
        let done = (value.as_f64().unwrap_or(0.0) / max.as_f64().unwrap_or(1.0)) as f32;
        let image = match preview {
            Some(recipe) => draw(recipe.clone(), done).await,
            None => None,
        };
        self.send_state(life);
        let with_metadata = life.hub.takes_preview_metadata(to);
        if let Some(image) = image.as_ref().filter(|_| with_metadata) {
            life.hub.send_binary(to, self.preview_with_metadata(node, image));
        }
        let data = json!({ "value": value, "max": max, "prompt_id": self.prompt_id, "node": node });
        life.hub.send(to, "progress", &data);
        if let Some(image) = image.filter(|_| !with_metadata) {
            life.hub.send_binary(to, plain_preview(&image));
        }
    }

    fn is_due(&mut self, node: &str, last: bool) -> bool {
        let now = Instant::now();
        let recent = self.last_step.get(node).is_some_and(|at| now - *at < THROTTLE);
        let due = !self.throttled || last || !recent;
        if due {
            self.last_step.insert(node.to_owned(), now);
        }
        due
    }

    fn set(&mut self, node: &str, value: Value, max: Value, state: &str) {
        let entry = json!({
            "value": value, "max": max, "state": state, "node_id": node, "prompt_id": self.prompt_id,
            "display_node_id": node, "parent_node_id": null, "real_node_id": node,
        });
        self.nodes.insert(node.to_owned(), entry);
    }

    fn send_state(&self, life: &Life) {
        let data = json!({ "prompt_id": self.prompt_id, "nodes": self.nodes });
        life.hub.send(self.client_id.as_deref(), "progress_state", &data);
    }

    fn preview_with_metadata(&self, node: &str, image: &[u8]) -> Bytes {
        let metadata = json!({
            "node_id": node, "prompt_id": self.prompt_id, "display_node_id": node, "parent_node_id": null,
            "real_node_id": node, "image_type": "image/jpeg",
        });
        let metadata = metadata.to_string();
        let mut frame = BytesMut::with_capacity(8 + metadata.len() + image.len());
        frame.put_u32(4);
        frame.put_u32(metadata.len() as u32);
        frame.put_slice(metadata.as_bytes());
        frame.put_slice(image);
        frame.freeze()
    }
}

/// A frame of type 1, format 1 (JPEG).
fn plain_preview(image: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(8 + image.len());
    frame.put_u32(1);
    frame.put_u32(1);
    frame.put_slice(image);
    frame.freeze()
}

async fn draw(recipe: Recipe, done: f32) -> Option<Vec<u8>> {
    tokio::task::spawn_blocking(move || recipe.preview(done)).await.ok()?.ok()
}
