//! Which job a claim gets, and which workers and classes get none for a while.

use std::{collections::BTreeSet, sync::Arc};

use pointsman_core::{
    Command, ConnectorId, FailureKind, JobId, LossReason, Record, RecordKey, Timestamp, Token,
    WorkflowId,
    command::{Op, Submit},
    decide::limits,
    matching::{PoisonousClass, Requirements},
    record::{AlertId, AlertRule, ConnectorStatus, Job, JobSpec, Orders},
};

use super::{
    Open,
    fleet::{Fleet, completed, failed, needs, service, spec, within},
};
use crate::Due;

async fn claimed_in_order(fleet: &Fleet, slots: u32) -> Vec<JobId> {
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

/// Its place is that of the oldest of its jobs that have not ended.
pub async fn a_workflow_whose_jobs_have_ended_begins_at_a_new_place(open: &Open) {
    let fleet = Fleet::new(open);
    let of_flow = JobSpec { workflow_id: WorkflowId::new("flow").ok(), ..spec(50) };
    let ended = fleet.submit(of_flow.clone()).await;
    fleet.run(Command::Cancel { job: ended }).await.expect("it waits");
    let between = fleet.submit(spec(50)).await;
    let next = fleet.submit(of_flow).await;
    assert_eq!(claimed_in_order(&fleet, 2).await, [between, next]);
    fleet.check().await.expect("sound");
}

pub async fn a_claim_of_many_jobs_tells_of_its_worker_once(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 3, &[]).await;
    for _ in 0..3 {
        fleet.submit(spec(50)).await;
    }
    let tokens = (0..3).map(|_| fleet.token()).collect();
    let claim = Command::Exchange(Fleet::exchange(&hand, Vec::new(), tokens));
    let (_, told) = fleet.run(claim).await.expect("a valid claim");
    let told = told.expect("it claimed");
    let mut names: Vec<_> = told.events.iter().map(|event| event.name.as_str()).collect();
    names.sort_unstable();
    let once = ["connector_status_changed", "job_assigned", "job_assigned", "job_assigned"];
    assert_eq!(names, [&once[..], &["worker_status_changed"]].concat());
    assert_eq!(fleet.log().await.last(), Some(&told), "the log says what was told");
    fleet.check().await.expect("sound");
}

/// Its worker changes with both, and has one event.
pub async fn a_claim_beside_an_end_is_told_as_the_log_has_it(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let held = fleet.running(&hand).await;
    let next = fleet.submit(spec(50)).await;
    let ops = vec![Fleet::op(held, completed())];
    let exchange = Fleet::exchange(&hand, ops, vec![fleet.token()]);
    let (_, told) = fleet.run(Command::Exchange(exchange)).await.expect("accepted");
    assert_eq!(fleet.log().await.last(), told.as_ref());
    let told = told.expect("a job ended");
    let last = |key| told.events.iter().rfind(|event| event.key == key).map(|event| &event.record);
    let worker = last(RecordKey::Worker(hand.worker.clone()));
    let Some(Some(Record::Worker(worker))) = worker else { panic!("{worker:?}") };
    assert_eq!(worker.current_job_ids, BTreeSet::from([next]));
    let connector = last(RecordKey::Connector(ConnectorId::new(hand.worker, service())));
    let Some(Some(Record::Connector(connector))) = connector else { panic!("{connector:?}") };
    assert_eq!(connector.job_ids, BTreeSet::from([next]));
}

pub async fn a_claim_takes_no_more_payload_than_one_answer_has_room_for(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 9, &[]).await;
    let large = |fill: u8| Arc::<[u8]>::from([b"\"", &vec![fill; 9 << 20][..], b"\""].concat());
    let mut jobs = Vec::new();
    for (n, payload) in [large(b'a'), large(b'b'), Arc::from(*b"{}")].into_iter().enumerate() {
        // Of two classes, so that one goes on where the other left off.
        let requirements = if n == 1 { Arc::default() } else { needs("label") };
        let submit = Submit { payload, ..fleet.submission(JobSpec { requirements, ..spec(50) }) };
        jobs.push(submit.id);
        fleet.run(Command::Submit(submit)).await.expect("accepted");
    }
    let able = fleet.worker("able", 9, &["label"]).await;
    let claim = async |tokens: &[Token]| {
        let claimed = fleet.claim_with(&able, tokens.to_vec()).await;
        claimed.iter().map(|held| held.job).collect::<Vec<_>>()
    };
    let [first, second] = [(); 2].map(|()| (0..9).map(|_| fleet.token()).collect::<Vec<_>>());
    assert_eq!(claim(&first).await, jobs[..2], "the next one finds no room");
    assert_eq!(claim(&first).await, jobs[..2], "nor where its answer was lost");
    assert_eq!(claim(&second).await, jobs[2..]);
    assert_eq!(fleet.claim(&hand).await, None);
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

