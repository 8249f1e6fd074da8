//! Indexes and leases that no transition breaks, broken by hand.

use std::{sync::Arc, time::Duration};

use pointsman_core::{
    FailureKind, JobId, WorkflowId,
    command::Held,
    doctor::MendOutcome,
    record::{JobSpec, JobStatus},
};

use super::super::{QueueKey, State};
use crate::{
    Intake, ManualClock, MemStore, Store,
    conformance::{
        fleet::{Fleet, Hand, completed, failed, spec},
        model::picture,
    },
};

/// Jobs of every kind: running, waiting, held, excluded, ended, and in a workflow.
struct Ward {
    store: Arc<MemStore>,
    fleet: Fleet,
    hand: Hand,
    held: Held,
    waiting: JobId,
    backing_off: JobId,
    excluded: JobId,
    ended: JobId,
    grouped: JobId,
}

impl Ward {
    async fn new() -> Self {
        let (made, keep) = (Arc::new(parking_lot::Mutex::new(None)), ());
        let put = made.clone();
        let fleet = Fleet::new(&move |clock: ManualClock| {
            let store = Arc::new(MemStore::new(Arc::new(clock)));
            *put.lock() = Some(store.clone());
            (store as Arc<dyn Store>, Box::new(keep))
        });
        let store = made.lock().take().expect("opened");
        let hand = fleet.worker("w", 1, &[]).await;
        let other = fleet.worker("v", 1, &[]).await;
        let end = async |op| {
            let held = fleet.running(&hand).await;
            fleet.act(&hand, held, op).await.unwrap();
            held.job
        };
        let ended = end(completed()).await;
        let backing_off = end(failed(FailureKind::Timeout)).await;
        let excluded = end(failed(FailureKind::WrongWorker)).await;
        let taken = fleet.claim(&other).await.unwrap();
        assert_eq!(taken.job, excluded);
        let release = pointsman_core::command::Op::Release {
            reason: pointsman_core::LossReason::Unstarted,
            message: String::new(),
        };
        fleet.act(&other, taken, release).await.unwrap();
        let held = fleet.running(&hand).await;
        let waiting = fleet.submit(spec(50)).await;
        let workflow_id = Some(WorkflowId::new("flow").unwrap());
        let grouped = fleet.submit(JobSpec { workflow_id, ..spec(10) }).await;
        Self { store, fleet, hand, held, waiting, backing_off, excluded, ended, grouped }
    }

    /// Breaks the state, sees exactly this wrong, mends it, and finds all as it was before.
    async fn treat(&self, expected: &[String], wound: impl FnOnce(&mut State)) {
        self.fleet.check().await.expect("sound");
        let before = picture(&*self.store).await;
        self.store.with(|state, _| wound(state));
        let mut found = self.fleet.findings().await;
        found.sort();
        assert_eq!(found, expected);
        let mended = self.store.mend(None).await.unwrap();
        assert_eq!(mended.len(), expected.len());
        assert!(mended.iter().all(|m| m.outcome == MendOutcome::Repaired), "{mended:?}");
        self.fleet.check().await.expect("sound again");
        assert_eq!(picture(&*self.store).await, before);
    }
}

#[tokio::test]
async fn a_job_that_runs_without_a_lease_gets_one() {
    let ward = Ward::new().await;
    let (job, token) = (ward.held.job, ward.held.token);
    let expected = [format!("running_without_lease:job/{job}")];
    ward.fleet.advance(Duration::from_secs(60));
    ward.treat(&expected, |state| state.volatile.forget_job(&job)).await;
    let over = |state: &mut State, now| state.volatile.lease_is_over(&job, &token, now);
    assert!(!ward.store.with(over), "its worker has time to renew it");
    ward.fleet.advance(Duration::from_secs(10));
    assert!(ward.store.with(over), "and it ends when nobody does");
}

#[tokio::test]
async fn a_lease_without_a_running_job_is_dropped() {
    let ward = Ward::new().await;
    let running = ward.fleet.job(ward.held.job).await;
    for job in [ward.waiting, JobId::from_uuid(uuid::Uuid::nil())] {
        let expected = [format!("lease_without_job:job/{job}")];
        let mut leased = (*running).clone();
        leased.id = job;
        ward.treat(&expected, |state| state.volatile.lease(&leased)).await;
    }
}

