//! What reconcilers should look at: read from the indexes of times. Each answer is only a
//! suggestion; the function looks again when it is carried out.

use std::collections::HashMap;

use pointsman_core::{
    JobId, Record, RecordKey, RecordKind, Timestamp, command::Reconcile, decide::limits,
};
use pointsman_store::{Due, MAX_DUE, Retention, StoreError};

use crate::{
    gone::Silent,
    keys::TOLD_BY,
    link::{count, list, number, odd, text},
    plan::class_of,
    reads::pairs,
    store::Inner,
};

impl Inner {
    pub async fn due(&self, what: Due) -> Result<Vec<Reconcile>, StoreError> {
        match what {
            Due::Leases => self.due_leases().await,
            Due::Workers => self.silent_workers().await,
            Due::Connectors => self.stale_connectors().await,
            Due::Machines => self.changed_machines().await,
            Due::Holds => self.due_holds().await,
            Due::Exclusions => self.lapsing_exclusions().await,
            Due::Retention(keep) => self.surplus(keep).await,
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
    async fn unheard_workers(&self, since: Timestamp) -> Result<Silent, StoreError> {
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
        let due = self.readable(&keys).await?.into_iter().filter_map(|record| match record {
            Record::Job(job) => {
                let token = job.token.filter(|_| job.is_running())?;
                Some(Reconcile::ExpireLease { job: job.id, attempt: job.attempt, token })
            }
            _ => None,
        });
        Ok(due.collect())
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
            Record::Worker(w) => Some(Reconcile::DeclareSilent {
                worker: w.id.clone(),
                incarnation: w.incarnation,
                after,
            }),
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
            Record::Connector(c) => Some(Reconcile::MarkStale { connector: c.id.clone(), after }),
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
            let class = class_of(job);
            let key = class.key();
            let somebody = match able.get(&key) {
                Some(somebody) => *somebody,
                None => self.able_workers(&class, &present).await? > 0,
            };
            able.insert(key, somebody);
            let all = !somebody && job.has_waited_for_others(now);
            if all || until.is_over(now, limits::EXCLUSION) {
                due.push(Reconcile::LapseExclusions { job: id, all });
            }
        }
        due.truncate(MAX_DUE);
        Ok(due)
    }

    /// Ended jobs, and workers and machines that are gone, over what is kept.
    async fn surplus(&self, keep: Retention) -> Result<Vec<Reconcile>, StoreError> {
        self.forget_idempotency().await?;
        self.cut_log().await?;
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
        // First those that are few.
        let mut due: Vec<Reconcile> = workers.chain(machines).take(MAX_DUE).collect();
        due.extend(self.surplus_jobs(keep, MAX_DUE - due.len()).await?);
        Ok(due)
    }

    /// The log is cut where it takes more memory than it may; its length is bounded as it is written.
    async fn cut_log(&self) -> Result<(), StoreError> {
        let log = self.key("log");
        let mut look = redis::pipe();
        look.cmd("MEMORY").arg("USAGE").arg(&log).cmd("XLEN").arg(&log);
        let found = self.link.send_each(&look).await?;
        let [Ok(bytes), Ok(len)] = &found[..] else {
            let why = found.into_iter().find_map(Result::err).unwrap_or_default();
            tracing::warn!(why, "how large the log is cannot be seen, so it is not cut");
            return Ok(());
        };
        let size = |value| count(value).unwrap_or(0);
        let (bytes, len) = (size(bytes), size(len));
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

    async fn surplus_jobs(
        &self,
        keep: Retention,
        most: usize,
    ) -> Result<Vec<Reconcile>, StoreError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("ZCARD").arg(self.key("ended"));
        pipeline.cmd("HGET").arg(self.link.keys().meta()).arg("ended_bytes");
        let found = self.link.send_all(&pipeline).await?;
        let size = |n: usize| found.get(n).and_then(count).unwrap_or(0);
        let too_many = keep.too_many(size(0));
        let mut too_large = size(1).saturating_sub(keep.ended_bytes);
        let now = self.link.now();
        let mut due = Vec::new();
        for from in (0..most).step_by(100) {
            let mut range = redis::cmd("ZRANGE");
            range.arg(self.key("ended")).arg(from).arg(most.min(from + 100) - 1);
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
}
