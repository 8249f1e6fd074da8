//! Several servers on one Redis.

use pointsman_redis_testing::{RedisOptions, RedisServer};

use super::{
    fleet::Fleet,
    judge::Judge,
    load::Load,
    viewer::{Viewer, both, records},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_moves_from_a_killed_server_to_another_without_a_resync() {
    let redis = RedisServer::start(RedisOptions::default()).await.expect("a Redis");
    let fleet = Fleet::on(redis.url());
    let (stays, goes) = (fleet.server("stays").await, fleet.server("goes").await);
    let _direct = fleet.direct(&stays, "direct", 8).await;
    let _over_http = stays.worker("over-http", 8).await;
    let viewer = Viewer::of(&[&goes.client, &stays.client]).await;
    let load = Load::on(&[&stays.client, &goes.client]);
    load.goes_on(100).await;
    goes.process.kill().await;
    let left = viewer.until("the other server", |seen| seen.moves == 1).await;
    load.goes_on(100).await;
    let comes = fleet.server("comes").await;
    load.goes_on(100).await;
    let (acknowledged, failures) = load.stop().await;
    Judge::each_completed_once(&stays.client, "killed server", acknowledged.keys()).await;
    // Equal record by record at one seq, and so is what the viewer has put together.
    let (one, other) = both(&stays.client, &comes.client).await;
    assert_eq!(records(&one), records(&other));
    let seen = viewer.until("the end", |seen| seen.position == one.position()).await;
    println!(
        "killed server: failed submissions {failures}, viewer left at {}, went on to {}, \
         snapshots {}, resyncs {}, {} records equal",
        left.position,
        seen.position,
        seen.snapshots,
        seen.resyncs,
        seen.records.len(),
    );
    assert_eq!((seen.snapshots, seen.resyncs, seen.moves), (1, 0, 1));
    assert_eq!(seen.records, records(&one));
}
