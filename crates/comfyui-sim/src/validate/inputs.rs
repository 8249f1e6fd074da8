use std::collections::BTreeMap;

use serde_json::{Map, Number, Value, json};

use super::Checked;
use crate::folders::{Folders, Root};
use crate::nodes::{Catalog, Input};

/// Checks nodes and those before them, each once.
pub(super) struct Validator<'a> {
    pub(super) graph: &'a mut Map<String, Value>,
    pub(super) catalog: &'a Catalog,
    pub(super) folders: &'a Folders,
    pub(super) checked: BTreeMap<String, Checked>,
    /// The nodes on the way from an output to the one that is checked, to find cycles.
    pub(super) path: Vec<String>,
}

/// Validation stumbled over a link to nowhere; ComfyUI raises a KeyError with that node id.
struct NoSuchNode(String);

impl Validator<'_> {
    /// Checks everything that an output depends on.
    pub(super) fn check_output(&mut self, id: &str) -> bool {
        self.check(id).unwrap_or_else(|NoSuchNode(missing)| {
            let extra_info = json!({ "exception_type": "KeyError", "traceback": [] });
            let message = "Exception when validating node";
            let errors = vec![error(
                "exception_during_validation",
                message,
                &format!("'{missing}'"),
                extra_info,
            )];
            self.checked.insert(id.to_owned(), Checked { valid: false, errors });
            false
        })
    }

    fn check(&mut self, id: &str) -> Result<bool, NoSuchNode> {
        if let Some(checked) = self.checked.get(id) {
            return Ok(checked.valid);
        }
        if self.path.iter().any(|node| node == id) {
            return Ok(self.cycle(id));
        }
        self.path.push(id.to_owned());
        let checked = self.check_inputs(id);
        self.path.pop();
        let checked = checked?;
        let valid = checked.valid;
        self.checked.entry(id.to_owned()).or_insert(checked);
        Ok(valid)
    }

    fn cycle(&mut self, id: &str) -> bool {
        let nodes = self.path.join(" -> ");
        let errors =
            vec![error("dependency_cycle", "Dependency cycle detected", &nodes, json!({}))];
        self.checked.insert(id.to_owned(), Checked { valid: false, errors });
        false
    }

    fn check_inputs(&mut self, id: &str) -> Result<Checked, NoSuchNode> {
        let catalog = self.catalog;
        let class_type = self.class_type(id)?;
        let Some(class) = catalog.class(&class_type) else { return Err(NoSuchNode(id.to_owned())) };
        let given =
            self.graph[id].get("inputs").and_then(Value::as_object).cloned().unwrap_or_default();
        let mut errors = Vec::new();
        let mut sources_valid = true;
        for input in class.inputs() {
            match given.get(input.name) {
                None if input.required => errors.push(missing(&input)),
                None => {}
                Some(Value::Array(parts)) => match self.check_link(&input, parts)? {
                    Ok(valid) => sources_valid &= valid,
                    Err(wrong) => errors.push(wrong),
                },
                Some(value) => match self.check_value(&input, value) {
                    Ok(converted) => self.graph[id]["inputs"][input.name] = converted,
                    Err(wrong) => errors.push(wrong),
                },
            }
        }
        Ok(Checked { valid: errors.is_empty() && sources_valid, errors })
    }

    fn class_type(&self, id: &str) -> Result<String, NoSuchNode> {
        let class_type =
            self.graph.get(id).and_then(|node| node.get("class_type")).and_then(Value::as_str);
        class_type.map(str::to_owned).ok_or_else(|| NoSuchNode(id.to_owned()))
    }

    /// Whether what is linked is valid; or what is wrong with the link itself.
    fn check_link(
        &mut self,
        input: &Input<'_>,
        parts: &[Value],
    ) -> Result<Result<bool, Value>, NoSuchNode> {
        let [Value::String(source), slot] = parts else { return Ok(Err(bad_link(input, parts))) };
        let class_type = self.class_type(source)?;
        let outputs = self
            .catalog
            .class(&class_type)
            .map(|class| class.outputs.as_slice())
            .unwrap_or_default();
        let received = slot.as_u64().and_then(|slot| outputs.get(usize::try_from(slot).ok()?));
        let Some(received) = received else { return Err(NoSuchNode(source.clone())) };
        let wanted = input.type_name();
        if received != wanted && received != "*" && wanted != "*" {
            return Ok(Err(wrong_type(input, received, parts)));
        }
        match self.check(source) {
            Ok(valid) => Ok(Ok(valid)),
            Err(NoSuchNode(missing)) => {
                self.stumbled(input, source, &missing, parts);
                Ok(Ok(false))
            }
        }
    }

    /// Blames a node for a link to nowhere that was found while checking it (recording rejected.json).
    fn stumbled(&mut self, input: &Input<'_>, source: &str, missing: &str, parts: &[Value]) {
        let details = format!("'{missing}'");
        let extra_info = json!({
            "input_name": input.name, "input_config": input.config, "exception_message": details,
            "exception_type": "KeyError", "traceback": [], "linked_node": parts,
        });
        let message = "Exception when validating inner node";
        let errors =
            vec![error("exception_during_inner_validation", message, &details, extra_info)];
        self.checked.insert(source.to_owned(), Checked { valid: false, errors });
    }

    fn check_value(&self, input: &Input<'_>, value: &Value) -> Result<Value, Value> {
        if input.is_link() {
            return if input.type_name() == "*" {
                Ok(value.clone())
            } else {
                Err(bad_link(input, std::slice::from_ref(value)))
            };
        }
        let converted =
            convert(input.type_name(), value).ok_or_else(|| not_convertible(input, value))?;
        in_range(input, &converted)?;
        if let Some(choices) = input.choices()
            && !choices.contains(&converted)
        {
            return Err(not_in_list(input, &converted, choices));
        }
        if input.option("image_upload").is_some() {
            self.image_exists(input, &converted)?;
        }
        Ok(converted)
    }

    fn image_exists(&self, input: &Input<'_>, value: &Value) -> Result<(), Value> {
        let name = value.as_str().unwrap_or_default();
        if self.folders.resolve(Root::Input, "", name).is_ok_and(|path| path.is_file()) {
            return Ok(());
        }
        let details = format!("{} - Invalid image file: {name}", input.name);
        Err(wrong_value(
            "custom_validation_failed",
            "Custom validation failed for node",
            &details,
            input,
            value,
        ))
    }
}

