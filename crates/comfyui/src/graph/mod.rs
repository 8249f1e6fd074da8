//! Pure helpers on graphs in API format: a map of node id → `{class_type, inputs}`.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// Endings by which a string input is taken for the name of a model file.
pub const MODEL_SUFFIXES: [&str; 8] =
    [".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".onnx"];

/// Bytes of a model file's name at most, folder included; longer texts name none.
const MAX_FILE_NAME: usize = 200;

/// The input by which a node is told how to name the files that it saves.
pub(crate) const PREFIX: &str = "filename_prefix";
/// Bytes of the name in a prefix at most: of the 255 that a file's name may have, some are left for the number and the
/// ending that the node puts behind it.
const MAX_PREFIX_NAME: usize = 223;

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
            inputs.iter().find_map(|(input, value)| Some((input, bad_input(input, value, nodes)?)))
        {
            return invalid(format!("{at}/inputs/{}", escape(input)), reason);
        }
    }
    Ok(())
}

/// What is wrong with an input, whatever the node is: one that looks like a link, `[node id, output index]`, leads to no
/// node (other lists are plain values), or files are to be named as no file can be fetched.
fn bad_input(name: &str, value: &Value, nodes: &Map<String, Value>) -> Option<&'static str> {
    if let Some((source, _)) = link(value) {
        return (!nodes.contains_key(source)).then_some("links to a node that is not in the graph");
    }
    let prefix = value.as_str().filter(|_| name == PREFIX)?;
    (!can_be_fetched(split_prefix(prefix).1)).then_some(
        "names files with a line break or another control character, which ComfyUI hands over to nobody: leave it out",
    )
}

/// Whether ComfyUI hands over a file of this name: it puts it into a header, and with a control character there (before
/// aiohttp 3.14 a line break) it drops the connection without an answer.
#[must_use]
pub fn can_be_fetched(filename: &str) -> bool {
    !filename.contains(|c: char| c.is_ascii_control() && c != '\t')
}

/// How the name of a file ends that ComfyUI looks for in the folder that is named there, not in `input`.
#[must_use]
pub fn folder_annotation(name: &str) -> Option<&'static str> {
    ["[input]", "[output]", "[temp]"].into_iter().find(|annotation| name.ends_with(annotation))
}

/// The folder in a prefix, with the slash at its end, and the name.
fn split_prefix(prefix: &str) -> (&str, &str) {
    prefix.split_at(prefix.rfind(['/', '\\']).map_or(0, |slash| slash + 1))
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
/// and input, before the graph runs, and without what the node shall save.
#[must_use]
pub fn model_files(graph: &Value, replaced: impl Fn(&str, &str) -> bool) -> BTreeSet<String> {
    let inputs =
        nodes(graph).flat_map(|(id, _, inputs)| inputs.iter().map(move |input| (id, input)));
    let kept = inputs.filter(|(id, (field, _))| *field != PREFIX && !replaced(id, field));
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
pub(crate) fn can_be_file_name(text: &str) -> bool {
    text.len() <= MAX_FILE_NAME
        && !["\n", "\r", "://", "embedding:", ", "].iter().any(|part| text.contains(part))
}

/// The nodes that run for these `outputs`, by id: they, and what leads to them.
#[must_use]
pub fn leading_to<'a>(graph: &'a Value, outputs: Vec<&'a str>) -> BTreeSet<&'a str> {
    let mut leading = BTreeSet::new();
    let mut left = outputs;
    while let Some(id) = left.pop() {
        if leading.insert(id) {
            let inputs = graph.get(id).and_then(|node| node.get("inputs")?.as_object());
            let links = inputs.into_iter().flat_map(Map::values).filter_map(link);
            left.extend(links.map(|(source, _)| source));
        }
    }
    leading
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
        let filename_prefix = inputs.get(PREFIX)?.as_str()?;
        Some(SaveNode { node_id, class_type, filename_prefix })
    });
    named.collect()
}

/// The graph with `suffix` behind every `filename_prefix`. A name that is too long with it is cut at its beginning.
///
/// A save node takes the next free number in its folder, so two servers that share one overwrite each other's files,
/// unless each has prefixes of its own. A cached save node writes no file and names that of its first run, which may be
/// gone; with another prefix it runs again, and everything before it is still cached (ComfyUI source).
#[must_use]
pub fn with_fresh_prefix(graph: &Value, suffix: &str) -> Value {
    let mut fresh = graph.clone();
    for node in fresh.as_object_mut().into_iter().flat_map(Map::values_mut) {
        if let Some(Value::String(prefix)) =
            node.get_mut("inputs").and_then(|inputs| inputs.get_mut(PREFIX))
        {
            let (folder, name) = split_prefix(prefix);
            let surplus = (name.len() + suffix.len()).saturating_sub(MAX_PREFIX_NAME);
            let name = &name[name.ceil_char_boundary(surplus)..];
            *prefix = format!("{folder}{name}{suffix}");
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
