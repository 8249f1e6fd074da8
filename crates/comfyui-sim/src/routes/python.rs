//! What Python writes: answers by `json.dumps`, beyond what JSON allows, and tracebacks.

use std::io;

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

/// What aiohttp logs of a request that failed in the system.
pub(super) fn traceback(errno: i32, error: &io::Error) -> String {
    let error = error.to_string();
    let what = error.split(" (os error").next().unwrap_or_default();
    format!(
        "Error handling request from 127.0.0.1\nTraceback (most recent call last):\nOSError: [Errno \
         {errno}] {what}"
    )
}
