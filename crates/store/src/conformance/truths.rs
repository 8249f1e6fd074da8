//! What records and events say is true: who has a job, who ended it, who is there.

use pointsman_core::{
    Answer, Command, Event, EventName, FailureKind, LossReason, MachineId, Record, RecordKey,
    Rejected, Timestamp,
    command::{Op, OpAnswer, Reconcile, RegisterMachine, Repair, SetMachine},
    decide::limits,
    matching::LabelValue,
    record::{ConnectorStatus, Job, JobSpec, JobStatus, MachineStatus, PastOutcome, WorkerStatus},
};

use super::{
    Open,
    fleet::{Fleet, completed, failed, late, needs, service, spec, within},
};

fn release(reason: LossReason) -> Op {
    Op::Release { reason, message: String::new() }
}

pub async fn a_goodbye_with_jobs_is_told_as_one(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    fleet.running(&hand).await;
    let leave = Command::Leave { worker: hand.worker.clone(), incarnation: hand.incarnation };
    let (_, group) = fleet.run(leave.clone()).await.expect("accepted");
    let group = group.expect("a change");
    let told = group.events.iter().find(|e| e.key == RecordKey::Worker(hand.worker.clone()));
    assert_eq!(told.map(|event| event.name), Some(EventName::WorkerDisconnected));
    let (_, group) = fleet.run(leave).await.expect("accepted");
    assert_eq!(group, None, "an exact repeat changes nothing");
}

pub async fn a_late_win_names_who_won(open: &Open) {
    let fleet = Fleet::new(open);
    let ghost = fleet.worker("ghost", 1, &[]).await;
    let stale = fleet.running(&ghost).await;
    let before = fleet.job(stale.job).await;
    let assigned_at = before.assignment().map(|assignment| assignment.assigned_at);
    fleet.advance(limits::LEASE);
    fleet.run(Fleet::expire(stale)).await.expect("the lease is over");
    let other = fleet.worker("other", 1, &[]).await;
    let held = fleet.claim(&other).await.expect("the job");
    fleet.act(&ghost, stale, late()).await.expect("accepted");
    let job = fleet.job(stale.job).await;
    let ended = job.ended().expect("it ended");
    assert_eq!(ended.worker_id.as_ref(), Some(&ghost.worker));
    assert_eq!(ended.machine_id.as_ref(), Some(&ghost.machine));
    assert_eq!((ended.started_at, ended.assigned_at), (before.started_at(), assigned_at));
    let overtaken = job.past.last().expect("the attempt that ran");
    assert_eq!((overtaken.token, &overtaken.worker_id), (held.token, &other.worker));
    assert_eq!(overtaken.outcome, PastOutcome::Overtaken);
    assert_eq!(fleet.worker_record(&ghost).await.jobs_completed, 1, "it is its work");
    fleet.act(&ghost, stale, late()).await.expect("accepted");
    assert_eq!(fleet.worker_record(&ghost).await.jobs_completed, 1, "and counts once");
    assert_eq!(fleet.worker_record(&other).await.jobs_completed, 0);
    fleet.run(Command::Retry { job: job.id, run: None }).await.expect("accepted");
    assert_eq!(fleet.job(job.id).await.past.len(), 2, "each attempt once");
}

/// Files lie under the token of the attempt that ended the job, so that attempt stays remembered.
pub async fn a_late_win_is_remembered_among_many_attempts(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let job = fleet.submit(JobSpec { max_losses: 90, ..spec(50) }).await;
    let mut attempts = Vec::new();
    for _ in 0..Job::MAX_PAST {
        let held = fleet.claim(&hand).await.expect("the job");
        fleet.act(&hand, held, release(LossReason::Drained)).await.expect("accepted");
        attempts.push(held);
    }
    let runs = fleet.claim(&hand).await.expect("the job");
    let won = fleet.act(&hand, attempts[0], late()).await;
    assert_eq!(won, Ok(OpAnswer::LateKept { won: true }));
    let kept = fleet.act(&hand, runs, late()).await;
    assert_eq!(kept, Ok(OpAnswer::LateKept { won: false }));
    let record = fleet.job(job).await;
    assert_eq!(record.past.len(), Job::MAX_PAST);
    let winner = record.past.iter().find(|past| past.late_won).map(|past| past.token);
    assert_eq!(winner, Some(attempts[0].token));
    assert!(record.past.iter().any(|past| past.token == runs.token && past.late));
}

