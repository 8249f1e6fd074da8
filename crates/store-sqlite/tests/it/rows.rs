//! Rows that somebody changed while the store is open: found, written anew as the store holds them,
//! and never told of what merely changes.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use pointsman_core::{
    Command,
    command::Idempotency,
    doctor::{Mend, MendOutcome},
};
use pointsman_store::{
    Depth,
    conformance::fleet::{Fleet, Hand, completed, spec},
};

use crate::support::{count, database, durable_picture, fleet, remove, submit_and_finish};

/// Each change of rows, what it is found as, and what is said of it.
const WOUNDS: [(&str, &[&str], &str); 12] = [
    ("DELETE FROM jobs WHERE n = 2", &["lost_record:job/WAITING"], "is gone"),
    ("UPDATE jobs SET record = '{x' WHERE n = 2", &["unreadable_field:job/WAITING"], "key must"),
    ("UPDATE jobs SET record = X'FF' WHERE n = 1", &["unreadable_field:job/ENDED"], "cannot be"),
    ("UPDATE jobs SET id = 7 WHERE n = 2", &["unreadable_field:job/WAITING"], "its row is 37"),
    (
        "UPDATE jobs SET record = json_set(record, '$.place', 7) WHERE n = 2",
        &["contradiction:job/WAITING"],
        "place is 7 in the database, and the server holds ",
    ),
    (
        "DELETE FROM records",
        &["lost_record:machine/m-w", "lost_record:worker/w", "lost_record:connector/w:simulation"],
        "is gone",
    ),
    (
        "UPDATE records SET record = json_set(record, '$.status', 'offline') WHERE kind = 'machine'",
        &["contradiction:machine/m-w"],
        "status is \"offline\" in the database",
    ),
    ("UPDATE records SET id = 'v' WHERE id = 'w'", &["lost_record:worker/w"], "is gone"),
    ("DELETE FROM capabilities", &["lost_record:capabilities/DIGEST"], "is gone"),
    ("UPDATE capabilities SET json = '{}'", &["unreadable_field:capabilities/DIGEST"], "digest"),
    ("DELETE FROM idempotency", &["lost_record:idempotency/order-7"], "is gone"),
    (
        "UPDATE idempotency SET until_ms = until_ms - 1",
        &["contradiction:idempotency/order-7"],
        "says something else",
    ),
];

#[tokio::test]
async fn rows_that_are_not_what_is_held_are_found_and_written_anew() {
    for (wound, expected, said) in WOUNDS {
        let dir = tempfile::tempdir().unwrap();
        let open = fleet(dir.path());
        let hand = open.worker("w", 1, &[]).await;
        let ended = submit_and_finish(&open, &hand).await;
        let mut submit = open.submission(spec(50));
        let waiting = submit.id;
        submit.idempotency = Some(Idempotency { key: "order-7".into(), body: [0; 32] });
        open.run(Command::Submit(submit)).await.unwrap();
        let digest = open.worker_record(&hand).await.capabilities_digest;
        assert_eq!(open.findings().await, Vec::<String>::new());
        let before = durable_picture(&*open.store).await;

        assert!(database(dir.path()).execute(wound, []).unwrap() > 0, "{wound}");
        let named = |id: &&str| {
            let id = id.replace("WAITING", &waiting.to_string());
            id.replace("ENDED", &ended.to_string()).replace("DIGEST", &digest.to_string())
        };
        let expected: Vec<_> = expected.iter().map(named).collect();
        let found = open.store.examine(Depth::Everything).await.unwrap().findings;
        let ids: Vec<_> = found.iter().map(|finding| finding.id.clone()).collect();
        assert_eq!(ids, expected, "{wound}");
        assert!(found.iter().all(|finding| finding.mend == Mend::Repair), "{wound}: {found:?}");
        assert!(found.iter().all(|finding| finding.problem.contains(said)), "{wound}: {found:?}");

        let others = open.store.mend(Some(vec!["wrong_status:worker/w".into()])).await.unwrap();
        assert_eq!(others, [], "nothing but what was asked for is mended");
        assert_eq!(open.findings().await, expected, "{wound}");
        let mended = open.store.mend(Some(expected.clone())).await.unwrap();
        assert_eq!(mended.len(), expected.len(), "{wound}: {mended:?}");
        assert!(mended.iter().all(|m| m.outcome == MendOutcome::Repaired), "{wound}: {mended:?}");
        open.check().await.unwrap();
        open.store.close().await.unwrap();

        // A row under another name is another record's.
        database(dir.path()).execute("DELETE FROM records WHERE id = 'v'", []).unwrap();
        let after = fleet(dir.path());
        after.check().await.unwrap();
        assert_eq!(durable_picture(&*after.store).await, before, "{wound}");
    }
}

