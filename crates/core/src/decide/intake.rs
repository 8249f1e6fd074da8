//! Whether a store takes new work: closed for an export, it takes none and lets what runs end.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Change, Rejected, Transition};
use crate::{
    command::{Answer, Command, Reconcile},
    event::{EventName, RecordKey},
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
    /// and gets its first answer; a job that its worker reclaims ran already.
    pub fn admits_changes(self, transition: &Transition) -> Result<(), Rejected> {
        let claimed = match &transition.answer {
            Answer::Exchanged { claimed, .. } => claimed.as_slice(),
            _ => &[],
        };
        let is_claimed = |key: &RecordKey| claimed.iter().any(|c| *key == RecordKey::Job(c.job));
        let is_new = |change: &Change| match change.name {
            EventName::JobSubmitted | EventName::JobRetried => true,
            EventName::JobAssigned => is_claimed(&change.key),
            _ => false,
        };
        match self == Self::Closed && transition.changes.iter().any(is_new) {
            true => Err(Rejected::IntakeClosed),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        command::Held,
        event::{Event, Record},
        ids::{JobId, ServiceName, Token},
        record::{Job, JobSpec},
        time::Timestamp,
    };

    fn changing(name: EventName, claimed: bool) -> Transition {
        let spec = JobSpec::new(ServiceName::new("simulation").unwrap(), Timestamp::default());
        let job = Job::new(JobId::from_uuid(Uuid::from_u128(1)), spec);
        let held = Held { job: job.id, attempt: 1, token: Token::from_uuid(Uuid::from_u128(2)) };
        let claimed = if claimed { vec![held] } else { Vec::new() };
        Transition {
            reads: Vec::new(),
            looked_up: Vec::new(),
            guards: Vec::new(),
            changes: vec![Event::put(name, Record::Job(job.into()))],
            sides: Vec::new(),
            answer: Answer::Exchanged { ops: Vec::new(), claimed, claim_refused: None },
        }
    }

    /// Also what was decided before the intake was closed.
    #[test]
    fn a_closed_intake_admits_what_is_no_new_work() {
        use EventName as E;
        let closed = |name, claimed| Intake::Closed.admits_changes(&changing(name, claimed));
        for (name, claimed) in
            [(E::JobSubmitted, false), (E::JobRetried, false), (E::JobAssigned, true)]
        {
            assert_eq!(closed(name, claimed), Err(Rejected::IntakeClosed), "{name:?}");
            assert_eq!(Intake::Open.admits_changes(&changing(name, claimed)), Ok(()));
        }
        for (name, claimed) in [(E::JobAssigned, false), (E::JobStarted, true)] {
            assert_eq!(closed(name, claimed), Ok(()), "{name:?}");
        }
    }
}
