use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Arc;

use serde_json::{Map, Number, Value, json};

use crate::Faults;

/// A prompt that was accepted.
#[derive(Debug)]
pub(crate) struct Prompt {
    /// As it is written on the wire: whole unless the client chose it.
    pub(crate) number: Number,
    pub(crate) id: String,
    pub(crate) graph: Map<String, Value>,
    pub(crate) extra_data: Map<String, Value>,
    /// The output nodes that will run.
    pub(crate) outputs: Vec<String>,
    pub(crate) faults: Faults,
}

impl Prompt {
    /// Who gets its messages.
    pub(crate) fn client_id(&self) -> Option<&str> {
        self.extra_data.get("client_id").and_then(Value::as_str)
    }

    /// Class and inputs of a node.
    pub(crate) fn node(&self, id: &str) -> Option<(&str, &Map<String, Value>)> {
        let node = self.graph.get(id)?;
        Some((node.get("class_type")?.as_str()?, node.get("inputs")?.as_object()?))
    }

    /// As `/queue` and `/history` show it.
    pub(crate) fn tuple(&self) -> Value {
        json!([self.number, self.id, self.graph, self.extra_data, self.outputs])
    }

    fn place(&self) -> f64 {
        self.number.as_f64().unwrap_or_default()
    }
}

/// The one that runs and those that wait.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pub(crate) running: Option<Arc<Prompt>>,
    pending: BinaryHeap<Waiting>,
    submissions: i64,
}

/// Orders a heap, which has its largest on top, so that the lowest place is on top.
#[derive(Debug, Clone)]
struct Waiting(Arc<Prompt>);

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.place().total_cmp(&self.0.place()).then_with(|| other.0.id.cmp(&self.0.id))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Waiting {}

impl Queue {
    /// The number of a submission: its own wish, or the next of the counter, negative with `front`.
    pub(crate) fn number(&mut self, wished: Option<f64>, front: bool) -> Number {
        let next = self.submissions;
        self.submissions += 1;
        let counted = Number::from(if front { -next } else { next });
        wished.and_then(Number::from_f64).unwrap_or(counted)
    }

    pub(crate) fn push(&mut self, prompt: Arc<Prompt>) {
        self.pending.push(Waiting(prompt));
    }

    /// Makes the next prompt the running one.
    pub(crate) fn take(&mut self) -> Option<Arc<Prompt>> {
        self.running = self.pending.pop().map(|waiting| waiting.0);
        self.running.clone()
    }

    /// How many run or wait.
    pub(crate) fn remaining(&self) -> usize {
        self.pending.len() + usize::from(self.running.is_some())
    }

    /// Removes one that waits. False when none of this id does.
    pub(crate) fn delete(&mut self, id: &str) -> bool {
        let before = self.pending.len();
        self.pending.retain(|waiting| waiting.0.id != id);
        self.pending.len() < before
    }

    pub(crate) fn clear(&mut self) {
        self.pending.clear();
    }

    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(crate) fn is_running(&self, id: &str) -> bool {
        self.running.as_ref().is_some_and(|prompt| prompt.id == id)
    }

    /// Those that wait, **in the order of the heap**, as ComfyUI shows them.
    pub(crate) fn pending(&self) -> impl Iterator<Item = &Arc<Prompt>> {
        self.pending.iter().map(|waiting| &waiting.0)
    }
}