pub async fn the_wrong_worker_does_not_get_the_job_again(open: &Open) {
    let fleet = Fleet::new(open);
    let wrong = fleet.worker("wrong", 1, &[]).await;
    let held = fleet.running(&wrong).await;
    // Another, though its name is a part of that one's.
    let right = fleet.worker("wro", 1, &[]).await;
    fleet.act(&wrong, held, failed(FailureKind::WrongWorker)).await.expect("accepted");
    let job = fleet.job(held.job).await;
    assert_eq!(Fleet::excluded(&job), BTreeSet::from([wrong.worker.clone()]));
    assert_eq!(fleet.claim(&wrong).await, None);
    let again = fleet.claim(&right).await.expect("another worker gets it at once");
    assert_eq!((again.job, again.attempt), (held.job, 2));
    fleet.check().await.expect("sound");
    fleet.act(&right, again, failed(FailureKind::WrongWorker)).await.expect("accepted");
    assert_eq!(fleet.claim(&right).await, None);
    assert_eq!(fleet.reconcile(Due::Exclusions).await, 0, "somebody else may be about to come");
    fleet.advance(limits::EXCLUSION_AT_LEAST);
    assert_eq!(fleet.reconcile(Due::Exclusions).await, 1, "nobody else could: they lapse");
    assert!(fleet.claim(&right).await.is_some());
    fleet.check().await.expect("sound");
}

pub async fn a_worker_that_a_job_rules_out_by_name_does_not_get_it(open: &Open) {
    let fleet = Fleet::new(open);
    // Another, though its name is a part of that one's.
    let [named, other] = [fleet.worker("named", 1, &[]).await, fleet.worker("name", 1, &[]).await];
    let not_named = serde_json::json!({"must_not": {"workers": ["named"]}});
    let requirements = Requirements::parse(&not_named).expect("valid requirements").into();
    let job = fleet.submit(JobSpec { requirements, ..spec(50) }).await;
    assert_eq!(fleet.claim(&named).await, None);
    assert_eq!(fleet.claim(&other).await.map(|held| held.job), Some(job));
    fleet.check().await.expect("sound");
}

/// What the alert about the worker "w" says, and since when it is there.
async fn suspect_alert(fleet: &Fleet) -> (String, Timestamp) {
    let id = AlertId { rule: AlertRule::SuspectWorker, subject: "w".to_owned() };
    let found = fleet.store.records(vec![RecordKey::Alert(id)]).await;
    let Some(Record::Alert(alert)) = found.expect("the store works").pop() else {
        panic!("there is an alert")
    };
    (alert.message.clone(), alert.raised_at)
}

pub async fn a_suspect_worker_proves_itself(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 4, &[]).await;
    for _ in 0..limits::SUSPECT_AFTER {
        let held = fleet.running(&hand).await;
        fleet.act(&hand, held, failed(FailureKind::ServiceFault)).await.expect("accepted");
    }
    let (message, raised_at) = suspect_alert(&fleet).await;
    assert!(message.starts_with("w broke 3 different jobs in a row"), "{message}");
    fleet.advance(limits::SUSPECT_FOR);
    let held = fleet.running(&hand).await;
    fleet.act(&hand, held, failed(FailureKind::ServiceFault)).await.expect("accepted");
    let (message, still) = suspect_alert(&fleet).await;
    assert!(message.starts_with("w broke 4 different jobs in a row"), "{message}");
    assert_eq!(still, raised_at, "it is the same alert");
    fleet.submit(spec(100)).await;
    fleet.submit(spec(100)).await;
    assert_eq!(fleet.claim(&hand).await, None, "it takes none");
    fleet.advance(limits::SUSPECT_FOR);
    let probe = fleet.claim_with(&hand, vec![fleet.token(), fleet.token()]).await;
    assert_eq!(probe.len(), 1, "one to prove itself");
    assert_eq!(fleet.claim(&hand).await, None, "and only one");
    fleet.act(&hand, probe[0], completed()).await.expect("accepted");
    assert!(fleet.claim(&hand).await.is_some());
    let raised = fleet.log().await;
    let names: Vec<_> = raised.iter().flat_map(|g| &g.events).map(|e| e.name.as_str()).collect();
    assert!(names.contains(&"alert_raised") && names.contains(&"alert_cleared"));
}