/// A worker that never got a claim's answer gives the job back and may ask under the same token.
pub async fn a_token_used_again_is_another_attempt(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    fleet.submit(spec(50)).await;
    let token = fleet.token();
    let first = fleet.claim_with(&hand, vec![token]).await[0];
    fleet.act(&hand, first, release(LossReason::Unstarted)).await.expect("accepted");
    let second = fleet.claim_with(&hand, vec![token]).await[0];
    assert_eq!((second.token, second.attempt), (token, 2));
    let settled = OpAnswer::Settled { status: JobStatus::Completed };
    for _ in 0..2 {
        assert_eq!(fleet.act(&hand, second, completed()).await, Ok(settled));
    }
    fleet.run(Command::Retry { job: second.job, run: None }).await.expect("accepted");
    let past = fleet.job(second.job).await.past.clone();
    let told: Vec<_> = past.iter().map(|past| (past.attempt, &past.outcome)).collect();
    let ended = PastOutcome::EndedRun { status: JobStatus::Completed };
    assert_eq!(told.last(), Some(&(2, &ended)), "{told:?}");
    let had = fleet.act(&hand, second, late()).await;
    assert_eq!(had, Ok(OpAnswer::LateKept { won: true }), "it ended its run");
}

pub async fn what_an_ended_attempt_hands_in_late_is_kept(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let held = fleet.running(&hand).await;
    fleet.act(&hand, held, completed()).await.expect("accepted");
    let seq = fleet.seq().await;
    let repeated = fleet.act(&hand, held, late()).await;
    assert_eq!(repeated, Ok(OpAnswer::LateKept { won: true }), "it is the result");
    assert_eq!(fleet.seq().await, seq);
    let held = fleet.running(&hand).await;
    fleet.act(&hand, held, failed(FailureKind::BadJob)).await.expect("accepted");
    for _ in 0..2 {
        let kept = fleet.act(&hand, held, late()).await;
        assert_eq!(kept, Ok(OpAnswer::LateKept { won: false }));
    }
    let job = fleet.job(held.job).await;
    assert_eq!((job.status(), job.late_results), (JobStatus::Failed, 1));
    let result = fleet.store.result(held.job, Some(held.token)).await.expect("the store works");
    assert!(result.is_some());
    let again = fleet.act(&hand, held, failed(FailureKind::BadJob)).await;
    assert_eq!(
        again,
        Ok(OpAnswer::Settled { status: JobStatus::Failed }),
        "still the first answer"
    );
    fleet.run(Command::Retry { job: held.job, run: None }).await.expect("accepted");
    assert_eq!(fleet.job(held.job).await.past.len(), 1, "each attempt once");
}

pub async fn exact_repeats_get_their_first_answer(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let held = fleet.running(&hand).await;
    let first = fleet.act(&hand, held, release(LossReason::Unstarted)).await;
    assert_eq!(fleet.job(held.job).await.losses, 1, "it had started");
    assert_eq!(fleet.act(&hand, held, release(LossReason::Unstarted)).await, first);
    let other = fleet.act(&hand, held, release(LossReason::Drained)).await;
    assert!(matches!(other, Err(Rejected::StaleAttempt { .. })), "another word than the first");
    let held = fleet.claim(&hand).await.expect("the job");
    let ops = vec![Fleet::op(held, Op::Start), Fleet::op(held, completed())];
    let both = Command::Exchange(Fleet::exchange(&hand, ops, Vec::new()));
    let (first, _) = fleet.run(both.clone()).await.expect("accepted");
    assert_eq!(fleet.run(both).await, Ok((first, None)));
    fleet.submit(spec(50)).await;
    let held = fleet.claim(&hand).await.expect("a job");
    fleet.act(&hand, held, completed()).await.expect("accepted");
    for never in [Op::Start, Op::Reclaim { started: true }] {
        let refused = fleet.act(&hand, held, never.clone()).await;
        assert!(matches!(refused, Err(Rejected::AlreadyEnded { .. })), "{never:?}: {refused:?}");
    }
}

