//! The harness does with a real redis-server what its names say.

use std::{
    path::Path,
    sync::OnceLock,
    time::{Duration, Instant},
};

use pointsman_redis_testing::{Aof, HarnessError, RedisOptions, RedisServer, Sentinel};
use redis::{AsyncTypedCommands as _, cmd};

async fn get(server: &RedisServer, key: &str) -> Option<String> {
    server.connect().await.unwrap().get(key).await.unwrap()
}

async fn set(server: &RedisServer, key: &str, value: &str) {
    server.connect().await.unwrap().set(key, value).await.unwrap();
}

#[tokio::test]
async fn what_was_flushed_outlives_a_kill_and_nothing_else_does() {
    for (aof, kept) in [(Aof::Always, Some("1".to_owned())), (Aof::Off, None)] {
        let mut server = RedisServer::start(RedisOptions::with_aof(aof)).await.unwrap();
        set(&server, "a", "1").await;
        let port = server.port();
        server.kill().await.unwrap();
        assert!(server.connect().await.is_err());
        server.start_again().await.unwrap();
        assert_eq!(server.port(), port);
        assert_eq!(get(&server, "a").await, kept, "{aof:?}");
    }
}

#[tokio::test]
async fn a_server_is_gone_when_dropped() {
    let server = RedisServer::start(RedisOptions::default()).await.unwrap();
    let url = server.url();
    drop(server);
    let client = redis::Client::open(url).unwrap();
    assert!(client.get_multiplexed_async_connection().await.is_err());
}

/// Run by the test below in a process of its own: a `static` is never dropped.
#[test]
#[ignore = "leaves its server behind, for another test to look at"]
fn leaves_its_server_in_a_static() {
    static SERVER: OnceLock<RedisServer> = OnceLock::new();
    let server =
        SERVER.get_or_init(|| RedisServer::start_blocking(RedisOptions::default()).unwrap());
    println!("\nport={}\ndirectory={}", server.port(), server.directory().display());
}

