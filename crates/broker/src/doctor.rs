//! Looking for what is wrong with what is stored, and mending it.

use pointsman_core::{
    MachineId, WorkerId,
    doctor::{Examination, MendOutcome, Mended},
};
use pointsman_store::{Depth, StoreError};

use crate::Broker;

impl Broker {
    /// Everything that is wrong with what is stored.
    pub async fn examine(&self) -> Result<Examination, StoreError> {
        self.store().examine(Depth::Everything).await
    }

    /// Mends the findings with these ids, or all of them. The alerts about what is mended go at
    /// once.
    pub async fn mend(&self, ids: Option<Vec<String>>) -> Result<Vec<Mended>, StoreError> {
        let mended = self.store().mend(ids).await?;
        log(&mended);
        if let Err(error) = async { self.world().show(&self.examine().await?).await }.await {
            // What is done is done; the next look shows it.
            tracing::warn!(%error, "what was mended could not be shown");
        }
        Ok(mended)
    }

    /// Mends whatever is wrong with a worker and its connectors.
    pub async fn mend_worker(&self, worker: &WorkerId) -> Result<Vec<Mended>, StoreError> {
        let (own, connectors) = (format!("worker/{worker}"), format!("connector/{worker}:"));
        self.mend_about(|subject| subject == own || subject.starts_with(&connectors)).await
    }

    /// Mends whatever is wrong with a machine's record.
    pub async fn mend_machine(&self, machine: &MachineId) -> Result<Vec<Mended>, StoreError> {
        let own = format!("machine/{machine}");
        self.mend_about(|subject| subject == own).await
    }

    async fn mend_about(&self, is_meant: impl Fn(&str) -> bool) -> Result<Vec<Mended>, StoreError> {
        let found = self.examine().await?.findings.into_iter();
        let about = found.filter(|finding| is_meant(&finding.subject));
        self.mend(Some(about.map(|finding| finding.id).collect())).await
    }
}

/// What was done is told one by one; of what was left only how much it is, and that only beside what was
/// done: whoever asked has the whole answer, and may ask again and again.
fn log(mended: &[Mended]) {
    let is_left = |m: &&Mended| matches!(m.outcome, MendOutcome::Left { .. });
    let left = mended.iter().filter(is_left).count();
    if left == mended.len() {
        return;
    }
    for Mended { finding, outcome } in mended.iter().filter(|m| !is_left(m)) {
        tracing::warn!(id = finding.id, problem = finding.problem, ?outcome, "mended");
    }
    if left > 0 {
        tracing::warn!(findings = left, "left as they are: see `pointsman doctor`");
    }
}
