//! A stored record that cannot be read prevents nothing: it is set aside as it stands, and told; and
//! read from the log, where that still has it.

use pointsman_core::{
    Command, RecordKey,
    command::Idempotency,
    doctor::{MendOutcome, Mended},
};
use pointsman_store::{
    Depth,
    conformance::fleet::{Fleet, completed, spec},
};

use crate::support::{count, database, durable_picture, fleet, submit_and_finish};

#[tokio::test]
async fn records_that_cannot_be_read_are_set_aside() {
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
    db.execute("DELETE FROM log", []).unwrap();
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
        let found = after.store.examine(Depth::Fleet).await.unwrap().findings;
        assert!(found[2].cure.contains("while the server is stopped"), "{:?}", found[2]);
        let counts = after.store.queues(10).await.unwrap().counts;
        assert_eq!((counts.pending, counts.workers), (1, 1));
        assert_eq!(after.store.gone(vec![good, bad]).await.unwrap(), [], "it may come back");
        after.store.close().await.unwrap();
    }
    let db = database(dir.path());
    assert_eq!(count(&db, "quarantine"), 2);
    let text = "SELECT CAST(record AS TEXT) FROM quarantine WHERE kind = 'job'";
    let text: String = db.query_row(text, [], |row| row.get(0)).unwrap();
    assert_eq!(text, "{\"id\": 7, broken");
}

/// Rows that say nothing, not even by what they are found.
#[tokio::test]
async fn a_row_of_any_kind_that_cannot_be_read_prevents_nothing() {
    let wounds = [
        ("UPDATE idempotency SET body = X'00'", "quarantined:idempotency/acme/order-7"),
        ("UPDATE idempotency SET until_ms = 'later'", "quarantined:idempotency/acme/order-7"),
        ("UPDATE idempotency SET customer = X'FF'", "quarantined:idempotency/\u{fffd}/order-7"),
        ("UPDATE idempotency SET customer = char(7)", "quarantined:idempotency/\u{7}/order-7"),
        ("UPDATE records SET id = X'FF' WHERE kind = 'alert'", "quarantined:alert/\u{fffd}"),
        ("UPDATE capabilities SET digest = 7", "quarantined:capabilities/37"),
    ];
    for (wound, finding) in wounds {
        let dir = tempfile::tempdir().unwrap();
        let before = fleet(dir.path());
        before.worker("w", 1, &[]).await;
        let mut submit = before.submission(spec(50));
        submit.spec.customer_id = Some("acme".parse().unwrap());
        submit.idempotency = Some(Idempotency { key: "order-7".into(), body: [0; 32] });
        before.run(Command::Submit(submit)).await.unwrap();
        before.store.close().await.unwrap();
        let db = database(dir.path());
        db.execute("INSERT INTO records VALUES ('alert', 'a', '{')", []).unwrap();
        assert_eq!(db.execute(wound, []).unwrap(), 1, "{wound}");
        drop(db);

        for opening in 1..=2 {
            let after = fleet(dir.path());
            let told = after.findings().await;
            assert!(told.contains(&finding.to_owned()), "{wound}, opening {opening}: {told:?}");
            after.worker("v", 1, &[]).await;
            after.store.close().await.unwrap();
        }
        let db = database(dir.path());
        let twice =
            "SELECT count(*) FROM (SELECT 1 FROM quarantine GROUP BY kind HAVING count(*) > 1)";
        assert_eq!(db.query_row(twice, [], |row| row.get::<_, i64>(0)).unwrap(), 0, "{wound}");
    }
}

