//! An address of several hosts, one of which is no Redis at all.

use std::{io::Write as _, net::TcpListener};

use pointsman_redis_testing::{RedisOptions, RedisServer, Sentinel};
use pointsman_store::Store as _;
use pointsman_store_redis::{OpenError, Options, RedisStore};

use crate::support::nobody;

/// A web server, which answers what it does not understand; its host and port.
fn web_server() -> String {
    let web = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let host = web.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        while let Ok((mut client, _)) = web.accept() {
            // Who asked may be gone by now.
            let _ = client.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
        }
    });
    host
}

async fn opened(address: &str) -> Result<RedisStore, OpenError> {
    RedisStore::open(Options::new(address.parse().expect("a valid address"))).await
}

#[tokio::test]
async fn one_that_is_no_redis_takes_no_other_host_with_it() {
    let (web, server) = (web_server(), RedisServer::start(RedisOptions::default()).await);
    let server = server.expect("it starts");
    let sentinel = Sentinel::start(&server, "main", 1).await.expect("it watches");
    let options = RedisOptions { cluster: true, ..Default::default() };
    let node = RedisServer::start(options).await.expect("it starts");
    for address in [
        format!("redis+sentinel://{web},127.0.0.1:{}/main", sentinel.port()),
        format!("redis+cluster://{web},127.0.0.1:{}", node.port()),
    ] {
        let store = opened(&address).await.expect("the other one leads to the primary");
        store.close().await.expect("it closes");
    }
}

#[tokio::test]
async fn that_there_is_no_redis_is_told_where_every_host_says_so() {
    let (web, other) = (web_server(), web_server());
    let (_nobody, away) = nobody();
    for hosts in [format!("{web},{away}"), format!("{away},{web}")] {
        let why = opened(&format!("redis+sentinel://{hosts}/main")).await.err();
        let why = why.expect("nobody leads to a primary");
        assert!(why.may_pass(), "the one that is away may come back: {why}");
    }
    for address in [
        format!("redis://{web}"),
        format!("redis+sentinel://{web},{other}/main"),
        format!("redis+cluster://{web},{other}"),
    ] {
        let why = opened(&address).await.err().expect("there is no Redis");
        assert!(!why.may_pass(), "{why}");
        let why = why.to_string();
        assert!(why.contains("cannot be right") && why.lines().count() == 1, "{why}");
        assert!([&web, &other].iter().any(|host| why.contains(&format!(" {host}: "))), "{why}");
    }
}
