//! The choice of the jobs of one claim.

use std::{
    collections::{BTreeSet, HashMap, btree_set},
    iter::Peekable,
    ops::Bound,
};

use pointsman_core::{
    JobId, ServiceName, WorkerId,
    matching::{CapabilitiesDigest, ClassKey, excludes},
};

use super::{ClassIx, ClassQueues, Head};

/// The choice of the jobs of one claim: each pick is the best of what the picks before left.
pub struct Picker<'a> {
    queues: &'a ClassQueues,
    heads: HashMap<ServiceName, Heads<'a>>,
    /// Poisonous classes (their base) that these picks gave their one probe.
    probing: BTreeSet<ClassKey>,
}

/// What is left to pick of one service, best first: heads that the walk has not reached, and the
/// next keys of classes that a pick has taken from.
struct Heads<'a> {
    /// The heads in order; none when the worker's own classes are fewer and all in `next`.
    walk: Option<Peekable<btree_set::Iter<'a, Head>>>,
    servable: Option<&'a BTreeSet<ClassIx>>,
    next: BTreeSet<Head>,
}

impl<'a> Picker<'a> {
    /// The best job for a worker among `services`: highest priority, then place, then seq. All
    /// picks of one picker are for one worker.
    pub fn choose(
        &mut self,
        digest: &CapabilitiesDigest,
        worker: &WorkerId,
        services: &[ServiceName],
    ) -> Option<JobId> {
        let mut best: Option<(Head, &ServiceName)> = None;
        for service in services {
            let head = self.peek(digest, worker, service);
            best = best.into_iter().chain(head.map(|head| (head, service))).min();
        }
        let ((key, ix), service) = best?;
        let entry = self.queues.entry(ix)?;
        if !self.queues.is_healthy(&entry.base) {
            self.probing.insert(entry.base);
        }
        let heads = self.heads.get_mut(service)?;
        if !heads.next.remove(&(key, ix)) {
            heads.walk.as_mut().and_then(Iterator::next);
        }
        let after = (Bound::Excluded(key), Bound::Unbounded);
        let following = entry.waiting.range(after).next();
        heads.next.extend(following.map(|(key, _)| (*key, ix)));
        entry.waiting.get(&key).copied()
    }

    /// The best head that is open to the worker; those before it that are not are passed over.
    fn peek(
        &mut self,
        digest: &CapabilitiesDigest,
        worker: &WorkerId,
        service: &ServiceName,
    ) -> Option<Head> {
        let queues = self.queues;
        if !self.heads.contains_key(service) {
            self.heads.insert(service.clone(), queues.heads_of(digest, service));
        }
        let probing = &self.probing;
        let heads = self.heads.get_mut(service)?;
        let is_open = |ix: ClassIx| {
            queues.entry(ix).is_some_and(|entry| {
                !excludes(&entry.class, worker)
                    && queues.may_run(entry)
                    && !probing.contains(&entry.base)
            })
        };
        let servable = heads.servable;
        if let Some(walk) = &mut heads.walk {
            let passed = |ix| !servable.is_some_and(|set| set.contains(&ix)) || !is_open(ix);
            while walk.next_if(|(_, ix)| passed(*ix)).is_some() {}
        }
        while let Some(head) = heads.next.first().copied().filter(|(_, ix)| !is_open(*ix)) {
            heads.next.remove(&head);
        }
        let walked = heads.walk.as_mut().and_then(|walk| walk.peek().map(|head| **head));
        heads.next.first().copied().into_iter().chain(walked).min()
    }
}

impl ClassQueues {
    /// Chooses jobs for one claim, one after the other, without changing the queues.
    pub fn picker(&self) -> Picker<'_> {
        Picker { queues: self, heads: HashMap::new(), probing: BTreeSet::new() }
    }

    fn heads_of(&self, digest: &CapabilitiesDigest, service: &ServiceName) -> Heads<'_> {
        let profile = self.profiles.get(digest);
        let servable = profile.and_then(|profile| profile.servable.get(service));
        let heads = self.heads.get(service);
        let (Some(own), Some(heads)) = (servable, heads) else {
            return Heads { walk: None, servable, next: BTreeSet::new() };
        };
        if own.len() < heads.len() {
            let head = |ix: &ClassIx| {
                let (key, _) = self.entry(*ix)?.waiting.first_key_value()?;
                Some((*key, *ix))
            };
            return Heads { walk: None, servable, next: own.iter().filter_map(head).collect() };
        }
        Heads { walk: Some(heads.iter().peekable()), servable, next: BTreeSet::new() }
    }
}
