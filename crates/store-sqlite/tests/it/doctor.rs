//! Rows that somebody changed by hand: found after the next start, mended, and sound from then on.

use pointsman_core::{
    Command, Incarnation,
    doctor::{Mend, MendOutcome, Mended},
};
use pointsman_store::{
    Depth, Store,
    conformance::fleet::{Fleet, Hand, spec},
};

use crate::support::{count, database, fleet, submit_and_finish};

async fn mend(store: &dyn Store) -> Vec<Mended> {
    store.mend(None).await.unwrap()
}

/// Each change of a row, and what it is found as.
const WOUNDS: [(&str, &[&str]); 8] = [
    (
        "UPDATE records SET record = json_set(record, '$.machine_id', 'unknown')
         WHERE kind = 'worker' AND id = 'w'",
        &["unknown_machine:worker/w", "contradiction:connector/w:simulation"],
    ),
    ("DELETE FROM records WHERE kind = 'machine' AND id = 'm-w'", &["unknown_machine:worker/w"]),
    (
        "UPDATE records SET record = json_set(record, '$.status', 'offline')
         WHERE kind <> 'machine' AND id LIKE 'w%'",
        &["wrong_status:worker/w", "wrong_status:connector/w:simulation"],
    ),
    (
        "UPDATE records SET record = json_set(record, '$.current_job_ids', json('[]'))
         WHERE kind = 'worker' AND id = 'w'",
        // As nothing is listed, `busy` does not follow either.
        &["wrong_status:worker/w", "wrong_list:worker/w"],
    ),
    ("DELETE FROM records WHERE kind = 'connector'", &["missing_connector:connector/w:simulation"]),
    (
        "DELETE FROM records WHERE kind = 'worker'",
        &["unknown_worker:connector/w:simulation", "unknown_worker:job/RUNNING"],
    ),
    ("UPDATE position SET last_ended_no = 0", &["unknown_number:job/ENDED"]),
    (
        "UPDATE records SET record = json_set(record, '$.rev', 99999)",
        &[
            "unknown_number:machine/m-w",
            "unknown_number:worker/w",
            "unknown_number:connector/w:simulation",
        ],
    ),
];

#[tokio::test]
async fn rows_that_were_changed_by_hand_are_found_and_mended() {
    for (wound, expected) in WOUNDS {
        let dir = tempfile::tempdir().unwrap();
        let before = fleet(dir.path());
        let hand = before.worker("w", 1, &[]).await;
        let ended = submit_and_finish(&before, &hand).await;
        let running = before.running(&hand).await.job;
        assert_eq!(mend(&*before.store).await, [], "what is sound is left alone");
        before.store.close().await.unwrap();
        assert!(database(dir.path()).execute(wound, []).unwrap() > 0, "{wound}");

        let after = fleet(dir.path());
        let ids = |id: &&str| {
            id.replace("RUNNING", &running.to_string()).replace("ENDED", &ended.to_string())
        };
        let expected: Vec<_> = expected.iter().map(ids).collect();
        assert_eq!(after.findings().await, expected, "{wound}");
        let mended = mend(&*after.store).await;
        assert_eq!(mended.len(), expected.len(), "{wound}");
        assert!(mended.iter().all(|m| m.outcome == MendOutcome::Repaired), "{wound}: {mended:?}");
        after.check().await.unwrap();
        after.store.close().await.unwrap();
        fleet(dir.path()).check().await.unwrap();
    }
}

