//! Reading a JSON body strictly, with a pointer to whatever is wrong.

use std::borrow::Cow;

use pointsman_core::pointer_token;
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use serde_path_to_error::{Path, Segment};

use crate::{ErrorCode, Problem};

/// Levels of a body that `serde_json` reads.
const READABLE: usize = 127;

/// Reads a request. The place of a mistake is looked for only once there is one.
///
/// # Errors
/// A problem with code, pointer and cure for the first thing that is wrong.
pub fn read_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // Serde would also read an object from a list of its fields in order.
    if first_byte(body).is_some_and(|first| first == b'[') {
        let detail = "expected a JSON object, found a list";
        return Err(Problem::new(ErrorCode::WrongType, detail).at(""));
    }
    serde_json::from_slice(body).map_err(|error| match error.classify() {
        Category::Data => locate::<T>(body),
        _ if is_too_deep(&error) || is_out_of_range(&error) => locate::<T>(body),
        _ => not_json(body, &error),
    })
}

fn first_byte(body: &[u8]) -> Option<u8> {
    body.iter().copied().find(|byte| !byte.is_ascii_whitespace())
}

/// Serde counts this as a fault of the syntax, and has no other name for it.
fn is_too_deep(error: &serde_json::Error) -> bool {
    error.to_string().starts_with("recursion limit exceeded")
}

/// Of this, too: JSON has such numbers, and `f64` has not.
fn is_out_of_range(error: &serde_json::Error) -> bool {
    error.to_string().starts_with("number out of range")
}

/// The number at which reading stopped, or its beginning.
fn number_at<'a>(body: &'a [u8], error: &serde_json::Error) -> Cow<'a, str> {
    const SHOWN: usize = 40;
    let of_number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
    let mut lines = body.split(|byte| *byte == b'\n');
    let line = lines.nth(error.line().saturating_sub(1)).unwrap_or_default();
    let (before, after) = line.split_at(error.column().saturating_sub(1).min(line.len()));
    let begin = before.iter().rposition(|byte| !of_number(byte)).map_or(0, |at| at + 1);
    let length = before.len() - begin + after.iter().take_while(|byte| of_number(byte)).count();
    let shown = String::from_utf8_lossy(&line[begin..begin + length.min(SHOWN)]);
    if length > SHOWN { format!("{shown}…").into() } else { shown }
}

fn not_json(body: &[u8], error: &serde_json::Error) -> Problem {
    let detail = match first_byte(body) {
        None => "the body is empty".to_owned(),
        Some(_) => format!("not JSON: {error}"),
    };
    Problem::new(ErrorCode::InvalidJson, detail).at("")
}

/// Reads again a body that is known to be wrong, to find out where.
fn locate<T: DeserializeOwned>(body: &[u8]) -> Problem {
    let mut from = serde_json::Deserializer::from_slice(body);
    match serde_path_to_error::deserialize::<_, T>(&mut from) {
        // The field is too deep, not the one place within it where reading stopped.
        Err(error) if is_too_deep(error.inner()) => {
            let field: String = error.path().iter().take(1).map(pointer_to).collect();
            let detail = format!("it is nested deeper than can be read: {READABLE} levels in all");
            Problem::new(ErrorCode::TooDeep, detail).at(field)
        }
        Err(error) if is_out_of_range(error.inner()) => {
            let number = number_at(body, error.inner());
            let detail = format!("{number} is too large a number: the largest is about 1.8e308");
            Problem::new(ErrorCode::OutOfRange, detail).at(pointer_of(error.path()))
        }
        Err(error) => mistake(error.path(), &error.inner().to_string()),
        Ok(_) => Problem::new(ErrorCode::InvalidJson, "something follows the JSON object").at(""),
    }
}

/// The JSON pointer of a path.
fn pointer_of(path: &Path) -> String {
    path.iter().map(pointer_to).collect()
}

fn pointer_to(segment: &Segment) -> String {
    match segment {
        Segment::Seq { index } => format!("/{index}"),
        Segment::Map { key } => format!("/{}", pointer_token(key)),
        Segment::Enum { variant } => format!("/{}", pointer_token(variant)),
        Segment::Unknown => String::new(),
    }
}

