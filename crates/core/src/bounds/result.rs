//! How large a job's result may be: the JSON that its service told, beside its files.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::command::{Finish, Op, Outcome};

/// Bytes of a result as JSON.
pub const MAX_RESULT: usize = 4_000_000;
/// Levels of objects and lists within each other in a result: it stands within answers that bring
/// others too, and readers of JSON go only so deep.
const MAX_RESULT_DEPTH: usize = 100;
/// Files of one job: they stand in its record.
pub const MAX_ARTIFACTS: usize = 1_000;

/// Why a result cannot be handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnfitResult {
    #[error("result is no JSON object")]
    NoObject,
    #[error("result is nested {0} levels deep, and {MAX_RESULT_DEPTH} is the most")]
    TooDeep(usize),
    #[error("result has {0} bytes as JSON, and {MAX_RESULT} is the most")]
    TooLong(usize),
}

impl Finish {
    fn result(&mut self) -> Option<&mut Value> {
        match &mut self.outcome {
            Outcome::Completed { result, .. } => result.as_mut(),
            Outcome::Failed { .. } | Outcome::Cancelled => None,
        }
    }
}

impl Op {
    /// Refuses a result that is no object, too deep, or too long.
    ///
    /// # Errors
    /// Which it is, and by how much.
    pub fn check_result(&mut self) -> Result<(), UnfitResult> {
        self.result().map_or(Ok(()), |result| fits(result))
    }

    /// Puts in the place of a result that cannot be handed in why it is left out, as
    /// `{"omitted": "…"}`: the job is done, and its files are stored.
    pub fn omit_unfit_result(&mut self) {
        let Some(result) = self.result() else { return };
        if let Err(why) = fits(result) {
            *result = json!({ "omitted": why.to_string() });
        }
    }

    fn result(&mut self) -> Option<&mut Value> {
        match self {
            Self::Finish(finish) | Self::Late(finish) => finish.result(),
            Self::Start | Self::Reclaim { .. } | Self::Release { .. } => None,
        }
    }
}

fn fits(result: &Value) -> Result<(), UnfitResult> {
    if !result.is_object() {
        return Err(UnfitResult::NoObject);
    }
    let depth = depth(result);
    if depth > MAX_RESULT_DEPTH {
        return Err(UnfitResult::TooDeep(depth));
    }
    match json_len(result) {
        bytes if bytes > MAX_RESULT => Err(UnfitResult::TooLong(bytes)),
        _ => Ok(()),
    }
}

/// Without recursion, so however deep it is.
fn depth(value: &Value) -> usize {
    let (mut deepest, mut rest) = (0, vec![(value, 1)]);
    while let Some((value, depth)) = rest.pop() {
        let within = depth + 1;
        match value {
            Value::Array(items) => rest.extend(items.iter().map(|item| (item, within))),
            Value::Object(fields) => rest.extend(fields.values().map(|field| (field, within))),
            _ => continue,
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// Bytes of a value as JSON.
pub fn json_len(value: &Value) -> usize {
    let mut count = Count(0);
    // Counting cannot fail.
    let _ = serde_json::to_writer(&mut count, value);
    count.0
}

/// Counts what is written to it.
struct Count(usize);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finish(result: Value) -> Op {
        let outcome =
            Outcome::Completed { artifacts: Vec::new(), cached: false, result: Some(result) };
        Op::Finish(Finish { outcome, last_progress: None })
    }

    fn nested(levels: usize) -> Value {
        let list = (2..levels).fold(json!([]), |within, n| match n % 2 {
            0 => json!([within]),
            _ => json!({ "a": within, "b": 1 }),
        });
        json!({ "list": list })
    }

    #[test]
    fn what_fits_stays_and_what_does_not_is_told() {
        let text = |bytes: usize| json!({ "text": "x".repeat(bytes - r#"{"text":""}"#.len()) });
        for (result, why) in [
            (json!({"images": [{"filename": "a.png"}]}), None),
            (nested(MAX_RESULT_DEPTH), None),
            (nested(MAX_RESULT_DEPTH + 1), Some(UnfitResult::TooDeep(101))),
            (json!([1]), Some(UnfitResult::NoObject)),
            (json!("done"), Some(UnfitResult::NoObject)),
            (text(MAX_RESULT), None),
            (text(MAX_RESULT + 1), Some(UnfitResult::TooLong(4_000_001))),
        ] {
            let mut op = finish(result.clone());
            assert_eq!(op.check_result().err(), why);
            op.omit_unfit_result();
            let left = why.map_or(result, |why| json!({ "omitted": why.to_string() }));
            assert!(op == finish(left), "{why:?}");
        }
    }
}
