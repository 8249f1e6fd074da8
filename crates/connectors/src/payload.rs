use pointsman_core::pointer_token;
use serde::de::DeserializeOwned;

use crate::pointer;

/// A payload that a service does not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("payload {pointer:?}: {reason}")]
pub struct PayloadError {
    /// JSON pointer (RFC 6901) to what is wrong; empty for the whole.
    pub pointer: String,
    /// What is wrong with it.
    pub reason: String,
}

impl PayloadError {
    pub(crate) fn new(pointer: impl Into<String>, reason: impl ToString) -> Self {
        Self { pointer: pointer.into(), reason: reason.to_string() }
    }
}

/// Reads a payload, which must be one JSON object.
pub(crate) fn read<T: DeserializeOwned>(payload: &[u8]) -> Result<T, PayloadError> {
    // A list would be read as the fields in their order.
    if payload.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
        return Err(PayloadError::new("", "expected a JSON object"));
    }
    // Read once without keeping track of the place, which almost always suffices.
    serde_json::from_slice(payload).map_err(|_| explain::<T>(payload))
}

/// Reads a payload again that is known to be wrong, to find out where.
fn explain<T: DeserializeOwned>(payload: &[u8]) -> PayloadError {
    let mut from = serde_json::Deserializer::from_slice(payload);
    match serde_path_to_error::deserialize::<_, T>(&mut from) {
        Err(error) => mistake(pointer::of_path(error.path()), &error.inner().to_string()),
        Ok(_) => PayloadError::new("", "something follows the JSON object"),
    }
}

/// What serde said, as what is wrong and what would be right.
fn mistake(pointer: String, said: &str) -> PayloadError {
    // A place within the payload's text says nothing to whoever sent a value.
    let text = said.rsplit_once(" at line ").map_or(said, |(text, _)| text);
    let field = || text.split('`').nth(1).unwrap_or_default();
    let (what, right) = text.split_once(", expected ").unwrap_or((text, ""));
    if what.starts_with("missing field") {
        return PayloadError::new(format!("{pointer}/{}", pointer_token(field())), "it is missing");
    }
    let (reason, right) = if what.starts_with("unknown field") {
        ("there is no such field".to_owned(), right)
    } else if what.starts_with("duplicate field") {
        return PayloadError::new(pointer, "it is there twice: leave one out");
    } else if let Some(found) =
        what.strip_prefix("invalid type: ").or(what.strip_prefix("invalid value: "))
    {
        (format!("it is {found}"), right)
    } else {
        return PayloadError::new(pointer, text);
    };
    PayloadError::new(pointer, format!("{reason}: use {right}"))
}
