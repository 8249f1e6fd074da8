//! Whole lives of jobs and workers, as users see them.

use std::{collections::BTreeSet, time::Duration};

use pointsman_core::{
    Answer, Command, FailureKind, LossReason, Rejected, WorkflowId,
    command::{Idempotency, Op, OpAnswer, Reconcile},
    decide::limits,
    record::{
        ConnectorStatus, HoldReason, JobSpec, JobState, JobStatus, MachineStatus, Orders,
        WorkerStatus,
    },
};

use super::{
    Open,
    fleet::{Fleet, completed, failed, late, needs, spec},
};
use crate::{Due, Retention};

async fn claimed_in_order(fleet: &Fleet, slots: u32) -> Vec<pointsman_core::JobId> {
    let hand = fleet.worker("w", slots, &[]).await;
    let tokens = (0..slots).map(|_| fleet.token()).collect();
    fleet.claim_with(&hand, tokens).await.iter().map(|held| held.job).collect()
}

pub async fn order_is_priority_then_place(open: &Open) {
    let fleet = Fleet::new(open);
    let group = |priority| JobSpec {
        workflow_id: Some(WorkflowId::new("flow").expect("a valid name")),
        workflow_priority: Some(60),
        ..spec(priority)
    };
    let low = fleet.submit(spec(10)).await;
    let first_of_group = fleet.submit(group(0)).await;
    let middle = fleet.submit(spec(60)).await;
    let second_of_group = fleet.submit(group(99)).await;
    let high = fleet.submit(spec(100)).await;
    let low_too = fleet.submit(spec(10)).await;
    let expected = vec![high, first_of_group, second_of_group, middle, low, low_too];
    assert_eq!(claimed_in_order(&fleet, 6).await, expected);
    fleet.check().await.expect("sound");
}

pub async fn a_claim_sees_past_jobs_it_cannot_run(open: &Open) {
    let fleet = Fleet::new(open);
    for n in 0..150 {
        let requirements = needs(&format!("label-{}", n % 15));
        fleet.submit(JobSpec { requirements, ..spec(100) }).await;
    }
    let plain = fleet.submit(spec(0)).await;
    let hand = fleet.worker("plain", 2, &[]).await;
    assert_eq!(fleet.claim(&hand).await.map(|held| held.job), Some(plain));
    assert_eq!(fleet.claim(&hand).await, None);
    let able = fleet.worker("able", 1, &["label-3"]).await;
    let job = fleet.job(fleet.claim(&able).await.expect("a job it can run").job).await;
    assert!(job.spec.requirements.labels.contains_key("label-3"));
    let queues = fleet.store.queues(200).await.expect("the store works");
    assert_eq!(queues.counts.pending, 149);
    assert_eq!(queues.classes.len(), 15);
    assert_eq!(queues.pending.len(), 149);
}

pub async fn few_classes_far_down_are_claimed_in_their_order(open: &Open) {
    let fleet = Fleet::new(open);
    let own = ["label-7", "label-38", "label-39"];
    let mut expected = Vec::new();
    for n in 0..80 {
        let label = format!("label-{}", n % 40);
        let is_own = own.contains(&label.as_str());
        // The others are all in front of its own.
        let priority = if is_own { 20 } else { 50 };
        let requirements = needs(&label);
        let job = fleet.submit(JobSpec { requirements, ..spec(priority) }).await;
        expected.extend(is_own.then_some(job));
    }
    // The best of them is of the class that was made last.
    let late = fleet.submit(JobSpec { requirements: needs(own[2]), ..spec(30) }).await;
    expected.insert(0, late);
    let hand = fleet.worker("w", 7, &own).await;
    let tokens = |n| (0..n).map(|_| fleet.token()).collect();
    let mut claimed = Vec::new();
    for n in [1, 4, 2] {
        claimed.extend(fleet.claim_with(&hand, tokens(n)).await.iter().map(|held| held.job));
    }
    assert_eq!(claimed, expected);
    fleet.check().await.expect("sound");
}

