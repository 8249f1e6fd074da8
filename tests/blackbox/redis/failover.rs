//! Fail-over: to a replica that lacks what happened last, and as sentinels do it.

use std::time::Duration;

use pointsman_core::record::JobStatus;
use pointsman_redis_testing::{RedisOptions, RedisServer, Sentinel};
use tokio::time::Instant;

use super::{
    fleet::{Fleet, SOON, running, runs, still_run},
    judge::Judge,
    links::Proxy,
    load::Load,
    viewer::Viewer,
};
use crate::harness::{simulation, submit, until};

/// How much later than another one a worker learns of the new epoch: that one would long have claimed.
/// Far less than the 5 s in which no job is given out, as the machine may be busy.
const BEHIND: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread")]
async fn a_fail_over_that_loses_the_last_second_throws_no_running_work_away() {
    let mut primary = RedisServer::start(RedisOptions::default()).await.expect("a Redis");
    let replica =
        RedisServer::replica_of(&primary, RedisOptions::default()).await.expect("a replica");
    let proxy = Proxy::to(primary.port()).await;
    let fleet = Fleet::on(proxy.url());
    let (one, other) = (fleet.server("one").await, fleet.server("other").await);
    let direct = fleet.direct(&one, "direct", 4).await;
    let viewer = Viewer::of(&[&one.client]).await;
    let epoch = viewer.seen().epoch().to_owned();
    let load = Load::on(&[&one.client]);
    load.goes_on(50).await;
    let (before, _) = load.stop().await;
    Judge::each_completed_once(&one.client, "before the fail-over", before.keys()).await;
    // Frozen until the fail-over, and has room for everything then: it must not take what another
    // one runs.
    let mut idle = fleet.direct(&one, "idle", 8).await;
    idle.signal("STOP");
    // All slots are taken; two more jobs wait for the short ones to end.
    let mut long = running(&one.client, 2, 20_000).await;
    let short = running(&one.client, 2, 6_000).await;
    let _over_http = other.worker("over-http", 4).await;
    long.extend(running(&one.client, 4, 20_000).await);
    let claimed_later = submit(&one.client, &simulation(8_000)).await;
    let ends_later = submit(&one.client, &simulation(100)).await;
    // The replica's last moment: what happens from now on it will never know.
    replicas_have_all_of(&primary, 1).await;
    replica.promote().await.expect("it is promoted");
    for job in short.iter().chain([&ends_later]) {
        until(&one.client, *job, SOON, |job| job.status == JobStatus::Completed).await;
    }
    runs(&one.client, claimed_later).await;
    let never_known = submit(&one.client, &simulation(600_000)).await;
    let load = Load::on(&[&one.client]);
    load.goes_on(20).await;
    let killed = Instant::now();
    primary.kill().await.expect("it is killed");
    // The idle one is back before the one that runs something.
    direct.signal("STOP");
    proxy.lead_to(replica.port());
    idle.signal("CONT");

    idle.logs("the store is in a new epoch").await;
    tokio::time::sleep(BEHIND).await;
    direct.signal("CONT");
    viewer.until("a resync", |seen| seen.resyncs > 0 && seen.epoch() != epoch).await;
    let failed_over = Instant::now();
    load.goes_on(20).await;
    let (through, failures) = load.stop().await;
    let kept = before.keys().chain(&long).chain(&short).chain([&claimed_later, &ends_later]);
    let after = through.iter().filter(|(_, at)| **at > failed_over);
    let kept = kept.chain(after.map(|(job, _)| job));
    let judge = Judge::each_completed_once(&one.client, "fail-over", kept).await;
    for job in long.iter().chain(&short).chain([&claimed_later, &ends_later]) {
        let job = other.client.job(*job).await.expect("it is known");
        assert_eq!((job.attempt, job.losses, job.failures), (1, 0, 0), "{job:?}");
    }
    for job in [claimed_later, ends_later] {
        let job = other.client.job(job).await.expect("it is known");
        let worker = job.worker_id.as_ref().map(|id| id.as_str());
        assert_eq!(worker, Some("direct"), "its work was not thrown away: {job:?}");
    }
    assert!(one.client.job(never_known).await.is_err(), "the replica never had it");
    let lost = through.keys().filter(|job| !judge.jobs.contains_key(job)).count();
    let never_had = through.values().filter(|at| **at < killed).count();
    let seen = viewer.caught_up(&one.client).await;
    println!(
        "fail-over: failed submissions {failures}, lost {lost} of {never_had} after the replica's \
         last moment, resyncs {}, jobs known {}",
        seen.resyncs,
        judge.jobs.len()
    );
    assert!(never_had >= 20 && lost >= never_had, "what the replica never had is gone");
    assert_eq!(seen.resyncs, 1);
    // And the fleet goes on, at the other server too.
    let load = Load::on(&[&other.client]);
    load.goes_on(20).await;
    let (after, _) = load.stop().await;
    Judge::each_completed_once(&one.client, "after the fail-over", after.keys()).await;
}

