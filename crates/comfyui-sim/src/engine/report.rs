use serde_json::{Map, Value, json};

use crate::clock;
use crate::life::Life;
use crate::nodes::Raised;
use crate::queue::Prompt;

/// What is said about a run, on the websocket and later in its history.
pub(super) struct Report<'a> {
    life: &'a Life,
    prompt: &'a Prompt,
    /// Pairs of type and data, as history keeps them.
    messages: Vec<Value>,
    outputs: Map<String, Value>,
    meta: Map<String, Value>,
}

impl<'a> Report<'a> {
    pub(super) fn new(life: &'a Life, prompt: &'a Prompt) -> Self {
        Self { life, prompt, messages: Vec::new(), outputs: Map::new(), meta: Map::new() }
    }

    /// Says something that history keeps too. Without a client nobody hears it, unless it is for everybody.
    pub(super) fn message(&mut self, kind: &str, mut data: Value, for_everybody: bool) {
        data["prompt_id"] = json!(self.prompt.id);
        data["timestamp"] = json!(clock::now_ms());
        if self.prompt.client_id().is_some() || for_everybody {
            self.life.hub.send(self.prompt.client_id(), kind, &data);
        }
        self.messages.push(json!([kind, data]));
    }

    /// Says something to the client alone, that history does not keep.
    pub(super) fn tell(&self, kind: &str, mut data: Value) {
        if let Some(client_id) = self.prompt.client_id() {
            data["prompt_id"] = json!(self.prompt.id);
            self.life.hub.send(Some(client_id), kind, &data);
        }
    }

    /// Says what an output node shows.
    pub(super) fn executed(&mut self, node: &str, ui: &Value) {
        self.tell("executed", json!({ "node": node, "display_node": node, "output": ui }));
        self.keep_output(node, ui);
    }

    /// Keeps what an output node shows for history.
    pub(super) fn keep_output(&mut self, node: &str, ui: &Value) {
        self.outputs.insert(node.to_owned(), ui.clone());
        let meta = json!({ "node_id": node, "display_node": node, "parent_node": null, "real_node_id": node });
        self.meta.insert(node.to_owned(), meta);
    }

    /// Says that a node raised an error that ends the run.
    pub(super) fn failed(&mut self, node: &str, executed: &[String], raised: &Raised) {
        let mut data = self.error(node, executed, raised);
        data["traceback"] = json!(["  File \"ComfyUI/execution.py\", line 543, in execute\n"]);
        data["current_inputs"] = self.current_inputs(node);
        data["current_outputs"] = self.prompt.graph.keys().cloned().collect();
        self.message("execution_error", data, false);
    }

    /// Says that a node has no output on purpose, which ends nothing. ComfyUI gives it no time and keeps it out of
    /// history (ComfyUI source).
    pub(super) fn blocked(&self, node: &str, executed: &[String]) {
        let raised = Raised {
            class: "ExecutionBlocked".to_owned(),
            message: "Execution Blocked: simulated".to_owned(),
        };
        self.tell("execution_error", self.error(node, executed, &raised));
    }

    /// Says that the run was stopped from outside.
    pub(super) fn interrupted(&mut self, node: &str, executed: &[String]) {
        let data =
            json!({ "node_id": node, "node_type": self.class_type(node), "executed": executed });
        self.message("execution_interrupted", data, true);
    }

    /// Every file that was reported.
    pub(super) fn files(&self) -> Vec<pointsman_comfyui::OutputFile> {
        pointsman_comfyui::output_files(&self.outputs)
    }

    /// The history entry.
    pub(super) fn into_entry(self, succeeded: bool) -> Value {
        json!({
            "prompt": self.prompt.tuple(),
            "outputs": self.outputs,
            "status": {
                "status_str": if succeeded { "success" } else { "error" },
                "completed": succeeded,
                "messages": self.messages,
            },
            "meta": self.meta,
        })
    }

    fn error(&self, node: &str, executed: &[String], raised: &Raised) -> Value {
        json!({
            "node_id": node, "node_type": self.class_type(node), "executed": executed,
            "exception_message": raised.message, "exception_type": raised.class,
            "traceback": [], "current_inputs": [], "current_outputs": [],
        })
    }

    /// Plain inputs as lists of their values, linked ones by a word.
    fn current_inputs(&self, node: &str) -> Value {
        let inputs = self.prompt.node(node).into_iter().flat_map(|(_, inputs)| inputs);
        let shown =
            |value: &Value| if value.is_array() { json!(["tensor(...)"]) } else { json!([value]) };
        inputs.map(|(name, value)| (name.clone(), shown(value))).collect::<Map<_, _>>().into()
    }

    fn class_type(&self, node: &str) -> &str {
        self.prompt.node(node).map_or("", |(class_type, _)| class_type)
    }
}