pub async fn an_idempotency_key_names_one_job(open: &Open) {
    let fleet = Fleet::new(open);
    let keyed = |body: u8| {
        let mut submit = fleet.submission(spec(50));
        submit.idempotency = Some(Idempotency { key: "order-7".into(), body: [body; 32] });
        submit
    };
    let first = keyed(1);
    fleet.run(Command::Submit(first.clone())).await.expect("accepted");
    let seq = fleet.seq().await;
    let again = fleet.run(Command::Submit(keyed(1))).await.expect("the same again");
    assert!(matches!(again.0, Answer::Submitted { id, existing: Some(_) } if id == first.id));
    let other = fleet.run(Command::Submit(keyed(2))).await;
    assert_eq!(other.err(), Some(Rejected::IdempotencyConflict(first.id)));
    let exact = fleet.run(Command::Submit(first.clone())).await.expect("an exact repeat");
    assert!(matches!(exact.0, Answer::Submitted { existing: Some(_), .. }));
    assert_eq!(fleet.seq().await, seq, "repeats and refusals change nothing");
}

pub async fn failures_back_off_and_end(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let mut held = fleet.running(&hand).await;
    for wait in [1, 2] {
        fleet.act(&hand, held, failed(FailureKind::ServiceFault)).await.expect("accepted");
        let job = fleet.job(held.job).await;
        let JobState::Pending { hold: Some(hold) } = job.state else { panic!("{:?}", job.state) };
        assert_eq!(hold.reason, HoldReason::Backoff);
        assert_eq!(fleet.claim(&hand).await, None, "a held job is in no queue");
        assert_eq!(fleet.reconcile(Due::Holds).await, 0);
        fleet.advance(Duration::from_secs(wait));
        assert_eq!(fleet.reconcile(Due::Holds).await, 1);
        held = fleet.claim(&hand).await.expect("released");
    }
    let end = fleet.act(&hand, held, failed(FailureKind::ServiceFault)).await;
    assert_eq!(end, Ok(OpAnswer::Settled { status: JobStatus::Failed }));
    assert_eq!(fleet.job(held.job).await.failures, 3);
    assert_eq!(fleet.worker_record(&hand).await.jobs_failed, 1);
    fleet.check().await.expect("sound");
}

pub async fn a_bad_job_fails_at_once(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let held = fleet.running(&hand).await;
    fleet.act(&hand, held, failed(FailureKind::BadJob)).await.expect("accepted");
    assert_eq!(fleet.job(held.job).await.status(), JobStatus::Failed);
    assert_eq!(fleet.connector_record(&hand).await.status, ConnectorStatus::Idle);
    assert_eq!(fleet.worker_record(&hand).await.status, WorkerStatus::Idle);
}

pub async fn the_wrong_worker_does_not_get_the_job_again(open: &Open) {
    let fleet = Fleet::new(open);
    let wrong = fleet.worker("wrong", 1, &[]).await;
    let held = fleet.running(&wrong).await;
    let right = fleet.worker("right", 1, &[]).await;
    fleet.act(&wrong, held, failed(FailureKind::WrongWorker)).await.expect("accepted");
    let job = fleet.job(held.job).await;
    assert_eq!(Fleet::excluded(&job), BTreeSet::from([wrong.worker.clone()]));
    assert_eq!(fleet.claim(&wrong).await, None);
    let again = fleet.claim(&right).await.expect("another worker gets it at once");
    assert_eq!((again.job, again.attempt), (held.job, 2));
    fleet.act(&right, again, failed(FailureKind::WrongWorker)).await.expect("accepted");
    assert_eq!(fleet.claim(&right).await, None);
    assert_eq!(fleet.reconcile(Due::Exclusions).await, 1, "nobody else could: they lapse");
    assert!(fleet.claim(&right).await.is_some());
    fleet.check().await.expect("sound");
}

pub async fn losses_end_a_job_as_lost(open: &Open) {
    let fleet = Fleet::new(open);
    let mut losers = Vec::new();
    let job = fleet.submit(JobSpec { max_losses: 1, ..spec(50) }).await;
    for name in ["a", "b"] {
        let hand = fleet.worker(name, 1, &[]).await;
        let held = fleet.claim(&hand).await.expect("the job");
        fleet.advance(limits::LEASE);
        fleet.run(Fleet::expire(held)).await.expect("the lease is over");
        losers.push(hand.worker);
    }
    let record = fleet.job(job).await;
    let JobState::Failed(_, failure) = &record.state else { panic!("{:?}", record.state) };
    assert_eq!(failure.kind, FailureKind::Lost);
    assert_eq!(failure.workers, losers);
    assert_eq!(record.failures, 0, "interrupted is not failed");
    fleet.check().await.expect("sound");
}

