//! What becomes of an attempt's end. Pure.

use pointsman_connectors::{Completion, RunEnd, StopReason};
use pointsman_core::{
    Failure, FailureKind, LossReason,
    command::{Finish, Op, Outcome},
    record::Progress,
};

/// What an end asks for.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "made and taken apart at once; almost all are Tell")]
pub(crate) enum Settled {
    /// Tell the store.
    Tell(Op),
    /// Nobody needs to be told.
    Nothing,
    /// Keep the attempt until the service is proven clear, or its time is up.
    Keep(Wedge),
}

/// An attempt that its service could not be made to stop: what is said once that is clear of it, or
/// is not waited for any longer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wedge {
    pub(crate) reason: LossReason,
    pub(crate) message: String,
    /// What the job fails of, where that is known.
    pub(crate) failure: Option<Box<Failure>>,
}

/// What the worker knows of the attempt beside its end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standing {
    /// Why it was told to stop, if it was.
    pub(crate) stop: Option<StopReason>,
    /// The service had taken it.
    pub(crate) started: bool,
    pub(crate) progress: Option<Progress>,
}

impl Standing {
    fn finish(self, outcome: Outcome) -> Settled {
        let last_progress = self.progress;
        Settled::Tell(Op::Finish(Finish { outcome, last_progress }))
    }

    fn is_lost(&self) -> bool {
        self.stop == Some(StopReason::Lost)
    }
}

pub(crate) fn settle(end: Result<Completion, RunEnd>, standing: Standing) -> Settled {
    match end {
        Ok(Completion { artifacts, cached, result }) => {
            let outcome = Outcome::Completed { artifacts, cached, result };
            match standing.is_lost() {
                true => late(outcome, standing.progress),
                false => standing.finish(outcome),
            }
        }
        Err(RunEnd::Wedged { reason, message, failure }) => {
            Settled::Keep(Wedge { reason, message, failure })
        }
        Err(_) if standing.is_lost() => Settled::Nothing,
        Err(RunEnd::Failed(failure)) => standing.finish(Outcome::Failed { failure: *failure }),
        Err(RunEnd::GaveBack { reason, message }) => release(reason, message),
        Err(RunEnd::Cancelled) => stopped(standing),
    }
}

/// The service is proven clear of an attempt that was kept.
pub(crate) fn settle_kept(wedge: Wedge, standing: Standing) -> Settled {
    match (standing.stop, wedge) {
        (None | Some(StopReason::Drain), Wedge { failure: Some(failure), .. }) => {
            standing.finish(Outcome::Failed { failure: *failure })
        }
        (None | Some(StopReason::Drain), Wedge { reason, message, .. }) => release(reason, message),
        (Some(_), _) => stopped(standing),
    }
}

/// The service still runs what was kept: nobody can say that it was cancelled, so it is given back.
pub(crate) fn give_up(wedge: Wedge, standing: Standing) -> Settled {
    match standing.stop {
        Some(StopReason::Cancel) => release(wedge.reason, wedge.message),
        _ => settle_kept(wedge, standing),
    }
}

/// The attempt is provably gone from the service: for which reason was it stopped?
fn stopped(standing: Standing) -> Settled {
    match standing.stop {
        Some(StopReason::Lost) => Settled::Nothing,
        Some(StopReason::Cancel) => standing.finish(Outcome::Cancelled),
        Some(StopReason::Timeout) => {
            let message = "it ran longer than its total time limit";
            let failure = Failure::new(FailureKind::Timeout, "total_timeout", message);
            standing.finish(Outcome::Failed { failure })
        }
        Some(StopReason::Drain) if !standing.started => {
            release(LossReason::Unstarted, "the worker is leaving")
        }
        Some(StopReason::Drain) => release(LossReason::Drained, "the worker is leaving"),
        None => release(LossReason::ServiceLost, "stopped without being asked to"),
    }
}

/// The store refused an operation: is there something left to say about the attempt?
pub(crate) fn refused(op: Op, why: &pointsman_core::Rejected) -> Settled {
    use pointsman_core::Rejected as R;
    match (op, why) {
        // A finished result whose attempt was fenced off meanwhile is always kept.
        (
            Op::Finish(Finish { outcome: outcome @ Outcome::Completed { .. }, last_progress }),
            R::StaleAttempt { .. } | R::AlreadyEnded { .. },
        ) => late(outcome, last_progress),
        // The store still counts the attempt as running: it must end in some way, with the reason.
        // What the job last did is left out, as that may be what was refused.
        (Op::Finish(Finish { outcome: Outcome::Completed { .. }, .. }), R::Invalid(_)) => {
            let message = format!("its result was not taken: {why}");
            let failure = Failure::new(FailureKind::ServiceFault, "end_not_taken", message);
            let outcome = Outcome::Failed { failure };
            Settled::Tell(Op::Finish(Finish { outcome, last_progress: None }))
        }
        (Op::Finish(Finish { outcome: Outcome::Failed { failure }, .. }), R::Invalid(_)) => {
            let Failure { code, message, .. } = failure;
            let message = format!("failed ({code}), and that was not taken: {why}; {message}");
            release(LossReason::ServiceLost, message)
        }
        (Op::Finish(Finish { outcome: Outcome::Cancelled, .. }), R::Invalid(_)) => {
            release(LossReason::ServiceLost, "stopped, but nobody asked to cancel it")
        }
        _ => Settled::Nothing,
    }
}

