//! Stores of every earlier version open, with everything that was in them.

use std::path::Path;

use pointsman_core::{JobId, LossReason, command::Op, record::JobStatus};
use pointsman_store::conformance::fleet::{Fleet, completed, failed, late, needs, spec};
use rusqlite::{Connection, types::ValueRef};

use crate::support::{database, durable_picture, fleet};

/// Makes the fixture of the version that the program writes now. Run it once when a version is
/// released, and never again for that version:
/// `cargo nextest run -p pointsman-store-sqlite --run-ignored only make_fixture`.
#[tokio::test]
#[ignore = "writes a file of the source tree"]
async fn make_fixture() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = fleet(dir.path());
    live(&fleet).await;
    let picture = durable_picture(&*fleet.store).await;
    fleet.store.close().await.unwrap();
    let db = database(dir.path());
    let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    std::fs::create_dir_all(&fixtures).unwrap();
    std::fs::write(fixtures.join(format!("v{version}.sql")), dump(&db)).unwrap();
    std::fs::write(fixtures.join(format!("v{version}.txt")), picture.join("\n")).unwrap();
}

/// A job in each state, late results, losses, and a worker with labels.
async fn live(fleet: &Fleet) {
    let hand = fleet.worker("w", 8, &["fast"]).await;
    let held = fleet.running(&hand).await;
    fleet.act(&hand, held, completed()).await.unwrap();
    let held = fleet.running(&hand).await;
    fleet.act(&hand, held, failed(pointsman_core::FailureKind::BadJob)).await.unwrap();
    let held = fleet.running(&hand).await;
    let release = Op::Release { reason: LossReason::ServiceLost, message: "gone".into() };
    fleet.act(&hand, held, release).await.unwrap();
    fleet.act(&hand, held, late()).await.unwrap();
    fleet.running(&hand).await;
    let mut asked = spec(90);
    asked.requirements = needs("slow");
    asked.metadata = Some(serde_json::json!({"any": ["thing", 1, null]}));
    let waiting = fleet.submit(asked).await;
    let cancelled = fleet.submit(spec(10)).await;
    for command in [
        pointsman_core::Command::Cancel { job: cancelled },
        pointsman_core::Command::Raise(pointsman_core::command::Raise {
            alert: format!("inconsistent:{waiting}").parse().unwrap(),
            severity: pointsman_core::record::Severity::Warning,
            message: "a test's \"alert\"".into(),
            action: "none".into(),
        }),
    ] {
        fleet.run(command).await.unwrap();
    }
}

/// The database as SQL text.
fn dump(db: &Connection) -> String {
    let mut sql = String::new();
    for pragma in ["user_version", "application_id"] {
        let value: i64 = db.pragma_query_value(None, pragma, |row| row.get(0)).unwrap();
        sql += &format!("PRAGMA {pragma} = {value};\n");
    }
    let mut tables = db.prepare("SELECT name, sql FROM sqlite_schema ORDER BY name").unwrap();
    let tables = tables.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    for (name, create) in tables.map(Result::<(String, String), _>::unwrap) {
        sql += &format!("{create};\n");
        let mut rows = db.prepare(&format!("SELECT * FROM {name}")).unwrap();
        let columns = rows.column_count();
        let mut rows = rows.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let values = (0..columns).map(|column| literal(row.get_ref(column).unwrap()));
            let values = values.collect::<Vec<_>>().join(", ");
            sql += &format!("INSERT INTO {name} VALUES ({values});\n");
        }
    }
    sql
}

fn literal(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "NULL".into(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(text) => {
            format!("'{}'", std::str::from_utf8(text).unwrap().replace('\'', "''"))
        }
        ValueRef::Blob(bytes) => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
            format!("X'{digits}'")
        }
    }
}

async fn opens(sql: &str, picture: &str) {
    let dir = tempfile::tempdir().unwrap();
    database(dir.path()).execute_batch(sql).unwrap();
    let fleet = fleet(dir.path());
    assert_eq!(durable_picture(&*fleet.store).await.join("\n"), picture.trim_end());
    assert_eq!(fleet.check().await, Ok(()));
    let log = fleet.log().await;
    assert_eq!(log.last().unwrap().seq, fleet.seq().await);
    let jobs = fleet.store.jobs(Default::default(), None, 100).await.unwrap().jobs;
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    let payloads = fleet.store.payloads(ids).await.unwrap();
    assert!(payloads.iter().all(|payload| payload.as_deref() == Some(&b"{}"[..])));
    for job in jobs.iter().filter(|job| job.status() == JobStatus::Completed) {
        assert!(fleet.store.result(job.id, None).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn a_store_of_version_1_opens() {
    opens(include_str!("../fixtures/v1.sql"), include_str!("../fixtures/v1.txt")).await;
}
