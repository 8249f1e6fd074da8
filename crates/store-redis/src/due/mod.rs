//! What reconcilers should look at: read from the indexes of times. Each answer is only a
//! suggestion; the function looks again when it is carried out.

pub mod gone;
pub mod machines;
pub mod retention;

use std::collections::HashMap;

use pointsman_core::{
    JobId, Record, RecordKey, RecordKind, Timestamp,
    command::Reconcile,
    decide::{
        due::{connector_unconfirmed, leases_over, worker_silent},
        limits,
    },
};
use pointsman_store::{Due, MAX_DUE, StoreError};

use crate::{
    encoding::keys::TOLD_BY,
    link::{list, number, odd, text},
    reads::pairs,
    store::Inner,
};
use gone::Silent;

impl Inner {
    pub async fn due(&self, what: Due) -> Result<Vec<Reconcile>, StoreError> {
        match what {
            Due::Leases => self.due_leases().await,
            Due::Workers => self.silent_workers().await,
            Due::Connectors => self.stale_connectors().await,
            Due::Machines => self.changed_machines().await,
            Due::Holds => self.due_holds().await,
            Due::Exclusions => self.lapsing_exclusions().await,
            Due::Gone(keep) => self.surplus_gone(keep).await,
            Due::Ended(keep) => self.surplus_jobs(keep).await,
            Due::Leftovers => self.forget_leftovers().await,
        }
    }

    /// Tells the store that somebody looks for silence: the store's time, and since when that was
    /// so without a gap.
    pub async fn contact(&self, broken: bool) -> Result<(Timestamp, Timestamp), StoreError> {
        let gap = self.contact_gap.unwrap_or_default().as_millis().to_string();
        // With a gap of their own to tell, many servers need no word of one of them.
        let force = if broken && self.contact_gap.is_none() { "1" } else { "0" };
        let time = self.link.given_time();
        let args = [time.as_bytes(), gap.as_bytes(), force.as_bytes()];
        let answer = self.link.call("contact", &args).await?;
        let at = |n: usize| {
            let at = list(&answer).get(n).and_then(number);
            at.map(Timestamp::from_millis).ok_or_else(|| StoreError::Failed(odd(&answer)))
        };
        let (now, since) = (at(0)?, at(1)?);
        self.link.saw_time(now.as_millis());
        Ok((now, since))
    }

    /// Jobs in an index of times up to one, in its order.
    async fn until(
        &self,
        index: &str,
        till: Timestamp,
        limit: usize,
    ) -> Result<Vec<(JobId, Timestamp)>, StoreError> {
        let mut range = redis::cmd("ZRANGE");
        range.arg(self.key(index)).arg("-inf").arg(till.as_millis()).arg("BYSCORE");
        range.arg("LIMIT").arg(0).arg(limit).arg("WITHSCORES");
        let found = self.link.send(&range).await?;
        let ids = list(&found).chunks_exact(2).filter_map(|pair| {
            Some((text(&pair[0]).parse().ok()?, Timestamp::from_millis(number(&pair[1])?)))
        });
        Ok(ids.collect())
    }

    /// Holds that are over, and those that end later than any backoff.
    async fn due_holds(&self) -> Result<Vec<Reconcile>, StoreError> {
        let (now, holds) = (self.link.now(), self.key("holds"));
        let far = format!("({}", (now + limits::BACKOFF_MAX).as_millis());
        let mut ranges = redis::pipe();
        ranges.cmd("ZRANGE").arg(&holds).arg("-inf").arg(now.as_millis()).arg("BYSCORE");
        ranges.arg("LIMIT").arg(0).arg(MAX_DUE);
        ranges.cmd("ZRANGE").arg(&holds).arg(far).arg("+inf").arg("BYSCORE");
        ranges.arg("LIMIT").arg(0).arg(MAX_DUE);
        let found = self.link.send_all(&ranges).await?;
        let jobs = found.iter().flat_map(list).filter_map(|id| text(id).parse().ok());
        Ok(jobs.take(MAX_DUE).map(|job| Reconcile::ReleaseHold { job }).collect())
    }

    /// The members of `pulse` that were not heard since then, with their scores.
    pub async fn all_unheard(&self, since: Timestamp) -> Result<HashMap<String, i64>, StoreError> {
        let mut range = redis::cmd("ZRANGE");
        let told_by_any = since.as_millis() * TOLD_BY + TOLD_BY - 1;
        range.arg(self.key("pulse")).arg("-inf").arg(told_by_any).arg("BYSCORE");
        let found = self.link.send(range.arg("WITHSCORES")).await?;
        let unheard = pairs(&found).into_iter();
        Ok(unheard.filter_map(|(member, score)| Some((member, score.parse().ok()?))).collect())
    }