/// Nobody need look: whatever is written next is written whole.
#[tokio::test]
async fn a_row_that_is_gone_is_there_again_with_the_next_change() {
    let dir = tempfile::tempdir().unwrap();
    let open = fleet(dir.path());
    let hand = open.worker("w", 1, &[]).await;
    let job = open.submit(spec(50)).await;
    let db = database(dir.path());
    assert_eq!(db.execute("DELETE FROM jobs", []).unwrap(), 1);
    assert_eq!(open.claim(&hand).await.map(|held| held.job), Some(job));
    assert_eq!(count(&db, "jobs"), 1);
    open.check().await.unwrap();
}

/// More than one page of jobs and of keys.
#[tokio::test]
async fn every_row_is_looked_at() {
    const JOBS: i64 = 600;
    let dir = tempfile::tempdir().unwrap();
    let open = fleet(dir.path());
    let submit = |n| {
        let mut submit = open.submission(spec(50));
        submit.idempotency = Some(Idempotency { key: format!("order-{n}"), body: [0; 32] });
        Command::Submit(submit)
    };
    open.store.execute((0..JOBS).map(submit).collect()).await.unwrap();
    let db = database(dir.path());
    db.execute_batch("DELETE FROM jobs; DELETE FROM idempotency").unwrap();
    let found = open.store.examine(Depth::Everything).await.unwrap();
    assert_eq!((found.findings.len(), found.more), (1_000, true));
    let mut left = 0;
    while !open.store.mend(None).await.unwrap().is_empty() {
        left += 1;
        assert!(left < 3, "two repairs write everything");
    }
    assert_eq!((count(&db, "jobs"), count(&db, "idempotency")), (JOBS, JOBS));
    open.check().await.unwrap();
}

/// Jobs come, run, end and are removed under it, with their keys; workers report.
async fn work(fleet: &Fleet, hand: &Hand, is_over: &AtomicBool, done: &AtomicU64) {
    for n in 0.. {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        let mut submit = fleet.submission(spec(50));
        let key = format!("{}-{n}", hand.worker);
        submit.idempotency = Some(Idempotency { key, body: [0; 32] });
        fleet.run(Command::Submit(submit)).await.unwrap();
        let Some(held) = fleet.claim(hand).await else { continue };
        fleet.act(hand, held, completed()).await.unwrap();
        if n % 3 == 0 {
            remove(fleet, held.job).await;
            // Keys end, too.
            fleet.advance(Duration::from_secs(3600));
            fleet.report(hand, pointsman_core::record::ConnectorStatus::Idle).await;
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_told_of_what_changes_while_it_is_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let open = fleet(dir.path());
    for _ in 0..50 {
        open.submit(spec(10)).await;
    }
    let (is_over, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut hands = Vec::new();
    for name in ["a", "b", "c", "d", "e", "f"] {
        hands.push(open.worker(name, 1, &[]).await);
    }
    let looks = async {
        let mut looks = 0;
        while looks < 20 || done.load(Ordering::Relaxed) < 100 {
            let found = open.store.examine(Depth::Everything).await.unwrap();
            assert_eq!(found.findings, [], "after {looks} looks");
            looks += 1;
        }
        is_over.store(true, Ordering::Relaxed);
    };
    let works = hands.iter().map(|hand| work(&open, hand, &is_over, &done));
    tokio::join!(looks, futures::future::join_all(works));
    open.check().await.unwrap();
}
