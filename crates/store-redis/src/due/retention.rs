//! What is no longer kept: ended jobs, who is gone, the log's beginning, the keys of submissions.

use std::time::Duration;

use parking_lot::Mutex;
use pointsman_core::{
    Record, RecordKey, RecordKind, Timestamp, command::Reconcile, decide::limits,
};
use pointsman_store::{MAX_DUE, Retention, StoreError};

use crate::{
    link::{count, list, text},
    store::Inner,
};

/// What was counted is taken for true so long, and as long as the sum in `meta` does not change by
/// more than this part of the limit.
const COUNTED_FOR: Duration = Duration::from_secs(600);
const COUNTED_PART: u64 = 10;

/// The bytes of ended jobs as they were counted last, beside what `meta` said then: no wrong number
/// there costs jobs.
#[derive(Default)]
pub struct EndedBytes(Mutex<Option<Counted>>);

#[derive(Clone, Copy)]
struct Counted {
    at: Timestamp,
    said: u64,
    counted: u64,
}

impl EndedBytes {
    /// How many they are now that `meta` says so many, if that follows from what was counted.
    fn known(&self, said: u64, limit: u64, now: Timestamp) -> Option<u64> {
        let last = (*self.0.lock())?;
        let is_near = said.abs_diff(last.said) <= limit / COUNTED_PART;
        let is_known = is_near && now.since(last.at) < COUNTED_FOR;
        is_known.then(|| (last.counted + said).saturating_sub(last.said))
    }
}

impl Inner {
    /// Workers and machines that are gone, over what is kept.
    pub async fn surplus_gone(&self, keep: Retention) -> Result<Vec<Reconcile>, StoreError> {
        let (now, _) = self.contact(false).await?;
        // Those that are there are heard, and those that are gone are remembered.
        let silent = self.unheard_workers(now - limits::SILENT_AFTER).await?;
        self.not_gone(RecordKind::Worker, &silent).await?;
        let workers = keep.over_limit(self.gone.workers(), now).into_iter();
        let workers = workers.map(|worker| Reconcile::RemoveWorker { worker });
        let seen = self.machines_heard().await?;
        let empty = seen.iter().filter(|seen| seen.has_no_workers());
        let gone = empty.filter_map(|seen| Some((seen.gone_since?, seen.machine.clone())));
        let mut machines = keep.over_limit(gone.collect(), now);
        // A worker of it may have come since.
        let workers_of = self.workers_of(machines.iter().collect()).await?;
        machines.retain(|machine| workers_of.get(machine).is_some_and(Vec::is_empty));
        let machines = machines.into_iter().map(|machine| Reconcile::RemoveMachine { machine });
        Ok(workers.chain(machines).take(MAX_DUE).collect())
    }

    /// What Redis keeps until it is told. An index that is damaged keeps nothing else from being
    /// removed, and of two reasons both are told.
    pub async fn forget_leftovers(&self) -> Result<Vec<Reconcile>, StoreError> {
        match (self.forget_idempotency().await, self.cut_log().await) {
            (Err(StoreError::Failed(keys)), Err(StoreError::Failed(log))) if keys != log => {
                Err(StoreError::Failed(format!("{keys}; {log}")))
            }
            (keys, log) => keys.and(log).map(|()| Vec::new()),
        }
    }

    /// The log is cut where it takes more memory than it may; its length is bounded as it is written.
    async fn cut_log(&self) -> Result<(), StoreError> {
        let log = self.key("log");
        let mut look = redis::pipe();
        look.cmd("MEMORY").arg("USAGE").arg(&log).cmd("XLEN").arg(&log);
        let found = self.link.send_all(&look).await?;
        let size = |n: usize| found.get(n).and_then(count).unwrap_or(0);
        let (bytes, len) = (size(0), size(1));
        if bytes > self.log_bytes {
            let kept = u128::from(len) * u128::from(self.log_bytes) / u128::from(bytes);
            let mut trim = redis::cmd("XTRIM");
            trim.arg(&log).arg("MAXLEN").arg("~").arg(kept.to_string());
            self.link.send(&trim).await?;
        }
        Ok(())
    }

    /// The keys themselves vanish with their time; the index of them is looked through here.
    async fn forget_idempotency(&self) -> Result<(), StoreError> {
        let mut forget = redis::cmd("ZREMRANGEBYSCORE");
        forget.arg(self.key("idempotency")).arg("-inf").arg(self.link.now().as_millis());
        self.link.send(&forget).await?;
        Ok(())
    }

    /// Ended jobs over what is kept.
    pub async fn surplus_jobs(&self, keep: Retention) -> Result<Vec<Reconcile>, StoreError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("ZCARD").arg(self.key("ended"));
        pipeline.cmd("HGET").arg(self.link.keys().meta()).arg("ended_bytes");
        let found = self.link.send_all(&pipeline).await?;
        let size = |n: usize| found.get(n).and_then(count).unwrap_or(0);
        let too_many = keep.too_many(size(0));
        let now = self.link.now();
        let bytes = match size(1) {
            said if said <= keep.ended_bytes => said,
            said => match self.ended_bytes.known(said, keep.ended_bytes, now) {
                Some(bytes) => bytes,
                None => {
                    let counted = self.count_ended_bytes(size(0)).await?;
                    *self.ended_bytes.0.lock() = Some(Counted { at: now, said, counted });
                    counted
                }
            },
        };
        let mut too_large = bytes.saturating_sub(keep.ended_bytes);
        let mut due = Vec::new();
        for from in (0..MAX_DUE).step_by(100) {
            let mut range = redis::cmd("ZRANGE");
            range.arg(self.key("ended")).arg(from).arg(from + 99);
            let ids = self.link.send(&range).await?;
            let ids = list(&ids).iter().filter_map(|id| text(id).parse().ok());
            let keys: Vec<RecordKey> = ids.map(RecordKey::Job).collect();
            for record in self.readable(&keys).await? {
                let Record::Job(job) = record else { continue };
                let over =
                    (due.len() as u64) < too_many || too_large > 0 || keep.is_too_old(&job, now);
                too_large = too_large.saturating_sub(job.bytes());
                if !over {
                    return Ok(due);
                }
                due.push(Reconcile::RemoveJob { job: job.id });
            }
            if keys.len() < 100 {
                break;
            }
        }
        Ok(due)
    }

    /// The bytes of so many ended jobs, from their records.
    async fn count_ended_bytes(&self, jobs: u64) -> Result<u64, StoreError> {
        let mut bytes = 0;
        for from in (0..jobs).step_by(MAX_DUE) {
            let mut range = redis::cmd("ZRANGE");
            let till = jobs.min(from + MAX_DUE as u64) - 1;
            let ids = self.link.send(range.arg(self.key("ended")).arg(from).arg(till)).await?;
            let ids = list(&ids).iter().filter_map(|id| text(id).parse().ok());
            let keys: Vec<RecordKey> = ids.map(RecordKey::Job).collect();
            bytes += self.readable(&keys).await?.iter().fold(0, |sum, record| match record {
                Record::Job(job) => sum + job.bytes(),
                _ => sum,
            });
        }
        Ok(bytes)
    }
}
