//! Names of files that come from outside.

use pointsman_core::bounds::MAX_NAME;

use crate::{ErrorCode, Problem};

/// Whether a name is a plain file name: no path, no trick.
///
/// # Errors
/// `invalid_name`, without a pointer: the caller knows the place.
pub fn check_file_name(name: &str) -> Result<(), Problem> {
    let complaint = if name.is_empty() {
        "a file name is empty".to_owned()
    } else if name.len() > MAX_NAME {
        format!("a file name has {} bytes, and {MAX_NAME} is the most", name.len())
    } else if name.starts_with('.') {
        format!("{name:?} begins with a dot")
    } else if let Some(c) = name.chars().find(|c| matches!(c, '/' | '\\') || c.is_control()) {
        format!("{name:?} contains {c:?}")
    } else {
        return Ok(());
    };
    Err(Problem::new(ErrorCode::InvalidName, complaint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_no_names() {
        for good in ["9-0-picture_00001_.png", "ä b (1).png", "a..b", "C:x", "%2e%2e%2fx"] {
            assert!(check_file_name(good).is_ok(), "{good}");
        }
        let long = "a".repeat(201);
        for bad in
            ["", ".", "..", ".hidden", "../x", "a/b", "/etc/passwd", "a\\b", "a\0b", "a\nb", &long]
        {
            let problem = check_file_name(bad).unwrap_err();
            assert!(problem.is(ErrorCode::InvalidName), "{bad}");
        }
    }
}