pub async fn a_late_win_and_a_claim_travel_together(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let held = fleet.running(&hand).await;
    fleet.advance(limits::LEASE);
    fleet.run(Fleet::expire(held)).await.expect("the lease is over");
    let next = fleet.submit(spec(50)).await;
    let ops = vec![Fleet::op(held, late())];
    let exchange = Fleet::exchange(&hand, ops, vec![fleet.token()]);
    let (answer, _) = fleet.run(Command::Exchange(exchange)).await.expect("accepted");
    let Answer::Exchanged { ops, claimed, .. } = answer else { panic!("{answer:?}") };
    assert_eq!(ops, vec![Ok(OpAnswer::LateKept { won: true })]);
    assert_eq!(claimed.iter().map(|held| held.job).collect::<Vec<_>>(), vec![next]);
}

pub async fn one_token_is_one_job(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 4, &[]).await;
    fleet.submit(spec(50)).await;
    fleet.submit(spec(50)).await;
    let token = fleet.token();
    assert_eq!(fleet.claim_with(&hand, vec![token, token]).await.len(), 1);
}

pub async fn an_attempt_is_its_workers_alone(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let other = fleet.worker("other", 1, &[]).await;
    let held = fleet.running(&hand).await;
    let seq = fleet.seq().await;
    for op in [Op::Start, completed(), release(LossReason::Drained), late()] {
        let refused = fleet.act(&other, held, op.clone()).await;
        assert!(refused.is_err(), "{op:?}: {refused:?}");
    }
    let renewed = fleet.renew(&other, vec![held], ConnectorStatus::Idle).await.expect("heard");
    assert_eq!(renewed.lost, vec![held]);
    assert_eq!(fleet.seq().await, seq);
    fleet.advance(limits::LEASE);
    fleet.renew(&other, vec![held], ConnectorStatus::Idle).await.expect("heard");
    fleet.reconcile(crate::Due::Leases).await;
    assert!(fleet.job(held.job).await.is_pending(), "another cannot renew its lease");
}

pub async fn an_adopted_attempt_names_the_process_that_has_it(open: &Open) {
    let fleet = Fleet::new(open);
    let old = fleet.worker("w", 1, &[]).await;
    let held = fleet.running(&old).await;
    let new = fleet.hand("w");
    fleet.run(Command::Register(Fleet::registration(&new, 1, &[]))).await.expect("accepted");
    let by = |job: &pointsman_core::record::Job| job.assignment().map(|a| a.incarnation);
    assert_eq!(by(&*fleet.job(held.job).await), Some(old.incarnation), "not adopted yet");
    fleet.renew(&new, vec![held], ConnectorStatus::Active).await.expect("heard");
    assert_eq!(by(&*fleet.job(held.job).await), Some(new.incarnation));
    fleet.check().await.expect("sound");
}

pub async fn a_service_that_comes_back_has_its_jobs(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let held = fleet.running(&hand).await;
    let full = Fleet::registration(&hand, 1, &[]);
    let mut without = full.clone();
    without.services.clear();
    for register in [without, full] {
        fleet.run(Command::Register(register)).await.expect("accepted");
        fleet.check().await.expect("sound");
    }
    fleet.report(&hand, ConnectorStatus::Idle).await;
    let connector = fleet.connector_record(&hand).await;
    assert_eq!(connector.job_ids.first(), Some(&held.job));
    assert_eq!(connector.status, ConnectorStatus::Active);
    fleet.submit(spec(50)).await;
    assert_eq!(fleet.claim(&hand).await, None, "its one slot is taken");
}

pub async fn a_bare_workers_machine_follows_it(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let leave = Command::Leave { worker: hand.worker.clone(), incarnation: hand.incarnation };
    fleet.run(leave).await.expect("accepted");
    assert_eq!(fleet.machine_record(&hand).await.status, MachineStatus::Offline);
    fleet.report(&hand, ConnectorStatus::Idle).await;
    assert_eq!(fleet.machine_record(&hand).await.status, MachineStatus::Ready, "it came back");
    let mut moved = Fleet::registration(&hand, 1, &[]);
    moved.machine = MachineId::new("elsewhere").expect("a valid name");
    fleet.run(Command::Register(moved)).await.expect("accepted");
    assert_eq!(fleet.machine_record(&hand).await.status, MachineStatus::Offline, "it moved");
    fleet.check().await.expect("sound");
}

