//! JSON pointers (RFC 6901).

use pointsman_core::pointer_token;
use serde_path_to_error::{Path, Segment};

/// The pointer to where reading failed.
pub(crate) fn of_path(path: &Path) -> String {
    let segment = |segment: &Segment| match segment {
        Segment::Seq { index } => format!("/{index}"),
        Segment::Map { key } => format!("/{}", pointer_token(key)),
        Segment::Enum { variant } => format!("/{variant}"),
        Segment::Unknown => String::new(),
    };
    path.iter().map(segment).collect()
}
