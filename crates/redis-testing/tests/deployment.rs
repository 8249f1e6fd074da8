//! The users that `deploy/users.acl` gives, on a real redis-server.

use std::{fs, path::Path, process::Command};

use pointsman_redis_testing::{Aof, RedisOptions, RedisServer};
use redis::{Client, Cmd, aio::MultiplexedConnection, cmd};
use tempfile::NamedTempFile;

const PREPARE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/prepare.sh");
const COMPOSE: &str = include_str!("../../../deploy/compose.yaml");
const USERS: &str = include_str!("../../../deploy/users.acl");
const LIBRARY: &str = "#!lua name=l
redis.register_function('both', function(keys)
  redis.call('HSET', keys[1], 'a', '1')
  redis.call('ZADD', keys[2], 1, 'b')
  return redis.call('TIME')
end)";

/// A server with those users; the file goes when the second is dropped.
async fn server() -> (RedisServer, NamedTempFile) {
    let users: Vec<String> = USERS.lines().map(with_password).collect();
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), users.join("\n")).unwrap();
    let options = RedisOptions {
        aof: Aof::Always,
        user: Some("operator"),
        password: Some("secret".into()),
        more: vec![("aclfile".into(), file.path().display().to_string())],
        ..RedisOptions::default()
    };
    (RedisServer::start(options).await.unwrap(), file)
}

/// Their passwords are `secret`, in the place of the digest that `prepare.sh` puts in.
fn with_password(line: &str) -> String {
    let word = |word: &str| match word.starts_with('#') {
        true => ">secret".to_owned(),
        false => word.to_owned(),
    };
    line.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

async fn as_user(user: &str, server: &RedisServer) -> MultiplexedConnection {
    let url = format!("redis://{user}:secret@127.0.0.1:{}", server.port());
    Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap()
}

fn parse(line: &str) -> Cmd {
    let mut words = line.split(' ');
    let mut command = cmd(words.next().unwrap());
    words.for_each(|word| {
        command.arg(word.replace('~', "{pointsman:default}:"));
    });
    command
}

#[tokio::test]
async fn servers_and_workers_may_do_their_work_and_nothing_else() {
    let (server, _file) = server().await;
    let allowed = [
        "PING",
        "INFO",
        "TIME",
        "SELECT 0",
        "CLIENT ID",
        "CLIENT UNBLOCK 1",
        "WAIT 0 1",
        "SCAN 0",
        "TYPE ~meta",
        "HGETALL ~meta",
        "HMGET ~meta a",
        "GET ~a",
        "SMEMBERS ~s",
        "SCARD ~s",
        "ZCARD ~z",
        "ZRANGE ~z 0 1",
        "ZREVRANGE ~z 0 1",
        "LLEN ~l",
        "XRANGE ~log - +",
        "XREAD STREAMS ~log 0",
        "BLPOP ~l 0.01",
        "SET ~a 1",
        "DEL ~a",
        "UNLINK ~a",
        "EXISTS ~a",
        "PEXPIRE ~a 1",
        "XTRIM ~log MAXLEN 1",
        "MULTI",
        "EXEC",
        "PUBLISH ~c x",
    ];
    let refused = [
        "HGET other a",
        "GET {pointsman:other}:a",
        "PUBLISH other x",
        "KEYS *",
        "FLUSHALL",
        "FLUSHDB",
        "FUNCTION FLUSH",
        "FUNCTION DELETE l",
        "CONFIG GET *",
        "CONFIG SET maxmemory 1",
        "SHUTDOWN",
        "REPLICAOF NO ONE",
        "ACL LIST",
        "CLIENT LIST",
        "CLIENT KILL ID 1",
        "EVAL return 0",
        "MONITOR",
        "SAVE",
        "BGREWRITEAOF",
        "MIGRATE a b c d e",
        "SORT ~l",
    ];
    for user in ["pointsman", "worker"] {
        let mut connection = as_user(user, &server).await;
        for line in allowed {
            let done = parse(line).exec_async(&mut connection).await;
            let refused = done.as_ref().is_err_and(|error| error.code() == Some("NOPERM"));
            assert!(!refused, "{user}: {line}: {done:?}");
        }
        for line in refused {
            let error = parse(line).exec_async(&mut connection).await.unwrap_err();
            assert_eq!(error.code(), Some("NOPERM"), "{user}: {line}: {error}");
        }
        let loaded = parse("FUNCTION LOAD").arg(LIBRARY).exec_async(&mut connection).await;
        let refused = loaded.is_err_and(|error| error.code() == Some("NOPERM"));
        assert_eq!(refused, user == "worker", "who may load may replace other fleets' functions");
    }
}

#[tokio::test]
async fn nobody_comes_in_without_a_password() {
    let (server, _file) = server().await;
    let open = Client::open(format!("redis://127.0.0.1:{}", server.port())).unwrap();
    let mut connection = open.get_multiplexed_async_connection().await.unwrap();
    let error = cmd("PING").exec_async(&mut connection).await.unwrap_err();
    assert_eq!(error.code(), Some("NOAUTH"), "{error}");
}

/// A function's writes are one transaction in the append-only file, which redis-server reads back
/// as the user `default`: one that may do nothing would lose them all, without an error.
#[tokio::test]
async fn what_functions_wrote_is_there_after_a_restart() {
    let (mut server, _file) = server().await;
    let mut connection = as_user("pointsman", &server).await;
    parse("FUNCTION LOAD").arg(LIBRARY).exec_async(&mut connection).await.unwrap();
    parse("FCALL both 2 ~h ~z").exec_async(&mut connection).await.unwrap();
    let before = server.dump().await.unwrap();
    assert_eq!(before.len(), 3, "two keys and the functions");
    server.kill().await.unwrap();
    server.start_again().await.unwrap();
    assert_eq!(server.dump().await.unwrap(), before);
}

/// While servers and workers change over, both passwords hold; then the old one does not.
#[tokio::test]
async fn a_password_is_changed_while_the_old_one_holds() {
    let dir = tempfile::tempdir().unwrap();
    let at = |path: &str| dir.path().join(path);
    let prepare = || {
        let done = Command::new("bash").arg(PREPARE).arg(dir.path()).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    };
    let password = |name: &str| {
        let found = fs::read_to_string(at("passwords").join(name)).unwrap();
        found.trim().to_owned()
    };
    prepare();
    let (old, operator) = (password("pointsman"), password("operator"));
    let options = RedisOptions {
        user: Some("operator"),
        password: Some(operator.clone()),
        more: vec![("aclfile".into(), at("redis-0/users.acl").display().to_string())],
        ..RedisOptions::default()
    };
    let server = RedisServer::start(options).await.unwrap();
    let lets_in = async |user: &str, password: &str, command: &str| {
        let url = format!("redis://{user}:{password}@127.0.0.1:{}", server.port());
        let opened = Client::open(url).unwrap().get_multiplexed_async_connection().await;
        let Ok(mut connection) = opened else { return false };
        parse(command).exec_async(&mut connection).await.is_ok()
    };
    fs::rename(at("passwords/pointsman"), at("passwords/pointsman.old")).unwrap();
    prepare();
    let new = password("pointsman");
    for (holds, password) in [(true, &old), (true, &new), (false, &old), (true, &new)] {
        if !holds {
            fs::remove_file(at("passwords/pointsman.old")).unwrap();
            prepare();
        }
        assert!(lets_in("operator", &operator, "ACL LOAD").await);
        assert_eq!(lets_in("pointsman", password, "GET ~a").await, holds);
    }
}

/// Wherever it is made, compose finds it there.
#[tokio::test]
async fn what_compose_mounts_is_made_in_the_directory_that_was_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut prepare = Command::new("bash");
    let done = prepare.arg(PREPARE).arg("relative one").current_dir(dir.path()).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    let made = dir.path().canonicalize().unwrap().join("relative one");
    let env = fs::read_to_string(made.join(".env")).unwrap();
    assert!(env.lines().any(|line| line == format!("DATA='{}'", made.display())), "{env}");
    let mounts: Vec<_> = COMPOSE.split("${DATA:-./data}/").skip(1).collect();
    assert!(mounts.len() > 10 && !COMPOSE.contains(" ./data/"), "{mounts:?}");
    for mount in mounts {
        let path = made.join(mount.split(':').next().unwrap());
        assert!(path.exists(), "{}", path.display());
    }
    let configuration =
        |node: &str| fs::read_to_string(made.join(node).join("redis.conf")).unwrap();
    assert!(!configuration("redis-0").contains("replicaof"));
    assert!(configuration("redis-2").contains("replicaof redis-0 6379"));
}

