//! What workers lack that are not able to run a job, in words.

use std::collections::BTreeSet;

use super::{
    Availability, Explanation, Rule, RuleOutcome,
    ask::{Ask, Offer},
    wording::NOT_KNOWN,
};
use crate::ids::WorkerId;

/// What of one ask the workers have not that fail it: of those that are there, or of all where none is.
#[derive(Default)]
pub(super) struct Missing<'a> {
    /// Whether it is of those that are there.
    of_there: bool,
    /// Missing at each of them; none before the first.
    everywhere: Option<BTreeSet<&'a str>>,
    /// Missing at one or another.
    somewhere: BTreeSet<&'a str>,
}

impl<'a> Missing<'a> {
    pub fn add(&mut self, ask: &Ask<'a>, offer: &Offer<'_>, availability: Availability) {
        let is_there = availability != Availability::Offline;
        if is_there && !self.of_there {
            *self = Self { of_there: true, ..Self::default() };
        }
        if is_there != self.of_there {
            return;
        }
        let Some(missing) = ask.missing(offer) else { return };
        self.somewhere.extend(&missing);
        match &mut self.everywhere {
            Some(everywhere) => everywhere.retain(|name| missing.contains(name)),
            none => *none = Some(missing),
        }
    }

    /// In words, such as `the node class FaceDetailer`; none where it is not known.
    pub fn said(&self, ask: &Ask<'_>) -> Option<String> {
        let everywhere = self.everywhere.as_ref()?;
        Some(match everywhere.is_empty() {
            true => format!("some of {}", ask.named(&self.somewhere)),
            false => ask.named(everywhere),
        })
    }
}

impl Explanation {
    /// The rule that most workers fail, in words, such as `2 of 3 workers lack at least 8 GiB of main
    /// memory`, with what is missing of it where that is known: of those that are there, or of all
    /// where none is.
    pub fn lacking(&self) -> String {
        let Some(worst) = self.hardest() else { return "it asks for nothing".into() };
        let broken = worst.unreached();
        let broken = broken.map(|(worker, why)| format!(" ({worker} is not ready: {why})"));
        let verb = if worst.rule.is_had() { "lack" } else { "fail:" };
        let ((_, failed), broken) = (self.failed(worst), broken.unwrap_or_default());
        let of = if self.there() == 0 { self.workers } else { self.there() };
        format!("{failed} of {of} workers {verb} {}{broken}", worst.lacked())
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
    /// What is missing of it, or else all that is asked.
    pub fn lacked(&self) -> &str {
        self.missing.as_ref().unwrap_or(&self.wanted)
    }

    /// One of those that fail it whose service was never reached, and why it is not ready: what it has
    /// is not known.
    pub fn unreached(&self) -> Option<(&WorkerId, &str)> {
        let mut failing = self.failing.iter().filter(|it| it.found == NOT_KNOWN);
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
