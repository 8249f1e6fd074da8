//! How deep JSON is nested. Readers of JSON go only so deep, and what one job brings stands within
//! answers that bring others too: so there is a limit, and it lies well below that of readers.

use crate::{ErrorCode, Problem};

/// Refuses JSON text in which objects and lists stand within each other more than `most` times.
///
/// # Errors
/// `too_deep` at this place.
pub(crate) fn check_depth(json: &str, most: usize, place: &str) -> Result<(), Problem> {
    let depth = depth(json);
    if depth <= most {
        return Ok(());
    }
    let field = place.trim_start_matches('/');
    let detail = format!("{field} is nested {depth} levels deep, and {most} is the most");
    Err(Problem::new(ErrorCode::TooDeep, detail).at(place))
}

/// Without recursion, so however deep it is.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_text, mut is_escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_within_each_other_counts() {
        for (json, levels) in [
            ("7", 0),
            ("{}", 1),
            (r#"{"a":{},"b":{}}"#, 2),
            (r#"[[{"a":[1]}],[]]"#, 4),
            (r#"{"a[{":"]\"[[[\\"}"#, 1),
            (r#"{"a":"\\","b":[]}"#, 2),
        ] {
            assert_eq!(depth(json), levels, "{json}");
        }
        let deep = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
        assert!(check_depth(&deep, 999_999, "/x").unwrap_err().is(ErrorCode::TooDeep));
        assert!(check_depth(&deep, 1_000_000, "/x").is_ok());
    }
}
