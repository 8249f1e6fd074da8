//! A newer version takes the store over, while processes of this one run.

use pointsman_redis_testing::{RedisOptions, RedisServer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::fleet::{Fleet, SOON, becomes, running};
use crate::harness::{Served, simulation};

const TAKEN_OVER: &str = "newer version (format 99)";

async fn readyz(server: &Served) -> String {
    let mut line = tokio::net::TcpStream::connect(("127.0.0.1", server.port())).await.expect("up");
    let ask = "GET /readyz HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n";
    line.write_all(ask.as_bytes()).await.expect("it is sent");
    let mut answer = String::new();
    line.read_to_string(&mut answer).await.expect("an answer");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_worker_ends_and_names_its_jobs_and_a_server_says_what_is_wrong() {
    let redis = RedisServer::start(RedisOptions::default()).await.expect("a Redis");
    let fleet = Fleet::on(redis.url());
    let server = fleet.server("one").await;
    let mut worker = fleet.direct(&server, "direct", 2).await;
    let jobs = running(&server.client, 2, 600_000).await;
    let mut connection = redis.connect().await.expect("it answers");
    let mut raise = redis::cmd("HSET");
    raise.arg("{pointsman:default}:meta").arg("format").arg(99);
    raise.exec_async(&mut connection).await.expect("it is set");

    assert_eq!(worker.ended().await.code(), Some(2), "waiting would not help");
    worker.logs(TAKEN_OVER).await;
    for job in jobs {
        let lost = worker.logs(&format!("job={job}")).await;
        assert!(lost.contains("it is given back after its lease"), "{lost}");
    }
    let refused = async || server.client.submit(&simulation(1)).await.err();
    let refused = becomes("a refusal", SOON, refused).await;
    let no_snapshot = server.client.snapshot().await.expect_err("it is not live");
    for refused in [refused, no_snapshot] {
        let problem = refused.problem().expect("a problem");
        assert_eq!((&*problem.code, problem.status), ("store_newer", 503), "{problem:?}");
        assert!(problem.detail.contains(TAKEN_OVER), "{problem:?}");
    }
    let not_ready = readyz(&server).await;
    assert!(not_ready.contains("store_newer") && not_ready.contains(TAKEN_OVER), "{not_ready}");
}
