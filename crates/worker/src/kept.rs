//! Results that the store has taken and may still lose.

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use pointsman_core::{
    Token,
    command::{AttemptOp, Op},
};
use tokio::time::Instant;

use crate::shared::bytes_of;

/// How long a result is kept after the store has taken it, counted up to the last contact: while
/// the store is away nothing is forgotten.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// Results kept at most; the oldest go first.
pub(crate) const MOST: usize = 10_000;
/// Bytes kept at most, about.
pub(crate) const MOST_BYTES: usize = 16 << 20;

/// Results that the store has taken: should it come back from before that, they are handed in
/// again.
#[derive(Default)]
pub(crate) struct Kept {
    results: VecDeque<Result>,
    bytes: usize,
    /// Those that were not sure and had to go, since all were sure.
    dropped: usize,
}

struct Result {
    taken: Instant,
    /// As many replicas have it as it was handed in for.
    is_sure: bool,
    bytes: usize,
    op: AttemptOp,
}

impl Kept {
    /// Keeps what ends an attempt with a result or a failure; all else is not worth it: the store
    /// finds out by itself that the worker does not have the attempt. Whether this is the first time,
    /// since all were sure, that one which is not had to go.
    pub(crate) fn keep(&mut self, op: AttemptOp, is_sure: bool) -> bool {
        if !matches!(op.op, Op::Finish(_) | Op::Late(_)) {
            return false;
        }
        let bytes = bytes_of(&op.op);
        self.bytes += bytes;
        self.results.push_back(Result { taken: Instant::now(), is_sure, bytes, op });
        let before = self.dropped;
        while self.results.len() > MOST || self.bytes > MOST_BYTES {
            let is_unsure = self.results.front().is_some_and(|oldest| !oldest.is_sure);
            self.dropped += usize::from(is_unsure);
            self.forget_first();
        }
        before == 0 && self.dropped > 0
    }

    /// All that is kept is sure again: how many had to go before they were.
    pub(crate) fn take_dropped(&mut self) -> usize {
        std::mem::take(&mut self.dropped)
    }

    /// Takes all that are still to be kept out.
    pub(crate) fn take(&mut self, last_contact: Option<Instant>) -> Vec<AttemptOp> {
        self.forget_old(last_contact);
        self.bytes = 0;
        self.results.drain(..).map(|result| result.op).collect()
    }

    /// Forgets what was too old for the store to lose when it was last in contact; what is not sure
    /// is never too old, and what came after it stays with it.
    pub(crate) fn forget_old(&mut self, last_contact: Option<Instant>) {
        let Some(contact) = last_contact else { return };
        while let Some(oldest) = self.results.front()
            && oldest.is_sure
            && contact.saturating_duration_since(oldest.taken) >= KEPT_FOR
        {
            self.forget_first();
        }
    }

    /// Those that are not sure.
    pub(crate) fn unsure(&self) -> Vec<AttemptOp> {
        let unsure = self.results.iter().filter(|result| !result.is_sure);
        unsure.map(|result| result.op.clone()).collect()
    }

    /// These are sure now.
    pub(crate) fn confirm(&mut self, sure: &[AttemptOp]) {
        let tokens: HashSet<Token> = sure.iter().map(|op| op.token).collect();
        for result in self.results.iter_mut().filter(|result| tokens.contains(&result.op.token)) {
            (result.is_sure, result.taken) = (true, Instant::now());
        }
    }

    fn forget_first(&mut self) {
        if let Some(first) = self.results.pop_front() {
            self.bytes -= first.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use pointsman_core::{
        JobId, LossReason,
        command::{Finish, Outcome},
    };
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
    async fn results_are_kept_for_60_s_of_contact() {
        let mut kept = Kept::default();
        kept.keep(finished(1, 1), true);
        kept.keep(AttemptOp { op: Op::Start, ..finished(1, 1) }, true);
        tokio::time::advance(Duration::from_secs(59)).await;
        kept.keep(finished(2, 1), true);
        tokio::time::advance(Duration::from_secs(1)).await;
        let contact = Some(Instant::now());
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(kept.take(contact), [finished(2, 1)]);
        assert_eq!((kept.bytes, kept.take(contact).len()), (0, 0));
    }

    /// What only begins or gives back an attempt is found out without it.
    #[tokio::test]
    async fn only_what_ends_an_attempt_is_kept() {
        let mut kept = Kept::default();
        let message = String::new();
        let release = Op::Release { reason: LossReason::Drained, message };
        for op in [Op::Start, release, Op::Reclaim { started: true }] {
            kept.keep(AttemptOp { op, ..finished(1, 1) }, true);
        }
        assert_eq!(kept.take(None), []);
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_go_first_when_they_are_too_many_or_too_large() {
        let mut kept = Kept::default();
        for n in 0..=MOST as u128 {
            kept.keep(finished(n, 1), true);
        }
        assert_eq!((kept.results.len(), kept.take(None)[0].clone()), (MOST, finished(1, 1)));
        for n in 0..3 {
            kept.keep(finished(n, MOST_BYTES / 3), true);
        }
        assert!(kept.bytes <= MOST_BYTES);
        assert_eq!(kept.take(None).len(), 2);
        kept.keep(finished(1, MOST_BYTES), true);
        assert_eq!(kept.take(None), [], "larger than all that is kept");
    }

    #[tokio::test(start_paused = true)]
    async fn what_replicas_have_not_confirmed_is_kept_until_they_have() {
        let mut kept = Kept::default();
        kept.keep(finished(1, 1), false);
        tokio::time::advance(Duration::from_secs(3600)).await;
        kept.forget_old(Some(Instant::now()));
        assert_eq!(kept.unsure(), [finished(1, 1)]);
        kept.confirm(&[finished(1, 1)]);
        kept.forget_old(Some(Instant::now()));
        assert_eq!(kept.results.len(), 1, "its time begins when it is sure");
        tokio::time::advance(KEPT_FOR).await;
        assert_eq!(kept.unsure(), []);
        assert_eq!(kept.take(Some(Instant::now())), []);
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_unconfirmed_is_told_once_and_counted() {
        let mut kept = Kept::default();
        let large = |n| finished(n, MOST_BYTES / 2);
        assert!(!kept.keep(large(1), true));
        assert!(!kept.keep(large(2), false), "one that is sure may go");
        assert!(kept.keep(large(3), false));
        assert!(!kept.keep(large(4), false), "it was told");
        assert_eq!((kept.unsure(), kept.take_dropped()), (vec![large(4)], 2));
        kept.confirm(&[large(4)]);
        assert!(!kept.keep(large(5), false));
        assert!(kept.keep(large(6), false), "another time");
        assert_eq!((kept.take_dropped(), kept.take_dropped()), (1, 0));
    }
}