/// The value as Python would convert it; None where Python raises.
fn convert(type_name: &str, value: &Value) -> Option<Value> {
    match type_name {
        "INT" => match value {
            Value::Number(number) if number.is_f64() => {
                Some(json!(number.as_f64()?.trunc() as i64))
            }
            Value::Number(_) => Some(value.clone()),
            Value::Bool(flag) => Some(json!(i32::from(*flag))),
            Value::String(text) => text.trim().parse::<i64>().ok().map(|number| json!(number)),
            _ => None,
        },
        "FLOAT" => match value {
            Value::Number(number) => Number::from_f64(number.as_f64()?).map(Value::Number),
            Value::Bool(flag) => Some(json!(f64::from(u8::from(*flag)))),
            Value::String(text) => Number::from_f64(text.trim().parse().ok()?).map(Value::Number),
            _ => None,
        },
        "STRING" => match value {
            Value::String(_) => Some(value.clone()),
            other => Some(json!(other.to_string())),
        },
        "BOOLEAN" => Some(json!(match value {
            Value::Bool(flag) => *flag,
            Value::Null => false,
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            Value::Object(fields) => !fields.is_empty(),
        })),
        _ => Some(value.clone()),
    }
}

fn in_range(input: &Input<'_>, value: &Value) -> Result<(), Value> {
    let Some(number) = value.as_f64() else { return Ok(()) };
    let limit = |option| input.option(option).and_then(|limit| Some((limit, limit.as_f64()?)));
    if let Some((min, _)) = limit("min").filter(|(_, min)| number < *min) {
        let message = format!("Value {value} smaller than min of {min}");
        return Err(wrong_value("value_smaller_than_min", &message, input.name, input, value));
    }
    if let Some((max, _)) = limit("max").filter(|(_, max)| number > *max) {
        let message = format!("Value {value} bigger than max of {max}");
        return Err(wrong_value("value_bigger_than_max", &message, input.name, input, value));
    }
    Ok(())
}

fn missing(input: &Input<'_>) -> Value {
    let extra_info = json!({ "input_name": input.name });
    error("required_input_missing", "Required input is missing", input.name, extra_info)
}

fn bad_link(input: &Input<'_>, parts: &[Value]) -> Value {
    let message = "Bad linked input, must be a length-2 list of [node_id, slot_index]";
    wrong_value("bad_linked_input", message, input.name, input, &json!(parts))
}

fn wrong_type(input: &Input<'_>, received: &str, parts: &[Value]) -> Value {
    let details = format!(
        "{}, received_type({received}) mismatch input_type({})",
        input.name,
        input.type_name()
    );
    let extra_info = json!({
        "input_name": input.name, "input_config": input.config, "received_type": received, "linked_node": parts,
    });
    error("return_type_mismatch", "Return type mismatch between linked nodes", &details, extra_info)
}

fn not_convertible(input: &Input<'_>, value: &Value) -> Value {
    let type_name = input.type_name();
    let message = format!("Failed to convert an input value to a {type_name} value");
    let exception = format!("cannot convert {value} to {type_name}");
    let details = format!("{}, {value}, {exception}", input.name);
    let mut wrong = wrong_value("invalid_input_type", &message, &details, input, value);
    wrong["extra_info"]["exception_message"] = json!(exception);
    wrong
}

fn not_in_list(input: &Input<'_>, value: &Value, choices: &[Value]) -> Value {
    let choices: Vec<String> =
        choices.iter().map(|choice| format!("'{}'", choice.as_str().unwrap_or_default())).collect();
    let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let details = format!("{}: '{shown}' not in [{}]", input.name, choices.join(", "));
    wrong_value("value_not_in_list", "Value not in list", &details, input, value)
}

fn wrong_value(
    kind: &str,
    message: &str,
    details: &str,
    input: &Input<'_>,
    value: &Value,
) -> Value {
    let extra_info =
        json!({ "input_name": input.name, "input_config": input.config, "received_value": value });
    error(kind, message, details, extra_info)
}

fn error(kind: &str, message: &str, details: &str, extra_info: Value) -> Value {
    json!({ "type": kind, "message": message, "details": details, "extra_info": extra_info })
}
