//! What was acknowledged is there after a restart, and nothing else.

use std::{any::Any, sync::Arc, time::Duration};

use futures::future::join_all;
use pointsman_core::{
    Answer, Command, JobId, LogGroup, LossReason,
    command::{Idempotency, Op},
    decide::limits,
    matching::digest,
    record::JobSpec,
};
use pointsman_store::{
    Depth, Due, ManualClock, Retention, Store,
    conformance::{
        fleet::{Fleet, completed, late, late_file, spec},
        model::{Script, actions},
    },
};
use pointsman_store_sqlite::SqliteStore;
use proptest::{prelude::*, test_runner::TestRunner};

use crate::support::{count, database, durable_picture, fleet, options, remove, submit_and_finish};

/// Random lives, closed and opened: the same records, queues and log, and the next command goes
/// on where the last one ended.
#[test]
fn a_reopened_store_is_the_same() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let config = ProptestConfig { cases: 32, failure_persistence: None, ..Default::default() };
    let outcome = TestRunner::new(config).run(&actions(60), |actions| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        let open = move |clock: ManualClock| -> (Arc<dyn Store>, Box<dyn Any>) {
            let store = SqliteStore::open(&path, options(&clock)).unwrap();
            (Arc::new(store), Box::new(clock))
        };
        runtime.block_on(async {
            let mut script = Script::new(&open).await;
            for action in &actions {
                script.act(action).await;
            }
            let clock = script.fleet.clock.clone();
            let before = (durable_picture(&*script.fleet.store).await, script.fleet.log().await);
            drop(script);

            let (again, _) = open(clock);
            prop_assert_eq!(durable_picture(&*again).await, before.0);
            prop_assert_eq!(log_of(&*again).await, before.1);
            let found = again.examine(Depth::Everything).await.unwrap();
            prop_assert_eq!(found.findings, []);
            Ok(())
        })
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

async fn log_of(store: &dyn Store) -> Vec<Arc<LogGroup>> {
    match store.log(0, usize::MAX).await.unwrap() {
        pointsman_store::LogPage::Groups(groups) => groups,
        cut => panic!("{cut:?}"),
    }
}

#[tokio::test]
async fn payloads_results_and_capabilities_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let before = fleet(dir.path());
    let hand = before.worker("w", 2, &["fast"]).await;
    let mut submission = before.submission(spec(50));
    submission.payload = Arc::from(&b"{\"big\":1}"[..]);
    let job = submission.id;
    before.run(Command::Submit(submission)).await.unwrap();
    // The first attempt loses the job, and hands its result in late, after the second one's.
    let lost = before.claim(&hand).await.unwrap();
    let first = lost.token;
    let release = pointsman_core::command::Op::Release {
        reason: pointsman_core::LossReason::ServiceLost,
        message: String::new(),
    };
    before.act(&hand, lost, release).await.unwrap();
    let held = before.claim(&hand).await.unwrap();
    before.act(&hand, held, completed()).await.unwrap();
    before.act(&hand, lost, late()).await.unwrap();
    let epoch = before.store.epoch();
    before.store.close().await.unwrap();

    let after = fleet(dir.path());
    assert_eq!(after.store.epoch(), epoch);
    let payloads =
        after.store.payloads(vec![job, pointsman_core::JobId::from_uuid(uuid::Uuid::nil())]);
    assert_eq!(payloads.await.unwrap(), [Some(Arc::from(&b"{\"big\":1}"[..])), None]);
    let done: Arc<[u8]> = Arc::from(&b"{\"done\":true}"[..]);
    for token in [None, Some(first), Some(held.token)] {
        assert_eq!(after.store.result(job, token).await.unwrap(), Some(done.clone()));
    }
    let nobody = after.token();
    assert_eq!(after.store.result(job, Some(nobody)).await.unwrap(), None);
    let register = Fleet::registration(&hand, 2, &["fast"]);
    let digest = digest(&register.capabilities);
    let kept = after.store.capabilities(digest).await.unwrap();
    assert_eq!(kept.as_deref(), Some(&register.capabilities));
}

