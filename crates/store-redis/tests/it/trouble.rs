//! What Redis may answer or lose while a store is open on it.

use std::{sync::Arc, time::Duration};

use futures::FutureExt as _;
use pointsman_core::{
    Answer, Command, JobId, LossReason, RecordKey, Rejected, Seq,
    command::{Exchange, Held, Op},
    decide::{Key, limits},
    matching::{Capabilities, digest},
};
use pointsman_redis_testing::{RedisOptions, RedisServer};
use pointsman_store::{
    Depth, Done, Due, Health, JobFilter, LogPage, ManualClock, Store, StoreError,
    conformance::fleet::{Fleet, completed, late, spec, within},
};
use pointsman_store_redis::{Options, RedisStore};
use redis::Value;

use crate::support::{count, run};

fn at(server: &RedisServer) -> Options {
    let address = server.url().parse().expect("a valid address");
    Options { look_every: Duration::from_secs(3_600), ..Options::new(address) }
}

async fn open(server: &RedisServer) -> (Arc<RedisStore>, Fleet) {
    open_with(at(server)).await
}

async fn open_with(options: Options) -> (Arc<RedisStore>, Fleet) {
    let store = Arc::new(RedisStore::open(options).await.expect("it opens"));
    let fleet = Fleet::on(&store);
    (store, fleet)
}

/// A call may fail when Redis has changed under it; the next one works.
async fn submit_again(fleet: &Fleet) -> JobId {
    let submit = fleet.submission(spec(50));
    let id = submit.id;
    let submit = || vec![Command::Submit(submit.clone())];
    if fleet.store.execute(submit()).await.is_err() {
        let mut done = fleet.store.execute(submit()).await.expect("the second call works");
        done.pop().expect("an answer").expect("a valid submission");
    }
    id
}

/// What is only read leaves nothing open: a repeat is no repeat of anything.
#[tokio::test]
async fn a_read_that_is_not_answered_has_failed_and_a_write_may_have_been_done() {
    let server = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    let (store, fleet) = open(&server).await;
    let job = fleet.submit(spec(50)).await;
    let (filter, key) = (JobFilter::default, || RecordKey::Job(job));
    let digest = digest(&Capabilities::default());
    let class = store.waiting_classes().await.expect("the store works")[0].0;
    let submit = Command::Submit(fleet.submission(spec(50)));
    let transfer = store.clone().transfer().expect("it can be moved");
    server.freeze().expect("it stands still");
    let (written, reads) = tokio::join!(
        store.execute(vec![submit]),
        futures::future::join_all([
            store.load(vec![Key::Record(key())]).map(Result::err).boxed(),
            store.records(vec![key()]).map(Result::err).boxed(),
            store.gone(vec![job]).map(Result::err).boxed(),
            store.jobs(filter(), None, 1).map(Result::err).boxed(),
            store.ended_jobs(filter(), None, 1).map(Result::err).boxed(),
            store.payloads(vec![job]).map(Result::err).boxed(),
            store.result(job, None).map(Result::err).boxed(),
            store.capabilities(digest).map(Result::err).boxed(),
            store.log(Seq::default(), 1).map(Result::err).boxed(),
            store.seed().map(Result::err).boxed(),
            store.preview(job).map(Result::err).boxed(),
            store.queues(1).map(Result::err).boxed(),
            store.pulse().map(Result::err).boxed(),
            store.explain(job).map(Result::err).boxed(),
            store.waiting_classes().map(Result::err).boxed(),
            store.class_summaries(vec![class]).map(Result::err).boxed(),
            store.poisonous().map(Result::err).boxed(),
            store.examine(Depth::Everything).map(Result::err).boxed(),
            transfer.intake().map(Result::err).boxed(),
            transfer.results(job).map(Result::err).boxed(),
            transfer.idempotency(None, 1).map(Result::err).boxed(),
        ])
    );
    let written = written.map(drop);
    assert!(matches!(written, Err(StoreError::Unknown(_))), "{written:?}");
    for (read, error) in reads.into_iter().enumerate() {
        assert!(matches!(error, Some(StoreError::Failed(_))), "{read}: {error:?}");
    }
}

