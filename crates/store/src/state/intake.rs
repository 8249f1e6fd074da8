//! Whether a store takes new work: closed for an export, it takes none and lets what runs end.

use std::ops::Bound;

use pointsman_core::{
    Command, EventName, Rejected, Seq,
    command::{IdempotencyKey, Reconcile},
    decide::Transition,
};

use super::{KeptIdempotency, State};
use crate::{Epoch, TransferError};

/// What a store takes. Durable: a store that was closed stays so until it is opened again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intake {
    Open,
    /// For its export: claims find nothing, submissions and retries are refused; renewals,
    /// endings, cancels and reads go on.
    Closed,
    /// An import is filling it, or broke off: it serves nobody.
    Importing,
}

impl Intake {
    pub(super) fn admits(self, command: &Command) -> Result<(), Rejected> {
        let moved = matches!(command, Command::Reconcile(Reconcile::Moved { .. }));
        if self == Self::Importing && !moved { Err(Rejected::Importing) } else { Ok(()) }
    }

    /// An exact repeat of a submission changes nothing, and gets its first answer.
    pub(super) fn admits_changes(self, transition: &Transition) -> Result<(), Rejected> {
        let new = |name| {
            matches!(name, EventName::JobSubmitted | EventName::JobRetried | EventName::JobAssigned)
        };
        let closed = self == Self::Closed;
        match closed && transition.changes.iter().any(|change| new(change.name)) {
            true => Err(Rejected::IntakeClosed),
            false => Ok(()),
        }
    }
}

impl State {
    pub fn intake(&self) -> Intake {
        self.intake
    }

    /// As it was when the store was last open.
    pub fn restore_intake(&mut self, intake: Intake) {
        self.intake = intake;
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
