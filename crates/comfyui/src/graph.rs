//! Pure helpers on graphs in API format: a map of node id → `{class_type, inputs}`.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// Endings by which a string input is taken for the name of a model file.
pub const MODEL_SUFFIXES: [&str; 8] =
    [".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".onnx"];

/// Bytes of a model file's name at most, folder included; longer texts name none.
const MAX_FILE_NAME: usize = 200;

/// A value is not a graph in API format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{pointer:?}: {reason}")]
pub struct InvalidGraph {
    /// JSON pointer (RFC 6901) to the first thing that is wrong; empty for the whole.
    pub pointer: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Setting an input failed: the graph has no such node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("graph has no node {0:?}")]
pub struct NoSuchNode(pub String);

/// A node that saves files under a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaveNode<'a> {
    /// Id of the node.
    pub node_id: &'a str,
    /// Its class, such as `SaveImage`.
    pub class_type: &'a str,
    /// Its `filename_prefix`.
    pub filename_prefix: &'a str,
}

/// Whether this is what the editor saves ("Save"), not what the API takes ("Export (API)").
#[must_use]
pub fn is_ui_format(value: &Value) -> bool {
    let list = |field| value.get(field).is_some_and(Value::is_array);
    list("nodes") && list("links")
}

/// Checks the shape that `POST /prompt` needs. What the nodes mean is the service's business.
///
/// # Errors
/// [`InvalidGraph`] with the first thing that is wrong.
pub fn validate_api_format(value: &Value) -> Result<(), InvalidGraph> {
    let invalid = |pointer: String, reason| Err(InvalidGraph { pointer, reason });
    if is_ui_format(value) {
        return invalid(String::new(), "saved by the editor; export it in API format instead");
    }
    let Some(nodes) = value.as_object() else {
        return invalid(String::new(), "expected an object of nodes");
    };
    if nodes.is_empty() {
        return invalid(String::new(), "has no nodes");
    }
    for (id, node) in nodes {
        let at = format!("/{}", escape(id));
        if !node.is_object() {
            return invalid(at, "expected a node with class_type and inputs");
        }
        if node.get("class_type").and_then(Value::as_str).is_none_or(str::is_empty) {
            return invalid(at + "/class_type", "expected the name of a node class");
        }
        let Some(inputs) = node.get("inputs").and_then(Value::as_object) else {
            return invalid(at + "/inputs", "expected an object of inputs");
        };
        if let Some((input, reason)) =
            inputs.iter().find_map(|(input, link)| Some((input, bad_link(link, nodes)?)))
        {
            return invalid(format!("{at}/inputs/{}", escape(input)), reason);
        }
    }
    Ok(())
}

/// What is wrong with an input that looks like a link, `[node id, output index]`. Other lists are plain values.
fn bad_link(input: &Value, nodes: &Map<String, Value>) -> Option<&'static str> {
    let (source, _) = link(input)?;
    (!nodes.contains_key(source)).then_some("links to a node that is not in the graph")
}

/// An input that is a link: the node it comes from, and the index of that node's output.
#[must_use]
pub fn link(input: &Value) -> Option<(&str, u64)> {
    match input.as_array()?.as_slice() {
        [Value::String(source), index] => Some((source, index.as_u64()?)),
        _ => None,
    }
}

fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// Whether a string may name a model file, by its ending.
#[must_use]
pub fn is_model_file(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    MODEL_SUFFIXES.iter().any(|suffix| name.len() > suffix.len() && name.ends_with(suffix))
}

/// Every node class that the graph uses.
#[must_use]
pub fn class_types(graph: &Value) -> BTreeSet<String> {
    nodes(graph).map(|(_, class_type, _)| class_type.to_owned()).collect()
}

/// Every node of one of these classes, by its id.
#[must_use]
pub fn nodes_of<'a>(graph: &'a Value, classes: &BTreeSet<String>) -> Vec<&'a str> {
    nodes(graph).filter(|(_, class, _)| classes.contains(*class)).map(|(id, _, _)| id).collect()
}

/// Every input that names a model file, as it stands in the graph, folder included: a text that can be a file name, or
/// an object such as `{"on": true, "lora": "a.safetensors"}` that is on. Without those that are `replaced`, by node id
/// and input, before the graph runs.
#[must_use]
pub fn model_files(graph: &Value, replaced: impl Fn(&str, &str) -> bool) -> BTreeSet<String> {
    let inputs =
        nodes(graph).flat_map(|(id, _, inputs)| inputs.iter().map(move |input| (id, input)));
    let kept = inputs.filter(|(id, (field, _))| !replaced(id, field));
    let names = kept.filter_map(|(_, (_, value))| model_name(value));
    names.filter(|name| can_be_file_name(name)).map(str::to_owned).collect()
}

fn model_name(input: &Value) -> Option<&str> {
    let is_on = |input: &Value| input.get("on").and_then(Value::as_bool) == Some(true);
    let name = match input {
        Value::Object(_) if is_on(input) => input.get("lora")?.as_str()?,
        input => input.as_str()?,
    };
    is_model_file(name).then_some(name)
}

/// Not the text of a prompt, which may end in the name of an embedding, nor the address of a download.
fn can_be_file_name(text: &str) -> bool {
    text.len() <= MAX_FILE_NAME
        && !["\n", "\r", "://", "embedding:", ", "].iter().any(|part| text.contains(part))
}

/// Sets an input of a node, adding it if the node does not have it.
///
/// # Errors
/// [`NoSuchNode`] when the graph has no such node; then it is unchanged.
pub fn set_input(
    graph: &mut Value,
    node_id: &str,
    field: &str,
    value: Value,
) -> Result<(), NoSuchNode> {
    let inputs = graph
        .get_mut(node_id)
        .and_then(|node| node.get_mut("inputs"))
        .and_then(Value::as_object_mut);
    let inputs = inputs.ok_or_else(|| NoSuchNode(node_id.to_owned()))?;
    inputs.insert(field.to_owned(), value);
    Ok(())
}

/// The nodes that save files: those with a string input `filename_prefix`. Which nodes are outputs at all stands in
/// `/object_info`.
#[must_use]
pub fn save_nodes(graph: &Value) -> Vec<SaveNode<'_>> {
    let named = nodes(graph).filter_map(|(node_id, class_type, inputs)| {
        let filename_prefix = inputs.get("filename_prefix")?.as_str()?;
        Some(SaveNode { node_id, class_type, filename_prefix })
    });
    named.collect()
}

/// The graph with `suffix` behind every `filename_prefix`.
///
/// A save node takes the next free number in its folder, so two servers that share one overwrite each other's files,
/// unless each has prefixes of its own. A cached save node writes no file and names that of its first run, which may be
/// gone; with another prefix it runs again, and everything before it is still cached (ComfyUI source).
#[must_use]
pub fn with_fresh_prefix(graph: &Value, suffix: &str) -> Value {
    let mut fresh = graph.clone();
    for node in fresh.as_object_mut().into_iter().flat_map(Map::values_mut) {
        if let Some(Value::String(prefix)) =
            node.get_mut("inputs").and_then(|inputs| inputs.get_mut("filename_prefix"))
        {
            prefix.push_str(suffix);
        }
    }
    fresh
}

/// Node id, class and inputs of everything that looks like a node.
fn nodes(graph: &Value) -> impl Iterator<Item = (&str, &str, &Map<String, Value>)> {
    graph.as_object().into_iter().flatten().filter_map(|(id, node)| {
        Some((id.as_str(), node.get("class_type")?.as_str()?, node.get("inputs")?.as_object()?))
    })
}

#[cfg(test)]
mod tests;
