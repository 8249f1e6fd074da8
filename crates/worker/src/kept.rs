use std::{
    collections::VecDeque,
    io::{self, Write},
    time::Duration,
};

use pointsman_core::command::{AttemptOp, Finish, Op, Outcome};
use tokio::time::Instant;

/// How long a result is kept after the store has taken it.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// Results kept at most; the oldest go first.
const MOST: usize = 10_000;
/// Bytes kept at most, about.
const MOST_BYTES: usize = 16 << 20;
/// What a result takes beside its JSON and artifacts, and each artifact, about.
const OVERHEAD: usize = 512;

/// Results that the store has taken: should it come back from before that, they are handed in
/// again.
#[derive(Default)]
pub(crate) struct Kept {
    results: VecDeque<Result>,
    bytes: usize,
}

struct Result {
    until: Instant,
    bytes: usize,
    op: AttemptOp,
}

impl Kept {
    /// Keeps what ends an attempt with a result or a failure; all else is not worth it: the store
    /// finds out by itself that the worker does not have the attempt.
    pub(crate) fn keep(&mut self, op: AttemptOp) {
        let (Op::Finish(finish) | Op::Late(finish)) = &op.op else { return };
        let bytes = bytes_of(finish);
        self.bytes += bytes;
        self.results.push_back(Result { until: Instant::now() + KEPT_FOR, bytes, op });
        self.forget_old();
    }

    /// Takes all that are still to be kept out.
    pub(crate) fn take(&mut self) -> Vec<AttemptOp> {
        self.forget_old();
        self.bytes = 0;
        self.results.drain(..).map(|result| result.op).collect()
    }

    pub(crate) fn forget_old(&mut self) {
        let now = Instant::now();
        let surplus = |kept: &Self| kept.results.len() > MOST || kept.bytes > MOST_BYTES;
        while let Some(oldest) = self.results.front()
            && (oldest.until <= now || surplus(self))
        {
            self.bytes -= oldest.bytes;
            self.results.pop_front();
        }
    }
}

fn bytes_of(finish: &Finish) -> usize {
    let Outcome::Completed { artifacts, result, .. } = &finish.outcome else { return OVERHEAD };
    let json = result.as_ref().map_or(0, |json| {
        let mut count = Count(0);
        // Counting cannot fail.
        let _ = serde_json::to_writer(&mut count, json);
        count.0
    });
    OVERHEAD * (1 + artifacts.len()) + json
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
    use pointsman_core::{JobId, Token};
    use uuid::Uuid;

    use super::*;

    fn finished(n: u128, bytes: usize) -> AttemptOp {
        let outcome = Outcome::Completed {
            artifacts: Vec::new(),
            cached: false,
            result: Some("x".repeat(bytes).into()),
        };
        AttemptOp {
            job: JobId::from_uuid(Uuid::from_u128(n)),
            attempt: 1,
            token: Token::from_uuid(Uuid::from_u128(n)),
            op: Op::Finish(Finish { outcome, last_progress: None }),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn results_are_kept_for_60_s() {
        let mut kept = Kept::default();
        kept.keep(finished(1, 1));
        kept.keep(AttemptOp { op: Op::Start, ..finished(1, 1) });
        tokio::time::advance(Duration::from_secs(59)).await;
        kept.keep(finished(2, 1));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(kept.take(), [finished(2, 1)]);
        assert_eq!((kept.bytes, kept.take().len()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_go_first_when_they_are_too_many_or_too_large() {
        let mut kept = Kept::default();
        for n in 0..=MOST as u128 {
            kept.keep(finished(n, 1));
        }
        assert_eq!((kept.results.len(), kept.take()[0].clone()), (MOST, finished(1, 1)));
        for n in 0..3 {
            kept.keep(finished(n, MOST_BYTES / 3));
        }
        assert!(kept.bytes <= MOST_BYTES);
        assert_eq!(kept.take().len(), 2);
        kept.keep(finished(1, MOST_BYTES));
        assert_eq!(kept.take(), [], "larger than all that is kept");
    }
}
