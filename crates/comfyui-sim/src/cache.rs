use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use pointsman_comfyui::graph::link;

use crate::nodes::NodeOutput;
use crate::queue::Prompt;

/// Bytes of results that the newer version keeps, roughly.
const MAX_BYTES: usize = 256 << 20;

/// Names what a node will produce: its class and inputs, and those of everything before it. Ids of nodes do not count.
pub(crate) type Key = [u8; 32];

/// Results of nodes, by what produced them.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    entries: HashMap<Key, Entry>,
    bytes: usize,
    uses: u64,
}

#[derive(Debug)]
struct Entry {
    output: Arc<NodeOutput>,
    used: u64,
}

impl Cache {
    pub(crate) fn get(&mut self, key: &Key) -> Option<Arc<NodeOutput>> {
        self.uses += 1;
        let entry = self.entries.get_mut(key)?;
        entry.used = self.uses;
        Some(entry.output.clone())
    }

    pub(crate) fn insert(&mut self, key: Key, output: Arc<NodeOutput>) {
        self.uses += 1;
        self.bytes += output.bytes();
        if let Some(old) = self.entries.insert(key, Entry { output, used: self.uses }) {
            self.bytes -= old.output.bytes();
        }
    }

    /// What is left after a prompt: of the older version the results of that prompt, of the newer one the results used
    /// last, as far as memory goes (ComfyUI source: classic and RAM-pressure cache).
    pub(crate) fn tidy(&mut self, last_prompt: &HashSet<Key>, keep_more: bool) {
        if !keep_more {
            self.entries.retain(|key, _| last_prompt.contains(key));
            self.bytes = self.entries.values().map(|entry| entry.output.bytes()).sum();
        }
        if self.bytes > MAX_BYTES {
            self.drop_oldest();
        }
    }

    /// Makes room for a quarter at once, so that it does not have to be done after every prompt.
    fn drop_oldest(&mut self) {
        let mut by_age: Vec<(u64, Key)> =
            self.entries.iter().map(|(key, entry)| (entry.used, *key)).collect();
        by_age.sort_unstable();
        for (_, key) in by_age {
            if self.bytes <= MAX_BYTES / 4 * 3 {
                break;
            }
            if let Some(entry) = self.entries.remove(&key) {
                self.bytes -= entry.output.bytes();
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// The keys of all nodes of a prompt. Of `LoadImage` the content of its file counts, not the name alone.
pub(crate) fn keys(prompt: &Prompt, input_folder: &Path) -> HashMap<String, Key> {
    let mut keys = HashMap::new();
    for id in prompt.graph.keys() {
        add_key(prompt, id, input_folder, &mut keys);
    }
    keys
}

/// The graph has no cycles: validation saw to that.
fn add_key(prompt: &Prompt, id: &str, input_folder: &Path, keys: &mut HashMap<String, Key>) -> Key {
    if let Some(key) = keys.get(id) {
        return *key;
    }
    let nothing = Map::new();
    let (class_type, inputs) = prompt.node(id).unwrap_or(("", &nothing));
    let mut names: Vec<&String> = inputs.keys().collect();
    names.sort_unstable();
    let mut hash = Sha256::new().chain_update(class_type);
    for name in names {
        let value = &inputs[name];
        hash.update(json!(name).to_string());
        match link(value).filter(|(source, _)| prompt.graph.contains_key(*source)) {
            Some((source, index)) => {
                hash.update(add_key(prompt, source, input_folder, keys));
                hash.update(index.to_le_bytes());
            }
            None => hash.update(value.to_string()),
        }
    }
    if class_type == "LoadImage"
        && let Some(name) = inputs.get("image").and_then(Value::as_str)
    {
        hash.update(std::fs::read(input_folder.join(name)).unwrap_or_default());
    }
    let key = hash.finalize().into();
    keys.insert(id.to_owned(), key);
    key
}
