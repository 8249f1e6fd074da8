//! What is due of a record of which nothing was heard, or whose time is over. How that is found out is
//! each store's own, by its indexes; what follows from it is not.

use std::borrow::Borrow;

use super::limits;
use crate::{
    command::Reconcile,
    ids::MachineId,
    record::{Connector, Job, MachineStatus, Worker},
};

/// Of jobs whose leases are over. Their workers are silent where nothing else was heard of them either:
/// nobody knows that they are idle. One that is heard did not keep the attempt, and is there.
pub fn leases_over(jobs: impl IntoIterator<Item = impl Borrow<Job>>) -> Vec<Reconcile> {
    let (mut due, mut workers) = (Vec::new(), Vec::new());
    for job in jobs {
        let job = job.borrow();
        if let (Some(token), Some(by)) = (job.token, job.assignment()) {
            due.push(Reconcile::ExpireLease { job: job.id, attempt: job.attempt, token });
            workers.push(by.worker_id.clone());
        }
    }
    workers.sort_unstable();
    workers.dedup();
    let after = limits::SILENT_WITH_LEASE;
    due.extend(workers.into_iter().map(|worker| Reconcile::DeclareSilent { worker, after }));
    due
}

/// Of a worker that was not heard for [`limits::SILENT_AFTER`].
pub fn worker_silent(worker: &Worker) -> Option<Reconcile> {
    (!worker.is_offline()).then(|| Reconcile::DeclareSilent {
        worker: worker.id.clone(),
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
