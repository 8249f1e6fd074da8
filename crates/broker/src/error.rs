//! What can go wrong when the broker is asked.

use pointsman_core::{Rejected, Seq};
use pointsman_store::{Epoch, StoreError};

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// The rules refuse it; nothing was changed.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why the log cannot be read on from a position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    #[error("the position is of another epoch than the log, which is of {current}")]
    OtherEpoch { current: Epoch },
    #[error("the log before seq {oldest} is no longer kept")]
    Cut { oldest: Seq },
    #[error("the position is beyond the end of the log")]
    BeyondHead,
    #[error(transparent)]
    Store(#[from] StoreError),
}
