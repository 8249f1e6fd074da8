//! Whether a store takes new work: closed for an export, it takes none and lets what runs end.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Rejected, Transition};
use crate::{
    command::{Command, Reconcile},
    event::EventName,
};

/// What a store takes. Durable: a store that was closed stays so until it is opened again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Intake {
    Open,
    /// For its export: claims find nothing, submissions and retries are refused; renewals,
    /// endings, cancels and reads go on.
    Closed,
    /// An import is filling it, or broke off: it serves nobody.
    Importing,
}

impl Intake {
    /// Whether the command may be decided at all.
    pub fn admits(self, command: &Command) -> Result<(), Rejected> {
        let moved = matches!(command, Command::Reconcile(Reconcile::Moved { .. }));
        if self == Self::Importing && !moved { Err(Rejected::Importing) } else { Ok(()) }
    }

    /// Whether what was decided may be applied. An exact repeat of a submission changes nothing,
    /// and gets its first answer.
    pub fn admits_changes(self, transition: &Transition) -> Result<(), Rejected> {
        let new = |name| {
            matches!(name, EventName::JobSubmitted | EventName::JobRetried | EventName::JobAssigned)
        };
        match self == Self::Closed && transition.changes.iter().any(|change| new(change.name)) {
            true => Err(Rejected::IntakeClosed),
            false => Ok(()),
        }
    }
}
