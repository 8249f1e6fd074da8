//! A worker's exchange: its writes about its attempts, and its next claim, which may wait.

use std::{sync::Arc, time::Duration};

use pointsman_core::{
    Answer, Command, Failure, FailureKind, JobId, Record, RecordKey, Rejected,
    command::{AttemptOp, Claim, Exchange, Finish, Held, Op, OpAnswer, Outcome},
    record::Job,
};
use pointsman_store::{Done, Store, StoreError};
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{
    Broker, BrokerError,
    commands::{execute, odd_answer},
};

/// A claim waits this long at most; a longer wish is cut to it.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// What an exchange brought.
#[derive(Debug, Default)]
pub struct Exchanged {
    /// One answer for each operation, in their order.
    pub ops: Vec<Result<OpAnswer, Rejected>>,
    pub claimed: Vec<Claimed>,
    /// Why nothing was claimed, where the rest was done.
    pub claim_refused: Option<Rejected>,
    /// See [`Done::unconfirmed`].
    pub unconfirmed: Option<Arc<str>>,
}

/// A job that the worker now has.
#[derive(Debug, Clone)]
pub struct Claimed {
    pub job: Arc<Job>,
    /// The payload as JSON text.
    pub payload: Arc<[u8]>,
}

/// Exchanges on a store: what a worker needs of it, whether a broker is there or not.
#[derive(Clone)]
pub struct Exchanges {
    store: Arc<dyn Store>,
    /// How often a waiting claim looks by itself, without a hint.
    slow_scan: Duration,
    stop: CancellationToken,
}

impl Broker {
    /// See [`Exchanges::exchange`].
    pub async fn exchange(
        &self,
        exchange: Exchange,
        wait: Duration,
        moved: &(dyn Fn() + Sync),
    ) -> Result<Exchanged, BrokerError> {
        let hub = self.hub();
        let (store, stop) = (hub.store.clone(), hub.stop.clone());
        let exchanges = Exchanges::new(store, hub.config.slow_scan, stop);
        let exchanged = exchanges.exchange(exchange, wait, moved).await?;
        exchanged.ops.iter().filter_map(|op| op.as_ref().err()).for_each(|why| hub.refused(why));
        Ok(exchanged)
    }
}

impl Exchanges {
    /// Ends waiting claims when `stop` is cancelled.
    pub fn new(store: Arc<dyn Store>, slow_scan: Duration, stop: CancellationToken) -> Self {
        Self { store, slow_scan, stop }
    }

    /// Applies the operations at once, each by itself, and claims. When nothing can be claimed
    /// and `wait` is not zero, looks again at each hint, and by itself at a slow period, until
    /// there is a job or the time is over; then `claimed` is empty. The operations' answers come
    /// with the claim's, so a caller that has operations to settle asks with no wait. Payloads may be
    /// long on their way from the store: `moved` is told of each part of them.
    pub async fn exchange(
        &self,
        exchange: Exchange,
        wait: Duration,
        moved: &(dyn Fn() + Sync),
    ) -> Result<Exchanged, BrokerError> {
        let until = Instant::now() + wait.min(MAX_WAIT);
        let asks = exchange.claim.as_ref().is_some_and(|claim| !claim.tokens.is_empty());
        if !asks || wait.is_zero() {
            return self.look(exchange, moved).await;
        }
        let Exchange { worker, incarnation, claim, .. } = &exchange;
        let services = claim.iter().flat_map(|Claim { services, .. }| services).cloned();
        let services: Vec<_> = services.collect();
        let again = Exchange {
            worker: worker.clone(),
            incarnation: *incarnation,
            ops: Vec::new(),
            claim: claim.clone(),
        };
        // The first look brings the answers; the later ones have no operations.
        let (mut ops, mut unconfirmed) = (Vec::new(), None);
        let mut look = exchange.clone();
        let wait = || self.store.wait_for_work(again.worker.clone(), services.clone());
        // Subscribed before looking: a job that comes in between is not missed.
        let mut hint = wait();
        loop {
            let found = match self.look(look, moved).await {
                // What became of the operations is told also when a later look fails.
                Err(_) if !ops.is_empty() => {
                    return Ok(Exchanged { ops, unconfirmed, ..Exchanged::default() });
                }
                found => found?,
            };
            ops.extend(found.ops);
            unconfirmed = unconfirmed.or(found.unconfirmed);
            let is_answered = !found.claimed.is_empty() || found.claim_refused.is_some();
            if is_answered || Instant::now() >= until {
                return Ok(Exchanged { ops, unconfirmed, ..found });
            }
            tokio::select! {
                () = hint.wait() => hint = wait(),
                () = sleep(self.slow_scan) => {}
                () = sleep_until(until) => {}
                () = self.stop.cancelled() => {
                    return Ok(Exchanged { ops, unconfirmed, ..Exchanged::default() });
                }
            }
            look = again.clone();
        }
    }

