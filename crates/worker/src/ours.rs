//! Which attempts are this worker's, and where each of them is.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use pointsman_core::{
    LossReason, ServiceName, Token,
    command::{AttemptOp, Held, Op},
};
use tokio::time::Instant;

use crate::{broker::Claimed, shared::op_of};

/// A job that was claimed and whose payload has not arrived after this long is not held any more: the
/// largest one takes a third of it over the slowest line.
const ARRIVES_WITHIN: Duration = Duration::from_secs(3600);

/// The attempts of one worker: each is in one place at every moment, and in no two. `A` is what a
/// lane keeps of one.
///
/// An attempt that has a place is this worker's: what a store says of it that some part of the
/// worker does not know yet neither puts it into limbo nor gives it back.
pub(crate) struct Ours<A>(Mutex<HashMap<Token, Place<A>>>);

enum Place<A> {
    /// A claim asks for a job under this token.
    Asked,
    /// The store gave it out under a token that a claim asks with: its payload is on its way here. It
    /// is held until then.
    Coming { held: Held, until: Instant },
    /// From before a restart, and nobody has looked for it yet.
    Limbo(Claimed),
    /// From before a restart: the service still has it, and its lane is about to run it.
    Adopted(Claimed),
    /// A lane has it, until the store has taken its end.
    Kept(A),
    /// No lane has it; it is to be given back.
    Errand { held: Held, reason: LossReason, message: String },
}

impl<A: Clone> Ours<A> {
    pub(crate) fn new() -> Self {
        Self(Mutex::default())
    }

    /// A claim with these tokens goes out.
    pub(crate) fn ask(&self, tokens: &[Token]) {
        let mut places = self.0.lock();
        for token in tokens {
            places.entry(*token).or_insert(Place::Asked);
        }
    }

    /// No claim asks with these tokens any more; those under which a job was kept stay.
    pub(crate) fn asked(&self, tokens: &[Token]) {
        let mut places = self.0.lock();
        for token in tokens {
            if matches!(places.get(token), Some(Place::Asked | Place::Coming { .. })) {
                places.remove(token);
            }
        }
    }

    /// The store says that the attempt is this worker's. True when that is news of one that a claim
    /// asks for: it is held from now on, so that it is not lost while it travels.
    pub(crate) fn expect(&self, held: Held) -> bool {
        let mut places = self.0.lock();
        let is_news = match places.get(&held.token) {
            Some(Place::Asked) => true,
            Some(Place::Coming { held: before, .. }) => *before != held,
            _ => false,
        };
        if is_news {
            let until = Instant::now() + ARRIVES_WITHIN;
            places.insert(held.token, Place::Coming { held, until });
        }
        is_news
    }

    /// A lane has the attempt now, wherever it was before. True when no lane had any.
    pub(crate) fn keep(&self, token: Token, attempt: A) -> bool {
        let mut places = self.0.lock();
        let is_first = !places.values().any(|place| matches!(place, Place::Kept(_)));
        places.insert(token, Place::Kept(attempt));
        is_first
    }

    /// The lane does not have it any more.
    pub(crate) fn forget(&self, token: Token) {
        let mut places = self.0.lock();
        if matches!(places.get(&token), Some(Place::Kept(_))) {
            places.remove(&token);
        }
    }

    pub(crate) fn forget_all(&self) {
        self.0.lock().clear();
    }

    /// What a lane has under this token.
    pub(crate) fn kept(&self, token: Token) -> Option<A> {
        match self.0.lock().get(&token) {
            Some(Place::Kept(attempt)) => Some(attempt.clone()),
            _ => None,
        }
    }

    /// What the lanes have.
    pub(crate) fn all_kept(&self) -> Vec<A> {
        self.collect(|place| match place {
            Place::Kept(attempt) => Some(attempt.clone()),
            _ => None,
        })
    }

    /// It waits until its service was asked about it; what is this worker's already does not.
    pub(crate) fn put_in_limbo(&self, claimed: Claimed) {
        let token = claimed.held.token;
        self.0.lock().entry(token).or_insert(Place::Limbo(claimed));
    }

    /// Ends the limbo of one service: what was found is adopted, the rest is to be given back,
    /// with this message. True when there is such a rest.
    pub(crate) fn end_limbo(&self, service: &ServiceName, found: &[Held], message: &str) -> bool {
        let mut has_rest = false;
        for place in self.0.lock().values_mut() {
            let Place::Limbo(claimed) = &*place else { continue };
            if claimed.job.service() != service {
                continue;
            }
            *place = if found.contains(&claimed.held) {
                Place::Adopted(claimed.clone())
            } else {
                has_rest = true;
                let (held, message) = (claimed.held, message.to_owned());
                Place::Errand { held, reason: LossReason::NotAdopted, message }
            };
        }
        has_rest
    }

    pub(crate) fn adopted(&self, service: &ServiceName) -> Vec<Claimed> {
        self.collect(|place| match place {
            Place::Adopted(claimed) if claimed.job.service() == service => Some(claimed.clone()),
            _ => None,
        })
    }

    /// Every attempt that this worker has, at one moment, as told of those that lanes have, of those
    /// on their way here, and of those in limbo, or adopted and not run yet.
    pub(crate) fn all<T>(
        &self,
        kept: impl Fn(&A) -> Option<T>,
        coming: impl Fn(Held) -> Option<T>,
        in_transit: impl Fn(&Claimed) -> Option<T>,
    ) -> Vec<T> {
        self.collect(|place| match place {
            Place::Kept(attempt) => kept(attempt),
            Place::Coming { held, until } if Instant::now() < *until => coming(*held),
            Place::Limbo(claimed) | Place::Adopted(claimed) => in_transit(claimed),
            Place::Asked | Place::Coming { .. } | Place::Errand { .. } => None,
        })
    }

