//! What happens while the doctor looks is no damage.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use pointsman_core::{
    Command, JobId, Token,
    command::{Idempotency, Reconcile, Submit},
    doctor::MendOutcome,
    record::{JobSpec, Orders},
};
use pointsman_store::{
    Depth, Store,
    conformance::fleet::{Fleet, Hand, completed, needs, spec},
};
use pointsman_store_redis::{Options, RedisStore};
use uuid::Uuid;

use crate::{
    between,
    support::{block_on, by_hand, fleet_on, open_with, prefix, redis_url},
};

/// A store of the same fleet; `then` is done, with another number each time, before Redis is asked for
/// the members of this key.
fn looking(
    options: &Options,
    key: &str,
    then: impl FnMut(u64) + Send + 'static,
) -> (RedisStore, Arc<AtomicU64>) {
    looking_before(options, "ZRANGE", key, then)
}

/// Likewise, before Redis has this command about this key.
fn looking_before(
    options: &Options,
    command: &str,
    key: &str,
    mut then: impl FnMut(u64) + Send + 'static,
) -> (RedisStore, Arc<AtomicU64>) {
    let times = Arc::new(AtomicU64::new(0));
    let counted = times.clone();
    let key = format!("{}{key}", prefix(options));
    let way = between::before(&redis_url(), &[command, &key], move || {
        then(counted.fetch_add(1, Relaxed));
    });
    let address = way.parse().expect("a valid address");
    (open_with(Options { address, ..options.clone() }), times)
}

fn submission(n: u64, spec: JobSpec, idempotency: Option<Idempotency>) -> (JobId, Command) {
    let id = JobId::from_uuid(Uuid::from_u128(
        0x0191_0000_0000_7000_8000_0000_0000_0000 + u128::from(n),
    ));
    (id, Command::Submit(Submit { id, spec, payload: Arc::from(&b"{}"[..]), idempotency }))
}

async fn carry_out(store: &dyn Store, command: Command) {
    let done = store.execute(vec![command]).await.expect("the store works");
    assert!(done.iter().all(Result::is_ok), "{done:?}");
}

/// The members of the index of idempotency keys.
fn members(prefix: &str) -> BTreeSet<String> {
    let members = by_hand(prefix, "ZRANGE idempotency 0 -1");
    redis::from_redis_value(members).expect("members")
}

#[tokio::test]
async fn keys_of_submissions() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let with_key = |n: u64| {
        let idempotency = Some(Idempotency { key: format!("key-{n}"), body: [7; 32] });
        submission(n, spec(50), idempotency).1
    };
    carry_out(&*fleet.store, with_key(1_000_000)).await;
    let first = members(&prefix).pop_first().expect("a key");
    let store = fleet.store.clone();
    let (looking, times) = looking(&options, "idempotency", move |n| {
        block_on(carry_out(&*store, with_key(n)));
    });
    for _ in 0..3 {
        let found = looking.examine(Depth::Everything).await.expect("it is examined");
        assert!(found.is_sound(), "{found:?}");
    }
    assert_eq!(looking.mend(None).await, Ok(Vec::new()));
    let listed = members(&prefix);
    assert_eq!(listed.len() as u64, times.load(Relaxed) + 1, "{listed:?}");

    // What is wrong is found all the same.
    let kept = by_hand(&prefix, "KEYS idempotency:*");
    let kept: Vec<String> = redis::from_redis_value(kept).expect("keys");
    for key in kept {
        let key = key.strip_prefix(&prefix).expect("a key of the fleet");
        by_hand(&prefix, &format!("DEL {key}"));
    }
    let found = looking.examine(Depth::Everything).await.expect("it is examined");
    let ids: Vec<&str> = found.findings.iter().map(|finding| finding.id.as_str()).collect();
    assert_eq!(ids, ["index_without_record:index/idempotency"]);
    assert!(members(&prefix).contains(&first));
    fleet.store.mend(None).await.expect("it is mended");
    fleet.check().await.expect("nothing is wrong any more");
    assert!(!members(&prefix).contains(&first));
}

/// What ended jobs take is counted anew also where something always happens.
#[tokio::test]
async fn bytes_of_ended_jobs() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let hand = fleet.worker("w", 1, &[]).await;
    let held = fleet.running(&hand).await;
    fleet.act(&hand, held, completed()).await.expect("it ends");
    let store = fleet.store.clone();
    let (looking, times) = looking_before(&options, "HMGET", "meta", move |n| {
        block_on(carry_out(&*store, submission(n, spec(50), None).1));
    });
    by_hand(&prefix, "HINCRBY meta ended_bytes -1000");
    let before = times.load(Relaxed);
    let mended = looking.mend(None).await.expect("it is mended");
    assert!(times.load(Relaxed) > before, "jobs came meanwhile");
    let outcomes: Vec<_> = mended.iter().map(|m| (m.finding.id.as_str(), &m.outcome)).collect();
    assert_eq!(outcomes, [("wrong_count:index/bytes_of_ended_jobs", &MendOutcome::Repaired)]);
    fleet.check().await.expect("nothing is wrong any more");
}

/// A worker with capabilities that no other has leaves and is removed.
fn remove(store: &dyn Store, hand: &Hand) {
    let (worker, incarnation) = (hand.worker.clone(), hand.incarnation);
    block_on(async {
        carry_out(store, Command::Leave { worker: worker.clone(), incarnation }).await;
        carry_out(store, Command::Reconcile(Reconcile::RemoveWorker { worker })).await;
    });
}

