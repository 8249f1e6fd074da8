//! What is wrong with records and indexes, and making it right. The consistency reconciler and
//! `doctor` ask for it, and tests after every step.

mod indexes;
mod mend;
mod records;
#[cfg(test)]
mod tests;

use pointsman_core::{RecordKey, doctor::Examination};

use super::State;
use crate::doctor::Depth;

impl State {
    pub fn examine(&self, depth: Depth) -> Examination {
        let mut found = Examination::default();
        for machine in self.machines.values() {
            self.examine_rev(RecordKey::Machine(machine.id.clone()), machine.rev, &mut found);
        }
        for alert in self.alerts.values() {
            self.examine_rev(RecordKey::Alert(alert.id.clone()), alert.rev, &mut found);
        }
        for worker in self.workers.values() {
            self.examine_worker(worker, &mut found);
        }
        for connector in self.connectors.values() {
            self.examine_connector(connector, &mut found);
        }
        if depth == Depth::Everything {
            for entry in self.jobs.values() {
                self.examine_job(&entry.job, &mut found);
            }
            self.examine_indexes(&mut found);
        }
        found
    }
}
