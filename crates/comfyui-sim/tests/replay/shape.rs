use serde_json::{Map, Value, json};

/// What stays of a value when its content is taken away: its fields, and the kinds of what is in them.
pub fn shape(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), field(name, value))).collect()
        }
        Value::Array(items) => match items.iter().find(|item| item.is_object()) {
            Some(object) => json!([shape(object)]),
            None => json!("list"),
        },
        Value::Null => json!("null"),
        Value::Bool(_) => json!("bool"),
        Value::Number(_) => json!("number"),
        Value::String(_) => json!("text"),
    }
}

/// Some fields hold what depends on the node, the machine or the clock.
fn field(name: &str, value: &Value) -> Value {
    match name {
        // Other nodes, other inputs.
        "current_inputs" | "input_order" => json!("any"),
        // A CPU has none.
        "index" => json!("any"),
        // A tuple of which the graph is known: it was submitted.
        "prompt" => json!([shape(&value[0]), shape(&value[1]), shape(&value[3]), value[4]]),
        "messages" => Value::Array(
            value
                .as_array()
                .into_iter()
                .flatten()
                .map(|message| json!([message[0], shape(&message[1])]))
                .collect(),
        ),
        // Types of messages and states say what happens.
        "state" | "status_str" => value.clone(),
        _ => shape(value),
    }
}

/// A websocket message in one line: its type, what its node does, its fields.
pub fn message(message: &Value) -> String {
    let kind = message["type"].as_str().unwrap_or("untyped");
    let node = message["data"]["node"].as_str().unwrap_or_default();
    format!("{kind} {node} {}", shape(&message["data"]))
}

/// The answer to a request: its status, and of refusals every word.
pub fn answer(status: u16, body: &Value) -> Value {
    let body = match (status, body.get("queue_running")) {
        (400, _) => without_tracebacks(body),
        (_, Some(_)) => queue(body),
        _ => shape(body),
    };
    json!({ "status": status, "body": body })
}

fn queue(body: &Value) -> Value {
    let entries = |field: &str| {
        let items = body[field].as_array().into_iter().flatten();
        Value::Array(
            items
                .map(|item| json!([shape(&item[0]), shape(&item[1]), shape(&item[3]), item[4]]))
                .collect(),
        )
    };
    json!({ "queue_running": entries("queue_running"), "queue_pending": entries("queue_pending") })
}

fn without_tracebacks(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(name, _)| *name != "traceback");
            Value::Object(
                kept.map(|(name, value)| (name.clone(), without_tracebacks(value)))
                    .collect::<Map<_, _>>(),
            )
        }
        Value::Array(items) => items.iter().map(without_tracebacks).collect(),
        other => other.clone(),
    }
}

/// Takes out repetitions of progress, previews included: how many there are is a matter of time.
pub fn without_repetitions(messages: Vec<String>) -> Vec<String> {
    let is_progress = |line: &String| line.starts_with("progress") || line.starts_with("binary");
    let mut kept: Vec<String> = Vec::new();
    for message in messages {
        kept.push(message);
        for length in 1..=3 {
            let Some(start) = kept.len().checked_sub(2 * length) else { break };
            let (before, last) = kept[start..].split_at(length);
            if before == last && last.iter().all(is_progress) {
                kept.truncate(start + length);
                break;
            }
        }
    }
    kept
}