#[tokio::test]
async fn a_server_is_gone_when_its_process_ends_without_dropping_it() {
    let mut itself = std::process::Command::new(std::env::current_exe().unwrap());
    itself.args(["--ignored", "--exact", "leaves_its_server_in_a_static", "--nocapture"]);
    let output = String::from_utf8(itself.output().unwrap().stdout).unwrap();
    let said = |what| output.lines().find_map(|line| line.strip_prefix(what)).unwrap();
    let (address, directory) = (format!("127.0.0.1:{}", said("port=")), said("directory="));
    let begun = Instant::now();
    while tokio::net::TcpStream::connect(&address).await.is_ok() || Path::new(directory).exists() {
        assert!(begun.elapsed() < Duration::from_secs(10), "it is still there");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_frozen_server_is_silent_and_then_answers() {
    let server = RedisServer::start(RedisOptions::default()).await.unwrap();
    let mut connection = server.connect().await.unwrap();
    server.freeze().unwrap();
    let mut ping = connection.clone();
    let silent = tokio::time::timeout(Duration::from_millis(100), ping.ping()).await;
    assert!(silent.is_err(), "{silent:?}");
    server.thaw().unwrap();
    assert_eq!(connection.ping().await.unwrap(), "PONG");
}

#[tokio::test]
async fn a_frozen_server_can_be_killed() {
    let mut server = RedisServer::start(RedisOptions::default()).await.unwrap();
    server.freeze().unwrap();
    server.kill().await.unwrap();
}

#[test]
fn a_server_starts_outside_of_a_runtime() {
    let server = RedisServer::start_blocking(RedisOptions::default()).unwrap();
    let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    assert_eq!(cmd("PING").query::<String>(&mut connection).unwrap(), "PONG");
}

#[tokio::test]
async fn a_server_starts_blocking_within_a_runtime() {
    let server = RedisServer::start_blocking(RedisOptions::default()).unwrap();
    set(&server, "a", "1").await;
}

#[tokio::test]
async fn the_password_is_asked_for() {
    let options = RedisOptions { password: Some("secret".into()), ..RedisOptions::default() };
    let server = RedisServer::start(options).await.unwrap();
    set(&server, "a", "1").await;
    let open = redis::Client::open(format!("redis://127.0.0.1:{}", server.port())).unwrap();
    let mut connection = open.get_multiplexed_async_connection().await.unwrap();
    let refused = cmd("GET").arg("a").exec_async(&mut connection).await.unwrap_err();
    assert_eq!(refused.code(), Some("NOAUTH"), "{refused}");
}

#[tokio::test]
async fn settings_reach_the_server() {
    let options = RedisOptions {
        maxmemory: Some(64 << 20),
        policy: Some("allkeys-lru"),
        more: vec![("user".into(), "eve on >pw ~mine:* +get".into())],
        ..RedisOptions::default()
    };
    let server = RedisServer::start(options).await.unwrap();
    assert_eq!(server.info("maxmemory").await.unwrap(), Some(64 << 20));
    let mut connection = server.connect().await.unwrap();
    let policy: Vec<String> = cmd("CONFIG")
        .arg("GET")
        .arg("maxmemory-policy")
        .query_async(&mut connection)
        .await
        .unwrap();
    assert_eq!(policy[1], "allkeys-lru");
    let users: Vec<String> = cmd("ACL").arg("USERS").query_async(&mut connection).await.unwrap();
    assert_eq!(users, ["default", "eve"]);
}

#[tokio::test]
async fn a_wrong_setting_is_told_in_the_servers_own_words() {
    let more = vec![("maxmemory-policy".to_owned(), "nonsense".to_owned())];
    let error = RedisServer::start(RedisOptions { more, ..RedisOptions::default() }).await;
    let Err(HarnessError::Ended(log)) = error else { panic!("{error:?}") };
    assert!(log.contains("maxmemory-policy"), "{log}");
}

#[tokio::test]
async fn a_replica_follows_until_it_is_promoted_and_stays_promoted() {
    let options = RedisOptions { password: Some("secret".into()), ..RedisOptions::default() };
    let mut primary = RedisServer::start(options.clone()).await.unwrap();
    set(&primary, "a", "1").await;
    let options = RedisOptions { aof: Aof::Always, ..options };
    let mut replica = RedisServer::replica_of(&primary, options).await.unwrap();
    assert_eq!(get(&replica, "a").await.as_deref(), Some("1"));
    primary.kill().await.unwrap();
    replica.promote().await.unwrap();
    set(&replica, "a", "2").await;
    replica.start_again().await.unwrap();
    set(&replica, "b", "1").await;
    assert_eq!(get(&replica, "a").await.as_deref(), Some("2"));
}

#[tokio::test]
async fn a_sentinel_fails_over() {
    sentinel_fails_over(false).await;
}

#[tokio::test]
async fn over_tls_a_sentinel_fails_over() {
    sentinel_fails_over(true).await;
}

async fn sentinel_fails_over(tls: bool) {
    let options = || RedisOptions { tls, ..RedisOptions::default() };
    let mut primary = RedisServer::start(options()).await.unwrap();
    let replica = RedisServer::replica_of(&primary, options()).await.unwrap();
    let mut sentinel = Sentinel::start(&primary, "fleet", 1).await.unwrap();
    sentinel.knows_replicas(1).await.unwrap();
    primary.kill().await.unwrap();
    sentinel.primary_is(&replica).await.unwrap();
    set(&replica, "a", "1").await;
}

#[tokio::test]
async fn a_replica_of_a_cluster_takes_over() {
    let options = || RedisOptions { cluster: true, ..RedisOptions::default() };
    let primary = RedisServer::start(options()).await.unwrap();
    set(&primary, "a", "1").await;
    let replica = RedisServer::replica_of(&primary, options()).await.unwrap();
    replica.take_over().await.unwrap();
    set(&replica, "b", "1").await;
    assert_eq!(get(&replica, "a").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn a_slot_moves_to_another_primary_of_a_cluster_with_its_keys() {
    let options = || RedisOptions { cluster: true, ..RedisOptions::default() };
    let one = RedisServer::start(options()).await.unwrap();
    let other = RedisServer::beside(&one, options()).await.unwrap();
    for key in ["{moves}:a", "{moves}:b", "{stays}:a"] {
        set(&one, key, "1").await;
    }
    one.move_slot("{moves}:a", &other).await.unwrap();
    for key in ["{moves}:a", "{moves}:b"] {
        assert_eq!(get(&other, key).await.as_deref(), Some("1"));
    }
    assert_eq!(get(&one, "{stays}:a").await.as_deref(), Some("1"));
    let moved = one.connect().await.unwrap().get("{moves}:a").await.unwrap_err();
    assert_eq!(moved.code(), Some("MOVED"), "{moved}");
}

/// Redis gives up what an order began when the primary does not answer for 5 s.
#[tokio::test]
async fn a_replica_takes_over_of_a_primary_that_answers_late() {
    let options = || RedisOptions { cluster: true, ..RedisOptions::default() };
    let primary = RedisServer::start(options()).await.unwrap();
    let replica = RedisServer::replica_of(&primary, options()).await.unwrap();
    let mut connection = replica.connect().await.unwrap();
    let found = cmd("CONFIG").arg("GET").arg("dir").query_async(&mut connection).await;
    let (_, directory): (String, String) = found.unwrap();
    primary.freeze().unwrap();
    let given_up = async {
        let log = Path::new(&directory).join("redis.log");
        let begun = Instant::now();
        while !std::fs::read_to_string(&log).unwrap().contains("Manual failover timed out") {
            assert!(begun.elapsed() < Duration::from_secs(20), "it gives up");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        primary.thaw().unwrap();
    };
    let (answer, ()) = tokio::join!(replica.take_over(), given_up);
    answer.unwrap();
    set(&replica, "b", "1").await;
}

#[tokio::test]
async fn a_dump_tells_every_touch() {
    let server = RedisServer::start(RedisOptions::default()).await.unwrap();
    let mut connection = server.connect().await.unwrap();
    connection.hset("h", "field", "value").await.unwrap();
    connection.zadd("z", "member", 1.5).await.unwrap();
    let before = server.dump().await.unwrap();
    assert_eq!(server.dump().await.unwrap(), before);
    let library = "#!lua name=l\nredis.register_function('f', function() return 1 end)";
    for touch in [
        cmd("HSET").arg("h").arg("field").arg("other").clone(),
        cmd("ZADD").arg("z").arg("2").arg("member").clone(),
        cmd("PEXPIRE").arg("h").arg("100000").clone(),
        cmd("SET").arg("new").arg("1").clone(),
        cmd("FUNCTION").arg("LOAD").arg(library).clone(),
    ] {
        let before = server.dump().await.unwrap();
        touch.exec_async(&mut connection).await.unwrap();
        assert_ne!(server.dump().await.unwrap(), before, "{touch:?}");
    }
}

#[tokio::test]
async fn an_emptied_server_has_nothing_left_also_after_a_restart() {
    let mut server = RedisServer::start(RedisOptions::with_aof(Aof::Always)).await.unwrap();
    let fresh = server.dump().await.unwrap();
    set(&server, "a", "1").await;
    let library = "#!lua name=l\nredis.register_function('f', function() return 1 end)";
    let mut connection = server.connect().await.unwrap();
    cmd("FUNCTION").arg("LOAD").arg(library).exec_async(&mut connection).await.unwrap();
    server.empty().await.unwrap();
    assert_eq!(server.dump().await.unwrap(), fresh);
    server.start_again().await.unwrap();
    assert_eq!(server.dump().await.unwrap(), fresh);
}

#[tokio::test]
async fn a_cluster_of_one_serves_every_slot() {
    let options = RedisOptions { cluster: true, ..RedisOptions::default() };
    let mut server = RedisServer::start(options).await.unwrap();
    set(&server, "{any}:key", "1").await;
    server.start_again().await.unwrap();
    set(&server, "{any}:key", "1").await;
}

#[tokio::test]
async fn a_server_with_tls_listens_for_it_with_a_certificate_of_its_ca() {
    let options = RedisOptions { tls: true, ..RedisOptions::default() };
    let server = RedisServer::start(options).await.unwrap();
    let url = server.tls_url().unwrap();
    let port = url.strip_prefix("rediss://127.0.0.1:").unwrap().split('?').next().unwrap();
    let ping = |trust: &[&str]| {
        let mut command = std::process::Command::new("redis-cli");
        command.args(["--tls", "-h", "127.0.0.1", "-p", port]).args(trust).arg("ping");
        command.output().unwrap()
    };
    let refused = ping(&[]);
    assert_ne!(refused.stdout, b"PONG\n", "the CA is a stranger: {refused:?}");
    let answer = ping(&["--cacert", server.ca_file().unwrap().to_str().unwrap()]);
    assert_eq!(answer.stdout, b"PONG\n", "{answer:?}");
}

#[tokio::test]
async fn memory_and_time_of_the_process_are_told() {
    let server = RedisServer::start(RedisOptions::default()).await.unwrap();
    let (memory, before) = (server.resident_mb().unwrap(), server.cpu_seconds().unwrap());
    assert!(memory > 1.0 && memory < 200.0, "{memory}");
    let mut connection = server.connect().await.unwrap();
    let burn = "local n = 0 for i = 1, 1e6 do n = n + i end return n";
    let begun = Instant::now();
    while server.cpu_seconds().unwrap() - before < 0.05 {
        cmd("EVAL").arg(burn).arg(0).exec_async(&mut connection).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(20), "no time of the process was counted");
    }
}
