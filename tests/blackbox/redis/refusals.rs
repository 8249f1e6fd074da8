//! A server says why it cannot start on a Redis, and what would mend it.

use pointsman_api::{BatchItem, ErrorCode, Submission};
use pointsman_core::record::AlertRule;
use pointsman_redis_testing::{RedisOptions, RedisServer, Sentinel};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use super::fleet::{Fleet, SOON, becomes};
use crate::harness::{Process, Served, directory, run, simulation};

async fn refusal(store: &str) -> String {
    let data = directory();
    let data = data.path().to_str().expect("UTF-8");
    let listen = ["server", "--listen", "127.0.0.1:0", "--store", store, "--data", data];
    let output = run(&listen).await;
    assert!(!output.status.success());
    String::from_utf8(output.stderr).expect("UTF-8")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_refuses_a_redis_that_it_cannot_live_on_and_touches_nothing() {
    let evicts = RedisOptions {
        maxmemory: Some(100 << 20),
        policy: Some("allkeys-lru"),
        ..RedisOptions::default()
    };
    let evicts = RedisServer::start(evicts).await.expect("a Redis");
    let locked = RedisOptions { password: Some("right".into()), ..RedisOptions::default() };
    let locked = RedisServer::start(locked).await.expect("a Redis");
    let before = [evicts.dump().await.expect("a dump"), locked.dump().await.expect("a dump")];

    let said = refusal(&evicts.url()).await;
    assert!(said.contains("CONFIG SET maxmemory-policy noeviction"), "{said}");
    let said = refusal(&locked.url().replace("right", "wrong")).await;
    assert!(said.contains("check user and password"), "{said}");
    assert!(!said.contains("wrong@"), "no password is shown: {said}");
    let said = refusal("redis://127.0.0.1:1").await;
    assert!(said.contains("cannot reach Redis at redis://127.0.0.1:1"), "{said}");

    let after = [evicts.dump().await.expect("a dump"), locked.dump().await.expect("a dump")];
    assert!(before == after, "something was touched");
}

/// To open the store would make it, or raise its format.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_refused_by_itself_has_opened_no_store() {
    let redis = RedisServer::start(RedisOptions::default()).await.expect("a Redis");
    let (none, others) = (directory(), directory());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("an address").to_string();
    let owner = others.path().join("files/owner.json");
    std::fs::create_dir(others.path().join("files")).expect("a directory");
    std::fs::write(owner, r#"{"fleet":"other","store_made_at":null}"#).expect("a file");
    let sqlite = format!("sqlite:{}", none.path().join("new").display());
    let new = none.path().join("new");
    for (listen, store, data, why) in [
        ("0.0.0.0:0", &redis.url(), &*new, "there is no token yet"),
        ("0.0.0.0:0", &sqlite, &*new, "there is no token yet"),
        (&*taken, &redis.url(), &*new, "cannot listen on"),
        ("127.0.0.1:0", &redis.url(), others.path(), "of fleet \"other\", not of \"default\""),
    ] {
        let data = data.to_str().expect("UTF-8");
        let refused = run(&["server", "--listen", listen, "--store", store, "--data", data]).await;
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(refused.status.code() == Some(2) && said.contains(why), "{why}: {refused:?}");
        assert!(!new.exists(), "{why}");
    }
    assert!(redis.dump().await.expect("a dump").keys().all(|key| !key.contains("pointsman")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_redis_is_a_wrong_address() {
    let web = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let store = format!("redis://{}", web.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((mut client, _)) = web.accept().await {
            let answer = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
            client.write_all(answer).await.expect("it is sent");
        }
    });
    let refused = run(&["intake", "--store", &store]).await;
    let said = String::from_utf8(refused.stderr).expect("UTF-8");
    assert!(said.contains("cannot be right") && said.lines().count() == 1, "{said}");
    assert_eq!(refused.status.code(), Some(2), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_may_lose_jobs_are_said_at_start_and_shown_for_as_long_as_they_are() {
    let redis = RedisServer::start(RedisOptions::default()).await.expect("a Redis");
    let fleet = Fleet::on(redis.url());
    let mut server = fleet.server("one").await;
    let mut worker = fleet.direct(&server, "direct", 1).await;
    for process in [&mut server.process, &mut worker] {
        process.logs("CONFIG SET appendonly yes").await;
    }
    let warning = async || {
        let alerts = server.client.snapshot().await.expect("a snapshot").alerts;
        alerts.into_iter().find(|alert| alert.rule == AlertRule::StoreAtRisk)
    };
    let shown = becomes("the warning", SOON, async || warning().await).await;
    assert!(shown.message.contains("loses every job"), "{shown:?}");
    assert!(shown.action.contains("CONFIG REWRITE"), "a restart keeps it: {shown:?}");
    let mut connection = redis.connect().await.expect("it answers");
    let mut set = async |name: &str, value: &str| {
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg(name).arg(value);
        set.exec_async(&mut connection).await.expect("it is set");
    };
    set("appendonly", "yes").await;
    becomes("no warning", SOON, async || warning().await.is_none().then_some(())).await;
    set("maxmemory-policy", "allkeys-lru").await;
    set("maxmemory", "1gb").await;
    let evicts = async || warning().await.filter(|alert| alert.message.contains("drops jobs"));
    let shown = becomes("the other warning", SOON, evicts).await;
    assert!(shown.action.starts_with("CONFIG SET maxmemory-policy noeviction"), "{shown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_batch_that_no_replica_confirms_each_job_is_answered_for_itself() {
    let redis = RedisServer::start(RedisOptions::default()).await.expect("a Redis");
    let server = Fleet::with_acks(redis.url()).server("one").await;
    let with_key =
        |key: &str, ms| Submission { idempotency_key: Some(key.to_owned()), ..simulation(ms) };
    let unsure = server.client.submit(&with_key("first", 1)).await.expect_err("not confirmed");
    assert!(unsure.is(ErrorCode::OutcomeUnknown), "{unsure}");
    let unknown = Submission { service: "unheard-of".into(), ..simulation(1) };
    let jobs = [with_key("first", 2), with_key("second", 1), unknown, simulation(1)];
    let answered = server.client.submit_batch(&jobs).await.expect("each is answered").results;
    let problem = |item: &BatchItem| match item {
        BatchItem::Refused { problem } => {
            (problem.code.clone().into_owned(), problem.cure.contains("repeat exactly"))
        }
        BatchItem::Accepted { job, .. } => panic!("no replica has it: {job:?}"),
    };
    let of = |code: ErrorCode| code.as_str().to_owned();
    let problems: Vec<_> = answered.iter().map(problem).collect();
    assert_eq!(
        problems,
        [
            (of(ErrorCode::IdempotencyConflict), false),
            (of(ErrorCode::OutcomeUnknown), true),
            (of(ErrorCode::UnknownService), false),
            (of(ErrorCode::OutcomeUnknown), false),
        ]
    );
    // Of these nothing is known: they are repeated as a whole.
    let all = server.client.submit_batch(&jobs[1..2]).await.expect_err("none is known");
    assert!(all.is(ErrorCode::OutcomeUnknown), "{all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_of_another_kind_says_which_one_is_meant() {
    let options = RedisOptions { tls: true, ..RedisOptions::default() };
    let redis = RedisServer::start(options).await.expect("a Redis");
    let sentinel = Sentinel::start(&redis, "main", 1).await.expect("a Sentinel");
    let (plain, behind) = (redis.port(), sentinel.port());
    let tls = redis.tls_url().expect("it speaks TLS");
    let (no_authority, _) = tls.split_once('?').expect("it names its authority");
    for (address, meant) in [
        (format!("rediss://127.0.0.1:{plain}"), "redis://, not rediss://"),
        (no_authority.replace("rediss://", "redis://"), "rediss://, not redis://"),
        (no_authority.to_owned(), "?ca=FILE"),
        (format!("redis+sentinel://127.0.0.1:{plain}/main"), "no Sentinel"),
        (format!("redis+cluster://127.0.0.1:{plain}"), "no cluster"),
        (format!("redis://127.0.0.1:{behind}"), "is a Sentinel: give the primary's address"),
    ] {
        let said = refusal(&address).await;
        assert!(said.contains(meant), "{address}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_worker_makes_no_fleet_and_waits_for_the_server_that_does() {
    let redis = RedisServer::start(RedisOptions::default()).await.expect("a Redis");
    let (url, files) = (redis.url(), directory());
    let files = files.path().to_str().expect("UTF-8");
    let worker = |id: &'static str| {
        let who = ["worker", "--id", id, "--service", "simulation", "--broker", &url];
        Process::start(&[&who[..], &["--artifacts", files, "--fleet", "new"]].concat())
    };
    let (mut early, mut told_to_stop) = (worker("early"), worker("stops"));
    for worker in [&mut early, &mut told_to_stop] {
        let said = worker.logs("there is no store under {pointsman:new}: check").await;
        assert!(said.contains("--fleet") && said.contains("a server"), "{said}");
    }
    told_to_stop.signal("TERM");
    assert!(told_to_stop.ended().await.success());
    assert!(redis.dump().await.expect("a dump").keys().all(|key| !key.contains("pointsman")));
    let data = directory();
    let place = ["--data", data.path().to_str().expect("UTF-8"), "--artifacts", files];
    let server = ["server", "--listen", "127.0.0.1:0", "--store", &url, "--fleet", "new"];
    let server = Served::from(Process::start(&[&server[..], &place].concat())).await;
    let _early = server.registered(early).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_waits_for_a_redis_that_is_away_and_a_server_says_so() {
    let mut redis = RedisServer::start(RedisOptions::default()).await.expect("a Redis");
    let (url, files) = (redis.url(), directory());
    let files = files.path().to_str().expect("UTF-8");
    redis.kill().await.expect("it is killed");
    let worker = |id: &'static str| {
        let who = ["worker", "--id", id, "--service", "simulation", "--broker", &url];
        Process::start(&[&who[..], &["--artifacts", files]].concat())
    };
    let (mut early, mut told_to_stop) = (worker("early"), worker("stops"));
    for worker in [&mut early, &mut told_to_stop] {
        let said = worker.logs("cannot reach Redis").await;
        assert!(said.contains("waiting for it"), "{said}");
    }
    told_to_stop.signal("TERM");
    assert!(told_to_stop.ended().await.success());
    let place = ["--data", files, "--artifacts", files];
    let server = ["server", "--listen", "127.0.0.1:0", "--store", &url];
    let away = run(&[&server[..], &place].concat()).await;
    assert_eq!(away.status.code(), Some(3), "{away:?}");
    redis.start_again().await.expect("it starts again");
    let server = Served::from(Process::start(&[&server[..], &place].concat())).await;
    let _early = server.registered(early).await;
}

/// A repeat whose files cannot be looked at is answered from what is stored: no sooner than a first.
#[tokio::test(flavor = "multi_thread")]
async fn what_no_replica_has_is_confirmed_by_no_repeat() {
    let redis = RedisServer::start(RedisOptions::default()).await.expect("a Redis");
    let (url, data) = (redis.url(), directory());
    let server = ["server", "--listen", "127.0.0.1:0", "--store", &url];
    let server = [&server[..], &["--data", data.path().to_str().expect("UTF-8"), "--acks", "1"]];
    let server = Served::from(Process::start(&server.concat())).await;
    let _worker = server.worker("w", 1).await;
    let from = "data:text/plain;base64,YQ==";
    let input = json!([{"node": "1", "field": "a", "name": "a.txt", "from": from}]);
    let mut submission = simulation(1);
    submission.inputs = serde_json::from_value(input).expect("an input");
    submission.idempotency_key = Some("order-1".into());
    let unconfirmed = async || {
        let why = server.client.submit(&submission).await.expect_err("no replica has it");
        let why = why.problem().expect("a problem").clone();
        assert_eq!(why.code, "outcome_unknown", "{why:?}");
    };
    unconfirmed().await;
    std::fs::rename(data.path().join("files"), data.path().join("away")).expect("they are away");
    unconfirmed().await;
    std::fs::rename(data.path().join("away"), data.path().join("files")).expect("they are back");
    let _replica = RedisServer::replica_of(&redis, RedisOptions::default()).await.expect("syncs");
    let confirmed = async || server.client.submit(&submission).await.ok();
    let confirmed = becomes("confirmed", SOON, confirmed).await;
    assert!(confirmed.existed, "it is written once");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_confirmations_than_there_are_replicas_are_warned_of() {
    let redis = RedisServer::start(RedisOptions::default()).await.expect("a Redis");
    let (url, files) = (redis.url(), directory());
    let files = files.path().to_str().expect("UTF-8");
    let server = ["server", "--listen", "127.0.0.1:0", "--store", &url, "--data", files];
    let server = Process::start(&[&server[..], &["--acks", "1"]].concat());
    let mut server = Served::from(server).await;
    server.process.logs("has 0 replicas and --acks is 1").await;
    // None while there is no snapshot: with its first replica Redis takes another replication id.
    let is_shown = async || {
        let alerts = server.client.snapshot().await.ok()?.alerts;
        Some(alerts.iter().any(|alert| alert.message.contains("--acks is 1")))
    };
    let becomes_shown = async |wanted: bool, what| {
        becomes(what, SOON, async || is_shown().await.filter(|shown| *shown == wanted)).await
    };
    becomes_shown(true, "the warning").await;
    let who = ["worker", "--id", "w", "--service", "simulation", "--broker", &url];
    let mut worker = Process::start(&[&who[..], &["--artifacts", files, "--acks", "1"]].concat());
    worker.logs("has 0 replicas and --acks is 1").await;
    let _replica = RedisServer::replica_of(&redis, RedisOptions::default()).await.expect("syncs");
    becomes_shown(false, "no warning").await;
}
