//! What becomes of a record that came from another store. Whoever it says is there is there no
//! more until it is heard; and nothing of that speaks against a job, a worker or a class.

use super::{Rejected, Stop, draft::Draft, ending, worker};
use crate::{
    event::{EventName, RecordKey},
    ids::{JobId, MachineId, WorkerId},
    record::{Machine, MachineStatus, OfflineReason},
};

const REASON: &str = "the store was moved, and nothing was heard of it since";

pub(super) fn moved(draft: &mut Draft<'_>, what: &RecordKey) -> Result<(), Stop> {
    match what {
        RecordKey::Job(id) => job(draft, *id),
        RecordKey::Worker(id) => worker(draft, id),
        RecordKey::Machine(id) => machine(draft, id),
        RecordKey::Connector(_) | RecordKey::Alert(_) => Err(Rejected::NotDue.into()),
    }
}

/// A running job is pending at its old place, and its attempt is remembered: if that attempt
/// finishes after all, its late result is accepted.
fn job(draft: &mut Draft<'_>, id: JobId) -> Result<(), Stop> {
    let job = draft.need_job(id)?;
    if !job.is_running() {
        return Err(Rejected::NotDue.into());
    }
    ending::take_away(draft, job, "the store was moved").map(drop)
}

/// Its orders stay.
fn worker(draft: &mut Draft<'_>, id: &WorkerId) -> Result<(), Stop> {
    if draft.need_worker(id)?.is_offline() {
        return Err(Rejected::NotDue.into());
    }
    let (reason, action) = (REASON.to_owned(), "point it to this server");
    worker::gone(draft, id, OfflineReason::Silent, reason, Some(action))
}

fn machine(draft: &mut Draft<'_>, id: &MachineId) -> Result<(), Stop> {
    let found = draft.need_machine(id)?;
    if found.status.is_gone() {
        return Err(Rejected::NotDue.into());
    }
    let reason = Some(REASON.to_owned());
    let action = Some("point its agent and workers to this server".to_owned());
    let found = Machine { status: MachineStatus::Disconnected, reason, action, ..found };
    draft.put_machine(EventName::MachineDisconnected, found)?;
    Ok(())
}