pub async fn registering_again_changes_nothing(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let seq = fleet.seq().await;
    fleet.run(Command::Register(Fleet::registration(&hand, 1, &[]))).await.expect("accepted");
    assert_eq!(fleet.seq().await, seq, "a worker's exact repeat");
    let register = RegisterMachine {
        machine: MachineId::new("m").expect("a valid name"),
        incarnation: hand.incarnation,
        gpus: Vec::new(),
    };
    fleet.run(Command::RegisterMachine(register.clone())).await.expect("accepted");
    let seq = fleet.seq().await;
    fleet.run(Command::RegisterMachine(register)).await.expect("accepted");
    assert_eq!(fleet.seq().await, seq, "a machine's exact repeat");
}

/// A store that lost the agent's registration may have heard of the machine from a worker meanwhile:
/// that is nobody who superseded it.
pub async fn an_agent_that_was_forgotten_is_told_so(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let (machine, incarnation) = (hand.machine.clone(), fleet.hand("agent").incarnation);
    let set = Command::SetMachine(SetMachine {
        machine: machine.clone(),
        incarnation,
        status: MachineStatus::Degraded,
        reason: None,
        action: None,
    });
    let refused = fleet.run(set.clone()).await.expect_err("it has no agent");
    assert_eq!(refused, Rejected::MachineNotFound(machine.to_string()));
    let register = RegisterMachine { machine, incarnation, gpus: Vec::new() };
    fleet.run(Command::RegisterMachine(register.clone())).await.expect("accepted");
    fleet.run(set.clone()).await.expect("accepted");
    assert_eq!(fleet.machine_record(&hand).await.status, MachineStatus::Degraded);
    let newer = fleet.hand("agent").incarnation;
    let newer = RegisterMachine { incarnation: newer, ..register };
    fleet.run(Command::RegisterMachine(newer)).await.expect("accepted");
    assert_eq!(fleet.run(set).await.expect_err("refused"), Rejected::Superseded(incarnation));
}

pub async fn capabilities_that_cannot_be_are_refused(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let before = (fleet.seq().await, fleet.worker_record(&hand).await);
    for (label, value) in [
        ("tier", LabelValue::Number(f64::NAN)),
        ("tier", LabelValue::Number(f64::INFINITY)),
        ("tier", LabelValue::Text("x".repeat(201))),
        ("", LabelValue::Flag(true)),
    ] {
        for hand in [&hand, &fleet.hand("w"), &fleet.hand("other")] {
            let mut register = Fleet::registration(hand, 1, &[]);
            register.capabilities.labels.insert(label.to_owned(), value.clone());
            let refused = fleet.run(Command::Register(register)).await.expect_err("refused");
            let place = format!("invalid: capabilities/labels/{label}: ");
            assert!(refused.to_string().starts_with(&place), "{refused}");
        }
    }
    assert_eq!((fleet.seq().await, fleet.worker_record(&hand).await), before);
}

pub async fn a_worker_that_was_silent_registers_and_is_back(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    fleet.advance(limits::SILENT_AFTER);
    fleet.reconcile(crate::Due::Workers).await;
    fleet.run(Command::Register(Fleet::registration(&hand, 1, &[]))).await.expect("accepted");
    let worker = fleet.worker_record(&hand).await;
    assert_eq!((worker.status, worker.reason.clone()), (WorkerStatus::Idle, None));
}

pub async fn a_superseded_process_is_not_heard(open: &Open) {
    let fleet = Fleet::new(open);
    let old = fleet.worker("w", 1, &[]).await;
    let new = fleet.worker("w", 1, &[]).await;
    fleet.advance(limits::SILENT_AFTER);
    let refused = fleet.run(Command::Register(Fleet::registration(&old, 1, &[]))).await;
    assert_eq!(refused.err(), Some(Rejected::Superseded(old.incarnation)));
    assert_eq!(fleet.reconcile(crate::Due::Workers).await, 1, "the newest one is silent");
    assert_eq!(fleet.worker_record(&new).await.status, WorkerStatus::Offline);
}

