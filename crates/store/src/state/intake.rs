//! The intake, and what an import does to the whole state.

use std::ops::Bound;

use pointsman_core::{
    Seq, Timestamp,
    command::IdempotencyKey,
    decide::{Intake, KeptIdempotency, limits},
};

use super::State;
use crate::{Epoch, TransferError};

impl State {
    pub fn intake(&self) -> Intake {
        self.intake
    }

    /// As it was when the store was last open.
    pub fn restore_intake(&mut self, intake: Intake) {
        self.intake = intake;
    }

    /// The store came back from before a while ago: nothing is claimed until workers had time to take
    /// back what they run. A claim of the same job would get the number of the attempt that runs,
    /// which could then not be taken back.
    pub fn begin_calm(&mut self, now: Timestamp) {
        self.calm_until = Some(now + limits::CALM);
    }

    /// Until when that is, if it is not over.
    pub fn calm_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.calm_until.filter(|until| now < *until)
    }

    /// Whether the time for that is over now; says so once.
    pub fn calm_ended(&mut self, now: Timestamp) -> bool {
        self.calm_until.take_if(|until| *until <= now).is_some()
    }

    /// Opens or closes it; not while an import fills it.
    pub fn set_intake(&mut self, open: bool) -> Result<(), TransferError> {
        if self.intake == Intake::Importing {
            return Err(TransferError::Importing);
        }
        self.intake = if open { Intake::Open } else { Intake::Closed };
        Ok(())
    }

    /// Whether it never had a record.
    pub fn check_empty(&self) -> Result<(), TransferError> {
        match (self.intake, self.seq) {
            (Intake::Importing, _) => Err(TransferError::Importing),
            (_, 0) => Ok(()),
            (_, seq) => Err(TransferError::NotEmpty(seq)),
        }
    }

    pub fn check_importing(&self) -> Result<(), TransferError> {
        match self.intake {
            Intake::Importing => Ok(()),
            Intake::Open | Intake::Closed => Err(TransferError::NotImporting),
        }
    }

    /// Its log goes on where that of the store it comes from ended.
    pub fn begin_import(&mut self, seq: Seq, last_ended_no: u64) {
        self.intake = Intake::Importing;
        self.restore_position(seq, last_ended_no);
    }

    pub fn finish_import(&mut self, epoch: Epoch) {
        self.epoch = epoch;
        self.intake = Intake::Open;
    }

    /// What is kept of an idempotency key.
    pub fn idempotency(&self, key: &IdempotencyKey) -> Option<&KeptIdempotency> {
        self.idempotency.get(key)
    }

    /// Idempotency keys in the order in which their time ends, those after `after`.
    pub fn idempotency_page(
        &self,
        after: Option<&(IdempotencyKey, KeptIdempotency)>,
        limit: usize,
    ) -> Vec<(IdempotencyKey, KeptIdempotency)> {
        let from = match after {
            Some((key, kept)) => Bound::Excluded((kept.until, key.clone())),
            None => Bound::Unbounded,
        };
        let keys = self.idempotency_ends.range((from, Bound::Unbounded)).map(|(_, key)| key);
        let kept = keys.filter_map(|key| Some((key.clone(), self.idempotency.get(key)?.clone())));
        kept.take(limit).collect()
    }
}
