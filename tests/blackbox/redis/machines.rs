//! The record of a machine is damaged.

use std::time::Duration;

use pointsman_core::record::{JobStatus, Machine, MachineStatus};
use pointsman_redis_testing::{RedisOptions, RedisServer};

use crate::harness::{Served, directory, run, simulation, submit, until};

const SOON: Duration = Duration::from_secs(60);

/// It is mended while `up` runs, which is also what mends it.
#[tokio::test(flavor = "multi_thread")]
async fn an_up_whose_machine_record_is_damaged_runs_on_and_starts_again() {
    let redis = RedisServer::start(RedisOptions::default()).await.expect("a Redis");
    let (url, data) = (redis.url(), directory());
    let damage = async |value: &str| {
        let mut redis = redis.connect().await.expect("a connection");
        let mut hset = redis::cmd("HSET");
        hset.arg("{pointsman:default}:machine:box").arg("status").arg(value);
        let _: i64 = hset.query_async(&mut redis).await.expect("written");
    };
    let mut up = Served::up(data.path(), &["--store", &url]).await;
    let works = async |up: &Served| {
        let job = submit(&up.client, &simulation(5)).await;
        until(&up.client, job, SOON, |job| job.status == JobStatus::Completed).await;
    };
    works(&up).await;
    damage("nonsense").await;
    up.process.logs("unreadable_field:machine/box").await;
    works(&up).await;
    up.process.kill().await;
    let mut up = Served::up(data.path(), &["--store", &url]).await;
    up.process.logs("the broker does not hear how the machine is").await;
    let repaired = run(&["doctor", "--repair", "--server", &up.url]).await;
    assert!(repaired.status.success(), "{repaired:?}");
    let begin = tokio::time::Instant::now();
    let ready = |machine: &Machine| machine.status == MachineStatus::Ready;
    while !up.client.machines().await.is_ok_and(|machines| machines.iter().any(ready)) {
        assert!(begin.elapsed() < SOON, "it is ready once it is mended");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    works(&up).await;
    up.process.signal("TERM");
    assert!(up.process.ended().await.success());
}
