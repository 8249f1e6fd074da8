//! The users of the production set-up.

use std::{sync::Arc, time::Duration};

use pointsman_core::doctor::{MendOutcome, Mended};
use pointsman_redis_testing::{RedisOptions, RedisServer};
use pointsman_store::{
    Preview, Store,
    conformance::fleet::{Fleet, completed, within},
};
use pointsman_store_redis::{Address, OpenError, Options, RedisStore};

use crate::support::run;

/// A user of the production set-up, as an address names it.
async fn documented(server: &RedisServer, user: &str) -> Address {
    let acl = include_str!("../../../../deploy/users.acl");
    let line = acl.lines().find_map(|line| line.strip_prefix(&format!("user {user} ")));
    let digest = format!("#{}_SHA256", user.to_uppercase());
    let rules = line.expect("the user").replace(&digest, ">secret");
    run(server, &format!("ACL SETUSER {user} {rules}")).await;
    let address = format!("redis://{user}:secret@127.0.0.1:{}", server.port());
    address.parse().expect("a valid address")
}

/// A fleet's store, opened by the user of the production set-up.
async fn as_the_documented_user(server: &RedisServer) -> (Arc<RedisStore>, Fleet) {
    let options = Options::new(documented(server, "pointsman").await);
    let store = Arc::new(RedisStore::open(options).await.expect("it opens"));
    let fleet = Fleet::on(&store);
    (store, fleet)
}

/// The user of the production set-up may do all that the store does, and nothing else.
#[tokio::test]
async fn the_documented_user_is_enough() {
    let server = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    let (kept, fleet) = as_the_documented_user(&server).await;
    let hand = fleet.worker("w", 1, &[]).await;
    let mut hint = kept.wait_for_work(hand.worker.clone(), Vec::new());
    let held = fleet.running(&hand).await;
    within("the worker is woken", hint.wait()).await;
    let done = completed();
    fleet.act(&hand, held, done).await.expect("it ends");
    kept.examine(pointsman_store::Depth::Everything).await.expect("it is examined");
    run(&server, "SET {pointsman:default}:leases x").await;
    run(&server, "HSET {pointsman:default}:worker:w machine_id unknown").await;
    let mended = kept.mend(None).await.expect("it is mended");
    assert_eq!(
        outcomes(&mended),
        [
            ("unknown_machine:worker/w", MendOutcome::Repaired),
            ("wrong_type:index/leases", MendOutcome::Quarantined),
        ]
    );
    kept.seed().await.expect("it is read");
    kept.queues(10).await.expect("it is read");
    kept.tell_progress(Vec::new()).await.expect("it is told");
}

/// Who may load functions may replace those of other fleets, so workers need not.
#[tokio::test]
async fn a_worker_that_may_load_nothing_works_with_what_servers_loaded() {
    let server = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    let (_kept, _) = as_the_documented_user(&server).await;
    let options = Options::of_worker(documented(&server, "worker").await);
    run(&server, "FUNCTION FLUSH").await;
    let why = RedisStore::open(options.clone()).await.err().expect("nobody loaded them");
    assert!(matches!(why, OpenError::NotLoaded { .. }), "{why}");
    assert!(why.to_string().contains("start a server of this version"), "{why}");
    let (kept, fleet) = as_the_documented_user(&server).await;
    let store = Arc::new(RedisStore::open(options).await.expect("it opens"));
    let as_worker = Fleet::on(&store);
    let hand = as_worker.worker("w", 1, &[]).await;
    let mut hint = store.wait_for_work(hand.worker.clone(), Vec::new());
    let held = as_worker.running(&hand).await;
    within("the worker is woken", hint.wait()).await;
    let (bytes, media_type) = (vec![0].into(), "image/png".into());
    let preview = Preview { attempt: held.attempt, n: 1, media_type, bytes };
    store.keep_preview(held.job, preview).await.expect("it is kept");
    store.tell_progress(Vec::new()).await.expect("it is told");
    as_worker.act(&hand, held, completed()).await.expect("it ends");
    assert!(fleet.job(held.job).await.is_ended());
    drop(kept);
}

/// As at the node that a slot was moved to, where only servers of another version loaded theirs.
#[tokio::test]
async fn a_worker_that_finds_another_versions_functions_says_what_to_do_and_goes_on_with_its_own() {
    let server = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    let (kept, _) = as_the_documented_user(&server).await;
    let options = Options::of_worker(documented(&server, "worker").await);
    let store = Arc::new(RedisStore::open(options).await.expect("it opens"));
    let as_worker = Fleet::on(&store);
    let hand = as_worker.worker("w", 1, &[]).await;
    let held = as_worker.running(&hand).await;
    kept.close().await.expect("it is closed");

    let mut redis = server.connect().await.expect("it answers");
    let other = "#!lua name=pointsman_other\n\
                 redis.register_function('pointsman_open_other', function() return 1 end)";
    let mut load = redis::cmd("FUNCTION");
    load.arg("LOAD").arg(other).exec_async(&mut redis).await.expect("it is loaded");
    let dump = redis::cmd("FUNCTION").arg("DUMP").query_async::<Vec<u8>>(&mut redis).await;
    run(&server, "FUNCTION FLUSH").await;
    load.exec_async(&mut redis).await.expect("it is loaded");
    run(&server, "CLIENT KILL TYPE normal").await;
    let why = within("it is refused", async {
        loop {
            match as_worker.store.pulse().await {
                Err(error) if error.to_string().contains("lacks the functions") => {
                    break error.to_string();
                }
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    });
    let why = why.await;
    assert!(why.contains("start a server of this version"), "{why}");
    assert!(why.contains("FUNCTION DUMP") && why.contains("REPLACE"), "{why}");

    let mut restore = redis::cmd("FUNCTION");
    restore.arg("RESTORE").arg(dump.expect("they are dumped")).arg("REPLACE");
    let mut redis = server.connect().await.expect("it answers");
    restore.exec_async(&mut redis).await.expect("they are restored");
    let goes_on = async {
        while as_worker.store.pulse().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("it goes on", goes_on).await;
    as_worker.act(&hand, held, completed()).await.expect("it ends");
}

/// Where the user may not rename a key, that is said, and everything else is mended.
#[tokio::test]
async fn a_user_that_may_not_set_aside_is_told_so() {
    let server = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    let (kept, fleet) = as_the_documented_user(&server).await;
    fleet.worker("w", 1, &[]).await;
    run(&server, "ACL SETUSER pointsman -rename").await;
    run(&server, "SET {pointsman:default}:leases x").await;
    run(&server, "HSET {pointsman:default}:worker:w machine_id unknown").await;
    let mended = kept.mend(None).await.expect("the rest is mended");
    let mended = outcomes(&mended);
    assert_eq!(mended[0], ("unknown_machine:worker/w", MendOutcome::Repaired));
    let (id, MendOutcome::Left { why }) = &mended[1] else { panic!("{mended:?}") };
    assert_eq!(*id, "wrong_type:index/leases");
    assert!(why.contains("rename") && why.contains("deploy/users.acl"), "{why}");
}

fn outcomes(mended: &[Mended]) -> Vec<(&str, MendOutcome)> {
    let mut outcomes: Vec<_> =
        mended.iter().map(|m| (m.finding.id.as_str(), m.outcome.clone())).collect();
    outcomes.sort_by_key(|(id, _)| *id);
    outcomes
}
