//! Opening: what is refused, with what words, and that nothing was touched; and every way to a
//! primary.

use std::{path::Path, sync::Arc, time::Duration};

use pointsman_core::{
    Command,
    record::{ConnectorStatus, Progress},
};
use pointsman_redis_testing::{Aof, RedisOptions, RedisServer, Sentinel};
use pointsman_store::{
    Depth, Due, Health, Retention, Store, StoreError, ToldProgress, Transfer as _,
    conformance::fleet::{Fleet, completed, spec, within},
    transfer::{ExportOptions, TransferError, export, import},
};
use pointsman_store_redis::{Address, OpenError, Opening, Options, RedisStore, SettingsError};

use crate::support::{nobody, run};

const META: &str = "{pointsman:default}:meta";

fn at(address: &str) -> Options {
    Options::new(address.parse::<Address>().expect("a valid address"))
}

async fn refused(server: &RedisServer, options: Options) -> OpenError {
    let before = server.dump().await.expect("it is dumped");
    let refused = RedisStore::open(options).await.err().expect("it is refused");
    assert_eq!(server.dump().await.expect("it is dumped"), before, "nothing was touched");
    refused
}

/// A store that works: it takes a job.
async fn works(store: RedisStore) {
    let fleet = Fleet::on(&Arc::new(store));
    let submit = fleet.submission(spec(50));
    fleet.run(Command::Submit(submit)).await.expect("it takes a job");
}

#[tokio::test]
async fn a_redis_that_would_drop_jobs_is_refused() {
    let options = RedisOptions {
        maxmemory: Some(64 << 20),
        policy: Some("allkeys-lru"),
        ..Default::default()
    };
    let server = RedisServer::start(options).await.expect("it starts");
    let why = refused(&server, at(&server.url())).await;
    assert!(matches!(why, OpenError::Settings(SettingsError::Evicts { .. })), "{why}");
    assert!(why.to_string().contains("noeviction"), "{why}");
}

#[tokio::test]
async fn a_replica_is_refused() {
    let primary = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    let replica =
        RedisServer::replica_of(&primary, RedisOptions::default()).await.expect("it syncs");
    let why = refused(&replica, at(&replica.url())).await;
    assert!(why.to_string().contains("primary"), "{why}");
}

#[tokio::test]
async fn what_belongs_to_others_is_left_alone() {
    let server = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    run(&server, "SET {pointsman:default}:something foreign").await;
    let why = refused(&server, at(&server.url())).await;
    assert!(matches!(why, OpenError::Foreign { .. }), "{why}");
    run(&server, "FLUSHALL").await;
    run(&server, "HSET {pointsman:default}:meta format 1 fleet other").await;
    let why = refused(&server, at(&server.url())).await;
    assert!(why.to_string().contains("--fleet"), "{why}");
    run(&server, "HSET {pointsman:default}:meta format 9 fleet default").await;
    let why = refused(&server, at(&server.url())).await;
    assert!(matches!(why, OpenError::Newer { .. }), "{why}");
}

#[tokio::test]
async fn a_store_of_an_older_format_is_taken_over() {
    let server = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    let open = async || RedisStore::open(at(&server.url())).await.expect("it opens");
    open().await.close().await.expect("it closes");
    let format = async || -> String {
        let mut connection = server.connect().await.expect("it answers");
        let mut get = redis::cmd("HGET");
        get.arg(META).arg("format").query_async(&mut connection).await.expect("it is there")
    };
    let newest = format().await;
    run(&server, &format!("HSET {META} format 1")).await;
    // A look, an intake that is closed and an export leave it to the servers that there are.
    let visit = Options { opening: Opening::Visit, ..at(&server.url()) };
    let visitor = RedisStore::open(visit).await.expect("it opens");
    visitor.set_intake(false).await.expect("it is closed");
    let export_options = ExportOptions { made_by: String::new(), with_running: false };
    export(&visitor, &export_options, &mut Vec::new(), &mut |_| ()).await.expect("an export");
    visitor.set_intake(true).await.expect("it is open");
    assert_eq!(format().await, "1");
    // A worker waits for a server that takes it over: nobody else would look after its jobs.
    let work = || Options { opening: Opening::Work, ..at(&server.url()) };
    let why = refused(&server, work()).await;
    assert_eq!(why, OpenError::Older { format: "1".into() });
    works(open().await).await;
    RedisStore::open(work()).await.expect("a worker joins it");
    assert_eq!(format().await, newest);
    let docs =
        [include_str!("../../../../docs/redis.md"), include_str!("../../../../docs/operating.md")];
    assert!(docs[0].contains(&format!("This version's format is {newest},")), "the docs say it");
    assert!(docs[1].contains(&format!("meta format {newest} fleet")), "so does the recovery");
}

