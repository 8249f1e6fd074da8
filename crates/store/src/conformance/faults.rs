//! A service that fails under a job: the job goes elsewhere first, where there is an elsewhere.

use std::{collections::BTreeSet, time::Duration};

use pointsman_core::{
    Command, FailureKind, JobId,
    command::Held,
    decide::limits,
    matching::Rule,
    record::{ConnectorStatus, JobSpec, JobStatus},
};

use super::{
    Open,
    fleet::{Fleet, Hand, completed, failed, needs, spec},
};
use crate::Due;

const INSTANT: Duration = Duration::from_millis(1);
/// How long a job is held after its first failure.
const BACKOFF: Duration = Duration::from_secs(1);

impl Fleet {
    /// The service of the worker fails under a job that it has just claimed.
    async fn faulty(&self, hand: &Hand, held: Held) {
        self.act(hand, held, failed(FailureKind::ServiceFault)).await.expect("accepted");
    }

    /// The hold of the one job that backs off ends.
    async fn back_off(&self, wait: Duration) {
        self.advance(wait);
        assert_eq!(self.reconcile(Due::Holds).await, 1, "its backoff is over");
    }

    /// Why a worker is left out of a job.
    async fn left_out(&self, job: JobId) -> Vec<String> {
        let explained = self.store.explain(job).await.expect("the store works");
        let (explanation, _) = explained.expect("there is such a job");
        let mut rules = explanation.rules.into_iter();
        let excluded = rules.find(|rule| rule.rule == Rule::Excluded);
        let failing = excluded.into_iter().flat_map(|rule| rule.failing);
        failing.map(|it| format!("{}: {}", it.worker.expect("named"), it.found)).collect()
    }
}

pub async fn a_job_whose_service_failed_goes_elsewhere_first(open: &Open) {
    let fleet = Fleet::new(open);
    let [faulty, well] = [fleet.worker("faulty", 9, &[]).await, fleet.worker("well", 9, &[]).await];
    let held = fleet.running(&faulty).await;
    let failed_at = fleet.store.now();
    fleet.faulty(&faulty, held).await;
    assert_eq!(fleet.reconcile(Due::Exclusions).await, 0, "somebody else is able");
    fleet.back_off(BACKOFF).await;
    assert_eq!(fleet.reconcile(Due::Exclusions).await, 0);
    assert_eq!(fleet.claim(&faulty).await, None, "though it has room");
    let until = (failed_at + BACKOFF + limits::EXCLUSION_AFTER_FAULT).to_the_second();
    let why = format!(
        "faulty: its service failed under this job (test): left out until {until}, while others are \
         able"
    );
    assert_eq!(fleet.left_out(held.job).await, [why]);
    // It is left out of this job alone.
    let other = fleet.submit(spec(10)).await;
    assert_eq!(fleet.claim(&faulty).await.map(|held| held.job), Some(other));
    let again = fleet.claim(&well).await.expect("another worker gets it");
    assert_eq!((again.job, again.attempt), (held.job, 2));
    fleet.act(&well, again, completed()).await.expect("accepted");
    assert_eq!(fleet.job(held.job).await.status(), JobStatus::Completed);
    fleet.check().await.expect("sound");
}

/// One that lacks what the job asks for is nobody, and so is one that has left.
pub async fn where_nobody_else_is_able_a_fault_costs_the_backoff_alone(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &["x"]).await;
    fleet.worker("lacks-it", 1, &[]).await;
    let left = fleet.worker("left", 1, &["x"]).await;
    let job = fleet.submit(JobSpec { requirements: needs("x"), ..spec(50) }).await;
    let held = fleet.claim(&hand).await.expect("the job");
    fleet.faulty(&hand, held).await;
    assert_eq!(fleet.reconcile(Due::Exclusions).await, 0, "somebody else is able");
    let leave = Command::Leave { worker: left.worker, incarnation: left.incarnation };
    fleet.run(leave).await.expect("accepted");
    assert_eq!(fleet.reconcile(Due::Exclusions).await, 1, "it has gone");
    assert_eq!(fleet.claim(&hand).await, None, "the job is held all the same");
    fleet.back_off(BACKOFF).await;
    let again = fleet.claim(&hand).await.expect("as soon as that is over");
    assert_eq!((again.job, again.attempt), (job, 2));
    fleet.check().await.expect("sound");
}

