//! Our side: a server's broker submits, and a worker reaches Redis directly, both in this process.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use pointsman::adapters::{ArtifactPlace, OverRedis};
use pointsman_connectors::Connector;
use pointsman_redis_testing::RedisServer;
use pointsman_server::Files;
use pointsman_store::Store as _;
use pointsman_store_redis::{Options, RedisStore};
use tempfile::TempDir;
use tokio::{sync::Barrier, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{Figures, Task};
use crate::{
    fleet::{Local, Workers, completed, payload, submit},
    redis_store,
    report::percentile,
    stopwatch::Stopwatch,
};

const BULK: usize = 500;
const IN_FLIGHT: usize = 50;
const APART: Duration = Duration::from_millis(5);

pub async fn measure(server: &RedisServer, task: Task) -> anyhow::Result<Figures> {
    let url = server.url();
    on_one_thread(move || async move { measure_at(&url, task).await }).await
}

/// As a worker's process is, and as Node is.
pub async fn on_one_thread<F>(work: impl FnOnce() -> F + Send + 'static) -> anyhow::Result<Figures>
where
    F: Future<Output = anyhow::Result<Figures>>,
{
    let done = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(work())
    });
    done.await?
}

async fn measure_at(url: &str, task: Task) -> anyhow::Result<Figures> {
    let local = Local::on(redis_store::open_at(url).await?).await?;
    let figures = match task {
        Task::Drain { jobs, at_once, workers } => {
            submit_in_bulk(&local, jobs).await?;
            // Workers reach Redis by themselves, so no server is there while they run.
            local.close().await?;
            let slots = u32::try_from(at_once)?;
            return match workers {
                1 => drain(url, jobs, slots).await,
                workers => drain_in_threads(url, jobs, slots, workers).await,
            };
        }
        Task::SubmitSingle { jobs } => submit_single(&local, jobs).await,
        Task::SubmitBulk { jobs } => submit_in_bulk(&local, jobs).await,
        Task::Start { jobs } => start(&local, url, jobs).await,
    };
    local.close().await?;
    figures
}

/// A worker as `worker --broker redis://…` starts it.
pub struct Direct {
    store: RedisStore,
    workers: Workers,
    directory: TempDir,
}

impl Direct {
    /// Connects.
    pub async fn open(url: &str) -> anyhow::Result<Self> {
        let store = RedisStore::open(Options::of_worker(url.parse()?)).await?;
        Ok(Self { store, workers: Workers::default(), directory: tempfile::tempdir()? })
    }

    pub fn start(&self, n: usize, slots: u32, connector: Arc<dyn Connector>) -> anyhow::Result<()> {
        let files = Arc::new(Files::open(self.directory.path(), None)?);
        let place = ArtifactPlace::Directory { files, store: Arc::new(self.store.clone()) };
        let broker = Arc::new(OverRedis::new(self.store.clone(), place));
        self.workers.start(broker, &format!("bench-worker-{n}"), slots, connector).map(drop)
    }

    pub async fn end(self) -> anyhow::Result<()> {
        self.workers.end().await;
        Ok(self.store.close().await?)
    }
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

/// What a drain took: its rate, and redis-server's share of it.
pub struct Drained {
    url: String,
    began: Instant,
    redis: f64,
}

impl Drained {
    pub async fn begin(url: &str) -> anyhow::Result<Self> {
        let redis = processor_seconds(url).await?;
        Ok(Self { url: url.to_owned(), began: Instant::now(), redis })
    }

    pub async fn done(self, jobs: usize) -> anyhow::Result<Figures> {
        let mut figures = rate(jobs, self.began);
        let redis = processor_seconds(&self.url).await? - self.redis;
        figures.insert("redis_us_a_job".into(), redis / jobs as f64 * 1e6);
        Ok(figures)
    }
}

/// User and system time of redis-server since it started.
async fn processor_seconds(url: &str) -> anyhow::Result<f64> {
    let mut redis = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    let info: String = redis::cmd("INFO").arg("cpu").query_async(&mut redis).await?;
    let seconds = |name: &str| {
        let value = info.lines().find_map(|line| line.strip_prefix(name));
        value.and_then(|value| value.trim().parse::<f64>().ok())
    };
    let both = seconds("used_cpu_user:").zip(seconds("used_cpu_sys:"));
    both.map(|(user, system)| user + system).context("INFO tells used_cpu_user and used_cpu_sys")
}

async fn drain(url: &str, jobs: usize, slots: u32) -> anyhow::Result<Figures> {
    let (connector, mut begun) = Stopwatch::new();
    let worker = Direct::open(url).await?;
    let drained = Drained::begin(url).await?;
    worker.start(0, slots, connector)?;
    // Asking the store how many there are would take part in what is measured, so not before all
    // have begun.
    for _ in 0..jobs {
        begun.recv().await.context("the worker runs")?;
    }
    completed(&worker.store, jobs).await?;
    let figures = drained.done(jobs).await?;
    worker.end().await?;
    Ok(figures)
}

/// The same with several workers, each on a thread of its own.
async fn drain_in_threads(
    url: &str,
    jobs: usize,
    slots: u32,
    workers: usize,
) -> anyhow::Result<Figures> {
    let (connector, mut begun) = Stopwatch::new();
    let (all_open, all_drained) = (Arc::new(Barrier::new(workers + 1)), CancellationToken::new());
    let threads = (0..workers).map(|n| {
        let (url, connector) = (url.to_owned(), connector.clone());
        let (all_open, all_drained) = (all_open.clone(), all_drained.clone());
        tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let worker = Direct::open(&url).await;
                all_open.wait().await;
                let worker = worker?;
                worker.start(n, slots, connector)?;
                all_drained.cancelled().await;
                worker.end().await
            })
        })
    });
    let threads: Vec<_> = threads.collect();
    let store = RedisStore::open(Options::new(url.parse()?)).await?;
    let drained = Drained::begin(url).await?;
    all_open.wait().await;
    let mut left = jobs;
    // Looking at each one as it begins would take part in what is measured.
    while left > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        ensure!(!threads.iter().any(|thread| thread.is_finished()), "a worker ended");
        while begun.try_recv().is_ok() {
            left -= 1;
        }
    }
    completed(&store, jobs).await?;
    let figures = drained.done(jobs).await?;
    all_drained.cancel();
    for thread in threads {
        thread.await??;
    }
    store.close().await?;
    Ok(figures)
}

async fn start(local: &Local, url: &str, jobs: usize) -> anyhow::Result<Figures> {
    let payload: Arc<[u8]> = payload().into_bytes().into();
    let (connector, mut begun) = Stopwatch::new();
    let worker = Direct::open(url).await?;
    worker.start(0, 4, connector)?;
    let mut took = Vec::with_capacity(jobs);
    // One to warm up, which does not count: until it ended the worker may still be registering.
    for n in 0..=jobs {
        tokio::time::sleep(APART).await;
        let began = Instant::now();
        local.broker.submit(vec![submit(&payload)]).await?;
        took.push(begun.recv().await.context("the worker runs")?.duration_since(began));
        completed(&*local.store, n + 1).await?;
    }
    worker.end().await?;
    let took = took.get_mut(1..).unwrap_or_default();
    let ms = |span: Duration| span.as_secs_f64() * 1000.0;
    let (p50, p99) = (percentile(took, 0.5), percentile(took, 0.99));
    Ok(Figures::from([("p50_ms".into(), ms(p50)), ("p99_ms".into(), ms(p99))]))
}
