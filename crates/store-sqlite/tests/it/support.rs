//! Stores in a directory of their own.

use std::{any::Any, path::Path, sync::Arc, time::Duration};

use pointsman_core::{Command, JobId, command::Reconcile};
use pointsman_store::{
    ManualClock, Store,
    conformance::{
        fleet::{Fleet, Hand, completed, spec},
        model::picture,
    },
};
use pointsman_store_sqlite::{Options, SqliteStore};
use rusqlite::Connection;

pub fn options(clock: &ManualClock) -> Options {
    Options {
        clock: Some(Arc::new(clock.clone())),
        contact_gap: None,
        reserve_bytes: 64 << 10,
        ..Options::default()
    }
}

/// A fleet on a store that lies in `dir` and was opened with these options.
pub fn fleet_with(dir: &Path, change: impl Fn(&mut Options) + 'static) -> Fleet {
    let dir = dir.to_owned();
    Fleet::new(&move |clock: ManualClock| -> (Arc<dyn Store>, Box<dyn Any>) {
        let mut options = options(&clock);
        change(&mut options);
        (Arc::new(SqliteStore::open(&dir, options).unwrap()), Box::new(()))
    })
}

pub fn fleet(dir: &Path) -> Fleet {
    fleet_with(dir, |_| {})
}

/// Another program's look at the database, and its changes.
pub fn database(dir: &Path) -> Connection {
    Connection::open(dir.join("pointsman.db")).unwrap()
}

pub fn oldest_writer(dir: &Path) -> String {
    let row = "SELECT value FROM meta WHERE key = 'oldest_writer'";
    database(dir).query_row(row, [], |row| row.get(0)).unwrap()
}

/// As the first version left the store.
pub fn by_an_older_program(dir: &Path) {
    let older = "UPDATE meta SET value = '1' WHERE key = 'oldest_writer'";
    assert_eq!(database(dir).execute(older, []), Ok(1));
}

pub fn count(db: &Connection, table: &str) -> i64 {
    db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

/// Everything that survives a restart: all but the pulse.
pub async fn durable_picture(store: &dyn Store) -> Vec<String> {
    let mut lines = picture(store).await;
    lines.pop();
    lines
}

pub async fn submit_and_finish(fleet: &Fleet, hand: &Hand) -> JobId {
    let id = fleet.submit(spec(50)).await;
    let held = fleet.claim(hand).await.expect("a job to claim");
    fleet.act(hand, held, completed()).await.expect("a valid ending");
    id
}

pub async fn remove(fleet: &Fleet, job: JobId) {
    let remove = Command::Reconcile(Reconcile::RemoveJob { job });
    fleet.run(remove).await.expect("an ended job can be removed");
}

/// Looks again and again until it is so; a minute is far beyond what anything here takes.
pub async fn until(what: &str, is_so: impl Fn() -> bool) {
    let patience = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), patience).await.expect(what);
}
