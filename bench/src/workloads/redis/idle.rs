//! What workers that wait cost redis-server.

use std::{sync::Arc, time::Duration};

use pointsman_connectors::simulation::SimulationConnector;
use pointsman_core::Record;
use pointsman_redis_testing::{Aof, RedisServer};

use super::{ours::Direct, server};
use crate::{
    fleet::{Local, simulation},
    redis_store,
    report::Report,
};

const WORKERS: usize = 1_000;
const SETTLE: Duration = Duration::from_secs(5);
const FOR: Duration = Duration::from_secs(20);

/// Workers that one server speaks for, and workers that each have connections of their own.
pub async fn workers(report: &mut Report) -> anyhow::Result<()> {
    let (redis, local) = started().await?;
    tokio::time::sleep(SETTLE).await;
    report.row("redis-idle", "redis-server, one server, no worker", busy(&redis).await?, "");
    for n in 0..WORKERS {
        local.worker(&format!("idle-{n}"), 1)?;
    }
    let share = busy_with_all(&redis, &local).await?;
    report.row("redis-idle", "redis-server, 1,000 idle workers of a server", share, "<= 5 %");
    local.close().await?;

    let (redis, local) = started().await?;
    let mut workers = Vec::with_capacity(WORKERS);
    for n in 0..WORKERS {
        let worker = Direct::open(&redis.url()).await?;
        worker.start(n, 1, Arc::new(SimulationConnector::new(simulation())))?;
        workers.push(worker);
    }
    let share = busy_with_all(&redis, &local).await?;
    report.row("redis-idle", "redis-server, 1,000 idle direct workers", share, "<= 5 %");
    for worker in workers {
        worker.end().await?;
    }
    local.close().await
}

async fn started() -> anyhow::Result<(RedisServer, Local)> {
    let redis = server(Aof::EverySec).await?;
    let local = Local::on(redis_store::open(&redis).await?).await?;
    Ok((redis, local))
}

async fn busy_with_all(redis: &RedisServer, local: &Local) -> anyhow::Result<String> {
    while registered(local).await? < WORKERS {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(SETTLE).await;
    busy(redis).await
}

async fn registered(local: &Local) -> anyhow::Result<usize> {
    let records = local.store.seed().await?.records;
    Ok(records.iter().filter(|record| matches!(record, Record::Worker(_))).count())
}

/// The share of a core that redis-server takes.
async fn busy(redis: &RedisServer) -> anyhow::Result<String> {
    let before = redis.cpu_seconds()?;
    tokio::time::sleep(FOR).await;
    let used = redis.cpu_seconds()? - before;
    Ok(format!("{:.1} % of a core", used / FOR.as_secs_f64() * 100.0))
}