#[tokio::test]
async fn idempotency_keys_are_still_their_customers_own() {
    let dir = tempfile::tempdir().unwrap();
    let customers = [None, Some("a"), Some("b")];
    let submit = async |fleet: &Fleet, customer: Option<&str>| {
        let mut submit = fleet.submission(spec(50));
        submit.id = JobId::from_uuid(uuid::Uuid::now_v7());
        submit.spec.customer_id = customer.map(|id| id.parse().unwrap());
        submit.idempotency = Some(Idempotency { key: "order-1".into(), body: [1; 32] });
        match fleet.run(Command::Submit(submit)).await.unwrap().0 {
            Answer::Submitted { id, existing } => (id, existing.is_some()),
            other => panic!("a submission was answered {other:?}"),
        }
    };
    let before = fleet(dir.path());
    let mut jobs = Vec::new();
    for customer in customers {
        let (job, existed) = submit(&before, customer).await;
        assert!(!existed, "{customer:?}");
        jobs.push(job);
    }
    before.store.close().await.unwrap();
    let after = fleet(dir.path());
    for (customer, job) in customers.into_iter().zip(jobs) {
        assert_eq!(submit(&after, customer).await, (job, true), "{customer:?}");
    }
}

/// A server that was away does not take that for the workers' silence: a running job is not given
/// back for it.
#[tokio::test]
async fn no_running_job_is_given_back_because_the_server_was_away() {
    let dir = tempfile::tempdir().unwrap();
    let before = fleet(dir.path());
    let hand = before.worker("w", 1, &[]).await;
    let held = before.running(&hand).await;
    before.store.close().await.unwrap();

    let after = fleet(dir.path());
    for moment in 0..9 {
        assert_eq!(after.reconcile(pointsman_store::Due::Leases).await, 0, "{moment} s");
        after.advance(std::time::Duration::from_secs(1));
    }
    assert!(after.job(held.job).await.is_running());
}

/// What belongs to a job goes with it.
#[tokio::test]
async fn a_removed_job_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = fleet(dir.path());
    let hand = fleet.worker("w", 1, &[]).await;
    let job = submit_and_finish(&fleet, &hand).await;
    let kept = submit_and_finish(&fleet, &hand).await;
    remove(&fleet, job).await;
    assert_eq!(fleet.store.payloads(vec![job]).await.unwrap(), [None]);
    assert_eq!(fleet.store.result(job, None).await.unwrap(), None);
    assert!(fleet.store.result(kept, None).await.unwrap().is_some());
    fleet.store.close().await.unwrap();
    let db = database(dir.path());
    for table in ["jobs", "payloads", "results"] {
        assert_eq!(count(&db, table), 1, "{table}");
    }
}

/// Requests that queue up while another batch is written are one batch; each gets its own answer.
#[tokio::test]
async fn many_callers_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = fleet(dir.path());
    let mut events = fleet.store.subscribe();
    let ids = join_all((0..200).map(|_| fleet.submit(spec(50)))).await;
    for seq in 1..=200 {
        assert_eq!(events.try_recv().unwrap().seq, seq);
    }
    let log = fleet.log().await;
    assert_eq!(
        log.iter().map(|group| group.seq).collect::<Vec<_>>(),
        (1..=200).collect::<Vec<_>>()
    );
    let payloads = fleet.store.payloads(ids).await.unwrap();
    assert!(payloads.iter().all(Option::is_some));
}