pub async fn a_drained_worker_costs_its_job_nothing_but_a_loss(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let held = fleet.running(&hand).await;
    let orders = Orders { drain: true };
    fleet.run(Command::SetOrders { worker: hand.worker.clone(), orders }).await.expect("accepted");
    assert_eq!(fleet.worker_record(&hand).await.status, WorkerStatus::Draining);
    let release = Op::Release { reason: LossReason::Drained, message: "drained".into() };
    fleet.act(&hand, held, release.clone()).await.expect("accepted");
    assert_eq!(
        fleet.act(&hand, held, release).await,
        Ok(OpAnswer::Settled { status: JobStatus::Pending }),
        "an exact repeat"
    );
    assert_eq!(fleet.claim(&hand).await, None, "a draining worker takes none");
    let job = fleet.job(held.job).await;
    assert_eq!((job.losses, job.failures, job.place), (1, 0, job.queued_seq));
    let newer = fleet.hand("w");
    fleet.run(Command::Register(Fleet::registration(&newer, 1, &[]))).await.expect("accepted");
    assert!(fleet.worker_record(&newer).await.orders.drain, "orders outlive restarts");
}

pub async fn cancel_reaches_every_state(open: &Open) {
    let fleet = Fleet::new(open);
    let pending = fleet.submit(spec(50)).await;
    fleet.run(Command::Cancel { job: pending }).await.expect("accepted");
    assert_eq!(fleet.job(pending).await.status(), JobStatus::Cancelled);
    let hand = fleet.worker("w", 1, &[]).await;
    let held = fleet.running(&hand).await;
    let refused = fleet.act(&hand, held, super::fleet::cancelled()).await;
    assert!(matches!(refused, Err(Rejected::Invalid(_))), "nobody asked");
    fleet.run(Command::Cancel { job: held.job }).await.expect("accepted");
    assert_eq!(fleet.job(held.job).await.status(), JobStatus::InProgress);
    let renewed = fleet.renew(&hand, vec![held], ConnectorStatus::Active).await.expect("heard");
    assert_eq!(renewed.cancel, vec![held]);
    fleet.act(&hand, held, super::fleet::cancelled()).await.expect("confirmed");
    assert_eq!(fleet.job(held.job).await.status(), JobStatus::Cancelled);
    let again = fleet.running(&hand).await;
    fleet.run(Command::Cancel { job: again.job }).await.expect("accepted");
    let release = Op::Release { reason: LossReason::ServiceLost, message: String::new() };
    fleet.act(&hand, again, release).await.expect("accepted");
    assert_eq!(fleet.job(again.job).await.status(), JobStatus::Cancelled, "never pending again");
    fleet.check().await.expect("sound");
}

pub async fn a_late_result_is_kept_and_wins_while_the_run_lasts(open: &Open) {
    let fleet = Fleet::new(open);
    let ghost = fleet.worker("ghost", 1, &[]).await;
    let stale = fleet.running(&ghost).await;
    fleet.advance(limits::LEASE);
    fleet.run(Fleet::expire(stale)).await.expect("the lease is over");
    let other = fleet.worker("other", 1, &[]).await;
    let held = fleet.claim(&other).await.expect("the job");
    assert!(matches!(
        fleet.act(&ghost, stale, completed()).await,
        Err(Rejected::StaleAttempt { .. })
    ));
    assert_eq!(fleet.act(&ghost, stale, late()).await, Ok(OpAnswer::LateKept { won: true }));
    let seq = fleet.seq().await;
    assert_eq!(fleet.act(&ghost, stale, late()).await, Ok(OpAnswer::LateKept { won: true }));
    assert_eq!(fleet.seq().await, seq, "an exact repeat changes nothing");
    assert_eq!(fleet.job(stale.job).await.status(), JobStatus::Completed);
    let renewed = fleet.renew(&other, vec![held], ConnectorStatus::Active).await.expect("heard");
    assert_eq!(renewed.lost, vec![held], "the attempt that ran is fenced off and told");
    assert_eq!(fleet.worker_record(&other).await.status, WorkerStatus::Idle);
    let kept = fleet.store.result(stale.job, Some(stale.token)).await.expect("the store works");
    assert!(kept.is_some(), "the result is kept");
    let never = pointsman_core::command::Held { token: fleet.token(), ..stale };
    assert_eq!(fleet.act(&ghost, never, late()).await, Err(Rejected::UnknownAttempt(stale.job)));
    fleet.check().await.expect("sound");
}

