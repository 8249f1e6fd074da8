//! No-op jobs of 2 KB, durable, all events logged: how fast they are run.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    fleet::{Local, Remote, completed, no_op, payload, spawn, submit},
    report::{Report, rate},
};

const WORKERS: usize = 4;
const SLOTS: u32 = 64;

pub async fn in_process(report: &mut Report, jobs: usize) -> anyhow::Result<()> {
    let local = Local::open().await?;
    let payload: Arc<[u8]> = payload().into_bytes().into();
    let began = Instant::now();
    for batch in 0..jobs.div_ceil(500) {
        let count = 500.min(jobs - batch * 500);
        local.broker.submit((0..count).map(|_| submit(&payload)).collect()).await?;
    }
    report.row("drain-in-process", "submitted, 500 a call", rate(jobs, began.elapsed()), "");
    let began = Instant::now();
    let mut workers = Vec::new();
    for n in 0..WORKERS {
        workers.push(local.worker(&format!("bench-worker-{n}"), SLOTS)?);
    }
    completed(&*local.store, jobs).await?;
    let took = began.elapsed();
    report.row(
        "drain-in-process",
        "drained, 4 workers of 64 slots",
        rate(jobs, took),
        ">= 25000/s",
    );
    for worker in workers {
        worker.abort();
    }
    Ok(())
}

pub async fn over_http(report: &mut Report, jobs: usize, binary: &Path) -> anyhow::Result<()> {
    let server = Remote::start(binary, "server", &[]).await?;
    let submission = no_op()?;
    let batch: Vec<_> = (0..500).map(|_| submission.clone()).collect();
    for done in (0..jobs).step_by(500) {
        server.client.submit_batch(&batch[..500.min(jobs - done)]).await?;
    }
    let began = Instant::now();
    let worker =
        ["worker", "--id", "bench", "--broker", &server.url, "--service", "simulation:256"];
    let (_worker, _) = spawn(binary, &worker).await?;
    loop {
        let snapshot = server.client.snapshot().await?;
        let done = snapshot.lanes["queues"]["counts"]["completed"].as_u64().unwrap_or(0);
        if done >= jobs as u64 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = began.elapsed();
    report.row("drain-http", "drained, one worker of 256 slots", rate(jobs, took), ">= 8000/s");
    Ok(())
}
