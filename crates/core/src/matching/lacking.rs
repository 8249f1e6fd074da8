//! What workers lack that are not able to run a job, in words.

use super::{Explanation, Rule, RuleOutcome};
use crate::ids::WorkerId;

impl Explanation {
    /// The rule that most workers fail, in words, such as `2 of 3 workers lack at least 8 GiB of main
    /// memory`: of those that are there, or of all where none is.
    pub fn lacking(&self) -> String {
        let Some(worst) = self.hardest() else { return "it asks for nothing".into() };
        let broken = worst.unreached();
        let broken = broken.map(|(worker, why)| format!(" ({worker} is not ready: {why})"));
        let verb = if worst.rule.is_had() { "lack" } else { "fail:" };
        let ((_, failed), broken) = (self.failed(worst), broken.unwrap_or_default());
        let of = if self.there() == 0 { self.workers } else { self.there() };
        format!("{failed} of {of} workers {verb} {}{broken}", worst.wanted)
    }

    /// The rule that most workers fail, by how many fail only this, and how many fail it; of several
    /// the first: who lacks the service lacks all that it would have, too.
    pub fn hardest(&self) -> Option<&RuleOutcome> {
        self.rules.iter().rev().max_by_key(|rule| self.failed(rule))
    }

    fn there(&self) -> usize {
        self.workers - self.offline
    }

    /// How many fail only this rule, and how many fail it.
    fn failed(&self, rule: &RuleOutcome) -> (usize, usize) {
        match self.there() {
            0 => (rule.fail_only_this, rule.fail),
            _ => (rule.fail_only_this_there, rule.fail_there),
        }
    }
}

impl RuleOutcome {
    /// One of those that fail it whose service is not ready, and why: what a service has is known only
    /// once it was reached.
    pub fn unreached(&self) -> Option<(&WorkerId, &str)> {
        let mut failing = self.failing.iter();
        failing.find_map(|it| Some((it.worker.as_ref()?, it.not_ready.as_deref()?)))
    }
}

impl Rule {
    /// Whether what it asks for is something that a worker has.
    fn is_had(&self) -> bool {
        match self {
            Self::Service
            | Self::GpuMemory
            | Self::GpuCount
            | Self::CpuCores
            | Self::Ram
            | Self::Isolation
            | Self::Models
            | Self::NodeClasses => true,
            Self::Unknown
            | Self::Customer
            | Self::Label(_)
            | Self::MustNotLabel(_)
            | Self::MustNotModels
            | Self::MustNotWorkers
            | Self::Excluded => false,
        }
    }
}