pub async fn a_retry_is_a_new_run_at_a_new_place(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let held = fleet.running(&hand).await;
    let early = fleet.run(Command::Retry { job: held.job, run: None }).await;
    assert!(matches!(early, Err(Rejected::NotEnded { .. })));
    fleet.act(&hand, held, failed(FailureKind::BadJob)).await.expect("accepted");
    let waiting = fleet.submit(spec(50)).await;
    let retry = |run| Command::Retry { job: held.job, run };
    for odd in [1, 3] {
        assert!(matches!(fleet.run(retry(Some(odd))).await, Err(Rejected::Invalid(_))), "{odd}");
    }
    fleet.run(retry(Some(2))).await.expect("accepted");
    let (_, repeated) = fleet.run(retry(Some(2))).await.expect("an exact repeat");
    assert!(repeated.is_none(), "{repeated:?}");
    let job = fleet.job(held.job).await;
    assert_eq!((job.run, job.attempt, job.failures), (2, 1, 0));
    assert_eq!(fleet.claim(&hand).await.map(|held| held.job), Some(waiting), "its place is new");
    assert_eq!(
        fleet.act(&hand, held, late()).await,
        Ok(OpAnswer::LateKept { won: false }),
        "of a run that is over"
    );
    fleet.check().await.expect("sound");
}

pub async fn stale_writes_change_nothing(open: &Open) {
    let fleet = Fleet::new(open);
    let ghost = fleet.worker("ghost", 1, &[]).await;
    let stale = fleet.running(&ghost).await;
    fleet.advance(limits::LEASE);
    fleet.run(Fleet::expire(stale)).await.expect("the lease is over");
    let other = fleet.worker("other", 1, &[]).await;
    let held = fleet.claim(&other).await.expect("the job");
    let before = (fleet.seq().await, fleet.job(held.job).await);
    let release = Op::Release { reason: LossReason::Stalled, message: String::new() };
    for op in [Op::Start, completed(), failed(FailureKind::BadJob), release] {
        let refused = fleet.act(&ghost, stale, op.clone()).await;
        assert!(
            matches!(refused, Err(Rejected::StaleAttempt { current: 2, .. })),
            "{op:?}: {refused:?}"
        );
    }
    let renewed = fleet.renew(&ghost, vec![stale], ConnectorStatus::Idle).await.expect("heard");
    assert_eq!(renewed.lost, vec![stale]);
    assert_eq!((fleet.seq().await, fleet.job(held.job).await), before);
}

pub async fn a_superseded_worker_is_told_so(open: &Open) {
    let fleet = Fleet::new(open);
    let old = fleet.worker("w", 1, &[]).await;
    let held = fleet.running(&old).await;
    let new = fleet.hand("w");
    let register = Fleet::registration(&new, 1, &[]);
    let answer = fleet.run(Command::Register(register)).await.expect("accepted").0;
    assert_eq!(answer, Answer::Registered { running: vec![held] }, "what it may adopt");
    let superseded = Rejected::Superseded(old.incarnation);
    assert_eq!(fleet.act(&old, held, completed()).await, Err(superseded.clone()));
    assert_eq!(
        fleet.renew(&old, vec![held], ConnectorStatus::Active).await,
        Err(superseded.clone())
    );
    let back = fleet.run(Command::Register(Fleet::registration(&old, 1, &[]))).await;
    assert_eq!(back.err(), Some(superseded), "it never registers again");
    fleet.act(&new, held, completed()).await.expect("the new process adopted it");
    assert_eq!(fleet.worker_record(&new).await.machine_id, new.machine);
    fleet.check().await.expect("sound");
}

pub async fn processes_that_fight_over_an_id_are_noticed(open: &Open) {
    let fleet = Fleet::new(open);
    fleet.worker("w", 1, &[]).await;
    for changes in 1..=3 {
        let hand = fleet.worker("w", 1, &[]).await;
        let flapping = fleet.worker_record(&hand).await.is_flapping(fleet.store.now());
        assert_eq!(flapping, changes == 3, "after {changes} changes");
    }
    fleet.advance(Duration::from_secs(60));
    let hand = fleet.worker("w", 1, &[]).await;
    assert!(!fleet.worker_record(&hand).await.is_flapping(fleet.store.now()), "a minute later");
}

