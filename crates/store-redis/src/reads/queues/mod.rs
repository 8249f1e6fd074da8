//! The queues: classes, what waits in them, who is able to run it, and the counts of everything.

mod oldest;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use pointsman_core::{
    JobId, Record, RecordKey,
    decide::limits,
    matching::{CapabilitiesDigest, Class, ClassKey, able},
};
use pointsman_store::{ClassSummary, Counts, Queues, StoreError, WaitingJob, held_listed};
use redis::Value;

use super::pairs;
use crate::{
    encoding::keys,
    link::{count, list, number, text},
    store::Inner,
};

/// How many workers of each profile are there.
pub type Present = BTreeMap<CapabilitiesDigest, u64>;
impl Inner {
    /// At most `limit` jobs in their queues and `limit` classes; of those that are held see
    /// [`held_listed`].
    pub async fn queues(&self, limit: usize) -> Result<Queues, StoreError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("HGETALL").arg(self.link.keys().meta());
        pipeline.cmd("SCARD").arg(self.key("workers")).cmd("SCARD").arg(self.key("machines"));
        pipeline.cmd("ZCARD").arg(self.key("classes")).cmd("ZCARD").arg(self.key("resting"));
        let found = self.link.send_all(&pipeline).await?;
        let counts = counts(&found);
        if limit == 0 {
            return Ok(Queues { counts, ..Queues::default() });
        }
        let mut classes = self.classes_by_age().await?;
        classes.truncate(limit);
        let classes = self.class_summaries(&classes).await?;
        Ok(Queues { pending: self.first_pending(limit).await?, classes, counts })
    }

    /// Classes with pending jobs: those with the oldest heads first, those without one last.
    async fn classes_by_age(&self) -> Result<Vec<ClassKey>, StoreError> {
        let mut classes = self.classes_with_heads().await?;
        let seen: HashSet<ClassKey> = classes.iter().copied().collect();
        let held: Vec<ClassKey> = self.members("held").await?;
        classes.extend(held.into_iter().filter(|class| !seen.contains(class)));
        Ok(classes)
    }

    /// Classes in which jobs wait, those with the oldest heads first.
    async fn classes_with_heads(&self) -> Result<Vec<ClassKey>, StoreError> {
        let services: Vec<String> = self.members("services").await?;
        let mut pipeline = redis::pipe();
        for service in services {
            pipeline.cmd("ZRANGE").arg(self.key(&keys::heads(service))).arg(0).arg(-1);
        }
        let heads = self.link.send_passing(&pipeline).await?;
        let heads = heads.iter().flat_map(list).filter_map(|head| {
            let head = text(head);
            let (seq, class) = head.split_once(':')?;
            Some((u64::from_str_radix(seq, 16).ok()?, class.parse().ok()?))
        });
        let mut heads: Vec<(u64, ClassKey)> = heads.collect();
        heads.sort_unstable();
        Ok(heads.into_iter().map(|(_, class)| class).collect())
    }

    /// The classes in which jobs wait.
    pub async fn waiting_classes(&self) -> Result<Vec<(ClassKey, Arc<Class>)>, StoreError> {
        let keys = self.classes_with_heads().await?;
        Ok(self.definitions.classes(&self.link, &keys).await?.into_iter().collect())
    }

    /// Those in their queues, behind them those that are held.
    async fn first_pending(&self, limit: usize) -> Result<Vec<WaitingJob>, StoreError> {
        let mut ids = self.first_waiting(limit).await?;
        let queued: HashSet<JobId> = ids.iter().copied().collect();
        let held = self.first_held(held_listed(limit, ids.len())).await?.into_iter();
        ids.extend(held.filter(|id| !queued.contains(id)));
        let keys: Vec<RecordKey> = ids.into_iter().map(RecordKey::Job).collect();
        let pending = self.readable(&keys).await?.into_iter().filter_map(|record| match record {
            // The lists are read one after the other: it may run by now.
            Record::Job(job) if job.hold().is_some() || queued.contains(&job.id) => {
                Some(WaitingJob::of(&job, job.class().key()))
            }
            _ => None,
        });
        Ok(pending.collect())
    }

    /// Those that are held, by when that ends.
    async fn first_held(&self, limit: usize) -> Result<Vec<JobId>, StoreError> {
        let mut range = redis::pipe();
        range.cmd("ZRANGEBYSCORE").arg(self.key("holds")).arg("-inf").arg("+inf");
        range.arg("LIMIT").arg(0).arg(limit);
        let found = self.link.send_passing(&range).await?;
        let ids = found.iter().flat_map(list).filter_map(|id| text(id).parse().ok());
        Ok(ids.collect())
    }

    async fn first_waiting(&self, limit: usize) -> Result<Vec<JobId>, StoreError> {
        let services: Vec<String> = self.members("services").await?;
        let mut args = vec![limit.to_string()];
        args.extend(services);
        let args: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
        let found = self.link.call("first_waiting", &args).await?;
        Ok(list(&found).iter().filter_map(|id| text(id).parse().ok()).collect())
    }

    pub async fn present(&self) -> Result<Present, StoreError> {
        let found = self.link.send(redis::cmd("HGETALL").arg(self.key("present"))).await?;
        let pairs = pairs(&found).into_iter().filter_map(|(digest, n)| {
            let n = u64::try_from(n.parse::<i64>().ok()?).ok().filter(|n| *n > 0)?;
            Some((digest.parse().ok()?, n))
        });
        Ok(pairs.collect())
    }

    /// Of those that live, in their order.
    pub async fn class_summaries(
        &self,
        classes: &[ClassKey],
    ) -> Result<Vec<ClassSummary>, StoreError> {
        if classes.is_empty() {
            return Ok(Vec::new());
        }
        let present = self.present().await?;
        let definitions = self.definitions.classes(&self.link, classes).await?;
        let mut pipeline = redis::pipe();
        for key in classes {
            pipeline.cmd("HGET").arg(self.key(&keys::class(key))).arg("held");
            pipeline.cmd("HGET").arg(self.key(&keys::class(key))).arg("live");
            pipeline.cmd("ZCARD").arg(self.key(&keys::queue(key)));
        }
        let found = self.link.send_passing(&pipeline).await?;
        let oldest = self.oldest_waiting(classes).await?;
        let mut summaries = Vec::with_capacity(classes.len());
        for ((key, parts), oldest) in classes.iter().zip(found.chunks_exact(3)).zip(oldest) {
            let Some(class) = definitions.get(key) else { continue };
            if count(&parts[1]).unwrap_or(0) == 0 {
                continue;
            }
            summaries.push(ClassSummary {
                class: *key,
                service: class.service.clone(),
                requirements: class.requirements.clone(),
                customer: class.customer.clone(),
                waiting: count(&parts[2]).unwrap_or(0),
                held: count(&parts[0]).unwrap_or(0),
                oldest_at: oldest.map(|(at, _)| at),
                oldest_job: oldest.map(|(_, job)| job),
                able_workers: self.able_workers(class, &present).await?,
            });
        }
        Ok(summaries)
    }

    /// How many of those present are able to run a class; counted by profile.
    pub async fn able_workers(&self, class: &Class, present: &Present) -> Result<u64, StoreError> {
        let mut able_ones = 0;
        for (digest, workers) in present {
            if self.profile_serves(*digest, class).await? {
                able_ones += workers;
            }
        }
        let excluded = class.excluded.union(&class.requirements.must_not.workers);
        let excluded: Vec<RecordKey> = excluded.cloned().map(RecordKey::Worker).collect();
        for record in self.readable(&excluded).await? {
            if let Record::Worker(worker) = record
                && !worker.is_offline()
                && self.profile_serves(worker.capabilities_digest, class).await?
            {
                able_ones = able_ones.saturating_sub(1);
            }
        }
        Ok(able_ones)
    }

    async fn profile_serves(
        &self,
        digest: CapabilitiesDigest,
        class: &Class,
    ) -> Result<bool, StoreError> {
        let profile = self.definitions.profile(&self.link, digest).await?;
        Ok(profile.is_some_and(|capabilities| able(class, &capabilities)))
    }

    /// Classes that lose job after job.
    pub async fn poisonous(&self) -> Result<Vec<(ClassKey, u32)>, StoreError> {
        let found = self.link.send(redis::cmd("HGETALL").arg(self.key("losses"))).await?;
        let losing = pairs(&found).into_iter().filter_map(|(base, losses)| {
            let n = losses.split(' ').next()?.parse::<u32>().ok()?;
            (n >= limits::POISONOUS_AFTER).then_some((base.parse::<ClassKey>().ok()?, n))
        });
        let losing: Vec<(ClassKey, u32)> = losing.collect();
        let mut live = redis::pipe();
        for (base, _) in &losing {
            live.cmd("SCARD").arg(self.key(&keys::base(base)));
        }
        let live = self.link.send_passing(&live).await?;
        let poisonous = losing.into_iter().zip(live);
        let poisonous = poisonous.filter(|(_, live)| number(live).is_some_and(|live| live > 0));
        let mut poisonous: Vec<_> = poisonous.map(|(losing, _)| losing).collect();
        poisonous.sort();
        Ok(poisonous)
    }
}

fn counts(found: &[Value]) -> Counts {
    let [by_status, workers, machines, classes, resting] = found else { return Counts::default() };
    let by_status: HashMap<String, String> = pairs(by_status).into_iter().collect();
    let jobs = |status: &str| by_status.get(status).and_then(|n| n.parse().ok()).unwrap_or(0);
    let size = |value: &Value| count(value).unwrap_or(0);
    Counts {
        pending: jobs("pending"),
        held: jobs("held"),
        assigned: jobs("assigned"),
        in_progress: jobs("in_progress"),
        completed: jobs("completed"),
        failed: jobs("failed"),
        cancelled: jobs("cancelled"),
        workers: size(workers),
        machines: size(machines),
        classes: size(classes).saturating_sub(size(resting)),
    }
}