/// What names a row is wrong, and what stands in it says whose it is.
#[tokio::test]
async fn a_job_whose_row_is_named_wrong_is_known_by_its_record() {
    for (wound, has_log) in [
        ("UPDATE jobs SET id = 7 WHERE n = 1", true),
        ("UPDATE jobs SET id = zeroblob(16) WHERE n = 1", true),
        ("UPDATE jobs SET id = zeroblob(16) WHERE n = 1", false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let before = fleet(dir.path());
        let hand = before.worker("w", 1, &[]).await;
        let job = before.submit(spec(50)).await;
        let whole = before.job(job).await;
        before.store.close().await.unwrap();
        let db = database(dir.path());
        assert_eq!(db.execute(wound, []).unwrap(), 1, "{wound}");
        if !has_log {
            db.execute("DELETE FROM log", []).unwrap();
        }
        drop(db);
        for opening in 1..=2 {
            let after = fleet(dir.path());
            assert_eq!(after.job(job).await, whole, "{wound}, opening {opening}");
            assert_eq!(after.store.gone(vec![job]).await.unwrap(), []);
            assert_eq!(after.findings().await, [format!("quarantined:job/{job}")]);
            after.store.close().await.unwrap();
        }
        let after = fleet(dir.path());
        after.store.mend(None).await.unwrap();
        after.check().await.unwrap();
        assert_eq!(after.claim(&hand).await.map(|held| held.job), Some(job), "{wound}");
    }
}

/// A record whose id was changed is not another job as long as the log knows the one that it was.
#[tokio::test]
async fn a_job_whose_record_names_another_is_read_from_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let before = fleet(dir.path());
    let job = before.submit(spec(50)).await;
    let whole = before.job(job).await;
    before.store.close().await.unwrap();
    let other = uuid::Uuid::nil().to_string();
    let wound = "UPDATE jobs SET record = replace(record, ?1, ?2)";
    let wounded = database(dir.path()).execute(wound, [job.to_string(), other]).unwrap();
    assert_eq!(wounded, 1);
    let after = fleet(dir.path());
    assert_eq!(after.job(job).await, whole);
    assert_eq!(after.store.queues(10).await.unwrap().counts.pending, 1);
}

/// A key is of use for a day, and nothing but that is lost with it.
#[tokio::test]
async fn an_idempotency_key_that_was_set_aside_is_taken_away_by_a_repair() {
    let dir = tempfile::tempdir().unwrap();
    let before = fleet(dir.path());
    let submit = |fleet: &Fleet| {
        let mut submit = fleet.submission(spec(50));
        submit.idempotency = Some(Idempotency { key: "order-7".into(), body: [0; 32] });
        Command::Submit(submit)
    };
    before.run(submit(&before)).await.unwrap();
    before.store.close().await.unwrap();
    database(dir.path()).execute("UPDATE idempotency SET job = X'00'", []).unwrap();

    let after = fleet(dir.path());
    let found = after.store.examine(Depth::Fleet).await.unwrap().findings;
    let [finding] = &found[..] else { panic!("{found:?}") };
    assert_eq!(finding.id, "quarantined:idempotency/order-7");
    assert!(finding.consequence.contains("a second job"), "{finding:?}");
    let mended = after.store.mend(None).await.unwrap();
    assert_eq!(mended[0].outcome, MendOutcome::Repaired);
    after.check().await.unwrap();
    after.token();
    after.run(submit(&after)).await.unwrap();
    assert_eq!(after.store.queues(10).await.unwrap().counts.pending, 2);
    after.store.close().await.unwrap();
    assert_eq!(count(&database(dir.path()), "quarantine"), 0);
}

/// A job that is set aside keeps its payload: no other job gets it, or its place.
#[tokio::test]
async fn what_belongs_to_a_job_set_aside_stays_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let before = fleet(dir.path());
    let bad = before.submit(spec(50)).await;
    before.store.close().await.unwrap();
    let db = database(dir.path());
    db.execute("UPDATE jobs SET record = X'FF00'", []).unwrap();
    db.execute("DELETE FROM log", []).unwrap();
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