/// Whether a fault may lose what was acknowledged while it came about.
#[derive(Clone, Copy, PartialEq)]
enum Loses {
    Nothing,
    TheLastMoment,
}

/// A fleet under load whose primary another one replaces, where nothing of before the fault is lost:
/// everybody finds the new one, monitors begin anew once, and what runs goes on.
async fn everybody_finds_the_new_primary(
    name: &str,
    address: String,
    loses: Loses,
    fault: impl AsyncFnOnce(),
) {
    let fleet = Fleet::on(address);
    let (one, other) = (fleet.server("one").await, fleet.server("other").await);
    let _direct = fleet.direct(&one, "direct", 4).await;
    let _over_http = other.worker("over-http", 4).await;
    let viewer = Viewer::of(&[&other.client]).await;
    let epoch = viewer.seen().epoch().to_owned();
    let long = running(&one.client, 6, 10_000).await;
    let load = Load::on(&[&one.client, &other.client]);
    load.goes_on(50).await;
    assert_eq!(still_run(&one.client, &long).await, long.len(), "the fault is amid their runs");
    let before = Instant::now();
    fault().await;
    let after = Instant::now();

    viewer.until("a resync", |seen| seen.resyncs > 0 && seen.epoch() != epoch).await;
    load.goes_on(20).await;
    let (acknowledged, failures) = load.stop().await;
    let kept = |at: Instant| loses == Loses::Nothing || at < before || at > after;
    let safe = acknowledged.iter().filter(|(_, at)| kept(**at));
    let safe = safe.map(|(job, _)| job).chain(&long);
    let judge = Judge::each_completed_once(&one.client, name, safe).await;
    for job in &long {
        let job = other.client.job(*job).await.expect("it is known");
        assert_eq!((job.attempt, job.losses, job.failures), (1, 0, 0), "{job:?}");
    }
    let lost = acknowledged.keys().filter(|job| !judge.jobs.contains_key(job)).count();
    let seen = viewer.caught_up(&other.client).await;
    println!(
        "{name}: failed submissions {failures}, lost {lost} of the last moment, resyncs {}",
        seen.resyncs
    );
    assert_eq!(seen.resyncs, 1);
}

/// A primary, its replica and the Sentinel that watches them.
struct Watched {
    primary: RedisServer,
    replica: RedisServer,
    sentinel: Sentinel,
}

impl Watched {
    /// As in the production set-up: TLS on every connection, and a user that may no more than it
    /// needs.
    async fn start() -> Self {
        let acl = include_str!("../../../deploy/users.acl");
        let user = acl.lines().find(|line| line.starts_with("user pointsman ")).expect("the user");
        let user = user.trim_start_matches("user ").replace("#POINTSMAN_SHA256", ">secret");
        let more = vec![("user".into(), user)];
        let options = RedisOptions { tls: true, more, ..RedisOptions::default() };
        let primary = RedisServer::start(options.clone()).await.expect("a Redis");
        let replica = RedisServer::replica_of(&primary, options).await.expect("a replica");
        let mut sentinel = Sentinel::start(&primary, "main", 1).await.expect("it watches");
        sentinel.knows_replicas(1).await.expect("it sees the replica");
        Self { primary, replica, sentinel }
    }

