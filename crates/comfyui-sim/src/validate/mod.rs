//! What `POST /prompt` checks before it queues a graph, in ComfyUI's order and with its words (recording rejected.json;
//! ComfyUI source: validate_prompt, validate_inputs).

mod inputs;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::Version;
use crate::folders::Folders;
use crate::nodes::Catalog;

/// A graph that will run, at least in part.
pub(crate) struct Valid {
    /// The output nodes that will run.
    pub(crate) outputs: Vec<String>,
    /// What is wrong with the others.
    pub(crate) node_errors: Value,
}

/// The body of a refusal.
pub(crate) type Refusal = Value;

/// What is known about a node: the errors that are its own. None: not even looked at.
pub(super) struct Checked {
    valid: bool,
    errors: Vec<Value>,
}

/// Checks a graph. Values are converted in place to the types of their inputs, as ComfyUI does.
///
/// With `targets` only those outputs are wanted.
pub(crate) fn validate(
    graph: &mut Map<String, Value>,
    targets: Option<&[String]>,
    catalog: &Catalog,
    folders: &Folders,
    version: Version,
) -> Result<Valid, Refusal> {
    let outputs = find_outputs(graph, targets, catalog, version)?;
    if outputs.is_empty() {
        return Err(refusal(
            "prompt_no_outputs",
            "Prompt has no outputs",
            "",
            json!({}),
            json!({}),
        ));
    }
    let mut good = Vec::new();
    let mut node_errors: BTreeMap<String, Value> = BTreeMap::new();
    let mut validator =
        inputs::Validator { graph, catalog, folders, checked: BTreeMap::new(), path: Vec::new() };
    for output in outputs {
        if validator.check_output(&output) {
            good.push(output);
        } else {
            blame(&mut node_errors, &output, &validator.checked, validator.graph);
        }
    }
    if good.is_empty() {
        let message = "Prompt outputs failed validation";
        return Err(refusal(
            "prompt_outputs_failed_validation",
            message,
            "",
            json!({}),
            json!(node_errors),
        ));
    }
    Ok(Valid { outputs: good, node_errors: json!(node_errors) })
}

/// Notes every node with errors of its own as a reason why `output` cannot run.
fn blame(
    node_errors: &mut BTreeMap<String, Value>,
    output: &str,
    checked: &BTreeMap<String, Checked>,
    graph: &Map<String, Value>,
) {
    for (node, found) in
        checked.iter().filter(|(_, found)| !found.valid && !found.errors.is_empty())
    {
        let entry = node_errors.entry(node.clone()).or_insert_with(|| {
            let class_type = graph.get(node).map_or(&Value::Null, |node| &node["class_type"]);
            json!({ "errors": found.errors, "dependent_outputs": [], "class_type": class_type })
        });
        if let Some(dependent) = entry["dependent_outputs"].as_array_mut() {
            dependent.push(json!(output));
        }
    }
}

fn find_outputs(
    graph: &Map<String, Value>,
    targets: Option<&[String]>,
    catalog: &Catalog,
    version: Version,
) -> Result<Vec<String>, Refusal> {
    let mut outputs = Vec::new();
    for (id, node) in graph {
        let place = format!("Node ID '#{id}'");
        let Some(class_type) = node.get("class_type").and_then(Value::as_str) else {
            let message = "Cannot execute because a node is missing the class_type property.";
            return Err(refusal("invalid_prompt", message, &place, json!({}), json!({})));
        };
        let Some(class) = catalog.class(class_type) else {
            return Err(missing_class(id, class_type, node, &place, version));
        };
        if class.output_node && targets.is_none_or(|targets| targets.contains(id)) {
            outputs.push(id.clone());
        }
    }
    Ok(outputs)
}

fn missing_class(
    id: &str,
    class_type: &str,
    node: &Value,
    place: &str,
    version: Version,
) -> Refusal {
    if !version.is_newer() {
        let message = format!("Cannot execute because node {class_type} does not exist.");
        return refusal("invalid_prompt", &message, place, json!({}), json!({}));
    }
    let title = node.pointer("/_meta/title").and_then(Value::as_str).unwrap_or(class_type);
    let message = format!("Node '{title}' not found. The custom node may not be installed.");
    let extra_info = json!({ "node_id": id, "class_type": class_type, "node_title": title });
    refusal("missing_node_type", &message, place, extra_info, json!({}))
}

/// A refusal as ComfyUI writes it.
pub(crate) fn refusal(
    kind: &str,
    message: &str,
    details: &str,
    extra_info: Value,
    node_errors: Value,
) -> Refusal {
    json!({
        "error": { "type": kind, "message": message, "details": details, "extra_info": extra_info },
        "node_errors": node_errors,
    })
}
