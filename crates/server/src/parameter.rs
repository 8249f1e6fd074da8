//! What is wrong with a parameter of the address: which, what was given, and what may be.

use percent_encoding::percent_decode_str;
use pointsman_api::{ErrorCode, Problem};
use pointsman_core::bounds::brief;
use utoipa::{
    Number,
    openapi::{RefOr, path::Parameter, schema::Schema},
};

/// A number that is out of its range.
pub(crate) fn out_of_range(name: &str, given: u32, range: (u32, u32)) -> Problem {
    let (least, most) = range;
    not_valid(name, &given.to_string(), &format!("a whole number from {least} to {most}"))
}

/// What the reader of a query said, as a problem; `known` are the parameters that the route takes.
pub(crate) fn problem(said: &str, query: &str, known: &[Parameter]) -> Problem {
    let text = said.split_once("query string: ").map_or(said, |(_, text)| text);
    let named = |marker: &str| text.split_once(marker)?.1.split('`').next();
    let expected = text.split_once(", expected ").map(|(_, right)| right);
    if let Some(name) = named("unknown field `") {
        let takes = expected.map(|names| names.strip_prefix("one of ").unwrap_or(names));
        let takes = takes.map(|names| format!(": this route takes {names}")).unwrap_or_default();
        return invalid(name, format!("there is no parameter {name}{takes}"));
    }
    if let Some(name) = named("missing field `") {
        return invalid(name, format!("the parameter {name} is missing"));
    }
    if let Some(name) = named("duplicate field `") {
        return invalid(name, format!("{name} is given more than once"));
    }
    let is_name = |name: &&str| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let name = text.split_once(": ").map(|(name, _)| name).filter(is_name);
    let Some(name) = name else { return invalid("", text) };
    let range = known.iter().find(|parameter| parameter.name == name).and_then(range);
    match expected.map(str::to_owned).or(range) {
        Some(right) => not_valid(name, &given(query, name), &right),
        // An id says itself what it may be.
        None => invalid(name, text),
    }
}

fn not_valid(name: &str, given: &str, right: &str) -> Problem {
    invalid(name, format!("{name}={given} is not valid: use {right}"))
}

fn invalid(name: &str, detail: impl Into<String>) -> Problem {
    Problem::new(ErrorCode::InvalidQuery, detail).at(format!("?{name}"))
}

/// What stands behind the name, cut; quoted where blanks around it would not be seen: a `+` is one.
fn given(query: &str, name: &str) -> String {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let value = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).next();
    let value = value.unwrap_or_default().replace('+', " ");
    let value = percent_decode_str(&value).decode_utf8_lossy();
    match value.trim() == value {
        true => brief(&value),
        false => brief(&format!("{value:?}")),
    }
}

/// The numbers that the parameter may be, if it is one.
fn range(parameter: &Parameter) -> Option<String> {
    let Some(RefOr::T(Schema::Object(schema))) = &parameter.schema else { return None };
    let number = |limit: &Number| match limit {
        Number::Int(number) => number.to_string(),
        Number::UInt(number) => number.to_string(),
        Number::Float(number) => number.to_string(),
    };
    let least = schema.minimum.as_ref().map(number)?;
    let most = schema.maximum.as_ref().map_or_else(|| u32::MAX.to_string(), number);
    Some(format!("a whole number from {least} to {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_parameter_is_named() {
        for (said, pointer) in [
            (
                "Failed to deserialize query string: status: unknown variant `x`, expected a",
                "?status",
            ),
            ("Failed to deserialize query string: unknown field `foo`, expected `a`", "?foo"),
            ("Failed to deserialize query string: missing field `job`", "?job"),
            ("Failed to deserialize query string: duplicate field `limit`", "?limit"),
            ("something else", "?"),
        ] {
            let problem = problem(said, "status=x&foo=1", &[]);
            assert_eq!(problem.pointer.as_deref(), Some(pointer), "{said}");
        }
    }
}