/// A node that is added after a fail-over follows the primary that there is by then.
#[tokio::test]
async fn a_node_is_made_a_replica_of_the_one_that_the_sentinels_name() {
    let dir = tempfile::tempdir().unwrap();
    let prepare = || {
        let done = Command::new("bash").arg(PREPARE).arg(dir.path()).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    };
    prepare();
    let sentinel = dir.path().join("sentinel-0/sentinel.conf");
    let written = fs::read_to_string(&sentinel).unwrap();
    fs::write(&sentinel, written.replace("main redis-0", "main redis-1")).unwrap();
    let added = dir.path().join("redis-2/redis.conf");
    fs::remove_file(&added).unwrap();
    prepare();
    assert!(fs::read_to_string(added).unwrap().contains("replicaof redis-1 6379"));
}

#[tokio::test]
async fn what_openssl_complains_of_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let openssl = dir.path().join("openssl");
    fs::write(&openssl, "#!/bin/sh\necho 'unknown option: -nodes' >&2\nexit 1\n").unwrap();
    executable(&openssl);
    let with_this = r#"PATH="$1:$PATH" bash "$2" "$1/to""#;
    let mut prepare = Command::new("bash");
    prepare.args(["-c", with_this, "bash"]).arg(dir.path()).arg(PREPARE);
    let done = prepare.output().unwrap();
    assert!(!done.status.success(), "{done:?}");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(said.contains("unknown option: -nodes"), "{said}");
}

fn executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
