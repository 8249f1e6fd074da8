//! The rules once more, written against JSON and as plainly as can be: what the real ones must
//! agree with.

use serde_json::Value;

/// Whether the worker may run the class's jobs, both as JSON.
pub fn may_run(class: &Value, worker: &str, worker_has: &Value) -> bool {
    let asked = &class["requirements"];
    let service = match class["service"].as_str() {
        Some(name) if worker_has["services"].get(name).is_some() => &worker_has["services"][name],
        _ => return false,
    };
    let excluded = holds_text(&class["excluded"], worker);
    let unwanted = holds_text(&asked["must_not"]["workers"], worker);
    !excluded
        && !unwanted
        && hardware(&asked["hardware"], &worker_has["hardware"])
        && texts(&asked["models"]).all(|model| holds_text(&service["models"], model))
        && texts(&asked["node_classes"]).all(|name| holds_text(&service["node_classes"], name))
        && !texts(&asked["must_not"]["models"]).any(|model| holds_text(&service["models"], model))
        && fields(&asked["labels"]).all(|(label, condition)| {
            worker_has["labels"].get(label).is_some_and(|value| holds(condition, value))
        })
        && !fields(&asked["must_not"]["labels"]).any(|(label, condition)| {
            worker_has["labels"].get(label).is_some_and(|value| holds(condition, value))
        })
        && customer(&class["customer"], &asked["customer"], &worker_has["customers"])
}

fn hardware(asked: &Value, has: &Value) -> bool {
    let number = |value: &Value| value.as_f64().unwrap_or(0.0);
    let gpus = has["gpus"].as_array().unwrap();
    let largest = gpus.iter().map(|gpu| number(&gpu["memory_gb"])).fold(0.0, f64::max);
    number(&asked["gpu_memory_gb"]) <= largest
        && number(&asked["gpu_count"]) <= gpus.len() as f64
        && number(&asked["cpu_cores"]) <= number(&has["cpu_cores"])
        && number(&asked["ram_gb"]) <= number(&has["ram_gb"])
}

fn customer(customer: &Value, asked: &Value, rules: &Value) -> bool {
    let listed = |list: &Value| customer.as_str().is_some_and(|id| holds_text(list, id));
    let allowed = rules["allowed"].is_null() || listed(&rules["allowed"]);
    let isolated = asked["isolation"] != "strict" || rules["isolation"] == "strict";
    allowed && !listed(&rules["denied"]) && isolated
}

fn holds(condition: &Value, value: &Value) -> bool {
    fields(condition).all(|(operator, operand)| match operator {
        "eq" => same(operand, value),
        "in" => operand.as_array().unwrap().iter().any(|one| same(one, value)),
        "all" => value.is_array() && texts(operand).all(|text| holds_text(value, text)),
        bound => value.as_f64().is_some_and(|value| {
            let operand = operand.as_f64().unwrap();
            match bound {
                "gt" => value > operand,
                "gte" => value >= operand,
                "lt" => value < operand,
                "lte" => value <= operand,
                _ => panic!("unknown operator {bound}"),
            }
        }),
    })
}

/// Lists come sorted from sets; numbers are equal as numbers.
fn same(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().map(|text| text.as_str().unwrap())
}

fn holds_text(list: &Value, text: &str) -> bool {
    texts(list).any(|one| one == text)
}

fn fields(object: &Value) -> impl Iterator<Item = (&str, &Value)> {
    object.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}
