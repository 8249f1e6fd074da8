//! The lists that name records. Where one is of a wrong type the records' own keys stand in for it: a
//! server must be able to start, as only a server can mend it.

use std::collections::BTreeSet;

use pointsman_core::{
    JobId, Record, RecordKey, RecordKind, record::JobStatus, view::ENDED_IN_VIEW,
};
use pointsman_store::StoreError;
use redis::Value;

use crate::{
    encoding::keys,
    link::{count, list, text},
    plan::parse_key,
    store::Inner,
};

/// Whether a record is in a view that begins when so many jobs have ended.
pub fn is_in_view(record: &Record, last_ended_no: u64) -> bool {
    let Record::Job(job) = record else { return true };
    let is_shown = |no: u64| no + ENDED_IN_VIEW >= last_ended_no;
    job.is_running() || job.ended().is_some_and(|ended| is_shown(ended.ended_no))
}

/// The kinds of records but jobs.
pub const FLEET: [RecordKind; 4] =
    [RecordKind::Machine, RecordKind::Worker, RecordKind::Connector, RecordKind::Alert];

impl Inner {
    /// The records of a kind that the set of their ids names; none where it is no set.
    pub async fn listed(&self, kind: RecordKind) -> Result<Option<Vec<RecordKey>>, StoreError> {
        let mut members = redis::pipe();
        members.cmd("SMEMBERS").arg(self.key(keys::index_of(kind)));
        let found = self.link.send_typed(&members).await?.pop().flatten();
        let keys = found.map(|found| {
            let ids = list(&found).iter().map(text);
            let mut keys: Vec<_> = ids.filter_map(|id| RecordKey::parse(kind, &id).ok()).collect();
            keys.sort();
            keys
        });
        Ok(keys)
    }

    /// The records that a view is made of, and perhaps others.
    pub async fn view_keys(&self, last_ended_no: u64) -> Result<Vec<RecordKey>, StoreError> {
        let mut keys = Vec::new();
        for kind in FLEET {
            match self.listed(kind).await? {
                Some(listed) => keys.extend(listed),
                None => keys.extend(self.stored(kind).await?),
            }
        }
        keys.extend(self.view_jobs(last_ended_no).await?.into_iter().map(RecordKey::Job));
        Ok(keys)
    }

    /// The jobs that run or ended last.
    async fn view_jobs(&self, last_ended_no: u64) -> Result<BTreeSet<JobId>, StoreError> {
        let mut lists = redis::pipe();
        lists.cmd("ZREVRANGE").arg(self.key("ended")).arg(0).arg(ENDED_IN_VIEW);
        lists.cmd("ZRANGE").arg(self.key("leases")).arg(0).arg(-1);
        let lists: Option<Vec<Value>> = self.link.send_typed(&lists).await?.into_iter().collect();
        match lists {
            Some(lists) => {
                let ids = lists.iter().flat_map(list);
                Ok(ids.filter_map(|id| text(id).parse().ok()).collect())
            }
            None => self.stored_view_jobs(last_ended_no).await,
        }
    }

    /// The records of a kind of which there are keys.
    async fn stored(&self, kind: RecordKind) -> Result<BTreeSet<RecordKey>, StoreError> {
        let mut scan = self.link.scan(&format!("{}:*", kind.as_str()));
        let mut stored = BTreeSet::new();
        while let Some(some) = scan.next().await? {
            stored.extend(some.iter().filter_map(|key| self.record_of(key)));
        }
        Ok(stored)
    }

    /// The same as [`view_jobs`](Self::view_jobs), by what each job's own fields say.
    async fn stored_view_jobs(&self, last_ended_no: u64) -> Result<BTreeSet<JobId>, StoreError> {
        let mut scan = self.link.scan(&format!("{}:*", RecordKind::Job.as_str()));
        let mut jobs = BTreeSet::new();
        while let Some(some) = scan.next().await? {
            let some: Vec<JobId> = some
                .iter()
                .filter_map(|key| match self.record_of(key)? {
                    RecordKey::Job(id) => Some(id),
                    _ => None,
                })
                .collect();
            let mut fields = redis::pipe();
            for id in &some {
                let key = self.key(&keys::record(&RecordKey::Job(*id)));
                fields.cmd("HMGET").arg(key).arg("status").arg("ended_no");
            }
            let is_shown = |fields: &Value| {
                let [status, ended_no] = list(fields) else { return false };
                let running = [JobStatus::Assigned, JobStatus::InProgress];
                let shown = |no: u64| no.saturating_add(ENDED_IN_VIEW) >= last_ended_no;
                running.iter().any(|running| text(status) == running.as_str())
                    || count(ended_no).is_some_and(shown)
            };
            let fields = self.link.send_passing(&fields).await?;
            let shown = some.into_iter().zip(&fields).filter(|(_, fields)| is_shown(fields));
            jobs.extend(shown.map(|(id, _)| id));
        }
        Ok(jobs)
    }

    /// The record whose key, whole, this is.
    fn record_of(&self, key: &Value) -> Option<RecordKey> {
        parse_key(text(key).strip_prefix(self.link.keys().prefix())?)
    }
}
