//! Another Redis takes over, and the one before is not dead.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use pointsman_core::Command;
use pointsman_redis_testing::{RedisOptions, RedisServer, Sentinel};
use pointsman_store::{
    Health, Store as _,
    conformance::fleet::{Fleet, spec},
    job as job_of,
};
use pointsman_store_redis::{Options, RedisStore};
use redis::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};

use crate::support::run;

const SOON: Duration = Duration::from_secs(30);
const A_MOMENT: Duration = Duration::from_millis(20);

/// Where new connections lead to can be changed; those that are there stay.
async fn way(to: Arc<AtomicU16>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("its address").port();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let to = to.load(Ordering::Relaxed);
            tokio::spawn(async move {
                let mut far = TcpStream::connect(("127.0.0.1", to)).await?;
                tokio::io::copy_bidirectional(&mut near, &mut far).await
            });
        }
    });
    port
}

/// Ends the connections that wait for nothing in the log.
async fn cut_off_all_but_who_follows(server: &RedisServer) {
    let Value::BulkString(clients) = run(server, "CLIENT LIST TYPE normal").await else {
        panic!("no list")
    };
    for client in String::from_utf8(clients).expect("UTF-8").lines() {
        let is = |what: &str| client.split(' ').any(|part| part == what);
        if !is("cmd=xread") && !is("cmd=client|list") {
            let id = client.split(' ').next().and_then(|id| id.strip_prefix("id=")).expect("an id");
            run(server, &format!("CLIENT KILL ID {id}")).await;
        }
    }
}

/// A call that was sent before it froze is carried out once it thaws, in a history that is over.
#[tokio::test]
async fn what_a_former_primary_still_does_is_told_to_nobody() {
    let before = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    let to = Arc::new(AtomicU16::new(before.port()));
    let address = format!("redis://127.0.0.1:{}", way(to.clone()).await);
    let address = address.parse().expect("a valid address");
    let options = Options { look_every: Duration::from_secs(3_600), ..Options::new(address) };
    let store = Arc::new(RedisStore::open(options).await.expect("it opens"));
    let fleet = Fleet::on(&store);
    fleet.submit(spec(50)).await;
    let _feed = store.subscribe();
    let follows = async {
        while before.info("blocked_clients").await.expect("it answers") != Some(1) {
            tokio::time::sleep(A_MOMENT).await;
        }
    };
    timeout(SOON, follows).await.expect("the log is followed");
    let after =
        RedisServer::replica_of(&before, RedisOptions::default()).await.expect("it follows");
    after.promote().await.expect("it is promoted");
    to.store(after.port(), Ordering::Relaxed);
    let (epoch, seq) = (store.epoch(), fleet.seq().await);
    cut_off_all_but_who_follows(&before).await;
    let moves = async {
        while store.epoch() == epoch {
            // The first call may find the connection broken.
            if store.queues(0).await.is_err() {
                tokio::time::sleep(A_MOMENT).await;
            }
        }
    };
    timeout(SOON, moves).await.expect("the other one is found");
    let mut feed = store.subscribe();
    let next = format!("XADD {{pointsman:default}}:log {}-0 at 1700000000000 ended_no 0", seq + 1);
    run(&before, &next).await;
    // What is done before the feed is there is not in it.
    let told = async {
        loop {
            let submit = vec![Command::Submit(fleet.submission(spec(50)))];
            store.execute(submit).await.expect("the store works");
            if let Ok(group) = timeout(A_MOMENT, feed.recv()).await {
                return group.expect("the feed goes on");
            }
        }
    };
    let told = timeout(SOON, told).await.expect("the log is followed again");
    assert!(!told.events.is_empty(), "it is of the one before: {told:?}");
}

/// Who promotes it cuts all connections.
async fn is_primary(server: &RedisServer) -> bool {
    let Ok(mut connection) = server.connect().await else { return false };
    let role = redis::cmd("ROLE").query_async::<(String, Value, Value)>(&mut connection).await;
    role.is_ok_and(|(role, ..)| role == "master")
}

/// Sentinels make a former primary that is well a replica only ten seconds later: what it takes until
/// then is gone.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_by_a_primary_that_sentinels_have_replaced() {
    let before = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    let after =
        RedisServer::replica_of(&before, RedisOptions::default()).await.expect("it follows");
    let mut sentinel = Sentinel::start(&before, "main", 1).await.expect("it watches");
    sentinel.knows_replicas(1).await.expect("it sees the replica");
    let address = sentinel.url().parse().expect("a valid address");
    let options = Options { look_every: Duration::from_secs(3_600), ..Options::new(address) };
    let store = Arc::new(RedisStore::open(options).await.expect("it opens"));
    let fleet = Fleet::on(&store);
    let epoch = store.epoch();
    let mut acknowledged = Vec::new();
    let submits = async {
        while store.epoch() == epoch {
            let submission = fleet.submission(spec(50));
            let job = submission.id;
            match store.execute(vec![Command::Submit(submission)]).await {
                Ok(_) => acknowledged.push((job, Instant::now())),
                Err(_) => tokio::time::sleep(A_MOMENT).await,
            }
        }
    };
    let is_promoted = async {
        while !is_primary(&after).await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Instant::now()
    };
    sentinel.fail_over().await.expect("it is ordered");
    let both = async { tokio::join!(submits, is_promoted) };
    let ((), promoted) = timeout(SOON, both).await.expect("the other one is found");
    let mut lost = Vec::new();
    for (job, at) in &acknowledged {
        if job_of(&*store, *job).await.expect("the store works").is_none() {
            lost.push(*at);
        }
    }
    println!("{} acknowledged, {} of them lost", acknowledged.len(), lost.len());
    let last = lost.last().map_or(Duration::ZERO, |last| last.duration_since(promoted));
    assert_eq!(last, Duration::ZERO, "the one before acknowledged for so long after the promotion");
}

/// Nobody calls anything: the wait for work alone tells that it is no primary any more.
#[tokio::test]
async fn who_waits_for_work_learns_that_the_primary_is_a_replica_now() {
    let before = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    let after = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    let address = before.url().parse().expect("a valid address");
    let options = Options { look_every: Duration::from_secs(3_600), ..Options::new(address) };
    let store = Arc::new(RedisStore::open(options).await.expect("it opens"));
    let fleet = Fleet::on(&store);
    let hand = fleet.worker("idle", 1, &[]).await;
    let _hint = store.wait_for_work(hand.worker.clone(), Vec::new());
    let waits = async {
        while before.info("blocked_clients").await.expect("it answers") != Some(1) {
            tokio::time::sleep(A_MOMENT).await;
        }
    };
    timeout(SOON, waits).await.expect("it waits for work");
    run(&before, &format!("REPLICAOF 127.0.0.1 {}", after.port())).await;
    let learns = async {
        while !matches!(store.health(), Health::Failed(_)) {
            tokio::time::sleep(A_MOMENT).await;
        }
    };
    timeout(SOON, learns).await.expect("it is not taken for a primary any more");
}
