//! What workers that wait cost redis-server.

use std::time::Duration;

use pointsman_core::Record;
use pointsman_redis_testing::{Aof, RedisServer};

use super::server;
use crate::{fleet::Local, redis_store, report::Report};

const WORKERS: usize = 1_000;
const SETTLE: Duration = Duration::from_secs(5);
const FOR: Duration = Duration::from_secs(20);

pub async fn workers(report: &mut Report) -> anyhow::Result<()> {
    let server = server(Aof::EverySec).await?;
    let local = Local::on(redis_store::open(&server).await?).await?;
    tokio::time::sleep(SETTLE).await;
    report.row("redis-idle", "redis-server, one server, no worker", busy(&server).await?, "");
    for n in 0..WORKERS {
        local.worker(&format!("idle-{n}"), 1)?;
    }
    while registered(&local).await? < WORKERS {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(SETTLE).await;
    let share = busy(&server).await?;
    report.row("redis-idle", "redis-server, 1,000 idle workers", share, "<= 5 %");
    local.close().await
}

async fn registered(local: &Local) -> anyhow::Result<usize> {
    let records = local.store.seed().await?.records;
    Ok(records.iter().filter(|record| matches!(record, Record::Worker(_))).count())
}

/// The share of a core that redis-server takes.
async fn busy(server: &RedisServer) -> anyhow::Result<String> {
    let before = server.cpu_seconds()?;
    tokio::time::sleep(FOR).await;
    let used = server.cpu_seconds()? - before;
    Ok(format!("{:.1} % of a core", used / FOR.as_secs_f64() * 100.0))
}