pub async fn silence_and_its_end_are_events(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    fleet.advance(limits::SILENT_AFTER);
    assert_eq!(fleet.reconcile(Due::Workers).await, 1);
    assert_eq!(fleet.reconcile(Due::Machines).await, 1);
    assert_eq!(fleet.worker_record(&hand).await.status, WorkerStatus::Offline);
    assert_eq!(fleet.connector_record(&hand).await.status, ConnectorStatus::Unknown);
    assert_eq!(fleet.machine_record(&hand).await.status, MachineStatus::Disconnected);
    fleet.report(&hand, ConnectorStatus::Idle).await;
    fleet.reconcile(Due::Machines).await;
    assert_eq!(fleet.worker_record(&hand).await.status, WorkerStatus::Idle);
    assert_eq!(fleet.connector_record(&hand).await.status, ConnectorStatus::Idle);
    assert_eq!(fleet.machine_record(&hand).await.status, MachineStatus::Ready);
}

pub async fn a_stale_status_comes_back(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    fleet.advance(limits::STALE_AFTER);
    fleet.reconcile(Due::Connectors).await;
    let stale = fleet.connector_record(&hand).await;
    assert_eq!(stale.status, ConnectorStatus::Unknown);
    assert_eq!(stale.error_message.as_deref(), Some("Status stale (60 s old)"));
    fleet.report(&hand, ConnectorStatus::Idle).await;
    let back = fleet.connector_record(&hand).await;
    assert_eq!((back.status, back.error_message.clone()), (ConnectorStatus::Idle, None));
    let seq = fleet.seq().await;
    fleet.report(&hand, ConnectorStatus::Idle).await;
    assert_eq!(fleet.seq().await, seq, "saying the same again is no event");
}

pub async fn the_stores_absence_is_not_the_workers_silence(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let held = fleet.running(&hand).await;
    fleet.advance(Duration::from_secs(100));
    fleet.store.break_contact().await.expect("the store works");
    for what in [Due::Leases, Due::Workers, Due::Machines, Due::Connectors] {
        assert_eq!(fleet.reconcile(what).await, 0, "{what:?}");
    }
    assert!(fleet.run(Fleet::expire(held)).await.is_err(), "the guard knows it too");
    fleet.advance(limits::LEASE);
    assert_eq!(fleet.reconcile(Due::Leases).await, 1);
    assert_eq!(fleet.job(held.job).await.status(), JobStatus::Pending);
}

pub async fn the_log_is_dense_and_tells_everything(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 2, &[]).await;
    let held = fleet.running(&hand).await;
    fleet.act(&hand, held, completed()).await.expect("accepted");
    let log = fleet.log().await;
    let seqs: Vec<_> = log.iter().map(|group| group.seq).collect();
    assert_eq!(seqs, (1..=fleet.seq().await).collect::<Vec<_>>());
    let story = ["job_submitted", "job_assigned", "job_started", "job_completed"];
    assert_eq!(fleet.story(held.job).await, story);
    for event in log.iter().flat_map(|group| group.events.iter().map(move |e| (group.seq, e))) {
        let rev = event.1.record.as_ref().map(|record| record.rev());
        assert!(rev.is_none_or(|rev| rev == event.0), "{event:?}");
    }
    let job = fleet.job(held.job).await;
    assert_eq!(job.ended().map(|ended| ended.ended_no), Some(1));
    let removal = Reconcile::RemoveJob { job: held.job };
    fleet.run(Command::Reconcile(removal)).await.expect("accepted");
    assert_eq!(fleet.story(held.job).await.last(), Some(&"job_removed"));
    let payloads = fleet.store.payloads(vec![held.job]).await.expect("the store works");
    assert_eq!(payloads, vec![None], "its payload went with it");
}

pub async fn a_suspect_worker_proves_itself(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 4, &[]).await;
    for _ in 0..limits::SUSPECT_AFTER {
        let held = fleet.running(&hand).await;
        fleet.act(&hand, held, failed(FailureKind::ServiceFault)).await.expect("accepted");
    }
    fleet.submit(spec(100)).await;
    fleet.submit(spec(100)).await;
    assert_eq!(fleet.claim(&hand).await, None, "it takes none");
    fleet.advance(limits::SUSPECT_FOR);
    let probe = fleet.claim(&hand).await.expect("one to prove itself");
    assert_eq!(fleet.claim(&hand).await, None, "and only one");
    fleet.act(&hand, probe, completed()).await.expect("accepted");
    assert!(fleet.claim(&hand).await.is_some());
    let raised = fleet.log().await;
    let names: Vec<_> = raised.iter().flat_map(|g| &g.events).map(|e| e.name.as_str()).collect();
    assert!(names.contains(&"alert_raised") && names.contains(&"alert_cleared"));
}