/// What could not be read stays shown until there is a sound record in its place.
#[tokio::test]
async fn what_was_set_aside_is_taken_away_once_it_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let before = fleet(dir.path());
    let hand = before.worker("w", 1, &[]).await;
    let lost = before.submit(spec(50)).await;
    before.store.close().await.unwrap();
    let db = database(dir.path());
    db.execute("UPDATE records SET record = '{' WHERE kind = 'worker'", []).unwrap();
    db.execute("UPDATE jobs SET record = '{'", []).unwrap();
    db.execute("UPDATE capabilities SET json = '{'", []).unwrap();
    db.execute("DELETE FROM log", []).unwrap();
    drop(db);

    let after = fleet(dir.path());
    let left = |mended: &[Mended]| {
        let left = mended.iter().filter(|m| matches!(m.outcome, MendOutcome::Left { .. }));
        left.map(|m| m.finding.subject.clone()).collect::<Vec<_>>()
    };
    let mended = mend(&*after.store).await;
    assert_eq!(mended.len(), 4, "its connector goes: {mended:?}");
    let of_job = format!("job/{lost}");
    let aside = left(&mended);
    assert_eq!((aside.len(), &aside[1], &aside[2]), (3, &"worker/w".to_owned(), &of_job));
    assert!(aside[0].starts_with("capabilities/"));

    after.run(Command::Register(Fleet::registration(&hand, 1, &[]))).await.unwrap();
    let found = after.store.examine(Depth::Fleet).await.unwrap().findings;
    let mends: Vec<_> = found.iter().map(|finding| finding.mend).collect();
    assert_eq!(mends, [Mend::Repair, Mend::Repair, Mend::None], "{found:?}");
    assert_eq!(left(&mend(&*after.store).await), [of_job]);
    assert_eq!(after.findings().await, [format!("quarantined:job/{lost}")]);
    after.store.close().await.unwrap();
    assert_eq!(count(&database(dir.path()), "quarantine"), 1);
}

/// What a worker is able to do is named by its digest: other capabilities under it are not its.
#[tokio::test]
async fn capabilities_that_were_changed_by_hand_are_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let before = fleet(dir.path());
    let hand = before.worker("w", 1, &[]).await;
    let job = before.submit(spec(50)).await;
    before.store.close().await.unwrap();
    database(dir.path()).execute("UPDATE capabilities SET json = '{}'", []).unwrap();

    let after = fleet(dir.path());
    let found = after.store.examine(Depth::Fleet).await.unwrap().findings;
    let [worker, capabilities] = &found[..] else { panic!("{found:?}") };
    assert_eq!(worker.id, "unknown_capabilities:worker/w");
    assert!(capabilities.id.starts_with("quarantined:capabilities/"), "{capabilities:?}");
    assert!(capabilities.problem.contains("another digest"), "{capabilities:?}");
    assert!(capabilities.consequence.contains("not matched"), "{capabilities:?}");
    assert!(capabilities.cure.contains("restart those workers"), "{capabilities:?}");

    // It is started again.
    let hand = Hand { incarnation: Incarnation::from_uuid(uuid::Uuid::max()), ..hand };
    after.run(Command::Register(Fleet::registration(&hand, 1, &[]))).await.unwrap();
    let mended = mend(&*after.store).await;
    assert_eq!(mended.len(), 1, "{mended:?}");
    assert_eq!(mended[0].outcome, MendOutcome::Repaired);
    after.check().await.unwrap();
    after.report(&hand, pointsman_core::record::ConnectorStatus::Idle).await;
    assert_eq!(after.claim(&hand).await.map(|held| held.job), Some(job));
}

/// Nothing else has a payload: that it is gone is told, and that a person must do something.
#[tokio::test]
async fn a_payload_that_is_gone_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let before = fleet(dir.path());
    let hand = before.worker("w", 1, &[]).await;
    submit_and_finish(&before, &hand).await;
    let waits = before.submit(spec(50)).await;
    assert_eq!(before.findings().await, Vec::<String>::new());
    before.store.close().await.unwrap();
    database(dir.path()).execute("DELETE FROM payloads", []).unwrap();

    let after = fleet(dir.path());
    assert_eq!(after.findings().await, [format!("lost_payload:job/{waits}")]);
    let mended = mend(&*after.store).await;
    assert!(matches!(mended[0].outcome, MendOutcome::Left { .. }), "{mended:?}");
    after.run(Command::Cancel { job: waits }).await.unwrap();
    assert_eq!(after.findings().await, Vec::<String>::new());
}
