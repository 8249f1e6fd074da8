//! Machines that went silent, and those heard again. There may be ten thousand: all of them are
//! looked at every few seconds, and in between only when one of them may differ.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use pointsman_core::{
    MachineId, Record, RecordKey, Timestamp, WorkerId,
    command::Reconcile,
    decide::{due, limits},
    record::MachineStatus,
};
use pointsman_store::{MAX_DUE, StoreError};

use crate::{
    encoding::keys,
    link::{list, text},
    store::Inner,
};

/// A machine, and when it or one of its workers was last heard.
pub struct MachineHeard {
    pub machine: MachineId,
    pub status: MachineStatus,
    /// Since when it is gone, if it is.
    pub gone_since: Option<Timestamp>,
    pub heard: Option<Timestamp>,
    /// What is heard of it, as `pulse` names it.
    members: Vec<String>,
    /// Its workers that `pulse` does not name: it was lost since they were heard.
    pub unheard: Vec<WorkerId>,
}

impl MachineHeard {
    pub fn has_no_workers(&self) -> bool {
        self.unheard.is_empty() && !self.members.iter().any(|member| member.starts_with("w:"))
    }

    /// Whether it may have gone silent, or may be heard again, since it was looked at.
    fn may_differ(&self, unheard: &HashMap<String, i64>) -> bool {
        let is_silent = self.members.iter().all(|member| unheard.contains_key(member));
        match self.status {
            MachineStatus::Disconnected => !is_silent,
            status => !status.is_gone() && is_silent,
        }
    }
}

/// All machines as they were when they were looked at.
#[derive(Default)]
pub struct Machines {
    seen: Mutex<Option<(Instant, Arc<[MachineHeard]>)>>,
    /// One looks at a time: whoever comes meanwhile takes what that one saw.
    looking: tokio::sync::Mutex<()>,
}

impl Machines {
    fn seen(&self, within: Duration) -> Option<Arc<[MachineHeard]>> {
        let seen = self.seen.lock();
        seen.as_ref().filter(|(at, _)| at.elapsed() < within).map(|(_, machines)| machines.clone())
    }
}

impl Inner {
    pub async fn changed_machines(&self) -> Result<Vec<Reconcile>, StoreError> {
        let after = limits::SILENT_AFTER;
        let (now, since) = self.contact(false).await?;
        let unheard = self.all_unheard(now - after).await?;
        let seen = self.machines_heard().await?;
        if !seen.iter().any(|machine| machine.may_differ(&unheard)) {
            return Ok(Vec::new());
        }
        let mut changed = Vec::new();
        let seen = self.look_at_machines(Duration::ZERO).await?;
        for MachineHeard { machine, status, heard, .. } in &*seen {
            let is_silent = now.since(heard.unwrap_or(since).max(since)) >= after;
            changed.extend(due::machine(machine, *status, heard.is_some(), is_silent));
        }
        changed.truncate(MAX_DUE);
        Ok(changed)
    }

    /// The ids of the workers of these machines, in one question; nothing of one whose set is none.
    pub async fn workers_of(
        &self,
        machines: Vec<&MachineId>,
    ) -> Result<HashMap<MachineId, Vec<String>>, StoreError> {
        let mut ask = redis::pipe();
        for machine in &machines {
            ask.cmd("SMEMBERS").arg(self.key(&keys::workers_of(machine)));
        }
        let found = machines.into_iter().zip(self.link.send_typed(&ask).await?);
        let workers = found.filter_map(|(machine, found)| {
            Some((machine.clone(), list(&found?).iter().map(text).collect()))
        });
        Ok(workers.collect())
    }

    /// Every machine, as it was seen not long ago.
    pub async fn machines_heard(&self) -> Result<Arc<[MachineHeard]>, StoreError> {
        self.look_at_machines(self.all_machines_every).await
    }

    /// Looks at all of them, or takes what was seen within that time.
    async fn look_at_machines(&self, within: Duration) -> Result<Arc<[MachineHeard]>, StoreError> {
        let _one = self.machines.looking.lock().await;
        if let Some(machines) = self.machines.seen(within) {
            return Ok(machines);
        }
        let at = Instant::now();
        let ids: Vec<MachineId> = self.members("machines").await?;
        let heard = self.heard().await?;
        let keys: Vec<RecordKey> = ids.iter().cloned().map(RecordKey::Machine).collect();
        let workers = self.workers_of(ids.iter().collect()).await?;
        let machines = self.readable(&keys).await?.into_iter().filter_map(|record| {
            let Record::Machine(machine) = record else { return None };
            // Of one whose workers are not known nothing is known.
            let of_workers = workers.get(&machine.id)?.iter();
            let all = of_workers.map(|worker| format!("w:{worker}"));
            let all = all.chain([format!("m:{}", machine.id)]);
            let (members, unheard): (Vec<String>, Vec<String>) =
                all.partition(|member| heard.contains_key(member));
            let worker = |member: &String| member.strip_prefix("w:")?.parse().ok();
            let unheard = unheard.iter().filter_map(worker).collect();
            let heard = members.iter().filter_map(|member| heard.get(member)).map(|c| c.at).max();
            Some(MachineHeard {
                machine: machine.id.clone(),
                status: machine.status,
                gone_since: machine.gone_since(),
                heard,
                members,
                unheard,
            })
        });
        let machines: Arc<[MachineHeard]> = machines.collect();
        *self.machines.seen.lock() = Some((at, machines.clone()));
        Ok(machines)
    }
}
