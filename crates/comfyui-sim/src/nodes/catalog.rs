use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::Version;

/// Every node class the simulator knows, in the form of `/object_info`. Validation reads the same text that clients do,
/// as in ComfyUI.
const CLASSES: &str = include_str!("object_info.json");

/// Stand in `object_info.json` for lists that depend on the machine.
const CHECKPOINTS: &str = "$checkpoints";
const INPUT_IMAGES: &str = "$input_images";

/// The node classes of one simulator.
#[derive(Debug)]
pub(crate) struct Catalog {
    version: Version,
    classes: BTreeMap<String, Class>,
}

/// One node class.
#[derive(Debug, Deserialize)]
pub(crate) struct Class {
    #[serde(rename = "input")]
    inputs: BTreeMap<String, Map<String, Value>>,
    /// Types of its outputs.
    #[serde(rename = "output")]
    pub(crate) outputs: Vec<String>,
    /// Whether it makes a prompt worth running.
    pub(crate) output_node: bool,
    display_name: String,
    category: String,
}

/// One input of a node class.
pub(crate) struct Input<'a> {
    pub(crate) name: &'a str,
    pub(crate) required: bool,
    /// `[type or choices, {options}]`, as `/object_info` shows it.
    pub(crate) config: &'a Value,
}

impl Input<'_> {
    /// Such as `INT`, `IMAGE`; `COMBO` for a list of choices.
    pub(crate) fn type_name(&self) -> &str {
        self.config[0].as_str().filter(|name| *name != INPUT_IMAGES).unwrap_or("COMBO")
    }

    /// What may be chosen; None for inputs that are no choice, and for those the node checks by itself.
    pub(crate) fn choices(&self) -> Option<&Vec<Value>> {
        self.config[0].as_array()
    }

    /// An option, such as `min`.
    pub(crate) fn option(&self, name: &str) -> Option<&Value> {
        self.config.get(1)?.get(name)
    }

    /// Whether it can only be linked.
    pub(crate) fn is_link(&self) -> bool {
        !matches!(self.type_name(), "INT" | "FLOAT" | "STRING" | "BOOLEAN" | "COMBO")
    }
}

impl Catalog {
    /// # Errors
    /// When the built-in text is not what this code expects.
    pub(crate) fn new(version: Version, checkpoints: &[String]) -> Result<Self, serde_json::Error> {
        let mut classes: BTreeMap<String, Class> = serde_json::from_str(CLASSES)?;
        let specs = classes
            .values_mut()
            .flat_map(|class| class.inputs.values_mut())
            .flat_map(Map::values_mut);
        for choices in specs.filter_map(|spec| spec.get_mut(0)).filter(|head| **head == CHECKPOINTS)
        {
            *choices = json!(checkpoints);
        }
        Ok(Self { version, classes })
    }

    pub(crate) fn class(&self, class_type: &str) -> Option<&Class> {
        self.classes.get(class_type)
    }

    /// The reply of `/object_info`, or with a class that of `/object_info/{class}`.
    pub(crate) fn object_info(&self, class_type: Option<&str>, input_images: &[String]) -> Value {
        let wanted =
            self.classes.iter().filter(|(name, _)| class_type.is_none_or(|wanted| wanted == *name));
        Value::Object(
            wanted
                .map(|(name, class)| (name.clone(), self.describe(name, class, input_images)))
                .collect(),
        )
    }

    fn describe(&self, name: &str, class: &Class, input_images: &[String]) -> Value {
        let mut inputs = json!(class.inputs);
        let groups = inputs
            .as_object_mut()
            .into_iter()
            .flat_map(Map::values_mut)
            .filter_map(Value::as_object_mut);
        for choices in groups.flat_map(Map::values_mut).filter_map(|spec| spec.get_mut(0)) {
            if *choices == INPUT_IMAGES {
                *choices = json!(input_images);
            }
        }
        let order: Map<String, Value> = class
            .inputs
            .iter()
            .map(|(group, inputs)| (group.clone(), inputs.keys().cloned().collect()))
            .collect();
        let mut described = json!({
            "input": inputs, "input_order": order, "output": class.outputs, "output_name": class.outputs,
            "output_is_list": vec![false; class.outputs.len()], "name": name, "display_name": class.display_name,
            "description": "", "python_module": "nodes", "category": class.category, "output_node": class.output_node,
        });
        if self.version.is_newer() {
            described["is_input_list"] = json!(false);
            described["has_intermediate_output"] = json!(false);
            described["search_aliases"] = json!([]);
        }
        described
    }
}

impl Class {
    /// The inputs that a graph may give, required ones first.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = Input<'_>> {
        [("required", true), ("optional", false)].into_iter().flat_map(|(group, required)| {
            let inputs = self.inputs.get(group).into_iter().flatten();
            inputs.map(move |(name, config)| Input { name, required, config })
        })
    }
}
