//! Redis: beside BullMQ on the same server, what idle workers cost, what a claim costs.

mod bare;
mod beside;
mod claim;
mod idle;
mod ours;

use std::{collections::BTreeMap, path::Path};

use pointsman_redis_testing::{Aof, RedisOptions, RedisServer};

use crate::report::Report;

/// Figures of one run by name, as `bullmq.mjs` prints them.
pub type Figures = BTreeMap<String, f64>;

/// What both sides do, on an empty server.
#[derive(Debug, Clone, Copy)]
pub enum Task {
    /// Runs waiting no-op jobs, so many at once in each of so many workers.
    Drain { jobs: usize, at_once: usize, workers: usize },
    /// Submits one job a call, 50 calls at once.
    SubmitSingle { jobs: usize },
    /// Submits 500 jobs a call.
    SubmitBulk { jobs: usize },
    /// Submits one job after another, and measures until it is started.
    Start { jobs: usize },
}

impl Task {
    pub fn jobs(self) -> usize {
        match self {
            Self::Drain { jobs, .. }
            | Self::SubmitSingle { jobs }
            | Self::SubmitBulk { jobs }
            | Self::Start { jobs } => jobs,
        }
    }
}

/// Those of these workloads that are wanted. One that fails is a row of the report.
pub async fn all(report: &mut Report, jobs: usize, bullmq: &Path, wanted: impl Fn(&str) -> bool) {
    for (name, aof) in [("redis-everysec", Aof::EverySec), ("redis-no-aof", Aof::Off)] {
        if wanted(name) {
            let done = beside::bullmq(report, name, aof, jobs, bullmq).await;
            note(report, name, done);
        }
    }
    if wanted("redis-idle") {
        let done = idle::workers(report).await;
        note(report, "redis-idle", done);
    }
    if wanted("redis-claim") {
        let done = claim::by_classes(report).await;
        note(report, "redis-claim", done);
    }
}

fn note(report: &mut Report, workload: &str, done: anyhow::Result<()>) {
    if let Err(error) = done {
        report.failed(workload, &error);
    }
}

async fn server(aof: Aof) -> anyhow::Result<RedisServer> {
    // A rewrite of the file would fall on either side by chance.
    let more = vec![("auto-aof-rewrite-percentage".into(), "0".into())];
    Ok(RedisServer::start(RedisOptions { aof, more, ..RedisOptions::default() }).await?)
}