/// An idempotency key names its job for a day, restarts included, and then no more.
#[tokio::test]
async fn idempotency_keys_are_kept_for_a_day() {
    let dir = tempfile::tempdir().unwrap();
    let with_key = |fleet: &Fleet| {
        let mut submission = fleet.submission(spec(50));
        let idempotency =
            pointsman_core::command::Idempotency { key: "mine".into(), body: [7; 32] };
        submission.idempotency = Some(idempotency);
        submission
    };
    let before = fleet(dir.path());
    let first = with_key(&before);
    before.run(Command::Submit(first.clone())).await.unwrap();
    before.store.close().await.unwrap();

    let after = fleet(dir.path());
    // A fleet draws the same ids again: these are passed over.
    after.submission(spec(50));
    let (answer, group) = after.run(Command::Submit(with_key(&after))).await.unwrap();
    let pointsman_core::Answer::Submitted { id, existing: Some(_) } = answer else {
        panic!("{answer:?}");
    };
    assert_eq!((id, group), (first.id, None));
    after.advance(std::time::Duration::from_secs(24 * 3600));
    let (answer, group) = after.run(Command::Submit(with_key(&after))).await.unwrap();
    assert!(group.is_some(), "{answer:?}");
    after.store.close().await.unwrap();
    assert_eq!(count(&database(dir.path()), "idempotency"), 1);
}

/// Which classes lose job after job is known again: from losses of jobs that wait and that ended,
/// and from the completions since.
#[tokio::test]
async fn a_poisonous_class_stays_so() {
    let dir = tempfile::tempdir().unwrap();
    let ails = async |fleet: &Fleet| fleet.store.poisonous().await.unwrap();
    let opened = fleet(dir.path());
    let release = Op::Release { reason: LossReason::ServiceLost, message: String::new() };
    let waiting = opened.submit(JobSpec { max_losses: 90, ..spec(50) }).await;
    for n in 0..limits::POISONOUS_AFTER {
        if n != 1 {
            opened.submit(JobSpec { max_losses: 0, ..spec(90) }).await;
        }
        let hand = opened.worker(&format!("w{n}"), 1, &[]).await;
        let held = opened.claim(&hand).await.unwrap();
        opened.act(&hand, held, release.clone()).await.unwrap();
        opened.advance(Duration::from_millis(1));
    }
    let ailing = ails(&opened).await;
    assert_eq!(ailing.len(), 1);
    let clock = opened.clock.clone();
    drop(opened);

    let options = options(&clock);
    let store = Arc::new(SqliteStore::open(dir.path(), options.clone()).unwrap());
    let again = Fleet::on(&store);
    assert_eq!(ails(&again).await, ailing);
    let hand = again.worker("fresh", 9, &[]).await;
    let held = again.claim(&hand).await.unwrap();
    assert_eq!(held.job, waiting);
    again.act(&hand, held, completed()).await.unwrap();
    again.submit(spec(50)).await;
    assert_eq!(ails(&again).await, []);
    drop((again, store));

    let store = Arc::new(SqliteStore::open(dir.path(), options).unwrap());
    assert_eq!(ails(&Fleet::on(&store)).await, [], "the completion is known too");
}

/// Whichever version wrote them: a start counts what the records list.
#[tokio::test]
async fn the_files_of_late_results_are_counted_at_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let before = fleet(dir.path());
    let hand = before.worker("w", 1, &[]).await;
    let lost = before.running(&hand).await;
    let release = Op::Release { reason: LossReason::ServiceLost, message: String::new() };
    before.act(&hand, lost, release).await.unwrap();
    let held = before.claim(&hand).await.unwrap();
    before.act(&hand, held, completed()).await.unwrap();
    before.act(&hand, lost, late_file(1_000)).await.unwrap();
    let bytes = before.job(lost.job).await.bytes();
    before.store.close().await.unwrap();
    let after = fleet(dir.path());
    after.check().await.unwrap();
    let keep = |ended_bytes| Due::Ended(Retention { ended_bytes, ..Retention::default() });
    assert_eq!(after.reconcile(keep(bytes)).await, 0);
    assert_eq!(after.reconcile(keep(bytes - 1)).await, 1);
}