#[tokio::test]
async fn functions_that_were_flushed_are_loaded_again() {
    let server = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    let (_store, fleet) = open(&server).await;
    run(&server, "FUNCTION FLUSH").await;
    let job = submit_again(&fleet).await;
    assert!(fleet.job(job).await.is_waiting());
}

/// With what workers leave behind that have not noticed yet.
#[tokio::test]
async fn a_redis_that_was_emptied_is_made_anew() {
    let server = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    let (store, fleet) = open(&server).await;
    fleet.submit(spec(50)).await;
    let epoch = store.epoch();
    run(&server, "FLUSHALL").await;
    run(&server, "SET {pointsman:default}:preview:x picture").await;
    run(&server, "ZADD {pointsman:default}:waiting:simulation 1 x").await;
    submit_again(&fleet).await;
    assert_ne!(store.epoch(), epoch);
    assert_eq!(store.queues(0).await.expect("the store works").counts.pending, 1);
}

/// Redis refuses writes while it has too few replicas: that is no reason to ask without a pause.
#[tokio::test]
async fn a_refusal_is_not_taken_for_an_answer() {
    let server = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    let (store, fleet) = open(&server).await;
    let hand = fleet.worker("w", 1, &[]).await;
    run(&server, "CONFIG SET min-replicas-to-write 1").await;
    let submit = vec![Command::Submit(fleet.submission(spec(50)))];
    let why = store.execute(submit).await.map(drop).expect_err("it is refused");
    assert!(why.to_string().contains("NOREPLICAS"), "{why}");
    let mut hints = Vec::new();
    for _ in 0..2 {
        hints.push(store.wait_for_work(hand.worker.clone(), Vec::new()));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let refused = async || count(&server, "blpop", "rejected_calls").await;
    within("a wait is refused", async {
        while refused().await == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let refused = refused().await;
    assert!(refused < 20, "{refused}");
    drop(hints);
}

/// It still answers reads; all that runs there would stand still beside a store that is called ready.
#[tokio::test]
async fn a_redis_that_takes_no_writes_has_failed_until_it_takes_one() {
    let server = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    let (store, fleet) = open(&server).await;
    fleet.submit(spec(50)).await;
    assert_eq!(store.health(), Health::Ready);
    run(&server, "CONFIG SET min-replicas-to-write 1").await;
    // As the reconcilers ask all the time.
    let look = async || store.due(Due::Leases).await.map(drop);
    look().await.expect_err("it is refused");
    store.queues(0).await.expect("it can be read");
    let Health::Failed(why) = store.health() else { panic!("{:?}", store.health()) };
    assert!(why.contains("refuses writes") && why.contains("NOREPLICAS"), "{why}");
    run(&server, "CONFIG SET min-replicas-to-write 0").await;
    look().await.expect("it is taken");
    assert_eq!(store.health(), Health::Ready);
}

/// It may drop jobs, which an alert says; a fleet that stands still for it would lose more.
#[tokio::test]
async fn a_policy_that_drops_jobs_stops_no_running_fleet() {
    let server = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    let (_store, fleet) = open(&server).await;
    run(&server, "CONFIG SET maxmemory 500000000 maxmemory-policy allkeys-lru").await;
    run(&server, "CLIENT KILL TYPE normal SKIPME yes").await;
    submit_again(&fleet).await;
    let why = RedisStore::open(at(&server)).await.map(drop).expect_err("a new one is refused");
    assert!(why.to_string().contains("maxmemory-policy"), "{why}");
}

/// What runs can end although no memory is left, also over a connection that has to be made anew.
#[tokio::test]
async fn without_memory_a_connection_is_made_and_what_runs_ends() {
    let options = RedisOptions { maxmemory: Some(32 << 20), ..Default::default() };
    let server = RedisServer::start(options).await.expect("it starts");
    let (_store, fleet) = open(&server).await;
    let hand = fleet.worker("w", 1, &[]).await;
    let held = fleet.running(&hand).await;
    run(&server, "CONFIG SET maxmemory 1").await;
    run(&server, "CLIENT KILL TYPE normal SKIPME yes").await;
    let finish = || Fleet::exchange(&hand, vec![Fleet::op(held, completed())], Vec::new());
    let mut ended = fleet.store.execute(vec![Command::Exchange(finish())]).await;
    for _ in 0..3 {
        if ended.is_err() {
            ended = fleet.store.execute(vec![Command::Exchange(finish())]).await;
        }
    }
    ended.expect("the store works").pop().expect("an answer").expect("it ends");
    assert!(fleet.job(held.job).await.is_ended());
}

/// What became of an exchange that only ends a job, which it does.
async fn handed_in(store: &RedisStore, end: Exchange) -> Done {
    let done = store.execute(vec![Command::Exchange(end)]).await.expect("it is written");
    let done = done.into_iter().next().expect("an answer").expect("it is taken");
    let Answer::Exchanged { ops, .. } = &done.answer else { panic!("{done:?}") };
    assert!(ops[0].is_ok(), "it ends: {done:?}");
    done
}

/// Submissions that wait for replicas keep nobody else waiting, and wait together.
#[tokio::test]
async fn who_waits_for_replicas_is_in_nobodys_way() {
    let server = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    let replica =
        RedisServer::replica_of(&server, RedisOptions::default()).await.expect("it follows");
    let (store, fleet) = open_with(Options { acks: 1, ..at(&server) }).await;
    let submit = async |submission| {
        let mut done =
            store.execute(vec![Command::Submit(submission)]).await.expect("it is written");
        done.pop().expect("an answer").expect("it is taken")
    };
    // A replica may take its time at first.
    within("the replica confirms", async {
        while submit(fleet.submission(spec(50))).await.unconfirmed.is_some() {}
    })
    .await;
    let before = count(&server, "wait", "calls").await;
    drop(replica);
    let submits: Vec<_> = (0..12).map(|_| fleet.submission(spec(50))).collect();
    let submits = submits.into_iter().map(submit);
    let mut submits = std::pin::pin!(futures::future::join_all(submits));
    let look = async {
        while server.info("blocked_clients").await.expect("it answers") != Some(1) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for _ in 0..3 {
            store.queues(0).await.expect("the store works");
        }
    };
    tokio::select! {
        early = &mut submits => panic!("nobody confirms: {early:?}"),
        () = within("they wait for replicas", look) => {}
    }
    for submitted in submits.await {
        let why = submitted.unconfirmed.expect("nobody confirms");
        assert!(why.contains("only 0 of 1 replicas"), "{why}");
    }
    let waits = count(&server, "wait", "calls").await - before;
    assert!((1..=4).contains(&waits), "{waits} waits for 12 submissions");
}

/// Without replicas the store holds what is handed in all the same, so a worker goes on.
#[tokio::test]
async fn an_end_that_no_replica_confirms_is_answered_with_the_next_job() {
    let server = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    let replica =
        RedisServer::replica_of(&server, RedisOptions::default()).await.expect("it follows");
    let (store, fleet) = open_with(Options { acks: 1, ..at(&server) }).await;
    let hand = fleet.worker("w", 1, &[]).await;
    let held = fleet.running(&hand).await;
    let next = fleet.submit(spec(50)).await;
    drop(replica);
    let ends = vec![Fleet::op(held, completed())];
    let exchange = Fleet::exchange(&hand, ends.clone(), vec![fleet.token()]);
    let done = store.execute(vec![Command::Exchange(exchange)]).await.expect("it is written");
    let done = done.into_iter().next().expect("an answer").expect("it ends");
    let Answer::Exchanged { ops, claimed, .. } = &done.answer else { panic!("{done:?}") };
    assert!(ops[0].is_ok() && claimed[0].job == next, "{ops:?} {claimed:?}");
    let why = done.unconfirmed.expect("no replica is there");
    assert!(why.contains("only 0 of 1 replicas"), "{why}");
    let _replica =
        RedisServer::replica_of(&server, RedisOptions::default()).await.expect("it follows");
    let again = Fleet::exchange(&hand, ends, Vec::new());
    within("the new replica confirms", async {
        while handed_in(&store, again.clone()).await.unconfirmed.is_some() {}
    })
    .await;
}

/// Nothing of it is written, so there is nothing to confirm.
#[tokio::test]
async fn what_is_refused_waits_for_no_replica() {
    let server = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    let (_, fleet) = open(&server).await;
    let hand = fleet.worker("w", 1, &[]).await;
    let held = fleet.running(&hand).await;
    fleet.act(&hand, held, completed()).await.expect("it ends");
    let intake = fleet.store.clone().transfer().expect("it can be moved");
    intake.set_intake(false).await.expect("the store works");
    let (store, _) = open_with(Options { acks: 1, ..at(&server) }).await;
    let refusal = async |command| {
        let mut done = store.execute(vec![command]).await.expect("it is refused, not unknown");
        done.pop().expect("an answer").expect_err("it is refused")
    };
    let late = refusal(Command::Cancel { job: held.job }).await;
    assert!(matches!(late, Rejected::AlreadyEnded { .. }), "{late:?}");
    let closed = refusal(Command::Submit(fleet.submission(spec(50)))).await;
    assert_eq!(closed, Rejected::IntakeClosed);
    let stale = Held { token: fleet.token(), ..held };
    let end = Fleet::exchange(&hand, vec![Fleet::op(stale, completed())], Vec::new());
    let mut done = store.execute(vec![Command::Exchange(end)]).await.expect("the store works");
    let done = done.pop().expect("an answer").expect("its operation is refused");
    assert!(matches!(&done.answer, Answer::Exchanged { ops, .. } if ops[0].is_err()), "{done:?}");
    assert_eq!(done.unconfirmed, None);
    assert_eq!(count(&server, "wait", "calls").await, 0);
}

/// Its length alone does not bound it: what is large may be in every group.
#[tokio::test]
async fn the_log_takes_no_more_memory_than_it_may() {
    const MOST: u64 = 2 << 20;
    let server = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    let (store, fleet) = open_with(Options { log_bytes: MOST, ..at(&server) }).await;
    let large = pointsman_core::record::JobSpec {
        metadata: Some(serde_json::json!({ "large": "x".repeat(15_000) })),
        ..spec(50)
    };
    for _ in 0..400 {
        fleet.submit(large.clone()).await;
    }
    let size = async || match run(&server, "MEMORY USAGE {pointsman:default}:log").await {
        Value::Int(bytes) => u64::try_from(bytes).expect("a size"),
        other => panic!("{other:?}"),
    };
    assert!(size().await > 2 * MOST);
    store.due(Due::Leftovers).await.expect("the store works");
    assert!(size().await <= MOST, "{}", size().await);
    let page = store.log(0, 10).await.expect("the log is read");
    assert!(matches!(page, LogPage::Cut { .. }), "{page:?}");
    fleet.check().await.expect("nothing is wrong");
}

/// A node of a cluster, and what it is told to begin to move the fleet's slot to another one, and to
/// call that off.
async fn about_to_move() -> ([RedisServer; 2], [String; 2]) {
    let options = || RedisOptions { cluster: true, ..Default::default() };
    let server = RedisServer::start(options()).await.expect("it starts");
    let other = RedisServer::beside(&server, options()).await.expect("it joins");
    let Value::BulkString(id) = run(&other, "CLUSTER MYID").await else { panic!("no id") };
    let id = String::from_utf8(id).expect("UTF-8");
    let Value::Int(slot) = run(&server, "CLUSTER KEYSLOT {pointsman:default}:meta").await else {
        panic!("no slot")
    };
    let begin = format!("CLUSTER SETSLOT {slot} MIGRATING {id}");
    ([server, other], [begin, format!("CLUSTER SETSLOT {slot} STABLE")])
}

/// A cluster moves the fleet's slot: until it has moved, nothing is done, and nothing half.
#[tokio::test]
async fn while_its_slot_moves_nothing_is_done_by_half() {
    let ([server, _other], [begin, call_off]) = about_to_move().await;
    let (store, fleet) = open(&server).await;
    let hand = fleet.worker("w", 1, &[]).await;
    let job = fleet.submit(spec(50)).await;
    let before = server.dump().await.expect("it is dumped");
    run(&server, &begin).await;
    let claim = || {
        let claim = Fleet::exchange(&hand, Vec::new(), vec![fleet.token()]);
        fleet.store.execute(vec![Command::Exchange(claim)])
    };
    let why = claim().await.map(drop).expect_err("it is refused").to_string();
    assert!(why.contains("the cluster moves this fleet to another node"), "{why}");
    assert!(!why.contains("holds what it cannot"), "nothing is broken: {why}");
    assert!(matches!(store.health(), Health::Failed(_)), "{:?}", store.health());
    run(&server, &call_off).await;
    assert_eq!(server.dump().await.expect("it is dumped"), before);
    assert_eq!(fleet.claim(&hand).await.map(|held| held.job), Some(job));
    assert_eq!(store.health(), Health::Ready);
    fleet.check().await.expect("nothing is wrong");
}

/// Nobody could be heard meanwhile, so nobody was silent.
#[tokio::test]
async fn a_move_of_its_slot_that_is_called_off_ends_no_lease() {
    let ([server, _other], [begin, call_off]) = about_to_move().await;
    let clock = ManualClock::default();
    let (store, fleet) =
        open_with(Options { clock: Some(Arc::new(clock.clone())), ..at(&server) }).await;
    let hand = fleet.worker("w", 1, &[]).await;
    let held = fleet.running(&hand).await;
    assert!(store.due(Due::Leases).await.expect("it is looked").is_empty());
    run(&server, &begin).await;
    for _ in 0..2 * limits::LEASE.as_secs() {
        clock.advance(Duration::from_secs(1));
        // Servers look all the time.
        let why = store.due(Due::Leases).await.expect_err("nobody can be heard");
        assert!(matches!(store.health(), Health::Failed(_)), "the store is away: {why}");
    }
    run(&server, &call_off).await;
    assert!(store.due(Due::Leases).await.expect("it is looked").is_empty());
    fleet.act(&hand, held, completed()).await.expect("it ends");
}

/// What is asked of replicas needs no memory: endings go on without.
#[tokio::test]
async fn without_memory_replicas_confirm_what_ends() {
    let server = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    let _replica =
        RedisServer::replica_of(&server, RedisOptions::default()).await.expect("it follows");
    let (store, fleet) = open_with(Options { acks: 1, ..at(&server) }).await;
    let hand = fleet.worker("w", 1, &[]).await;
    let held = fleet.running(&hand).await;
    run(&server, "CONFIG SET maxmemory 1").await;
    let end = Fleet::exchange(&hand, vec![Fleet::op(held, completed())], Vec::new());
    // Confirmed with the first call, or, where the replica is slow, with an exact repeat.
    within("the replica confirms", async {
        while handed_in(&store, end.clone()).await.unconfirmed.is_some() {}
    })
    .await;
}

/// What is asked for and what ends is to outlive the primary; what a worker does meanwhile is not.
#[tokio::test]
async fn replicas_are_to_have_what_is_asked_for_and_what_ends() {
    let server = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    let (_, fleet) = open(&server).await;
    let (store, _) = open_with(Options { acks: 1, ..at(&server) }).await;
    let is_confirmed = async |command| {
        let done = store.execute(vec![command]).await.expect("it is written").pop();
        done.expect("an answer").expect("it is taken").unconfirmed.is_none()
    };
    let hand = fleet.worker("w", 1, &[]).await;
    let op = |held, op| Fleet::exchange(&hand, vec![Fleet::op(held, op)], Vec::new());
    let job = fleet.submit(spec(50)).await;
    assert!(!is_confirmed(Command::Cancel { job }).await);
    assert!(!is_confirmed(Command::Retry { job, run: None }).await);
    let held = fleet.claim(&hand).await.expect("the job");
    assert!(is_confirmed(Command::Exchange(op(held, Op::Start))).await, "nobody was asked");
    let release = Op::Release { reason: LossReason::Drained, message: String::new() };
    fleet.act(&hand, held, release).await.expect("it is given back");
    assert!(!is_confirmed(Command::Exchange(op(held, late()))).await);
}
