//! Finished work goes out and jobs come in.

use std::time::Duration;

use pointsman_core::{
    JobId,
    command::{Op, Renew},
    decide::limits,
    record::JobStatus,
};

use crate::{
    broker::{Call, FakeBroker, Line},
    service::FakeService,
    setup::Setup,
};

#[tokio::test(start_paused = true)]
async fn finish_and_the_next_claim_travel_together() {
    let broker = FakeBroker::new();
    let jobs: Vec<_> = (0..5).map(|_| broker.post("done")).collect();
    let setup = Setup::with(1, broker.clone(), FakeService::new("fake")).await;
    for job in &jobs {
        let job = broker.job(*job);
        assert_eq!(job.status, JobStatus::Completed);
        assert!(matches!(job.taken[..], [Op::Start, Op::Finish(_)]));
    }
    let mut handed_in = 0;
    for call in broker.calls() {
        if let Call::Exchange { ops, tokens, claimed, .. } = call
            && ops.iter().any(|op| matches!(op.op, Op::Finish(_)))
        {
            handed_in += 1;
            assert_eq!(tokens.len(), 1);
            assert_eq!(claimed, usize::from(handed_in < 5));
        }
    }
    assert_eq!(handed_in, 5, "one exchange a job, though each has two operations");
    drop(setup);
}

#[tokio::test(start_paused = true)]
async fn what_is_ready_together_goes_out_together() {
    let broker = FakeBroker::new();
    for _ in 0..192 {
        broker.post("done");
    }
    let _setup = Setup::with(64, broker.clone(), FakeService::new("fake")).await;
    let sizes: Vec<_> = broker
        .calls()
        .iter()
        .filter_map(|call| match call {
            Call::Exchange { ops, .. } if !ops.is_empty() => Some(ops.len()),
            _ => None,
        })
        .collect();
    assert_eq!(sizes, [128, 128, 128]);
}