/// What serde said, as a problem. What was sent may stand in it, and look like anything.
fn mistake(path: &Path, said: &str) -> Problem {
    let text = said.rsplit_once(" at line ").map_or(said, |(text, _)| text);
    let field = |code, before: &str| Some((code, text.strip_prefix(before)?));
    let of_field = field(ErrorCode::UnknownField, "unknown field `")
        .or_else(|| field(ErrorCode::MissingField, "missing field `"))
        .or_else(|| field(ErrorCode::WrongType, "duplicate field `"));
    let pointer = pointer_of(path);
    if let Some((code, quoted)) = of_field {
        let place = match path.iter().last() {
            // The path ends with it already.
            Some(Segment::Map { key }) if quoted.starts_with(&format!("{key}`")) => pointer,
            _ => format!("{pointer}/{}", pointer_token(quoted.split('`').next().unwrap_or(quoted))),
        };
        return Problem::new(code, text).at(place);
    }
    let is_of_serde = ["invalid ", "unknown variant "].iter().any(|begin| text.starts_with(begin));
    let code = if text.starts_with("invalid value: integer") {
        ErrorCode::OutOfRange
    } else if !is_of_serde && text.contains("is not valid: ") {
        ErrorCode::InvalidId
    } else {
        ErrorCode::WrongType
    };
    Problem::new(code, text).at(pointer)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only read")]
    struct Outer {
        inner: Option<Inner>,
        #[serde(default)]
        list: Vec<Inner>,
        #[serde(default)]
        free: serde_json::Value,
        id: pointsman_core::WorkerId,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only read")]
    struct Inner {
        n: u8,
    }

    #[test]
    fn every_mistake_has_its_code_and_place() {
        for (body, code, pointer) in [
            ("", "invalid_json", ""),
            ("{", "invalid_json", ""),
            (r#"{"id":"a"} x"#, "invalid_json", ""),
            ("\u{feff}{}", "invalid_json", ""),
            ("[]", "wrong_type", ""),
            ("7", "wrong_type", ""),
            ("{}", "missing_field", "/id"),
            (r#"{"id":"a","x/y":1}"#, "unknown_field", "/x~1y"),
            (r#"{"id":"a","inner":{"n":1,"m":2}}"#, "unknown_field", "/inner/m"),
            (r#"{"id":"a","inner":{}}"#, "missing_field", "/inner/n"),
            (r#"{"id":"a","inner":{"n":"1"}}"#, "wrong_type", "/inner/n"),
            (r#"{"id":"a","inner":{"n":1.5}}"#, "wrong_type", "/inner/n"),
            (r#"{"id":"a","list":[{"n":1},{"n":256}]}"#, "out_of_range", "/list/1/n"),
            (r#"{"id":"A B"}"#, "invalid_id", "/id"),
            (r#"{"id":"a","id":"b"}"#, "wrong_type", "/id"),
            // What was sent looks like what is said of it.
            (r#"{"id":"a","a`b":1}"#, "unknown_field", "/a`b"),
            (r#"{"id":"a","key at line 5":1}"#, "unknown_field", "/key at line 5"),
            (r#"{"id":"a","inner":{"n":"is not valid: x"}}"#, "wrong_type", "/inner/n"),
        ] {
            let problem = read_json::<Outer>(body.as_bytes()).unwrap_err();
            assert_eq!(
                (&*problem.code, problem.pointer.as_deref()),
                (code, Some(pointer)),
                "{body}: {problem}"
            );
        }
    }

    #[test]
    fn what_was_sent_is_told_as_it_is_and_not_at_any_length() {
        let text = r#"{"id":"a","inner":{"n":"5 at line 5"}}"#;
        let problem = read_json::<Outer>(text.as_bytes()).unwrap_err();
        assert!(problem.detail.contains(r#""5 at line 5", expected"#), "{problem}");
        let long = "x".repeat(1_000_000);
        for body in [
            format!(r#"{{"id":"a","{long}":1}}"#),
            format!(r#"{{"id":"a","inner":{{"n":"{long}"}}}}"#),
            format!(r#"{{"id":"a","list":[{{"{long}":1}}]}}"#),
        ] {
            let problem = read_json::<Outer>(body.as_bytes()).unwrap_err().within("/jobs/0");
            let size = serde_json::to_string(&problem).unwrap().len();
            assert!(size < 6_000 && problem.detail.ends_with('…'), "{size}");
        }
    }

    #[test]
    fn a_number_that_is_too_large_is_named_with_its_place() {
        for (number, body, pointer) in [
            ("1e400", r#"{"id":"a","free":{"x":[7,1e400]}}"#, "/free/x/1"),
            ("-1.5E+999", "{\"id\":\"a\",\n \"list\":[{\"n\":-1.5E+999}]}", "/list/0/n"),
            ("1e309", r#"{"free":1e309}"#, "/free"),
        ] {
            let problem = read_json::<Outer>(body.as_bytes()).unwrap_err();
            let place = (&*problem.code, problem.pointer.as_deref());
            assert_eq!(place, ("out_of_range", Some(pointer)), "{body}: {problem}");
            let detail = &problem.detail;
            assert!(detail.starts_with(&format!("{number} is too large")), "{detail}");
        }
        let long = format!(r#"{{"free":1{}}}"#, "0".repeat(1_000));
        let problem = read_json::<Outer>(long.as_bytes()).unwrap_err();
        assert!(problem.is(ErrorCode::OutOfRange) && problem.detail.len() < 200, "{problem}");
    }

    #[test]
    fn what_is_nested_too_deeply_is_told_as_that() {
        let nested = |levels: usize| {
            let free = "[".repeat(levels) + &"]".repeat(levels);
            read_json::<Outer>(format!(r#"{{"id":"a","free":{free}}}"#).as_bytes())
        };
        assert!(nested(READABLE - 1).is_ok());
        let problem = nested(READABLE).unwrap_err();
        assert_eq!((&*problem.code, problem.pointer.as_deref()), ("too_deep", Some("/free")));
    }
}