    /// It is cancelled. One that is still on its way here is not held any more: its lease ends, and
    /// with that the job.
    pub(crate) fn cancel(&self, cancelled: Held) {
        if let Some(Place::Coming { held, until }) = self.0.lock().get_mut(&cancelled.token)
            && *held == cancelled
        {
            *until = Instant::now();
        }
    }

    /// It is not this worker's any more; what a lane has, the lane is told.
    pub(crate) fn lose(&self, token: Token) {
        let mut places = self.0.lock();
        match places.get_mut(&token) {
            Some(Place::Limbo(_) | Place::Adopted(_)) => drop(places.remove(&token)),
            Some(coming @ Place::Coming { .. }) => *coming = Place::Asked,
            _ => {}
        }
    }

    /// It is to be given back; what is this worker's already is not. True when it is.
    pub(crate) fn give_back(&self, held: Held, reason: LossReason, message: &str) -> bool {
        let mut places = self.0.lock();
        let is_new = !places.contains_key(&held.token);
        if is_new {
            let message = message.to_owned();
            places.insert(held.token, Place::Errand { held, reason, message });
        }
        is_new
    }

    /// What is to be given back.
    pub(crate) fn errands(&self) -> Vec<AttemptOp> {
        self.collect(|place| match place {
            Place::Errand { held, reason, message } => {
                let (reason, message) = (*reason, message.clone());
                Some(op_of(*held, Op::Release { reason, message }))
            }
            _ => None,
        })
    }

    /// The store answered these errands.
    pub(crate) fn errands_answered(&self, errands: &[AttemptOp]) {
        let mut places = self.0.lock();
        for AttemptOp { token, .. } in errands {
            if matches!(places.get(token), Some(Place::Errand { .. })) {
                places.remove(token);
            }
        }
    }

    fn collect<T>(&self, pick: impl Fn(&Place<A>) -> Option<T>) -> Vec<T> {
        self.0.lock().values().filter_map(pick).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use pointsman_core::{
        JobId, Timestamp,
        record::{Job, JobSpec},
    };
    use uuid::Uuid;

    use super::*;
    use crate::draw;

    fn claimed() -> Claimed {
        let (job, token) = (JobId::from_uuid(Uuid::now_v7()), draw::token());
        let spec = JobSpec::new("fake".parse().unwrap(), Timestamp::default());
        let held = Held { job, attempt: 1, token };
        Claimed { held, job: Arc::new(Job::new(job, spec)), payload: Bytes::new() }
    }

    #[test]
    fn what_is_ours_is_neither_put_into_limbo_nor_given_back() {
        let ours = Ours::new();
        let told = claimed();
        let Claimed { held, .. } = told;
        let is_told_of = || {
            ours.put_in_limbo(told.clone());
            ours.give_back(held, LossReason::Unstarted, "unknown")
        };
        let in_transit = || ours.all(|()| None, Some, |claimed| Some(claimed.held));
        ours.ask(&[held.token]);
        assert!(!is_told_of());
        ours.keep(held.token, ());
        ours.asked(&[held.token]);
        assert!(!is_told_of());
        assert_eq!((in_transit().len(), ours.all_kept().len()), (0, 1));
        ours.forget(held.token);
        assert!(!is_told_of(), "it is in limbo");
        assert_eq!(in_transit(), [held]);
        assert!(ours.end_limbo(told.job.service(), &[], "gone"));
        assert!(!is_told_of(), "it is to be given back already");
        assert_eq!((in_transit().len(), ours.errands().len()), (0, 1));
        ours.errands_answered(&ours.errands());
        assert!(ours.give_back(held, LossReason::Unstarted, "unknown"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_on_its_way_here_is_held_but_not_for_ever() {
        let ours = Ours::new();
        let Claimed { held, .. } = claimed();
        let holds = || ours.all(|()| None, Some, |claimed| Some(claimed.held));
        assert!(!ours.expect(held), "nothing asks for it");
        ours.ask(&[held.token]);
        assert!(ours.expect(held) && !ours.expect(held));
        assert!(!ours.give_back(held, LossReason::Unstarted, "unknown"));
        assert_eq!(holds(), [held]);
        tokio::time::advance(ARRIVES_WITHIN).await;
        assert!(!ours.expect(held));
        assert_eq!(holds(), []);
        ours.lose(held.token);
        assert!(ours.expect(held), "it is asked for again");
        ours.asked(&[held.token]);
        assert!(ours.give_back(held, LossReason::Unstarted, "unknown"), "nothing asks any more");
    }

    #[test]
    fn what_a_lane_has_waits_for_nothing_and_is_on_no_errand() {
        let ours = Ours::new();
        let [limbo, adopted, errand] = [claimed(), claimed(), claimed()];
        ours.put_in_limbo(adopted.clone());
        ours.end_limbo(adopted.job.service(), &[adopted.held], "gone");
        ours.put_in_limbo(limbo.clone());
        ours.give_back(errand.held, LossReason::Unstarted, "unknown");
        assert_eq!(ours.adopted(adopted.job.service()).len(), 1);
        let tokens = [limbo, adopted, errand].map(|claimed| claimed.held.token);
        let is_first: Vec<_> = tokens.iter().map(|token| ours.keep(*token, ())).collect();
        assert_eq!(is_first, [true, false, false]);
        assert_eq!(
            (ours.all(|()| None, Some, |claimed| Some(claimed.held)).len(), ours.errands().len()),
            (0, 0)
        );
        assert_eq!(ours.all_kept().len(), 3);
    }
}