    async fn execute(&self, exchange: Exchange) -> Result<Done, BrokerError> {
        execute(&*self.store, Command::Exchange(exchange)).await
    }

    /// Applies the operations, and claims what there is now.
    async fn look(
        &self,
        exchange: Exchange,
        moved: &(dyn Fn() + Sync),
    ) -> Result<Exchanged, BrokerError> {
        let done = self.execute(exchange).await?;
        let Answer::Exchanged { ops, claimed, claim_refused } = &done.answer else {
            return Err(odd_answer(&done.answer).into());
        };
        let claimed = self.claimed(claimed, &done, moved).await?;
        let (ops, claim_refused) = (ops.clone(), claim_refused.clone());
        Ok(Exchanged { ops, claimed, claim_refused, unconfirmed: done.unconfirmed.clone() })
    }

    /// The claimed jobs with their payloads.
    async fn claimed(
        &self,
        held: &[Held],
        done: &Done,
        moved: &(dyn Fn() + Sync),
    ) -> Result<Vec<Claimed>, BrokerError> {
        if held.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<JobId> = held.iter().map(|held| held.job).collect();
        let jobs = self.claimed_jobs(&ids, done).await?;
        let ids = jobs.iter().map(|job| job.id).collect();
        let payloads = self.store.arriving_payloads(ids, moved).await?;
        let mut claimed = Vec::with_capacity(held.len());
        for (job, payload) in jobs.into_iter().zip(payloads) {
            match payload {
                Some(payload) if is_json(&payload) => claimed.push(Claimed { job, payload }),
                Some(_) => self.fail_unreadable(&job, "payload_damaged", "is damaged").await?,
                None => self.fail_unreadable(&job, "payload_missing", "is no longer kept").await?,
            }
        }
        Ok(claimed)
    }

    /// The records from the change itself; those of a repeated claim from the store.
    async fn claimed_jobs(&self, ids: &[JobId], done: &Done) -> Result<Vec<Arc<Job>>, BrokerError> {
        let changed = |id: &JobId| done.group.as_ref().and_then(|group| group.job(id).cloned());
        if let Some(jobs) = ids.iter().map(changed).collect::<Option<Vec<_>>>() {
            return Ok(jobs);
        }
        Ok(stored_jobs(&*self.store, ids).await?)
    }

    /// A job that nobody can run for want of its payload ends as failed; it would otherwise be
    /// claimed and lost again and again, and keep what was claimed with it from its worker.
    async fn fail_unreadable(&self, job: &Job, code: &str, why: &str) -> Result<(), BrokerError> {
        let (Some(assignment), Some(token)) = (job.assignment(), job.token) else { return Ok(()) };
        tracing::error!(job = %job.id, "the payload of a live job {why}");
        let message = format!("the job's payload {why}: submit it again");
        let failure = Failure::new(FailureKind::BadJob, code, message);
        let finish = Finish { outcome: Outcome::Failed { failure }, last_progress: None };
        let op = AttemptOp { job: job.id, attempt: job.attempt, token, op: Op::Finish(finish) };
        let exchange = Exchange {
            worker: assignment.worker_id.clone(),
            incarnation: assignment.incarnation,
            ops: vec![op],
            claim: None,
        };
        self.execute(exchange).await.map(drop)
    }
}

/// The jobs that a worker's attempts are at, with their payloads, as its registration finds them.
/// One whose record or payload cannot be told is left out: the worker gives it back, and its next
/// claim ends it.
pub async fn running_jobs(
    store: &dyn Store,
    held: &[Held],
    moved: &(dyn Fn() + Sync),
) -> Result<Vec<Claimed>, StoreError> {
    let ids: Vec<JobId> = held.iter().map(|held| held.job).collect();
    let mut jobs = stored_jobs(store, &ids).await?;
    jobs.retain(|job| {
        let as_held = |held: &Held| job.attempt == held.attempt && job.token == Some(held.token);
        job.is_running() && held.iter().any(|held| held.job == job.id && as_held(held))
    });
    let ids = jobs.iter().map(|job| job.id).collect();
    let payloads = store.arriving_payloads(ids, moved).await?;
    let mut running = Vec::with_capacity(jobs.len());
    for (job, payload) in jobs.into_iter().zip(payloads) {
        match payload.filter(|payload| is_json(payload)) {
            Some(payload) => running.push(Claimed { job, payload }),
            None => tracing::error!(job = %job.id, "a running job's payload cannot be read"),
        }
    }
    Ok(running)
}

async fn stored_jobs(store: &dyn Store, ids: &[JobId]) -> Result<Vec<Arc<Job>>, StoreError> {
    let keys = ids.iter().map(|id| RecordKey::Job(*id)).collect();
    let records = store.records(keys).await?;
    let jobs = records.into_iter().filter_map(|record| match record {
        Record::Job(job) => Some(job),
        _ => None,
    });
    Ok(jobs.collect())
}

fn is_json(payload: &[u8]) -> bool {
    serde_json::from_slice::<&RawValue>(payload).is_ok()
}