/// Where the log still has it, nothing is lost: as it was last, under its number, with its payload.
#[tokio::test]
async fn what_cannot_be_read_is_read_from_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let before = fleet(dir.path());
    let hand = before.worker("w", 2, &[]).await;
    let held = before.running(&hand).await;
    let waits = before.submit(spec(50)).await;
    let picture = durable_picture(&*before.store).await;
    before.store.close().await.unwrap();
    let db = database(dir.path());
    db.execute_batch("UPDATE jobs SET record = '{x'; UPDATE records SET record = X'FF'").unwrap();
    drop(db);

    let after = fleet(dir.path());
    assert_eq!(durable_picture(&*after.store).await, picture);
    let payloads = after.store.payloads(vec![held.job, waits]).await.unwrap();
    assert!(payloads.iter().all(Option::is_some), "{payloads:?}");
    let mended = after.store.mend(None).await.unwrap();
    assert_eq!(mended.len(), 5, "both jobs, worker, machine and connector: {mended:?}");
    for Mended { finding, outcome } in &mended {
        assert!(finding.id.starts_with("quarantined:"), "{finding:?}");
        assert_eq!(*outcome, MendOutcome::Repaired, "{finding:?}");
    }
    after.check().await.unwrap();
    after.act(&hand, held, completed()).await.unwrap();
    after.store.close().await.unwrap();
    let again = fleet(dir.path());
    again.check().await.unwrap();
    assert!(again.job(held.job).await.is_ended() && again.job(waits).await.is_pending());
}

/// What lies behind a gap of the log may be older than what the row said.
#[tokio::test]
async fn a_log_with_a_gap_is_not_read_beyond_it() {
    for gap in
        ["DELETE FROM log WHERE last_seq = SEQ", "UPDATE log SET lines = '{x' WHERE last_seq = SEQ"]
    {
        let dir = tempfile::tempdir().unwrap();
        let before = fleet(dir.path());
        let hand = before.worker("w", 1, &[]).await;
        let job = submit_and_finish(&before, &hand).await;
        let seq = before.seq().await;
        let newer = before.submit(spec(50)).await;
        before.store.close().await.unwrap();
        let db = database(dir.path());
        assert_eq!(db.execute(&gap.replace("SEQ", &seq.to_string()), []).unwrap(), 1, "{gap}");
        db.execute("UPDATE jobs SET record = '{x'", []).unwrap();
        drop(db);

        let after = fleet(dir.path());
        let records = vec![RecordKey::Job(job), RecordKey::Job(newer)];
        let found = after.store.records(records).await.unwrap();
        let found: Vec<_> = found.iter().map(|record| record.key()).collect();
        assert_eq!(found, [RecordKey::Job(newer)], "{gap}");
        assert!(after.findings().await.contains(&format!("quarantined:job/{job}")), "{gap}");
    }
}

/// Whoever deletes what was set aside leaves behind what was kept beside it.
#[tokio::test]
async fn what_was_kept_beside_a_job_that_is_gone_is_found_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let before = fleet(dir.path());
    let hand = before.worker("w", 1, &[]).await;
    let lost = submit_and_finish(&before, &hand).await;
    let kept = submit_and_finish(&before, &hand).await;
    before.store.close().await.unwrap();
    let db = database(dir.path());
    assert_eq!(db.execute("UPDATE jobs SET record = '{' WHERE n = 1", []).unwrap(), 1);
    db.execute("DELETE FROM log", []).unwrap();
    drop(db);
    let aside = fleet(dir.path());
    assert_eq!(aside.findings().await, [format!("quarantined:job/{lost}")]);
    aside.store.close().await.unwrap();
    assert_eq!(database(dir.path()).execute("DELETE FROM quarantine", []).unwrap(), 1);

    let after = fleet(dir.path());
    let found = after.store.examine(Depth::Everything).await.unwrap();
    let [stray] = &found.findings[..] else { panic!("{found:?}") };
    assert_eq!(stray.id, "index_without_record:index/payload:1");
    let (_, cure) = stray.cure.split_once('`').unwrap();
    let (query, _) = cure.split_once('`').unwrap();
    let payload: Vec<u8> = database(dir.path()).query_row(query, [], |row| row.get(0)).unwrap();
    let payloads = after.store.payloads(vec![kept]).await.unwrap();
    assert_eq!(payloads, [Some(payload.into())], "what the cure names is there");
    let Mended { finding, outcome } = &after.store.mend(None).await.unwrap()[0];
    assert_eq!((finding, outcome), (stray, &MendOutcome::Repaired));
    after.check().await.unwrap();
    let db = database(dir.path());
    assert_eq!((count(&db, "payloads"), count(&db, "results")), (1, 1), "those of the other job");
    assert!(after.store.result(kept, None).await.unwrap().is_some());
}
