//! Writing JSON.

use serde::Serialize;

/// What is kept or answered as JSON. Nothing of ours is such that JSON cannot write it; an empty text
/// in its place would be taken for the truth.
pub fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("records hold nothing that JSON cannot write")
}