#[tokio::test]
async fn an_import_that_is_refused_leaves_the_format() {
    let server = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    let store = RedisStore::open(at(&server.url())).await.expect("it opens");
    let options = ExportOptions { made_by: String::new(), with_running: false };
    let mut stream = Vec::new();
    export(&store, &options, &mut stream, &mut |_| ()).await.expect("an export");
    store.set_intake(true).await.expect("it is open");
    works(store).await;
    run(&server, &format!("HSET {META} format 1")).await;
    let opening = Options { opening: Opening::Import, ..at(&server.url()) };
    let target = RedisStore::open(opening).await.expect("it opens");
    let refused = import(&target, &stream[..], &mut |_| ()).await;
    assert!(matches!(refused, Err(TransferError::NotEmpty(_))), "{refused:?}");
    let mut connection = server.connect().await.expect("it answers");
    let mut get = redis::cmd("HGET");
    get.arg(META).arg("format");
    let format: String = get.query_async(&mut connection).await.expect("it is there");
    assert_eq!(format, "1");
}

#[tokio::test]
async fn a_format_that_is_none_is_told_as_that() {
    let server = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    let store = RedisStore::open(at(&server.url())).await.expect("it opens");
    run(&server, &format!("HSET {META} format banana")).await;
    let opened = RedisStore::open(at(&server.url())).await.map(drop);
    let refused = opened.expect_err("it is refused").to_string();
    assert!(refused.contains("meta format is \"banana\""), "{refused}");
    let called = store.break_contact().await.expect_err("it is refused").to_string();
    assert!(called.contains("meta format is \"banana\""), "{called}");
    run(&server, &format!("HSET {META} format 4")).await;
    store.break_contact().await.expect("it serves again");
}

#[tokio::test]
async fn a_store_that_a_newer_version_took_over_is_not_written_any_more() {
    let server = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    let store = Arc::new(RedisStore::open(at(&server.url())).await.expect("it opens"));
    let fleet = Fleet::on(&store);
    let hand = fleet.worker("w", 1, &[]).await;
    let held = fleet.running(&hand).await;
    let formats = async |format: &str| run(&server, &format!("HSET {META} format {format}")).await;
    formats("99").await;
    let before = server.dump().await.expect("it answers");
    let submit = Command::Submit(fleet.submission(spec(50)));
    let ends = vec![Fleet::op(held, completed())];
    let exchange = Command::Exchange(Fleet::exchange(&hand, ends, Vec::new()));
    let newer = StoreError::Newer { format: "99".into() };
    for command in [submit, exchange] {
        let refused = store.execute(vec![command]).await.expect_err("it is refused");
        assert_eq!(refused, newer);
        assert_eq!(store.health(), Health::Newer(newer.to_string()));
    }
    assert_eq!(store.break_contact().await, Err(newer.clone()));
    assert_eq!(server.dump().await.expect("it answers"), before);
    assert_eq!(store.health(), Health::Newer(newer.to_string()));
    formats("4").await;
    fleet.act(&hand, held, completed()).await.expect("it serves again");
    assert_eq!(store.health(), Health::Ready);
}

