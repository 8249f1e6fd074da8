//! What happens while the doctor looks is no damage.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use pointsman_core::{
    Command, JobId,
    command::{Idempotency, Submit},
    record::JobSpec,
};
use pointsman_store::{
    Depth, Store,
    conformance::fleet::{needs, spec},
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
    mut then: impl FnMut(u64) + Send + 'static,
) -> (RedisStore, Arc<AtomicU64>) {
    let times = Arc::new(AtomicU64::new(0));
    let counted = times.clone();
    let key = format!("{}{key}", prefix(options));
    let way = between::before(&redis_url(), &["ZRANGE", &key], move || {
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