#[tokio::test]
async fn jobs_that_no_index_names_are_found_again() {
    let ward = Ward::new().await;
    let missing = |job: JobId| vec![format!("record_without_index:job/{job}")];
    let waiting = ward.fleet.job(ward.waiting).await;
    ward.treat(&missing(waiting.id), |state| {
        let ix = state.jobs[&waiting.id].class.unwrap();
        state.queues.remove(ix, &QueueKey::of(&waiting));
    })
    .await;
    assert!(ward.store.with(|state, _| state.ahead_of(&waiting.id)).is_some());
    ward.treat(&missing(ward.ended), |state| state.ended.clear()).await;
    ward.treat(&missing(ward.backing_off), |state| state.holds.clear()).await;
    ward.treat(&missing(ward.excluded), |state| state.exclusions.clear()).await;
    ward.treat(&missing(ward.grouped), |state| state.groups.clear()).await;
    let expected = ["v", "w"].map(|worker| format!("record_without_index:worker/{worker}"));
    ward.treat(&expected, |state| state.workers_of.clear()).await;
}

#[tokio::test]
async fn what_an_index_names_in_vain_is_taken_off() {
    let ward = Ward::new().await;
    let (job, now) = (ward.held.job, ward.store.now());
    let stray = [format!("index_without_record:job/{job}")];
    let running = ward.fleet.job(job).await;
    ward.treat(&stray, |state| {
        let ix = state.jobs[&job].class.unwrap();
        state.queues.push(ix, QueueKey::of(&running), job);
    })
    .await;
    ward.treat(&stray, |state| state.ended.extend([(77, job)])).await;
    ward.treat(&stray, |state| state.holds.extend([(now, job)])).await;
    ward.treat(&stray, |state| state.exclusions.extend([(now, job)])).await;
    ward.treat(&stray, |state| {
        state.groups.values_mut().for_each(|group| group.extend([(1, job)]));
    })
    .await;
    let gone = JobId::from_uuid(uuid::Uuid::nil());
    let expected = [format!("index_without_record:job/{gone}")];
    ward.treat(&expected, |state| state.ended.extend([(78, gone)])).await;
    let elsewhere = ward.fleet.hand("elsewhere").machine;
    ward.treat(&["index_without_record:worker/w".to_owned()], |state| {
        let workers = state.workers_of.entry(elsewhere).or_default();
        workers.extend([ward.hand.worker.clone()]);
    })
    .await;
}

#[tokio::test]
async fn counts_that_are_wrong_are_counted_anew() {
    let ward = Ward::new().await;
    let class = ward.fleet.job(ward.waiting).await.class().key();
    let wrong = |what: &str| vec![format!("wrong_count:{what}")];
    ward.treat(&wrong("index/completed_jobs"), |state| {
        state.counts[JobStatus::Completed as usize] += 1;
    })
    .await;
    ward.treat(&wrong("index/bytes_of_ended_jobs"), |state| state.ended_bytes += 1).await;
    ward.treat(&wrong("index/workers_by_capabilities"), |state| {
        state.profile_users.values_mut().for_each(|users| *users += 1);
    })
    .await;
    let both = [format!("wrong_count:class/{class}"), "wrong_count:index/held_jobs".to_owned()];
    ward.treat(&both, |state| {
        let ix = state.jobs[&ward.waiting].class.unwrap();
        state.queues.held(ix, 1);
    })
    .await;
}

/// Making the indexes anew keeps what is known besides them.
#[tokio::test]
async fn mending_an_index_forgets_nothing_else() {
    let ward = Ward::new().await;
    for n in 0..5 {
        let hand = ward.fleet.worker(&format!("n{n}"), 1, &[]).await;
        let held = ward.fleet.running(&hand).await;
        let reason = pointsman_core::LossReason::ServiceLost;
        let op = pointsman_core::command::Op::Release { reason, message: String::new() };
        ward.fleet.act(&hand, held, op).await.unwrap();
    }
    ward.store.with(|state, _| state.set_intake(false)).unwrap();
    let losses = ward.store.poisonous().await.unwrap();
    assert_eq!(losses.len(), 1);
    ward.treat(&["wrong_count:index/bytes_of_ended_jobs".to_owned()], |state| {
        state.ended_bytes += 1;
    })
    .await;
    assert_eq!(ward.store.poisonous().await.unwrap(), losses);
    assert_eq!(ward.store.with(|state, _| state.intake()), Intake::Closed);
}