#[tokio::test]
async fn a_key_of_others_in_the_place_of_meta_is_left_alone() {
    let server = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    for theirs in [format!("SET {META} x"), format!("HSET {META} their field")] {
        run(&server, "FLUSHALL").await;
        run(&server, &theirs).await;
        let why = refused(&server, at(&server.url())).await;
        let prefix = "{pointsman:default}:".into();
        assert_eq!(why, OpenError::Foreign { prefix, key: META.into() });
    }
    // Keys elsewhere are no concern of ours.
    run(&server, "FLUSHALL").await;
    run(&server, "SET pointsman:default: x").await;
    RedisStore::open(at(&server.url())).await.expect("there is room beside them");
}

#[tokio::test]
async fn a_wrong_password_and_a_host_that_is_not_there_are_told_apart() {
    let options = RedisOptions { password: Some("secret".into()), ..Default::default() };
    let server = RedisServer::start(options).await.expect("it starts");
    let wrong = format!("redis://:wrong@127.0.0.1:{}", server.port());
    for address in [wrong, format!("redis://127.0.0.1:{}", server.port())] {
        let why = refused(&server, at(&address)).await;
        assert!(matches!(why, OpenError::Denied { .. }), "{why}");
        assert!(!why.to_string().contains("wrong@"), "the password is not shown: {why}");
    }
    let (_nobody, away) = nobody();
    let why = RedisStore::open(at(&format!("redis://{away}"))).await.err();
    assert!(matches!(why, Some(OpenError::Unreachable { .. })), "{why:?}");
}

#[tokio::test]
async fn without_an_append_only_file_it_warns() {
    let server = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    let store = RedisStore::open(at(&server.url())).await.expect("it opens");
    assert!(store.warnings()[0].contains("append-only"), "{:?}", store.warnings());
    let server =
        RedisServer::start(RedisOptions::with_aof(Aof::EverySec)).await.expect("it starts");
    let store = RedisStore::open(at(&server.url())).await.expect("it opens");
    assert_eq!(store.warnings(), [""; 0]);
}

