//! JSON as ComfyUI writes it. Python's `json.dumps` writes what JSON does not allow: `NaN` and `Infinity` for numbers
//! that a node worked out, half a surrogate pair for a file name that is not UTF-8 or a text that was cut, and any
//! depth.

use serde::de::DeserializeOwned;

/// Levels of nesting that are kept; what lies deeper is read as null. More than a job's result may have, and fewer than
/// `serde_json` takes.
pub(crate) const MAX_DEPTH: usize = 120;

/// Python's words for what is no number.
const NO_NUMBERS: [&[u8]; 3] = [b"NaN", b"Infinity", b"-Infinity"];

/// Reads a value: strictly, and where that fails, leniently.
pub(crate) fn read<T: DeserializeOwned>(text: &[u8]) -> Result<T, serde_json::Error> {
    leniently(text, |text| serde_json::from_slice(text))
}

/// Parses a text as it is, and where that fails and something in it is Python's, once more without that.
pub(crate) fn leniently<T, E>(text: &[u8], parse: impl Fn(&[u8]) -> Result<T, E>) -> Result<T, E> {
    parse(text).or_else(|error| match as_json(text) {
        Some(json) => parse(&json),
        None => Err(error),
    })
}

/// The text with null for what is no number and for what lies too deep, and U+FFFD for half a surrogate pair; None
/// where it has nothing of the kind.
fn as_json(text: &[u8]) -> Option<Vec<u8>> {
    let mut copy = Copy { rest: text, json: Vec::with_capacity(text.len()), changed: false };
    let (mut depth, mut deep_from) = (0_usize, 0);
    while let Some(first) = copy.rest.first() {
        match first {
            b'"' => copy.string(),
            b'[' | b'{' => {
                if depth == MAX_DEPTH {
                    deep_from = copy.json.len();
                }
                depth += 1;
                copy.take(1);
            }
            b']' | b'}' => {
                copy.take(1);
                if depth == MAX_DEPTH + 1 {
                    copy.json.truncate(deep_from);
                    copy.put(b"null");
                }
                depth = depth.saturating_sub(1);
            }
            b'N' | b'I' | b'-' => {
                match NO_NUMBERS.iter().find(|word| copy.rest.starts_with(word)) {
                    Some(word) => copy.replace(word.len(), b"null"),
                    None => copy.take(1),
                }
            }
            _ => copy.take(1),
        }
    }
    copy.changed.then_some(copy.json)
}

/// A text on its way into JSON.
struct Copy<'a> {
    rest: &'a [u8],
    json: Vec<u8>,
    changed: bool,
}

impl Copy<'_> {
    /// Copies this many bytes, or what is left.
    fn take(&mut self, bytes: usize) {
        let (taken, rest) = self.rest.split_at(bytes.min(self.rest.len()));
        self.json.extend_from_slice(taken);
        self.rest = rest;
    }

    fn put(&mut self, instead: &[u8]) {
        self.json.extend_from_slice(instead);
        self.changed = true;
    }

    fn replace(&mut self, bytes: usize, instead: &[u8]) {
        self.rest = &self.rest[bytes..];
        self.put(instead);
    }

    /// Copies a string, from its first quote to its last.
    fn string(&mut self) {
        self.take(1);
        while let Some(byte) = self.rest.first() {
            match byte {
                b'"' => return self.take(1),
                b'\\' => match (escaped(self.rest), self.rest.get(6..).and_then(escaped)) {
                    (Some(0xD800..0xDC00), Some(0xDC00..0xE000)) => self.take(12),
                    (Some(0xD800..0xE000), _) => self.replace(6, b"\\ufffd"),
                    _ => self.take(2),
                },
                _ => self.take(1),
            }
        }
    }
}

/// The code unit that a text begins with, where it begins with `\uXXXX`.
fn escaped(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests;
