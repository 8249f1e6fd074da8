//! A stored record that cannot be read prevents nothing: it is put aside as it stands, and told.

use pointsman_store::conformance::fleet::spec;

use crate::support::{count, database, fleet, submit_and_finish};

#[tokio::test]
async fn records_that_cannot_be_read_are_put_aside() {
    let dir = tempfile::tempdir().unwrap();
    let before = fleet(dir.path());
    before.worker("good", 1, &[]).await;
    before.worker("bad", 1, &[]).await;
    let (good, bad) = (before.submit(spec(50)).await, before.submit(spec(50)).await);
    before.store.close().await.unwrap();
    let db = database(dir.path());
    let broken = "UPDATE jobs SET record = '{\"id\": 7, broken' WHERE n = 2";
    assert_eq!(db.execute(broken, []).unwrap(), 1);
    let broken = "UPDATE records SET record = 'nonsense' WHERE kind = 'worker' AND id = 'bad'";
    assert_eq!(db.execute(broken, []).unwrap(), 1);
    drop(db);

    // The first opening puts it aside, the second finds it there.
    for opening in 1..=2 {
        let after = fleet(dir.path());
        assert!(after.job(good).await.is_pending());
        let told = after.findings().await;
        let expected = [
            "unknown_worker:connector/bad:simulation".to_owned(),
            "quarantined:worker/bad".to_owned(),
            format!("quarantined:job/{bad}"),
        ];
        assert_eq!(told, expected, "opening {opening}");
        let counts = after.store.queues(10).await.unwrap().counts;
        assert_eq!((counts.pending, counts.workers), (1, 1));
        after.store.close().await.unwrap();
    }
    let db = database(dir.path());
    assert_eq!(count(&db, "quarantine"), 2);
    let text = "SELECT CAST(record AS TEXT) FROM quarantine WHERE kind = 'job'";
    let text: String = db.query_row(text, [], |row| row.get(0)).unwrap();
    assert_eq!(text, "{\"id\": 7, broken");
}

/// A job that is put aside keeps its payload: no other job gets it, or its place.
#[tokio::test]
async fn what_belongs_to_a_job_put_aside_stays_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let before = fleet(dir.path());
    let bad = before.submit(spec(50)).await;
    before.store.close().await.unwrap();
    let db = database(dir.path());
    db.execute("UPDATE jobs SET record = X'FF00'", []).unwrap();
    drop(db);
    for _ in 0..2 {
        fleet(dir.path()).store.close().await.unwrap();
    }
    let after = fleet(dir.path());
    after.submission(spec(50));
    let hand = after.worker("w", 1, &[]).await;
    let job = submit_and_finish(&after, &hand).await;
    assert_ne!(job, bad);
    after.store.close().await.unwrap();
    let db = database(dir.path());
    assert_eq!(count(&db, "payloads"), 2);
    assert_eq!(count(&db, "quarantine"), 1);
}

/// A newer program's fields are written back as they were.
#[tokio::test]
async fn unknown_fields_survive() {
    let dir = tempfile::tempdir().unwrap();
    let before = fleet(dir.path());
    let hand = before.worker("w", 1, &[]).await;
    let job = before.submit(spec(50)).await;
    before.store.close().await.unwrap();
    let db = database(dir.path());
    for table in ["jobs", "records"] {
        let add = format!("UPDATE {table} SET record = json_set(record, '$.from_later', 42)");
        db.execute(&add, []).unwrap();
    }
    drop(db);

    let after = fleet(dir.path());
    after.report(&hand, pointsman_core::record::ConnectorStatus::Idle).await;
    let held = after.claim(&hand).await.unwrap();
    assert_eq!(held.job, job);
    after.store.close().await.unwrap();
    let db = database(dir.path());
    for table in ["jobs", "records"] {
        let lost = format!(
            "SELECT count(*) FROM {table} WHERE json_extract(record, '$.from_later') IS NOT 42"
        );
        assert_eq!(db.query_row(&lost, [], |row| row.get::<_, i64>(0)).unwrap(), 0, "{table}");
    }
}