#[tokio::test]
async fn a_full_memory_refuses_submissions_and_lets_what_runs_end() {
    let options = RedisOptions { maxmemory: Some(32 << 20), ..Default::default() };
    let server = RedisServer::start(options).await.expect("it starts");
    let options = Options { look_every: Duration::from_millis(50), ..at(&server.url()) };
    let store = Arc::new(RedisStore::open(options).await.expect("it opens"));
    let fleet = Fleet::on(&store);
    let hand = fleet.worker("w", 1, &[]).await;
    let held = fleet.running(&hand).await;
    let filling = "x".repeat(256 << 10);
    let mut filled = 0;
    while store.health() == Health::Ready {
        run(&server, &format!("SET filling-{filled} {filling}")).await;
        filled += 1;
        // The store looks every 50 ms.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let submit = fleet.submission(spec(50));
    let full = store.execute(vec![Command::Submit(submit)]).await;
    assert!(matches!(full, Err(pointsman_store::StoreError::Full(_))), "{full:?}");
    let done = completed();
    fleet.act(&hand, held, done).await.expect("what runs may end");
    for n in 0..filled {
        run(&server, &format!("DEL filling-{n}")).await;
    }
    while store.health() != Health::Ready {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    fleet.running(&hand).await;
}

#[tokio::test]
async fn over_tls_with_a_private_authority() {
    let options = RedisOptions { tls: true, ..Default::default() };
    let server = RedisServer::start(options).await.expect("it starts");
    let address = server.tls_url().expect("it speaks TLS");
    works(RedisStore::open(at(&address)).await.expect("it opens")).await;
    let (unknown, _) = address.split_once('?').expect("it names its authority");
    let why = RedisStore::open(at(unknown)).await.err().expect("an unknown authority is refused");
    assert!(matches!(why, OpenError::Unreachable { .. }), "{why}");
}

#[tokio::test]
async fn servers_that_start_together_make_one_store() {
    let server = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    for n in 0..20 {
        let open = || {
            let options = Options { fleet: format!("fleet-{n}"), ..at(&server.url()) };
            tokio::spawn(RedisStore::open(options))
        };
        let opening: Vec<_> = (0..8).map(|_| open()).collect();
        for opened in opening {
            let store = opened.await.expect("no panic").expect("it opens");
            store.close().await.expect("it closes");
        }
    }
}

#[tokio::test]
async fn over_tls_with_a_certificate_of_its_own() {
    let options = RedisOptions { tls: true, tls_clients: true, ..Default::default() };
    let server = RedisServer::start(options).await.expect("it starts");
    let address = server.tls_url().expect("it speaks TLS");
    let (cert, key) = server.client_files().expect("it speaks TLS");
    let with = |cert: &Path, key: &Path| {
        at(&format!("{address}&cert={}&key={}", cert.display(), key.display()))
    };
    works(RedisStore::open(with(&cert, &key)).await.expect("it opens")).await;
    let why = RedisStore::open(at(&address)).await.err().expect("it asks for one");
    assert!(why.to_string().contains("cert="), "{why}");
    let why = RedisStore::open(with(&cert, &cert)).await.err().expect("that is no key");
    assert!(matches!(why, OpenError::Address { .. }), "{why}");
}

/// A function that may not use one of its commands would stop in the midst of its writes.
#[tokio::test]
async fn a_user_without_all_rights_is_refused() {
    let server = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    let address = format!("redis://app:secret@127.0.0.1:{}", server.port());
    let user = "ACL SETUSER app reset on >secret +@all";
    run(&server, &format!("{user} ~* &*")).await;
    works(RedisStore::open(at(&address)).await.expect("it opens")).await;
    let rights = [
        ("~* &* -xadd", "XADD"),
        ("~* &* -set", "SET"),
        ("~*", "PUBLISH"),
        ("~{pointsman:other}:* &*", "key"),
    ];
    for (rights, named) in rights {
        run(&server, &format!("{user} {rights}")).await;
        let why = refused(&server, at(&address)).await;
        assert!(matches!(why, OpenError::Denied { .. }), "{rights:?}: {why}");
        let why = why.to_string();
        assert!(why.contains(named) && why.contains("deploy/users.acl"), "{rights:?}: {why}");
    }
}

/// What a function wrote before it came upon a right that was taken away would not be taken back.
#[tokio::test]
async fn a_right_that_is_taken_away_is_missed_before_anything_is_written() {
    let server = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    let address = format!("redis://app:secret@127.0.0.1:{}", server.port());
    run(&server, "ACL SETUSER app on >secret ~* &* +@all").await;
    let store = Arc::new(RedisStore::open(at(&address)).await.expect("it opens"));
    let fleet = Fleet::on(&store);
    let hand = fleet.worker("w", 1, &[]).await;
    fleet.submit(spec(50)).await;
    let held = fleet.running(&hand).await;
    fleet.renew(&hand, vec![held], ConnectorStatus::Active).await.expect("it is there");
    for right in ["del", "hset", "hincrby", "rpush", "sadd", "set", "srem", "xadd", "zadd", "zrem"]
    {
        run(&server, &format!("ACL SETUSER app -{right}")).await;
        let before = server.dump().await.expect("it is dumped");
        let submit = Command::Submit(fleet.submission(spec(50)));
        let end = Fleet::exchange(&hand, vec![Fleet::op(held, completed())], vec![]);
        for command in [submit, Command::Exchange(end)] {
            let why = store.execute(vec![command]).await.map(drop).expect_err("it may not");
            let StoreError::Failed(why) = &why else { panic!("{right}: {why:?}") };
            assert!(why.contains(&right.to_uppercase()) && why.contains("users.acl"), "{why}");
        }
        assert_eq!(server.dump().await.expect("it is dumped"), before, "nothing was touched");
        // A renewal needs less: it says nothing of what else is allowed.
        let renewal = Fleet::renewal(&hand, vec![held], ConnectorStatus::Active);
        let _ = store.execute(vec![Command::Renew(renewal)]).await;
        let Health::Failed(why) = store.health() else { panic!("{right}: it is not well") };
        assert!(why.contains(&right.to_uppercase()), "{why}");
        run(&server, &format!("ACL SETUSER app +{right}")).await;
        fleet.submit(spec(50)).await;
        assert_eq!(store.health(), Health::Ready, "{right}");
    }
    fleet.act(&hand, held, completed()).await.expect("it ends");
    assert!(fleet.findings().await.is_empty());
}

/// The doctor's cure of a log that somebody wrote into is the least that helps.
#[tokio::test]
async fn an_entry_behind_the_end_of_the_log_is_deleted_and_everything_goes_on() {
    let server = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    let address = format!("redis://127.0.0.1:{}", server.port());
    let store = Arc::new(RedisStore::open(at(&address)).await.expect("it opens"));
    let fleet = Fleet::on(&store);
    fleet.submit(spec(50)).await;
    let seq = store.seed().await.expect("the store works").position.seq;
    for id in ["99-0", "100-7"] {
        run(&server, &format!("XADD {{pointsman:default}}:log {id} a b")).await;
    }
    let submit = Command::Submit(fleet.submission(spec(50)));
    let why = store.execute(vec![submit]).await.expect("it answers").remove(0);
    assert!(why.expect_err("it is refused").to_string().contains("99-0"));
    let found = store.examine(Depth::Everything).await.expect("it is examined");
    let [finding] = &found.findings[..] else { panic!("{found:?}") };
    let problem = format!("log ends with {seq}-0, and somebody put in behind it: 99-0 100-7");
    assert!(finding.problem.contains(&problem), "{finding:?}");
    let cure = finding.cure.split('`').nth(1).expect("a command");
    assert_eq!(cure, "XDEL {pointsman:default}:log 99-0 100-7");
    run(&server, cure).await;
    fleet.submit(spec(50)).await;
    fleet.check().await.expect("nothing is wrong any more");
    // What is ours is not deleted: then the number is wrong.
    run(&server, "HSET {pointsman:default}:meta seq 1").await;
    let found = store.examine(Depth::Everything).await.expect("it is examined");
    assert!(found.findings[0].cure.contains(&format!("seq {}", seq + 1)), "{found:?}");
}

/// What it may not remove keeps nothing else from being removed.
#[tokio::test]
async fn a_right_that_is_taken_away_is_told_by_what_needs_it() {
    let server = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    let address = format!("redis://app:secret@127.0.0.1:{}", server.port());
    run(&server, "ACL SETUSER app on >secret ~* &* +@all").await;
    let store = Arc::new(RedisStore::open(at(&address)).await.expect("it opens"));
    run(&server, "ACL SETUSER app -zremrangebyscore").await;
    let why = store.due(Due::Leftovers).await.expect_err("it may not").to_string();
    assert!(why.contains("'zremrangebyscore'"), "{why}");
    for what in [Due::Gone(Retention::default()), Due::Ended(Retention::default())] {
        assert_eq!(store.due(what).await, Ok(Vec::new()), "{what:?}");
    }
    run(&server, "ACL SETUSER app -xlen").await;
    let both = store.due(Due::Leftovers).await.expect_err("it may do neither").to_string();
    assert!(both.starts_with(&why) && both.contains("; ") && both.contains("'xlen'"), "{both}");
    run(&server, "ACL SETUSER app +xlen +zremrangebyscore").await;
    assert_eq!(store.due(Due::Leftovers).await, Ok(Vec::new()));
}

/// Where Redis does not set a stream's last id back, nothing is done by half.
#[tokio::test]
async fn a_log_that_takes_no_entry_is_told_before_anything_is_written() {
    let server = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    let address = format!("redis://app:secret@127.0.0.1:{}", server.port());
    run(&server, "ACL SETUSER app on >secret ~* &* +@all").await;
    let store = Arc::new(RedisStore::open(at(&address)).await.expect("it opens"));
    let fleet = Fleet::on(&store);
    fleet.submit(spec(50)).await;
    run(&server, "XADD {pointsman:default}:log 99-0 a b").await;
    run(&server, "XDEL {pointsman:default}:log 99-0").await;
    run(&server, "ACL SETUSER app -xsetid").await;
    let before = server.dump().await.expect("it is dumped");
    let submit = Command::Submit(fleet.submission(spec(50)));
    let mut refused = store.execute(vec![submit]).await.expect("the store works");
    let why = refused.pop().expect("an answer").expect_err("it is refused").to_string();
    assert!(why.contains("rename it to {pointsman:default}:quarantine:log"), "{why}");
    assert_eq!(server.dump().await.expect("it is dumped"), before, "nothing was touched");
    run(&server, "RENAME {pointsman:default}:log {pointsman:default}:quarantine:log").await;
    fleet.submit(spec(50)).await;
}

/// A Sentinel that slept through a fail-over, or does not know what is away, is no reason to give up.
#[tokio::test]
async fn of_several_sentinels_one_that_knows_the_primary_is_enough() {
    let primary = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    let replica =
        RedisServer::replica_of(&primary, RedisOptions::default()).await.expect("it syncs");
    let mut dead = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    let of_dead = Sentinel::start(&dead, "main", 1).await.expect("it watches");
    let of_replica = Sentinel::start(&replica, "main", 1).await.expect("it watches");
    let right = Sentinel::start(&primary, "main", 1).await.expect("it watches");
    dead.kill().await.expect("it is killed");
    let of = |sentinels: &[&Sentinel]| {
        let hosts = sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port()));
        at(&format!("redis+sentinel://{}/main", hosts.collect::<Vec<_>>().join(",")))
    };
    let why = refused(&primary, of(&[&of_dead, &of_replica])).await;
    assert!(why.to_string().contains(&format!("127.0.0.1:{}", of_replica.port())), "{why}");
    assert!(why.may_pass(), "Sentinels may learn of it: {why}");
    let store = RedisStore::open(of(&[&of_dead, &of_replica, &right])).await.expect("it opens");
    let mut heard = store.told_progress().expect("progress is told");
    let told = ToldProgress {
        worker: "w".parse().expect("an id"),
        job: "01900000-0000-7000-8000-000000000001".parse().expect("an id"),
        progress: Progress::default(),
    };
    // Until it subscribed nobody hears.
    let soon = Duration::from_millis(20);
    within("progress is heard", async {
        while tokio::time::timeout(soon, heard.recv()).await.is_err() {
            store.tell_progress(vec![told.clone()]).await.expect("it is told");
        }
    })
    .await;
    works(store).await;
}