#[tokio::test(start_paused = true)]
async fn lost_answers_cost_a_repeat_and_never_a_job() {
    let broker = FakeBroker::new();
    let jobs: Vec<_> = (0..40).map(|_| broker.post("done")).collect();
    broker.with(|s| s.line = Line::LosesAnswers);
    let setup = Setup::with(3, broker.clone(), FakeService::new("fake")).await;
    setup.pass(60.0).await;
    for job in jobs {
        let job = broker.job(job);
        assert_eq!(job.status, JobStatus::Completed);
        assert_eq!(job.attempt, 1, "no job was claimed twice");
    }
    assert_eq!(setup.service.runs(), 40);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_comes_while_waiting_starts_at_once() {
    let setup = Setup::new(2).await;
    setup.pass(100.0).await;
    let polls = setup.broker.calls().len();
    let job = setup.broker.post("slow");
    setup.pass(0.001).await;
    assert_eq!(setup.broker.status(job), JobStatus::InProgress);
    assert!(polls < 60, "waiting is not asking again and again: {polls} calls");
    setup.pass(8.0).await;
    assert_eq!(setup.broker.status(job), JobStatus::Completed);
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_answer_never_came_is_given_back() {
    let setup = Setup::new(1).await;
    let job = setup.broker.post("hour");
    setup.pass(1.0).await;
    // Another job of this worker that it never heard of.
    let other = setup.broker.post("done");
    setup.broker.assign_unheard(other);
    setup.pass(4.0).await;
    let taken = setup.broker.job(other).taken;
    assert!(matches!(&taken[..], [Op::Release { reason, .. }] if !reason.counts()), "{taken:?}");
    assert_eq!(setup.broker.status(job), JobStatus::InProgress);
}

#[tokio::test(start_paused = true)]
async fn a_job_on_its_way_here_is_not_from_before_a_restart() {
    let setup = Setup::new(1).await;
    setup.broker.with(|s| s.claims_take = Duration::from_secs(6));
    let job = setup.broker.post("hour");
    setup.pass(0.1).await;
    // Registering again tells that it is running, before the claim's answer does.
    setup.broker.with(|s| s.forgotten = true);
    setup.pass(5.5).await;
    let (_, renew, _) = setup.broker.renewals().pop().unwrap();
    assert_eq!((setup.broker.job(job).attempt, renew.held.len()), (1, 1));
    setup.pass(90.0).await;
    assert_eq!(setup.broker.job(job).taken, [Op::Start]);
    assert_eq!(setup.broker.status(job), JobStatus::InProgress);
}

/// How long the store did not hear that the worker has the job, at most, while it was its.
fn longest_unheard(broker: &FakeBroker, job: JobId) -> Duration {
    let (mut unheard, mut since) = (Duration::ZERO, broker.job(job).claimed_at.unwrap());
    for (at, renew, _) in broker.renewals() {
        if at > since && renew.held.iter().any(|held| held.job == job) {
            (unheard, since) = (unheard.max(at - since), at);
        }
    }
    unheard
}

#[tokio::test(start_paused = true)]
async fn a_job_keeps_its_lease_while_its_payload_arrives_however_long_that_takes() {
    let broker = FakeBroker::new();
    broker.with(|s| s.payloads_take = Duration::from_secs(900));
    // The one comes by a claim that waits, the other with what is handed in.
    let jobs = [broker.post("slow"), broker.post("slow")];
    let setup = Setup::with(1, broker.clone(), FakeService::new("fake")).await;
    for job in jobs {
        setup.pass(890.0).await;
        assert_eq!((broker.status(job), broker.job(job).attempt), (JobStatus::Assigned, 1));
        setup.pass(20.0).await;
        assert_eq!((broker.status(job), broker.job(job).attempt), (JobStatus::Completed, 1));
        let unheard = longest_unheard(&broker, job);
        assert!(unheard < limits::LEASE, "{unheard:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_job_is_not_held_while_its_payload_arrives() {
    let broker = FakeBroker::new();
    broker.with(|s| s.payloads_take = Duration::from_secs(900));
    let job = broker.post("hour");
    let setup = Setup::with(1, broker.clone(), FakeService::new("fake")).await;
    let is_held = || broker.renewals().pop().unwrap().1.held.iter().any(|held| held.job == job);
    setup.pass(10.0).await;
    assert!(is_held());
    broker.with(|s| s.jobs.get_mut(&job).unwrap().cancel = true);
    setup.pass(7.0).await;
    for _ in 0..4 {
        assert!(!is_held(), "its lease ends, and so does the job");
        setup.pass(5.0).await;
    }
    // A store that did not end it yet is told.
    setup.pass(900.0).await;
    assert_eq!(broker.status(job), JobStatus::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_worker_starts_however_long_the_payloads_of_what_it_ran_before_arrive() {
    let broker = FakeBroker::new();
    let job = broker.post("slow");
    broker.assign_unheard(job);
    broker.with(|s| s.payloads_take = Duration::from_secs(60));
    let setup = Setup::with(1, broker.clone(), FakeService::new("fake")).await;
    setup.pass(61.0).await;
    assert!(matches!(broker.job(job).taken[..], [Op::Release { .. }]), "its service lost it");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_a_claim_brings_at_last_waits_for_nothing_more() {
    let setup = Setup::new(1).await;
    // Its claim is given up, and no other may be sent.
    setup.broker.with(|s| s.claims_take = Duration::from_secs(3600));
    let job = setup.broker.post("hour");
    setup.pass(20.0).await;
    setup.broker.with(|s| s.orders.drain = true);
    setup.pass(14.0).await;
    setup.broker.with(|s| s.forgotten = true);
    setup.pass(6.0).await;
    let (_, renew, _) = setup.broker.renewals().pop().unwrap();
    assert_eq!(renew.held.len(), 1, "told to be running here, it waits for its service");
    setup.broker.with(|s| (s.claims_take, s.orders.drain) = (Duration::ZERO, false));
    setup.pass(90.0).await;
    assert_eq!(setup.broker.job(job).taken, [Op::Start]);
    assert_eq!(setup.broker.status(job), JobStatus::InProgress);
}

#[tokio::test(start_paused = true)]
async fn many_jobs_are_given_back_at_once() {
    // As many as take three exchanges.
    const MANY: usize = 3 * limits::MAX_OPS;
    let setup = Setup::new(1).await;
    let jobs: Vec<_> = (0..MANY)
        .map(|_| {
            let job = setup.broker.post("done");
            setup.broker.assign_unheard(job);
            job
        })
        .collect();
    setup.pass(6.0).await;
    let given_back =
        |job: &JobId| matches!(setup.broker.job(*job).taken[..], [Op::Release { .. }, ..]);
    assert_eq!(jobs.iter().filter(|job| given_back(job)).count(), MANY);
}

#[tokio::test(start_paused = true)]
async fn large_results_arrive_over_a_slow_line() {
    let setup = Setup::new(2).await;
    let jobs: Vec<_> = (0..2).map(|_| setup.broker.post("large")).collect();
    setup.broker.with(|s| s.speed = Some(70_000));
    setup.pass(60.0).await;
    for job in jobs {
        let job = setup.broker.job(job);
        assert_eq!((job.status, job.attempt), (JobStatus::Completed, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_with_many_models_registers_over_a_slow_line() {
    let (broker, service) = (FakeBroker::new(), FakeService::new("fake"));
    service.with(|s| s.models = (0..20_000).map(|n| format!("models/{n:050}")).collect());
    broker.with(|s| s.speed = Some(70_000));
    let setup = Setup::with(1, broker.clone(), service).await;
    let job = broker.post("done");
    setup.pass(60.0).await;
    assert_eq!(broker.status(job), JobStatus::Completed);
}

#[tokio::test(start_paused = true)]
async fn ends_that_no_replica_confirms_hold_nothing_up_and_are_handed_in_again() {
    let broker = FakeBroker::new();
    let jobs: Vec<_> = (0..5).map(|_| broker.post("done")).collect();
    broker.with(|s| s.unconfirmed = true);
    let setup = Setup::with(1, broker.clone(), FakeService::new("fake")).await;
    setup.pass(1.0).await;
    for job in jobs {
        assert_eq!((broker.job(job).status, broker.job(job).attempt), (JobStatus::Completed, 1));
    }
    let repeats = || -> Vec<usize> {
        let calls = broker.calls().into_iter().filter_map(|call| match call {
            Call::Exchange { ops, tokens, .. } if tokens.is_empty() => Some(ops),
            _ => None,
        });
        let ends = calls.filter(|ops| ops.iter().all(|op| matches!(op.op, Op::Finish(_))));
        ends.map(|ops| ops.len()).filter(|ends| *ends > 1).collect()
    };
    setup.pass(100.0).await;
    let asked = repeats().len();
    assert!((15..=20).contains(&asked), "{asked} times");
    broker.with(|s| s.unconfirmed = false);
    setup.pass(100.0).await;
    assert_eq!(repeats(), vec![5; asked + 1], "once more, and they are confirmed");
}

/// Replicas take their time to confirm an end.
#[tokio::test(start_paused = true)]
async fn an_end_that_is_taken_and_not_answered_yet_makes_no_attempt_lost() {
    let setup = Setup::new(1).await;
    let broker = &setup.broker;
    let job = broker.post("slow");
    setup.pass(1.0).await;
    broker.post("slow");
    broker.with(|s| s.claims_take = Duration::from_secs(9));
    setup.pass(7.5).await;
    assert_eq!(broker.status(job), JobStatus::Completed);
    let before = broker.renewals().len();
    setup.pass(7.0).await;
    let lists = |renew: &Renew| renew.held.iter().any(|held| held.job == job);
    let listed: Vec<_> = broker.renewals()[before..].iter().map(|r| lists(&r.1)).collect();
    assert!(listed.len() >= 2 && listed.iter().all(|is| *is), "{listed:?}");
    broker.with(|s| s.claims_take = Duration::ZERO);
    setup.pass(20.0).await;
    assert!(!lists(&broker.renewals().pop().unwrap().1), "it is answered");
}