pub async fn a_worker_that_dies_with_many_jobs_breaks_once(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 16, &[]).await;
    let mut held = Vec::new();
    for _ in 0..16 {
        held.push(fleet.running(&hand).await);
    }
    fleet.advance(limits::LEASE);
    assert_eq!(fleet.reconcile(Due::Leases).await, 16);
    assert_eq!(fleet.worker_record(&hand).await.suspect_until, None, "one incident");
    assert!(
        fleet.store.poisonous().await.expect("the store works").is_empty(),
        "for the class too"
    );
    let tokens = (0..16).map(|_| fleet.token()).collect();
    assert_eq!(fleet.claim_with(&hand, tokens).await.len(), 16);
}

pub async fn a_poisonous_class_runs_one_probe(open: &Open) {
    let fleet = Fleet::new(open);
    let hands = [fleet.worker("a", 9, &["x"]).await, fleet.worker("b", 9, &["x"]).await];
    let poison = || JobSpec { requirements: needs("x"), max_losses: 90, ..spec(50) };
    for _ in 0..3 {
        fleet.submit(poison()).await;
    }
    for n in 0..limits::POISONOUS_AFTER as usize {
        let hand = &hands[n % 2];
        let held = fleet.claim(hand).await.expect("a job");
        let release = Op::Release { reason: LossReason::ServiceLost, message: String::new() };
        fleet.act(hand, held, release).await.expect("accepted");
        fleet
            .run(Command::SetOrders { worker: hand.worker.clone(), orders: Orders::default() })
            .await
            .expect("accepted");
    }
    assert_eq!(fleet.store.poisonous().await.expect("the store works").len(), 1);
    let fresh = fleet.worker("c", 9, &["x"]).await;
    let tokens = (0..3).map(|_| fleet.token()).collect();
    let probe = fleet.claim_with(&fresh, tokens).await;
    assert_eq!(probe.len(), 1, "one probe at a time");
    fleet.act(&fresh, probe[0], completed()).await.expect("accepted");
    let tokens = (0..3).map(|_| fleet.token()).collect();
    assert_eq!(fleet.claim_with(&fresh, tokens).await.len(), 2, "a completion proves the class");
}

pub async fn ended_jobs_are_kept_by_count_age_and_bytes(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let mut ended = Vec::new();
    for _ in 0..3 {
        let held = fleet.running(&hand).await;
        fleet.act(&hand, held, completed()).await.expect("accepted");
        ended.push(held.job);
        fleet.advance(Duration::from_secs(10));
    }
    let each = fleet.job(ended[0]).await.bytes();
    assert_eq!(each, 2 + r#"{"done":true}"#.len() as u64, "payload and result");
    let keep = Retention { ended_bytes: 2 * each, ..Retention::default() };
    assert_eq!(fleet.reconcile(Due::Retention(keep)).await, 1, "the oldest, as one is too many");
    assert_eq!(fleet.reconcile(Due::Retention(keep)).await, 0);
    let keep = Retention { ended_for: Duration::from_secs(15), ..Retention::default() };
    assert_eq!(fleet.reconcile(Due::Retention(keep)).await, 1, "that of 20 s ago");
    assert_eq!(fleet.job(ended[2]).await.status(), JobStatus::Completed);
}

pub async fn a_waiting_worker_is_woken(open: &Open) {
    let fleet = Fleet::new(open);
    let plain = fleet.worker("plain", 1, &[]).await;
    let able = fleet.worker("able", 1, &["x"]).await;
    let mut first = fleet.store.wait_for_work(plain.worker.clone(), Vec::new());
    let mut second = fleet.store.wait_for_work(able.worker.clone(), Vec::new());
    let job = fleet.submit(JobSpec { requirements: needs("x"), ..spec(50) }).await;
    second.wait().await;
    assert!(first.is_waiting(), "a worker that is not able sleeps on");
    assert_eq!(fleet.claim(&able).await.map(|held| held.job), Some(job));
    fleet.submit(spec(50)).await;
    first.wait().await;
}