/// Whatever starts it again after each: what it broke counts on.
pub async fn a_worker_that_dies_of_every_job_is_suspect(open: &Open) {
    let fleet = Fleet::new(open);
    let come = || fleet.worker("w", 2, &[]);
    let mut hand = come().await;
    for priority in (50..).take(limits::SUSPECT_AFTER) {
        // In front of those that it broke before.
        let job = fleet.submit(spec(priority)).await;
        let held = fleet.claim(&hand).await.expect("it takes the newest");
        assert_eq!(held.job, job);
        hand = come().await;
        let release = Op::Release { reason: LossReason::NotAdopted, message: String::new() };
        fleet.act(&hand, held, release).await.expect("accepted");
    }
    let (message, _) = suspect_alert(&fleet).await;
    assert!(message.starts_with("w broke 3 different jobs in a row"), "{message}");
    assert_eq!(fleet.claim(&hand).await, None);
    let hand = come().await;
    assert_eq!(fleet.claim(&hand).await, None, "to start again proves nothing");
    fleet.advance(limits::SUSPECT_FOR);
    fleet.report(&hand, ConnectorStatus::Idle).await;
    assert!(fleet.claim(&hand).await.is_some(), "one to prove itself");
    assert_eq!(fleet.claim(&hand).await, None, "and only one");
    fleet.check().await.expect("sound");
}

/// The limit is the job's: whoever submits jobs with one that is too short must stop no worker.
pub async fn a_jobs_own_time_limit_makes_no_worker_suspect(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    for max_failures in [3, 3, 3, 1, 1, 1] {
        let job = fleet.submit(JobSpec { max_failures, ..spec(50) }).await;
        let held = fleet.claim(&hand).await.expect("it takes every job");
        assert_eq!(held.job, job, "the others back off");
        fleet.act(&hand, held, failed(FailureKind::Timeout)).await.expect("accepted");
    }
    let worker = fleet.worker_record(&hand).await;
    assert_eq!((worker.suspect_until, worker.jobs_failed), (None, 3));
    assert!(worker.suspect_jobs.is_empty());
    let names = fleet.log().await;
    let mut names = names.iter().flat_map(|group| &group.events).map(|event| event.name.as_str());
    assert!(names.all(|name| name != "alert_raised"));
}

pub async fn a_worker_that_dies_with_many_jobs_breaks_once(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 16, &[]).await;
    let mut held = Vec::new();
    for _ in 0..16 {
        held.push(fleet.running(&hand).await);
    }
    fleet.advance(limits::LEASE);
    assert_eq!(fleet.reconcile(Due::Leases).await, 16 + 1, "and the worker is silent");
    fleet.report(&hand, ConnectorStatus::Idle).await;
    assert_eq!(fleet.worker_record(&hand).await.suspect_until, None, "one incident");
    assert!(
        fleet.store.poisonous().await.expect("the store works").is_empty(),
        "for the class too"
    );
    let tokens = (0..16).map(|_| fleet.token()).collect();
    assert_eq!(fleet.claim_with(&hand, tokens).await.len(), 16);
}

pub async fn a_completion_ends_what_a_worker_broke_in_a_row(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    for _ in 0..2 {
        for _ in 1..limits::SUSPECT_AFTER {
            let held = fleet.running(&hand).await;
            fleet.act(&hand, held, failed(FailureKind::ServiceFault)).await.expect("accepted");
        }
        assert_eq!(fleet.worker_record(&hand).await.suspect_until, None, "not so many in a row");
        let held = fleet.running(&hand).await;
        fleet.act(&hand, held, completed()).await.expect("accepted");
    }
}

/// Different jobs speak against a worker; one that fails each time speaks against itself.
pub async fn a_job_that_breaks_again_and_again_makes_no_worker_suspect(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    fleet.submit(JobSpec { max_failures: 9, ..spec(50) }).await;
    for _ in 0..limits::SUSPECT_AFTER {
        let held = fleet.claim(&hand).await.expect("the job");
        fleet.act(&hand, held, failed(FailureKind::ServiceFault)).await.expect("accepted");
        fleet.advance(limits::BACKOFF_MAX);
        fleet.reconcile(Due::Holds).await;
        fleet.reconcile(Due::Exclusions).await;
    }
    let worker = fleet.worker_record(&hand).await;
    assert_eq!((worker.suspect_jobs.len(), worker.suspect_until), (1, None));
}

/// "Resume" is the operator's word that it is well again; to drain it is none.
pub async fn a_suspect_worker_that_is_resumed_is_trusted(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let breaks = async |times: usize| {
        for _ in 0..times {
            let held = fleet.running(&hand).await;
            fleet.act(&hand, held, failed(FailureKind::ServiceFault)).await.expect("accepted");
        }
        fleet.worker_record(&hand).await.suspect_until
    };
    assert!(breaks(limits::SUSPECT_AFTER).await.is_some());
    let order = async |drain| {
        let (worker, orders) = (hand.worker.clone(), Orders { drain });
        fleet.run(Command::SetOrders { worker, orders }).await.expect("accepted");
        let id = AlertId { rule: AlertRule::SuspectWorker, subject: "w".to_owned() };
        let alerts = fleet.store.records(vec![RecordKey::Alert(id)]).await.expect("it works");
        let is_suspect = fleet.worker_record(&hand).await.suspect_until.is_some();
        (is_suspect, alerts.len())
    };
    assert_eq!(order(true).await, (true, 1), "it drains, and is suspect");
    assert_eq!(order(false).await, (false, 0));
    assert!(breaks(1).await.is_none(), "what it broke before does not count");
    assert!(breaks(limits::SUSPECT_AFTER - 1).await.is_some());
    assert_eq!(order(false).await, (false, 0), "also where it was not drained");
    fleet.check().await.expect("sound");
}

