//! Our side: a broker and a worker in this process, over the store on Redis.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use pointsman_redis_testing::RedisServer;
use tokio::task::JoinSet;

use super::{Figures, Task};
use crate::{
    fleet::{Local, payload, submit},
    redis_store,
    report::percentile,
    stopwatch::Stopwatch,
};

const BULK: usize = 500;
const IN_FLIGHT: usize = 50;
const APART: Duration = Duration::from_millis(5);

pub async fn measure(server: &RedisServer, task: Task) -> anyhow::Result<Figures> {
    let local = Local::on(redis_store::open(server).await?).await?;
    let figures = match task {
        Task::Drain { jobs, at_once } => drain(&local, jobs, at_once).await,
        Task::SubmitSingle { jobs } => submit_single(&local, jobs).await,
        Task::SubmitBulk { jobs } => submit_in_bulk(&local, jobs).await,
        Task::Start { jobs } => start(&local, jobs).await,
    };
    local.close().await?;
    figures
}

fn rate(jobs: usize, began: Instant) -> Figures {
    let rate = jobs as f64 / began.elapsed().as_secs_f64();
    Figures::from([("jobs_a_second".into(), rate)])
}

async fn submit_in_bulk(local: &Local, jobs: usize) -> anyhow::Result<Figures> {
    let payload: Arc<[u8]> = payload().into_bytes().into();
    let began = Instant::now();
    for done in (0..jobs).step_by(BULK) {
        let bulk = (0..BULK.min(jobs - done)).map(|_| submit(&payload)).collect();
        for submitted in local.broker.submit(bulk).await? {
            submitted?;
        }
    }
    Ok(rate(jobs, began))
}

async fn submit_single(local: &Local, jobs: usize) -> anyhow::Result<Figures> {
    let payload: Arc<[u8]> = payload().into_bytes().into();
    let left = Arc::new(AtomicUsize::new(jobs));
    let began = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let (broker, payload, left) = (local.broker.clone(), payload.clone(), left.clone());
        callers.spawn(async move {
            let one_less = |n: usize| n.checked_sub(1);
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok() {
                for submitted in broker.submit(vec![submit(&payload)]).await? {
                    submitted?;
                }
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = callers.join_next().await {
        done??;
    }
    Ok(rate(jobs, began))
}

async fn drain(local: &Local, jobs: usize, at_once: usize) -> anyhow::Result<Figures> {
    submit_in_bulk(local, jobs).await?;
    let (connector, mut begun) = Stopwatch::new();
    let began = Instant::now();
    local.worker_of("bench-worker-0", u32::try_from(at_once)?, connector)?;
    // Asking the store how many there are would take part in what is measured, so not before all
    // have begun.
    for _ in 0..jobs {
        begun.recv().await.context("the worker runs")?;
    }
    local.completed(jobs).await?;
    Ok(rate(jobs, began))
}

async fn start(local: &Local, jobs: usize) -> anyhow::Result<Figures> {
    let payload: Arc<[u8]> = payload().into_bytes().into();
    let (connector, mut begun) = Stopwatch::new();
    local.worker_of("bench-worker-0", 4, connector)?;
    let mut took = Vec::with_capacity(jobs);
    // One to warm up, which does not count: until it ended the worker may still be registering.
    for n in 0..=jobs {
        tokio::time::sleep(APART).await;
        let began = Instant::now();
        local.broker.submit(vec![submit(&payload)]).await?;
        took.push(begun.recv().await.context("the worker runs")?.duration_since(began));
        local.completed(n + 1).await?;
    }
    let took = took.get_mut(1..).unwrap_or_default();
    let ms = |span: Duration| span.as_secs_f64() * 1000.0;
    let (p50, p99) = (percentile(took, 0.5), percentile(took, 0.99));
    Ok(Figures::from([("p50_ms".into(), ms(p50)), ("p99_ms".into(), ms(p99))]))
}
