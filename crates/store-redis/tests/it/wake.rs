//! Whoever waits is woken by a job, not by a slow look.

use std::time::Duration;

use pointsman_core::{Answer, Command, record::JobSpec};
use pointsman_redis_testing::{RedisOptions, RedisServer};
use pointsman_store::{
    Store, WorkHint,
    conformance::fleet::{Fleet, Hand, completed, needs, spec, within},
};
use pointsman_store_redis::RedisStore;
use tokio::time::timeout;

use crate::support::{connection, fleet_on, own_fleet, prefix};

/// Nothing else wakes anybody here, so it may take as long as a slow machine needs.
const PATIENCE: Duration = Duration::from_secs(20);

fn waits(store: &dyn Store, hand: &Hand) -> WorkHint {
    store.wait_for_work(hand.worker.clone(), Vec::new())
}

async fn is_woken(mut hint: WorkHint) -> bool {
    timeout(PATIENCE, hint.wait()).await.is_ok()
}

/// A process blocks on the lists of those that wait; another of it joins them.
#[tokio::test]
async fn who_joins_others_of_the_process_is_woken() {
    let (fleet, _) = fleet_on();
    let plain = fleet.worker("plain", 1, &[]).await;
    let able = fleet.worker("able", 1, &["x"]).await;
    let labelled = || JobSpec { requirements: needs("x"), ..spec(50) };
    for _ in 0..3 {
        let other = waits(&*fleet.store, &plain);
        let hint = waits(&*fleet.store, &able);
        fleet.submit(labelled()).await;
        assert!(is_woken(hint).await);
        let held = fleet.claim(&able).await.expect("a job to claim");
        fleet.act(&able, held, completed()).await.expect("it ends");
        // By now the call blocks for the other one alone.
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(other);
    }
}

/// Redis must know of who waits before it is asked for anything that comes after, also where
/// another call is just about to tell it.
#[tokio::test]
async fn a_job_that_comes_while_redis_is_told_wakes_who_waits() {
    let (fleet, options) = fleet_on();
    let hand = fleet.worker("w", 1, &[]).await;
    // A process on this thread alone, which has to ask for the worker first.
    let store = RedisStore::open(options).await.expect("it opens");
    let hint = waits(&store, &hand);
    tokio::task::yield_now().await;
    let submit = Command::Submit(fleet.submission(spec(50)));
    store.execute(vec![submit]).await.expect("it is stored");
    assert!(is_woken(hint).await);
    store.close().await.expect("it closes");
}

/// A wake-up that lies there already may be for a job that whoever takes it cannot run.
#[tokio::test]
async fn of_two_new_kinds_of_jobs_each_wakes_who_is_able() {
    let (fleet, _) = fleet_on();
    let able = fleet.worker("able", 1, &["x"]).await;
    let hint = waits(&*fleet.store, &able);
    let submission = |label: &str| {
        Command::Submit(fleet.submission(JobSpec { requirements: needs(label), ..spec(50) }))
    };
    let both = vec![submission("y"), submission("x")];
    for submitted in fleet.store.execute(both).await.expect("it is stored") {
        submitted.expect("it is taken");
    }
    assert!(is_woken(hint).await);
}

#[tokio::test]
async fn many_who_are_not_able_keep_no_wake_up_from_who_is() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let soon = fleet.store.now().as_millis() + 1;
    let mut others = redis::pipe();
    for n in 0..1_000_u32 {
        let key = format!("{prefix}waiting:simulation");
        others.cmd("ZADD").arg(key).arg(soon).arg(format!("{n:032x}"));
    }
    others.exec(&mut connection()).expect("they wait");
    let able = fleet.worker("able", 1, &["x"]).await;
    let requirements = needs("x");
    fleet.submit(JobSpec { requirements: requirements.clone(), ..spec(50) }).await;
    let held = fleet.claim(&able).await.expect("a job to claim");
    fleet.act(&able, held, completed()).await.expect("it ends");
    let hint = waits(&*fleet.store, &able);
    fleet.submit(JobSpec { requirements, ..spec(50) }).await;
    assert!(is_woken(hint).await);
}

/// A process that closes its store takes its word back, so that it swallows nobody's wake-up.
#[tokio::test]
async fn who_leaves_waits_no_longer() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let hand = fleet.worker("w", 1, &[]).await;
    let hint = waits(&*fleet.store, &hand);
    let waiting = || -> i64 {
        let mut count = redis::cmd("ZCARD");
        count.arg(format!("{prefix}waiting:simulation")).query(&mut connection()).expect("a count")
    };
    within("it waits", async {
        while waiting() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    fleet.store.close().await.expect("it closes");
    assert_eq!(waiting(), 0);
    drop(hint);
}

/// Two processes of a fleet, each with a worker of one slot and of the same kind that waits there;
/// the first has waited for longer, so that it gets the first wake-up.
struct Two {
    fleet: Fleet,
    hands: [Hand; 2],
    stores: [RedisStore; 2],
    hints: [WorkHint; 2],
    server: RedisServer,
}

impl Two {
    async fn start() -> Self {
        let server = RedisServer::start(RedisOptions::default()).await.expect("it starts");
        let (fleet, options) = own_fleet(&server);
        let hands = [fleet.worker("one", 1, &[]).await, fleet.worker("other", 1, &[]).await];
        let (mut stores, mut hints) = (Vec::new(), Vec::new());
        for hand in &hands {
            let store = RedisStore::open(options.clone()).await.expect("it opens");
            hints.push(waits(&store, hand));
            stores.push(store);
            let wait = Some(stores.len() as u64);
            within("it waits", async {
                while server.info("blocked_clients").await.expect("it answers") != wait {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            })
            .await;
        }
        let two = "two of them";
        let stores = stores.try_into().ok().expect(two);
        Self { fleet, hands, stores, hints: hints.try_into().expect(two), server }
    }
}

/// Of jobs that come together one worker of a kind is woken; whoever takes one wakes the next.
#[tokio::test]
async fn who_leaves_a_job_behind_wakes_another_process() {
    let Two { fleet, hands, stores, hints: [first, second], server: _server } = Two::start().await;
    let submits = (0..2).map(|_| Command::Submit(fleet.submission(spec(50)))).collect();
    for submitted in fleet.store.execute(submits).await.expect("it is stored") {
        submitted.expect("it is taken");
    }
    assert!(is_woken(first).await);
    let claim = Command::Exchange(Fleet::exchange(&hands[0], Vec::new(), vec![fleet.token()]));
    let done = stores[0].execute(vec![claim]).await.expect("the store works");
    let done = done.into_iter().next().expect("an answer").expect("a valid claim");
    assert!(matches!(done.answer, Answer::Exchanged { claimed, .. } if claimed.len() == 1));
    assert!(is_woken(second).await, "of the other job nobody else says anything");
}

/// A process may get a wake-up when its worker has just stopped to wait.
#[tokio::test]
async fn a_wake_up_that_nobody_waits_for_any_more_goes_to_another_process() {
    let Two { fleet, hands: _, stores: _stores, hints: [first, second], server: _server } =
        Two::start().await;
    drop(first);
    fleet.submit(spec(50)).await;
    assert!(is_woken(second).await, "the first one's process passes it on");
}
