//! Whole lives of jobs, as users see them.

use std::time::Duration;

use pointsman_core::{
    Answer, Command, CustomerId, FailureKind, LossReason, Rejected, WorkerId,
    command::{Held, Idempotency, Op, OpAnswer, Reconcile, Submit},
    decide::limits,
    record::{
        ConnectorStatus, HoldReason, JobSpec, JobState, JobStatus, Orders, Progress, WorkerStatus,
    },
    to_json,
};

use super::{
    Open,
    fleet::{Fleet, Hand, cancelled, completed, failed, late, late_file, needs, spec},
};
use crate::{Due, JobFilter, Retention};

/// A submission under one key; its body's digest is of that byte.
fn keyed(fleet: &Fleet, body: u8) -> Submit {
    let idempotency = Some(Idempotency { key: "order-7".into(), body: [body; 32] });
    Submit { idempotency, ..fleet.submission(spec(50)) }
}

pub async fn an_idempotency_key_names_one_job(open: &Open) {
    let fleet = Fleet::new(open);
    let keyed = |body: u8| keyed(&fleet, body);
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

/// Two customers that both number their orders from 1 get a job each, and never the other's.
pub async fn an_idempotency_key_is_its_customers_own(open: &Open) {
    let fleet = Fleet::new(open);
    let submit = async |customer: Option<&str>| {
        let mut submit = keyed(&fleet, 1);
        submit.spec.customer_id = customer.map(|id| CustomerId::new(id).expect("a valid name"));
        let own = submit.id;
        match fleet.run(Command::Submit(submit)).await.expect("accepted").0 {
            Answer::Submitted { id, existing } => (id, id == own && existing.is_none()),
            other => panic!("a submission was answered {other:?}"),
        }
    };
    let customers = [None, Some("a"), Some("b")];
    let mut jobs = Vec::new();
    for customer in customers {
        let (job, is_new) = submit(customer).await;
        assert!(is_new, "the first job of {customer:?}");
        jobs.push(job);
    }
    for (customer, job) in customers.into_iter().zip(jobs) {
        assert_eq!(submit(customer).await, (job, false), "a repeat of {customer:?}");
    }
    fleet.check().await.expect("sound");
}

pub async fn an_idempotency_key_outlives_its_job(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let keyed = |body: u8| keyed(&fleet, body);
    let first = keyed(1);
    fleet.run(Command::Submit(first.clone())).await.expect("accepted");
    let held = fleet.claim(&hand).await.expect("the job");
    fleet.act(&hand, held, completed()).await.expect("it ends");
    let remove = Command::Reconcile(Reconcile::RemoveJob { job: first.id });
    fleet.run(remove).await.expect("an ended job can be removed");

    let seq = fleet.seq().await;
    let gone = Rejected::JobGone(first.id);
    for again in [first.clone(), keyed(1)] {
        let refused = fleet.run(Command::Submit(again)).await;
        assert_eq!(refused.err(), Some(gone.clone()), "it does not run once more");
    }
    let other = fleet.run(Command::Submit(keyed(2))).await;
    assert_eq!(other.err(), Some(Rejected::IdempotencyConflict(first.id)));
    assert_eq!(fleet.seq().await, seq, "refusals change nothing");
    fleet.advance(limits::IDEMPOTENCY);
    let anew = fleet.run(Command::Submit(keyed(1))).await.expect("the key's time is over");
    assert!(matches!(anew.0, Answer::Submitted { existing: None, .. }));
    fleet.check().await.expect("sound");
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
        assert_eq!(fleet.reconcile(Due::Exclusions).await, 1, "nobody else is able");
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

pub async fn held_jobs_are_listed_behind_those_in_their_queues(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 2, &[]).await;
    let [second, first] = [fleet.running(&hand).await, fleet.running(&hand).await];
    let queued = [fleet.submit(spec(0)).await, fleet.submit(spec(0)).await];
    let listed = async |limit| {
        let queues = fleet.store.queues(limit).await.expect("the store works");
        queues.pending.into_iter().map(|job| (job.id, job.hold.is_some())).collect::<Vec<_>>()
    };
    for held in [first, second] {
        fleet.act(&hand, held, failed(FailureKind::ServiceFault)).await.expect("accepted");
        fleet.advance(Duration::from_millis(1));
    }
    let all = [(queued[0], false), (queued[1], false), (first.job, true), (second.job, true)];
    assert_eq!(listed(200).await, all, "of those that are held the soonest first");
    for few in 1..4 {
        assert_eq!(listed(few).await, all[..few]);
    }
    fleet.submit(spec(0)).await;
    fleet.submit(spec(0)).await;
    let some: Vec<_> = listed(4).await.into_iter().filter(|(_, is_held)| *is_held).collect();
    assert_eq!(some, [(first.job, true)], "some of them however many wait");
    fleet.advance(Duration::from_secs(1));
    assert_eq!(fleet.reconcile(Due::Holds).await, 2);
    let released = listed(200).await;
    assert!(released.len() == 6 && released.iter().all(|(_, is_held)| !is_held), "{released:?}");
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

/// A worker tells of a start a little after it was, and counts by a clock of its own.
pub async fn nothing_was_heard_before_the_start(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    fleet.submit(spec(50)).await;
    let held = fleet.claim(&hand).await.expect("the job");
    let heard = fleet.job(held.job).await.assignment().map(|assigned| assigned.assigned_at);
    fleet.advance(Duration::from_millis(800));
    fleet.act(&hand, held, Op::Start).await.expect("started");
    let progress = Progress { n: 1, last_event_at: heard, ..Progress::default() };
    let mut end = failed(FailureKind::BadJob);
    if let Op::Finish(finish) = &mut end {
        finish.last_progress = Some(progress);
    }
    fleet.act(&hand, held, end).await.expect("accepted");
    let record = fleet.job(held.job).await;
    let JobState::Failed(ended, _) = &record.state else { panic!("{:?}", record.state) };
    let last = ended.last_progress.as_ref().expect("it was handed in");
    assert_eq!(last.last_event_at, ended.started_at);
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
    let why = "the last time: lease_expired (the worker went silent)";
    assert!(failure.message.ends_with(why), "{}", failure.message);
    assert_eq!(record.failures, 0, "interrupted is not failed");
    fleet.check().await.expect("sound");
}

/// The operator mended what lost the job: it may be lost as often again.
pub async fn a_retry_forgets_the_losses(open: &Open) {
    let fleet = Fleet::new(open);
    let job = fleet.submit(JobSpec { max_losses: 1, ..spec(50) }).await;
    let lost_by = async |name: &str| {
        let hand = fleet.worker(name, 1, &[]).await;
        let held = fleet.claim(&hand).await.expect("the job");
        fleet.advance(limits::LEASE);
        fleet.run(Fleet::expire(held)).await.expect("the lease is over");
        fleet.job(job).await.status()
    };
    assert_eq!(lost_by("a").await, JobStatus::Pending);
    assert_eq!(lost_by("b").await, JobStatus::Failed);
    fleet.run(Command::Retry { job, run: None }).await.expect("accepted");
    let record = fleet.job(job).await;
    assert_eq!((record.run, record.losses), (2, 0));
    assert_eq!(lost_by("c").await, JobStatus::Pending);
    assert_eq!(lost_by("d").await, JobStatus::Failed);
    let JobState::Failed(_, failure) = fleet.job(job).await.state.clone() else { panic!("failed") };
    assert_eq!(failure.workers.iter().map(WorkerId::as_str).collect::<Vec<_>>(), ["c", "d"]);
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
    let refused = fleet.act(&hand, held, cancelled()).await;
    assert!(matches!(refused, Err(Rejected::Invalid(_))), "nobody asked");
    fleet.run(Command::Cancel { job: held.job }).await.expect("accepted");
    assert_eq!(fleet.job(held.job).await.status(), JobStatus::InProgress);
    let renewed = fleet.renew(&hand, vec![held], ConnectorStatus::Active).await.expect("heard");
    assert_eq!(renewed.cancel, vec![held]);
    fleet.act(&hand, held, cancelled()).await.expect("confirmed");
    assert_eq!(fleet.job(held.job).await.status(), JobStatus::Cancelled);
    let again = fleet.running(&hand).await;
    fleet.run(Command::Cancel { job: again.job }).await.expect("accepted");
    let release = Op::Release { reason: LossReason::ServiceLost, message: String::new() };
    fleet.act(&hand, again, release).await.expect("accepted");
    assert_eq!(fleet.job(again.job).await.status(), JobStatus::Cancelled, "never pending again");
    let fails = fleet.running(&hand).await;
    fleet.run(Command::Cancel { job: fails.job }).await.expect("accepted");
    let end = fleet.act(&hand, fails, failed(FailureKind::ServiceFault)).await;
    assert_eq!(end, Ok(OpAnswer::Settled { status: JobStatus::Cancelled }), "nor tried again");
    fleet.check().await.expect("sound");
}

/// Its new run is a wish of its own.
pub async fn a_cancel_ends_with_the_run_that_it_was_for(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let held = fleet.running(&hand).await;
    fleet.run(Command::Cancel { job: held.job }).await.expect("accepted");
    fleet.act(&hand, held, cancelled()).await.expect("confirmed");
    fleet.run(Command::Retry { job: held.job, run: None }).await.expect("accepted");
    let again = fleet.claim(&hand).await.expect("the job");
    let renewed = fleet.renew(&hand, vec![again], ConnectorStatus::Active).await.expect("heard");
    assert_eq!(renewed.cancel, [], "nobody asked to cancel this run");
    let end = fleet.act(&hand, again, completed()).await;
    assert_eq!(end, Ok(OpAnswer::Settled { status: JobStatus::Completed }));
    fleet.check().await.expect("sound");
}

/// A worker that lost its job, and the one that has it now.
async fn given_away(fleet: &Fleet) -> [(Hand, Held); 2] {
    let ghost = fleet.worker("ghost", 1, &[]).await;
    let stale = fleet.running(&ghost).await;
    fleet.advance(limits::LEASE);
    fleet.run(Fleet::expire(stale)).await.expect("the lease is over");
    let other = fleet.worker("other", 1, &[]).await;
    let held = fleet.claim(&other).await.expect("the job");
    [(ghost, stale), (other, held)]
}

pub async fn a_late_result_is_kept_and_wins_while_the_run_lasts(open: &Open) {
    let fleet = Fleet::new(open);
    let [(ghost, stale), (other, held)] = given_away(&fleet).await;
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
    let never = Held { token: fleet.token(), ..stale };
    assert_eq!(fleet.act(&ghost, never, late()).await, Err(Rejected::UnknownAttempt(stale.job)));
    fleet.check().await.expect("sound");
}

/// Whoever asked was told that the job is being cancelled.
pub async fn a_late_result_loses_to_a_cancel(open: &Open) {
    let fleet = Fleet::new(open);
    let [(ghost, stale), (other, held)] = given_away(&fleet).await;
    fleet.act(&other, held, Op::Start).await.expect("accepted");
    fleet.run(Command::Cancel { job: held.job }).await.expect("accepted");
    assert_eq!(fleet.act(&ghost, stale, late()).await, Ok(OpAnswer::LateKept { won: false }));
    let job = fleet.job(held.job).await;
    assert_eq!((job.status(), job.late_results), (JobStatus::InProgress, 1));
    assert!(job.cancel_requested_at.is_some());
    let kept = fleet.store.result(held.job, Some(stale.token)).await.expect("the store works");
    assert!(kept.is_some(), "the result is kept");
    let renewed = fleet.renew(&other, vec![held], ConnectorStatus::Active).await.expect("heard");
    assert_eq!((renewed.cancel, renewed.lost), (vec![held], vec![]));
    fleet.act(&other, held, cancelled()).await.expect("confirmed");
    assert_eq!(fleet.job(held.job).await.status(), JobStatus::Cancelled);
    fleet.check().await.expect("sound");
}

pub async fn a_retry_is_a_new_run_at_a_new_place(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let held = fleet.running(&hand).await;
    let early = fleet.run(Command::Retry { job: held.job, run: None }).await;
    assert!(matches!(early, Err(Rejected::NotEnded { .. })));
    let assigned_at = fleet.job(held.job).await.assignment().expect("it runs").assigned_at;
    fleet.advance(Duration::from_secs(1));
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
    assert_eq!(job.place, job.queued_seq, "both are those of the retry");
    assert_eq!(job.past[0].assigned_at, assigned_at);
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
    let [(ghost, stale), (_, held)] = given_away(&fleet).await;
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

pub async fn ended_jobs_are_kept_by_count_age_and_bytes(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let mut ended = Vec::new();
    for _ in 0..3 {
        ended.push(fleet.completed(&hand).await);
        fleet.advance(Duration::from_secs(10));
    }
    let each = fleet.job(ended[0]).await.bytes();
    assert_eq!(each, 2 + r#"{"done":true}"#.len() as u64, "payload and result");
    let keep = Retention { ended_bytes: 2 * each, ..Retention::default() };
    assert_eq!(fleet.reconcile(Due::Ended(keep)).await, 1, "the oldest, as one is too many");
    assert_eq!(fleet.reconcile(Due::Ended(keep)).await, 0);
    let keep = Retention { ended_for: Duration::from_secs(15), ..Retention::default() };
    assert_eq!(fleet.reconcile(Due::Ended(keep)).await, 1, "that of 20 s ago");
    assert_eq!(fleet.job(ended[2]).await.status(), JobStatus::Completed);
}

pub async fn what_a_submission_puts_into_the_record_is_counted(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &["label"]).await;
    let note = serde_json::json!({"note": "n".repeat(1_000)});
    let requirements = needs("label");
    let asked = note.to_string().len() + to_json(&requirements).len();
    fleet.submit(JobSpec { metadata: Some(note), requirements, ..spec(50) }).await;
    let held = fleet.claim(&hand).await.expect("a job");
    fleet.act(&hand, held, Op::Start).await.expect("accepted");
    fleet.act(&hand, held, completed()).await.expect("accepted");
    let bytes = fleet.job(held.job).await.bytes();
    assert_eq!(bytes, (asked + 2 + r#"{"done":true}"#.len()) as u64);
    let keep = |ended_bytes| Due::Ended(Retention { ended_bytes, ..Retention::default() });
    assert_eq!(fleet.reconcile(keep(bytes)).await, 0);
    assert_eq!(fleet.reconcile(keep(bytes - 1)).await, 1);
    fleet.check().await.expect("sound");
}

pub async fn late_files_are_counted(open: &Open) {
    let fleet = Fleet::new(open);
    let [(ghost, stale), (other, held)] = given_away(&fleet).await;
    fleet.act(&other, held, completed()).await.expect("accepted");
    let before = fleet.job(held.job).await.bytes();
    let kept = fleet.act(&ghost, stale, late_file(1_000)).await;
    assert_eq!(kept, Ok(OpAnswer::LateKept { won: false }));
    let bytes = fleet.job(held.job).await.bytes();
    assert_eq!(bytes, before + 1_000);
    let keep = |ended_bytes| Due::Ended(Retention { ended_bytes, ..Retention::default() });
    assert_eq!(fleet.reconcile(keep(bytes)).await, 0);
    assert_eq!(fleet.reconcile(keep(bytes - 1)).await, 1);
    fleet.check().await.expect("sound");
}

pub async fn ended_jobs_are_listed_by_their_end(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 4, &[]).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(fleet.running(&hand).await);
    }
    let [a, b, c, d] = held[..] else { panic!("four are running") };
    fleet.submit(spec(50)).await;
    for (held, op) in [(c, completed()), (a, failed(FailureKind::BadJob)), (b, completed())] {
        fleet.act(&hand, held, op).await.expect("accepted");
    }
    let listed = async |filter: &JobFilter, limit: usize| {
        let (mut pages, mut before) = (Vec::new(), None);
        loop {
            let page = fleet.store.ended_jobs(filter.clone(), before, limit).await;
            let page = page.expect("the store works");
            pages.push(page.jobs.iter().map(|job| job.id).collect::<Vec<_>>());
            before = page.next;
            if before.is_none() {
                return pages;
            }
        }
    };
    let all = JobFilter::default();
    assert_eq!(listed(&all, 10).await, [vec![b.job, a.job, c.job]]);
    assert_eq!(listed(&all, 2).await, [vec![b.job, a.job], vec![c.job]]);
    assert_eq!(listed(&all, 3).await, [vec![b.job, a.job, c.job]], "and no page after the last");
    let some = JobFilter { status: Some(JobStatus::Completed), ..JobFilter::default() };
    assert_eq!(listed(&some, 1).await, [vec![b.job], vec![c.job]]);
    // One that is retried is no longer among them, and then has another place.
    fleet.run(Command::Retry { job: c.job, run: None }).await.expect("accepted");
    assert_eq!(listed(&all, 10).await, [vec![b.job, a.job]]);
    fleet.act(&hand, d, completed()).await.expect("accepted");
    fleet.run(Command::Cancel { job: c.job }).await.expect("accepted");
    assert_eq!(listed(&all, 10).await, [vec![c.job, d.job, b.job, a.job]]);
}
