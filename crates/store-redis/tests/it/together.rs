//! Submissions that are made at the same time share calls, and so does what reconcilers ask for; nobody
//! may notice.

use std::collections::HashSet;

use pointsman_core::{
    Answer, Command, EventName, JobId, Rejected,
    command::{Idempotency, Reconcile, Submit},
};
use pointsman_redis_testing::{RedisOptions, RedisServer};
use pointsman_store::{
    Done, Store as _, StoreError,
    conformance::fleet::{Fleet, completed, spec},
};
use pointsman_store_redis::Options;
use tokio::task::JoinHandle;

use crate::{
    between,
    support::{
        by_hand, connection, count, fleet_at, fleet_on, function, open_with, prefix, redis_url, run,
    },
};

const CALLERS: usize = 300;
const KEYS: usize = 20;

type Submitted = Result<Vec<Result<Done, Rejected>>, StoreError>;

fn submit(fleet: &Fleet, idempotency: Option<Idempotency>) -> JoinHandle<Submitted> {
    let submit = Submit { idempotency, ..fleet.submission(spec(50)) };
    let store = fleet.store.clone();
    tokio::spawn(async move { store.execute(vec![Command::Submit(submit)]).await })
}

async fn answer(submitted: JoinHandle<Submitted>) -> Result<Answer, Rejected> {
    let done = submitted.await.expect("no panic").expect("the store works").pop();
    done.expect("one answer a command").map(|done| done.answer)
}

#[tokio::test]
async fn each_caller_gets_its_own_answer() {
    let (fleet, _) = fleet_on();
    // Every third call has a key that others use at the same time, every ninth another body.
    let callers: Vec<_> = (0..CALLERS)
        .map(|n| {
            let body = [u8::from(n % 9 == 0); 32];
            let key = || Idempotency { key: format!("key-{}", n / 3 % KEYS), body };
            (n, submit(&fleet, (n % 3 == 0).then(key)))
        })
        .collect();
    let (mut jobs, mut conflicts) = (HashSet::new(), 0);
    for (n, caller) in callers {
        match answer(caller).await {
            Ok(Answer::Submitted { id: job, .. }) => {
                let is_new = jobs.insert(job);
                assert!(is_new || n % 3 == 0, "two callers got one job");
            }
            Err(Rejected::IdempotencyConflict(_)) if n % 3 == 0 => conflicts += 1,
            other => panic!("caller {n} was answered {other:?}"),
        }
    }
    assert_eq!(jobs.len(), CALLERS * 2 / 3 + KEYS, "one job a call, and one a key");
    assert!(conflicts > 0, "two bodies under one key are a conflict");
    let counts = fleet.store.queues(0).await.expect("the store works").counts;
    assert_eq!(counts.pending, jobs.len() as u64);
    fleet.check().await.expect("nothing is wrong");
}

#[tokio::test]
async fn callers_that_go_away_take_nobody_along() {
    let (fleet, _) = fleet_on();
    let callers: Vec<_> = (0..CALLERS).map(|_| submit(&fleet, None)).collect();
    tokio::task::yield_now().await;
    let (gone, stay): (Vec<_>, Vec<_>) =
        callers.into_iter().enumerate().partition(|(n, _)| n % 2 == 0);
    for (_, caller) in &gone {
        caller.abort();
    }
    let mut jobs = HashSet::new();
    for (_, caller) in stay {
        let Ok(Answer::Submitted { id: job, .. }) = answer(caller).await else { panic!("refused") };
        jobs.insert(job);
    }
    assert_eq!(jobs.len(), CALLERS / 2);
    let after = answer(submit(&fleet, None)).await;
    assert!(matches!(after, Ok(Answer::Submitted { .. })), "{after:?}");
    fleet.check().await.expect("nothing is wrong");
}