pub async fn of_what_a_suspect_worker_broke_the_latest_are_kept(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let mut broken = Vec::new();
    for _ in 0..=Job::MAX_PAST {
        let held = fleet.running(&hand).await;
        fleet.act(&hand, held, failed(FailureKind::ServiceFault)).await.expect("accepted");
        broken.push(held.job);
        fleet.advance(limits::SUSPECT_FOR);
    }
    assert_eq!(fleet.worker_record(&hand).await.suspect_jobs, broken[1..]);
}

/// Jobs that need a label and are lost, until their class is poisonous.
async fn lose(fleet: &Fleet, label: &str) -> JobSpec {
    let poison = JobSpec { requirements: needs(label), max_losses: 90, ..spec(50) };
    let [a, b] = ["a", "b"].map(|name| format!("{name}-{label}"));
    let hands = [fleet.worker(&a, 9, &[label]).await, fleet.worker(&b, 9, &[label]).await];
    for n in 0..limits::POISONOUS_AFTER as usize {
        fleet.submit(poison.clone()).await;
        let hand = &hands[n % 2];
        let held = fleet.claim(hand).await.expect("a job");
        let release = Op::Release { reason: LossReason::ServiceLost, message: String::new() };
        fleet.act(hand, held, release).await.expect("accepted");
        fleet
            .run(Command::SetOrders { worker: hand.worker.clone(), orders: Orders::default() })
            .await
            .expect("accepted");
    }
    poison
}

/// Who takes the first of many takes the same ones every time.
pub async fn poisonous_classes_come_in_the_order_of_their_keys(open: &Open) {
    let fleet = Fleet::new(open);
    let labels = ["s", "t", "u", "v", "w", "x", "y", "z"];
    for label in labels {
        lose(&fleet, label).await;
    }
    let poisonous = fleet.store.poisonous().await.expect("the store works");
    assert_eq!(poisonous.len(), labels.len());
    assert!(poisonous.is_sorted(), "{poisonous:?}");
}

pub async fn a_poisonous_class_runs_one_probe(open: &Open) {
    let fleet = Fleet::new(open);
    let poison = lose(&fleet, "x").await;
    assert_eq!(fleet.store.poisonous().await.expect("the store works").len(), 1);
    let waiting = fleet.submit(poison).await;
    let poisonous = async || {
        let explained = fleet.store.explain(waiting).await.expect("the store works");
        explained.expect("there is such a job").0.poisonous
    };
    let losses = limits::POISONOUS_AFTER;
    assert_eq!(poisonous().await, Some(PoisonousClass { losses, probing: false }));
    let fresh = fleet.worker("c", 9, &["x"]).await;
    let tokens = (0..3).map(|_| fleet.token()).collect();
    let probe = fleet.claim_with(&fresh, tokens).await;
    assert_eq!(probe.len(), 1, "one probe at a time");
    assert_eq!(poisonous().await, Some(PoisonousClass { losses, probing: true }));
    let probing = fleet.store.explain(probe[0].job).await.expect("the store works");
    assert_eq!(probing.expect("there is such a job").0.poisonous, None, "it waits for nothing");
    fleet.act(&fresh, probe[0], completed()).await.expect("accepted");
    assert_eq!(poisonous().await, None, "a completion proves the class");
    let tokens = (0..4).map(|_| fleet.token()).collect();
    assert_eq!(fleet.claim_with(&fresh, tokens).await.len(), 3);
}

pub async fn a_waiting_worker_is_woken(open: &Open) {
    let fleet = Fleet::new(open);
    let plain = fleet.worker("plain", 1, &[]).await;
    let able = fleet.worker("able", 1, &["x"]).await;
    let mut first = fleet.store.wait_for_work(plain.worker.clone(), Vec::new());
    let mut second = fleet.store.wait_for_work(able.worker.clone(), Vec::new());
    let job = fleet.submit(JobSpec { requirements: needs("x"), ..spec(50) }).await;
    within("the able worker is woken", second.wait()).await;
    assert!(first.is_waiting(), "a worker that is not able sleeps on");
    assert_eq!(fleet.claim(&able).await.map(|held| held.job), Some(job));
    fleet.submit(spec(50)).await;
    within("the plain worker is woken", first.wait()).await;
}
