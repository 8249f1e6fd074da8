//! How long the texts and results are that workers hand in. They go into records, events and every viewer's
//! memory, so each has a limit: a worker cuts what its services say to it, and a server refuses what
//! is longer.

mod result;

pub use result::{MAX_ARTIFACTS, MAX_RESULT, UnfitResult, json_len};

use crate::{
    command::{ConnectorReport, Finish, Op, Outcome, Register},
    record::Progress,
};

/// Bytes of a failure's message: what a service says of an error may be long.
pub const MAX_MESSAGE: usize = 16_384;
/// Bytes of what is told in passing: progress, why a job was given back, how a service is.
pub const MAX_REMARK: usize = 2_000;
/// Bytes of the message of progress that viewers are shown; a job's record has the whole of the last.
pub const MAX_SHOWN: usize = 500;
/// Bytes of the one line that a worker says of itself.
const MAX_SUMMARY: usize = 500;
/// Bytes of a code, and of a node's id and type.
pub const MAX_LABEL: usize = 200;
/// Bytes of the name of a file that a job brings or makes, at most.
pub const MAX_NAME: usize = 200;

/// Stands where a text was cut.
const ELLIPSIS: &str = "…";

/// A text within what is handed in.
#[derive(Debug)]
pub struct BoundedText<'a> {
    /// JSON pointer to it.
    pub place: &'static str,
    pub text: &'a mut String,
    /// Bytes that it may have.
    pub most: usize,
}

/// What carries texts that a service or a worker made.
pub trait Bounded {
    /// All of them.
    fn texts(&mut self) -> Vec<BoundedText<'_>>;

    /// Cuts every text that is too long; the ellipsis at its end shows it.
    fn shorten(&mut self) {
        for BoundedText { text, most, .. } in self.texts() {
            cut(text, most);
        }
    }

    /// The first text that is too long.
    fn too_long(&mut self) -> Option<BoundedText<'_>> {
        self.texts().into_iter().find(|text| text.text.len() > text.most)
    }
}

/// Cuts a text that is too long; the ellipsis at its end shows it.
pub fn cut(text: &mut String, most: usize) {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most - ELLIPSIS.len()));
        text.push_str(ELLIPSIS);
    }
}

/// A text's first line, cut: for a sentence or a row of a table.
pub fn brief(text: &str) -> String {
    let mut line = text.trim().lines().next().unwrap_or_default().to_owned();
    cut(&mut line, MAX_LABEL);
    line
}

impl Bounded for Op {
    fn texts(&mut self) -> Vec<BoundedText<'_>> {
        match self {
            Self::Start | Self::Reclaim { .. } => Vec::new(),
            Self::Release { message, .. } => vec![bounded("/message", message, MAX_REMARK)],
            Self::Finish(finish) | Self::Late(finish) => finish.texts(),
        }
    }
}

impl Bounded for Finish {
    fn texts(&mut self) -> Vec<BoundedText<'_>> {
        let mut texts = Vec::new();
        if let Outcome::Failed { failure } = &mut self.outcome {
            texts.push(bounded("/failure/code", &mut failure.code, MAX_LABEL));
            texts.push(bounded("/failure/message", &mut failure.message, MAX_MESSAGE));
            texts.extend(maybe("/failure/node", &mut failure.node, MAX_LABEL));
            texts.extend(maybe("/failure/node_type", &mut failure.node_type, MAX_LABEL));
        }
        if let Some(Progress { node, message, .. }) = &mut self.last_progress {
            texts.extend(maybe("/last_progress/node", node, MAX_LABEL));
            texts.extend(maybe("/last_progress/message", message, MAX_REMARK));
        }
        texts
    }
}

impl Bounded for Progress {
    fn texts(&mut self) -> Vec<BoundedText<'_>> {
        let node = maybe("/node", &mut self.node, MAX_LABEL);
        node.into_iter().chain(maybe("/message", &mut self.message, MAX_REMARK)).collect()
    }
}

impl Bounded for ConnectorReport {
    fn texts(&mut self) -> Vec<BoundedText<'_>> {
        maybe("/error_message", &mut self.error_message, MAX_REMARK).into_iter().collect()
    }
}

impl Bounded for Register {
    fn texts(&mut self) -> Vec<BoundedText<'_>> {
        vec![bounded("/summary", &mut self.summary, MAX_SUMMARY)]
    }
}

fn bounded<'a>(place: &'static str, text: &'a mut String, most: usize) -> BoundedText<'a> {
    BoundedText { place, text, most }
}

fn maybe<'a>(
    place: &'static str,
    text: &'a mut Option<String>,
    most: usize,
) -> Option<BoundedText<'a>> {
    text.as_mut().map(|text| bounded(place, text, most))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{Failure, FailureKind};

    #[test]
    fn what_is_too_long_is_cut_between_characters_and_shows_it() {
        let message = "é".repeat(MAX_MESSAGE);
        let failure = Failure::new(FailureKind::ServiceFault, "out_of_memory", message);
        let outcome = Outcome::Failed { failure };
        let mut op = Op::Finish(Finish { outcome, last_progress: None });
        assert_eq!(op.too_long().unwrap().place, "/failure/message");
        op.shorten();
        assert!(op.too_long().is_none());
        let Op::Finish(Finish { outcome: Outcome::Failed { failure }, .. }) = op else { panic!() };
        assert_eq!(failure.code, "out_of_memory", "what is short enough stays");
        assert!((MAX_MESSAGE - 3..=MAX_MESSAGE).contains(&failure.message.len()));
        assert!(failure.message.ends_with("éé…"));
    }
}
