//! At rest: how long from a submission until its worker's connector has the job, and until the
//! event that says so. Both durable: two and three flushes of the disk, whose price is printed.

use std::{
    fs::File,
    io::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use pointsman_core::{EventName, RecordKey};

use crate::{
    fleet::{Local, completed, payload, submit},
    report::{Report, ms, percentile},
    stopwatch::Stopwatch,
};

const SAMPLES: usize = 500;
const APART: Duration = Duration::from_millis(5);

pub async fn in_process(report: &mut Report) -> anyhow::Result<()> {
    report.row("start", "one flush of this disk, p50", ms(flush()?), "");
    let local = Local::open().await?;
    let payload: Arc<[u8]> = payload().into_bytes().into();
    let (connector, mut begun) = Stopwatch::new();
    let worker = local.worker_of("bench-worker-0", 4, connector)?;
    let mut events = local.store.subscribe();
    // One to warm up: until it ended the worker may still be registering.
    local.broker.submit(vec![submit(&payload)]).await?;
    completed(&*local.store, 1).await?;
    begun.recv().await.context("the worker runs")?;
    let (mut to_run, mut to_event) = (Vec::new(), Vec::new());
    for _ in 0..SAMPLES {
        tokio::time::sleep(APART).await;
        let submit = submit(&payload);
        let key = RecordKey::Job(submit.id);
        let began = Instant::now();
        local.broker.submit(vec![submit]).await?;
        to_run.push(begun.recv().await.context("the worker runs")?.duration_since(began));
        loop {
            let group = events.recv().await.context("the store is open")?;
            let started =
                |e: &pointsman_core::Event| e.key == key && e.name == EventName::JobStarted;
            if group.events.iter().any(started) {
                break;
            }
        }
        to_event.push(began.elapsed());
    }
    worker.abort();
    let mut row = |what: &str, samples: &mut [Duration], p50: &str, p99: &str| {
        report.row("start", &format!("{what}, p50"), ms(percentile(samples, 0.5)), p50);
        report.row("start", &format!("{what}, p99"), ms(percentile(samples, 0.99)), p99);
    };
    row("submit to start at rest", &mut to_run, "<= 1 ms", "<= 5 ms");
    row("submit to its started event", &mut to_event, "", "");
    Ok(())
}

/// What making a little durable costs on the disk that the stores lie on.
fn flush() -> anyhow::Result<Duration> {
    let directory = tempfile::tempdir()?;
    let mut file = File::create(directory.path().join("flush"))?;
    let mut took = Vec::with_capacity(100);
    for _ in 0..100 {
        file.write_all(&[7; 4096])?;
        let began = Instant::now();
        file.sync_data()?;
        took.push(began.elapsed());
    }
    Ok(percentile(&mut took, 0.5))
}
