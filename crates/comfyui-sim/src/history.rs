use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use serde_json::{Map, Value};

/// How many prompts are remembered (ComfyUI source: MAXIMUM_HISTORY_SIZE).
const MAX_ENTRIES: usize = 10_000;

/// The prompts that ended, oldest first.
#[derive(Debug, Default)]
pub(crate) struct History {
    entries: HashMap<String, Arc<Value>>,
    order: VecDeque<String>,
}

impl History {
    /// Remembers a prompt; the second of one id takes the place of the first.
    pub(crate) fn insert(&mut self, id: String, entry: Value) {
        if self.entries.insert(id.clone(), Arc::new(entry)).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > MAX_ENTRIES
            && let Some(oldest) = self.order.pop_front()
        {
            self.entries.remove(&oldest);
        }
    }

    pub(crate) fn get(&self, id: &str) -> Option<Arc<Value>> {
        self.entries.get(id).cloned()
    }

    pub(crate) fn remove(&mut self, id: &str) {
        if self.entries.remove(id).is_some() {
            self.order.retain(|entry| entry != id);
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// A part of it: the newest `max_items`, or that many from `offset` on.
    pub(crate) fn list(
        &self,
        max_items: Option<usize>,
        offset: Option<usize>,
    ) -> Map<String, Value> {
        let max = max_items.unwrap_or(usize::MAX);
        let first = offset.unwrap_or_else(|| self.order.len().saturating_sub(max));
        let ids = self.order.iter().skip(first).take(max);
        ids.filter_map(|id| Some((id.clone(), Value::clone(self.entries.get(id)?)))).collect()
    }

    /// All entries, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Arc<Value>)> {
        self.order.iter().filter_map(|id| self.entries.get_key_value(id))
    }
}
