//! Redis comes back from before something that a client of it still remembers.

use std::sync::Arc;

use pointsman_core::{Command, RecordKey, command::Op, decide::Key};
use pointsman_redis_testing::{RedisOptions, RedisServer};
use pointsman_store::conformance::fleet::{Fleet, spec};
use pointsman_store_redis::{Options, RedisStore};
use redis::Value;

async fn open(server: &RedisServer) -> Fleet {
    let address = server.url().parse().expect("a valid address");
    let store = RedisStore::open(Options::new(address)).await.expect("it opens");
    Fleet::on(&Arc::new(store))
}

/// All that Redis has now, as the step that brings it back: to whoever opens the store then it is
/// another history.
async fn backup(server: &RedisServer) -> redis::Pipeline {
    let mut connection = server.connect().await.expect("it answers");
    let keys: Vec<Value> =
        redis::cmd("KEYS").arg("*").query_async(&mut connection).await.expect("keys");
    let mut restore = redis::pipe();
    restore.atomic().cmd("FLUSHDB");
    for key in keys {
        let Value::BulkString(key) = key else { panic!("{key:?}") };
        let dump = redis::cmd("DUMP").arg(&key).query_async(&mut connection).await;
        let Value::BulkString(dump) = dump.expect("it is there") else { continue };
        restore.cmd("RESTORE").arg(key).arg(0).arg(dump);
    }
    restore.cmd("HSET").arg("{pointsman:default}:meta").arg("replid").arg("another");
    restore
}

/// Numbers are given out again: equal ones say nothing there.
#[tokio::test]
async fn what_was_remembered_of_a_lost_history_counts_for_nothing() {
    let server = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    let fleet = open(&server).await;
    let hand = fleet.worker("w", 1, &[]).await;
    let job = fleet.submit(spec(50)).await;
    let held = fleet.claim(&hand).await.expect("a job to claim");
    let restore = backup(&server).await;
    let cancel = || fleet.run(Command::Cancel { job });
    cancel().await.expect("it may be cancelled");
    let lost = fleet.job(job).await;
    assert!(lost.cancel_requested_at.is_some());
    let mut connection = server.connect().await.expect("it answers");
    restore.exec_async(&mut connection).await.expect("it is restored");
    let other = open(&server).await;
    other.act(&hand, held, Op::Start).await.expect("a valid start");
    let found = other.job(job).await;
    assert_eq!((found.rev, found.cancel_requested_at), (lost.rev, None), "another history");
    fleet.store.load(vec![Key::Record(RecordKey::Job(job))]).await.expect("the store works");
    cancel().await.expect("it may be cancelled");
    assert!(other.job(job).await.cancel_requested_at.is_some(), "it was only remembered");
}
