//! What a claim costs on Redis, by how much waits and in how many classes: the round trip, and of
//! it what redis-server spends in our functions.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use pointsman_core::{Answer, Command, command::Held};
use pointsman_redis_testing::{Aof, RedisServer};
use pointsman_store::Store;
use redis::aio::MultiplexedConnection;

use super::server;
use crate::{
    redis_store,
    report::{Report, percentile},
    workloads::claim::{Claimant, submissions},
};

const CLAIMS: usize = 500;
const BULK: usize = 500;

pub async fn by_classes(report: &mut Report) -> anyhow::Result<()> {
    let mut few = Fleet::filled(1_000, 1, 1).await?;
    let mut all = Fleet::filled(1_000_000, 10_000, 10_000).await?;
    let mut ten = Fleet::filled(1_000_000, 10_000, 10).await?;
    // In turns, so that what else the machine does falls on all of them.
    for _ in 0..CLAIMS {
        for fleet in [&mut few, &mut all, &mut ten] {
            fleet.claim().await?;
        }
    }
    let few = few.end().await?;
    let mut row = |figure: &str, cost: &Cost| {
        let times = cost.in_functions.as_secs_f64() / few.in_functions.as_secs_f64();
        let (own, all) = (cost.in_functions.as_micros(), cost.round_trip.as_micros());
        let value = format!("{own} us ({times:.2}x) of {all} us");
        report.row("redis-claim", figure, value, "<= 1.5x");
    };
    row("1,000 waiting in 1 class", &few);
    row("1,000,000 in 10,000 classes, all servable", &all.end().await?);
    row("1,000,000 in 10,000 classes, 10 servable", &ten.end().await?);
    Ok(())
}

/// Medians.
struct Cost {
    round_trip: Duration,
    /// What redis-server spends in our functions.
    in_functions: Duration,
}

/// Jobs that wait on a redis-server of their own, and a worker that claims them.
struct Fleet {
    store: Arc<dyn Store>,
    claimant: Claimant,
    connection: MultiplexedConnection,
    round_trips: Vec<Duration>,
    in_functions: Vec<Duration>,
    _server: RedisServer,
}

impl Fleet {
    /// With `waiting` jobs spread over `classes`, of which the worker can serve `servable`.
    async fn filled(waiting: usize, classes: usize, servable: usize) -> anyhow::Result<Self> {
        let server = server(Aof::Off).await?;
        let store = redis_store::open(&server).await?;
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
        let (round_trips, in_functions) = (Vec::new(), Vec::new());
        let connection = server.connect().await?;
        Ok(Self { store, claimant, connection, round_trips, in_functions, _server: server })
    }

    /// Claims a job and ends it at once, so that every claim is of a worker that holds nothing.
    async fn claim(&mut self) -> anyhow::Result<()> {
        // As differences: after a reset each command would first make its latency histogram anew.
        let before = self.spent_in_functions().await?;
        let began = Instant::now();
        let claimed = self.execute(self.claimant.claim()).await?;
        self.round_trips.push(began.elapsed());
        let after = self.spent_in_functions().await?;
        self.in_functions.push(after - before);
        let [held] = claimed[..] else { anyhow::bail!("one job to claim") };
        self.execute(self.claimant.end(held)).await?;
        Ok(())
    }

    /// Since the server started.
    async fn spent_in_functions(&mut self) -> anyhow::Result<Duration> {
        let stats: String =
            redis::cmd("INFO").arg("commandstats").query_async(&mut self.connection).await?;
        let functions = stats.lines().filter(|line| line.starts_with("cmdstat_fcall"));
        let spent = functions.filter_map(|line| {
            line.split(',').find_map(|field| field.strip_prefix("usec="))?.parse::<u64>().ok()
        });
        Ok(Duration::from_micros(spent.sum()))
    }

    async fn execute(&self, exchange: Command) -> anyhow::Result<Vec<Held>> {
        let done = self.store.execute(vec![exchange]).await?.pop().context("an answer")??;
        match done.answer {
            Answer::Exchanged { claimed, .. } => Ok(claimed),
            answer => anyhow::bail!("an odd answer: {answer:?}"),
        }
    }

    async fn end(mut self) -> anyhow::Result<Cost> {
        self.store.close().await?;
        Ok(Cost {
            round_trip: percentile(&mut self.round_trips, 0.5),
            in_functions: percentile(&mut self.in_functions, 0.5),
        })
    }
}
