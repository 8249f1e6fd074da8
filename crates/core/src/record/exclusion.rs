//! Workers that do not get a job for a while: each failed it in a way that another may not.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Job, PastOutcome};
use crate::{
    decide::limits,
    failure::{Failure, FailureKind},
    ids::WorkerId,
    time::Timestamp,
};

/// A worker that must not get the job until the time given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Exclusion {
    /// The worker that does not get it.
    pub worker_id: WorkerId,
    /// When that is over.
    pub until: Timestamp,
}

impl Exclusion {
    /// Whether its time is over.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.until.is_over(now, limits::EXCLUSION)
    }

    /// Whether one of a *wrong worker* was begun so long ago.
    fn has_lasted(&self, span: Duration, now: Timestamp) -> bool {
        self.is_over(now) || self.until - limits::EXCLUSION + span <= now
    }
}

impl Job {
    /// Whether exclusions may lapse for want of anybody else: those after faults at once, as the backoff
    /// is wait enough; without such ones all, if none is younger than [`limits::EXCLUSION_AT_LEAST`].
    pub fn has_waited_for_others(&self, now: Timestamp) -> bool {
        let mut all = self.exclusions.iter();
        self.has_faults() || all.all(|e| e.has_lasted(limits::EXCLUSION_AT_LEAST, now))
    }

    /// Its exclusions without those that lapse now. Where nobody else could run it, those after faults
    /// go first: their workers are able, and the others have not become it.
    pub(crate) fn exclusions_left(&self, nobody_else: bool, now: Timestamp) -> Vec<Exclusion> {
        let faults_alone = self.has_faults();
        let for_want = nobody_else && self.has_waited_for_others(now);
        let yields = |e: &Exclusion| for_want && (!faults_alone || self.is_after_fault(e));
        let left = self.exclusions.iter().filter(|e| !e.is_over(now) && !yields(e));
        left.cloned().collect()
    }

    /// When the first of its exclusions lapses by itself, while it is pending.
    pub fn first_exclusion(&self) -> Option<Timestamp> {
        let exclusions = self.exclusions.iter().filter(|_| self.is_pending());
        exclusions.map(|exclusion| exclusion.until).min()
    }

    /// Why a worker does not get it, and until when, for people; none where it is not excluded.
    pub fn excluded(&self, worker: &WorkerId) -> Option<String> {
        let exclusion = self.exclusions.iter().find(|exclusion| exclusion.worker_id == *worker)?;
        let what = match self.is_after_fault(exclusion) {
            true => "its service failed under this job",
            false => "it failed this job as the wrong worker",
        };
        let code = self.failure_at(worker).map(|failure| format!(" ({})", failure.code));
        let until = exclusion.until.to_the_second();
        let code = code.unwrap_or_default();
        Some(format!("{what}{code}: left out until {until}, while others are able"))
    }

    fn has_faults(&self) -> bool {
        self.exclusions.iter().any(|exclusion| self.is_after_fault(exclusion))
    }

    /// The attempts say for what a worker is excluded: a record has no second word of it.
    fn is_after_fault(&self, exclusion: &Exclusion) -> bool {
        let failure = self.failure_at(&exclusion.worker_id);
        failure.is_some_and(|failure| failure.kind == FailureKind::ServiceFault)
    }

    /// The worker's last failure of this run, as far as it is kept.
    fn failure_at(&self, worker: &WorkerId) -> Option<&Failure> {
        let attempts = self.past.iter().rev();
        let mut its = attempts.filter(|past| past.run == self.run && past.worker_id == *worker);
        its.find_map(|past| match &past.outcome {
            PastOutcome::Failed { failure } => Some(failure),
            _ => None,
        })
    }
}
