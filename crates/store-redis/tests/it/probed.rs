//! Connections that nothing moves on.

use std::{sync::Arc, time::Duration};

use pointsman_redis_testing::{RedisOptions, RedisServer};
use pointsman_store::Store as _;
use pointsman_store_redis::{Options, RedisStore};

/// Timers of the connections that this machine has to a port, as the kernel names them.
fn timers_of_connections_to(port: u16) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let far = format!(":{port:04X}");
    let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let established = fields.filter(|fields| fields[2].ends_with(&far) && fields[3] == "01");
    established.map(|fields| fields[5].split(':').next().unwrap().to_owned()).collect()
}

/// A firewall that forgot an idle one tells nobody.
#[tokio::test]
async fn every_connection_to_redis_is_probed_while_it_is_idle() {
    const PROBED: &str = "02";
    let server = RedisServer::start(RedisOptions::default()).await.unwrap();
    let store =
        Arc::new(RedisStore::open(Options::new(server.url().parse().unwrap())).await.unwrap());
    let _told = store.told_progress().unwrap();
    let mut hint = store.wait_for_work("w".parse().unwrap(), vec!["s".parse().unwrap()]);
    let _ = tokio::time::timeout(Duration::from_millis(10), hint.wait()).await;
    let all_are = async {
        loop {
            let timers = timers_of_connections_to(server.port());
            // One for calls, one that waits, one that hears.
            if timers.len() >= 3 && timers.iter().all(|timer| timer == PROBED) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let probed = tokio::time::timeout(Duration::from_secs(10), all_are).await;
    assert!(probed.is_ok(), "{:?}", timers_of_connections_to(server.port()));
}