pub async fn drains_speak_against_nobody(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    for (max_losses, status) in [(0, JobStatus::Failed), (1, JobStatus::Pending)] {
        // In front of those that it gave back before.
        for priority in (50..).take(limits::SUSPECT_AFTER) {
            fleet.submit(JobSpec { max_losses, ..spec(priority) }).await;
            let held = fleet.claim(&hand).await.expect("the job");
            fleet.act(&hand, held, release(LossReason::Drained)).await.expect("accepted");
            assert_eq!(fleet.job(held.job).await.status(), status, "{max_losses}");
        }
    }
    let worker = fleet.worker_record(&hand).await;
    assert_eq!((worker.suspect_jobs.len(), worker.suspect_until), (0, None));
}

pub async fn a_class_stays_poisonous_when_its_jobs_are_gone(open: &Open) {
    let fleet = Fleet::new(open);
    let poison = || JobSpec { requirements: needs("x"), max_losses: 0, ..spec(50) };
    for n in 0..limits::POISONOUS_AFTER {
        let hand = fleet.worker(&format!("w{n}"), 9, &["x"]).await;
        fleet.submit(poison()).await;
        let held = fleet.claim(&hand).await.expect("the job");
        fleet.act(&hand, held, release(LossReason::ServiceLost)).await.expect("accepted");
        fleet.advance(std::time::Duration::from_millis(1));
    }
    assert!(fleet.store.poisonous().await.expect("the store works").is_empty(), "none waits");
    fleet.submit(poison()).await;
    fleet.submit(poison()).await;
    assert_eq!(fleet.store.poisonous().await.expect("the store works").len(), 1);
    let fresh = fleet.worker("fresh", 9, &["x"]).await;
    let tokens = vec![fleet.token(), fleet.token()];
    assert_eq!(fleet.claim_with(&fresh, tokens).await.len(), 1, "one probe at a time");
}

pub async fn a_hint_goes_to_a_worker_that_takes_jobs(open: &Open) {
    let fleet = Fleet::new(open);
    let drained = fleet.worker("drained", 1, &[]).await;
    let broken = fleet.worker("broken", 1, &[]).await;
    let ready = fleet.worker("ready", 1, &[]).await;
    let orders = pointsman_core::record::Orders { drain: true };
    let drain = Command::SetOrders { worker: drained.worker.clone(), orders };
    fleet.run(drain).await.expect("accepted");
    fleet.report(&broken, ConnectorStatus::Error).await;
    let mut hints = Vec::new();
    for hand in [&drained, &broken, &ready] {
        hints.push(fleet.store.wait_for_work(hand.worker.clone(), vec![service()]));
    }
    fleet.submit(spec(50)).await;
    within("the ready worker is woken", hints[2].wait()).await;
    assert!(hints[0].is_waiting() && hints[1].is_waiting(), "they would only look in vain");
}

pub async fn a_workflows_place_is_its_customers(open: &Open) {
    let fleet = Fleet::new(open);
    let of = |customer: &str| JobSpec {
        workflow_id: pointsman_core::WorkflowId::new("flow").ok(),
        customer_id: pointsman_core::CustomerId::new(customer).ok(),
        ..spec(50)
    };
    let first = fleet.submit(of("a")).await;
    let between = fleet.submit(spec(50)).await;
    let foreign = fleet.submit(of("b")).await;
    let second = fleet.submit(of("a")).await;
    let hand = fleet.worker("w", 9, &[]).await;
    let tokens = (0..4).map(|_| fleet.token()).collect();
    let order: Vec<_> = fleet.claim_with(&hand, tokens).await.iter().map(|h| h.job).collect();
    assert_eq!(order, vec![first, second, between, foreign]);
}

pub async fn a_repair_takes_strangers_off_a_worker(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 2, &[]).await;
    let held = fleet.running(&hand).await;
    let stranger = fleet.submit(spec(50)).await;
    let mut worker = (*fleet.worker_record(&hand).await).clone();
    worker.current_job_ids.insert(stranger);
    let mut connector = (*fleet.connector_record(&hand).await).clone();
    connector.job_ids.insert(stranger);
    let changes = vec![
        Event::put(EventName::WorkerStatusChanged, Record::Worker(worker.into())),
        Event::put(EventName::ConnectorStatusChanged, Record::Connector(connector.into())),
    ];
    fleet.corrupt(changes).await;
    assert!(fleet.check().await.is_err());
    let repair = Command::Repair(Repair::Worker { worker: hand.worker.clone(), jobs: Vec::new() });
    let (_, group) = fleet.run(repair.clone()).await.expect("accepted");
    let names: Vec<_> = group.iter().flat_map(|g| &g.events).map(|e| e.name).collect();
    assert!(names.contains(&EventName::WorkerStateRepaired), "{names:?}");
    fleet.check().await.expect("sound again");
    let jobs = fleet.worker_record(&hand).await.current_job_ids.clone();
    assert_eq!(jobs.into_iter().collect::<Vec<_>>(), vec![held.job], "what it runs stays");
    assert_eq!(fleet.run(repair).await, Ok((Answer::Done, None)), "a sound worker is left alone");
}

