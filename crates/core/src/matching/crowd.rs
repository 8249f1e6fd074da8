//! Some workers, by what they offer: whether one of them could run a class costs one look at each
//! profile, not at each worker.

use std::collections::BTreeMap;

use super::{CapabilitiesDigest, Class, excludes};
use crate::ids::WorkerId;

#[derive(Debug, Clone, Default)]
pub struct Crowd(BTreeMap<CapabilitiesDigest, Vec<WorkerId>>);

impl Crowd {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them may run jobs of the class; `able` says it of a profile.
    pub fn serves(&self, class: &Class, able: impl Fn(&CapabilitiesDigest) -> bool) -> bool {
        let is_open = |workers: &[WorkerId]| workers.iter().any(|worker| !excludes(class, worker));
        self.0.iter().any(|(digest, workers)| able(digest) && is_open(workers))
    }
}

impl FromIterator<(CapabilitiesDigest, WorkerId)> for Crowd {
    fn from_iter<I: IntoIterator<Item = (CapabilitiesDigest, WorkerId)>>(workers: I) -> Self {
        let mut by_profile: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (digest, worker) in workers {
            by_profile.entry(digest).or_default().push(worker);
        }
        Self(by_profile)
    }
}