/// Neither looks find anything, nor does a repair mend anything, while workers go.
async fn nothing_is_wrong(fleet: &Fleet, looking: &RedisStore, times: &AtomicU64) {
    let before = times.load(Relaxed);
    for depth in [Depth::Fleet, Depth::Everything] {
        let found = looking.examine(depth).await.expect("it is examined");
        assert!(found.is_sound() && found.undecided.is_empty(), "{found:?}");
    }
    assert_eq!(looking.mend(None).await, Ok(Vec::new()));
    assert!(times.load(Relaxed) > before, "a worker went meanwhile");
    fleet.check().await.expect("nothing is wrong");
}

#[tokio::test]
async fn workers_that_go_before_their_capabilities_are_read() {
    let (fleet, options) = fleet_on();
    for depth in [Depth::Fleet, Depth::Everything] {
        let hand = fleet.worker("w", 1, &["its-own"]).await;
        let digest = fleet.worker_record(&hand).await.capabilities_digest;
        let store = fleet.store.clone();
        let mut goes = Some(hand);
        let (looking, times) =
            looking_before(&options, "HGET", &format!("profile:{digest}"), move |_| {
                goes.take().iter().for_each(|hand| remove(&*store, hand));
            });
        let found = looking.examine(depth).await.expect("it is examined");
        assert!(found.is_sound() && found.undecided.is_empty(), "{depth:?}: {found:?}");
        assert!(times.load(Relaxed) > 0, "it went meanwhile");
        fleet.check().await.expect("nothing is wrong");
    }
    // Of one that stays, whatever else happens to it, it is told.
    let hand = fleet.worker("w", 1, &["its-own"]).await;
    let digest = fleet.worker_record(&hand).await.capabilities_digest;
    by_hand(&prefix(&options), &format!("DEL profile:{digest}"));
    let store = fleet.store.clone();
    let (worker, mut drain) = (hand.worker.clone(), false);
    let (looking, _) = looking_before(&options, "HGET", &format!("profile:{digest}"), move |_| {
        drain = !drain;
        let (worker, orders) = (worker.clone(), Orders { drain });
        block_on(carry_out(&*store, Command::SetOrders { worker, orders }));
    });
    let found = looking.examine(Depth::Fleet).await.expect("it is examined");
    assert!(found.has("unknown_capabilities:worker/w"), "{found:?}");
}

#[tokio::test]
async fn workers_that_go_after_keys_were_listed() {
    let (fleet, options) = fleet_on();
    let mut hands = Vec::new();
    for n in 0..20 {
        hands.push(fleet.worker(&format!("w-{n}"), 1, &[&format!("label-{n}")]).await);
    }
    let store = fleet.store.clone();
    let (looking, times) = looking(&options, "leases", move |_| {
        hands.pop().iter().for_each(|hand| remove(&*store, hand));
    });
    nothing_is_wrong(&fleet, &looking, &times).await;
}

#[tokio::test]
async fn classes_that_are_made_and_go_to_rest() {
    let (fleet, options) = fleet_on();
    let store = fleet.store.clone();
    let (looking, times) = looking(&options, "leases", move |n| {
        let requirements = needs(&format!("label-{n}"));
        let (job, submit) = submission(n, JobSpec { requirements, ..spec(50) }, None);
        block_on(async {
            carry_out(&*store, submit).await;
            carry_out(&*store, Command::Cancel { job }).await;
        });
    });
    for _ in 0..3 {
        let found = looking.examine(Depth::Everything).await.expect("it is examined");
        assert!(found.is_sound(), "{found:?}");
    }
    assert!(times.load(Relaxed) >= 3);
    assert_eq!(looking.mend(None).await, Ok(Vec::new()));
    fleet.check().await.expect("nothing is wrong");
    let classes = by_hand(&prefix(&options), "ZCARD classes");
    assert_eq!(classes, redis::Value::Int(times.load(Relaxed) as i64));
}

#[tokio::test]
async fn jobs_that_are_claimed() {
    let (fleet, options) = fleet_on();
    let hand = fleet.worker("w", 1_000, &[]).await;
    let store = fleet.store.clone();
    let (looking, times) = looking(&options, "leases", move |n| {
        let token = Token::from_uuid(Uuid::from_u128(u128::from(n) + 1));
        let claim = Fleet::exchange(&hand, Vec::new(), vec![token]);
        block_on(async {
            carry_out(&*store, submission(n, spec(50), None).1).await;
            carry_out(&*store, Command::Exchange(claim)).await;
        });
    });
    nothing_is_wrong(&fleet, &looking, &times).await;
}

/// It is told as that, and once nothing happens to it as what it is.
#[tokio::test]
async fn what_is_about_a_record_that_changes_with_each_look_stays_in_doubt() {
    for (changes, told) in [(1, (1, 0)), (u64::MAX, (0, 1))] {
        let (fleet, options) = fleet_on();
        let hand = fleet.worker("w", 1, &[]).await;
        by_hand(&prefix(&options), "SREM workers w");
        let (store, worker) = (fleet.store.clone(), hand.worker);
        let (looking, times) = looking_before(&options, "SMEMBERS", "workers", move |n| {
            let (worker, orders) = (worker.clone(), Orders { drain: n % 2 == 0 });
            if n < changes {
                block_on(carry_out(&*store, Command::SetOrders { worker, orders }));
            }
        });
        let found = looking.examine(Depth::Everything).await.expect("it is examined");
        assert!(times.load(Relaxed) > 0, "something happened meanwhile");
        assert_eq!((found.findings.len(), found.undecided.len()), told, "{found:?}");
    }
}
