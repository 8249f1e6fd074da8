use std::collections::HashMap;

use parking_lot::Mutex;
use pointsman_core::{
    LossReason, ServiceName, Token,
    command::{AttemptOp, Held, Op},
};

use crate::{broker::Claimed, shared::op_of};

/// The attempts of one worker: each is in one place at every moment, and in no two. `A` is what a
/// lane keeps of one.
///
/// An attempt that has a place is this worker's: what a store says of it that some part of the
/// worker does not know yet neither puts it into limbo nor gives it back.
pub(crate) struct Ours<A>(Mutex<HashMap<Token, Place<A>>>);

enum Place<A> {
    /// A claim asks for a job under this token.
    Asked,
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
            if matches!(places.get(token), Some(Place::Asked)) {
                places.remove(token);
            }
        }
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

    /// Every attempt that this worker has, at one moment, as told of those that lanes have, and of
    /// those in limbo, or adopted and not run yet.
    pub(crate) fn all<T>(
        &self,
        kept: impl Fn(&A) -> Option<T>,
        in_transit: impl Fn(&Claimed) -> Option<T>,
    ) -> Vec<T> {
        self.collect(|place| match place {
            Place::Kept(attempt) => kept(attempt),
            Place::Limbo(claimed) | Place::Adopted(claimed) => in_transit(claimed),
            Place::Asked | Place::Errand { .. } => None,
        })
    }

    pub(crate) fn drop_from_transit(&self, token: Token) {
        let mut places = self.0.lock();
        if matches!(places.get(&token), Some(Place::Limbo(_) | Place::Adopted(_))) {
            places.remove(&token);
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
