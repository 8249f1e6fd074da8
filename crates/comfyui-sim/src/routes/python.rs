//! Answers as Python's `json.dumps` writes them, beyond what JSON allows.

use serde_json::{Map, Value};

/// A history in which every node that shows pictures shows more.
pub(super) fn history(entries: &Map<String, Value>) -> String {
    let deep = "[".repeat(150) + &"]".repeat(150);
    let odd = format!(r#""odd":[NaN,-Infinity,"\ud83d",{deep}],"images":"#);
    Value::from(entries.clone()).to_string().replace(r#""images":"#, &odd)
}

/// Node classes whose lists of files begin with one whose name is not UTF-8.
pub(super) fn classes(classes: &Value) -> String {
    classes.to_string().replace("[[\"", r#"[["caf\udce9.png",""#)
}