fn late(outcome: Outcome, last_progress: Option<Progress>) -> Settled {
    Settled::Tell(Op::Late(Finish { outcome, last_progress }))
}

fn release(reason: LossReason, message: impl Into<String>) -> Settled {
    let message = message.into();
    Settled::Tell(Op::Release { reason, message })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(stop: Option<StopReason>) -> Standing {
        Standing { stop, started: true, progress: None }
    }

    fn told(settled: Settled) -> Op {
        match settled {
            Settled::Tell(op) => op,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_confirmed_stop_is_told_by_its_reason() {
        let cancelled = |stop| settle(Err(RunEnd::Cancelled), standing(stop));
        let Op::Finish(finish) = told(cancelled(Some(StopReason::Cancel))) else { panic!() };
        assert_eq!(finish.outcome, Outcome::Cancelled);
        let Op::Finish(finish) = told(cancelled(Some(StopReason::Timeout))) else { panic!() };
        assert!(
            matches!(finish.outcome, Outcome::Failed { failure } if failure.kind == FailureKind::Timeout)
        );
        let drained = told(cancelled(Some(StopReason::Drain)));
        assert!(matches!(drained, Op::Release { reason: LossReason::Drained, .. }));
        let unstarted = Standing { stop: Some(StopReason::Drain), ..Standing::default() };
        let unstarted = told(settle(Err(RunEnd::Cancelled), unstarted));
        assert!(matches!(unstarted, Op::Release { reason: LossReason::Unstarted, .. }));
        assert_eq!(cancelled(Some(StopReason::Lost)), Settled::Nothing);
    }

    #[test]
    fn a_result_is_never_thrown_away() {
        let done = || Ok(Completion::default());
        assert!(matches!(told(settle(done(), standing(None))), Op::Finish(_)));
        for stop in [StopReason::Drain, StopReason::Timeout, StopReason::Cancel] {
            let op = told(settle(done(), standing(Some(stop))));
            assert!(matches!(op, Op::Finish(_)), "{stop:?}");
        }
        let op = told(settle(done(), standing(Some(StopReason::Lost))));
        assert!(matches!(op, Op::Late(_)));
    }

    #[test]
    fn an_end_that_is_invalid_ends_its_attempt_in_another_way() {
        let why = pointsman_core::Rejected::Invalid("/last_progress: percent is 101".into());
        let progress = Some(Progress { percent: Some(101.0), ..Progress::default() });
        let standing = Standing { progress, ..standing(None) };
        let result = told(settle(Ok(Completion::default()), standing));
        let failed = told(refused(result, &why));
        let Op::Finish(Finish { outcome: Outcome::Failed { failure }, last_progress: None }) =
            &failed
        else {
            panic!("{failed:?}")
        };
        assert!(failure.message.contains(&why.to_string()), "{failure:?}");
        let released = told(refused(failed, &why));
        let Op::Release { reason: LossReason::ServiceLost, message } = &released else {
            panic!("{released:?}")
        };
        assert!(message.starts_with("failed (end_not_taken), and that was not taken"), "{message}");
        assert_eq!(refused(released, &why), Settled::Nothing);
    }

    #[test]
    fn what_was_kept_is_told_once_it_is_proven_gone() {
        let (reason, message) = (LossReason::Stalled, "stuck".to_owned());
        let wedge = Wedge { reason, message, failure: None };
        let kept = |stop| settle_kept(wedge.clone(), standing(stop));
        let op = told(kept(None));
        assert!(matches!(op, Op::Release { reason: LossReason::Stalled, .. }));
        assert!(matches!(told(kept(Some(StopReason::Cancel))), Op::Finish(_)));
        assert_eq!(kept(Some(StopReason::Lost)), Settled::Nothing);
        for stop in [None, Some(StopReason::Drain), Some(StopReason::Cancel)] {
            let op = told(give_up(wedge.clone(), standing(stop)));
            assert!(matches!(op, Op::Release { reason: LossReason::Stalled, .. }), "{stop:?}");
        }
        let failure = Failure::new(FailureKind::BadJob, "part", "only a part");
        let wedge = Wedge { failure: Some(Box::new(failure.clone())), ..wedge };
        for stop in [None, Some(StopReason::Drain)] {
            let Op::Finish(finish) = told(settle_kept(wedge.clone(), standing(stop))) else {
                panic!()
            };
            assert_eq!(finish.outcome, Outcome::Failed { failure: failure.clone() });
        }
    }
}
