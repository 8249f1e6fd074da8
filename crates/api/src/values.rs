//! How many values a body has. Each may take a hundred times the bytes of its text once it is
//! read, so there is a limit, and they are counted before anything is made of them.

use pointsman_core::{
    bounds::MAX_RESULT,
    matching::{MAX_CUSTOMERS, MAX_OFFERED},
};
use serde::de::DeserializeOwned;

use crate::{ErrorCode, Problem, read_json};

/// Entries of all lists and objects of one submission at most.
pub(crate) const MAX_SUBMITTED: usize = 1_000_000;
/// Of one registration: the names of a label take more memory each than the values of a result.
pub const MAX_OFFERS: usize = 500_000;
/// Of any other body.
pub const MAX_SAID: usize = 5_000_000;

// What workers may say: all that ten services may have, and the largest result, each entry of which
// has two bytes at the least. What stands beside these lists has the rest.
const _: () = assert!(2 * 10 * MAX_OFFERED + 2 * MAX_CUSTOMERS + 10_000 < MAX_OFFERS);
const _: () = assert!(MAX_RESULT / 2 + 100_000 < MAX_SAID);

/// Reads a body that is no submission, strictly, unless it has more values than `most`.
///
/// # Errors
/// `too_long` for the whole, or what [`read_json`] finds.
pub fn read_said<T: DeserializeOwned>(body: &[u8], most: usize) -> Result<T, Problem> {
    check_values(body, most)?;
    read_json(body)
}

/// Refuses JSON of too many values.
///
/// # Errors
/// `too_long` for the whole.
pub(crate) fn check_values(json: &[u8], most: usize) -> Result<(), Problem> {
    // Each has a byte at the least.
    let values = if json.len() > most { count(json) } else { 0 };
    if values <= most {
        return Ok(());
    }
    let detail =
        format!("the lists and objects have {values} entries in all, and {most} is the most");
    Err(Problem::new(ErrorCode::TooLong, detail).at(""))
}

/// Bytes of JSON without the blanks between its values.
pub(crate) fn without_blanks(json: &str) -> usize {
    without_blanks_between(json.as_bytes()).count()
}

/// The bytes of JSON but the blanks between its values, each with whether it is one of the marks that
/// begin, part and end values: the rest of a text is none.
fn without_blanks_between(json: &[u8]) -> impl Iterator<Item = (u8, bool)> {
    let (mut in_text, mut is_escaped) = (false, false);
    json.iter().copied().filter_map(move |byte| {
        let is_mark = !in_text && !is_escaped && byte != b'\\';
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => in_text = !in_text,
            b' ' | b'\t' | b'\n' | b'\r' if is_mark => return None,
            _ => {}
        }
        Some((byte, is_mark))
    })
}

fn count(json: &[u8]) -> usize {
    let (mut values, mut is_begun) = (0, false);
    for (byte, _) in without_blanks_between(json).filter(|(_, is_mark)| *is_mark) {
        // What follows a bracket is its first entry, unless it closes it.
        let is_first = is_begun && !matches!(byte, b'}' | b']');
        values += usize::from(is_first || byte == b',');
        is_begun = matches!(byte, b'{' | b'[');
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entries_of_all_lists_and_objects_count() {
        for (json, values) in [
            ("7", 0),
            ("{}", 0),
            ("[ ]", 0),
            ("[7]", 1),
            (r#"{"a": 1, "b": 2}"#, 2),
            ("[[], [ [], {} ],\n[1,2]]", 7),
            (r#"{"a":"[1,2,3]\",[","b\\":[{},"]"]}"#, 4),
        ] {
            assert_eq!(count(json.as_bytes()), values, "{json}");
        }
    }

    #[test]
    fn blanks_between_values_are_none_of_its_bytes() {
        for (json, bytes) in [
            ("", 0),
            (" { } ", 2),
            ("[1,\n\t2]", 5),
            (r#"{ "a b" : "\" c" }"#, 14),
            (r#"["\\" ]"#, 6),
        ] {
            assert_eq!(without_blanks(json), bytes, "{json}");
        }
    }

    #[test]
    fn as_many_as_may_be_are_taken_and_one_more_is_not() {
        let list = |values: usize| format!("[{}1]", "1,".repeat(values - 1));
        let check = |values| check_values(list(values).as_bytes(), MAX_SUBMITTED);
        assert_eq!(check(MAX_SUBMITTED), Ok(()));
        let refused = check(MAX_SUBMITTED + 1).unwrap_err();
        assert!(refused.is(ErrorCode::TooLong), "{refused}");
        assert!(refused.detail.contains("1000001 entries"), "{refused}");
    }
}
