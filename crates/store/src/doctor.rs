//! Finding and mending what is wrong with what is stored: what all stores share.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
};

use pointsman_core::{
    Command,
    command::Repair,
    doctor::{Examination, Finding, Mend, MendOutcome, Mended},
};

/// How far an examination looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Machines, workers and connectors, and what is set aside: cheap enough for every few seconds.
    Fleet,
    /// Every record and every index.
    Everything,
}

/// What a mending is about to do about each finding that was asked for.
#[derive(Debug, Default)]
pub struct Treatment {
    steps: Vec<(Finding, Option<Repair>)>,
}

impl Treatment {
    /// Of the findings with these ids, or of all; `repair_of` says which change of records mends
    /// one, if any does.
    pub fn of(
        found: Examination,
        ids: Option<&[String]>,
        repair_of: impl Fn(&Finding) -> Option<Repair>,
    ) -> Self {
        let wanted = |finding: &Finding| ids.is_none_or(|ids| ids.contains(&finding.id));
        let steps = found.findings.into_iter().filter(wanted);
        let steps = steps.map(|finding| {
            let repair = repair_of(&finding);
            (finding, repair)
        });
        Self { steps: steps.collect() }
    }

    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.steps.iter().map(|(finding, _)| finding)
    }

    /// The repairs, each once, in the order in which [`report`](Self::report) wants the answers.
    fn repairs(&self) -> BTreeSet<&Repair> {
        self.steps.iter().filter_map(|(_, repair)| repair.as_ref()).collect()
    }

    pub fn commands(&self) -> Vec<Command> {
        self.repairs().into_iter().cloned().map(Command::Repair).collect()
    }

    /// What became of each finding: a look afterwards says whether it is gone.
    pub fn report<T, E: Display>(
        self,
        answers: &[Result<T, E>],
        after: &Examination,
    ) -> Vec<Mended> {
        let refused: BTreeMap<Repair, String> = self
            .repairs()
            .into_iter()
            .zip(answers)
            .filter_map(|(repair, answer)| {
                Some((repair.clone(), answer.as_ref().err()?.to_string()))
            })
            .collect();
        let outcome = |finding: &Finding, repair: Option<&Repair>| {
            if after.undecided.contains(&finding.id) {
                let why = "what it is about changes with every look; look again".to_owned();
                return MendOutcome::Left { why };
            }
            if !after.has(&finding.id) {
                return match finding.mend {
                    Mend::Quarantine => MendOutcome::Quarantined,
                    Mend::Repair | Mend::None => MendOutcome::Repaired,
                };
            }
            let why = match (finding.mend, repair.and_then(|repair| refused.get(repair))) {
                (Mend::None, _) => "no repair can make it right; a person must".to_owned(),
                (_, Some(refused)) => refused.clone(),
                (_, None) => "it is wrong again, or still, after the repair".to_owned(),
            };
            MendOutcome::Left { why }
        };
        let steps = self.steps.into_iter().map(|(finding, repair)| Mended {
            outcome: outcome(&finding, repair.as_ref()),
            finding,
        });
        steps.collect()
    }
}
