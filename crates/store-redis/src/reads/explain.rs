//! Why a job waits: rule by rule over all workers, and how many jobs are ahead of it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use pointsman_core::{
    ConnectorId, JobId, Record, RecordKey, Timestamp,
    decide::{self, Candidate, Intake, limits},
    matching::{
        Capabilities, CapabilitiesDigest, Class, ClassKey, Crowd, Explanation, PoisonousClass,
        Throttle, able, excludes,
    },
    record::{Job, Worker},
};
use pointsman_store::{MAX_AHEAD, StoreError};

use crate::{
    encoding::keys,
    link::{list, number, text},
    store::Inner,
};

/// Queues asked at once.
const CHUNK: usize = 1_000;

type Profiles = HashMap<CapabilitiesDigest, Arc<Capabilities>>;

impl Inner {
    pub async fn explain(
        &self,
        id: JobId,
    ) -> Result<Option<(Explanation, Option<usize>)>, StoreError> {
        let Some(job) = self.job(id).await? else { return Ok(None) };
        let class = job.class();
        let workers = self.workers().await?;
        let connectors = workers
            .iter()
            .map(|w| RecordKey::Connector(ConnectorId::new(w.id.clone(), job.service().clone())));
        let connectors = self.readable(&connectors.collect::<Vec<_>>()).await?;
        let connectors: HashMap<_, _> = connectors
            .iter()
            .filter_map(|record| match record {
                Record::Connector(connector) => Some((&connector.worker_id, &**connector)),
                _ => None,
            })
            .collect();
        let profiles = self.profiles_of(&workers).await?;
        let candidates = workers.iter().filter_map(|worker| {
            let capabilities = profiles.get(&worker.capabilities_digest)?;
            let connector = connectors.get(&worker.id).copied();
            Some(Candidate { worker, capabilities, connector })
        });
        let throttle = self.throttle(&job, &class).await?;
        let candidates: Vec<_> = candidates.collect();
        let explanation = decide::explain(&job, throttle, &candidates, self.link.now());
        let ahead = match job.is_waiting() {
            true => self.ahead_of(&job, &class, &workers, &profiles).await?,
            false => None,
        };
        Ok(Some((explanation, ahead)))
    }

    /// What holds the job back whoever is free; as `lua/choose.lua` has it.
    async fn throttle(&self, job: &Job, class: &Class) -> Result<Throttle, StoreError> {
        let poisonous = match job.is_waiting() {
            true => self.poisonous_class(class.base()).await?,
            false => None,
        };
        let intake_closed = self.intake().await? != Intake::Open;
        Ok(Throttle { intake_closed, calm_until: self.calm_until().await?, poisonous })
    }

    /// Until when nobody claims, as the store came back from before.
    async fn calm_until(&self) -> Result<Option<Timestamp>, StoreError> {
        let mut get = redis::cmd("HGET");
        get.arg(self.link.keys().meta()).arg("calm_until");
        let until = number(&self.link.send(&get).await?).map(Timestamp::from_millis);
        Ok(until.filter(|until| self.link.now() < *until))
    }

    async fn poisonous_class(&self, base: ClassKey) -> Result<Option<PoisonousClass>, StoreError> {
        let mut look = redis::pipe();
        look.cmd("HGET").arg(self.key("losses")).arg(base.to_string());
        look.cmd("SMEMBERS").arg(self.key(&keys::base(&base)));
        let [losses, classes] = &self.link.send_passing(&look).await?[..] else { return Ok(None) };
        let losses = text(losses).split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        if losses < limits::POISONOUS_AFTER {
            return Ok(None);
        }
        let mut running = redis::pipe();
        for class in list(classes) {
            running.cmd("HGET").arg(self.key(&keys::class(text(class)))).arg("running");
        }
        let running = self.link.send_passing(&running).await?;
        let probing = running.iter().any(|running| number(running).is_some_and(|n| n > 0));
        Ok(Some(PoisonousClass { losses, probing }))
    }

    async fn profiles_of(&self, workers: &[Arc<Worker>]) -> Result<Profiles, StoreError> {
        let digests: HashSet<_> = workers.iter().map(|worker| worker.capabilities_digest).collect();
        let mut profiles = HashMap::with_capacity(digests.len());
        for digest in digests {
            if let Some(profile) = self.definitions.profile(&self.link, digest).await? {
                profiles.insert(digest, profile);
            }
        }
        Ok(profiles)
    }

    /// The rule is `State::ahead_of`'s; the queues are read one after the other, so it is a number of
    /// about now.
    async fn ahead_of(
        &self,
        job: &Job,
        class: &Class,
        workers: &[Arc<Worker>],
        profiles: &Profiles,
    ) -> Result<Option<usize>, StoreError> {
        let can = |digest: &CapabilitiesDigest, class: &Class| {
            profiles.get(digest).is_some_and(|capabilities| able(class, capabilities))
        };
        let takers = workers.iter().filter(|worker| {
            !worker.is_offline()
                && can(&worker.capabilities_digest, class)
                && !excludes(class, &worker.id)
        });
        let takers: Crowd =
            takers.map(|worker| (worker.capabilities_digest, worker.id.clone())).collect();
        let own = class.key();
        let rivals = self.waiting_classes().await?.into_iter().filter(|(key, other)| {
            *key == own || takers.serves(other, |digest| can(digest, other))
        });
        let rivals: Vec<ClassKey> = rivals.map(|(key, _)| key).collect();
        let (score, member) = keys::queued(job);
        let mut ahead = 0;
        for chunk in rivals.chunks(CHUNK) {
            let mut pipeline = redis::pipe();
            for key in chunk {
                let queue = self.key(&keys::queue(key));
                pipeline.cmd("ZCOUNT").arg(&queue).arg("-inf").arg(format!("({score}"));
                // Jobs of one workflow have one place.
                pipeline.cmd("ZRANGE").arg(&queue).arg(score).arg(score).arg("BYSCORE");
                pipeline.arg("LIMIT").arg(0).arg(MAX_AHEAD);
            }
            for parts in self.link.send_passing(&pipeline).await?.chunks_exact(2) {
                ahead += number(&parts[0]).and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
                ahead += list(&parts[1]).iter().filter(|other| text(other) < member).count();
            }
        }
        Ok((ahead < MAX_AHEAD).then_some(ahead))
    }
}
