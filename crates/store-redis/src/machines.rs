//! Machines that went silent, and those heard again. There may be ten thousand: all of them are
//! looked at every few seconds, and in between only when one of them may differ.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use pointsman_core::{
    MachineId, Record, RecordKey, Timestamp, command::Reconcile, decide::limits,
    record::MachineStatus,
};
use pointsman_store::{MAX_DUE, StoreError};

use crate::{
    link::{list, text},
    store::Inner,
};

/// A machine, and when it or one of its workers was last heard.
pub struct MachineHeard {
    pub machine: MachineId,
    pub status: MachineStatus,
    pub heard: Option<Timestamp>,
    /// What is heard of it, as `pulse` names it.
    members: Vec<String>,
}

impl MachineHeard {
    /// Whether it may have gone silent, or may be heard again, since it was looked at.
    fn may_differ(&self, unheard: &HashSet<String>) -> bool {
        let is_silent = self.members.iter().all(|member| unheard.contains(member));
        match self.status {
            MachineStatus::Disconnected => !is_silent,
            status => !status.is_gone() && is_silent,
        }
    }
}

/// All machines as they were when they were looked at.
#[derive(Default)]
pub struct Machines(Mutex<Option<(Instant, Vec<MachineHeard>)>>);

impl Machines {
    /// Whether nothing can be due, going by what was seen not long ago.
    fn are_as_before(&self, seen_within: Duration, unheard: &HashSet<String>) -> bool {
        self.0.lock().as_ref().is_some_and(|(at, machines)| {
            at.elapsed() < seen_within && !machines.iter().any(|m| m.may_differ(unheard))
        })
    }
}

impl Inner {
    pub async fn changed_machines(&self) -> Result<Vec<Reconcile>, StoreError> {
        let after = limits::SILENT_AFTER;
        let (now, since) = self.contact(false).await?;
        if now.since(since) >= after {
            let unheard = self.all_unheard(now - after).await?;
            if self.machines.are_as_before(self.all_machines_every, &unheard) {
                return Ok(Vec::new());
            }
        }
        let machines = self.machines_heard().await?;
        let mut due = Vec::new();
        for MachineHeard { machine, status, heard, .. } in &machines {
            let (machine, silent) =
                (machine.clone(), now.since(heard.unwrap_or(since).max(since)) >= after);
            due.extend(match status {
                MachineStatus::Disconnected if heard.is_some() && !silent => {
                    Some(Reconcile::ReconnectMachine { machine })
                }
                status if !status.is_gone() && silent => {
                    Some(Reconcile::DisconnectMachine { machine, after })
                }
                _ => None,
            });
        }
        due.truncate(MAX_DUE);
        *self.machines.0.lock() = Some((Instant::now(), machines));
        Ok(due)
    }

    /// Every machine.
    pub async fn machines_heard(&self) -> Result<Vec<MachineHeard>, StoreError> {
        let ids: Vec<MachineId> = self.members("machines").await?;
        let heard = self.heard().await?;
        let keys: Vec<RecordKey> = ids.iter().cloned().map(RecordKey::Machine).collect();
        let mut pipeline = redis::pipe();
        for id in &ids {
            pipeline.cmd("SMEMBERS").arg(self.key(&format!("machine:{id}:workers")));
        }
        let workers = self.link.send_all(&pipeline).await?;
        let workers: HashMap<MachineId, Vec<String>> = ids
            .into_iter()
            .zip(workers.iter().map(|found| list(found).iter().map(text).collect()))
            .collect();
        let machines = self.records(&keys).await?.into_iter().filter_map(|record| {
            let Record::Machine(machine) = record else { return None };
            let of_workers = workers.get(&machine.id).into_iter().flatten();
            let all = of_workers.map(|worker| format!("w:{worker}"));
            let all = all.chain([format!("m:{}", machine.id)]);
            let members: Vec<String> = all.filter(|member| heard.contains_key(member)).collect();
            let heard = members.iter().filter_map(|member| heard.get(member)).map(|c| c.at).max();
            Some(MachineHeard {
                machine: machine.id.clone(),
                status: machine.status,
                heard,
                members,
            })
        });
        Ok(machines.collect())
    }
}
