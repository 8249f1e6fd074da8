//! What is due of a record of which nothing was heard, or whose time is over. How that is found out is
//! each store's own, by its indexes; what follows from it is not.

use super::limits;
use crate::{
    command::Reconcile,
    ids::MachineId,
    record::{Connector, Job, MachineStatus, Worker},
};

/// Of a job whose lease is over.
pub fn lease_over(job: &Job) -> Option<Reconcile> {
    let token = job.token.filter(|_| job.is_running())?;
    Some(Reconcile::ExpireLease { job: job.id, attempt: job.attempt, token })
}

/// Of a worker that was not heard for [`limits::SILENT_AFTER`].
pub fn worker_silent(worker: &Worker) -> Option<Reconcile> {
    (!worker.is_offline()).then(|| Reconcile::DeclareSilent {
        worker: worker.id.clone(),
        incarnation: worker.incarnation,
        after: limits::SILENT_AFTER,
    })
}

/// Of a connector that nothing confirmed for [`limits::STALE_AFTER`].
pub fn connector_unconfirmed(connector: &Connector) -> Option<Reconcile> {
    connector.is_known().then(|| Reconcile::MarkStale {
        connector: connector.id.clone(),
        after: limits::STALE_AFTER,
    })
}

/// Of a machine: whether it was ever heard, and whether that is [`limits::SILENT_AFTER`] ago.
pub fn machine(
    id: &MachineId,
    status: MachineStatus,
    was_heard: bool,
    is_silent: bool,
) -> Option<Reconcile> {
    let machine = id.clone();
    match status {
        MachineStatus::Disconnected if was_heard && !is_silent => {
            Some(Reconcile::ReconnectMachine { machine })
        }
        status if !status.is_gone() && is_silent => {
            Some(Reconcile::DisconnectMachine { machine, after: limits::SILENT_AFTER })
        }
        _ => None,
    }
}
