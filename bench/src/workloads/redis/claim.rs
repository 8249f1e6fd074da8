//! What a claim costs on Redis, by how much waits and in how many classes: the round trip, and of
//! it what redis-server spends in our functions.

use std::time::{Duration, Instant};

use anyhow::ensure;
use pointsman_core::Answer;
use pointsman_redis_testing::{Aof, RedisServer};

use super::server;
use crate::{
    redis_store,
    report::{Report, percentile},
    workloads::claim::{Claimant, submissions},
};

const CLAIMS: usize = 500;
const BULK: usize = 500;

struct Cost {
    round_trip: Duration,
    /// Of redis-server, mean.
    function_us: f64,
}

pub async fn by_classes(report: &mut Report) -> anyhow::Result<()> {
    let server = server(Aof::Off).await?;
    let few = cost(&server, 1_000, 1, 1).await?;
    let mut row = |figure: &str, cost: &Cost| {
        let times = cost.function_us / few.function_us;
        let round_trip = cost.round_trip.as_secs_f64() * 1e6;
        let value = format!("{:.1} us ({times:.2}x) of {round_trip:.0} us", cost.function_us);
        report.row("redis-claim", figure, value, "<= 1.5x");
    };
    row("1,000 waiting in 1 class", &few);
    let all = cost(&server, 1_000_000, 10_000, 10_000).await?;
    row("1,000,000 in 10,000 classes, all servable", &all);
    let ten = cost(&server, 1_000_000, 10_000, 10).await?;
    row("1,000,000 in 10,000 classes, 10 servable", &ten);
    Ok(())
}

async fn cost(
    server: &RedisServer,
    waiting: usize,
    classes: usize,
    servable: usize,
) -> anyhow::Result<Cost> {
    server.empty().await?;
    let store = redis_store::open(server).await?;
    let mut submissions = submissions(waiting, classes);
    loop {
        let bulk = submissions.by_ref().take(BULK).collect::<Result<Vec<_>, _>>()?;
        if bulk.is_empty() {
            break;
        }
        for submitted in store.execute(bulk).await? {
            submitted?;
        }
    }
    let claimant = Claimant::new(servable)?;
    for done in store.execute(claimant.introduction()).await? {
        done?;
    }
    let mut connection = server.connect().await?;
    redis::cmd("CONFIG").arg("RESETSTAT").exec_async(&mut connection).await?;
    let mut took = Vec::with_capacity(CLAIMS);
    for _ in 0..CLAIMS {
        let claim = claimant.claim();
        let began = Instant::now();
        let done = store.execute(vec![claim]).await?;
        took.push(began.elapsed());
        for done in done {
            let Answer::Exchanged { claimed, .. } = done?.answer else {
                anyhow::bail!("an odd answer")
            };
            ensure!(claimed.len() == 1, "a job to claim");
        }
    }
    let stats: String = redis::cmd("INFO").arg("commandstats").query_async(&mut connection).await?;
    store.close().await?;
    let function_us = function_us(&stats) / CLAIMS as f64;
    Ok(Cost { round_trip: percentile(&mut took, 0.5), function_us })
}

/// The time spent in functions; what they call is in it.
fn function_us(stats: &str) -> f64 {
    let functions = stats.lines().filter(|line| line.starts_with("cmdstat_fcall"));
    let spent = functions.filter_map(|line| {
        line.split(',').find_map(|field| field.strip_prefix("usec="))?.parse::<f64>().ok()
    });
    spent.sum()
}
