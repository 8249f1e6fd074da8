//! Server-sent events, written piece by piece as the client takes them. What waits for one that
//! reads slowly are lines that all viewers share, and a few pieces of its own.

use std::{fmt::Write as _, sync::Arc, vec::IntoIter};

use bytes::Bytes;
use pointsman_api::Problem;
use pointsman_broker::frame::Line;
use pointsman_core::to_json;

/// Lines are put together up to about this size; a larger one is not copied.
const PIECE: usize = 16 << 10;

/// The pieces of some lines.
pub(crate) struct Written {
    /// Comes first.
    text: String,
    /// Comes then, as it is.
    whole: Option<Arc<str>>,
    lines: IntoIter<Line>,
}

impl Written {
    pub fn new(lines: Vec<Line>) -> Self {
        Self { text: String::new(), whole: None, lines: lines.into_iter() }
    }

    /// A comment: readers skip it, and a connection that is gone shows.
    pub fn alive() -> Self {
        Self { text: ": alive\n\n".to_owned(), ..Self::new(Vec::new()) }
    }

    /// The last of a stream that was begun, and may not go on.
    pub fn refused(problem: &Problem) -> Self {
        Self::new(vec![Line { id: None, event: "refused", data: to_json(problem).into() }])
    }
}

impl Iterator for Written {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.text.is_empty()
            && let Some(whole) = self.whole.take()
        {
            self.text = "\n\n".to_owned();
            return Some(Bytes::from_owner(Arc::<[u8]>::from(whole)));
        }
        let mut text = std::mem::take(&mut self.text);
        while self.whole.is_none() && text.len() < PIECE {
            let Some(Line { id, event, data }) = self.lines.next() else { break };
            if let Some(id) = id {
                // Writing to a string does not fail.
                let _ = writeln!(text, "id: {id}");
            }
            let _ = write!(text, "event: {event}\ndata: ");
            if data.len() < PIECE {
                let _ = write!(text, "{data}\n\n");
            } else {
                self.whole = Some(data);
            }
        }
        (!text.is_empty()).then(|| text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(event: &'static str, size: usize) -> Line {
        Line { id: None, event, data: "x".repeat(size).into() }
    }

    fn text(written: Written) -> String {
        written.map(|piece| String::from_utf8(piece.to_vec()).unwrap()).collect()
    }

    #[test]
    fn lines_are_written_in_their_order() {
        let id = Some("0197.7".parse().unwrap_or_else(|_| panic!("a position")));
        let lines = vec![line("a", 1), line("large", PIECE), Line { id, ..line("b", 2) }];
        let large = "x".repeat(PIECE);
        let expected = format!(
            "event: a\ndata: x\n\nevent: large\ndata: {large}\n\nid: 0197.7\nevent: b\ndata: xx\n\n"
        );
        assert_eq!(text(Written::new(lines)), expected);
        assert_eq!(text(Written::alive()), ": alive\n\n");
        assert_eq!(text(Written::new(Vec::new())), "");
    }

    #[test]
    fn what_is_large_is_not_copied() {
        let large = line("large", 10 * PIECE);
        let pieces: Vec<Bytes> = Written::new(vec![line("a", 1), large.clone()]).collect();
        assert_eq!(pieces.len(), 3);
        assert_eq!(pieces[1].as_ptr(), large.data.as_ptr());
    }

    #[test]
    fn many_lines_are_written_as_they_are_taken() {
        let mut written = Written::new(vec![line("a", 1_000); 1_000]);
        let largest = written.by_ref().take(3).map(|piece| piece.len()).max();
        assert!(largest.unwrap() < PIECE + 2_000, "{largest:?}");
        assert!(written.lines.len() > 900, "the others are still lines");
    }
}