/// Every priority is asked for its first job, however many wait before it.
pub async fn the_oldest_job_of_a_class_is_not_its_head(open: &Open) {
    let fleet = Fleet::new(open);
    fleet.worker("plain", 1, &[]).await;
    let at = |seconds: i64| Timestamp::from_millis(1_700_000_000_000 + seconds * 1_000);
    let submit = async |label: &str, priority, seconds| {
        let wanted = JobSpec { requirements: needs(label), ..spec(priority) };
        fleet.submit(JobSpec { created_at: at(seconds), ..wanted }).await
    };
    let mut jobs = Vec::new();
    for (priority, seconds) in [(50, 3), (20, 1), (20, 2), (100, 5), (0, 4), (100, 6)] {
        jobs.push(submit("rare", priority, seconds).await);
    }
    submit("other", 50, 2).await;
    let told = async || {
        let waiting = fleet.store.waiting_classes().await.expect("the store works");
        let keys = waiting.into_iter().map(|(key, _)| key).collect();
        let classes = fleet.store.class_summaries(keys).await.expect("the store works");
        let classes = crate::oldest_first(classes);
        let queues = fleet.store.queues(200).await.expect("the store works");
        for class in &classes {
            assert!(queues.classes.contains(class), "{class:?} is told otherwise in {queues:?}");
        }
        classes.into_iter().map(|class| (class.waiting, class.oldest_at)).collect::<Vec<_>>()
    };
    assert_eq!(told().await, [(6, Some(at(1))), (1, Some(at(2)))]);
    fleet.run(Command::Cancel { job: jobs[1] }).await.expect("it waits");
    fleet.run(Command::Cancel { job: jobs[2] }).await.expect("it waits");
    assert_eq!(told().await, [(1, Some(at(2))), (4, Some(at(3)))], "the oldest come first");
    fleet.run(Command::Cancel { job: jobs[0] }).await.expect("it waits");
    assert_eq!(told().await, [(1, Some(at(2))), (3, Some(at(4)))]);
}

/// Commands of one call are carried out in their order, also where some of them change the same
/// records and others do not.
pub async fn commands_of_one_call_keep_their_order(open: &Open) {
    let fleet = Fleet::new(open);
    let (two, one) = (fleet.worker("two", 2, &[]).await, fleet.worker("one", 1, &[]).await);
    for _ in 0..3 {
        fleet.submit(spec(50)).await;
    }
    let tokens = vec![fleet.token(), fleet.token()];
    let mut held = fleet.claim_with(&two, tokens).await;
    held.extend(fleet.claim(&one).await);
    assert_eq!(held.len(), 3);
    fleet.advance(limits::LEASE * 2);
    let done = fleet.store.execute(held.iter().map(|held| Fleet::expire(*held)).collect()).await;
    let seqs = done
        .expect("the store works")
        .into_iter()
        .map(|done| done.expect("each is due").group.expect("each changes something").seq);
    let seqs: Vec<_> = seqs.collect();
    assert!(seqs.is_sorted(), "{seqs:?}");
}

pub async fn a_job_is_gone_once_it_is_removed(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let held = fleet.running(&hand).await;
    let waiting = fleet.submit(spec(50)).await;
    let jobs = vec![held.job, waiting];
    let gone = async || fleet.store.gone(jobs.clone()).await.expect("the store works");
    assert_eq!(gone().await, []);
    fleet.act(&hand, held, completed()).await.expect("accepted");
    assert_eq!(gone().await, []);
    fleet.run(Command::Reconcile(Reconcile::RemoveJob { job: held.job })).await.expect("it ended");
    assert_eq!(gone().await, [held.job]);
}
