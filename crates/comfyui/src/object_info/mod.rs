use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use crate::graph::is_model_file;
use crate::{RequestError, json};

/// What `GET /object_info` said, as far as routing needs it: which node classes are installed, which of them are
/// outputs, and which model files their inputs offer on this machine.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ObjectInfo {
    classes: BTreeMap<String, NodeClass>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct NodeClass {
    output_node: bool,
    /// Input name → the values it offers, for inputs that offer a list.
    choices: BTreeMap<String, Vec<String>>,
}

/// An input that picks one of the model files on the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInput<'a> {
    /// Class of the node.
    pub class_type: &'a str,
    /// Name of the input.
    pub input: &'a str,
    /// The files it offers.
    pub files: &'a [String],
}

#[derive(Deserialize)]
struct WireClass {
    #[serde(default)]
    input: BTreeMap<String, Value>,
    #[serde(default)]
    output_node: bool,
}

impl ObjectInfo {
    /// Reads the reply of `/object_info` or `/object_info/{class}`.
    ///
    /// # Errors
    /// [`RequestError::Malformed`] when the reply is not a map of node classes.
    pub fn parse(reply: &[u8]) -> Result<Self, RequestError> {
        let wire: BTreeMap<String, WireClass> =
            json::read(reply).map_err(RequestError::malformed)?;
        let class = |(name, class): (String, WireClass)| {
            let inputs = class.input.values().filter_map(Value::as_object).flatten();
            let choices =
                inputs.filter_map(|(input, spec)| Some((input.clone(), choices(spec)?))).collect();
            (name, NodeClass { output_node: class.output_node, choices })
        };
        Ok(Self { classes: wire.into_iter().map(class).collect() })
    }

    /// The installed node classes.
    #[must_use]
    pub fn node_classes(&self) -> BTreeSet<String> {
        self.classes.keys().cloned().collect()
    }

    /// Whether this node class is installed.
    #[must_use]
    pub fn has_class(&self, class_type: &str) -> bool {
        self.classes.contains_key(class_type)
    }

    /// Whether nodes of this class are outputs: a graph needs one, and runs only what one depends on.
    #[must_use]
    pub fn is_output_node(&self, class_type: &str) -> bool {
        self.classes.get(class_type).is_some_and(|class| class.output_node)
    }

    /// The installed node classes that are outputs.
    #[must_use]
    pub fn output_classes(&self) -> BTreeSet<String> {
        self.classes.keys().filter(|class| self.is_output_node(class)).cloned().collect()
    }

    /// The values that an input offers; None when it offers no list.
    #[must_use]
    pub fn choices(&self, class_type: &str, input: &str) -> Option<&[String]> {
        self.classes.get(class_type)?.choices.get(input).map(Vec::as_slice)
    }

    /// The inputs that offer at least one model file. A loader without any file on this machine cannot be told from
    /// any other empty list, so it is not among them.
    pub fn model_inputs(&self) -> impl Iterator<Item = ModelInput<'_>> {
        self.classes.iter().flat_map(|(class_type, class)| {
            let inputs = class
                .choices
                .iter()
                .filter(|(_, files)| files.iter().any(|file| is_model_file(file)));
            inputs.map(move |(input, files)| ModelInput { class_type, input, files })
        })
    }

    /// Every model file that any input offers.
    #[must_use]
    pub fn models(&self) -> BTreeSet<String> {
        let files = self.model_inputs().flat_map(|input| input.files);
        files.filter(|file| is_model_file(file)).cloned().collect()
    }
}

/// The values that an input offers. Two spellings are in use: `[[values…], {…}]`, and `["COMBO", {"options": […]}]`
/// (ComfyUI source).
fn choices(spec: &Value) -> Option<Vec<String>> {
    let head = spec.get(0)?;
    let list = head.as_array().or_else(|| {
        (head.as_str() == Some("COMBO")).then(|| spec.get(1)?.get("options")?.as_array()).flatten()
    })?;
    Some(list.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests;