/// Those who are able may be busy for hours.
pub async fn who_had_the_fault_gets_the_job_again_a_minute_after_the_backoff(open: &Open) {
    let fleet = Fleet::new(open);
    let [faulty, busy] = [fleet.worker("faulty", 1, &[]).await, fleet.worker("busy", 1, &[]).await];
    fleet.running(&busy).await;
    let held = fleet.running(&faulty).await;
    fleet.faulty(&faulty, held).await;
    fleet.back_off(BACKOFF).await;
    fleet.advance(limits::EXCLUSION_AFTER_FAULT - INSTANT);
    fleet.report(&faulty, ConnectorStatus::Idle).await;
    assert_eq!(fleet.reconcile(Due::Exclusions).await, 0);
    assert_eq!(fleet.claim(&faulty).await, None);
    fleet.advance(INSTANT);
    assert_eq!(fleet.reconcile(Due::Exclusions).await, 1);
    assert_eq!(fleet.claim(&faulty).await.map(|held| held.job), Some(held.job));
    fleet.check().await.expect("sound");
}

/// The third attempt is anybody's.
pub async fn a_job_under_which_every_service_failed_is_tried_again_soon(open: &Open) {
    let fleet = Fleet::new(open);
    let [a, b] = [fleet.worker("a", 1, &[]).await, fleet.worker("b", 1, &[]).await];
    let held = fleet.running(&a).await;
    fleet.faulty(&a, held).await;
    fleet.back_off(BACKOFF).await;
    let held = fleet.claim(&b).await.expect("the job");
    fleet.faulty(&b, held).await;
    assert_eq!(Fleet::excluded(&*fleet.job(held.job).await).len(), 2);
    assert_eq!(fleet.reconcile(Due::Exclusions).await, 1, "nobody else is left");
    assert_eq!(Fleet::excluded(&*fleet.job(held.job).await).len(), 0);
    fleet.back_off(2 * BACKOFF).await;
    assert_eq!(fleet.claim(&a).await.map(|held| held.attempt), Some(3));
    fleet.check().await.expect("sound");
}

/// What it lacks it lacks still: it would only cost the job a failure more.
pub async fn a_fault_of_the_right_worker_brings_the_wrong_one_no_job(open: &Open) {
    let fleet = Fleet::new(open);
    let [wrong, right] = [fleet.worker("wrong", 1, &[]).await, fleet.worker("right", 1, &[]).await];
    let held = fleet.running(&wrong).await;
    fleet.act(&wrong, held, failed(FailureKind::WrongWorker)).await.expect("accepted");
    let until = (fleet.store.now() + limits::EXCLUSION).to_the_second();
    let why = format!(
        "wrong: it failed this job as the wrong worker (test): left out until {until}, while others \
         are able"
    );
    assert_eq!(fleet.left_out(held.job).await, [why]);
    // Long enough for that to lapse, were there nobody else.
    fleet.advance(2 * limits::EXCLUSION_AT_LEAST);
    fleet.report(&right, ConnectorStatus::Idle).await;
    let held = fleet.claim(&right).await.expect("the job");
    fleet.faulty(&right, held).await;
    assert_eq!(fleet.reconcile(Due::Exclusions).await, 1, "nobody else is able");
    let excluded = Fleet::excluded(&*fleet.job(held.job).await);
    assert_eq!(excluded, BTreeSet::from([wrong.worker.clone()]));
    fleet.back_off(2 * BACKOFF).await;
    assert_eq!(fleet.reconcile(Due::Exclusions).await, 0);
    assert_eq!(fleet.claim(&wrong).await, None);
    assert_eq!(fleet.claim(&right).await.map(|held| held.attempt), Some(3));
    fleet.check().await.expect("sound");
}

/// The limit is the job's own.
pub async fn a_job_that_ran_into_its_own_time_limit_may_stay_where_it_was(open: &Open) {
    let fleet = Fleet::new(open);
    let [hand, _other] = [fleet.worker("w", 1, &[]).await, fleet.worker("other", 1, &[]).await];
    let held = fleet.running(&hand).await;
    fleet.act(&hand, held, failed(FailureKind::Timeout)).await.expect("accepted");
    fleet.back_off(BACKOFF).await;
    assert_eq!(fleet.claim(&hand).await.map(|held| held.attempt), Some(2));
}
