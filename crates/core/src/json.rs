//! Writing JSON, and naming places in it.

use serde::Serialize;

/// What is kept or answered as JSON. Nothing of ours is such that JSON cannot write it; an empty text
/// in its place would be taken for the truth.
pub fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("records hold nothing that JSON cannot write")
}

/// A field's name as a JSON pointer has it (RFC 6901).
pub fn pointer_token(field: &str) -> String {
    field.replace('~', "~0").replace('/', "~1")
}