    fn address(&self) -> String {
        let (port, ca) = (self.sentinel.tls_port(), self.primary.ca_file());
        let (port, ca) = (port.expect("TLS"), ca.expect("TLS"));
        let host = format!("pointsman:secret@127.0.0.1:{port}");
        format!("rediss+sentinel://{host}/main?ca={}", ca.display())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_sentinels_fail_over_everybody_finds_the_new_primary() {
    let watched = Watched::start().await;
    let (address, Watched { mut primary, replica, mut sentinel }) = (watched.address(), watched);
    everybody_finds_the_new_primary(
        "sentinels' fail-over",
        address,
        Loses::TheLastMoment,
        async || {
            replicas_have_all_of(&primary, 1).await;
            primary.kill().await.expect("it is killed");
            sentinel.primary_is(&replica).await.expect("it fails over");
        },
    )
    .await;
}

/// The former primary is well, and takes what it is told for some ten seconds more.
#[tokio::test(flavor = "multi_thread")]
async fn when_sentinels_are_ordered_to_fail_over_nobody_goes_on_at_the_former_primary() {
    let watched = Watched::start().await;
    let (address, Watched { primary, replica, mut sentinel }) = (watched.address(), watched);
    everybody_finds_the_new_primary(
        "an ordered fail-over",
        address,
        Loses::TheLastMoment,
        async || {
            replicas_have_all_of(&primary, 1).await;
            sentinel.fail_over().await.expect("it is ordered");
            sentinel.primary_is(&replica).await.expect("it fails over");
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_clusters_replica_takes_over_everybody_finds_it() {
    let options = RedisOptions { cluster: true, ..RedisOptions::default() };
    let primary = RedisServer::start(options.clone()).await.expect("a node");
    let replica = RedisServer::replica_of(&primary, options).await.expect("a replica");
    let [one, other] = [primary.port(), replica.port()];
    let address = format!("redis+cluster://127.0.0.1:{one},127.0.0.1:{other}");
    everybody_finds_the_new_primary(
        "a cluster's fail-over",
        address,
        Loses::TheLastMoment,
        async || {
            replicas_have_all_of(&primary, 1).await;
            replica.take_over().await.expect("it takes over");
        },
    )
    .await;
}

/// The slot moves under load, keys and all: the new node has another history's replication id, so the
/// epoch is another; what was acknowledged is all there.
#[tokio::test(flavor = "multi_thread")]
async fn when_a_cluster_has_moved_the_fleets_slot_everybody_finds_it_and_nothing_is_lost() {
    let options = RedisOptions { cluster: true, ..RedisOptions::default() };
    let before = RedisServer::start(options.clone()).await.expect("a node");
    let after = RedisServer::beside(&before, options).await.expect("another one");
    // The address names only the node that has the slot at first: it knows the other.
    let address = format!("redis+cluster://127.0.0.1:{}", before.port());
    everybody_finds_the_new_primary("a slot's move", address, Loses::Nothing, async || {
        before.move_slot("{pointsman:default}:meta", &after).await.expect("it moves");
    })
    .await;
}

/// Waits until so many replicas have all that was done up to here.
pub async fn replicas_have_all_of(primary: &RedisServer, replicas: u64) {
    let mut connection = primary.connect().await.expect("the primary answers");
    // (WAIT is about what was written on the same connection, and so, in one order, about all before.)
    let (confirmed,): (u64,) = redis::pipe()
        .cmd("SET")
        .arg("last-moment")
        .arg(1)
        .ignore()
        .cmd("WAIT")
        .arg(replicas)
        .arg(10_000)
        .query_async(&mut connection)
        .await
        .expect("the primary answers");
    assert!(confirmed >= replicas, "only {confirmed} answered");
}