    /// Those of one kind; that is the first letter in `pulse`.
    async fn unheard(
        &self,
        kind: &str,
        key: impl Fn(&str) -> Option<RecordKey>,
        since: Timestamp,
    ) -> Result<Silent, StoreError> {
        let all = self.all_unheard(since).await?.into_iter();
        let of_kind = all.filter_map(|(member, score)| {
            Some((key(member.strip_prefix(kind)?.strip_prefix(':')?)?, Some(score)))
        });
        Ok(of_kind.collect())
    }

    /// Workers that were not heard since then.
    pub async fn unheard_workers(&self, since: Timestamp) -> Result<Silent, StoreError> {
        let worker = |id: &str| id.parse().ok().map(RecordKey::Worker);
        let mut silent = self.unheard("w", worker, since).await?;
        let machines = self.machines_heard().await?;
        for worker in machines.iter().flat_map(|machine| &machine.unheard) {
            silent.entry(RecordKey::Worker(worker.clone())).or_default();
        }
        Ok(silent)
    }

    async fn due_leases(&self) -> Result<Vec<Reconcile>, StoreError> {
        let (now, since) = self.contact(false).await?;
        if since + limits::LEASE > now {
            return Ok(Vec::new());
        }
        let mut over = self.until("leases", now, MAX_DUE).await?;
        over.sort_unstable();
        let keys: Vec<RecordKey> = over.iter().map(|(id, _)| RecordKey::Job(*id)).collect();
        Ok(leases_over(self.readable(&keys).await?.into_iter().filter_map(|record| match record {
            Record::Job(job) => Some(job),
            _ => None,
        })))
    }

    async fn silent_workers(&self) -> Result<Vec<Reconcile>, StoreError> {
        let after = limits::SILENT_AFTER;
        let (now, since) = self.contact(false).await?;
        if now.since(since) < after {
            return Ok(Vec::new());
        }
        let silent = self.unheard_workers(now - after).await?;
        let there = self.not_gone(RecordKind::Worker, &silent).await?;
        let due = there.into_iter().filter_map(|record| match record {
            Record::Worker(worker) => worker_silent(&worker),
            _ => None,
        });
        Ok(due.take(MAX_DUE).collect())
    }

    async fn stale_connectors(&self) -> Result<Vec<Reconcile>, StoreError> {
        let after = limits::STALE_AFTER;
        let (now, since) = self.contact(false).await?;
        if now.since(since) < after {
            return Ok(Vec::new());
        }
        let connector = |id: &str| id.parse().ok().map(RecordKey::Connector);
        let stale = self.unheard("c", connector, now - after).await?;
        let known = self.not_gone(RecordKind::Connector, &stale).await?;
        let due = known.into_iter().filter_map(|record| match record {
            Record::Connector(connector) => connector_unconfirmed(&connector),
            _ => None,
        });
        Ok(due.take(MAX_DUE).collect())
    }

    /// Exclusions lapse with time, or when nobody else could run the job and seems about to.
    async fn lapsing_exclusions(&self) -> Result<Vec<Reconcile>, StoreError> {
        let now = self.link.now();
        let far = Timestamp::from_millis(i64::MAX >> 12);
        let excluded = self.until("exclusions", far, 10 * MAX_DUE).await?;
        if excluded.is_empty() {
            return Ok(Vec::new());
        }
        let present = self.present().await?;
        let keys: Vec<RecordKey> = excluded.iter().map(|(id, _)| RecordKey::Job(*id)).collect();
        let jobs: HashMap<JobId, _> = self
            .readable(&keys)
            .await?
            .into_iter()
            .filter_map(|record| match record {
                Record::Job(job) => Some((job.id, job)),
                _ => None,
            })
            .collect();
        // Jobs with the same exclusions are of one class: it is asked once a class.
        let mut able = HashMap::new();
        let mut due = Vec::new();
        for (id, until) in excluded {
            let Some(job) = jobs.get(&id) else { continue };
            let class = job.class();
            let key = class.key();
            let somebody = match able.get(&key) {
                Some(somebody) => *somebody,
                None => self.able_workers(&class, &present).await? > 0,
            };
            able.insert(key, somebody);
            let nobody_else = !somebody && job.has_waited_for_others(now);
            if nobody_else || until.is_over(now, limits::EXCLUSION) {
                due.push(Reconcile::LapseExclusions { job: id, nobody_else });
            }
        }
        due.truncate(MAX_DUE);
        Ok(due)
    }
}