/// Submits jobs and ends them.
async fn ended(fleet: &Fleet, n: usize) -> Vec<JobId> {
    let hand = fleet.worker("w", 100, &[]).await;
    let mut jobs = Vec::new();
    for _ in 0..n {
        jobs.push(fleet.submit(spec(50)).await);
    }
    let tokens = (0..n).map(|_| fleet.token()).collect();
    let claimed = fleet.claim_with(&hand, tokens).await;
    assert_eq!(claimed.len(), n);
    let ops = claimed.into_iter().map(|held| Fleet::op(held, completed())).collect();
    let exchange = Fleet::exchange(&hand, ops, Vec::new());
    fleet.run(Command::Exchange(exchange)).await.expect("they end");
    jobs
}

fn removals(jobs: &[JobId]) -> Vec<Command> {
    jobs.iter().map(|job| Command::Reconcile(Reconcile::RemoveJob { job: *job })).collect()
}

#[tokio::test]
async fn removals_share_calls_and_leave_nothing() {
    let server = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    let fleet = fleet_at(&server);
    let jobs = ended(&fleet, 100).await;
    run(&server, "CONFIG RESETSTAT").await;
    for done in fleet.store.execute(removals(&jobs)).await.expect("the store works") {
        done.expect("it has ended");
    }
    assert_eq!(count(&server, "fcall", "calls").await, 2, "64 and 36 of them");
    assert_eq!(count(&server, "hgetall", "calls").await, 100, "each is read once");
    let keys = run(&server, "KEYS *").await;
    let mut keys: Vec<String> = redis::from_redis_value(keys).expect("names");
    keys.retain(|key| jobs.iter().any(|job| key.contains(&job.to_string())));
    assert_eq!(keys, Vec::<String>::new(), "records, payloads and results are gone");
    let log = fleet.log().await;
    let events = log.iter().flat_map(|group| &group.events);
    assert_eq!(events.filter(|event| event.name == EventName::JobRemoved).count(), 100);
    fleet.check().await.expect("nothing is wrong");
}

#[tokio::test]
async fn what_cannot_be_removed_stops_no_other() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let jobs = ended(&fleet, 20).await;
    let waiting = fleet.submit(spec(50)).await;
    by_hand(&prefix, &format!("HSET job:{} created_at x", jobs[3]));
    let _: () = redis::cmd("DEL")
        .arg(format!("{prefix}job:{}", jobs[7]))
        .query(&mut connection())
        .expect("it is deleted");
    by_hand(&prefix, &format!("SET job:{} text", jobs[7]));
    let all = [&jobs[..], &[waiting, jobs[0]]].concat();
    let done = fleet.store.execute(removals(&all)).await.expect("the store works");
    for (n, done) in done.into_iter().enumerate() {
        match (n, done.map(|done| done.answer)) {
            (3 | 7, Err(Rejected::Damaged(_))) => {}
            (20, Err(Rejected::NotEnded { job, .. })) => assert_eq!(job, waiting),
            (21, Err(Rejected::JobNotFound(_))) => {}
            (0..20, Ok(Answer::Done)) if n != 3 && n != 7 => {}
            (n, done) => panic!("removal {n} was answered {done:?}"),
        }
    }
    let counts = fleet.store.queues(0).await.expect("the store works").counts;
    assert_eq!((counts.completed, counts.pending), (2, 1), "those that are broken, and who waits");
}

/// A newer version takes the store over, before the first call or before the second.
#[tokio::test]
async fn of_what_needs_several_calls_some_may_stand() {
    for (calls, stands) in [(0, 0), (1, 64)] {
        let (fleet, options) = fleet_on();
        let prefix = prefix(&options);
        let (mut before, of) = (0, prefix.clone());
        let way = between::before(&redis_url(), &["FCALL", &function("commit")], move || {
            if before == calls {
                by_hand(&of, "HSET meta format 99");
            }
            before += 1;
        });
        let address = way.parse().expect("a valid address");
        let store = open_with(Options { address, ..options });
        let submits = (0..65).map(|_| Command::Submit(fleet.submission(spec(50))));
        let error = store.execute(submits.collect()).await.expect_err("the store is another's");
        assert_eq!(matches!(error, StoreError::Unknown(_)), stands > 0, "{error:?}");
        by_hand(&prefix, "HSET meta format 4");
        let counts = fleet.store.queues(0).await.expect("the store works").counts;
        assert_eq!(counts.pending, stands);
    }
}
