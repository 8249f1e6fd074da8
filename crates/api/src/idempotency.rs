//! What "the same body" means for an idempotency key: the same values, however they are written.

use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The SHA-256 of the values: the order of keys and the space between them do not count.
pub(crate) fn fingerprint(values: &[&Value]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for value in values {
        feed(&mut hash, value);
    }
    hash.finalize().into()
}

fn feed(hash: &mut Sha256, value: &Value) {
    match value {
        Value::Array(items) => {
            hash.update(b"[");
            hash.update(items.len().to_le_bytes());
            items.iter().for_each(|item| feed(hash, item));
        }
        Value::Object(fields) => {
            hash.update(b"{");
            hash.update(fields.len().to_le_bytes());
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_unstable_by_key(|(name, _)| *name);
            for (name, value) in sorted {
                text(hash, b"k", name);
                feed(hash, value);
            }
        }
        Value::String(string) => text(hash, b"s", string),
        scalar => text(hash, b"v", &scalar.to_string()),
    }
}

fn text(hash: &mut Sha256, kind: &[u8], text: &str) {
    hash.update(kind);
    hash.update(text.len().to_le_bytes());
    hash.update(text);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn equal_values_are_equal_and_different_ones_are_not() {
        let a: Value = serde_json::from_str(r#"{"a":1,"b":[true,"x"]}"#).unwrap();
        let b: Value = serde_json::from_str(r#"{ "b" : [true, "x"], "a":1 }"#).unwrap();
        assert_eq!(fingerprint(&[&a]), fingerprint(&[&b]));
        for other in
            [json!({"a":1}), json!({"a":"1","b":[true,"x"]}), json!({"a":1,"b":[["x"],true]})]
        {
            assert_ne!(fingerprint(&[&a]), fingerprint(&[&other]));
        }
    }
}