#[tokio::test]
async fn through_sentinels_and_in_a_cluster() {
    let primary = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    let sentinel = Sentinel::start(&primary, "main", 1).await.expect("it watches");
    let address = format!("redis+sentinel://127.0.0.1:{}/main", sentinel.port());
    works(RedisStore::open(at(&address)).await.expect("it opens")).await;
    let wrong = format!("redis+sentinel://127.0.0.1:{}/other", sentinel.port());
    let why = RedisStore::open(at(&wrong)).await.err().expect("it is refused");
    assert!(why.to_string().contains("other"), "{why}");
    let secret = ["ACL", "SETUSER", "default", "resetpass", ">secret"];
    let mut connection = sentinel.connect().await.expect("it answers");
    redis::cmd(secret[0]).arg(&secret[1..]).exec_async(&mut connection).await.expect("it asks");
    run(&primary, &secret.join(" ")).await;
    let with = |password: &str| {
        at(&format!("redis+sentinel://:{password}@127.0.0.1:{}/main", sentinel.port()))
    };
    works(RedisStore::open(with("secret")).await.expect("it opens")).await;
    let why = RedisStore::open(with("wrong")).await.err().expect("it is refused");
    assert!(why.to_string().contains("it is a Sentinel"), "{why}");
    let options = RedisOptions { cluster: true, ..Default::default() };
    let node = RedisServer::start(options).await.expect("it starts");
    let address = format!("redis+cluster://127.0.0.1:{}", node.port());
    works(RedisStore::open(at(&address)).await.expect("it opens")).await;
}
